//! CAST and TRY_CAST.

use arrow_buffer::{BooleanBuffer, NullBuffer};
use pipeline_contract::{ColumnType, instant, rfc3339};

use super::value::{TextBuilder, Value, map, test};
use super::{Context, column_of, shortened};
use crate::check::parse_timestamp;
use crate::error::EvalError;
use crate::node::Scalar;

/// The value as another type. Where a row has none: null when lenient, else a fault of that row (and null in what is returned).
pub(super) fn cast(value: &Value, from: ColumnType, to: ColumnType, lenient: bool, cx: &Context<'_>) -> Result<Value, EvalError> {
    use ColumnType as T;
    if value.is_null() {
        return Ok(Value::Constant(Scalar::Null));
    }
    let len = cx.len;
    let nulls = value.nulls().cloned();
    Ok(match (from, to) {
        (T::Text, T::Integer) => {
            let (values, nulls) = texts(value, to, lenient, cx, |text| text.parse().ok())?;
            Value::Long(column_of(values, nulls))
        }
        (T::Text, T::Float) => {
            let (values, nulls) = texts(value, to, lenient, cx, parse_float)?;
            Value::Float(column_of(values, nulls))
        }
        (T::Text, T::Timestamp) => {
            let (values, nulls) = texts(value, to, lenient, cx, parse_timestamp)?;
            Value::Long(column_of(values, nulls))
        }
        (T::Text, T::Boolean) => {
            let (values, nulls) = texts(value, to, lenient, cx, parse_boolean)?;
            Value::booleans(BooleanBuffer::from(values), nulls)
        }
        (T::Float, T::Integer) => {
            let floats = value.floats()?;
            let describe = |row| format!("cannot cast {} to integer", float_text(floats.at(row)));
            let (values, nulls) = rows(nulls, lenient, cx, |row| round_to_integer(floats.at(row)), describe);
            Value::Long(column_of(values, nulls))
        }
        (T::Integer, T::Float) => Value::Float(column_of(map(len, value.longs()?, |x| x as f64), nulls)),
        (T::Integer, T::Boolean) => Value::booleans(test(len, value.longs()?, |x| x != 0), nulls),
        (T::Boolean, T::Integer) => Value::Long(column_of(value.bits(len)?.iter().map(i64::from).collect(), nulls)),
        (_, T::Text) => write_texts(value, from, nulls, len)?,
        _ => return Err(EvalError::internal("a cast that does not exist")),
    })
}

fn write_texts(value: &Value, from: ColumnType, nulls: Option<NullBuffer>, len: usize) -> Result<Value, EvalError> {
    use std::fmt::Write;
    let mut builder = TextBuilder::new(len);
    let mut floats = zmij::Buffer::new();
    for row in 0..len {
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            let buffer = builder.buffer();
            match from {
                ColumnType::Boolean => buffer.push_str(if value.bits(len)?.value(row) { "true" } else { "false" }),
                // Writing to a String does not fail.
                ColumnType::Integer => write!(buffer, "{}", value.longs()?.at(row)).unwrap_or(()),
                ColumnType::Float => buffer.push_str(floats.format(value.floats()?.at(row))),
                ColumnType::Timestamp => {
                    let micros = value.longs()?.at(row);
                    match instant(micros) {
                        Some(at) => buffer.push_str(&rfc3339(at)),
                        // Beyond the years RFC 3339 can write.
                        None => write!(buffer, "{micros}us").unwrap_or(()),
                    }
                }
                ColumnType::Text => buffer.push_str(value.texts()?.at(row)),
            }
        }
        builder.end();
    }
    Ok(Value::Text(builder.finish(nulls)?))
}

fn texts<T: Default>(
    value: &Value,
    to: ColumnType,
    lenient: bool,
    cx: &Context<'_>,
    read: impl Fn(&str) -> Option<T>,
) -> Result<(Vec<T>, Option<NullBuffer>), EvalError> {
    let texts = value.texts()?;
    let describe = |row| format!("cannot cast {} to {to}", shortened(texts.at(row)));
    Ok(rows(value.nulls().cloned(), lenient, cx, |row| read(texts.at(row)), describe))
}

/// Row by row, skipping nulls.
fn rows<T: Default>(
    nulls: Option<NullBuffer>,
    lenient: bool,
    cx: &Context<'_>,
    read: impl Fn(usize) -> Option<T>,
    describe: impl Fn(usize) -> String,
) -> (Vec<T>, Option<NullBuffer>) {
    let mut values = Vec::with_capacity(cx.len);
    let mut failed = Vec::new();
    for row in 0..cx.len {
        let valid = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let value = if valid { read(row) } else { Some(T::default()) };
        values.push(value.unwrap_or_else(|| {
            failed.push(row);
            T::default()
        }));
    }
    if failed.is_empty() {
        return (values, nulls);
    }
    let mut valid = vec![true; cx.len];
    for row in failed {
        if let Some(valid) = valid.get_mut(row) {
            *valid = false;
        }
        if !lenient {
            cx.fail(row, || describe(row));
        }
    }
    (values, NullBuffer::union(nulls.as_ref(), Some(&NullBuffer::from(valid))))
}

/// Digits, point and exponent; no names such as `inf`, and nothing too large for a float.
fn parse_float(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|value: &f64| plain && value.is_finite())
}

fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// The nearest integer, halves to the even one, as in PostgreSQL.
fn round_to_integer(x: f64) -> Option<i64> {
    // 2^63 is a float and no integer; everything below it that is a float is.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let rounded = x.round_ties_even();
    (-LIMIT..LIMIT).contains(&rounded).then_some(rounded as i64)
}

fn float_text(x: f64) -> String {
    zmij::Buffer::new().format(x).to_owned()
}
