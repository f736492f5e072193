//! The key in what a server sends back, and in whatever is said about it.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use regex::bytes::{NoExpand, Regex, RegexBuilder};

use crate::Secret;

const SHOWN: &str = "***";

/// A key shorter than this is no secret that could be kept: anybody finds it by trying, and it stands in innocent words and figures.
const SHORTEST: usize = 6;

/// Finds one key, and puts `***` in its place.
///
/// It is found in large and small letters (the name of a host is in small ones), with any of its characters percent-encoded, escaped for JSON or for HTML, in base64 at any place of a longer text
/// (as `Basic` credentials have it), and in hexadecimal. A key of fewer than 6 characters is found in messages alone, as a word of its own:
/// data would be spoilt by it.
#[derive(Clone, Debug)]
pub struct Mask {
    anywhere: Option<Regex>,
    word: Option<Regex>,
}

impl Mask {
    /// For a key that a header can carry, so of visible ASCII. `None` when there is nothing to find.
    pub fn of(key: &Secret) -> Option<Self> {
        // A server sees it, and echoes it, without the spaces around it.
        let key = key.expose().trim();
        if key.is_empty() {
            return None;
        }
        let compile = |pattern: &str| {
            let build = |pattern: &str| RegexBuilder::new(pattern).unicode(false).case_insensitive(true).size_limit(64 << 20).build().ok();
            // A key so long that this is too large is found as it is.
            build(pattern).or_else(|| build(&regex::escape(key)))
        };
        Some(if key.len() < SHORTEST {
            let (before, after) = (boundary(key.bytes().next()), boundary(key.bytes().next_back()));
            Self { anywhere: None, word: compile(&format!("{before}{}{after}", spelled(key))) }
        } else {
            let mut forms = vec![spelled(key), hexadecimal(key)];
            forms.extend((0..3).map(|offset| base64(key.as_bytes(), offset)));
            Self { anywhere: compile(&forms.join("|")), word: None }
        })
    }

    /// A body without the key; `None` when it is not in it.
    pub fn body(&self, body: &Bytes) -> Option<Bytes> {
        let found = self.anywhere.as_ref()?;
        match found.replace_all(body, NoExpand(SHOWN.as_bytes())) {
            Cow::Borrowed(_) => None,
            Cow::Owned(masked) => Some(Bytes::from(masked)),
        }
    }

    /// Takes the key out of the values of headers.
    pub fn headers(&self, headers: &mut HeaderMap) {
        let Some(found) = self.anywhere.as_ref() else { return };
        for value in headers.values_mut() {
            if let Cow::Owned(masked) = found.replace_all(value.as_bytes(), NoExpand(SHOWN.as_bytes())) {
                *value = HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static(SHOWN));
            }
        }
    }

    /// A message without the key.
    pub fn text(&self, text: &str) -> String {
        let Some(found) = self.anywhere.as_ref().or(self.word.as_ref()) else { return text.to_owned() };
        // What is found is ASCII, so what is left is UTF-8 still.
        String::from_utf8_lossy(&found.replace_all(text.as_bytes(), NoExpand(SHOWN.as_bytes()))).into_owned()
    }
}

fn boundary(next: Option<u8>) -> &'static str {
    if next.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') { r"\b" } else { "" }
}

/// Each character in any of the ways in which the web writes it.
fn spelled(key: &str) -> String {
    let mut pattern = String::new();
    for byte in key.bytes() {
        let named = match byte {
            b'&' => "|&amp;",
            b'<' => "|&lt;",
            b'>' => "|&gt;",
            b'"' => "|&quot;",
            b'\'' => "|&apos;",
            // As forms have it.
            b' ' => r"|\+",
            b'+' => r"|\x20",
            _ => "",
        };
        // `\/` and `\"`; twice where JSON stands in JSON.
        let escapes = if byte.is_ascii_alphanumeric() { "" } else { r"\\*" };
        // Writing into a String cannot fail.
        let _ = write!(pattern, r"(?:{escapes}\x{byte:02x}|%{byte:02x}|\\+u00{byte:02x}|&\#0*{byte};|&\#x0*{byte:x};{named})");
    }
    pattern
}

