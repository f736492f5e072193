//! Records of CSV, straight into columns.

use crate::cell;
use crate::columns::Cells;
use crate::config::{Dialect, Type, Wanted};
use crate::reader::{Batch, Fault, Step};

#[cfg(test)]
mod agree;
mod block;

pub(crate) use block::{Block, MOST};

/// A cell in a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    start: usize,
    end: usize,
    quoted: bool,
    /// There are doubled quotes in it.
    doubled: bool,
}

impl Field {
    /// The cell's text, as it stands in the file.
    fn of<'a>(&self, record: &'a [u8]) -> &'a [u8] {
        record.get(self.start..self.end).unwrap_or_default()
    }

    /// The cell's text.
    pub(crate) fn text(&self, record: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        unquote(self.of(record), self.doubled, |part| text.extend_from_slice(part));
        text
    }
}

/// What stands at the front of some bytes.
pub(crate) enum Scan {
    /// A record of so many bytes and line ends; its cells are in the list.
    Record { len: usize, lines: u64 },
    /// More bytes are needed to tell; none are left when there are none to come.
    More,
    /// No record.
    Bad(&'static str),
}

/// Looks at the record at the front of `data`. `whole`: nothing comes behind.
pub(crate) fn scan(data: &[u8], whole: bool, dialect: &Dialect, fields: &mut Vec<Field>) -> Scan {
    fields.clear();
    let mut start = 0;
    let signs = Signs::of(dialect.delimiter);
    // Cells are short: eight bytes at a time beat a search that is set up for each of them.
    for (block, bytes) in data.chunks(8).enumerate() {
        let mut marked = match bytes.first_chunk::<8>() {
            Some(bytes) => signs.marks(u64::from_le_bytes(*bytes)),
            None => {
                let mut padded = [0; 8];
                padded[..bytes.len()].copy_from_slice(bytes);
                signs.marks(u64::from_le_bytes(padded)) & ((1 << (8 * bytes.len())) - 1)
            }
        };
        while marked != 0 {
            let at = block * 8 + marked.trailing_zeros() as usize / 8;
            marked &= marked - 1;
            let sign = data[at];
            if sign == dialect.delimiter {
                fields.push(Field { start, end: at, quoted: false, doubled: false });
                start = at + 1;
            } else if sign == b'\n' {
                let end = if at > start && data[at - 1] == b'\r' { at - 1 } else { at };
                fields.push(Field { start, end, quoted: false, doubled: false });
                return Scan::Record { len: at + 1, lines: 1 };
            } else if sign == b'"' && at == start {
                return scan_quoted(data, whole, dialect, fields);
            }
            // A quote within a cell that does not begin with one is a sign as others, and so is what only looks like one of the three.
        }
    }
    if !whole || data.is_empty() {
        return Scan::More;
    }
    let end = if data.len() > start && data.ends_with(b"\r") { data.len() - 1 } else { data.len() };
    fields.push(Field { start, end, quoted: false, doubled: false });
    Scan::Record { len: data.len(), lines: 0 }
}

/// The signs that end a cell or may begin a quoted one.
enum Signs {
    /// They are below this one in each byte, and few others are.
    Below(u64),
    /// The delimiter, in each byte.
    Delimiter(u64),
}

impl Signs {
    #[inline]
    fn of(delimiter: u8) -> Self {
        match delimiter {
            b',' | b'\t' => Self::Below(u64::from_ne_bytes([b',' + 1; 8])),
            _ => Self::Delimiter(u64::from_ne_bytes([delimiter; 8])),
        }
    }

