//! One cell: as a value, as text in a file, and back.

use std::borrow::Cow;

use pipeline_contract::arrow::array::ArrayRef;
use pipeline_contract::arrow::array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use pipeline_contract::arrow::array::{Array, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use pipeline_contract::{ColumnType, StageError};
use std::sync::Arc;

use pipeline_files::time::TimeFormat;

/// The value of a cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
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

/// How cells are written and read.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    pub(crate) delimiter: u8,
    pub(crate) null: Vec<u8>,
    pub(crate) guard: bool,
    pub(crate) newline: &'static [u8],
    pub(crate) time: TimeFormat,
}

impl Style {
    /// Does a spreadsheet take it for a formula? As OWASP lists them under "CSV Injection", full-width signs included. `'` is among them so
    /// that what is put before can be taken away again.
    fn guarded(&self, text: &[u8]) -> bool {
        const WIDE: [&str; 4] = ["\u{ff1d}", "\u{ff0b}", "\u{ff0d}", "\u{ff20}"];
        let first = matches!(text.first(), Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r' | b'\n' | b'\''));
        self.guard && (first || WIDE.iter().any(|sign| text.starts_with(sign.as_bytes())))
    }

    fn quotes(&self, text: &[u8]) -> bool {
        text == self.null || text.iter().any(|sign| *sign == self.delimiter || matches!(sign, b'"' | b'\n' | b'\r'))
    }

    /// Writes a text, quoted only where that is needed.
    pub(crate) fn text(&self, text: &[u8], out: &mut Vec<u8>) {
        let guard: &[u8] = if self.guarded(text) { b"'" } else { b"" };
        let like_null = !guard.is_empty() && self.null.strip_prefix(guard) == Some(text);
        if !like_null && !self.quotes(text) {
            out.extend_from_slice(guard);
            out.extend_from_slice(text);
            return;
        }
        out.push(b'"');
        out.extend_from_slice(guard);
        for part in text.split_inclusive(|sign| *sign == b'"') {
            out.extend_from_slice(part);
            if part.ends_with(b"\"") {
                out.push(b'"');
            }
        }
        out.push(b'"');
    }

    /// Puts quotes around what was written from `from` on, if without them it would be null or two cells.
    fn quote_written(&self, from: usize, out: &mut Vec<u8>) {
        if self.quotes(&out[from..]) {
            let written = out.split_off(from);
            out.push(b'"');
            out.extend_from_slice(&written);
            out.push(b'"');
        }
    }
}

/// A column about to be written.
pub(crate) enum Source<'a> {
    Bool(&'a BooleanArray),
    Int(&'a Int64Array),
    Float(&'a Float64Array),
    Text(&'a StringArray),
    Time(&'a TimestampMicrosecondArray),
}

impl<'a> Source<'a> {
    pub(crate) fn of(column: &'a ArrayRef, ty: ColumnType) -> Self {
        match ty {
            ColumnType::Boolean => Self::Bool(column.as_boolean()),
            ColumnType::Integer => Self::Int(column.as_primitive()),
            ColumnType::Float => Self::Float(column.as_primitive()),
            ColumnType::Text => Self::Text(column.as_string()),
            ColumnType::Timestamp => Self::Time(column.as_primitive()),
        }
    }

    /// Writes one cell. False when an instant lies outside what can be written.
    pub(crate) fn write(&self, row: usize, style: &Style, out: &mut Vec<u8>) -> bool {
        let null = match self {
            Self::Bool(column) => column.is_null(row),
            Self::Int(column) => column.is_null(row),
            Self::Float(column) => column.is_null(row),
            Self::Text(column) => column.is_null(row),
            Self::Time(column) => column.is_null(row),
        };
        if null {
            out.extend_from_slice(&style.null);
            return true;
        }
        let from = out.len();
        let mut possible = true;
        match self {
            Self::Text(column) => {
                style.text(column.value(row).as_bytes(), out);
                return true;
            }
            Self::Bool(column) => out.extend_from_slice(if column.value(row) { b"true" } else { b"false" }),
            Self::Int(column) => out.extend_from_slice(itoa::Buffer::new().format(column.value(row)).as_bytes()),
            Self::Float(column) => out.extend_from_slice(zmij::Buffer::new().format(column.value(row)).as_bytes()),
            Self::Time(column) => possible = style.time.write(column.value(row), out),
        }
        // Only a null text that looks like a number, or a time format with delimiters, makes this needed.
        if !style.null.is_empty() || matches!((self, &style.time), (Self::Time(_), TimeFormat::Custom { .. })) {
            style.quote_written(from, out);
        }
        possible
    }
}

/// A cell as it stands in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    /// Without quotes around it.
    pub(crate) bytes: &'a [u8],
    /// There were quotes around it.
    pub(crate) quoted: bool,
    /// There are doubled quotes in it.
    pub(crate) doubled: bool,
}

impl<'a> Raw<'a> {
    fn text(&self) -> Result<Cow<'a, str>, String> {
        let text = std::str::from_utf8(self.bytes).map_err(|_| "the text is not UTF-8".to_owned())?;
        Ok(if self.doubled { Cow::Owned(text.replace("\"\"", "\"")) } else { Cow::Borrowed(text) })
    }

    /// The value, or what is wrong with it.
    pub(crate) fn read(&self, ty: ColumnType, nullable: bool, style: &Style) -> Result<Cell<'a>, String> {
        if !self.quoted && self.bytes == style.null {
            return match ty {
                _ if nullable => Ok(Cell::Null),
                // Other programs write an empty text without quotes.
                ColumnType::Text if self.bytes.is_empty() => Ok(Cell::Text(Cow::Borrowed(""))),
                _ => Err("it is null, which the column cannot be".to_owned()),
            };
        }
        let value = match ty {
            ColumnType::Boolean => match self.bytes {
                b"true" => Some(Cell::Bool(true)),
                b"false" => Some(Cell::Bool(false)),
                _ => None,
            },
            ColumnType::Integer => lexical_core::parse(self.bytes).ok().map(Cell::Int),
            ColumnType::Float => lexical_core::parse(self.bytes).ok().map(Cell::Float),
            ColumnType::Timestamp => style.time.read(self.bytes).map(Cell::Time),
            ColumnType::Text => {
                let text = self.text()?;
                return Ok(Cell::Text(if style.guard && text.starts_with('\'') { Cow::Owned(text[1..].to_owned()) } else { text }));
            }
        };
        value.ok_or_else(|| format!("`{}` is not {}", short(&String::from_utf8_lossy(self.bytes)), ty.name()))
    }
}

/// As much of a text as a message has room for.
pub(crate) fn short(text: &str) -> String {
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
