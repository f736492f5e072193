//! LIKE and ILIKE: `%` is any run of characters, `_` any one.

use arrow_buffer::BooleanBuffer;

use super::value::{Texts, Value, nulls_of, same};
use crate::error::EvalError;
use crate::node::Scalar;

/// How a LIKE matches. The pattern is compiled when it is a constant.
#[derive(Clone, Debug)]
pub(crate) struct Like {
    compiled: Option<Pattern>,
    escape: Option<char>,
    insensitive: bool,
}

/// The common patterns have a shape that needs no search of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Pieces(Vec<Piece>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Character(char),
    Any,
    AnyRun,
}

impl Like {
    pub(crate) fn new(pattern: Option<&str>, escape: Option<char>, insensitive: bool) -> Self {
        let compiled = pattern.map(|pattern| Pattern::new(pattern, escape, insensitive));
        Self { compiled, escape, insensitive }
    }

    /// Whether the last character of the pattern escapes nothing.
    pub(crate) fn ends_in_escape(pattern: &str, escape: char) -> bool {
        let mut characters = pattern.chars();
        let mut dangling = false;
        while let Some(character) = characters.next() {
            dangling = character == escape && characters.next().is_none();
        }
        dangling
    }
}

impl Pattern {
    /// Without an escape character there is none, as in the standard. One that escapes nothing stands for itself.
    fn new(pattern: &str, escape: Option<char>, insensitive: bool) -> Self {
        let mut pieces = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            match character {
                _ if Some(character) == escape => add(&mut pieces, characters.next().unwrap_or(character), insensitive),
                '%' => {
                    if pieces.last() != Some(&Piece::AnyRun) {
                        pieces.push(Piece::AnyRun);
                    }
                }
                '_' => pieces.push(Piece::Any),
                _ => add(&mut pieces, character, insensitive),
            }
        }
        let text = |pieces: &[Piece]| -> Option<String> {
            pieces.iter().map(|piece| if let Piece::Character(character) = piece { Some(*character) } else { None }).collect()
        };
        let simple = match pieces.as_slice() {
            [Piece::AnyRun, middle @ .., Piece::AnyRun] => text(middle).map(Self::Contains),
            [Piece::AnyRun, end @ ..] => text(end).map(Self::EndsWith),
            [start @ .., Piece::AnyRun] => text(start).map(Self::StartsWith),
            all => text(all).map(Self::Exactly),
        };
        simple.unwrap_or(Self::Pieces(pieces))
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exactly(part) => text == part,
            Self::StartsWith(part) => text.starts_with(part.as_str()),
            Self::EndsWith(part) => text.ends_with(part.as_str()),
            Self::Contains(part) => text.contains(part.as_str()),
            Self::Pieces(pieces) => pieces_match(pieces, text),
        }
    }
}

fn add(pieces: &mut Vec<Piece>, character: char, insensitive: bool) {
    if insensitive {
        pieces.extend(character.to_lowercase().map(Piece::Character));
    } else {
        pieces.push(Piece::Character(character));
    }
}

/// Goes on from the last `%` when stuck, so it takes at most (pattern x text) steps.
fn pieces_match(pieces: &[Piece], text: &str) -> bool {
    let mut piece = 0;
    let mut rest = text;
    let mut retry: Option<(usize, &str)> = None;
    loop {
        let mut ahead = rest.chars();
        let character = ahead.next();
        match (pieces.get(piece), character) {
            (Some(Piece::AnyRun), _) => {
                piece += 1;
                retry = Some((piece, rest));
                continue;
            }
            (None, None) => return true,
            (Some(Piece::Any), Some(_)) => {
                piece += 1;
                rest = ahead.as_str();
                continue;
            }
            (Some(Piece::Character(wanted)), Some(found)) if *wanted == found => {
                piece += 1;
                rest = ahead.as_str();
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = retry else { return false };
        let mut ahead = from.chars();
        if ahead.next().is_none() {
            return false;
        }
        piece = after;
        rest = ahead.as_str();
        retry = Some((after, rest));
    }
}

pub(super) fn eval(value: &Value, pattern: &Value, like: &Like, negated: bool, len: usize) -> Result<Value, EvalError> {
    if value.is_null() || pattern.is_null() {
        return Ok(Value::Constant(Scalar::Null));
    }
    let texts = value.texts()?;
    let mut folded = String::new();
    let mut hit = |pattern: &Pattern, text: &str| {
        if !like.insensitive {
            return pattern.matches(text);
        }
        folded.clear();
        folded.extend(text.chars().flat_map(char::to_lowercase));
        pattern.matches(&folded)
    };
    let bits = match (&like.compiled, pattern.texts()?) {
        (Some(pattern), _) => match texts {
            Texts::One(text) => same(hit(pattern, text), len),
            Texts::Many(_) => BooleanBuffer::collect_bool(len, |row| hit(pattern, texts.at(row))),
        },
        (None, patterns) => {
            BooleanBuffer::collect_bool(len, |row| hit(&Pattern::new(patterns.at(row), like.escape, like.insensitive), texts.at(row)))
        }
    };
    let bits = if negated { !&bits } else { bits };
    Ok(Value::booleans(bits, nulls_of([value, pattern])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_search_of_the_simplest_kind() {
        let of = |text| Pattern::new(text, Some('\\'), false);
        assert_eq!(of("abc"), Pattern::Exactly("abc".into()));
        assert_eq!(of("abc%"), Pattern::StartsWith("abc".into()));
        assert_eq!(of("%abc"), Pattern::EndsWith("abc".into()));
        assert_eq!(of("%%abc%"), Pattern::Contains("abc".into()));
        assert_eq!(of("50\\%"), Pattern::Exactly("50%".into()));
        assert_eq!(of("%"), Pattern::EndsWith(String::new()));
        assert!(matches!(of("a_c"), Pattern::Pieces(_)));
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = Pattern::new(&"%a".repeat(50), None, false);
        assert!(!pattern.matches(&format!("{}b", "a".repeat(5000))));
    }
}