    /// The high bit of each of eight bytes that is a delimiter, a line end or a quote; perhaps of others too.
    #[inline]
    fn marks(&self, bytes: u64) -> u64 {
        const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
        // No sum carries over into the next byte, and no difference borrows from it.
        match self {
            Self::Below(bound) => !((bytes | !LOW) - bound) & !bytes & !LOW,
            Self::Delimiter(delimiter) => {
                let zeros = |bytes: u64| !(((bytes & LOW) + LOW) | bytes | LOW);
                zeros(bytes ^ delimiter) | zeros(bytes ^ u64::from_ne_bytes([b'\n'; 8])) | zeros(bytes ^ u64::from_ne_bytes([b'"'; 8]))
            }
        }
    }
}

/// As [`scan`], for records with quotes.
fn scan_quoted(data: &[u8], whole: bool, dialect: &Dialect, fields: &mut Vec<Field>) -> Scan {
    fields.clear();
    // Where a cell cannot hold a line end, the record ends with its line.
    let line = if dialect.quoted_newlines { None } else { memchr::memchr(b'\n', data) };
    let (data, whole) = match line {
        Some(end) => (&data[..=end], true),
        None if !dialect.quoted_newlines && !whole => return Scan::More,
        None => (data, whole),
    };
    let more = |why| if whole { Scan::Bad(why) } else { Scan::More };
    let mut at = 0;
    loop {
        let quoted = data.get(at) == Some(&b'"');
        let (field, after) = if quoted {
            let Some((end, doubled)) = closing(data, at + 1) else {
                let why = if line.is_some() {
                    "a quote is not closed on its line, and `quoted_newlines` is false"
                } else {
                    "a quote is opened and never closed"
                };
                return more(why);
            };
            let after = end + 1;
            let is_return = data.get(after) == Some(&b'\r') && (data.get(after + 1) == Some(&b'\n') || (whole && after + 1 == data.len()));
            (Field { start: at + 1, end, quoted, doubled }, if is_return { after + 1 } else { after })
        } else {
            let len = data[at..].iter().position(|sign| *sign == dialect.delimiter || *sign == b'\n');
            let end = match len {
                Some(len) => at + len,
                None if whole => data.len(),
                None => return Scan::More,
            };
            let last = data.get(end) != Some(&dialect.delimiter);
            let cut = last && end > at && data[end - 1] == b'\r';
            (Field { start: at, end: end - usize::from(cut), quoted, doubled: false }, end)
        };
        fields.push(field);
        match data.get(after) {
            Some(sign) if *sign == dialect.delimiter => at = after + 1,
            Some(b'\n') => return Scan::Record { len: after + 1, lines: memchr::memchr_iter(b'\n', &data[..=after]).count() as u64 },
            None if whole => return Scan::Record { len: data.len(), lines: memchr::memchr_iter(b'\n', data).count() as u64 },
            None => return Scan::More,
            Some(b'\r') if !whole && after + 1 == data.len() => return Scan::More,
            Some(_) => return Scan::Bad("there is text after a closing quote"),
        }
    }
}

/// Where the quote that closes stands, and whether doubled ones stand before it.
fn closing(data: &[u8], from: usize) -> Option<(usize, bool)> {
    let mut at = from;
    let mut doubled = false;
    loop {
        at += memchr::memchr(b'"', data.get(at..)?)?;
        if data.get(at + 1) != Some(&b'"') {
            return Some((at, doubled));
        }
        doubled = true;
        at += 2;
    }
}

/// Passes on the parts of a cell's text.
fn unquote(raw: &[u8], doubled: bool, mut push: impl FnMut(&[u8])) {
    if !doubled {
        return push(raw);
    }
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'"', rest) {
        push(&rest[..=at]);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    push(rest);
}

/// Reads records into columns.
pub(crate) struct CsvRows {
    dialect: Dialect,
    /// For each cell of a record its column, if it has one.
    targets: Vec<Option<usize>>,
    /// The length of the longest text that is null.
    longest_null: usize,
    /// No cell of the last record was quoted.
    plain: bool,
    fields: Vec<Field>,
    scratch: Vec<u8>,
    cuts: block::Cuts,
}

impl CsvRows {
    /// Records whose cells are for these columns, each by its number.
    pub(crate) fn new(dialect: Dialect, targets: Vec<Option<usize>>) -> Self {
        let longest_null = dialect.null.iter().map(Vec::len).max().unwrap_or_default();
        Self { dialect, targets, longest_null, plain: true, fields: Vec::new(), scratch: Vec::new(), cuts: block::Cuts::new() }
    }

    /// Reads the record at the front.
    pub(crate) fn step(&mut self, data: &[u8], whole: bool, wanted: &[Wanted], batch: &mut Batch) -> Step {
        let (len, lines) = match scan(data, whole, &self.dialect, &mut self.fields) {
            Scan::Record { len, lines } => (len, lines),
            Scan::More => return Step::More,
            Scan::Bad(why) => return Step::Bad(Fault::new("file:quote", why)),
        };
        if let [Field { start: 0, end: 0, quoted: false, .. }] = self.fields[..] {
            return Step::Took { len, lines };
        }
        if self.fields.len() != self.targets.len() {
            let (has, needs) = (self.fields.len(), self.targets.len());
            return Step::Reject { len, lines, fault: Fault::new("file:cells", format!("it has {has} cells, where {needs} are expected")) };
        }
        self.plain = self.fields.iter().all(|field| !field.quoted);
        for (field, target) in self.fields.iter().zip(&self.targets) {
            let Some((cells, wanted)) = target.and_then(|target| Some((batch.columns.get_mut(target)?, wanted.get(target)?))) else { continue };
            if let Err(fault) = push(field, field.of(data), cells, wanted, &self.dialect, self.longest_null, &mut self.scratch) {
                return Step::Reject { len, lines, fault };
            }
        }
        Step::Row { len, lines }
    }
}

#[inline]
fn push(
    field: &Field,
    raw: &[u8],
    cells: &mut Cells,
    wanted: &Wanted,
    dialect: &Dialect,
    longest_null: usize,
    scratch: &mut Vec<u8>,
) -> Result<(), Fault> {
    let is_text = wanted.ty == Type::Text;
    if raw.len() <= longest_null && (!field.quoted || !is_text) && dialect.null.iter().any(|null| null == raw) {
        if wanted.required {
            return Err(Fault::new("file:null", format!("{} is null, and it is required", wanted.name)));
        }
        cells.null();
        return Ok(());
    }
    let known = match &wanted.ty {
        Type::Text => {
            if !raw.is_ascii() && std::str::from_utf8(raw).is_err() {
                return Err(Fault::new("file:utf8", format!("{} is not UTF-8", wanted.name)));
            }
            if field.doubled {
                scratch.clear();
                unquote(raw, true, |part| scratch.extend_from_slice(part));
                cells.text(scratch);
            } else {
                cells.text(raw);
            }
            true
        }
        Type::Float => either(raw, if dialect.comma { cell::float_with_comma } else { cell::float }).map(|value| cells.float(value)).is_some(),
        Type::Integer => either(raw, cell::integer).map(|value| cells.integer(value)).is_some(),
        Type::Timestamp(time) => either(raw, |text| time.read(text)).map(|value| cells.integer(value)).is_some(),
        Type::Boolean => either(raw, cell::boolean).map(|value| cells.boolean(value)).is_some(),
    };
    if known { Ok(()) } else { Err(Fault::value(wanted, &format!("`{}`", cell::shown(raw, 100)))) }
}

/// Reads a value as it stands, or without the blanks around it.
#[inline]
fn either<T>(raw: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    read(raw).or_else(|| Some(cell::trimmed(raw)).filter(|text| text.len() < raw.len()).and_then(read))
}

#[cfg(test)]
mod tests {
    use pipeline_contract::testkit::Fuzz;

