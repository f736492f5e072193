//! Keys that stand in a pipeline file, kept out of what is shown of it.
//!
//! A fault shows its line, and a file that is faulty cannot be asked which of its texts is a key: a key may be misspelt, or the file no TOML
//! at all. So what looks like a key is hidden, and a text too many does no harm.

use std::ops::Range;
use std::sync::LazyLock;

use pipeline_contract::{PlanError, nearest};
use regex::Regex;

/// A text without its keys: each of their bytes a `*`, so that every place stays where it was.
pub(super) struct Hidden {
    text: String,
    values: Vec<(Range<usize>, String)>,
}

impl Hidden {
    pub(super) fn of(text: &str) -> Self {
        let mut places: Vec<Range<usize>> = named(text);
        places.extend(in_urls(text));
        places.extend(tokens(text));
        places.retain(|place| !place.is_empty());
        places.sort_by_key(|place| place.start);
        let mut shown = String::with_capacity(text.len());
        // They overlap: hidden is what lies before the furthest end of those that have begun.
        let (mut next, mut until) = (0, 0);
        for (at, c) in text.char_indices() {
            while let Some(place) = places.get(next).filter(|place| place.start <= at) {
                until = until.max(place.end);
                next += 1;
            }
            if !c.is_control() && at < until {
                shown.extend(std::iter::repeat_n('*', c.len_utf8()));
            } else {
                shown.push(c);
            }
        }
        let values = places.into_iter().filter_map(|place| Some((place.clone(), text.get(place)?.trim().to_owned()))).collect();
        Self { text: shown, values }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A fault that says none of them.
    pub(super) fn fault(&self, error: &PlanError) -> PlanError {
        /// Messages quote so many characters of a text.
        const QUOTED: usize = 40;
        /// A shorter one stands in innocent words.
        const SHORT: usize = 6;

        let mut error = error.clone();
        for (place, value) in &self.values {
            let meant = error.span.as_ref().is_some_and(|span| span.start < place.end && place.start < span.end);
            if value.is_empty() || !meant && value.chars().count() < SHORT {
                continue;
            }
            let quoted: String = value.chars().take(QUOTED).collect();
            let escaped = quoted.escape_debug().to_string();
            // Most of a file's values are in none of its messages.
            let begins = |said: &String| said.contains(&quoted) || said.contains(&escaped);
            let texts = [Some(&error.message), error.label.as_ref(), error.help.as_ref(), error.suggestion.as_ref().map(|edit| &edit.replacement)];
            if !texts.into_iter().flatten().chain(error.related.iter().map(|related| &related.label)).any(begins) {
                continue;
            }
            let forms = [value.clone(), value.escape_debug().to_string(), escaped, quoted];
            let related = error.related.iter_mut().map(|related| &mut related.label);
            for said in [Some(&mut error.message), error.label.as_mut(), error.help.as_mut()].into_iter().flatten().chain(related) {
                for form in &forms {
                    *said = said.replace(form.as_str(), "***");
                }
            }
            // Not with stars in it: an editor would write them over the key.
            error.suggestion = error.suggestion.filter(|edit| forms.iter().all(|form| !edit.replacement.contains(form.as_str())));
        }
        error
    }
}

/// The values of keys whose names say that they are secret.
fn named(text: &str) -> Vec<Range<usize>> {
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9_-]+").ok());
    // Within `${` it is where a key comes from.
    let words = WORD.iter().flat_map(|word| word.find_iter(text)).filter(|word| !text[..word.start()].ends_with("${"));
    let values = words.filter(|word| is_secret(word.as_str())).filter_map(|word| {
        let value = value_after(text, word.end())?;
        // `key = ["a", "b"]` is a slip for `keys`: columns, and no secret.
        let columns = word.as_str() == "key" && text[..value.start].ends_with('[');
        (!columns).then_some(value)
    });
    values.flat_map(|value| without_forms(text, value)).collect()
}

