//! How rows are written and read: what a sink of lines brings itself.

use std::io::{self, Read};
use std::ops::Range;

use pipeline_contract::{ColumnType, PlanError};
use serde_json::{Map, Value};

use crate::cell::{Cell, Column};
use crate::layout::Written;

/// The longest record that is read or written, in bytes: whoever the file is from, one record of it is in memory.
pub const LONGEST: usize = 64 << 20;

/// How rows are written as bytes, and taken from them.
pub trait Format: Send + Sync + 'static {
    /// The `type` of the sink, for messages.
    fn name(&self) -> &'static str;

    /// What a file begins with; nothing where it has no header.
    fn header(&self, columns: &[Written]) -> Vec<u8>;

    /// Writes one row with its end. `cells` are those of `columns`.
    ///
    /// # Errors
    /// The place in `columns` of an instant that cannot be written.
    fn line(&self, columns: &[Written], cells: &[Column<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), usize>;

    /// Makes lines of many rows; the same bytes as [`Format::line`].
    fn lines<'a>(&'a self, columns: &'a [Written], cells: &'a [Column<'a>]) -> Box<dyn Lines + 'a> {
        Box::new(OneByOne { format: self, columns, cells })
    }

    /// Takes a stream apart into records.
    fn records<'a>(&self, columns: &[Written], input: Box<dyn Read + Send + 'a>) -> Box<dyn Records + 'a>;

    /// Whether an empty line is no row.
    fn skips_blank(&self, columns: &[Written]) -> bool;

    /// What is stored depends on this, besides path, columns and the format of timestamps.
    fn identity(&self) -> Map<String, Value>;

    /// What is legal, but odd.
    fn warnings(&self, columns: &[Written]) -> Vec<PlanError> {
        let _ = columns;
        Vec::new()
    }
}

/// The lines of a batch.
pub trait Lines {
    /// Writes rows, each with its end. It is quickest when they follow those that were written before.
    ///
    /// # Errors
    /// Why one of them cannot be written. What stands in `out` then is of no use.
    fn write(&mut self, rows: Range<usize>, out: &mut Vec<u8>) -> Result<(), Unwritable>;
}

/// Why a row cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritable {
    /// The instant in the column with this number.
    Instant(usize),
    /// Its line has so many bytes, more than [`LONGEST`].
    Long(usize),
}

impl Unwritable {
    /// Looks at the length of a line.
    ///
    /// # Errors
    /// When it would not be read back.
    #[inline]
    pub fn if_long(len: usize) -> Result<(), Self> {
        if len > LONGEST { Err(Self::Long(len)) } else { Ok(()) }
    }
}

/// Lines, each made by itself.
pub struct OneByOne<'a, F: ?Sized> {
    /// What makes one.
    pub format: &'a F,
    /// The columns.
    pub columns: &'a [Written],
    /// Their cells.
    pub cells: &'a [Column<'a>],
}

impl<F: Format + ?Sized> Lines for OneByOne<'_, F> {
    fn write(&mut self, rows: Range<usize>, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        for row in rows {
            let from = out.len();
            self.format.line(self.columns, self.cells, row, out).map_err(Unwritable::Instant)?;
            Unwritable::if_long(out.len() - from)?;
        }
        Ok(())
    }
}

/// Records, one after the other.
pub trait Records: Send {
    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn next(&mut self) -> Result<Option<Record<'_>>, ScanError>;
}

/// A record.
pub struct Record<'a> {
    /// Its bytes, line break included.
    pub raw: &'a [u8],
    /// The number of its first line.
    pub line: u64,
    /// What is in it.
    pub cells: &'a dyn Cells,
}

impl Record<'_> {
    /// Does it end with a line break?
    pub(crate) fn is_whole(&self) -> bool {
        self.raw.ends_with(b"\n")
    }

    /// Is it an empty line?
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self.raw, b"\n" | b"\r\n")
    }
}

/// The cells of a record.
pub trait Cells {
    /// What is wrong with the record as a whole.
    fn fault(&self, columns: &[Written]) -> Option<String>;

    /// The cell of the column with this number. `raw` is the record's.
    ///
    /// # Errors
    /// What is wrong with it.
    fn cell<'a>(&'a self, raw: &'a [u8], at: usize, ty: ColumnType, nullable: bool) -> Result<Cell<'a>, String>;
}

/// Why a record cannot be read.
#[derive(Debug)]
pub enum ScanError {
    /// The disk.
    Io(io::Error),
    /// A quote is never closed.
    Unclosed {
        /// The record's first line.
        line: u64,
    },
    /// Text after a closing quote.
    AfterQuote {
        /// The record's first line.
        line: u64,
    },
    /// It is longer than [`LONGEST`].
    TooLong {
        /// Its first line.
        line: u64,
    },
}
