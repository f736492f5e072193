//! Where a part of a text stands in the file, though escapes or lines make it stand otherwise there than it reads.

use std::ops::Range;

use pipeline_contract::{Expansions, PlanError};

/// Points faults that are about a part of a text at that part. A text that came from the environment stands nowhere: it is meant as a whole.
pub(super) fn place(file: &str, expansions: &Expansions, faults: &mut [PlanError]) {
    for fault in faults {
        let (Some(part), Some(span)) = (fault.part.take(), fault.span.clone()) else { continue };
        if expansions.at(&span).is_some() {
            continue;
        }
        let Some(there) = file.get(span.clone()).and_then(|written| within(written, &part.range, part.of)) else { continue };
        let there = span.start + there.start..span.start + there.end;
        if let Some(replacement) = part.replacement.filter(|text| !text.contains(['\\', '"', '\''])) {
            fault.suggestion = Some(pipeline_contract::Suggestion { span: there.clone(), replacement });
        }
        fault.span = Some(there);
    }
}

/// The bytes of `written`, a TOML text with its quotes, that read as `part`; the whole reads as `of` bytes.
fn within(written: &str, part: &Range<usize>, of: usize) -> Option<Range<usize>> {
    let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| written.starts_with(quotes) && written.len() >= 2 * quotes.len())?;
    let is_basic = quotes.starts_with('"');
    let end = written.len() - quotes.len();
    let mut at = quotes.len();
    if quotes.len() == 3 {
        // The line break after the quotes does not count.
        at += ["\r\n", "\n"].iter().find(|newline| written[at..end].starts_with(**newline)).map_or(0, |newline| newline.len());
    }
    let (mut read, mut start) = (0, None);
    while at <= end {
        if read == part.start && start.is_none() {
            start = Some(at);
        }
        if read >= part.end && read == of.min(part.end) && start.is_some() {
            break;
        }
        let rest = &written[at..end];
        let Some(sign) = rest.chars().next() else { break };
        let (takes, gives) = if is_basic && sign == '\\' { escape(rest)? } else { (sign.len_utf8(), sign.len_utf8()) };
        at += takes;
        read += gives;
        // A line that ends in a backslash reads as nothing: a part begins behind it.
        if gives == 0 && start.is_some() && read == part.start {
            start = None;
        }
    }
    let start = start?;
    (read == part.end && at <= end).then_some(start..at)
}

/// How many bytes an escape takes, and how many it gives.
fn escape(rest: &str) -> Option<(usize, usize)> {
    let kind = rest[1..].chars().next()?;
    let digits = match kind {
        'b' | 't' | 'n' | 'f' | 'r' | 'e' | '"' | '\\' => return Some((2, 1)),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => {
            let blank = rest[1..].len() - rest[1..].trim_start_matches([' ', '\t', '\r', '\n']).len();
            return (blank > 0).then_some((1 + blank, 0));
        }
    };
    let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
    Some((2 + digits, char::from_u32(code)?.len_utf8()))
}

#[cfg(test)]
mod tests {
    use pipeline_contract::testkit::Fuzz;

    use super::*;

    /// What the parser reads in a text, and where a word of it is found in the file.
    fn found<'a>(written: &'a str, word: &str) -> Option<&'a str> {
        let table = format!("a = {written}").parse::<toml::Table>().unwrap();
        let read = table["a"].as_str().unwrap();
        let at = read.find(word).unwrap();
        within(written, &(at..at + word.len()), read.len()).map(|there| &written[there])
    }

    #[test]
    fn a_part_is_found_behind_escapes_and_in_its_line() {
        for written in [
            r#""a \"b\" hgih > 1""#,
            "\"\"\"\nlow > 1\n  and hgih > 2\n\"\"\"",
            "'''\r\nlow > 1\r\nand hgih > 2'''",
            "\"\"\"low > 1 \\\n   and \\\n   hgih > 2\"\"\"",
            r#""\u00e4 \U0001F680 \t\\ hgih""#,
            "\"\\\"hgih\"",
            "'hgih'",
        ] {
            assert_eq!(found(written, "hgih"), Some("hgih"), "{written}");
        }
        assert_eq!(found(r#""low > \"x\"""#, "\"x\""), Some(r#"\"x\""#));
        // The end of a text is a place, too.
        assert_eq!(within(r#""\"a\" >""#, &(5..5), 5), Some(8..8));
        assert_eq!(within(r#""a""#, &(3..4), 1), None);
    }

    #[test]
    fn fuzzed_texts_have_every_part_at_its_place_or_none() {
        let words = ["\"", "\\", "\\n", "\\u00e4", "\\\n  ", "\n", "\r\n", "a", "é", "'", " ", "\\\\", "\\\"", "\\U0001F680"];
        let fuzz = Fuzz { name: "parts of texts", samples: &["a \\\"b\\\" c", "\na\nb\n"], words: &words, cases: 1000, cost: 1 };
        fuzz.run(
            |draw| (0..draw.below(12)).map(|_| draw.of(&words)).collect::<String>().into_bytes(),
            |bytes| {
                let text = String::from_utf8_lossy(bytes);
                let mut is_one_line = false;
                for quotes in ["\"", "'", "\"\"\"", "'''"] {
                    let written = format!("{quotes}{text}{quotes}");
                    let Ok(table) = format!("a = {written}").parse::<toml::Table>() else { continue };
                    let Some(read) = table.get("a").and_then(toml::Value::as_str) else { continue };
                    is_one_line |= quotes.len() == 1;
                    for (at, sign) in read.char_indices() {
                        let there = within(&written, &(at..at + sign.len_utf8()), read.len());
                        // A sign is itself there, or an escape of it.
                        let there = &written[there.unwrap_or_else(|| panic!("{written:?} {at}"))];
                        assert!(there.starts_with(sign) || there.starts_with('\\'), "{written:?}: {there:?} for {sign:?}");
                    }
                }
                is_one_line
            },
        );
    }
}
