//! Plain records, many at a time: first where their cells end, then column by column, so that the type of a column is asked for once.

use super::{CsvRows, Field, push};
use crate::columns::Cells;
use crate::config::{Dialect, Type, Wanted};
use crate::digits;
use crate::reader::{Batch, Fault};
use pipeline_files::time::TimeFormat;

/// As many bytes as are looked at in one go: they are read once for each column, and stay in the cache meanwhile.
pub(crate) const MOST: usize = 64 << 10;

/// Records that were read, each of them a line.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) len: usize,
    /// The rows among them, which are in the columns.
    pub(crate) rows: usize,
    /// The others, in order.
    pub(crate) bad: Vec<Bad>,
}

/// A record that is no row.
pub(crate) struct Bad {
    /// How many lines of the block stand before it.
    pub(crate) line: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) fault: Fault,
}

impl CsvRows {
    /// Reads plain records at the front: whole ones without quotes that have as many cells as they should. At most so many, and none that begins
    /// at `limit` or behind it. Whatever is otherwise is left to [`CsvRows::step`], and so is what follows it.
    pub(crate) fn block(&mut self, data: &[u8], most: usize, limit: u64, wanted: &[Wanted], batch: &mut Batch) -> Block {
        // Quoted records come in a row.
        if !self.plain || most == 0 || limit == 0 {
            return Block::default();
        }
        let data = &data[..data.len().min(self.dialect.block)];
        let cells = self.targets.len();
        let (records, is_ascii) = self.cuts.find(data, self.dialect.delimiter, cells, most, limit);
        let bounds = &self.cuts.bounds[..];
        let line = |record: usize| bounds.get(record * cells).map_or(0, |start| *start as usize);
        let len = line(records);
        if records == 0 {
            return Block::default();
        }
        let data = &data[..len];
        let is_utf8 = is_ascii || std::str::from_utf8(data).is_ok();
        let mut faults: Vec<(usize, Fault)> = Vec::new();
        for (place, target) in self.targets.iter().enumerate() {
            let Some((column, wanted)) = target.and_then(|target| Some((batch.columns.get_mut(target)?, wanted.get(target)?))) else { continue };
            let mut odd = |record: usize, text: &[u8], column: &mut Cells| {
                if let Err(fault) = push(&PLAIN, text, column, wanted, &self.dialect, self.longest_null, &mut self.scratch) {
                    column.placeholder();
                    faults.push((record, fault));
                }
            };
            let all = Column { data, bounds, cells, place, records, longest_null: self.longest_null };
            all.read(&wanted.ty, &self.dialect, is_utf8, column, &mut odd);
        }
        // Of each record the first fault counts, as if its cells had been read one after the other.
        faults.sort_by_key(|(record, _)| *record);
        faults.dedup_by_key(|(record, _)| *record);
        if !faults.is_empty() {
            let bad: Vec<usize> = faults.iter().map(|(record, _)| batch.rows + record).collect();
            batch.columns.iter_mut().for_each(|column| column.remove(&bad));
        }
        let bad: Vec<Bad> =
            faults.into_iter().map(|(record, fault)| Bad { line: record, start: line(record), end: line(record + 1), fault }).collect();
        Block { len, rows: records - bad.len(), bad }
    }
}

/// A text of so many bytes is short ...
const SHORT: usize = 32;
/// ... and so many of them are put together.
const TEXTS: usize = 64;

/// Short texts that are put together, and where each ends.
struct Page {
    bytes: [u8; TEXTS * SHORT],
    ends: [usize; TEXTS],
}

const PLAIN: Field = Field { start: 0, end: 0, quoted: false, doubled: false };

/// How most cells of a type are read.
trait Read: Copy {
    /// What is known of a value when its cell was read.
    type Read: Copy + Default;
    type Value;

    /// The value of `len` signs, which are not none, before `end`; `None` when it takes more to tell.
    fn read(self, data: &[u8], end: usize, len: usize) -> Option<Self::Read>;

    fn value(read: Self::Read) -> Self::Value;
}

#[derive(Clone, Copy)]
struct Float;

impl Read for Float {
    type Read = digits::Quotient;
    type Value = f64;

    #[inline(always)]
    fn read(self, data: &[u8], end: usize, len: usize) -> Option<digits::Quotient> {
        digits::float(data, end, len)
    }

