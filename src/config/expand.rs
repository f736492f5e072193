//! `${NAME}`, `${NAME:-default}` and `${NAME:?message}` in the texts of a pipeline file.

use std::ops::Range;

use pipeline_contract::{Expansion, Expansions, PlanError, nearest};
use toml::de::{DeTable, DeValue};

use super::MAX_FILE;
use super::env::Env;

const FORMS: &str = "write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`; for a plain `${` write `$${`";

/// Replaces the forms in every text of a table, at any depth. All faults are noted; a text with a fault stays as it is written.
pub(super) fn expand(source: &str, table: &mut DeTable<'_>, env: &Env, faults: &mut Vec<PlanError>) -> Expansions {
    let mut all = Vec::new();
    let mut walk = Walk { source, env, faults, all: &mut all, room: MAX_FILE };
    walk.table(table);
    all.into_iter().collect()
}

/// The faults of one text that are noted: to find the place of each takes a walk through the text.
const MOST: usize = 100;

struct Walk<'w> {
    source: &'w str,
    env: &'w Env,
    faults: &'w mut Vec<PlanError>,
    all: &'w mut Vec<Expansion>,
    /// How many bytes the environment may still put into the file.
    room: u64,
}

impl Walk<'_> {
    fn table(&mut self, table: &mut DeTable<'_>) {
        for (_, value) in table.iter_mut() {
            self.value(value);
        }
    }

    fn value(&mut self, value: &mut toml::Spanned<DeValue<'_>>) {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) if text.contains("${") => {
                let expansion = self.text(text, span);
                *text = expansion.value.clone().into();
                self.all.push(expansion);
            }
            DeValue::String(text) if is_shell_form(text) => {
                let meant = format!("${{{}}}", text.trim_start_matches('$'));
                let fault = PlanError::warning("W012", "`$NAME` is taken as it is written: only `${NAME}` is replaced");
                self.faults.push(fault.at(span.clone()).meant(format_args!("`{meant}`"), format!("\"{meant}\"")));
            }
            DeValue::Table(table) => self.table(table),
            DeValue::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            _ => {}
        }
    }

    fn text(&mut self, text: &str, span: Range<usize>) -> Expansion {
        let mut value = String::with_capacity(text.len());
        let (mut hidden, mut odd) = (Vec::new(), Vec::new());
        let text_in_file = text;
        let (mut forms, mut plain) = (0, false);
        let before = self.faults.len();
        let mut at = 0;
        let mut unknown = false;
        while let Some(found) = text[at..].find("${").map(|found| at + found) {
            if self.faults.len() - before > MOST {
                break;
            }
            let escaped = text[at..found].ends_with('$');
            let literal = &text[at..found - usize::from(escaped)];
            value.push_str(literal);
            plain |= escaped || !literal.is_empty();
            if escaped {
                value.push_str("${");
                at = found + 2;
                continue;
            }
            forms += 1;
            let (end, replaced) = form(&text[found..]);
            let end = found + end;
            match replaced.and_then(|form| self.replace(&form)) {
                Ok(Replaced::Default(default)) => {
                    if is_placeholder(default) {
                        let text = format!("the default \"{}\" looks like a place to fill in, and is what is used now", default.escape_debug());
                        let help = "set the variable in the environment or in .env, or leave the default empty";
                        odd.push(PlanError::warning("W009", text).at(self.place(text_in_file, &span, found..end)).help(help));
                    }
                    value.push_str(default);
                }
                Ok(Replaced::Variable(name, from_env)) => {
                    let Some(room) = self.room.checked_sub(from_env.len() as u64) else {
                        let message = format!("the environment makes the file more than {} MiB larger", MAX_FILE >> 20);
                        self.faults.push(PlanError::new("E002", message).at(self.place(text, &span, found..end)));
                        break;
                    };
                    self.room = room;
                    value.push_str(&from_env);
                    if !from_env.is_empty() {
                        hidden.push((from_env, format!("${{{name}}}")));
                    }
                }
                // It may stand in the file that could not be read, which is said of that.
                Err(fault) if self.env.is_partial() && fault.code == "E002" => unknown = true,
                Err(fault) => self.faults.push(fault.at(self.place(text, &span, found..end))),
            }
            at = end;
        }
        value.push_str(&text[at..]);
        plain |= at < text.len();
        let faulty = self.faults.len() > before || unknown;
        self.faults.append(&mut odd);
        let value = if faulty { text.to_owned() } else { value };
        Expansion { written: text.to_owned(), value, hidden, whole: forms == 1 && !plain, faulty, span }
    }

    fn replace<'t>(&self, form: &Form<'t>) -> Result<Replaced<'t>, PlanError> {
        let name = form.name;
        match (self.env.get(name), &form.otherwise) {
            (Some(value), otherwise) if !value.is_empty() || matches!(otherwise, Otherwise::Fault) => {
                return Ok(Replaced::Variable(name, value.to_owned()));
            }
            (_, Otherwise::Default(default)) => return Ok(Replaced::Default(default)),
            _ => {}
        }
        if self.env.is_unreadable(name) {
            return Err(PlanError::new("E002", format!("the environment variable `{name}` is not UTF-8 text")));
        }
        let state = if self.env.get(name).is_some() { "empty" } else { "not set" };
        Err(match form.otherwise {
            Otherwise::Say(message) if !message.is_empty() => {
                PlanError::new("E002", format!("the environment variable `{name}` is {state}: {message}"))
                    .help("set it in the environment or in .env")
            }
            _ => {
                let near = nearest(name, self.env.names()).filter(|near| near != &name).map(|near| format!("did you mean `{near}`? "));
                let help = format!("{}set it in the environment or in .env, or write `${{{name}:-default}}`", near.unwrap_or_default());
                PlanError::new("E002", format!("the environment variable `{name}` is {state}")).help(help)
            }
        })
    }

    /// Where a part of a text stands in the file: the whole text where escapes make that hard to say.
    fn place(&self, text: &str, span: &Range<usize>, part: Range<usize>) -> Range<usize> {
        let raw = self.source.get(span.clone()).filter(|raw| !raw.contains('\\'));
        match raw.and_then(|raw| raw.find(text)) {
            Some(offset) => span.start + offset + part.start..span.start + offset + part.end,
            None => span.clone(),
        }
    }
}

