//! Rows as objects.

use std::io::Read;

use pipeline_files::time::TimeFormat;
use pipeline_sink_lines::{Column, Format, Records, Written};
use serde_json::{Map, Value, json};

use crate::config::Nulls;
use crate::scan::Scanner;
use crate::write;

/// JSON Lines, as the pipeline file wants them.
#[derive(Clone)]
pub(crate) struct Jsonl {
    pub(crate) time: TimeFormat,
    pub(crate) nulls: Nulls,
}

impl Jsonl {
    /// Are instants numbers?
    pub(crate) fn counts_time(&self) -> bool {
        matches!(self.time, TimeFormat::Unix | TimeFormat::UnixMs | TimeFormat::UnixUs)
    }

    /// Writes one value. False when an instant lies outside what can be written.
    fn value(&self, column: &Column<'_>, row: usize, out: &mut Vec<u8>) -> bool {
        match column {
            _ if column.is_null(row) => out.extend_from_slice(b"null"),
            Column::Bool(column) => out.extend_from_slice(if column.value(row) { b"true" } else { b"false" }),
            Column::Int(column) => out.extend_from_slice(itoa::Buffer::new().format(column.value(row)).as_bytes()),
            Column::Float(column) => write::float(column.value(row), out),
            Column::Text(column) => write::text(column.value(row), out),
            Column::Time(column) if self.counts_time() => return self.time.write(column.value(row), out),
            Column::Time(column) => {
                out.push(b'"');
                let from = out.len();
                if !self.time.write(column.value(row), out) {
                    return false;
                }
                // Only a strftime format holds what a text of JSON cannot.
                if let Some(written) = out.get(from..).filter(|text| text.iter().any(|sign| write::escapes(*sign))) {
                    let written = String::from_utf8_lossy(written).into_owned();
                    out.truncate(from - 1);
                    write::text(&written, out);
                } else {
                    out.push(b'"');
                }
            }
        }
        true
    }
}

impl Format for Jsonl {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn header(&self, _: &[Written]) -> Vec<u8> {
        Vec::new()
    }

    fn line(&self, columns: &[Written], cells: &[Column<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), usize> {
        out.push(b'{');
        let mut first = true;
        for (at, (column, cell)) in columns.iter().zip(cells).enumerate() {
            if self.nulls == Nulls::Omit && cell.is_null(row) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            write::text(&column.name, out);
            out.push(b':');
            if !self.value(cell, row, out) {
                return Err(at);
            }
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn records<'a>(&self, columns: &[Written], input: Box<dyn Read + Send + 'a>) -> Box<dyn Records + 'a> {
        let names = columns.iter().map(|column| column.name.clone()).collect();
        Box::new(Scanner::new(input, self.clone(), names))
    }

    fn skips_blank(&self, _: &[Written]) -> bool {
        true
    }

    fn identity(&self) -> Map<String, Value> {
        let identity = json!({ "format": "jsonl", "nulls": if self.nulls == Nulls::Write { "write" } else { "omit" } });
        identity.as_object().cloned().unwrap_or_default()
    }
}