    #[inline(always)]
    fn value(read: digits::Quotient) -> f64 {
        read.value()
    }
}

/// Whole numbers of so much each.
#[derive(Clone, Copy)]
struct Whole {
    unit: i64,
}

impl Read for Whole {
    type Read = i64;
    type Value = i64;

    #[inline(always)]
    fn read(self, data: &[u8], end: usize, len: usize) -> Option<i64> {
        digits::whole(data, end, len)?.checked_mul(self.unit)
    }

    #[inline(always)]
    fn value(read: i64) -> i64 {
        read
    }
}

impl Read for &TimeFormat {
    type Read = i64;
    type Value = i64;

    #[inline(always)]
    fn read(self, data: &[u8], end: usize, len: usize) -> Option<i64> {
        TimeFormat::read(self, data.get(end.wrapping_sub(len)..end)?)
    }

    #[inline(always)]
    fn value(read: i64) -> i64 {
        read
    }
}

/// One column of a block's records.
#[derive(Clone, Copy)]
struct Column<'a> {
    data: &'a [u8],
    bounds: &'a [u32],
    /// The cells of a record, and which of them is the column's.
    cells: usize,
    place: usize,
    records: usize,
    longest_null: usize,
}

impl Column<'_> {
    /// Adds the column's cells. One that is not as most are is passed to `odd`, which adds it.
    fn read(&self, ty: &Type, dialect: &Dialect, is_utf8: bool, column: &mut Cells, odd: &mut impl FnMut(usize, &[u8], &mut Cells)) {
        match ty {
            Type::Float if !dialect.comma => self.fill(column, Cells::floats, Float, odd),
            Type::Integer => self.fill(column, Cells::integers, Whole { unit: 1 }, odd),
            Type::Timestamp(TimeFormat::Unix) => self.fill(column, Cells::integers, Whole { unit: 1_000_000 }, odd),
            Type::Timestamp(TimeFormat::UnixMs) => self.fill(column, Cells::integers, Whole { unit: 1000 }, odd),
            Type::Timestamp(TimeFormat::UnixUs) => self.fill(column, Cells::integers, Whole { unit: 1 }, odd),
            Type::Timestamp(time) => self.fill(column, Cells::integers, time, odd),
            Type::Text if is_utf8 => self.texts(column, odd),
            Type::Float | Type::Text | Type::Boolean => {
                self.odd(0, self.records, column, odd);
            }
        }
    }

    /// Where a record's cell begins and ends.
    #[inline(always)]
    fn cell(&self, record: usize) -> Option<(usize, usize)> {
        let &[start, next] = self.bounds.get(record * self.cells + self.place..)?.first_chunk::<2>()?;
        Some((start as usize, next as usize - 1))
    }

    /// As [`Column::cell`], for the last one of a record: what ends a line may have two signs.
    #[inline(always)]
    fn last_cell(&self, record: usize) -> Option<(usize, usize)> {
        let (start, end) = self.cell(record)?;
        let cut = end > start && self.data.get(end - 1) == Some(&b'\r');
        Some((start, end - usize::from(cut)))
    }

    fn is_last(&self) -> bool {
        self.place + 1 == self.cells
    }

    /// Passes on so many cells from a record's on; answers with which record it goes on.
    fn odd(&self, record: usize, many: usize, column: &mut Cells, odd: &mut impl FnMut(usize, &[u8], &mut Cells)) -> usize {
        let end = (record + many).min(self.records);
        for record in record..end {
            let cell = if self.is_last() { self.last_cell(record) } else { self.cell(record) };
            let text = cell.and_then(|(start, end)| self.data.get(start..end));
            odd(record, text.unwrap_or_default(), column);
        }
        end
    }

    #[inline(always)]
    fn fill<R: Read>(
        &self,
        column: &mut Cells,
        values: impl Fn(&mut Cells) -> Option<&mut Vec<R::Value>>,
        read: R,
        odd: &mut impl FnMut(usize, &[u8], &mut Cells),
    ) {
        let mut some = [R::Read::default(); 64];
        let (mut record, mut many) = (0, 0);
        while record < self.records {
            let known = match self.is_last() {
                true => self.values(record, &mut some, Self::last_cell, read),
                false => self.values(record, &mut some, Self::cell, read),
            };
            if let Some(values) = values(column) {
                values.extend(some.iter().take(known).map(|read| R::value(*read)));
            }
            column.are_valid();
            record += known;
            if known < some.len() {
                many = odd_ones(many, known);
                record = self.odd(record, many, column, odd);
            }
        }
    }

    /// Reads values from a record's on, up to the first one that is odd; answers how many. By itself, for the sake of registers.
    #[inline(never)]
    fn values<R: Read>(&self, record: usize, values: &mut [R::Read], cell: impl Fn(&Self, usize) -> Option<(usize, usize)>, read: R) -> usize {
        let column = *self;
        let mut filled = 0;
        for (value, record) in values.iter_mut().zip(record..column.records) {
            let Some((start, end)) = cell(&column, record) else { break };
            let len = end.wrapping_sub(start);
            // What may be null is not looked at here.
            if len <= column.longest_null {
                break;
            }
            let Some(known) = read.read(column.data, end, len) else { break };
            *value = known;
            filled += 1;
        }
        filled
    }

    fn texts(&self, column: &mut Cells, odd: &mut impl FnMut(usize, &[u8], &mut Cells)) {
        let mut page = Page { bytes: [0; TEXTS * SHORT], ends: [0; TEXTS] };
        let (mut record, mut many) = (0, 0);
        while record < self.records {
            let known = column.texts().map_or(0, |(ends, bytes)| self.append(record, &mut page, ends, bytes));
            column.are_valid();
            many = odd_ones(many, known);
            record = self.odd(record + known, many, column, odd);
        }
    }

    /// As [`Column::values`], for texts: of short ones, some at a time are put together before the column grows by them.
    #[inline(never)]
    fn append(&self, record: usize, page: &mut Page, ends: &mut Vec<i32>, bytes: &mut Vec<u8>) -> usize {
        let column = *self;
        let is_last = self.is_last();
        let cell = |record| {
            let (start, end) = if is_last { column.last_cell(record) } else { column.cell(record) }?;
            (end.saturating_sub(start) > column.longest_null).then_some((start, end))
        };
        let as_end = |end: usize| i32::try_from(end).unwrap_or(i32::MAX);
        let mut next = record;
        while next < column.records
            && let Some((start, end)) = cell(next)
        {
            let some = page.fill(column.data, (next..column.records).map_while(cell));
            let short = page.ends.get(..some).unwrap_or_default();
            let before = bytes.len();
            match short.last() {
                Some(len) => {
                    bytes.extend_from_slice(page.bytes.get(..*len).unwrap_or_default());
                    ends.extend(short.iter().map(|end| as_end(before + end)));
                }
                None => {
                    bytes.extend_from_slice(column.data.get(start..end).unwrap_or_default());
                    ends.push(as_end(bytes.len()));
                }
            }
            next += some.max(1);
        }
        next - record
    }
}