    use super::*;

    fn dialect(quoted_newlines: bool) -> Dialect {
        Dialect { delimiter: b',', header: false, quoted_newlines, null: vec![Vec::new()], comma: false, block: MOST }
    }

    /// The records up to the first fault, as their cells; whether there was none.
    fn records(mut data: &[u8], quoted_newlines: bool) -> (Vec<Vec<Vec<u8>>>, bool) {
        let (mut all, mut fields) = (Vec::new(), Vec::new());
        loop {
            match scan(data, true, &dialect(quoted_newlines), &mut fields) {
                Scan::Record { len, lines } => {
                    assert_eq!(lines, data[..len].iter().filter(|sign| **sign == b'\n').count() as u64);
                    if !matches!(fields[..], [Field { start: 0, end: 0, quoted: false, .. }]) {
                        all.push(fields.iter().map(|field| field.text(data)).collect());
                    }
                    data = &data[len..];
                }
                Scan::More => return (all, data.is_empty()),
                Scan::Bad(_) => return (all, false),
            }
        }
    }

    #[test]
    fn fuzzed_records_are_those_that_another_reader_finds_however_they_arrive() {
        let samples = ["id,at,note\n1,2026,x\n2,,\"a, \"\"b\"\"\nc\"\n", "a\r\n\"b\"\r\n", "\n\n1,2\n,,\n\"\"", "é,\"日本\"\n,\r\n"];
        let fuzz = Fuzz { name: "csv source", samples: &samples, words: &[",", "\"", "\"\"", "\n", "\r\n", "\0", "é"], cases: 1500, cost: 2 };
        fuzz.run(
            |draw| (0..draw.below(6)).map(|_| format!("{},\"{}\"\n", draw.below(9), "x\"\"".repeat(draw.below(3)))).collect::<String>().into_bytes(),
            |data| {
                if data.len() < 200 {
                    // What is said of a begin holds when the rest has come.
                    for quoted_newlines in [true, false] {
                        let (mut part, mut all) = (Vec::new(), Vec::new());
                        for end in 0..=data.len() {
                            match (
                                scan(&data[..end], false, &dialect(quoted_newlines), &mut part),
                                scan(data, true, &dialect(quoted_newlines), &mut all),
                            ) {
                                (Scan::Record { len, .. }, Scan::Record { len: other, .. }) => {
                                    assert_eq!(len, other);
                                    let text = |fields: &[Field]| fields.iter().map(|field| field.text(data)).collect::<Vec<_>>();
                                    assert_eq!(text(&part), text(&all));
                                }
                                (Scan::More, _) | (Scan::Bad(_), Scan::Bad(_)) => {}
                                _ => panic!("a begin of {end} bytes is told from the whole"),
                            }
                        }
                    }
                }
                let (found, whole) = records(data, true);
                // To the other reader a lone `\r` ends a line, and quotes in the wrong place are signs.
                if whole && !data.contains(&b'\r') {
                    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(data);
                    let other =
                        reader.byte_records().map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect()).collect::<Vec<Vec<Vec<u8>>>>();
                    assert_eq!(found, other);
                }
                if whole && !found.iter().flatten().any(|cell| cell.contains(&b'\n')) {
                    assert_eq!(records(data, false), (found, true));
                }
                whole
            },
        );
    }
}
