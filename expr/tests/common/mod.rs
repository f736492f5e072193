//! One small batch, and results as text.
#![allow(dead_code, reason = "each test target uses a part")]

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::SchemaRef;
use pipeline_contract::{ColumnType, instant, rfc3339, schema};
use pipeline_expr::{EvalError, Expr, ExprError};

pub(crate) fn columns() -> SchemaRef {
    schema([
        ("i", ColumnType::Integer, true),
        ("f", ColumnType::Float, true),
        ("s", ColumnType::Text, true),
        ("b", ColumnType::Boolean, true),
        ("t", ColumnType::Timestamp, true),
        ("n", ColumnType::Integer, false),
        ("price", ColumnType::Float, false),
        ("volume_24h", ColumnType::Float, false),
        ("coin id", ColumnType::Text, false),
        ("interval", ColumnType::Text, false),
        ("timestamp", ColumnType::Timestamp, false),
    ])
}

/// Four rows; the third is null wherever it may be.
pub(crate) fn batch() -> RecordBatch {
    let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
    let t = vec![Some(at("2026-01-31T23:59:58.5Z")), Some(at("1969-12-28T00:00:01Z")), None, Some(at("2024-02-29T12:30:00Z"))];
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(1), Some(-2), None, Some(i64::MAX)])),
        Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None, Some(-0.25)])),
        Arc::new(StringArray::from(vec![Some("abc"), Some("Ünï 1"), None, Some("")])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)])),
        Arc::new(TimestampMicrosecondArray::from(t).with_timezone("UTC")),
        Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
        Arc::new(Float64Array::from(vec![1.5, 2.5, 0.0, -3.5])),
        Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0, 4.0])),
        Arc::new(StringArray::from(vec!["bitcoin", "12", "3.5", "x"])),
        Arc::new(StringArray::from(vec!["1h", "1h", "1d", "1d"])),
        Arc::new(TimestampMicrosecondArray::from(vec![0, 1, 2, 3]).with_timezone("UTC")),
    ];
    RecordBatch::try_new(columns(), arrays).unwrap()
}

pub(crate) fn compile(text: &str) -> Result<Expr, Vec<ExprError>> {
    Expr::compile(text, &columns())
}

/// Each row's value as text.
pub(crate) fn show(array: &ArrayRef) -> Vec<String> {
    (0..array.len()).map(|row| cell(array, row)).collect()
}

fn cell(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "null".into();
    }
    let any = array.as_any();
    if let Some(array) = any.downcast_ref::<BooleanArray>() {
        array.value(row).to_string()
    } else if let Some(array) = any.downcast_ref::<Int64Array>() {
        array.value(row).to_string()
    } else if let Some(array) = any.downcast_ref::<Float64Array>() {
        format!("{:?}", array.value(row))
    } else if let Some(array) = any.downcast_ref::<StringArray>() {
        array.value(row).to_owned()
    } else if let Some(array) = any.downcast_ref::<TimestampMicrosecondArray>() {
        rfc3339(instant(array.value(row)).unwrap())
    } else {
        panic!("a type no expression has")
    }
}

/// The expression's value for each row of the batch. Checks what it promised of type and nulls on the way.
pub(crate) fn values(text: &str) -> Result<Vec<String>, EvalError> {
    let expr = compile(text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    let array = expr.evaluate(&batch())?;
    assert_eq!(ColumnType::of(array.data_type()), Some(expr.column_type()), "{text}");
    assert!(expr.nullable() || array.null_count() == 0, "{text} promised no nulls");
    // An offset into the buffers must change nothing.
    let sliced = expr.evaluate(&batch().slice(1, 3))?;
    assert_eq!(show(&sliced), show(&array)[1..], "{text}, sliced");
    Ok(show(&array))
}

/// The value of an expression that is the same for every row.
pub(crate) fn value(text: &str) -> String {
    values(text).unwrap_or_else(|fault| panic!("{text}: {fault}")).remove(0)
}
