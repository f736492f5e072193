//! What flows between nodes: a column of one of four shapes, or a constant that stands for every row.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use pipeline_contract::ColumnType;

use super::shared;
use crate::error::EvalError;
use crate::node::Scalar;

/// Numbers and which of them are null. The number under a null is arbitrary.
#[derive(Clone)]
pub(crate) struct Column<T: ArrowNativeType> {
    pub(super) values: ScalarBuffer<T>,
    pub(super) nulls: Option<NullBuffer>,
}

/// A value for every row.
#[derive(Clone)]
pub(crate) enum Value {
    Constant(Scalar),
    Boolean(BooleanArray),
    /// Integers, or timestamps in microseconds since 1970.
    Long(Column<i64>),
    Float(Column<f64>),
    Text(StringArray),
}

/// Numbers as an operator reads them.
#[derive(Clone, Copy)]
pub(super) enum Numbers<'a, T> {
    One(T),
    Many(&'a [T]),
}

impl<T: Copy + Default> Numbers<'_, T> {
    pub(super) fn at(&self, row: usize) -> T {
        match self {
            Self::One(value) => *value,
            Self::Many(values) => values.get(row).copied().unwrap_or_default(),
        }
    }
}

/// Texts as an operator reads them.
#[derive(Clone, Copy)]
pub(super) enum Texts<'a> {
    One(&'a str),
    Many(&'a StringArray),
}

impl<'a> Texts<'a> {
    pub(super) fn at(&self, row: usize) -> &'a str {
        match self {
            Self::One(text) => text,
            Self::Many(texts) => texts.value(row),
        }
    }
}

impl Value {
    /// A column of a batch; `None` for a type that is none of the five.
    pub(super) fn of(array: &ArrayRef) -> Option<Self> {
        let any = array.as_any();
        let nulls = || array.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        Some(match ColumnType::of(array.data_type())? {
            ColumnType::Boolean => Self::Boolean(any.downcast_ref::<BooleanArray>()?.clone()),
            ColumnType::Integer => Self::Long(Column { values: any.downcast_ref::<Int64Array>()?.values().clone(), nulls: nulls() }),
            ColumnType::Float => Self::Float(Column { values: any.downcast_ref::<Float64Array>()?.values().clone(), nulls: nulls() }),
            ColumnType::Text => Self::Text(any.downcast_ref::<StringArray>()?.clone()),
            ColumnType::Timestamp => Self::Long(Column { values: any.downcast_ref::<TimestampMicrosecondArray>()?.values().clone(), nulls: nulls() }),
        })
    }

    pub(super) fn booleans(values: BooleanBuffer, nulls: Option<NullBuffer>) -> Self {
        Self::Boolean(BooleanArray::new(values, nulls))
    }

    pub(super) fn fits(&self, ty: ColumnType) -> bool {
        match self {
            Self::Constant(_) => true,
            Self::Boolean(_) => ty == ColumnType::Boolean,
            Self::Long(_) => matches!(ty, ColumnType::Integer | ColumnType::Timestamp),
            Self::Float(_) => ty == ColumnType::Float,
            Self::Text(_) => ty == ColumnType::Text,
        }
    }

