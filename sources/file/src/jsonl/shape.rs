//! Lines that look like one that serde_json read: what stands between their values is compared, and the values are read where they stand.
//!
//! All other lines, and whatever is wrong, are left to serde_json, which alone says why a line is no row.

use super::plain::{boolean, float, integer, scalar, text, timestamp};
use super::{JsonRows, Keys, Node};
use crate::columns::Cells;
use crate::config::{Type, Wanted};
use crate::lines::LONGEST;
use crate::reader::Batch;

/// After attempts in vain up to so many lines are read by serde_json alone.
const LONGEST_WAIT: usize = 64;

/// What lines look like.
pub(super) struct Shape {
    /// As many bytes as are looked at in one go.
    block: usize,
    /// What stands before each value, and what is done with it; nothing when no line was looked at.
    values: Vec<(Between, Goal)>,
    /// What stands behind the last value, the line end included.
    tail: Between,
    /// The columns that have no value.
    absent: Vec<usize>,
    /// How many lines are left to serde_json before the next attempt.
    pub(super) wait: usize,
    /// As many as they were after the last attempt, if that was in vain.
    vain: usize,
}

/// Where a value goes: into which column, and as what.
#[derive(Clone, Copy, PartialEq)]
enum Goal {
    Nowhere,
    Float(usize),
    Text(usize),
    Other(usize),
}

impl Goal {
    fn column(self) -> Option<usize> {
        match self {
            Self::Nowhere => None,
            Self::Float(column) | Self::Text(column) | Self::Other(column) => Some(column),
        }
    }
}

impl JsonRows {
    /// Reads lines at the front that look like one that was read: at most so many, and none that begins at `limit` or behind it; answers how many
    /// bytes and rows they are. Whatever is otherwise is left to [`JsonRows::step`].
    pub(crate) fn block(&mut self, data: &[u8], most: usize, limit: u64, wanted: &[Wanted], batch: &mut Batch) -> (usize, usize) {
        self.shape.block(data, most, limit, wanted, batch)
    }
}

impl Shape {
    pub(super) fn new(block: usize) -> Self {
        Self { block, values: Vec::new(), tail: Between::default(), absent: Vec::new(), wait: 0, vain: 0 }
    }

    fn block(&mut self, data: &[u8], most: usize, limit: u64, wanted: &[Wanted], batch: &mut Batch) -> (usize, usize) {
        if self.wait > 0 {
            self.wait -= 1;
            return (0, 0);
        }
        // A longer line is none.
        let data = &data[..data.len().min(LONGEST)];
        let limit = limit.min(self.block as u64);
        let (mut at, mut rows) = (0, 0);
        while rows < most && (at as u64) < limit {
            let rest = data.get(at..).unwrap_or_default();
            let Some(len) = self.row(rest, wanted, &mut batch.columns) else {
                batch.columns.iter_mut().for_each(|cells| cells.truncate(batch.rows + rows));
                self.missed(rows, rest);
                break;
            };
            at += len;
            rows += 1;
        }
        (at, rows)
    }

    /// The line at the front of `rest`, behind so many others, is not of this shape.
    fn missed(&mut self, rows: usize, rest: &[u8]) {
        // It may be, when the rest of it has come.
        if memchr::memchr(b'\n', rest).is_none() {
            return;
        }
        // Where shapes change with each line, few attempts are made.
        self.vain = if rows > 0 { 0 } else { (2 * self.vain).clamp(1, LONGEST_WAIT) };
        // The next line is this one again, if others were taken.
        self.wait = if rows > 0 { 1 } else { self.vain - 1 };
    }

    /// Reads the line at the front; answers how long it is. `None`: it is of another shape, and values may have been put into the columns.
    #[inline(always)]
    fn row(&self, data: &[u8], wanted: &[Wanted], columns: &mut [Cells]) -> Option<usize> {
        let mut rest = if self.values.is_empty() { return None } else { data };
        for (before, goal) in &self.values {
            rest = before.strip(rest)?;
            let read = match *goal {
                Goal::Float(column) => float(rest).and_then(|(value, len)| {
                    columns.get_mut(column)?.float(value);
                    Some(len)
                }),
                Goal::Text(column) => text(rest).and_then(|text| {
                    columns.get_mut(column)?.text(text);
                    Some(text.len() + 2)
                }),
                Goal::Other(column) => other(rest, wanted.get(column)?, columns.get_mut(column)?),
                Goal::Nowhere => scalar(rest),
            };
            let len = match read {
                Some(len) => len,
                None => null(rest, goal.column()?, wanted, columns)?,
            };
            rest = rest.get(len..)?;
        }
        rest = self.tail.strip(rest)?;
        for column in &self.absent {
            columns.get_mut(*column)?.null();
        }
        Some(data.len() - rest.len())
    }

    /// A line was read by serde_json, and is a row.
    #[inline]
    pub(super) fn saw(&mut self, line: &[u8], keys: &Keys, wanted: &[Wanted]) {
        // Where lines of this shape come now and then, it stays. What is kept is some times as large as the line.
        if self.wait == 0 && (self.vain > 0 || self.values.is_empty()) && line.len() <= self.block {
            self.learn(line, keys, wanted);
        }
    }

