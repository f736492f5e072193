//! Evaluation: one pass over whole columns per node.
//!
//! Branches that are not taken are computed all the same, since that is faster than to pick rows; only a cast that may fail must not
//! be tried where it is not needed. So a [`Context`] has the set of rows that matter, and nothing else looks at it.

mod cast;
mod choose;
mod compare;
mod like;
mod logic;
mod number;
mod text;
mod time;
mod value;

use std::cell::RefCell;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use pipeline_contract::ColumnType;

pub(crate) use like::Like;

use crate::error::EvalError;
use crate::functions::Function;
use crate::node::{Kind, Node, Scalar};
use value::{Column, Value};

/// The rows whose value could not be cast.
pub(crate) struct Faults {
    all: bool,
    list: Vec<EvalError>,
}

impl Faults {
    /// Keeps the fault of the first row.
    pub(crate) fn first() -> Self {
        Self { all: false, list: Vec::new() }
    }

    /// Keeps the faults of every row.
    pub(crate) fn all() -> Self {
        Self { all: true, list: Vec::new() }
    }

    fn add(&mut self, row: usize, message: impl FnOnce() -> String) {
        let fault = |message| EvalError { row: Some(row), message };
        match self.list.first_mut() {
            Some(first) if !self.all => {
                if Some(row) < first.row {
                    *first = fault(message());
                }
            }
            _ => self.list.push(fault(message())),
        }
    }

    /// One for each row, in row order.
    pub(crate) fn into_vec(mut self) -> Vec<EvalError> {
        self.list.sort_by_key(|fault| fault.row);
        self.list.dedup_by_key(|fault| fault.row);
        self.list
    }
}

/// What a node is evaluated with.
#[derive(Clone, Copy)]
struct Context<'a> {
    columns: &'a [Value],
    len: usize,
    /// The rows whose value is looked at; `None` for all.
    active: Option<&'a BooleanBuffer>,
    faults: &'a RefCell<Faults>,
}

