//! Keys and fingerprints as bytes. What is stored holds these bytes, so they never change.
//!
//! **A key** is its columns in the order of the pipeline file. Each is a tag and a value; every value is of fixed width or carries its length,
//! so that no two keys have the same bytes:
//!
//! | type | tag | value |
//! |---|---|---|
//! | boolean | 1 | one byte, 0 or 1 |
//! | integer | 2 | 8 bytes, big-endian, two's complement |
//! | float | 3 | 8 bytes, big-endian, IEEE 754; -0 as 0, every NaN as `7ff8000000000000` |
//! | text | 4 | length in bytes as 4 bytes, big-endian; UTF-8 |
//! | timestamp | 5 | microseconds since 1970 in UTC, as integer |
//!
//! **A fingerprint** is the 64-bit XXH3 (seed 0) of the other stored columns, in the order given. Each is its tag and value as above, or the
//! single byte 0 when it is null. An empty text is null too: a CSV file may not tell them apart.

use arrow::array::cast::AsArray;
use arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::array::{Array, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use pipeline_contract::{ColumnType, StageError, arrow, instant, rfc3339};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

const NULL: u8 = 0;
const BOOLEAN: u8 = 1;
const INTEGER: u8 = 2;
const FLOAT: u8 = 3;
const TEXT: u8 = 4;
const TIMESTAMP: u8 = 5;

/// One column of a batch, typed.
pub(super) enum Column<'a> {
    Boolean(&'a BooleanArray),
    Integer(&'a Int64Array),
    Float(&'a Float64Array),
    Text(&'a StringArray),
    Timestamp(&'a TimestampMicrosecondArray),
}

impl<'a> Column<'a> {
    /// The column at a place of a batch, which must have the type that was planned.
    pub(super) fn of(batch: &'a arrow::RecordBatch, place: usize, ty: ColumnType) -> Result<Self, StageError> {
        let column = batch.columns().get(place);
        let typed = column.and_then(|column| match ty {
            ColumnType::Boolean => column.as_boolean_opt().map(Self::Boolean),
            ColumnType::Integer => column.as_primitive_opt::<Int64Type>().map(Self::Integer),
            ColumnType::Float => column.as_primitive_opt::<Float64Type>().map(Self::Float),
            ColumnType::Text => column.as_string_opt::<i32>().map(Self::Text),
            ColumnType::Timestamp => column.as_primitive_opt::<TimestampMicrosecondType>().map(Self::Timestamp),
        });
        typed.ok_or_else(|| {
            let found = column.map_or_else(|| "nothing".to_owned(), |column| column.data_type().to_string());
            StageError::developer(format!("dedupe was planned for {ty} in column {place} and was given {found}"))
        })
    }

    pub(super) fn nulls(&self) -> Option<&'a NullBuffer> {
        match self {
            Self::Boolean(column) => (*column).nulls(),
            Self::Integer(column) => (*column).nulls(),
            Self::Float(column) => (*column).nulls(),
            Self::Text(column) => (*column).nulls(),
            Self::Timestamp(column) => (*column).nulls(),
        }
    }

    /// The value of a row as key bytes; the row is not null.
    #[inline]
    pub(super) fn key(&self, row: usize, into: &mut Vec<u8>) {
        match self {
            Self::Boolean(column) => into.extend_from_slice(&[BOOLEAN, u8::from(column.value(row))]),
            Self::Integer(column) => fixed(INTEGER, column.value(row).to_be_bytes(), into),
            Self::Float(column) => fixed(FLOAT, canonical(column.value(row)).to_be_bytes(), into),
            Self::Timestamp(column) => fixed(TIMESTAMP, column.value(row).to_be_bytes(), into),
            Self::Text(column) => {
                let text = column.value(row).as_bytes();
                // A text array holds less than 2^31 bytes.
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
                into.extend_from_slice(&[TEXT, length[0], length[1], length[2], length[3]]);
                into.extend_from_slice(text);
            }
        }
    }

    /// The value of a row as bytes of its fingerprint.
    #[inline]
    fn print(&self, row: usize, into: &mut Vec<u8>) {
        let empty = match self {
            Self::Text(column) => column.value(row).is_empty(),
            _ => false,
        };
        if empty || self.nulls().is_some_and(|nulls| nulls.is_null(row)) { into.push(NULL) } else { self.key(row, into) }
    }
}

/// Takes one value off key bytes: the reverse of [`Column::key`]. `None` when there is none.
pub(super) fn take(rest: &mut &[u8]) -> Option<Value> {
    let (tag, after) = rest.split_first()?;
    *rest = after;
    let mut fixed = || {
        let (bytes, after) = rest.split_first_chunk::<8>()?;
        *rest = after;
        Some(*bytes)
    };
    match *tag {
        BOOLEAN => {
            let (value, after) = rest.split_first()?;
            *rest = after;
            Some(Value::Bool(*value != 0))
        }
        INTEGER => fixed().map(|bytes| i64::from_be_bytes(bytes).into()),
        FLOAT => fixed().map(|bytes| f64::from_be_bytes(bytes).into()),
        TIMESTAMP => fixed().map(|bytes| instant(i64::from_be_bytes(bytes)).map_or(Value::Null, |at| rfc3339(at).into())),
        TEXT => {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (text, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            *rest = after;
            Some(std::str::from_utf8(text).ok()?.into())
        }
        _ => None,
    }
}

#[inline]
fn fixed(tag: u8, value: [u8; 8], into: &mut Vec<u8>) {
    let mut bytes = [tag; 9];
    bytes[1..].copy_from_slice(&value);
    into.extend_from_slice(&bytes);
}

/// The bits of a float such that equal numbers have equal bits.
#[inline(always)]
fn canonical(value: f64) -> u64 {
    // The sum of -0 and 0 is 0.
    if value.is_nan() { 0x7ff8_0000_0000_0000 } else { (value + 0.0).to_bits() }
}

/// So many numbers of a row at most are put together without a buffer that grows ...
const NUMBERS: usize = 12;
/// ... and those of so many rows at once, column by column. (What is stored piece by piece and loaded at once as a whole is waited for.)
const ROWS: usize = 64;

/// Columns as they are asked for the fingerprints of their rows.
pub(super) struct Others<'a> {
    columns: Vec<Column<'a>>,
    /// Their values, where all of them are numbers.
    numbers: Option<Vec<&'a [f64]>>,
    nulls: Option<NullBuffer>,
}

impl<'a> Others<'a> {
    pub(super) fn of(columns: Vec<Column<'a>>) -> Self {
        let values = |column: &Column<'a>| if let Column::Float(column) = column { Some(&column.values()[..]) } else { None };
        let numbers = columns.iter().map(values).collect::<Option<Vec<_>>>().filter(|numbers| numbers.len() <= NUMBERS);
        let nulls = numbers.as_ref().and_then(|_| columns.iter().fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.nulls())));
        Self { columns, numbers, nulls }
    }

    /// The fingerprints of the first `len` rows; 0 for a row that is not there.
    pub(super) fn fingerprints(&self, len: usize, is_there: impl Fn(usize) -> bool) -> Vec<u64> {
        let mut prints = Vec::with_capacity(len);
        let mut buffer = Vec::new();
        let Some(numbers) = &self.numbers else {
            prints.extend((0..len).map(|row| if is_there(row) { self.fingerprint(row, &mut buffer) } else { 0 }));
            return prints;
        };
        let mut rooms = [[FLOAT; 9 * NUMBERS]; ROWS];
        for from in (0..len).step_by(ROWS) {
            for (place, values) in numbers.iter().enumerate() {
                for (room, value) in rooms.iter_mut().zip(values.get(from..).unwrap_or_default()) {
                    room[9 * place + 1..9 * place + 9].copy_from_slice(&canonical(*value).to_be_bytes());
                }
            }
            prints.extend(rooms.iter().zip(from..len).map(|(room, row)| match &self.nulls {
                _ if !is_there(row) => 0,
                Some(nulls) if nulls.is_null(row) => self.fingerprint(row, &mut buffer),
                _ => xxh3_64(&room[..9 * numbers.len()]),
            }));
        }
        prints
    }

    /// The fingerprint of a row; `buffer` is room to work in.
    fn fingerprint(&self, row: usize, buffer: &mut Vec<u8>) -> u64 {
        buffer.clear();
        for column in &self.columns {
            column.print(row, buffer);
        }
        xxh3_64(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pipeline_contract::arrow::{ArrayRef, RecordBatch};
    use pipeline_contract::schema;
    use proptest::prelude::*;

    use super::*;

    fn batch() -> RecordBatch {
        let types = ColumnType::ALL.map(|ty| (ty.name(), ty, true));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), None])),
            Arc::new(Int64Array::from(vec![Some(-2), None, Some(0), None])),
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-0.0), None])),
            Arc::new(StringArray::from(vec![Some("zürich"), None, Some("a"), Some("")])),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_000), None, Some(-1), None]).with_timezone("UTC")),
        ];
        RecordBatch::try_new(schema(types), columns).unwrap()
    }

    fn columns(batch: &RecordBatch) -> Vec<Column<'_>> {
        ColumnType::ALL.iter().enumerate().map(|(place, ty)| Column::of(batch, place, *ty).unwrap()).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    // The expected values of these two were made by another implementation, from the documentation above.
    #[test]
    fn key_bytes_never_change() {
        let batch = batch();
        let keys: Vec<String> = columns(&batch)
            .iter()
            .map(|column| {
                let mut bytes = Vec::new();
                column.key(0, &mut bytes);
                hex(&bytes)
            })
            .collect();
        assert_eq!(keys, ["0101", "02fffffffffffffffe", "033ff8000000000000", "04000000077ac3bc72696368", "0500060a24181e4000"]);
    }

    #[test]
    fn fingerprints_never_change() {
        let batch = batch();
        let prints = Others::of(columns(&batch)).fingerprints(4, |_| true);
        assert_eq!(prints, [0x5f6d_2b73_c7ed_b34e, 0xe864_e589_3a27_3242, 0x6152_7a2f_71a9_4323, 0xe864_e589_3a27_3242]);
        assert_eq!(Others::of(Vec::new()).fingerprints(1, |_| true), [0x2d06_8005_38d3_94c2]);
    }

    proptest! {
        #[test]
        fn numbers_have_the_fingerprints_that_they_have_among_others(
            many in prop::sample::select(vec![1, 2, 5, NUMBERS, NUMBERS + 1]),
            rows in 0..3 * ROWS,
            seed in any::<u64>(),
            null_of in prop::sample::select(vec![0, 3, 100]),
        ) {
            const SPECIAL: [f64; 6] = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::MIN];
            let random = |row: usize, column: usize, what: u64| xxh3_64(&[seed, row as u64, column as u64, what].map(u64::to_le_bytes).concat());
            let value = |row: usize, column: usize| match random(row, column, 0) {
                _ if null_of > 0 && random(row, column, 1) % null_of == 0 => None,
                n if n % 4 == 0 => Some(SPECIAL[n as usize / 4 % SPECIAL.len()]),
                n => Some(f64::from_bits(n)),
            };
            let arrays: Vec<Float64Array> = (0..many).map(|column| (0..rows).map(|row| value(row, column)).collect()).collect();
            let columns = || arrays.iter().map(Column::Float).collect::<Vec<_>>();
            let is_there = |row: usize| random(row, 0, 2) % 8 > 0;
            let prints = Others::of(columns()).fingerprints(rows, is_there);
            prop_assert_eq!(Others::of(columns()).numbers.is_some(), many <= NUMBERS);
            let slowly = Others { numbers: None, ..Others::of(columns()) };
            prop_assert_eq!(prints, slowly.fingerprints(rows, is_there));
        }
    }

    #[test]
    fn equal_numbers_have_equal_bits() {
        assert_eq!(canonical(-0.0), canonical(0.0));
        assert_eq!(canonical(f64::NAN), canonical(-f64::NAN));
        assert_eq!(canonical(f64::NAN), canonical(f64::from_bits(0x7ff0_0000_0000_0001)));
        assert_ne!(canonical(1.0), canonical(1.0 + f64::EPSILON));
        assert_ne!(canonical(f64::INFINITY), canonical(f64::NAN));
    }

    #[test]
    fn a_column_of_another_type_is_a_broken_promise() {
        let batch = batch();
        assert!(Column::of(&batch, 0, ColumnType::Integer).is_err());
        assert!(Column::of(&batch, 5, ColumnType::Integer).is_err());
    }
}