fn hexadecimal(key: &str) -> String {
    key.bytes().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The characters of base64, in either alphabet, that the key alone decides when so many bytes (modulo 3) stand before it.
fn base64(key: &[u8], offset: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| {
        let at = at - offset * 8;
        key.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1))
    };
    let (first, end) = ((offset * 8).div_ceil(6), (offset + key.len()) * 8 / 6);
    let mut pattern = String::new();
    for place in first..end {
        let index = (0..6).fold(0, |index, n| index << 1 | bit(place * 6 + n));
        match ALPHABET.get(index) {
            Some(b'+') => pattern.push_str("[+-]"),
            Some(b'/') => pattern.push_str(r"(?:\\?/|_)"),
            Some(letter) => pattern.push(char::from(*letter)),
            None => {}
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "CG-top/Secret+key&1~";

    fn mask(key: &str) -> Mask {
        Mask::of(&Secret::new(key)).unwrap()
    }

    fn encode(text: &str, alphabet: &[u8; 64]) -> String {
        let mut out = String::new();
        for three in text.as_bytes().chunks(3) {
            let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
            (0..=three.len()).for_each(|n| out.push(char::from(alphabet[bits >> (18 - 6 * n) & 63])));
        }
        out
    }

    const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    #[test]
    fn the_key_is_found_however_the_web_writes_it() {
        for echo in [
            KEY,
            "CG-top%2FSecret%2Bkey%261~",
            "CG-top%2fSecret%2bkey%261%7e",
            "CG-top\\/Secret+key&1~",
            "CG-top\\/Secret\\u002bkey\\u00261~",
            "CG-top\\\\/Secret\\\\u002Bkey&amp;1~",
            "CG-top&#x2F;Secret&#43;key&amp;1~",
            "%43%47%2D%74%6F%70%2F%53%65%63%72%65%74%2B%6B%65%79%26%31%7E",
            "43472d746f702f5365637265742b6b657926317e",
            "43472D746F702F5365637265742B6B657926317E",
            "cg-top/secret key&1~",
        ] {
            assert_eq!(mask(KEY).text(&format!("bad {echo}, really")), "bad ***, really", "{echo}");
            let body = Bytes::from(format!("{{\"error\":\"{echo}\"}}"));
            assert_eq!(mask(KEY).body(&body).unwrap(), "{\"error\":\"***\"}");
        }
        assert_eq!(mask("two words").text("a two+words b two%20words"), "a *** b ***");
        assert_eq!(mask(" CG-spaced ").text("bad CG-spaced."), "bad ***.");
        assert_eq!(mask("back\\slash\"1").text(r#"{"e":"back\\slash\"1"}"#), r#"{"e":"***"}"#);
        assert!(mask(KEY).body(&Bytes::from_static(b"[1,2]")).is_none());
    }

    #[test]
    fn headers_are_masked_too() {
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_str("https://a.example/?key=CG-top%2FSecret%2Bkey%261~").unwrap());
        headers.insert("retry-after", HeaderValue::from_static("3"));
        mask(KEY).headers(&mut headers);
        assert_eq!(headers["location"], "https://a.example/?key=***");
        assert_eq!(headers["retry-after"], "3");
    }

    #[test]
    fn a_short_key_spoils_no_data_and_no_words() {
        let short = mask("a1");
        assert!(short.body(&Bytes::from_static(b"[\"a1\"]")).is_none());
        assert_eq!(short.text("the key a1 is not ba1a"), "the key *** is not ba1a");
        assert_eq!(mask("#1").text("no #1!"), "no ***!");
        assert!(Mask::of(&Secret::default()).is_none());
    }

    #[test]
    fn a_long_key_is_no_trouble() {
        let long = "Zx9-".repeat(1000);
        assert_eq!(mask(&long).text(&format!("<{long}>")), "<***>");
    }

    proptest! {
        // Each case compiles a pattern, which is slow without optimization.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_key_is_found_in_base64_wherever_it_stands(key in "[!-~]{6,40}", before in "[a-z:]{0,9}", after in "[a-z]{0,5}") {
            let text = format!("{before}{key}{after}");
            for alphabet in [STANDARD, URL_SAFE] {
                let encoded = encode(&text, alphabet);
                let masked = mask(&key).text(&format!("Basic {encoded}"));
                prop_assert!(masked.contains("***"), "{} in {}", key, encoded);
                // What is left of it at its ends is less than a byte each.
                prop_assert!(masked.len() <= "Basic ***".len() + (before.len() + after.len()) * 4 / 3 + 6);
            }
        }

        #[test]
        fn any_key_is_found_as_it_is_and_percent_encoded(key in "[!-~][ -~]{4,40}[!-~]", text in any::<String>()) {
            let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let masked = mask(&key).text(&format!("{text}{key}{text}{encoded}{text}"));
            prop_assert!(!masked.contains(&key) && !masked.contains(&encoded), "{}", masked);
            let json = serde_json::to_string(&key).unwrap();
            prop_assert_eq!(mask(&key).text(&json), "\"***\"");
        }
    }
}