impl Page {
    /// Puts the texts of cells together, up to the first one that is not short or has too little behind it; answers how many.
    #[inline(always)]
    fn fill(&mut self, data: &[u8], cells: impl Iterator<Item = (usize, usize)>) -> usize {
        let (mut len, mut some) = (0, 0);
        for (its, (start, end)) in self.ends.iter_mut().zip(cells) {
            // What stands behind it is copied, too, and overwritten: of a known length, it takes no call.
            let wide = data.get(start..).and_then(|rest| rest.first_chunk::<SHORT>());
            let room = self.bytes.get_mut(len..).and_then(|rest| rest.first_chunk_mut::<SHORT>());
            let (true, Some(wide), Some(room)) = (end - start <= SHORT, wide, room) else { break };
            *room = *wide;
            len += end - start;
            *its = len;
            some += 1;
        }
        some
    }
}

/// As how many cells the next odd ones are taken, after so many and then `known` others: where none is as most are, few are tried in vain.
fn odd_ones(before: usize, known: usize) -> usize {
    if known > 0 { 1 } else { (2 * before).clamp(1, 64) }
}

/// Where the cells of records begin: one after the other, and behind the last one where the next would.
pub(super) struct Cuts {
    bounds: Vec<u32>,
}

impl Cuts {
    pub(super) fn new() -> Self {
        Self { bounds: Vec::new() }
    }