    fn learn(&mut self, line: &[u8], keys: &Keys, wanted: &[Wanted]) {
        self.values.clear();
        self.absent.clear();
        let mut learner = Learner { line, at: 0, from: 0, wanted, values: &mut self.values };
        if learner.object(keys).is_none() {
            self.values.clear();
            return;
        }
        let from = learner.from;
        self.tail = Between::new(&[line.get(from..).unwrap_or_default(), b"\n"].concat());
        let values = &self.values;
        self.absent.extend((0..wanted.len()).filter(|column| !values.iter().any(|(_, goal)| goal.column() == Some(*column))));
    }
}

/// Looks at a line of which it is known that it is an object of JSON.
struct Learner<'a> {
    line: &'a [u8],
    at: usize,
    /// Where the last value ended.
    from: usize,
    wanted: &'a [Wanted],
    values: &'a mut Vec<(Between, Goal)>,
}

impl Learner<'_> {
    /// `None` where a line is not simple.
    fn object(&mut self, keys: &Keys) -> Option<()> {
        self.sign(b'{')?;
        if self.sign(b'}').is_some() {
            return Some(());
        }
        loop {
            self.blanks();
            let key = quoted(self.line.get(self.at..)?)?;
            // One with an escape is another key than its signs.
            let place = if key.contains(&b'\\') { return None } else { keys.0.iter().position(|(name, _)| name.as_bytes() == key) };
            self.at += key.len() + 2;
            self.sign(b':')?;
            self.blanks();
            match place.and_then(|place| keys.0.get(place)) {
                Some((_, Node::Object(keys))) => self.object(keys)?,
                Some((_, Node::Column(column))) => {
                    let goal = match self.wanted.get(*column)?.ty {
                        Type::Float => Goal::Float(*column),
                        Type::Text => Goal::Text(*column),
                        _ => Goal::Other(*column),
                    };
                    self.value(goal)?;
                }
                None => self.value(Goal::Nowhere)?,
            }
            if self.sign(b'}').is_some() {
                return Some(());
            }
            self.sign(b',')?;
        }
    }

    fn blanks(&mut self) {
        let rest = self.line.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|sign| sign.is_ascii_whitespace()).count();
    }

    /// Passes over a sign, if it is the next one.
    fn sign(&mut self, sign: u8) -> Option<()> {
        self.blanks();
        (self.line.get(self.at) == Some(&sign)).then(|| self.at += 1)
    }

    /// Passes over a value, which may be of a form that is not read here.
    fn value(&mut self, goal: Goal) -> Option<()> {
        let before = Between::new(self.line.get(self.from..self.at)?);
        let rest = self.line.get(self.at..)?;
        let len = match rest.first()? {
            b'{' | b'[' => return None,
            b'"' => quoted(rest)?.len() + 2,
            _ => rest.iter().position(|sign| matches!(sign, b',' | b'}') || sign.is_ascii_whitespace())?,
        };
        self.values.push((before, goal));
        self.at += len;
        self.from = self.at;
        Some(())
    }
}

/// What stands in quotes at the front, escapes and all.
fn quoted(data: &[u8]) -> Option<&[u8]> {
    let mut escaped = false;
    let is_end = |sign: &u8| {
        let is_end = *sign == b'"' && !escaped;
        escaped = *sign == b'\\' && !escaped;
        is_end
    };
    let text = data.get(1..)?;
    text.get(..text.iter().position(is_end)?)
}

/// What stands between two values: eight bytes at a time, each with the bits that count, and the length of all.
#[derive(Default)]
struct Between {
    first: (u64, u64),
    more: Vec<(u64, u64)>,
    len: usize,
}

impl Between {
    fn new(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| {
            let mut word = ([0; 8], [0; 8]);
            for (place, byte) in bytes.iter().enumerate() {
                (word.0[place], word.1[place]) = (*byte, 0xff);
            }
            (u64::from_le_bytes(word.0), u64::from_le_bytes(word.1))
        };
        let mut words = bytes.chunks(8).map(word);
        Self { first: words.next().unwrap_or_default(), more: words.collect(), len: bytes.len() }
    }

    /// What follows behind it; `None` where it is not at the front, or too close to the end to tell.
    #[inline(always)]
    fn strip<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        let is_at = |bytes: &[u8; 8], (word, mask): &(u64, u64)| (u64::from_le_bytes(*bytes) ^ word) & mask == 0;
        let (bytes, mut rest) = data.split_first_chunk::<8>()?;
        if !is_at(bytes, &self.first) {
            return None;
        }
        for word in &self.more {
            let (bytes, behind) = rest.split_first_chunk::<8>()?;
            if !is_at(bytes, word) {
                return None;
            }
            rest = behind;
        }
        data.get(self.len..)
    }
}

/// Puts the value at the front into its column; answers how long it is.
#[inline(always)]
fn other(data: &[u8], wanted: &Wanted, cells: &mut Cells) -> Option<usize> {
    match &wanted.ty {
        Type::Integer => integer(data).map(|(value, len)| {
            cells.integer(value);
            len
        }),
        Type::Timestamp(time) => timestamp(data, time).map(|(value, len)| {
            cells.integer(value);
            len
        }),
        Type::Boolean => boolean(data).map(|(value, len)| {
            cells.boolean(value);
            len
        }),
        Type::Float | Type::Text => None,
    }
}

#[cold]
#[inline(never)]
fn null(data: &[u8], column: usize, wanted: &[Wanted], columns: &mut [Cells]) -> Option<usize> {
    let may_be = data.starts_with(b"null") && !wanted.get(column)?.required;
    let cells = columns.get_mut(column).filter(|_| may_be)?;
    cells.null();
    Some(4)
}
