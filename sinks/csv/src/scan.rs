//! Records of a CSV file as they stand there, one after the other.

use std::io::Read;
use std::ops::Range;

use pipeline_contract::ColumnType;
use pipeline_sink_lines::{Cell, Cells, Record, Records, ScanError, Window, Written};

use crate::cell::{Raw, Style};

/// Takes a stream apart into records, in little memory.
pub(crate) struct Scanner<R> {
    window: Window<R>,
    style: Style,
    line: u64,
    fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    start: usize,
    end: usize,
    quoted: bool,
    doubled: bool,
}

impl<R> Scanner<R> {
    /// A cell of the record that was scanned last.
    fn raw<'a>(&self, record: &'a [u8], at: usize) -> Option<Raw<'a>> {
        let field = self.fields.get(at)?;
        Some(Raw { bytes: record.get(field.start..field.end)?, quoted: field.quoted, doubled: field.doubled })
    }
}

impl<R> Cells for Scanner<R> {
    fn fault(&self, columns: &[Written]) -> Option<String> {
        let (has, needs) = (self.fields.len(), columns.len());
        (has != needs).then(|| format!("it has {has} cells, but the columns are {needs}"))
    }

    fn cell<'a>(&'a self, raw: &'a [u8], at: usize, ty: ColumnType, nullable: bool) -> Result<Cell<'a>, String> {
        self.raw(raw, at).ok_or("it is not there")?.read(ty, nullable, &self.style)
    }
}

enum Step {
    Whole(usize),
    More,
    AfterQuote,
}

impl<R: Read> Scanner<R> {
    pub(crate) fn new(input: R, style: Style) -> Self {
        Self::through(Window::new(input), style)
    }

    fn through(window: Window<R>, style: Style) -> Self {
        Self { window, style, line: 1, fields: Vec::new() }
    }

    /// Looks at the next record: where it stands in the buffer, and the number of its first line. `None` at the end.
    fn advance(&mut self) -> Result<Option<(Range<usize>, u64)>, ScanError> {
        let len = loop {
            match self.step() {
                Step::Whole(len) => break len,
                Step::AfterQuote => return Err(ScanError::AfterQuote { line: self.line }),
                // A record that has as much and no end.
                Step::More if self.window.is_overfull() => return Err(ScanError::TooLong { line: self.line }),
                Step::More if !self.window.is_at_end() => self.window.more()?,
                Step::More if self.window.data().is_empty() => return Ok(None),
                Step::More => return Err(ScanError::Unclosed { line: self.line }),
            }
        };
        let place = self.window.take(len);
        let line = self.line;
        let raw = self.window.taken(place.clone());
        self.line += if self.fields.iter().any(|field| field.quoted) { raw.iter().filter(|b| **b == b'\n').count() as u64 } else { 1 };
        Ok(Some((place, line)))
    }

    /// Looks for the end of the record that comes next.
    fn step(&mut self) -> Step {
        let (data, eof) = (self.window.data(), self.window.is_at_end());
        self.fields.clear();
        if data.is_empty() {
            return Step::More;
        }
        let mut at = 0;
        loop {
            let quoted = data.get(at) == Some(&b'"');
            let (start, end, doubled) = if quoted {
                let Some((end, doubled)) = closing(data, at + 1) else { return Step::More };
                (at + 1, end, doubled)
            } else {
                let rest = &data[at..];
                let len = rest.iter().position(|sign| *sign == self.style.delimiter || *sign == b'\n');
                match len {
                    Some(len) => (at, at + len, false),
                    None if eof => (at, data.len(), false),
                    None => return Step::More,
                }
            };
            let mut field = Field { start, end, quoted, doubled };
            let mut after = if quoted { end + 1 } else { end };
            if quoted && data.get(after) == Some(&b'\r') && matches!(data.get(after + 1), Some(b'\n') | None) {
                after += 1;
            }
            match data.get(after) {
                Some(sign) if *sign == self.style.delimiter => {
                    self.fields.push(field);
                    at = after + 1;
                }
                Some(b'\n') => {
                    if !quoted && data[start..end].ends_with(b"\r") {
                        field.end -= 1;
                    }
                    self.fields.push(field);
                    return Step::Whole(after + 1);
                }
                None if eof => {
                    self.fields.push(field);
                    return Step::Whole(data.len());
                }
                None => return Step::More,
                Some(_) => return Step::AfterQuote,
            }
        }
    }
}

impl<R: Read + Send> Records for Scanner<R> {
    fn next(&mut self) -> Result<Option<Record<'_>>, ScanError> {
        let Some((place, line)) = self.advance()? else { return Ok(None) };
        Ok(Some(Record { raw: self.window.taken(place), line, cells: &*self }))
    }
}