/// Does a key of this name hold a secret, misspelt or not?
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 14] = [
        "key",
        "apikey",
        "token",
        "secret",
        "password",
        "passwd",
        "passphrase",
        "pass",
        "pwd",
        "auth",
        "authorization",
        "bearer",
        "credential",
        "credentials",
    ];
    let name = name.to_lowercase();
    if name == "allow_insecure_key" {
        return false;
    }
    name.split(['_', '-']).any(|part| PARTS.contains(&part)) || nearest(&name, ["api_key", "apikey", "api_token", "secret", "password"]).is_some()
}

/// Where the value stands that belongs to a name which ends here; also where quotes or brackets are not closed.
fn value_after(text: &str, end: usize) -> Option<Range<usize>> {
    let rest = text.get(end..)?;
    let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest).trim_start_matches([' ', '\t']);
    let assigned = rest.trim_start_matches(['=', ':']);
    let value = assigned.trim_start_matches([' ', '\t']);
    if assigned.len() == rest.len() && !value.starts_with(['"', '\'']) {
        return None;
    }
    let start = text.len() - value.len();
    let line = value.find('\n').unwrap_or(value.len());
    let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| value.starts_with(quotes));
    let (skip, len) = match quotes {
        Some(quotes) => {
            let within = &value[quotes.len()..];
            let most = if quotes.len() == 3 { within.len() } else { line.saturating_sub(quotes.len()) };
            let inner = closing(&within[..most], quotes);
            // What follows at once is a part of it, by a slip of the hand.
            let after = &within[inner.map_or(most, |inner| inner + quotes.len())..];
            let slip = after.find(|c: char| c.is_whitespace() || matches!(c, ',' | '}' | ']' | '#')).unwrap_or(after.len());
            match inner {
                Some(inner) if slip == 0 => (quotes.len(), inner),
                Some(inner) => (quotes.len(), inner + quotes.len() + slip),
                None => (quotes.len(), most),
            }
        }
        None if value.starts_with(['[', '{']) => (1, brackets(value).unwrap_or(line).saturating_sub(1)),
        None => (0, value[..line].find([',', '#', '}', ']']).unwrap_or(line)),
    };
    Some(start + skip..start + skip + len)
}

fn closing(text: &str, quotes: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find(quotes)?;
        let escapes = text[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        if quotes.starts_with('\'') || escapes % 2 == 0 {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Where the bracket closes that a text begins with.
fn brackets(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

/// A value but for its `${NAME}` forms, which say where a key comes from; a default in one is a key again.
fn without_forms(text: &str, value: Range<usize>) -> Vec<Range<usize>> {
    static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\$\{[A-Za-z0-9_]*(?:\}|:\?[^}\n]*\}|:-(?P<default>[^}\n]*)\})").ok());
    let mut places = Vec::new();
    let mut from = value.start;
    for form in FORM.iter().flat_map(|form| form.captures_iter(&text[value.clone()])) {
        let Some(whole) = form.get(0) else { continue };
        places.push(from..value.start + whole.start());
        places.extend(form.name("default").map(|default| value.start + default.start()..value.start + default.end()));
        from = value.start + whole.end();
    }
    places.push(from..value.end);
    places
}

