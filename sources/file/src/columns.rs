//! Columns that grow cell by cell, and from which the last row can be taken back.

use std::ops::Range;
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
        self.nothing();
        self.valid.push(false);
    }

    fn nothing(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Integer(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Text { ends, bytes } => ends.push(i32::try_from(bytes.len()).unwrap_or(i32::MAX)),
        }
    }

    /// The values of a column of floats, for values to be added. Whoever does calls [`Cells::are_valid`] afterwards.
    #[inline]
    pub(crate) fn floats(&mut self) -> Option<&mut Vec<f64>> {
        if let Values::Float(values) = &mut self.values { Some(values) } else { None }
    }

    /// As [`Cells::floats`], for integers and instants.
    #[inline]
    pub(crate) fn integers(&mut self) -> Option<&mut Vec<i64>> {
        if let Values::Integer(values) = &mut self.values { Some(values) } else { None }
    }

    /// As [`Cells::floats`], for texts: where each ends, and their bytes, which are UTF-8.
    #[inline]
    pub(crate) fn texts(&mut self) -> Option<(&mut Vec<i32>, &mut Vec<u8>)> {
        if let Values::Text { ends, bytes } = &mut self.values { Some((ends, bytes)) } else { None }
    }

    /// The values that were added are not null.
    #[inline]
    pub(crate) fn are_valid(&mut self) {
        if !self.valid.is_empty() {
            self.valid.resize(self.len(), true);
        }
    }

    /// Adds a cell that is removed later.
    pub(crate) fn placeholder(&mut self) {
        self.nothing();
        self.is_valid();
    }

    /// Takes these rows out, which are in order.
    pub(crate) fn remove(&mut self, rows: &[usize]) {
        match &mut self.values {
            Values::Boolean(values) => remove(values, rows),
            Values::Integer(values) => remove(values, rows),
            Values::Float(values) => remove(values, rows),
            Values::Text { ends, bytes } => remove_texts(ends, bytes, rows),
        }
        if !self.valid.is_empty() {
            remove(&mut self.valid, rows);
        }
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

    /// The column, and an empty one in its place, which will have up to `most` rows.
    pub(crate) fn finish(&mut self, ty: &Type, most: usize) -> Result<ArrayRef, StageError> {
        let valid = std::mem::take(&mut self.valid);
        let nulls = (!valid.is_empty()).then(|| NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
        // The next batch is nearly as large as this one: a little more spares it a larger copy of itself.
        fn take<T>(values: &mut Vec<T>, most: usize) -> Vec<T> {
            let len = values.len();
            let mut taken = std::mem::replace(values, Vec::with_capacity((len + len / 16).min(most)));
            // The first batch has grown by doubling.
            if taken.capacity() - len > len / 4 {
                taken.shrink_to_fit();
            }
            taken
        }
        Ok(match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(take(values, most)), nulls)),
            Values::Integer(values) if matches!(ty, Type::Timestamp(_)) => {
                Arc::new(TimestampMicrosecondArray::new(ScalarBuffer::from(take(values, most)), nulls).with_timezone("UTC"))
            }
            Values::Integer(values) => Arc::new(Int64Array::new(ScalarBuffer::from(take(values, most)), nulls)),
            Values::Float(values) => Arc::new(Float64Array::new(ScalarBuffer::from(take(values, most)), nulls)),
            Values::Text { ends, bytes } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(take(ends, most + 1)));
                ends.push(0);
                let text = StringArray::try_new(offsets, Buffer::from_vec(take(bytes, usize::MAX)), nulls);
                Arc::new(text.map_err(|error| StageError::developer(format!("texts that were read do not make a column: {error}")))?)
            }
        })
    }
}

/// Takes out what stands at these places, which are in order: what is between them moves to the front.
fn remove<T: Copy>(values: &mut Vec<T>, places: &[usize]) {
    let len = kept(values.len(), places, |kept, to| values.copy_within(kept, to));
    values.truncate(len);
}

fn remove_texts(ends: &mut Vec<i32>, bytes: &mut Vec<u8>, places: &[usize]) {
    let place = |end: i32| usize::try_from(end).unwrap_or_default();
    let mut len = places.first().map_or(bytes.len(), |first| place(ends[*first]));
    let texts = kept(ends.len() - 1, places, |kept, to| {
        let (from, end) = (ends[kept.start], ends[kept.end]);
        let less = from - i32::try_from(len).unwrap_or(i32::MAX);
        bytes.copy_within(place(from)..place(end), len);
        len += place(end) - place(from);
        (0..kept.len()).for_each(|text| ends[to + 1 + text] = ends[kept.start + 1 + text] - less);
    });
    ends.truncate(texts + 1);
    bytes.truncate(len);
}

/// Passes on what stands behind the first of these places and between the others, each with the place where it belongs; answers how many are left.
fn kept(len: usize, places: &[usize], mut keep: impl FnMut(Range<usize>, usize)) -> usize {
    let mut to = places.first().map_or(len, |first| *first);
    for (nth, place) in places.iter().enumerate() {
        let kept = place + 1..places.get(nth + 1).map_or(len, |next| *next);
        keep(kept.clone(), to);
        to += kept.len();
    }
    to
}