    /// Whether it is the constant NULL.
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Constant(Scalar::Null))
    }

    /// Which rows are null; the constant NULL has none of these and is asked for with `is_null`.
    pub(super) fn nulls(&self) -> Option<&NullBuffer> {
        let nulls = match self {
            Self::Constant(_) => None,
            Self::Boolean(array) => array.nulls(),
            Self::Long(column) => column.nulls.as_ref(),
            Self::Float(column) => column.nulls.as_ref(),
            Self::Text(array) => array.nulls(),
        };
        nulls.filter(|nulls| nulls.null_count() > 0)
    }

    /// Which rows are not null.
    pub(super) fn valid(&self, len: usize) -> BooleanBuffer {
        match self.nulls() {
            _ if self.is_null() => BooleanBuffer::new_unset(len),
            Some(nulls) => nulls.inner().clone(),
            None => BooleanBuffer::new_set(len),
        }
    }

    pub(super) fn longs(&self) -> Result<Numbers<'_, i64>, EvalError> {
        match self {
            Self::Long(column) => Ok(Numbers::Many(&column.values)),
            Self::Constant(Scalar::Long(value)) => Ok(Numbers::One(*value)),
            Self::Constant(Scalar::Null) => Ok(Numbers::One(0)),
            _ => Err(EvalError::internal("not an integer")),
        }
    }

    pub(super) fn floats(&self) -> Result<Numbers<'_, f64>, EvalError> {
        match self {
            Self::Float(column) => Ok(Numbers::Many(&column.values)),
            Self::Constant(Scalar::Float(value)) => Ok(Numbers::One(*value)),
            Self::Constant(Scalar::Null) => Ok(Numbers::One(0.0)),
            _ => Err(EvalError::internal("not a float")),
        }
    }

    pub(super) fn texts(&self) -> Result<Texts<'_>, EvalError> {
        match self {
            Self::Text(array) => Ok(Texts::Many(array)),
            Self::Constant(Scalar::Text(text)) => Ok(Texts::One(text)),
            Self::Constant(Scalar::Null) => Ok(Texts::One("")),
            _ => Err(EvalError::internal("not a text")),
        }
    }

    pub(super) fn bits(&self, len: usize) -> Result<BooleanBuffer, EvalError> {
        match self {
            Self::Boolean(array) => Ok(array.values().clone()),
            Self::Constant(Scalar::Boolean(true)) => Ok(BooleanBuffer::new_set(len)),
            Self::Constant(Scalar::Boolean(false) | Scalar::Null) => Ok(BooleanBuffer::new_unset(len)),
            _ => Err(EvalError::internal("not a boolean")),
        }
    }

    /// The value of one row.
    pub(super) fn scalar(&self, row: usize) -> Result<Scalar, EvalError> {
        if self.nulls().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(Scalar::Null);
        }
        Ok(match self {
            Self::Constant(scalar) => scalar.clone(),
            Self::Boolean(array) => Scalar::Boolean(array.value(row)),
            Self::Long(_) => Scalar::Long(self.longs()?.at(row)),
            Self::Float(_) => Scalar::Float(self.floats()?.at(row)),
            Self::Text(array) => Scalar::Text(shared(array.value(row))),
        })
    }

    /// The Arrow array of this type.
    pub(super) fn into_array(self, ty: ColumnType, len: usize) -> Result<ArrayRef, EvalError> {
        let nulls = if self.is_null() { Some(NullBuffer::new_null(len)) } else { self.nulls().cloned() };
        Ok(match ty {
            ColumnType::Boolean => Arc::new(BooleanArray::new(self.bits(len)?, nulls)),
            ColumnType::Integer => Arc::new(Int64Array::new(self.into_longs(len)?, nulls)),
            ColumnType::Timestamp => Arc::new(TimestampMicrosecondArray::new(self.into_longs(len)?, nulls).with_timezone("UTC")),
            ColumnType::Float => Arc::new(Float64Array::new(self.into_floats(len)?, nulls)),
            ColumnType::Text => match self {
                Self::Text(array) => Arc::new(array),
                Self::Constant(Scalar::Null) => Arc::new(StringArray::new_null(len)),
                other => {
                    let text = other.texts()?;
                    let mut builder = TextBuilder::new(len);
                    for row in 0..len {
                        builder.push(text.at(row));
                    }
                    Arc::new(builder.finish(None)?)
                }
            },
        })
    }

    fn into_longs(self, len: usize) -> Result<ScalarBuffer<i64>, EvalError> {
        match self {
            Self::Long(column) => Ok(column.values),
            other => Ok(vec![other.longs()?.at(0); len].into()),
        }
    }

    fn into_floats(self, len: usize) -> Result<ScalarBuffer<f64>, EvalError> {
        match self {
            Self::Float(column) => Ok(column.values),
            other => Ok(vec![other.floats()?.at(0); len].into()),
        }
    }
}

/// Which rows of a strict operator's result are null: those where any operand is. (Constants NULL are looked at before.)
pub(super) fn nulls_of<'a>(values: impl IntoIterator<Item = &'a Value>) -> Option<NullBuffer> {
    values.into_iter().fold(None, |nulls, value| NullBuffer::union(nulls.as_ref(), value.nulls()))
}

