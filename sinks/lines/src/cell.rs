//! One cell: as a value, and in a column.

use std::borrow::Cow;
use std::sync::Arc;

use pipeline_contract::arrow::array::ArrayRef;
use pipeline_contract::arrow::array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use pipeline_contract::arrow::array::{Array, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use pipeline_contract::{ColumnType, StageError};

/// The value of a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// Microseconds since 1970.
    Time(i64),
}

impl<'a> Cell<'a> {
    /// The cell of a column of the type `ty`.
    pub(crate) fn of(column: &'a ArrayRef, ty: ColumnType, row: usize) -> Self {
        if column.is_null(row) {
            return Self::Null;
        }
        match ty {
            ColumnType::Boolean => Self::Bool(column.as_boolean().value(row)),
            ColumnType::Integer => Self::Int(column.as_primitive::<Int64Type>().value(row)),
            ColumnType::Float => Self::Float(column.as_primitive::<Float64Type>().value(row)),
            ColumnType::Text => Self::Text(Cow::Borrowed(column.as_string::<i32>().value(row))),
            ColumnType::Timestamp => Self::Time(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        }
    }

    /// Bytes that are the same for the same value, and tell where they end.
    pub(crate) fn sign(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u8, bytes: &[u8]| {
            out.push(kind);
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Null => put(0, &[]),
            Self::Bool(b) => put(1, &[u8::from(*b)]),
            Self::Int(n) => put(2, &n.to_le_bytes()),
            Self::Float(f) => put(3, &f.to_bits().to_le_bytes()),
            Self::Text(text) => {
                put(4, &(text.len() as u64).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Self::Time(micros) => put(5, &micros.to_le_bytes()),
        }
    }

    /// The cell for messages.
    pub(crate) fn show(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(b) => b.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Float(f) => f.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::Time(micros) => pipeline_contract::instant(*micros).map_or_else(|| format!("{micros} us"), pipeline_contract::rfc3339),
        }
    }
}

/// A column about to be written.
#[derive(Clone, Copy)]
pub enum Column<'a> {
    /// True or false.
    Bool(&'a BooleanArray),
    /// Whole numbers.
    Int(&'a Int64Array),
    /// Numbers.
    Float(&'a Float64Array),
    /// Texts.
    Text(&'a StringArray),
    /// Microseconds since 1970.
    Time(&'a TimestampMicrosecondArray),
}

impl<'a> Column<'a> {
    pub(crate) fn of(column: &'a ArrayRef, ty: ColumnType) -> Self {
        match ty {
            ColumnType::Boolean => Self::Bool(column.as_boolean()),
            ColumnType::Integer => Self::Int(column.as_primitive()),
            ColumnType::Float => Self::Float(column.as_primitive()),
            ColumnType::Text => Self::Text(column.as_string()),
            ColumnType::Timestamp => Self::Time(column.as_primitive()),
        }
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Bool(column) => *column,
            Self::Int(column) => *column,
            Self::Float(column) => *column,
            Self::Text(column) => *column,
            Self::Time(column) => *column,
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.array().len()
    }

    /// Is any cell null?
    pub fn has_nulls(&self) -> bool {
        self.array().null_count() > 0
    }

    /// Is the cell null?
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(column) => column.is_null(row),
            Self::Int(column) => column.is_null(row),
            Self::Float(column) => column.is_null(row),
            Self::Text(column) => column.is_null(row),
            Self::Time(column) => column.is_null(row),
        }
    }
}

/// As much of a text as a message has room for.
pub fn short(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// A column being read.
pub(crate) enum Builder {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Time(TimestampMicrosecondBuilder),
}

impl Builder {
    pub(crate) fn new(ty: ColumnType) -> Self {
        match ty {
            ColumnType::Boolean => Self::Bool(BooleanBuilder::new()),
            ColumnType::Integer => Self::Int(Int64Builder::new()),
            ColumnType::Float => Self::Float(Float64Builder::new()),
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Timestamp => Self::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        }
    }

    pub(crate) fn push(&mut self, cell: &Cell<'_>) -> Result<(), StageError> {
        match (self, cell) {
            (Self::Bool(b), Cell::Bool(v)) => b.append_value(*v),
            (Self::Int(b), Cell::Int(v)) => b.append_value(*v),
            (Self::Float(b), Cell::Float(v)) => b.append_value(*v),
            (Self::Text(b), Cell::Text(v)) => b.append_value(v),
            (Self::Time(b), Cell::Time(v)) => b.append_value(*v),
            (Self::Bool(b), Cell::Null) => b.append_null(),
            (Self::Int(b), Cell::Null) => b.append_null(),
            (Self::Float(b), Cell::Null) => b.append_null(),
            (Self::Text(b), Cell::Null) => b.append_null(),
            (Self::Time(b), Cell::Null) => b.append_null(),
            _ => return Err(StageError::developer("a cell of another type than its column")),
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Int(b) => Arc::new(b.finish()),
            Self::Float(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
        }
    }
}
