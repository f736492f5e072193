//! How rows are written and read: what a sink of lines brings itself.

use std::io::{self, Read};

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