/// One number from one number, row by row.
pub(super) fn map<T: Copy, U: Clone>(len: usize, a: Numbers<'_, T>, mut f: impl FnMut(T) -> U) -> Vec<U> {
    match a {
        Numbers::Many(a) => a.iter().map(|x| f(*x)).collect(),
        Numbers::One(x) => vec![f(x); len],
    }
}

/// One number from two, row by row.
pub(super) fn zip<T: Copy, U: Clone>(len: usize, a: Numbers<'_, T>, b: Numbers<'_, T>, mut f: impl FnMut(T, T) -> U) -> Vec<U> {
    match (a, b) {
        (Numbers::Many(a), Numbers::Many(b)) => a.iter().zip(b).map(|(x, y)| f(*x, *y)).collect(),
        (Numbers::Many(a), Numbers::One(y)) => a.iter().map(|x| f(*x, y)).collect(),
        (Numbers::One(x), Numbers::Many(b)) => b.iter().map(|y| f(x, *y)).collect(),
        (Numbers::One(x), Numbers::One(y)) => vec![f(x, y); len],
    }
}

/// One bit from one number, row by row.
pub(super) fn test<T: Copy>(len: usize, a: Numbers<'_, T>, f: impl Fn(T) -> bool) -> BooleanBuffer {
    match a {
        Numbers::One(x) => same(f(x), len),
        Numbers::Many(a) => {
            let (blocks, rest) = a.as_chunks::<64>();
            let mut words = Vec::with_capacity(blocks.len() + 1);
            words.extend(blocks.iter().map(|block| pack(block.iter().map(|x| f(*x)))));
            words.push(pack(rest.iter().map(|x| f(*x))));
            bits(words, a.len())
        }
    }
}

/// One bit from two numbers, row by row.
pub(super) fn test_two<T: Copy>(len: usize, a: Numbers<'_, T>, b: Numbers<'_, T>, f: impl Fn(T, T) -> bool) -> BooleanBuffer {
    match (a, b) {
        (Numbers::One(x), b) => test(len, b, |y| f(x, y)),
        (a, Numbers::One(y)) => test(len, a, |x| f(x, y)),
        (Numbers::Many(a), Numbers::Many(b)) => {
            let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<64>(), b.as_chunks::<64>());
            let mut words = Vec::with_capacity(a_blocks.len() + 1);
            words.extend(a_blocks.iter().zip(b_blocks).map(|(a, b)| pack(a.iter().zip(b).map(|(x, y)| f(*x, *y)))));
            words.push(pack(a_rest.iter().zip(b_rest).map(|(x, y)| f(*x, *y))));
            bits(words, a.len())
        }
    }
}

/// At most 64 answers as the bits of a word, the first lowest, in the byte order of Arrow's bitmaps.
#[inline(always)]
fn pack(answers: impl Iterator<Item = bool>) -> u64 {
    let word = answers.enumerate().fold(0_u64, |word, (place, answer)| word | (u64::from(answer) << place));
    word.to_le()
}

fn bits(words: Vec<u64>, len: usize) -> BooleanBuffer {
    BooleanBuffer::new(Buffer::from_vec(words), 0, len)
}

pub(super) fn same(value: bool, len: usize) -> BooleanBuffer {
    if value { BooleanBuffer::new_set(len) } else { BooleanBuffer::new_unset(len) }
}

/// Texts put together without a `String` for each.
pub(super) struct TextBuilder {
    bytes: String,
    ends: Vec<usize>,
}

impl TextBuilder {
    pub(super) fn new(rows: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: String::new(), ends }
    }

    /// A whole text.
    pub(super) fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.end();
    }

    /// Where the parts of the current text are written.
    pub(super) fn buffer(&mut self) -> &mut String {
        &mut self.bytes
    }

    /// Ends the current text.
    pub(super) fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    pub(super) fn finish(self, nulls: Option<NullBuffer>) -> Result<StringArray, EvalError> {
        let ends = self.ends.iter().map(|end| i32::try_from(*end)).collect::<Result<Vec<i32>, _>>();
        let ends = ends.map_err(|_| EvalError::batch("the texts made for one batch exceed 2 GiB"))?;
        let offsets = arrow_buffer::OffsetBuffer::new(ends.into());
        StringArray::try_new(offsets, Buffer::from_vec(self.bytes.into_bytes()), nulls).map_err(|error| EvalError::internal(&error.to_string()))
    }
}
