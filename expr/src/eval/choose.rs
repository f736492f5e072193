//! CASE, COALESCE, NULLIF, LEAST and GREATEST: for each row, one of several values.

use arrow_buffer::{BooleanBuffer, NullBuffer};
use pipeline_contract::ColumnType;

use super::value::{Numbers, TextBuilder, Value, nulls_of, zip};
use super::{Context, column_of, compare, eval, logic};
use crate::error::EvalError;
use crate::node::{Comparison, Node, Scalar};

/// For each row, which of the values it takes.
type Choice = Vec<usize>;

pub(super) fn case(
    operand: Option<&Node>,
    branches: &[(Node, Node)],
    otherwise: Option<&Node>,
    ty: ColumnType,
    cx: &Context<'_>,
) -> Result<Value, EvalError> {
    let operand = operand.map(|operand| eval(operand, cx)).transpose()?;
    let mut open = BooleanBuffer::new_set(cx.len);
    let mut values = Vec::with_capacity(branches.len() + 1);
    let mut choice: Choice = vec![branches.len(); cx.len];
    for (number, (condition, value)) in branches.iter().enumerate() {
        let condition = cx.only(condition, || open.clone(), |cx| eval(condition, cx))?;
        let condition = match &operand {
            Some(operand) => compare::compare(Comparison::Equal, operand, &condition, cx.len)?,
            None => condition,
        };
        let taken = &logic::is_true(&condition, cx.len)? & &open;
        for row in taken.set_indices() {
            if let Some(chosen) = choice.get_mut(row) {
                *chosen = number;
            }
        }
        open = &open & &!&taken;
        values.push(cx.only(value, || taken, |cx| eval(value, cx))?);
    }
    values.push(match otherwise {
        Some(value) => cx.only(value, || open, |cx| eval(value, cx))?,
        None => Value::Constant(Scalar::Null),
    });
    pick(&choice, &values, ty)
}

/// The first value that is not null.
pub(super) fn coalesce(parts: &[Node], ty: ColumnType, cx: &Context<'_>) -> Result<Value, EvalError> {
    let mut open = BooleanBuffer::new_set(cx.len);
    let mut choice: Choice = vec![0; cx.len];
    let mut values = Vec::with_capacity(parts.len());
    for (number, part) in parts.iter().enumerate() {
        let value = cx.only(part, || open.clone(), |cx| eval(part, cx))?;
        let taken = &value.valid(cx.len) & &open;
        for row in taken.set_indices() {
            if let Some(chosen) = choice.get_mut(row) {
                *chosen = number;
            }
        }
        open = &open & &!&taken;
        values.push(value);
        // What comes after a value that is never null is never taken.
        if !open.has_true() {
            break;
        }
    }
    pick(&choice, &values, ty)
}

/// The left value, null where it equals the right one.
pub(super) fn null_if(left: &Value, right: &Value, ty: ColumnType, len: usize) -> Result<Value, EvalError> {
    let equal = logic::is_true(&compare::compare(Comparison::Equal, left, right, len)?, len)?;
    let choice: Choice = equal.iter().map(usize::from).collect();
    pick(&choice, &[left.clone(), Value::Constant(Scalar::Null)], ty)
}

