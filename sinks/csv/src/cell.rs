//! One cell as text in a file, and back.

use std::borrow::Cow;

use pipeline_contract::ColumnType;
use pipeline_files::time::TimeFormat;
use pipeline_files::{decimal, text};
use pipeline_sink_lines::{Cell, Column, short};

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
    #[inline]
    pub(crate) fn guarded(&self, text: &[u8]) -> bool {
        const WIDE: [&str; 4] = ["\u{ff1d}", "\u{ff0b}", "\u{ff0d}", "\u{ff20}"];
        if !self.guard {
            return false;
        }
        let Some(first) = text.first() else { return false };
        matches!(first, b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r' | b'\n' | b'\'')
            || (!first.is_ascii() && WIDE.iter().any(|sign| text.starts_with(sign.as_bytes())))
    }

    fn quotes(&self, text: &[u8]) -> bool {
        text == self.null || self.has_special(text)
    }

    /// Is there a sign that makes quotes necessary?
    #[inline]
    pub(crate) fn has_special(&self, text: &[u8]) -> bool {
        let signs = [self.delimiter, b'"', b'\n', b'\r'];
        match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            // Texts are short: eight signs at a time, without a branch for each of them.
            (Some(first), Some(last)) if text.len() <= 16 => {
                const ONES: u64 = u64::from_ne_bytes([1; 8]);
                let [first, last] = [first, last].map(|signs| u64::from_ne_bytes(*signs));
                let zeros = |signs: u64| signs.wrapping_sub(ONES) & !signs & (ONES << 7);
                let found = signs.iter().fold(0, |found, sign| {
                    let sign = ONES * u64::from(*sign);
                    found | zeros(first ^ sign) | zeros(last ^ sign)
                });
                found != 0
            }
            // Sign by sign without a branch, which the compiler makes many at a time.
            _ => text.iter().fold(false, |any, sign| signs.iter().fold(any, |any, special| any | (sign == special))),
        }
    }

    /// Writes a text, quoted only where that is needed.
    pub(crate) fn text(&self, text: &[u8], out: &mut Vec<u8>) {
        let guard: &[u8] = if self.guarded(text) { b"'" } else { b"" };
        let like_null = !guard.is_empty() && self.null.strip_prefix(guard) == Some(text);
        if !like_null && !self.quotes(text) {
            out.extend_from_slice(guard);
            text::append(text, out);
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

    /// Writes one cell. False when an instant lies outside what can be written.
    pub(crate) fn write(&self, column: &Column<'_>, row: usize, out: &mut Vec<u8>) -> bool {
        if column.is_null(row) {
            out.extend_from_slice(&self.null);
            return true;
        }
        let from = out.len();
        let mut possible = true;
        match column {
            Column::Text(column) => {
                self.text(column.value(row).as_bytes(), out);
                return true;
            }
            Column::Bool(column) => out.extend_from_slice(if column.value(row) { b"true" } else { b"false" }),
            Column::Int(column) => out.extend_from_slice(itoa::Buffer::new().format(column.value(row)).as_bytes()),
            Column::Float(column) => decimal::write(column.value(row), out),
            Column::Time(column) => possible = self.time.write(column.value(row), out),
        }
        // Only a null text that looks like a number, or a time format with delimiters, makes this needed.
        if !self.null.is_empty() || matches!((column, &self.time), (Column::Time(_), TimeFormat::Custom { .. })) {
            self.quote_written(from, out);
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