    /// Finds the plain records at the front of `data`; answers how many, and whether all that was looked at is ASCII.
    fn find(&mut self, data: &[u8], delimiter: u8, cells: usize, most: usize, limit: u64) -> (usize, bool) {
        let bounds = &mut self.bounds;
        // The bound at `count` is the next one; the one at `next` is where the record ends.
        let (mut count, mut next) = (1, cells);
        let (mut records, mut lines, mut is_ascii) = (0, 0, true);
        bounds.resize(bounds.len().max(128), 0);
        bounds[0] = 0;
        for (chunk, bytes) in data.chunks(64).enumerate() {
            let mut marks = match bytes.first_chunk::<64>() {
                Some(bytes) => Marks::of(bytes, delimiter),
                None => {
                    let mut padded = [0; 64];
                    padded[..bytes.len()].copy_from_slice(bytes);
                    Marks::of(&padded, delimiter)
                }
            };
            lines += usize::from(marks.lines);
            let mut is_odd = false;
            if marks.has_others {
                is_ascii &= bytes.is_ascii();
                if let Some(quote) = bytes.iter().position(|byte| *byte == b'"') {
                    marks.ends &= (1 << quote) - 1;
                    is_odd = true;
                }
            }
            if bounds.len() < count + 64 {
                bounds.resize(2 * bounds.len(), 0);
            }
            let Some(room) = bounds.get_mut(count..).and_then(|room| room.first_chunk_mut::<64>()) else { break };
            count += marks.ends.count_ones() as usize;
            for some in room.as_chunks_mut::<8>().0 {
                if marks.ends == 0 {
                    break;
                }
                // Fewer are overwritten: a number that is known beforehand takes no jump that is guessed wrong.
                for bound in some {
                    *bound = chunk as u32 * 64 + marks.ends.trailing_zeros() + 1;
                    marks.ends &= marks.ends.wrapping_sub(1);
                }
            }
            let bounds = &bounds[..count];
            let ends_line = |bound: u32| data.get(bound as usize - 1) == Some(&b'\n');
            let before = records;
            while let Some(bound) = bounds.get(next) {
                if !ends_line(*bound) || (cells == 1 && is_empty(data, bounds[next - 1], *bound)) {
                    is_odd = true;
                    break;
                }
                records += 1;
                next += cells;
            }
            if is_odd || lines != records {
                // Some of them may have a line end between cells.
                let is_plain = |record: &usize| !bounds[record * cells + 1..(record + 1) * cells].iter().copied().any(ends_line);
                records = before + (before..records).take_while(is_plain).count();
                break;
            }
            if records >= most || u64::from(bounds[records * cells]) >= limit {
                break;
            }
        }
        records = records.min(most);
        while records > 0 && u64::from(bounds[(records - 1) * cells]) >= limit {
            records -= 1;
        }
        (records, is_ascii)
    }
}

/// Is it an empty line?
fn is_empty(data: &[u8], start: u32, next: u32) -> bool {
    matches!(data.get(start as usize..next as usize), Some(b"\n" | b"\r\n"))
}

/// What there is among 64 bytes.
struct Marks {
    /// Delimiters and line ends, the first in the lowest bit.
    ends: u64,
    /// How many line ends.
    lines: u8,
    /// Quotes, or what is not ASCII.
    has_others: bool,
}

impl Marks {
    /// In a form of which compilers make steps for many bytes at once.
    #[inline(always)]
    fn of(bytes: &[u8; 64], delimiter: u8) -> Self {
        let mut ends = [0; 64];
        let (mut lines, mut others) = (0, 0);
        for (place, byte) in bytes.iter().enumerate() {
            let is_line = *byte == b'\n';
            ends[place] = if is_line | (*byte == delimiter) { 1 << (place % 8) } else { 0 };
            lines += u8::from(is_line);
            others |= u8::from((*byte == b'"') | !byte.is_ascii());
        }
        Self { ends: gather(&ends), lines, has_others: others != 0 }
    }
}

/// The bits of eight bytes each, of which no two have the same, as one byte.
#[inline(always)]
fn gather(bits: &[u8; 64]) -> u64 {
    // The highest byte of the product is the sum of all.
    let byte = |bits: &[u8; 8]| u64::from_le_bytes(*bits).wrapping_mul(u64::from_ne_bytes([1; 8])) >> 56;
    bits.as_chunks::<8>().0.iter().enumerate().fold(0, |all, (place, bits)| all | byte(bits) << (8 * place))
}
