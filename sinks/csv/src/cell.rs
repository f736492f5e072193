//! One cell as text in a file, and back.

use std::borrow::Cow;

use pipeline_contract::ColumnType;
use pipeline_files::time::TimeFormat;
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
    fn guarded(&self, text: &[u8]) -> bool {
        const WIDE: [&str; 4] = ["\u{ff1d}", "\u{ff0b}", "\u{ff0d}", "\u{ff20}"];
        if !self.guard {
            return false;
        }
        let Some(first) = text.first() else { return false };
        matches!(first, b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r' | b'\n' | b'\'')
            || (!first.is_ascii() && WIDE.iter().any(|sign| text.starts_with(sign.as_bytes())))
    }

    fn quotes(&self, text: &[u8]) -> bool {
        // Without a branch for each sign: texts are short.
        let special = |any: bool, sign: &u8| any | (*sign == self.delimiter) | (*sign == b'"') | (*sign == b'\n') | (*sign == b'\r');
        text == self.null || text.iter().fold(false, special)
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
            Column::Float(column) => float(column.value(row), out),
            Column::Time(column) => possible = self.time.write(column.value(row), out),
        }
        // Only a null text that looks like a number, or a time format with delimiters, makes this needed.
        if !self.null.is_empty() || matches!((column, &self.time), (Column::Time(_), TimeFormat::Custom { .. })) {
            self.quote_written(from, out);
        }
        possible
    }
}

/// Writes a number as the shortest text that is read back as it, as `zmij` has it.
#[inline]
fn float(value: f64, out: &mut Vec<u8>) {
    if !few_decimals(value, out) {
        out.extend_from_slice(zmij::Buffer::new().format(value).as_bytes());
    }
}

/// Writes a number with few decimals, as prices have; false, and nothing written, when it has more. Of at most 15 digits no two decimals are
/// one float, so the only one of them that is read back as `value` is the shortest.
#[inline]
fn few_decimals(value: f64, out: &mut Vec<u8>) -> bool {
    let size = value.abs();
    // Zero, too small or too large to be written without an exponent, or no number.
    if !(1e-3..1e11).contains(&size) {
        return false;
    }
    let tried = |scale: f64| {
        // Signed: the processor converts these in one step.
        let scaled = (size * scale + 0.5) as i64;
        (scaled as f64 / scale == size).then_some(scaled.cast_unsigned())
    };
    let mut text = [b'0'; 40];
    // Eleven digits and a sign have room before the point, eight digits behind it.
    const POINT: usize = 13;
    const MOST: usize = 24;
    text[POINT] = b'.';
    let (whole, mut end) = if let Some(scaled) = tried(1e4) {
        let part = scaled % 10_000;
        text[POINT + 1..POINT + 3].copy_from_slice(&pair(part / 100));
        text[POINT + 3..POINT + 5].copy_from_slice(&pair(part % 100));
        (scaled / 10_000, POINT + 5)
    } else if let Some(scaled) = tried(1e8).filter(|_| size < 1e7) {
        let part = scaled % 100_000_000;
        for (at, digits) in [part / 1_000_000, part / 10_000 % 100, part / 100 % 100, part % 100].into_iter().enumerate() {
            text[POINT + 1 + 2 * at..POINT + 3 + 2 * at].copy_from_slice(&pair(digits));
        }
        (scaled / 100_000_000, POINT + 9)
    } else {
        return false;
    };
    while end > POINT + 2 && text[end - 1] == b'0' {
        end -= 1;
    }
    let (mut rest, mut start) = (whole, POINT);
    while rest >= 10 {
        start -= 2;
        text[start..start + 2].copy_from_slice(&pair(rest % 100));
        rest /= 100;
    }
    if rest > 0 || start == POINT {
        start -= 1;
        text[start] = b'0' + (rest % 10) as u8;
    }
    if value < 0.0 {
        start -= 1;
        text[start] = b'-';
    }
    // As many bytes as there may be, since copying a number of them that is known beforehand takes no call.
    let (from, len) = (out.len(), end - start);
    match text.get(start..).and_then(|text| text.first_chunk::<MOST>()) {
        Some(text) if len <= MOST => {
            out.extend_from_slice(text);
            out.truncate(from + len);
        }
        _ => out.extend_from_slice(&text[start..end]),
    }
    true
}

/// Two digits of a number below 100.
#[inline]
fn pair(number: u64) -> [u8; 2] {
    let tens = ((number * 103) >> 10) as u8;
    [b'0' + tens, b'0' + (number as u8).wrapping_sub(10 * tens)]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: f64) -> String {
        let mut out = Vec::new();
        float(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_at_the_edges_are_written_as_the_shortest_text() {
        for value in [
            0.0,
            -0.0,
            1.0,
            -1.5,
            0.001,
            0.000_999_99,
            9_999_999.999_999_99,
            1e7,
            1e7 + 0.0001,
            1e11,
            1e16,
            1e-7,
            0.1 + 0.2,
            f64::NAN,
            -f64::INFINITY,
        ] {
            let mut buffer = zmij::Buffer::new();
            assert_eq!(written(value), buffer.format(value));
        }
        let mut out = Vec::new();
        assert!(few_decimals(54_253.737_4, &mut out) && few_decimals(14_463_682.34, &mut out) && few_decimals(-0.025, &mut out));
        assert_eq!(out, b"54253.737414463682.34-0.025");
        assert!(!few_decimals(0.1 + 0.2, &mut out));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn numbers_are_written_as_the_shortest_text(
            value in prop_oneof![any::<f64>(), 1e-4..1e12, (-1_000_000_000_000_000_i64..1_000_000_000_000_000, 0..16).prop_map(|(n, e)| n as f64 / 10_f64.powi(e))],
        ) {
            let (text, mut buffer) = (written(value), zmij::Buffer::new());
            prop_assert_eq!(text.as_str(), buffer.format(value));
        }
    }
}
