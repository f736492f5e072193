//! Objects of a file, one after the other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;

use pipeline_contract::ColumnType;
use pipeline_sink_lines::{Cell, Cells, Record, Records, ScanError, Window, Written, short};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::format::Jsonl;

/// Takes a stream apart into lines.
pub(crate) struct Scanner<R> {
    window: Window<R>,
    format: Jsonl,
    names: Vec<String>,
    line: u64,
    /// The object of the line that was scanned last, or what is wrong with it.
    object: Result<BTreeMap<String, Box<RawValue>>, String>,
}

impl<R: Read> Scanner<R> {
    pub(crate) fn new(input: R, format: Jsonl, names: Vec<String>) -> Self {
        Self { window: Window::new(input), format, names, line: 0, object: Ok(BTreeMap::new()) }
    }
}

impl<R: Read + Send> Records for Scanner<R> {
    fn next(&mut self) -> Result<Option<Record<'_>>, ScanError> {
        let mut looked = 0;
        let len = loop {
            let (data, eof) = (self.window.data(), self.window.is_at_end());
            match memchr::memchr(b'\n', &data[looked..]) {
                Some(at) => break looked + at + 1,
                None if self.window.is_overfull() => return Err(ScanError::TooLong { line: self.line + 1 }),
                None if eof && data.is_empty() => return Ok(None),
                None if eof => break data.len(),
                None => looked = data.len(),
            }
            self.window.more()?;
        };
        let place = self.window.take(len);
        self.line += 1;
        let raw = self.window.taken(place.clone());
        // A byte order mark is what other programs add when they save a file.
        let json = if self.line == 1 { raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw) } else { raw };
        self.object = serde_json::from_slice(json).map_err(|error| format!("it is no object of columns: {error}"));
        Ok(Some(Record { raw: self.window.taken(place), line: self.line, cells: &*self }))
    }
}

impl<R> Cells for Scanner<R> {
    fn fault(&self, _: &[Written]) -> Option<String> {
        let object = match &self.object {
            Ok(object) => object,
            Err(what) => return Some(what.clone()),
        };
        let other = object.keys().find(|key| !self.names.contains(key))?;
        Some(format!("it has the key {:?}, which is no column", short(other)))
    }

    fn cell<'a>(&'a self, _: &'a [u8], at: usize, ty: ColumnType, nullable: bool) -> Result<Cell<'a>, String> {
        let raw = self.object.as_ref().ok().and_then(|object| object.get(self.names.get(at)?)).map_or("null", |raw| raw.get());
        let wrong = || format!("`{}` is not {}", short(raw), ty.name());
        // As it is written: a float would lose digits of it.
        if ty == ColumnType::Timestamp && self.format.counts_time() && raw != "null" {
            return self.format.time.read(raw.as_bytes()).map(Cell::Time).ok_or_else(wrong);
        }
        let value: Value = serde_json::from_str(raw).map_err(|_| wrong())?;
        let cell = match (ty, value) {
            (_, Value::Null) if nullable => Some(Cell::Null),
            (_, Value::Null) => return Err("it is null, which the column cannot be".to_owned()),
            (ColumnType::Boolean, Value::Bool(value)) => Some(Cell::Bool(value)),
            (ColumnType::Integer, Value::Number(number)) => number.as_i64().map(Cell::Int),
            (ColumnType::Float, Value::Number(number)) => number.as_f64().map(Cell::Float),
            (ColumnType::Float, Value::String(text)) if matches!(text.as_str(), "NaN" | "inf" | "-inf") => {
                lexical_core::parse(text.as_bytes()).ok().map(Cell::Float)
            }
            (ColumnType::Text, Value::String(text)) => Some(Cell::Text(Cow::Owned(text))),
            (ColumnType::Timestamp, Value::String(text)) => self.format.time.read(text.as_bytes()).map(Cell::Time),
            _ => None,
        };
        cell.ok_or_else(wrong)
    }
}
