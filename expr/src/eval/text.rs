//! The functions of text. Positions and lengths count characters (Unicode scalar values).

use arrow_buffer::{BooleanBuffer, NullBuffer};

use super::column_of;
use super::value::{TextBuilder, Texts, Value, nulls_of, same};
use crate::error::EvalError;
use crate::functions::Function;
use crate::node::Scalar;

/// One bit for each text.
pub(super) fn test(value: &Value, len: usize, f: impl Fn(&str) -> bool) -> Result<Value, EvalError> {
    if value.is_null() {
        return Ok(Value::Constant(Scalar::Null));
    }
    let texts = value.texts()?;
    let bits = match texts {
        Texts::One(text) => same(f(text), len),
        Texts::Many(_) => BooleanBuffer::collect_bool(len, |row| f(texts.at(row))),
    };
    Ok(Value::booleans(bits, value.nulls().cloned()))
}

/// The parts one after another. Strict: null when a part is. Otherwise nulls count as empty.
pub(super) fn concat(values: &[Value], strict: bool, len: usize) -> Result<Value, EvalError> {
    if strict && values.iter().any(Value::is_null) {
        return Ok(Value::Constant(Scalar::Null));
    }
    let nulls = if strict { nulls_of(values) } else { None };
    let parts = values.iter().map(|value| Ok((value.texts()?, value.nulls()))).collect::<Result<Vec<_>, EvalError>>()?;
    let mut builder = TextBuilder::new(len);
    for row in 0..len {
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            for (texts, nulls) in &parts {
                if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                    builder.buffer().push_str(texts.at(row));
                }
            }
        }
        builder.end();
    }
    Ok(Value::Text(builder.finish(nulls)?))
}

/// The functions of text; no argument is the constant NULL.
pub(super) fn call(function: Function, values: &[Value], len: usize) -> Result<Value, EvalError> {
    use Function as F;
    let nulls = nulls_of(values);
    let [first, rest @ ..] = values else { return Err(EvalError::internal("a function without arguments")) };
    let texts = first.texts()?;
    match (function, rest) {
        (F::Length, _) => {
            let lengths = (0..len).map(|row| i64::try_from(texts.at(row).chars().count()).unwrap_or(i64::MAX)).collect();
            Ok(Value::Long(column_of(lengths, nulls)))
        }
        (F::StartsWith, [part]) => two(texts, part.texts()?, nulls, len, |text, part| text.starts_with(part)),
        (F::EndsWith, [part]) => two(texts, part.texts()?, nulls, len, |text, part| text.ends_with(part)),
        (F::Contains, [part]) => two(texts, part.texts()?, nulls, len, |text, part| text.contains(part)),
        (F::Lower, _) => write(nulls, len, |row, out| lower(texts.at(row), out)),
        (F::Upper, _) => write(nulls, len, |row, out| upper(texts.at(row), out)),
        (F::Trim, _) => write(nulls, len, |row, out| out.push_str(texts.at(row).trim())),
        (F::TrimStart, _) => write(nulls, len, |row, out| out.push_str(texts.at(row).trim_start())),
        (F::TrimEnd, _) => write(nulls, len, |row, out| out.push_str(texts.at(row).trim_end())),
        (F::Substr, [start]) => {
            let start = start.longs()?;
            write(nulls, len, |row, out| out.push_str(substr(texts.at(row), start.at(row), None)))
        }
        (F::Substr, [start, length]) => {
            let (start, length) = (start.longs()?, length.longs()?);
            write(nulls, len, |row, out| out.push_str(substr(texts.at(row), start.at(row), Some(length.at(row)))))
        }
        (F::Replace, [from, to]) => {
            let (from, to) = (from.texts()?, to.texts()?);
            write(nulls, len, |row, out| replace(texts.at(row), from.at(row), to.at(row), out))
        }
        (F::SplitPart, [separator, number]) => {
            let (separator, number) = (separator.texts()?, number.longs()?);
            let counted = BooleanBuffer::collect_bool(len, |row| number.at(row) != 0);
            let nulls = NullBuffer::union(nulls.as_ref(), Some(&NullBuffer::new(counted)));
            write(nulls, len, |row, out| out.push_str(split_part(texts.at(row), separator.at(row), number.at(row))))
        }
        _ => Err(EvalError::internal("not a function of text")),
    }
}

fn two(texts: Texts<'_>, parts: Texts<'_>, nulls: Option<NullBuffer>, len: usize, f: impl Fn(&str, &str) -> bool) -> Result<Value, EvalError> {
    let bits = BooleanBuffer::collect_bool(len, |row| f(texts.at(row), parts.at(row)));
    Ok(Value::booleans(bits, nulls))
}

/// A text for each row that is not null.
fn write(nulls: Option<NullBuffer>, len: usize, f: impl Fn(usize, &mut String)) -> Result<Value, EvalError> {
    let mut builder = TextBuilder::new(len);
    for row in 0..len {
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            f(row, builder.buffer());
        }
        builder.end();
    }
    Ok(Value::Text(builder.finish(nulls.filter(|nulls| nulls.null_count() > 0))?))
}

fn lower(text: &str, out: &mut String) {
    if text.is_ascii() {
        out.extend(text.chars().map(|c| c.to_ascii_lowercase()));
    } else {
        // Not character by character: a capital sigma at the end of a word becomes another letter.
        out.push_str(&text.to_lowercase());
    }
}

fn upper(text: &str, out: &mut String) {
    if text.is_ascii() {
        out.extend(text.chars().map(|c| c.to_ascii_uppercase()));
    } else {
        out.push_str(&text.to_uppercase());
    }
}

/// From character `start`, counted from 1, for `length` characters. As in PostgreSQL a start before the text counts towards the length.
fn substr(text: &str, start: i64, length: Option<i64>) -> &str {
    let end = length.map(|length| start.saturating_add(length.max(0)));
    let byte = |character: i64| {
        let before = usize::try_from(character.saturating_sub(1)).unwrap_or(0);
        if text.is_ascii() { before.min(text.len()) } else { text.char_indices().nth(before).map_or(text.len(), |(byte, _)| byte) }
    };
    let from = byte(start.max(1));
    let to = end.map_or(text.len(), |end| byte(end.max(1)));
    text.get(from..to.max(from)).unwrap_or_default()
}

fn replace(text: &str, from: &str, to: &str, out: &mut String) {
    if from.is_empty() {
        out.push_str(text);
        return;
    }
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(from) {
        out.push_str(before);
        out.push_str(to);
        rest = after;
    }
    out.push_str(rest);
}

/// Part `number`, counted from 1, or from the end when below zero; empty when there is none. Without a separator the text is one part.
fn split_part<'a>(text: &'a str, separator: &str, number: i64) -> &'a str {
    let Some(skip) = number.unsigned_abs().checked_sub(1).and_then(|skip| usize::try_from(skip).ok()) else { return "" };
    if separator.is_empty() {
        return if skip == 0 { text } else { "" };
    }
    let part = if number > 0 { text.split(separator).nth(skip) } else { text.rsplit(separator).nth(skip) };
    part.unwrap_or_default()
}
