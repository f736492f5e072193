//! Values as parts of file names: safe on every system, and read back exactly.
//!
//! | value | becomes |
//! |---|---|
//! | letters, digits and most signs, in any script | themselves |
//! | `/ \ : * ? " < > \| %` and control characters | `%` and two hex digits for each byte |
//! | a `.` that begins a value, a `.` or space that ends it | the same |
//! | a name that Windows reserves (`con`, `nul.txt`, `com1`, `COM¹`, ...) | its first letter encoded |
//! | the empty text | `%` |
//! | null | `%N` |
//! | more than a name holds | its beginning, `%~` and 16 hex digits of a hash: the one form that is not read back whole |

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

/// What stands for null.
pub const NULL: &str = "%N";

/// What a part of a file name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Null.
    Null,
    /// A text.
    Text(String),
    /// A text that was too long.
    Shortened {
        /// How it begins.
        start: String,
        /// What keeps it apart from others that begin so: `%~` and a hash.
        mark: String,
    },
}

impl Decoded {
    /// Did this text become it?
    pub fn is_of(&self, value: &str) -> bool {
        match self {
            Self::Null => false,
            Self::Text(text) => text == value,
            Self::Shortened { start, mark } => value.starts_with(start) && *mark == mark_of(value),
        }
    }
}

fn mark_of(text: &str) -> String {
    format!("%~{:016x}", xxh3_64(text.as_bytes()))
}

/// How much of a value is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// What is not safe.
    Unsafe,
    /// Everything but letters and digits: for a value whose own signs would be mistaken for what stands around it.
    Signs,
    /// Everything.
    All,
}

/// A text as a part of a file name, `limit` bytes at most (but room for 32 there is always).
pub fn encode(text: &str, limit: usize, escape: Escape) -> String {
    if text.is_empty() {
        return "%".to_owned();
    }
    let limit = limit.max(32);
    let reserved = is_reserved(text);
    let last = text.char_indices().next_back().map_or(0, |(at, _)| at);
    let mut out = String::with_capacity(text.len());
    let mut cut = 0;
    for (at, c) in text.char_indices() {
        let plain = match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' => !(reserved && at == 0),
            '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '%' => false,
            '.' => at != 0 && at != last,
            ' ' => at != last,
            c => !c.is_control(),
        };
        let plain = match escape {
            Escape::Unsafe => plain,
            Escape::Signs => plain && c.is_alphanumeric(),
            Escape::All => false,
        };
        if plain {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push('%');
                out.extend(char::from_digit(u32::from(byte >> 4), 16).map(|d| d.to_ascii_uppercase()));
                out.extend(char::from_digit(u32::from(byte & 15), 16).map(|d| d.to_ascii_uppercase()));
            }
        }
        // 18 bytes are the mark and the hash.
        if out.len() + 18 <= limit {
            cut = out.len();
        }
    }
    if out.len() > limit {
        out.truncate(cut);
        out.push_str(&mark_of(text));
    }
    out
}

/// The opposite of [`encode`]; `None` when no value becomes this.
pub fn decode(part: &str) -> Option<Decoded> {
    match part {
        "" => return None,
        "%" => return Some(Decoded::Text(String::new())),
        NULL => return Some(Decoded::Null),
        _ => {}
    }
    if let Some((start, hash)) = part.split_once("%~") {
        let whole = hash.len() == 16 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        return if whole { Some(Decoded::Shortened { start: unescape(start)?.into_owned(), mark: format!("%~{hash}") }) } else { None };
    }
    unescape(part).map(|text| Decoded::Text(text.into_owned()))
}

fn unescape(part: &str) -> Option<Cow<'_, str>> {
    if !part.contains('%') {
        return Some(Cow::Borrowed(part));
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
            bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Device names of Windows, which it takes as such whatever their case and extension.
fn is_reserved(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or_default().trim_end();
    // Superscripts too: they are digits in the code page that device names come from.
    let digit = |rest: &str| matches!(rest, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "\u{b9}" | "\u{b2}" | "\u{b3}");
    let number = |prefix: &str| stem.split_at_checked(3).is_some_and(|(name, rest)| name.eq_ignore_ascii_case(prefix) && digit(rest));
    ["con", "prn", "aux", "nul"].iter().any(|name| stem.eq_ignore_ascii_case(name)) || number("com") || number("lpt")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        for (value, part) in [
            ("bitcoin", "bitcoin"),
            ("usd_coin-2", "usd_coin-2"),
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            (".hidden", "%2Ehidden"),
            ("a.b", "a.b"),
            ("a.", "a%2E"),
            ("a ", "a%20"),
            ("a b", "a b"),
            ("", "%"),
            ("%N", "%25N"),
            ("CON", "%43ON"),
            ("nul.txt", "%6Eul.txt"),
            ("com1", "%63om1"),
            ("COM\u{b9}", "%43OM\u{b9}"),
            ("com\u{b2}.txt", "%63om\u{b2}.txt"),
            ("Lpt\u{b3}", "%4Cpt\u{b3}"),
            ("com\u{2074}", "com\u{2074}"),
            ("co\u{b9}", "co\u{b9}"),
            ("com10", "com10"),
            ("company", "company"),
            ("日本", "日本"),
            ("a\u{0}b\n", "a%00b%0A"),
            ("C:\\x", "C%3A%5Cx"),
        ] {
            assert_eq!(encode(value, 200, Escape::Unsafe), part);
            assert_eq!(decode(part), Some(Decoded::Text(value.to_owned())), "{part}");
        }
        assert_eq!(decode("%N"), Some(Decoded::Null));
        for part in ["", "%G1", "%4", "a%FF", "%~12", "a%~0123456789ABCDEF"] {
            assert_eq!(decode(part), None, "{part}");
        }
    }

    #[test]
    fn long_values_are_shortened_and_stay_apart() {
        let (whole, longer) = ("é".repeat(300), "é".repeat(301));
        let (a, b) = (encode(&whole, 200, Escape::Unsafe), encode(&longer, 200, Escape::Unsafe));
        assert!(a.len() <= 200 && a.len() > 190 && a != b, "{a}");
        let back = decode(&a).unwrap();
        assert!(matches!(&back, Decoded::Shortened { start, mark } if start.starts_with("éé") && a == format!("{start}{mark}")));
        assert!(back.is_of(&whole) && !back.is_of(&longer) && !back.is_of("éé"));
        assert!(encode(&"/".repeat(300), 50, Escape::All).len() <= 50);
    }

    proptest! {
        #[test]
        fn every_value_is_safe_and_comes_back(value in any::<String>(), escape in prop_oneof![Just(Escape::Unsafe), Just(Escape::Signs), Just(Escape::All)]) {
            let part = encode(&value, 200, escape);
            prop_assert!(!part.is_empty() && part.len() <= 200);
            prop_assert!(!part.contains(['/', '\\', ':', '\0', '\n']));
            prop_assert!(!part.starts_with('.') && !part.ends_with('.') && !part.ends_with(' '));
            match decode(&part) {
                Some(Decoded::Text(back)) => prop_assert_eq!(back, value),
                Some(back @ Decoded::Shortened { .. }) => prop_assert!(part.contains("%~") && back.is_of(&value)),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
