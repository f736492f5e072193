//! The syntax of a path: text with columns in braces.

use std::ops::Range;

use chrono::format::Item;
use pipeline_files::time::time_items;

/// A part of a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// Text as it is.
    Literal(String),
    /// `{name}` or `{name:format}`.
    Column {
        name: String,
        format: Option<Vec<Item<'static>>>,
        /// Where the whole of it, braces included, stands in the template.
        at: Range<usize>,
        /// Where its name stands.
        name_at: Range<usize>,
    },
}

/// What is wrong with a template, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: &'static str,
}

/// The most bytes of a path: `PATH_MAX` of Linux, which is the largest of the usual systems'.
const LONGEST: usize = 4096;

fn fault(at: Range<usize>, message: impl Into<String>, help: &'static str) -> Fault {
    Fault { at, message: message.into(), help }
}

/// Takes a template apart; all faults at once.
pub(crate) fn parse(text: &str) -> Result<Vec<Piece>, Vec<Fault>> {
    let mut pieces = Vec::new();
    let mut faults = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("{{") || rest.starts_with("}}") {
            literal.push_str(&rest[..1]);
            at += 2;
        } else if rest.starts_with('{') {
            let Some(len) = rest.find('}') else {
                faults.push(fault(at..text.len(), "this `{` has no `}`", "close it, or write `{{` for the sign itself"));
                break;
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            match column(&rest[1..len], at) {
                Ok(piece) => pieces.push(piece),
                Err(fault) => faults.push(fault),
            }
            at += len + 1;
        } else if rest.starts_with('}') {
            faults.push(fault(at..at + 1, "this `}` has no `{`", "remove it, or write `}}` for the sign itself"));
            at += 1;
        } else {
            let len = rest.find(['{', '}']).unwrap_or(rest.len());
            literal.push_str(&rest[..len]);
            at += len;
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    if text.len() > LONGEST {
        let message = format!("the path has {} bytes, and {LONGEST} are the most that a system takes", text.len());
        faults.push(fault(0..text.len(), message, "make it shorter"));
    } else if text.trim().is_empty() {
        faults.push(fault(0..text.len(), "the path is empty", "name a file, as `data/{coin_id}.csv`"));
    } else if text.ends_with('/') {
        faults.push(fault(text.len() - 1..text.len(), "the path ends in a folder", "end it with the name of a file, as `data/{coin_id}.csv`"));
    } else if let Some(nul) = text.find('\0') {
        faults.push(fault(nul..nul + 1, "a path cannot hold the NUL character", "remove it"));
    }
    if faults.is_empty() { Ok(pieces) } else { Err(faults) }
}

fn column(inner: &str, at: usize) -> Result<Piece, Fault> {
    let whole = at..at + inner.len() + 2;
    let (name, format) = inner.split_once(':').map_or((inner, None), |(name, format)| (name, Some(format)));
    let start = at + 1 + (name.len() - name.trim_start().len());
    let name = name.trim();
    if name.is_empty() {
        return Err(fault(whole, "the braces name no column", "write a column's name, as `{coin_id}`"));
    }
    let items = format.map(|format| {
        let begin = whole.end - 1 - format.len();
        time_items(format).map_err(|message| fault(begin..whole.end - 1, message, "formats are as in `{timestamp:%Y-%m}`"))
    });
    Ok(Piece::Column { name: name.to_owned(), format: items.transpose()?, name_at: start..start + name.len(), at: whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        let pieces = parse("data/{coin_id}_{timestamp:%Y-%m}{{x}}.csv").unwrap();
        assert_eq!(pieces.len(), 5);
        assert_eq!(pieces[0], Piece::Literal("data/".into()));
        assert!(
            matches!(&pieces[1], Piece::Column { name, format: None, at, name_at } if name == "coin_id" && *at == (5..14) && *name_at == (6..13))
        );
        assert!(matches!(&pieces[3], Piece::Column { name, format: Some(items), .. } if name == "timestamp" && items.len() == 3));
        assert_eq!(pieces[4], Piece::Literal("{x}.csv".into()));
    }

    #[test]
    fn faults_stand_where_they_are() {
        for (text, at, message) in [
            ("data/{coin", 5..10, "this `{` has no `}`"),
            ("data/coin}.csv", 9..10, "this `}` has no `{`"),
            ("data/{}.csv", 5..7, "the braces name no column"),
            ("data/{ :%Y}.csv", 5..11, "the braces name no column"),
            ("data/{t:%Q}.csv", 8..10, "`%Q` is not a time format"),
            ("data/{t:}.csv", 8..8, "`` has no part of a time"),
            ("data/{t:year}.csv", 8..12, "`year` has no part of a time"),
            ("data/{coin}/", 11..12, "the path ends in a folder"),
            ("", 0..0, "the path is empty"),
        ] {
            let faults = parse(text).unwrap_err();
            assert_eq!((faults[0].at.clone(), faults[0].message.as_str()), (at, message), "{text}");
        }
        assert_eq!(parse("{}{a:%Q}{").unwrap_err().len(), 3);
        let faults = parse(&"x".repeat(LONGEST + 1)).unwrap_err();
        assert_eq!(faults[0].message, "the path has 4097 bytes, and 4096 are the most that a system takes");
        assert!(parse(&"x".repeat(LONGEST)).is_ok());
    }
}
