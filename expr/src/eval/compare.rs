//! Comparisons. Floats compare as IEEE 754 has it: NaN is neither less than, equal to nor greater than anything.

use arrow_buffer::{BooleanBuffer, NullBuffer};

use super::logic;
use super::value::{Numbers, Texts, Value, nulls_of, test, test_two};
use crate::error::EvalError;
use crate::node::{Comparison, Members, Scalar};

pub(super) fn compare(op: Comparison, left: &Value, right: &Value, len: usize) -> Result<Value, EvalError> {
    if left.is_null() || right.is_null() {
        return Ok(Value::Constant(Scalar::Null));
    }
    Ok(Value::booleans(bits(op, left, right, len)?, nulls_of([left, right])))
}

/// The answers, arbitrary where a side is null.
fn bits(op: Comparison, left: &Value, right: &Value, len: usize) -> Result<BooleanBuffer, EvalError> {
    use Value as V;
    Ok(match (left, right) {
        (V::Float(_) | V::Constant(Scalar::Float(_)), _) => numbers(op, left.floats()?, right.floats()?, len),
        (V::Long(_) | V::Constant(Scalar::Long(_)), _) => numbers(op, left.longs()?, right.longs()?, len),
        (V::Text(_) | V::Constant(Scalar::Text(_)), _) => texts(op, left.texts()?, right.texts()?, len),
        (V::Boolean(_) | V::Constant(Scalar::Boolean(_)), _) => booleans(op, &left.bits(len)?, &right.bits(len)?),
        (V::Constant(Scalar::Null), _) => BooleanBuffer::new_unset(len),
    })
}

fn numbers<T: Copy + PartialOrd>(op: Comparison, a: Numbers<'_, T>, b: Numbers<'_, T>, len: usize) -> BooleanBuffer {
    match op {
        Comparison::Equal => test_two(len, a, b, |x, y| x == y),
        Comparison::NotEqual => test_two(len, a, b, |x, y| x != y),
        Comparison::Less => test_two(len, a, b, |x, y| x < y),
        Comparison::LessOrEqual => test_two(len, a, b, |x, y| x <= y),
        Comparison::Greater => test_two(len, a, b, |x, y| x > y),
        Comparison::GreaterOrEqual => test_two(len, a, b, |x, y| x >= y),
    }
}

fn texts(op: Comparison, a: Texts<'_>, b: Texts<'_>, len: usize) -> BooleanBuffer {
    match op {
        Comparison::Equal => BooleanBuffer::collect_bool(len, |row| a.at(row) == b.at(row)),
        Comparison::NotEqual => BooleanBuffer::collect_bool(len, |row| a.at(row) != b.at(row)),
        Comparison::Less => BooleanBuffer::collect_bool(len, |row| a.at(row) < b.at(row)),
        Comparison::LessOrEqual => BooleanBuffer::collect_bool(len, |row| a.at(row) <= b.at(row)),
        Comparison::Greater => BooleanBuffer::collect_bool(len, |row| a.at(row) > b.at(row)),
        Comparison::GreaterOrEqual => BooleanBuffer::collect_bool(len, |row| a.at(row) >= b.at(row)),
    }
}

/// False comes before true.
fn booleans(op: Comparison, a: &BooleanBuffer, b: &BooleanBuffer) -> BooleanBuffer {
    match op {
        Comparison::Equal => !&(a ^ b),
        Comparison::NotEqual => a ^ b,
        Comparison::Less => &!a & b,
        Comparison::LessOrEqual => &!a | b,
        Comparison::Greater => a & &!b,
        Comparison::GreaterOrEqual => a | &!b,
    }
}

pub(super) fn distinct(left: &Value, right: &Value, negated: bool, len: usize) -> Result<Value, EvalError> {
    let (left_valid, right_valid) = (left.valid(len), right.valid(len));
    let equal = if left.is_null() || right.is_null() { BooleanBuffer::new_unset(len) } else { bits(Comparison::Equal, left, right, len)? };
    let both_null = &!&left_valid & &!&right_valid;
    let same = &(&(&left_valid & &right_valid) & &equal) | &both_null;
    Ok(Value::booleans(if negated { same } else { !&same }, None))
}

/// `value >= low AND value <= high`, with `value` computed once.
pub(super) fn between(value: &Value, low: &Value, high: &Value, negated: bool, len: usize) -> Result<Value, EvalError> {
    let above = compare(Comparison::GreaterOrEqual, value, low, len)?;
    let below = compare(Comparison::LessOrEqual, value, high, len)?;
    let both = logic::and_values(&above, &below, len)?;
    if negated { logic::not(&both, len) } else { Ok(both) }
}

/// True when an item equals; else null when the value or an item is null; else false.
pub(super) fn in_list(
    value: &Value,
    members: Option<&Members>,
    others: &[Value],
    has_null: bool,
    negated: bool,
    len: usize,
) -> Result<Value, EvalError> {
    if value.is_null() {
        return Ok(Value::Constant(Scalar::Null));
    }
    let found = match members {
        None => BooleanBuffer::new_unset(len),
        Some(Members::Boolean { yes, no }) => {
            let bits = value.bits(len)?;
            let yes = if *yes { bits.clone() } else { BooleanBuffer::new_unset(len) };
            if *no { &yes | &!&bits } else { yes }
        }
        Some(Members::Long(list)) => among(value.longs()?, list, len),
        Some(Members::Float(list)) => among(value.floats()?, list, len),
        Some(Members::Text(set)) => {
            let texts = value.texts()?;
            BooleanBuffer::collect_bool(len, |row| set.contains(texts.at(row)))
        }
    };
    let nulls = if has_null { Some(NullBuffer::new(found.clone())) } else { None };
    let mut result = Value::booleans(found, NullBuffer::union(value.nulls(), nulls.as_ref()));
    for other in others {
        result = logic::or_values(&result, &compare(Comparison::Equal, value, other, len)?, len)?;
    }
    if negated { logic::not(&result, len) } else { Ok(result) }
}

/// Whether a number is in a sorted list.
fn among<T: Copy + PartialOrd>(numbers: Numbers<'_, T>, list: &[T], len: usize) -> BooleanBuffer {
    const FEW: usize = 8;
    if list.len() <= FEW {
        return test(len, numbers, |x| list.iter().fold(false, |found, item| found | (*item == x)));
    }
    test(len, numbers, |x| {
        let place = list.partition_point(|item| *item < x);
        list.get(place).is_some_and(|item| *item == x)
    })
}
