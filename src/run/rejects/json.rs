//! Rows and texts as JSON, byte for byte as `serde_json` writes them, without a `Value` in between.

use std::collections::BTreeMap;
use std::io::Write;

use pipeline_contract::ColumnType;
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use pipeline_contract::arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use pipeline_contract::arrow::{Array, ArrayRef, RecordBatch};
use pipeline_files::decimal;
use pipeline_files::time::TimeFormat;
use serde_json::Value;

/// The rows of a batch as JSON objects, as [`row_json`](pipeline_contract::row_json) makes them.
pub(super) struct Rows<'a> {
    /// In the order of their names, each with its key and what stands around that.
    columns: Vec<(Vec<u8>, Cells<'a>)>,
}

enum Cells<'a> {
    Boolean(&'a BooleanArray),
    Integer(&'a Int64Array),
    Float(&'a Float64Array),
    Text(&'a StringArray),
    Timestamp(&'a TimestampMicrosecondArray),
    Unknown,
}

impl<'a> Rows<'a> {
    pub(super) fn of(batch: &'a RecordBatch) -> Self {
        // Of two columns with one name the last one counts, as in a map.
        let columns: BTreeMap<&str, &ArrayRef> =
            batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| (field.name().as_str(), column)).collect();
        let column = |(place, (name, column)): (usize, (&str, &'a ArrayRef))| {
            let mut key = Vec::with_capacity(name.len() + 4);
            key.push(if place == 0 { b'{' } else { b',' });
            text(name, &mut key);
            key.push(b':');
            (key, Cells::of(column))
        };
        Self { columns: columns.into_iter().enumerate().map(column).collect() }
    }

    /// Adds a row.
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.columns.is_empty() {
            out.push(b'{');
        }
        for (key, cells) in &self.columns {
            out.extend_from_slice(key);
            cells.write(row, out);
        }
        out.push(b'}');
    }
}

impl<'a> Cells<'a> {
    fn of(column: &'a ArrayRef) -> Self {
        match ColumnType::of(column.data_type()) {
            Some(ColumnType::Boolean) => Self::Boolean(column.as_boolean()),
            Some(ColumnType::Integer) => Self::Integer(column.as_primitive::<Int64Type>()),
            Some(ColumnType::Float) => Self::Float(column.as_primitive::<Float64Type>()),
            Some(ColumnType::Text) => Self::Text(column.as_string::<i32>()),
            Some(ColumnType::Timestamp) => Self::Timestamp(column.as_primitive::<TimestampMicrosecondType>()),
            None => Self::Unknown,
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(column) if column.is_valid(row) => out.extend_from_slice(if column.value(row) { b"true" } else { b"false" }),
            Self::Integer(column) if column.is_valid(row) => integer(column.value(row), out),
            Self::Float(column) if column.is_valid(row) && column.value(row).is_finite() => decimal::write(column.value(row), out),
            Self::Text(column) if column.is_valid(row) => text(column.value(row), out),
            Self::Timestamp(column) if column.is_valid(row) => instant(column.value(row), out),
            _ => out.extend_from_slice(b"null"),
        }
    }
}

/// Adds an instant; as a number where it is beyond the years that can be written.
fn instant(micros: i64, out: &mut Vec<u8>) {
    let from = out.len();
    out.push(b'"');
    if TimeFormat::Rfc3339.write(micros, out) {
        out.push(b'"');
    } else {
        out.truncate(from);
        integer(micros, out);
    }
}

fn integer(number: i64, out: &mut Vec<u8>) {
    // Memory takes everything.
    let _ = write!(out, "{number}");
}

/// Adds a text in quotes.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    // Few texts need an escape, and that none is needed is seen many bytes at a time.
    let escapes = text.bytes().fold(0, |found, sign| found | u8::from(sign < 0x20) | u8::from(sign == b'"') | u8::from(sign == b'\\'));
    if escapes == 0 {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        let _ = serde_json::to_writer(out, text);
    }
}

/// Adds any value.
pub(super) fn value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(string) => text(string, out),
        Value::Object(map) if !map.is_empty() => {
            for (place, (key, item)) in map.iter().enumerate() {
                out.push(if place == 0 { b'{' } else { b',' });
                text(key, out);
                out.push(b':');
                self::value(item, out);
            }
            out.push(b'}');
        }
        other => {
            let _ = serde_json::to_writer(out, other);
        }
    }
}
