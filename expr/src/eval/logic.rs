//! AND, OR, NOT and IS over packed bits, with SQL's third value: null is "unknown".

use arrow_buffer::{BooleanBuffer, NullBuffer};

use super::value::Value;
use super::{Context, eval};
use crate::error::EvalError;
use crate::node::{Node, Scalar, Test};

/// The rows that are true, and the rows that are false.
struct Truth {
    yes: BooleanBuffer,
    no: BooleanBuffer,
}

impl Truth {
    fn of(value: &Value, len: usize) -> Result<Self, EvalError> {
        let bits = value.bits(len)?;
        if value.nulls().is_none() && !value.is_null() {
            return Ok(Self { no: !&bits, yes: bits });
        }
        let valid = value.valid(len);
        Ok(Self { yes: &bits & &valid, no: &!&bits & &valid })
    }

    fn into_value(self) -> Value {
        let known = &self.yes | &self.no;
        Value::booleans(self.yes, Some(NullBuffer::new(known)).filter(|nulls| nulls.null_count() > 0))
    }
}

/// The rows that are true, not false and not unknown.
pub(super) fn is_true(value: &Value, len: usize) -> Result<BooleanBuffer, EvalError> {
    let bits = value.bits(len)?;
    Ok(match value.nulls() {
        Some(nulls) => &bits & nulls.inner(),
        None => bits,
    })
}

fn has_nulls(value: &Value) -> bool {
    value.is_null() || value.nulls().is_some()
}

pub(super) fn and_values(a: &Value, b: &Value, len: usize) -> Result<Value, EvalError> {
    if !has_nulls(a) && !has_nulls(b) {
        return Ok(Value::booleans(&a.bits(len)? & &b.bits(len)?, None));
    }
    let (a, b) = (Truth::of(a, len)?, Truth::of(b, len)?);
    Ok(Truth { yes: &a.yes & &b.yes, no: &a.no | &b.no }.into_value())
}

pub(super) fn or_values(a: &Value, b: &Value, len: usize) -> Result<Value, EvalError> {
    if !has_nulls(a) && !has_nulls(b) {
        return Ok(Value::booleans(&a.bits(len)? | &b.bits(len)?, None));
    }
    let (a, b) = (Truth::of(a, len)?, Truth::of(b, len)?);
    Ok(Truth { yes: &a.yes | &b.yes, no: &a.no & &b.no }.into_value())
}

/// A part that can fail is tried only where the parts before it are not false.
pub(super) fn and(parts: &[Node], cx: &Context<'_>) -> Result<Value, EvalError> {
    let mut result = Value::Constant(Scalar::Boolean(true));
    for part in parts {
        let open = if part.fallible { !&Truth::of(&result, cx.len)?.no } else { BooleanBuffer::new_unset(0) };
        let value = cx.only(part, || open, |cx| eval(part, cx))?;
        result = and_values(&result, &value, cx.len)?;
    }
    Ok(result)
}

/// A part that can fail is tried only where the parts before it are not true.
pub(super) fn or(parts: &[Node], cx: &Context<'_>) -> Result<Value, EvalError> {
    let mut result = Value::Constant(Scalar::Boolean(false));
    for part in parts {
        let open = if part.fallible { !&is_true(&result, cx.len)? } else { BooleanBuffer::new_unset(0) };
        let value = cx.only(part, || open, |cx| eval(part, cx))?;
        result = or_values(&result, &value, cx.len)?;
    }
    Ok(result)
}

pub(super) fn not(value: &Value, len: usize) -> Result<Value, EvalError> {
    if value.is_null() {
        return Ok(Value::Constant(Scalar::Null));
    }
    Ok(Value::booleans(!&value.bits(len)?, value.nulls().cloned()))
}

/// IS NULL, IS TRUE, IS FALSE: never null.
pub(super) fn is(value: &Value, test: Test, negated: bool, len: usize) -> Result<Value, EvalError> {
    let bits = match test {
        Test::Null => !&value.valid(len),
        Test::True => Truth::of(value, len)?.yes,
        Test::False => Truth::of(value, len)?.no,
    };
    Ok(Value::booleans(if negated { !&bits } else { bits }, None))
}