/// Names and passwords in URLs, and the values in their queries.
fn in_urls(text: &str) -> Vec<Range<usize>> {
    static URL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"://[^\s"'<>]*"#).ok());
    static QUERY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[?&#][^=&#]*=([^&#]*)").ok());
    let mut places = Vec::new();
    for url in URL.iter().flat_map(|url| url.find_iter(text)) {
        let rest = &url.as_str()[3..];
        let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // A password may hold a `/` that nobody encoded.
        let at = rest[..authority].rfind('@').or_else(|| rest.find(['?', '#']).map_or(rest, |end| &rest[..end]).rfind('@'));
        places.extend(at.map(|at| url.start() + 3..url.start() + 3 + at));
        let values = QUERY.iter().flat_map(|query| query.captures_iter(url.as_str())).filter_map(|query| query.get(1));
        places.extend(values.flat_map(|value| without_forms(text, url.start() + value.start()..url.start() + value.end())));
    }
    places
}

/// What looks like a key wherever it stands: long, of capitals, small letters and digits.
fn tokens(text: &str) -> Vec<Range<usize>> {
    static TOKEN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9_-]{20,}").ok());
    let mixed = |token: &str| {
        let has = |kind: fn(&u8) -> bool| token.as_bytes().iter().any(kind);
        has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit)
    };
    TOKEN.iter().flat_map(|token| token.find_iter(text)).filter(|token| mixed(token.as_str())).map(|token| token.range()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let hidden = Hidden::of(text);
        assert_eq!(hidden.text().len(), text.len());
        hidden.text().to_owned()
    }

    #[test]
    fn a_key_is_hidden_whatever_is_wrong_with_its_line() {
        for text in [
            r#"api_key = "sesame""#,
            "api_key = 'sesame'",
            "api_key = sesame",
            "api_key = \"sesame",
            "api_key = \"ses\"ame\"",
            "api_key = \"ses\\\"ame\"",
            "api_key = \"\"\"\nsesame\"\"\"",
            "api_key = ['sesame']",
            "api_key = { value = \"sesame\" }",
            "api_key = [\"sesame\"",
            "api_kye = \"sesame\"",
            "apikey = \"sesame\"",
            "api-key = \"sesame\"",
            "api_keys = \"sesame\"",
            "Api_Key: \"sesame\"",
            "api_key \"sesame\"",
            "\"api_key\" = \"sesame\"",
            "source.api_key = \"sesame\"",
            "source = { type = \"x\", api_key = \"sesame\", top = 3 }",
            "token == \"sesame\"",
            "password = \"${A}sesame\"",
            "api_key = \"${A:-sesame}\"",
            "api_key = \"${sesame-1}\"",
            "base_url = \"https://user:sesame@host/v1\"",
            "base_url = \"https://user:ses/ame@host/v1\"",
            "base_url = \"https://sesame@host?x=1\"",
            "base_url = \"https://host/v1?x_cg_demo_api_key=sesame&y=1\"",
            "proxy = \"http://a:sesame@p\" # why",
        ] {
            let shown = shown(text);
            assert!(!shown.contains("ses") && !shown.contains("ame@") && !shown.contains("ame\""), "{text} -> {shown}");
        }
        assert!(!shown("coins = [\"CG-verySecret0123456789\"]").contains("Secret"));
    }

    #[test]
    fn what_is_no_key_is_shown() {
        for text in [
            "intervall = \"1h\"           # \"30m\" | \"1h\"",
            "keys = [\"coin_id\", \"timestamp\"]",
            "type = \"coingecko_ohlc\"",
            "source = \"x\"",
            "top = 3",
            "name = \"crypto\"",
            "api_key = \"${COINGECKO_API_KEY:-}\"",
            "api_key = \"${COINGECKO_API_KEY:?get a key}\"",
            "base_url = \"${COINGECKO_BASE_URL:-https://api.coingecko.com/api/v3}\"",
            "allow_insecure_key = [\"proxy.internal\"]",
            "path = \"data/raw/{coin_id}_{timestamp:%Y}.csv\"",
            "# a key comes from the environment",
            "expr = \"low <= least(open, close)\"",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("api_key = \"sesame\" # mine"), "api_key = \"******\" # mine");
        assert_eq!(shown("api_key = \"日é\""), "api_key = \"*****\"");
    }

    #[test]
    fn a_message_says_none_of_them() {
        let long = format!("sesame{}", "x".repeat(60));
        let text = format!("api_key = 12345\ntoken = \"{long}\"\n");
        let hidden = Hidden::of(&text);
        let error = hidden.fault(&PlanError::new("E012", "found the whole number 12345").at(10..15).help("12345"));
        assert_eq!((error.message.as_str(), error.help.as_deref()), ("found the whole number ***", Some("***")));
        let error = hidden.fault(&PlanError::new("E012", format!("12345 of \"{}…\"", &long[..40])));
        assert_eq!(error.message, "12345 of \"***…\"");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"(api_key|token|[ ="'\[\]{}$:?-]|://|@|sesame|é|\n|\\){0,24}"#, any in any::<String>()) {
            for text in [text, any] {
                let hidden = Hidden::of(&text);
                prop_assert_eq!(hidden.text().len(), text.len());
                prop_assert!(text.char_indices().all(|(at, _)| hidden.text().is_char_boundary(at)));
                hidden.fault(&PlanError::new("E012", text.clone()).at(0..text.len()));
            }
        }
    }
}