impl<'a> Context<'a> {
    /// The same, for a node whose value matters only in `rows`. Costs nothing unless the node can fail.
    fn only<R>(&self, node: &Node, rows: impl FnOnce() -> BooleanBuffer, go: impl FnOnce(&Context<'_>) -> R) -> R {
        if !node.fallible {
            return go(self);
        }
        let rows = match self.active {
            Some(active) => active & &rows(),
            None => rows(),
        };
        go(&Context { active: Some(&rows), ..*self })
    }

    fn fail(&self, row: usize, message: impl FnOnce() -> String) {
        if self.active.is_none_or(|active| active.value(row)) {
            self.faults.borrow_mut().add(row, message);
        }
    }
}

/// A batch's column as the evaluator takes it.
pub(crate) fn column(batch: &RecordBatch, name: &str) -> Result<Value, EvalError> {
    match batch.column_by_name(name) {
        Some(array) => Value::of(array)
            .ok_or_else(|| EvalError::batch(format!("column `{name}` of the batch has type {}, which expressions do not know", array.data_type()))),
        None => Err(EvalError::batch(format!("the batch has no column `{name}`"))),
    }
}

/// The value of the tree for each of `len` rows.
pub(crate) fn run(root: &Node, columns: Vec<Value>, len: usize, faults: &mut Faults) -> Result<ArrayRef, EvalError> {
    let cell = RefCell::new(std::mem::replace(faults, Faults::first()));
    let result = eval(root, &Context { columns: &columns, len, active: None, faults: &cell });
    *faults = cell.into_inner();
    result?.into_array(root.ty, len)
}

/// The value of a tree without columns.
pub(crate) fn constant(node: &Node) -> Result<Scalar, EvalError> {
    let cell = RefCell::new(Faults::first());
    let value = eval(node, &Context { columns: &[], len: 1, active: None, faults: &cell })?;
    match cell.into_inner().into_vec().into_iter().next() {
        Some(fault) => Err(fault),
        None => value.scalar(0),
    }
}

/// The array with these rows made null.
pub(crate) fn null_at(array: &ArrayRef, rows: &[usize]) -> Result<ArrayRef, EvalError> {
    let mut valid = vec![true; array.len()];
    for row in rows {
        if let Some(valid) = valid.get_mut(*row) {
            *valid = false;
        }
    }
    let nulls = NullBuffer::union(array.nulls(), Some(&NullBuffer::from(valid)));
    let data = array.to_data().into_builder().nulls(nulls).build();
    data.map(arrow_array::make_array).map_err(|error| EvalError::internal(&error.to_string()))
}

/// Only this and what it calls for the four lazy kinds recurse, so it holds little on the stack: [`apply`] holds much, but is a leaf.
fn eval(node: &Node, cx: &Context<'_>) -> Result<Value, EvalError> {
    match &node.kind {
        Kind::Column { index, .. } => match cx.columns.get(*index) {
            Some(column) if column.fits(node.ty) => Ok(column.clone()),
            Some(_) => Err(EvalError::batch(format!("a column of the batch is not {}, as the expression was compiled for", node.ty))),
            None => Err(EvalError::internal("a column without a place")),
        },
        Kind::Literal(scalar) => Ok(Value::Constant(scalar.clone())),
        Kind::And(parts) => logic::and(parts, cx),
        Kind::Or(parts) => logic::or(parts, cx),
        Kind::Case { operand, branches, otherwise } => choose::case(operand.as_deref(), branches, otherwise.as_deref(), node.ty, cx),
        Kind::Coalesce(parts) => choose::coalesce(parts, node.ty, cx),
        kind => {
            let mut values = Vec::new();
            for child in kind.children() {
                values.push(eval(child, cx)?);
            }
            apply(node, &values, cx)
        }
    }
}

/// The value of a node whose children's values are all needed, and there.
fn apply(node: &Node, values: &[Value], cx: &Context<'_>) -> Result<Value, EvalError> {
    let len = cx.len;
    match (&node.kind, values) {
        (Kind::ToFloat(_), [value]) => number::to_float(value, len),
        (Kind::Compare { op, .. }, [left, right]) => compare::compare(*op, left, right, len),
        (Kind::Distinct { negated, .. }, [left, right]) => compare::distinct(left, right, *negated, len),
        (Kind::Between { negated, .. }, [value, low, high]) => compare::between(value, low, high, *negated, len),
        (Kind::In { members, has_null, negated, .. }, [value, others @ ..]) => {
            compare::in_list(value, members.as_ref(), others, *has_null, *negated, len)
        }
        (Kind::Like { like, negated, .. }, [value, pattern]) => like::eval(value, pattern, like, *negated, len),
        (Kind::Matches { regex, .. }, [value]) => text::test(value, len, |text| regex.is_match(text)),
        (Kind::Not(_), [value]) => logic::not(value, len),
        (Kind::Is { test, negated, .. }, [value]) => logic::is(value, *test, *negated, len),
        (Kind::Arithmetic { op, .. }, [left, right]) => number::arithmetic(*op, node.ty, left, right, len),
        (Kind::Negate(_), [value]) => number::negate(value, node.ty, len),
        (Kind::Shift { months, micros, .. }, [value]) => time::shift(value, *months, *micros, len),
        (Kind::Concat(_), parts) => text::concat(parts, true, len),
        (Kind::NullIf(..), [left, right]) => choose::null_if(left, right, node.ty, len),
        (Kind::Extreme { greatest, .. }, arguments) => choose::extreme(*greatest, arguments, node.ty, len),
        (Kind::Cast { value, lenient }, [of]) => cast::cast(of, value.ty, node.ty, *lenient, cx),
        (Kind::Call(function, _), arguments) => call(*function, node.ty, arguments, cx),
        _ => Err(EvalError::internal("a node with other children than its kind has")),
    }
}

fn call(function: Function, ty: ColumnType, values: &[Value], cx: &Context<'_>) -> Result<Value, EvalError> {
    use Function as F;
    if function.is_strict() && values.iter().any(Value::is_null) {
        return Ok(Value::Constant(Scalar::Null));
    }
    match function {
        F::Concat => text::concat(values, false, cx.len),
        F::ToTimestamp => match values {
            [value] => cast::cast(value, ColumnType::Text, ColumnType::Timestamp, false, cx),
            _ => Err(EvalError::internal("to_timestamp")),
        },
        F::Abs | F::Round | F::Floor | F::Ceil | F::Sign | F::Sqrt | F::Ln | F::Log10 | F::Exp | F::Power | F::IsFinite | F::IsNan => {
            number::call(function, ty, values, cx.len)
        }
        F::Lower
        | F::Upper
        | F::Trim
        | F::TrimStart
        | F::TrimEnd
        | F::Length
        | F::Substr
        | F::Replace
        | F::StartsWith
        | F::EndsWith
        | F::Contains
        | F::SplitPart => text::call(function, values, cx.len),
        F::Year
        | F::Month
        | F::Day
        | F::Hour
        | F::Minute
        | F::Second
        | F::DayOfWeek
        | F::DateTrunc(_)
        | F::SecondsBetween
        | F::FromUnix
        | F::FromUnixMs
        | F::Unix
        | F::UnixMs => time::call(function, values, cx.len),
    }
}

/// A text shortened for a message.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("'{}...'", text.get(..end).unwrap_or_default()),
        None => format!("'{text}'"),
    }
}

/// A shared text.
fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// A column of numbers.
fn column_of<T>(values: Vec<T>, nulls: Option<NullBuffer>) -> Column<T>
where
    T: arrow_buffer::ArrowNativeType,
{
    Column { values: values.into(), nulls }
}