/// Where the quote that closes stands, and whether doubled ones stand before it.
fn closing(data: &[u8], from: usize) -> Option<(usize, bool)> {
    let mut at = from;
    let mut doubled = false;
    loop {
        at += data.get(at..)?.iter().position(|sign| *sign == b'"')?;
        match data.get(at + 1) {
            Some(b'"') => {
                doubled = true;
                at += 2;
            }
            _ => return Some((at, doubled)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use pipeline_contract::testkit::Fuzz;

    use super::*;

    fn style() -> Style {
        let time = pipeline_files::time::TimeFormat::Rfc3339;
        Style { delimiter: b',', null: Vec::new(), guard: false, newline: b"\n", time }
    }

    /// A stream that gives one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(buf.len()).min(1);
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn records(text: &str) -> Vec<(u64, Vec<String>)> {
        let mut all = Vec::new();
        let mut scanner = Scanner::new(Drip(text.as_bytes()), style());
        let mut raw = Vec::new();
        while let Some((place, line)) = scanner.advance().unwrap() {
            let record = scanner.window.taken(place);
            raw.extend_from_slice(record);
            let text = |at| String::from_utf8_lossy(scanner.raw(record, at).unwrap().bytes).replace("\"\"", "\"");
            all.push((line, (0..scanner.fields.len()).map(text).collect()));
        }
        assert_eq!(raw, text.as_bytes());
        all
    }

    #[test]
    fn records_and_their_lines() {
        let text = "a,b\n1,\"x\ny\"\r\n2,\"say \"\"hi\"\"\"\n\n3,\n\"\",z";
        let expected =
            [(1, vec!["a", "b"]), (2, vec!["1", "x\ny"]), (4, vec!["2", "say \"hi\""]), (5, vec![""]), (6, vec!["3", ""]), (7, vec!["", "z"])];
        assert_eq!(records(text), expected.map(|(line, cells)| (line, cells.into_iter().map(str::to_owned).collect())));
        assert_eq!(records(""), []);
    }

    #[test]
    fn faults() {
        let fault = |text: &'static str| {
            let mut scanner = Scanner::new(text.as_bytes(), style());
            loop {
                match scanner.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("no fault in {text}"),
                    Err(error) => return error,
                }
            }
        };
        assert!(matches!(fault("a\n\"b"), ScanError::Unclosed { line: 2 }));
        assert!(matches!(fault("a\n\"b\"c\n"), ScanError::AfterQuote { line: 2 }));
    }

    #[test]
    fn a_record_without_an_end_is_not_read_into_memory() {
        for sign in [b'x', b'"', b','] {
            let endless = io::repeat(sign);
            let mut scanner = Scanner::through(Window::with_longest(b"id\n".chain(endless), 1 << 18), style());
            assert_eq!(scanner.next().unwrap().unwrap().raw, b"id\n");
            assert!(matches!(scanner.next(), Err(ScanError::TooLong { line: 2 })));
            assert!(scanner.window.capacity() <= (1 << 18) + 1);
        }
        let mut scanner = Scanner::through(Window::with_longest(&[b'x'; 1 << 18][..], 1 << 18), style());
        assert_eq!(scanner.next().unwrap().unwrap().raw.len(), 1 << 18);
    }

    const SAMPLES: [&str; 4] =
        ["id,at,note\n1,2026-01-01T00:00:00Z,x\n2,,\"a, \"\"b\"\"\nc\"\n", "a\r\n\"b\"\r\n", "\n\n1,2\n,,\n\"\"", "é,\"日本\"\n"];

    type Cells = Vec<Vec<u8>>;

    /// Every record's cells, and all bytes; `None` when there is a fault.
    fn cells(input: impl Read) -> Option<(Vec<Cells>, Vec<u8>)> {
        let (mut all, mut raw) = (Vec::new(), Vec::new());
        let mut scanner = Scanner::new(input, style());
        while let Some((place, _)) = scanner.advance().ok()? {
            let record = scanner.window.taken(place);
            raw.extend_from_slice(record);
            if !matches!(record, b"\n" | b"\r\n") {
                let cell =
                    |at| scanner.raw(record, at).map(|cell| String::from_utf8_lossy(cell.bytes).into_owned().replace("\"\"", "\"").into_bytes());
                all.push((0..scanner.fields.len()).map(|at| cell(at).unwrap()).collect());
            }
        }
        Some((all, raw))
    }

    #[test]
    fn fuzzed_records_are_those_that_another_reader_finds() {
        let fuzz = Fuzz { name: "csv records", samples: &SAMPLES, words: &[",", "\"", "\"\"", "\n", "\r\n", "\0", "é"], cases: 2000, cost: 2 };
        fuzz.run_text(
            |draw| (0..draw.below(6)).map(|_| format!("{},\"{}\"\n", draw.below(9), "x\"\"".repeat(draw.below(3)))).collect(),
            |text| {
                let found = cells(text.as_bytes());
                if text.len() < 200 {
                    assert_eq!(found, cells(Drip(text.as_bytes())), "however it is read");
                }
                let Some((records, raw)) = found else { return false };
                assert_eq!(raw, text.as_bytes(), "no byte is lost");
                // To the other reader a lone `\r` ends a line, and so it does between blank lines.
                if !text.contains('\r') && !text.contains("\"\"") {
                    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
                    let other = reader.byte_records().map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect()).collect::<Vec<Cells>>();
                    assert_eq!(records, other);
                }
                true
            },
        );
    }
}
