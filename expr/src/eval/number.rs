//! Arithmetic and the functions of numbers. What does not fit an integer is null; floats follow IEEE 754.

use arrow_buffer::NullBuffer;
use pipeline_contract::ColumnType;

use super::column_of;
use super::value::{Numbers, Value, map, nulls_of, test, zip};
use crate::error::EvalError;
use crate::functions::Function;
use crate::node::{Arithmetic, Scalar};

pub(super) fn to_float(value: &Value, len: usize) -> Result<Value, EvalError> {
    if value.is_null() {
        return Ok(Value::Constant(Scalar::Null));
    }
    Ok(Value::Float(column_of(map(len, value.longs()?, |x| x as f64), value.nulls().cloned())))
}

pub(super) fn arithmetic(op: Arithmetic, ty: ColumnType, left: &Value, right: &Value, len: usize) -> Result<Value, EvalError> {
    if left.is_null() || right.is_null() {
        return Ok(Value::Constant(Scalar::Null));
    }
    let nulls = nulls_of([left, right]);
    if ty == ColumnType::Float {
        let (a, b) = (left.floats()?, right.floats()?);
        let values = match op {
            Arithmetic::Add => zip(len, a, b, |x, y| x + y),
            Arithmetic::Subtract => zip(len, a, b, |x, y| x - y),
            Arithmetic::Multiply => zip(len, a, b, |x, y| x * y),
            Arithmetic::Divide => zip(len, a, b, |x, y| x / y),
            Arithmetic::Remainder => zip(len, a, b, |x, y| x % y),
        };
        return Ok(Value::Float(column_of(values, nulls)));
    }
    let (a, b) = (left.longs()?, right.longs()?);
    Ok(match op {
        Arithmetic::Add => checked(a, b, nulls, len, i64::overflowing_add),
        Arithmetic::Subtract => checked(a, b, nulls, len, i64::overflowing_sub),
        Arithmetic::Multiply => checked(a, b, nulls, len, i64::overflowing_mul),
        // Integers divide as floats, so this is the remainder; that of the smallest integer by -1 is 0, though Rust has it overflow.
        Arithmetic::Divide | Arithmetic::Remainder => checked(a, b, nulls, len, |x, y| if y == 0 { (0, true) } else { (x.wrapping_rem(y), false) }),
    })
}

/// An operation on integers that says whether it failed. Failures are rare: they are looked for a second time only when there is one.
fn checked(a: Numbers<'_, i64>, b: Numbers<'_, i64>, nulls: Option<NullBuffer>, len: usize, f: impl Fn(i64, i64) -> (i64, bool)) -> Value {
    let mut failed = false;
    let values = zip(len, a, b, |x, y| {
        let (value, bad) = f(x, y);
        failed |= bad;
        value
    });
    if !failed {
        return Value::Long(column_of(values, nulls));
    }
    let fine = NullBuffer::from(zip(len, a, b, |x, y| !f(x, y).1));
    Value::Long(column_of(values, NullBuffer::union(nulls.as_ref(), Some(&fine))))
}

pub(super) fn negate(value: &Value, ty: ColumnType, len: usize) -> Result<Value, EvalError> {
    if value.is_null() {
        return Ok(Value::Constant(Scalar::Null));
    }
    let nulls = value.nulls().cloned();
    Ok(match ty {
        ColumnType::Float => Value::Float(column_of(map(len, value.floats()?, |x| -x), nulls)),
        _ => checked(Numbers::One(0), value.longs()?, nulls, len, i64::overflowing_sub),
    })
}

/// The functions of numbers; no argument is the constant NULL.
pub(super) fn call(function: Function, ty: ColumnType, values: &[Value], len: usize) -> Result<Value, EvalError> {
    use Function as F;
    let nulls = nulls_of(values);
    let [first, rest @ ..] = values else { return Err(EvalError::internal("a function without arguments")) };
    match function {
        F::IsFinite => return Ok(Value::booleans(test(len, first.floats()?, f64::is_finite), nulls)),
        F::IsNan => return Ok(Value::booleans(test(len, first.floats()?, f64::is_nan), nulls)),
        _ => {}
    }
    if ty == ColumnType::Integer {
        let x = first.longs()?;
        return Ok(match (function, rest) {
            (F::Floor | F::Ceil, _) | (F::Round, []) => Value::Long(column_of(map(len, x, |x| x), nulls)),
            (F::Sign, _) => Value::Long(column_of(map(len, x, i64::signum), nulls)),
            (F::Abs, _) => checked(x, x, nulls, len, |x, _| x.overflowing_abs()),
            (F::Round, [digits, ..]) => {
                checked(x, digits.longs()?, nulls, len, |x, digits| round_integer(x, digits).map_or((0, true), |value| (value, false)))
            }
            _ => return Err(EvalError::internal("not a function of integers")),
        });
    }
    let x = first.floats()?;
    let result = match (function, rest) {
        (F::Abs, _) => map(len, x, f64::abs),
        (F::Floor, _) => map(len, x, f64::floor),
        (F::Ceil, _) => map(len, x, f64::ceil),
        (F::Round, []) => map(len, x, f64::round),
        (F::Round, [digits, ..]) => {
            let digits = digits.longs()?;
            (0..len).map(|row| round_float(x.at(row), digits.at(row))).collect()
        }
        (F::Sign, _) => map(len, x, |x| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        }),
        (F::Sqrt, _) => map(len, x, f64::sqrt),
        (F::Ln, _) => map(len, x, f64::ln),
        (F::Log10, _) => map(len, x, f64::log10),
        (F::Exp, _) => map(len, x, f64::exp),
        (F::Power, [exponent, ..]) => zip(len, x, exponent.floats()?, f64::powf),
        _ => return Err(EvalError::internal("not a function of floats")),
    };
    Ok(Value::Float(column_of(result, nulls)))
}

/// To so many decimals, halves away from zero.
fn round_float(x: f64, digits: i64) -> f64 {
    // A float has no more than 308 digits before the point, and beyond 17 after the first one it cannot hold a change.
    let digits = i32::try_from(digits.clamp(-400, 400)).unwrap_or(0);
    if digits < 0 {
        let scale = 10_f64.powi(-digits);
        return if scale.is_finite() && x.is_finite() {
            (x / scale).round() * scale
        } else if x.is_finite() {
            0.0
        } else {
            x
        };
    }
    let scale = 10_f64.powi(digits);
    let scaled = x * scale;
    if scaled.is_finite() { scaled.round() / scale } else { x }
}

/// To tens, hundreds, ... for digits below zero, halves away from zero; `None` when the result does not fit.
fn round_integer(x: i64, digits: i64) -> Option<i64> {
    if digits >= 0 {
        return Some(x);
    }
    let Some(scale) = u32::try_from(digits.unsigned_abs()).ok().and_then(|zeros| 10_i128.checked_pow(zeros)) else { return Some(0) };
    let wide = i128::from(x);
    let half = scale / 2 * wide.signum();
    i64::try_from((wide + half) / scale * scale).ok()
}
