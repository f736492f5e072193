//! Columns that grow cell by cell, and from which the last row can be taken back.

use std::sync::Arc;

use pipeline_contract::StageError;
use pipeline_contract::arrow::ArrayRef;
use pipeline_contract::arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use pipeline_contract::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use crate::config::Type;

/// The cells of one column.
#[derive(Debug)]
pub(crate) struct Cells {
    values: Values,
    /// Which are not null; empty as long as none is.
    valid: Vec<bool>,
}

#[derive(Debug)]
enum Values {
    Boolean(Vec<bool>),
    /// Integers, and instants in microseconds.
    Integer(Vec<i64>),
    Float(Vec<f64>),
    Text {
        ends: Vec<i32>,
        bytes: Vec<u8>,
    },
}

impl Cells {
    pub(crate) fn new(ty: &Type) -> Self {
        let values = match ty {
            Type::Boolean => Values::Boolean(Vec::new()),
            Type::Integer | Type::Timestamp(_) => Values::Integer(Vec::new()),
            Type::Float => Values::Float(Vec::new()),
            Type::Text => Values::Text { ends: vec![0], bytes: Vec::new() },
        };
        Self { values, valid: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(values) => values.len(),
            Values::Integer(values) => values.len(),
            Values::Float(values) => values.len(),
            Values::Text { ends, .. } => ends.len() - 1,
        }
    }

    #[inline]
    fn is_valid(&mut self) {
        if !self.valid.is_empty() {
            self.valid.push(true);
        }
    }

    /// Adds a cell. Of another kind than the column's it is not added: whoever calls knows the type.
    #[inline]
    pub(crate) fn boolean(&mut self, value: bool) {
        if let Values::Boolean(values) = &mut self.values {
            values.push(value);
            self.is_valid();
        }
    }

    #[inline]
    pub(crate) fn integer(&mut self, value: i64) {
        if let Values::Integer(values) = &mut self.values {
            values.push(value);
            self.is_valid();
        }
    }

    #[inline]
    pub(crate) fn float(&mut self, value: f64) {
        if let Values::Float(values) = &mut self.values {
            values.push(value);
            self.is_valid();
        }
    }

    /// Adds a text, which is UTF-8.
    #[inline]
    pub(crate) fn text(&mut self, text: &[u8]) {
        if let Values::Text { ends, bytes } = &mut self.values {
            pipeline_files::text::append(text, bytes);
            ends.push(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            self.is_valid();
        }
    }

    pub(crate) fn null(&mut self) {
        if self.valid.is_empty() {
            self.valid = vec![true; self.len()];
        }
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Integer(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Text { ends, bytes } => ends.push(i32::try_from(bytes.len()).unwrap_or(i32::MAX)),
        }
        self.valid.push(false);
    }

    /// Takes back what is behind `rows` cells.
    pub(crate) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Integer(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Text { ends, bytes } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or_default());
            }
        }
        self.valid.truncate(rows);
    }

    /// The column, and an empty one in its place.
    pub(crate) fn finish(&mut self, ty: &Type) -> Result<ArrayRef, StageError> {
        let valid = std::mem::take(&mut self.valid);
        let nulls = (!valid.is_empty()).then(|| NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
        // The next batch is as large as this one.
        fn take<T>(values: &mut Vec<T>) -> Vec<T> {
            let next = Vec::with_capacity(values.len());
            std::mem::replace(values, next)
        }
        Ok(match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(take(values)), nulls)),
            Values::Integer(values) if matches!(ty, Type::Timestamp(_)) => {
                Arc::new(TimestampMicrosecondArray::new(ScalarBuffer::from(take(values)), nulls).with_timezone("UTC"))
            }
            Values::Integer(values) => Arc::new(Int64Array::new(ScalarBuffer::from(take(values)), nulls)),
            Values::Float(values) => Arc::new(Float64Array::new(ScalarBuffer::from(take(values)), nulls)),
            Values::Text { ends, bytes } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(take(ends)));
                ends.push(0);
                let text = StringArray::try_new(offsets, Buffer::from_vec(take(bytes)), nulls);
                Arc::new(text.map_err(|error| StageError::developer(format!("texts that were read do not make a column: {error}")))?)
            }
        })
    }
}
