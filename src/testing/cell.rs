//! Cells of a test: read from the pipeline file or out of a batch, compared, shown.

use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use pipeline_contract::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatchOptions, StringArray, TimestampMicrosecondArray};
use pipeline_contract::arrow::{Array, RecordBatch, SchemaRef};
use pipeline_contract::{ColumnType, StageError};
use serde_json::Value;

use crate::stages::values::{float, read_timestamp, timestamp};

/// One cell.
#[derive(Clone, Debug)]
pub enum Cell {
    /// An empty one.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// An instant: microseconds since 1970.
    Timestamp(i64),
}

/// Floats are the same when their values are; NaN is NaN.
impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) | (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b || a.is_nan() && b.is_nan(),
            (Self::Text(a), Self::Text(b)) => a == b,
            _ => false,
        }
    }
}

impl Cell {
    /// A cell of a batch.
    pub(super) fn of(column: &dyn Array, row: usize) -> Self {
        if column.is_null(row) {
            return Self::Null;
        }
        match ColumnType::of(column.data_type()) {
            Some(ColumnType::Boolean) => Self::Boolean(column.as_boolean().value(row)),
            Some(ColumnType::Integer) => Self::Integer(column.as_primitive::<Int64Type>().value(row)),
            Some(ColumnType::Float) => Self::Float(column.as_primitive::<Float64Type>().value(row)),
            Some(ColumnType::Text) => Self::Text(column.as_string::<i32>().value(row).to_owned()),
            Some(ColumnType::Timestamp) => Self::Timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row)),
            None => Self::Null,
        }
    }

    /// Is it the same as a value of a rejected row, which has no types but JSON's?
    pub(super) fn is_json(&self, value: &Value) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "the other side is a float: it has no more digits")]
        match (self, value) {
            (Self::Null, Value::Null) => true,
            (Self::Boolean(a), Value::Bool(b)) => a == b,
            (Self::Integer(a), Value::Number(b)) => b.as_i64().map_or_else(|| b.as_f64() == Some(*a as f64), |b| b == *a),
            (Self::Float(a), Value::Number(b)) => b.as_f64() == Some(*a),
            // Numbers that JSON lacks are null there.
            (Self::Float(a), Value::Null) => !a.is_finite(),
            (Self::Text(a), Value::String(b)) => a == b || read_timestamp(a).is_some_and(|a| read_timestamp(b) == Some(a)),
            (Self::Timestamp(a), Value::String(b)) => read_timestamp(b) == Some(*a),
            _ => false,
        }
    }

    /// As it is shown, and as a pipeline file may have it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => "[]".to_owned(),
            Self::Boolean(b) => b.to_string(),
            Self::Integer(n) => n.to_string(),
            Self::Float(x) => float(*x),
            Self::Text(text) => format!("{text:?}"),
            Self::Timestamp(at) => timestamp(*at),
        }
    }
}

/// Rows of a schema as a batch. Each row has a cell for each column.
///
/// # Errors
/// When a row lacks what the schema promises, which the plan has looked at.
pub(crate) fn batch(schema: &SchemaRef, rows: &[Vec<Cell>]) -> Result<RecordBatch, StageError> {
    let columns = schema.fields().iter().enumerate().map(|(place, field)| {
        let cells = rows.iter().map(move |row| row.get(place));
        let column: ArrayRef = match ColumnType::of(field.data_type()) {
            Some(ColumnType::Boolean) => std::sync::Arc::new(
                cells
                    .map(|cell| match cell {
                        Some(Cell::Boolean(b)) => Some(*b),
                        _ => None,
                    })
                    .collect::<BooleanArray>(),
            ),
            Some(ColumnType::Integer) => std::sync::Arc::new(
                cells
                    .map(|cell| match cell {
                        Some(Cell::Integer(n)) => Some(*n),
                        _ => None,
                    })
                    .collect::<Int64Array>(),
            ),
            Some(ColumnType::Float) => std::sync::Arc::new(
                cells
                    .map(|cell| match cell {
                        Some(Cell::Float(x)) => Some(*x),
                        _ => None,
                    })
                    .collect::<Float64Array>(),
            ),
            Some(ColumnType::Timestamp) => std::sync::Arc::new(
                cells
                    .map(|cell| match cell {
                        Some(Cell::Timestamp(at)) => Some(*at),
                        _ => None,
                    })
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
            _ => std::sync::Arc::new(
                cells
                    .map(|cell| match cell {
                        Some(Cell::Text(text)) => Some(text.as_str()),
                        _ => None,
                    })
                    .collect::<StringArray>(),
            ),
        };
        column
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.clone(), columns.collect(), &options)
        .map_err(|error| StageError::developer(format!("the rows of a test are no rows of the source: {error}")))
}
