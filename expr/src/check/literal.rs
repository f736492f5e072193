//! Literals: numbers, text, timestamps, intervals.

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime};
use pipeline_contract::ColumnType;
use sqlparser::ast::{self, Expr as Ast, Value, ValueWithSpan};

use super::{Checker, Type, Typed};
use crate::error::ExprError;
use crate::node::{Node, Scalar};

const TIMESTAMP_HELP: &str = "write RFC 3339 or a date: '2026-01-31T12:00:00Z', '2026-01-31'";
const INTERVAL_HELP: &str =
    "write INTERVAL '30 minutes' or INTERVAL '1' HOUR; units: microsecond, millisecond, second, minute, hour, day, week, month, year";

impl Checker<'_> {
    pub(super) fn literal(&mut self, value: &ValueWithSpan) -> Typed {
        let span = self.source.range(value.span);
        match &value.value {
            Value::Number(digits, false) => self.number(digits, span),
            Value::SingleQuotedString(text) => Typed::new(Node::literal(Scalar::Text(Arc::from(text.as_str())), ColumnType::Text), span),
            Value::Boolean(value) => Typed::new(Node::literal(Scalar::Boolean(*value), ColumnType::Boolean), span),
            Value::Null => Typed::other(Type::Null, span),
            _ => self.faulty(ExprError::new("this kind of literal is not supported", span).help("text is written in single quotes")),
        }
    }

    /// Digits with a point or an exponent are a float, others an integer.
    pub(super) fn number(&mut self, digits: &str, span: Range<usize>) -> Typed {
        if digits.contains(['.', 'e', 'E']) {
            return match digits.parse::<f64>() {
                Ok(value) if value.is_finite() => Typed::new(Node::literal(Scalar::Float(value), ColumnType::Float), span),
                _ => self.faulty(ExprError::new(format!("{digits} does not fit a float"), span)),
            };
        }
        match digits.parse::<i64>() {
            Ok(value) => Typed::new(Node::literal(Scalar::Long(value), ColumnType::Integer), span),
            Err(_) => {
                let help = format!("write a float: {digits}.0");
                self.faulty(ExprError::new(format!("{digits} does not fit an integer"), span).help(help))
            }
        }
    }

    /// `TIMESTAMP '...'` and `DATE '...'`.
    pub(super) fn typed_string(&mut self, typed: &ast::TypedString) -> Typed {
        let value = self.source.range(typed.value.span);
        let span = self.source.with_before(value.clone(), 1);
        let text = match &typed.value.value {
            Value::SingleQuotedString(text) => text,
            _ => return self.faulty(ExprError::new("this kind of literal is not supported", span)),
        };
        match typed.data_type.to_string().to_ascii_uppercase().as_str() {
            "TIMESTAMP" | "DATE" => self.timestamp(text, &value, span),
            other => {
                let help = format!("use CAST('{text}' AS {other})");
                self.faulty(ExprError::new(format!("there are no {other} literals"), span).help(help))
            }
        }
    }

    /// The timestamp that a text literal at `value` is, as a part at `span`.
    pub(super) fn timestamp(&mut self, text: &str, value: &Range<usize>, span: Range<usize>) -> Typed {
        match parse_timestamp(text) {
            Some(micros) => Typed::new(Node::literal(Scalar::Long(micros), ColumnType::Timestamp), span),
            None => self.faulty(ExprError::new(format!("{} is not a timestamp", self.source.slice(value)), value.clone()).help(TIMESTAMP_HELP)),
        }
    }

    pub(super) fn interval(&mut self, interval: &ast::Interval) -> Typed {
        let (text, value) = match &*interval.value {
            Ast::Value(ValueWithSpan { value: Value::SingleQuotedString(text) | Value::Number(text, false), span }) => {
                (text, self.source.range(*span))
            }
            _ => return self.faulty(ExprError::new("an interval needs a literal", self.source.whole()).help(INTERVAL_HELP)),
        };
        let span = self.source.with_after(self.source.with_before(value, 1), usize::from(interval.leading_field.is_some()));
        let plain = interval.last_field.is_none() && interval.leading_precision.is_none() && interval.fractional_seconds_precision.is_none();
        let unit = interval.leading_field.as_ref().map(ToString::to_string);
        match parse_interval(text, unit.as_deref()).filter(|_| plain) {
            Some((months, micros)) => Typed::other(Type::Interval { months, micros }, span),
            None => {
                let message = format!("`{}` is not an interval", self.source.slice(&span));
                self.faulty(ExprError::new(message, span).help(INTERVAL_HELP))
            }
        }
    }
}

/// The microseconds since 1970 of RFC 3339 text or of a date (its first instant, UTC). Digits below a microsecond are dropped.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    if let [_, _, _, _, b'-', _, _, b'-', _, _] = text.as_bytes() {
        let digits = |range: Range<usize>| text.get(range).filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
        let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
        let date = NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)?;
        return Some(date.and_time(NaiveTime::MIN).and_utc().timestamp_micros());
    }
    Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
}

/// Months and microseconds of `1 day 2 hours`, or of `1` with the unit given beside it.
fn parse_interval(text: &str, unit: Option<&str>) -> Option<(i64, i64)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let pairs: Vec<(&str, &str)> = match (words.as_slice(), unit) {
        ([count], Some(unit)) => vec![(count, unit)],
        (words, None) if !words.is_empty() && words.len().is_multiple_of(2) => {
            words.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect()
        }
        _ => return None,
    };
    let (mut months, mut micros) = (0_i64, 0_i64);
    for (count, unit) in pairs {
        let unit = unit.to_ascii_lowercase();
        let (length, calendar) = match unit.strip_suffix('s').unwrap_or(&unit) {
            "microsecond" => (1, false),
            "millisecond" => (1_000, false),
            "second" => (1_000_000, false),
            "minute" => (60_000_000, false),
            "hour" => (3_600_000_000, false),
            "day" => (86_400_000_000, false),
            "week" => (604_800_000_000, false),
            "month" => (1, true),
            "year" => (12, true),
            _ => return None,
        };
        let amount = match count.parse::<i64>() {
            Ok(whole) => whole.checked_mul(length)?,
            Err(_) if calendar => return None,
            Err(_) => fraction(count, length)?,
        };
        let total = if calendar { &mut months } else { &mut micros };
        *total = total.checked_add(amount)?;
    }
    Some((months, micros))
}

/// `1.5` of a unit of `length` microseconds, to the microsecond.
fn fraction(count: &str, length: i64) -> Option<i64> {
    if !count.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+')) {
        return None;
    }
    let micros = (count.parse::<f64>().ok()? * length as f64).round();
    // Beyond 2^53 the float no longer holds every microsecond.
    (micros.abs() < 9.0e15).then_some(micros as i64)
}