/// The least or greatest of the values that are not null. A NaN among them is the result: it must not vanish behind a good number.
pub(super) fn extreme(greatest: bool, values: &[Value], ty: ColumnType, len: usize) -> Result<Value, EvalError> {
    let mut values = values.iter().filter(|value| !value.is_null());
    let Some(mut best) = values.next().cloned() else { return Ok(Value::Constant(Scalar::Null)) };
    for next in values {
        best = match ty {
            ColumnType::Float => {
                let (a, b) = (best.floats()?, next.floats()?);
                let picked = if greatest {
                    zip(len, a, b, |x, y| if y > x || y.is_nan() { y } else { x })
                } else {
                    zip(len, a, b, |x, y| if y < x || y.is_nan() { y } else { x })
                };
                let (values, nulls) = pass_over_nulls(picked, a, b, &best, next, len);
                Value::Float(column_of(values, nulls))
            }
            ColumnType::Integer | ColumnType::Timestamp => {
                let (a, b) = (best.longs()?, next.longs()?);
                let picked = if greatest { zip(len, a, b, i64::max) } else { zip(len, a, b, i64::min) };
                let (values, nulls) = pass_over_nulls(picked, a, b, &best, next, len);
                Value::Long(column_of(values, nulls))
            }
            ColumnType::Boolean | ColumnType::Text => {
                let op = if greatest { Comparison::Greater } else { Comparison::Less };
                let better = logic::is_true(&compare::compare(op, next, &best, len)?, len)?;
                let missing = !&best.valid(len);
                let choice: Choice = (&better | &missing).iter().map(usize::from).collect();
                pick(&choice, &[best, next.clone()], ty)?
            }
        };
    }
    Ok(best)
}

/// Mends what was picked from two where one of them is null.
fn pass_over_nulls<T: Copy + Default>(
    mut picked: Vec<T>,
    a: Numbers<'_, T>,
    b: Numbers<'_, T>,
    left: &Value,
    right: &Value,
    len: usize,
) -> (Vec<T>, Option<NullBuffer>) {
    if left.nulls().is_none() && right.nulls().is_none() {
        return (picked, None);
    }
    let (left, right) = (left.valid(len), right.valid(len));
    for row in (&left ^ &right).set_indices() {
        if let Some(value) = picked.get_mut(row) {
            *value = if left.value(row) { a.at(row) } else { b.at(row) };
        }
    }
    (picked, Some(NullBuffer::new(&left | &right)).filter(|nulls| nulls.null_count() > 0))
}

/// The chosen value of each row.
fn pick(choice: &[usize], values: &[Value], ty: ColumnType) -> Result<Value, EvalError> {
    let len = choice.len();
    let nulls = if values.iter().any(Value::is_null) || nulls_of(values).is_some() {
        let valid: Vec<BooleanBuffer> = values.iter().map(|value| value.valid(len)).collect();
        let chosen = |row: usize| choice.get(row).and_then(|number| valid.get(*number)).is_some_and(|valid| valid.value(row));
        Some(NullBuffer::new(BooleanBuffer::collect_bool(len, chosen))).filter(|nulls| nulls.null_count() > 0)
    } else {
        None
    };
    Ok(match ty {
        ColumnType::Boolean => {
            let bits = values.iter().map(|value| value.bits(len)).collect::<Result<Vec<_>, _>>()?;
            let chosen = |row: usize| choice.get(row).and_then(|number| bits.get(*number)).is_some_and(|bits| bits.value(row));
            Value::booleans(BooleanBuffer::collect_bool(len, chosen), nulls)
        }
        ColumnType::Integer | ColumnType::Timestamp => {
            let numbers = values.iter().map(Value::longs).collect::<Result<Vec<_>, _>>()?;
            Value::Long(column_of(pick_numbers(choice, &numbers), nulls))
        }
        ColumnType::Float => {
            let numbers = values.iter().map(Value::floats).collect::<Result<Vec<_>, _>>()?;
            Value::Float(column_of(pick_numbers(choice, &numbers), nulls))
        }
        ColumnType::Text => {
            let texts = values.iter().map(Value::texts).collect::<Result<Vec<_>, _>>()?;
            let mut builder = TextBuilder::new(len);
            for (row, number) in choice.iter().enumerate() {
                let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                builder.push(texts.get(*number).filter(|_| !null).map_or("", |texts| texts.at(row)));
            }
            Value::Text(builder.finish(nulls)?)
        }
    })
}

fn pick_numbers<T: Copy + Default>(choice: &[usize], numbers: &[Numbers<'_, T>]) -> Vec<T> {
    let at = |(row, number): (usize, &usize)| numbers.get(*number).map_or_else(T::default, |numbers| numbers.at(row));
    choice.iter().enumerate().map(at).collect()
}