/// Is a text what a shell, but not this program, would replace: `$API_KEY`?
fn is_shell_form(text: &str) -> bool {
    let name = text.strip_prefix('$').unwrap_or_default();
    name.len() > 1
        && name.starts_with(|sign: char| sign.is_ascii_uppercase() || sign == '_')
        && name.bytes().all(|sign| sign.is_ascii_uppercase() || sign.is_ascii_digit() || sign == b'_')
}

/// Was a text left there for somebody to write the real one?
fn is_placeholder(text: &str) -> bool {
    const WORDS: [&str; 10] =
        ["changeme", "change_me", "change-me", "replace_me", "replace-me", "your_api", "your-api", "your_key", "your-key", "placeholder"];
    let text = text.trim().to_ascii_lowercase();
    let only_x = text.len() >= 3 && text.bytes().all(|byte| byte == b'x');
    let angled = text.starts_with('<') && text.ends_with('>');
    only_x || angled || ["todo", "fixme"].contains(&text.as_str()) || WORDS.iter().any(|word| text.contains(word))
}

struct Form<'t> {
    name: &'t str,
    otherwise: Otherwise<'t>,
}

/// What to do when the variable is not set.
enum Otherwise<'t> {
    Fault,
    Default(&'t str),
    Say(&'t str),
}

enum Replaced<'t> {
    Default(&'t str),
    Variable(&'t str, String),
}

/// Reads the form that `text` starts with: where it ends, and what it says.
fn form(text: &str) -> (usize, Result<Form<'_>, PlanError>) {
    let fault = |message: String| PlanError::new("E003", message).help(FORMS);
    // A default may have braces of its own, as in `${FILE:-data/{coin_id}.csv}`.
    let mut depth = 0usize;
    let close = text.char_indices().skip(1).find_map(|(at, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    });
    let Some(close) = close else {
        return (2, Err(fault("`${` is not closed".into())));
    };
    let (whole, body) = (&text[..=close], &text[2..close]);
    let end = close + 1;
    let name_end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
    let (name, rest) = body.split_at(name_end);
    let otherwise = if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        Err(fault(format!("`{whole}` names no environment variable")))
    } else if rest.contains("${") {
        Err(fault(format!("`{whole}`: one `${{...}}` cannot stand in another")))
    } else if rest.is_empty() {
        Ok(Otherwise::Fault)
    } else if let Some(default) = rest.strip_prefix(":-") {
        Ok(Otherwise::Default(default))
    } else if let Some(message) = rest.strip_prefix(":?") {
        Ok(Otherwise::Say(message.trim()))
    } else {
        Err(fault(format!("`{whole}`: after the name stands `}}`, `:-default` or `:?message`")))
    };
    (end, otherwise.map(|otherwise| Form { name, otherwise }))
}

#[cfg(test)]
mod tests {
    use pipeline_contract::testkit::{Draw, Fuzz};
    use proptest::prelude::*;

    use super::*;

    fn env() -> Env {
        [("A", "one"), ("EMPTY", ""), ("SECRET_KEY", "sesame"), ("NESTED", "${A}")].into_iter().collect()
    }

    /// What `x = <toml>` becomes, or its faults with their places.
    fn expanded(toml: &str) -> Result<(String, Expansions), Vec<String>> {
        let source = format!("x = {toml}\n");
        let mut table = DeTable::parse(&source).unwrap().into_inner();
        let mut faults = Vec::new();
        let expansions = expand(&source, &mut table, &env(), &mut faults);
        if faults.is_empty() {
            Ok((table.get("x").unwrap().get_ref().as_str().unwrap().to_owned(), expansions))
        } else {
            Err(faults.into_iter().map(|fault| format!("{} [{}] {}", fault.code, &source[fault.span.unwrap()], fault.message)).collect())
        }
    }

    #[test]
    fn forms_are_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${A}", "one"),
            ("<${A}|${A}>", "<one|one>"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NONE:-x}", "x"),
            ("${NONE:-}", ""),
            ("${A:-x}", "one"),
            ("${A:?say}", "one"),
            ("${NONE:-data/{coin_id}.csv}", "data/{coin_id}.csv"),
            ("${NONE:-a:-b:?c}", "a:-b:?c"),
            ("${NESTED}", "${A}"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("$$ $A ^x$", "$$ $A ^x$"),
            ("{A} $", "{A} $"),
        ] {
            assert_eq!(expanded(&format!("'{text}'")).unwrap().0, expected, "{text}");
        }
    }

    #[test]
    fn what_came_from_where_is_known() {
        let one = |toml: &str| {
            let (_, all) = expanded(toml).unwrap();
            all.at(&(5..6)).cloned().unwrap()
        };
        assert!(one("'${A}'").whole && one("'${NONE:-3}'").whole);
        assert!(!one("'${A} '").whole && !one("'${A}${A}'").whole && !one("'$${A}'").whole);
        assert_eq!(one("'<${SECRET_KEY:-x}>'").hidden, [("sesame".to_owned(), "${SECRET_KEY}".to_owned())]);
        assert!(one("'${NONE:-3}'").hidden.is_empty());
        assert_eq!(one("'<${A}>'").written, "<${A}>");
    }

    #[test]
    fn faults_stand_at_the_very_form() {
        let faults = |toml: &str| expanded(toml).err().unwrap();
        assert_eq!(faults("\"<${NONE}>\""), ["E002 [${NONE}] the environment variable `NONE` is not set"]);
        assert_eq!(
            faults("'${NONE} ${A} ${GONE}'"),
            ["E002 [${NONE}] the environment variable `NONE` is not set", "E002 [${GONE}] the environment variable `GONE` is not set"]
        );
        assert_eq!(faults("\"\"\"\nline\n${NONE}\"\"\""), ["E002 [${NONE}] the environment variable `NONE` is not set"]);
        assert_eq!(faults("\"\\t${NONE}\""), ["E002 [\"\\t${NONE}\"] the environment variable `NONE` is not set"]);
        assert_eq!(faults("'${NONE:?get a key}'"), ["E002 [${NONE:?get a key}] the environment variable `NONE` is not set: get a key"]);
        assert_eq!(faults("'${EMPTY:?get a key}'"), ["E002 [${EMPTY:?get a key}] the environment variable `EMPTY` is empty: get a key"]);
        assert_eq!(faults("'a${'"), ["E003 [${] `${` is not closed"]);
        assert_eq!(faults("'${}'"), ["E003 [${}] `${}` names no environment variable"]);
        assert_eq!(faults("'${1A}'"), ["E003 [${1A}] `${1A}` names no environment variable"]);
        assert_eq!(faults("'${A-b}'"), ["E003 [${A-b}] `${A-b}`: after the name stands `}`, `:-default` or `:?message`"]);
        assert_eq!(faults("'${A:-${B}}'"), ["E003 [${A:-${B}}] `${A:-${B}}`: one `${...}` cannot stand in another"]);
        assert_eq!(faults("'${ A }'"), ["E003 [${ A }] `${ A }` names no environment variable"]);
    }

    #[test]
    fn the_nearest_variable_is_named() {
        let mut table = DeTable::parse("x = '${SECRET_KYE}'").unwrap().into_inner();
        let mut faults = Vec::new();
        expand("x = '${SECRET_KYE}'", &mut table, &env(), &mut faults);
        assert_eq!(
            faults[0].help.as_deref(),
            Some("did you mean `SECRET_KEY`? set it in the environment or in .env, or write `${SECRET_KYE:-default}`")
        );
    }

    #[test]
    fn texts_are_found_at_any_depth() {
        let source = "a = [{ b = ['${A}'] }]\n[c.d]\ne = '${A}'\n[[f]]\ng = '${A}'";
        let mut table = DeTable::parse(source).unwrap().into_inner();
        let mut faults = Vec::new();
        expand(source, &mut table, &env(), &mut faults);
        assert_eq!(format!("{table:?}").matches("one").count(), 3);
    }

    #[test]
    fn the_environment_does_not_make_a_file_larger_without_end() {
        let big = "x".repeat(1 << 17);
        let env: Env = [("BIG", big.as_str())].into_iter().collect();
        for (source, faulty) in [("x = '${BIG}'\n".to_owned(), false), (format!("x = '{}'\n", "${BIG}".repeat(9)), true)] {
            let mut table = DeTable::parse(&source).unwrap().into_inner();
            let mut faults = Vec::new();
            expand(&source, &mut table, &env, &mut faults);
            let told: Vec<_> = faults.iter().map(|fault| (fault.code, fault.message.as_str())).collect();
            assert_eq!(told, if faulty { vec![("E002", "the environment makes the file more than 1 MiB larger")] } else { vec![] });
        }
    }

    /// What `${...}` forms become, read letter by letter; `None` when one is at fault. Texts with braces in a default are left to others.
    fn model(text: &str) -> Option<String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("$${") {
                out.push_str("${");
                rest = after;
            } else if let Some(after) = rest.strip_prefix("${") {
                let (body, after) = after.split_once('}')?;
                let (name, how) = body.split_at(body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len()));
                let (default, strict) = (how.strip_prefix(":-"), how.starts_with(":?"));
                let known = how.is_empty() || strict || default.is_some();
                if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !known {
                    return None;
                }
                match (env().get(name), default) {
                    (Some(value), _) if !value.is_empty() || default.is_none() && !strict => out.push_str(value),
                    (_, default) => out.push_str(default?),
                }
                rest = after;
            } else {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        Some(out)
    }

    #[test]
    fn fuzzed_forms_are_replaced_as_a_simple_reader_would_and_tell_no_secret() {
        let samples = ["${A}", "<${A:-x}|${NONE:-y}>", "$${A}", "${NONE:?say}", "${SECRET_KEY}", "a$b${EMPTY:-}", "${NONE:-data/{coin}.csv}"];
        let words = ["${", "}", "{", "$", "$$", ":-", ":?", "A", "EMPTY", "NONE", "SECRET_KEY", "${A}", "${SECRET_KEY", " ", "é", "9", "_", "-"];
        let fuzz = Fuzz { name: "environment forms", samples: &samples, words: &words, cases: 1500, cost: 2 };
        let made = |draw: &mut Draw| {
            (0..draw.below(5)).map(|_| draw.of(&["${A}", "${NONE:-b}", "x", "$${", "${EMPTY:-c}", "${EMPTY}", "${NONE}"])).collect()
        };
        fuzz.run_text(made, |text| {
            let plain: String = text.chars().filter(|c| !c.is_control() && !"'\u{fffd}".contains(*c)).collect();
            if is_shell_form(&plain) {
                // Legal, and told of: W012.
                return true;
            }
            let found = expanded(&format!("'{plain}'"));
            let braces = |at: usize| plain[at + 2..].split('}').next().is_some_and(|body| body.contains('{'));
            if !plain.match_indices("${").any(|(at, _)| braces(at)) {
                assert_eq!(found.as_ref().ok().map(|(text, _)| text.clone()), model(&plain), "{plain}");
            }
            if let Err(faults) = &found {
                assert!(faults.iter().all(|fault| !fault.contains("sesame")) || plain.contains("sesame"), "{faults:?}");
            }
            found.is_ok()
        });
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[${}:?a-zA1_ üß-]{0,24}") {
            let _ = expanded(&format!("'{}'", text.replace('\'', "")));
        }
    }
}
