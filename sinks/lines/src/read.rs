//! Stored rows, read back.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::arrow::array::RecordBatchOptions;
use pipeline_contract::{BatchStream, Filter, SinkContext, StageError, async_trait};
use pipeline_files::{committed_len, io_error, list_files};

use crate::cell::{Builder, Cell, short};
use crate::format::{Records, ScanError};
use crate::layout::{From, Layout};
use crate::replace::fault;

/// Rows in a batch, unless they are long.
const ROWS: usize = 8192;

/// So many bytes of a file make a batch however few rows they are.
const BYTES: usize = 32 << 20;

/// The files of a layout that are on disk, in the order of their paths.
pub(crate) fn files(layout: &Layout, cx: &SinkContext) -> Result<Vec<String>, StageError> {
    let mut files = list_files(&*cx.ports.disk, &layout.paths.root)?;
    files.retain(|path| layout.paths.values(path).is_some());
    Ok(files)
}

/// The part of time that is wanted, and the stored column that tells.
struct Span {
    column: usize,
    from: Option<i64>,
    to: Option<i64>,
}

impl Span {
    fn holds(&self, cell: &Cell<'_>) -> bool {
        matches!(cell, Cell::Time(at) if self.from.is_none_or(|from| from <= *at) && self.to.is_none_or(|to| *at < to))
    }
}

struct Open {
    path: String,
    scanner: Box<dyn Records>,
    path_cells: Vec<Cell<'static>>,
    header: bool,
    /// It is longer than what is committed, by rows of a run that goes on or by somebody's hand: what is read ends where the commit ended, and
    /// perhaps not with a whole row.
    growing: bool,
}

/// A stream over all files.
pub(crate) struct Rows {
    layout: Arc<Layout>,
    cx: SinkContext,
    files: VecDeque<String>,
    open: Option<Open>,
    span: Option<Span>,
    builders: Vec<Builder>,
    rows: usize,
    bytes: usize,
}

impl Rows {
    fn is_full(&self) -> bool {
        self.rows >= ROWS || self.bytes >= BYTES
    }
}

impl Rows {
    /// The rows that pass the filter. `input` finds a column of the input by name.
    pub(crate) fn new(layout: &Arc<Layout>, cx: &SinkContext, filter: &Filter, input: impl Fn(&str) -> Option<usize>) -> Result<Self, StageError> {
        let mut files = files(layout, cx)?;
        let mut span = None;
        if let (Some(name), true) = (&filter.time_column, filter.from.is_some() || filter.to.is_some()) {
            let column = layout.stored.iter().position(|column| column.name == *name);
            let column =
                column.ok_or_else(|| StageError::developer(format!("the time column {name} is not stored, so rows cannot be chosen by it")))?;
            let micros = |at: DateTime<Utc>| at.timestamp_micros();
            // Anything below a microsecond moves the bound to the next one: rows have none.
            let up = |at: DateTime<Utc>| micros(at) + i64::from(!at.timestamp_subsec_nanos().is_multiple_of(1000));
            span = Some(Span { column, from: filter.from.map(up), to: filter.to.map(up) });
            if let Some(input) = input(name) {
                files.retain(|path| may_hold(layout, path, input, filter));
            }
        }
        let builders = layout.stored.iter().map(|column| Builder::new(column.ty)).collect();
        Ok(Self { layout: layout.clone(), cx: cx.clone(), files: files.into(), open: None, span, builders, rows: 0, bytes: 0 })
    }

    fn open_next(&mut self) -> Result<bool, StageError> {
        let Some(path) = self.files.pop_front() else { return Ok(false) };
        let path_cells = self.layout.path_cells(&path)?;
        let file = self.cx.ports.disk.open(path.as_ref()).map_err(|error| io_error("open", &path, &error))?;
        let len = file.size().map_err(|error| io_error("look at", &path, &error))?;
        let committed = committed_len(&self.cx, &path)?.unwrap_or(len);
        self.open = Some(Open {
            scanner: self.layout.format.records(&self.layout.columns, Box::new(file.take(committed))),
            path_cells,
            header: !self.layout.header.is_empty(),
            growing: len > committed,
            path,
        });
        Ok(true)
    }

    /// Reads on until a batch is full or a file ends. False at the end of the file.
    fn read_some(&mut self) -> Result<bool, StageError> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let layout = &*self.layout;
        while self.rows < ROWS && self.bytes < BYTES {
            let record = match open.scanner.next() {
                Ok(Some(record)) if !record.is_whole() && open.growing => return Ok(false),
                Ok(Some(record)) => record,
                Ok(None) => return Ok(false),
                Err(ScanError::Unclosed { .. }) if open.growing => return Ok(false),
                Err(error) => return Err(fault(&open.path, error)),
            };
            if std::mem::take(&mut open.header) {
                check_header(layout, &open.path, record.raw)?;
                continue;
            }
            if layout.skips(&record) {
                continue;
            }
            let cell = |at: usize| -> Result<Cell<'_>, StageError> {
                match layout.stored.get(at) {
                    Some(column) => match column.from {
                        From::Cell(cell) => layout.cell(&open.path, &record, cell, &column.name, column.ty, column.nullable),
                        From::Path(_) => Ok(open.path_cells.get(at).cloned().unwrap_or(Cell::Null)),
                    },
                    None => Ok(Cell::Null),
                }
            };
            if let Some(span) = &self.span
                && !span.holds(&cell(span.column)?)
            {
                continue;
            }
            for (at, builder) in self.builders.iter_mut().enumerate() {
                builder.push(&cell(at)?)?;
            }
            self.rows += 1;
            self.bytes += record.raw.len();
        }
        Ok(true)
    }
}

fn check_header(layout: &Layout, path: &str, header: &[u8]) -> Result<(), StageError> {
    // A byte order mark and another line break are what other programs add when they save a file.
    let line = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n']).to_owned();
    let (is, should) = (line(header.strip_prefix(b"\xef\xbb\xbf").unwrap_or(header)), line(&layout.header));
    if is == should {
        Ok(())
    } else {
        Err(crate::layout::unreadable(path, 1, &format!("the header is `{}`, but this pipeline writes `{should}`", short(&is))))
    }
}

/// Can a file hold rows of that time, by its path?
fn may_hold(layout: &Layout, path: &str, time_column: usize, filter: &Filter) -> bool {
    let Some((first, after)) = layout.paths.dates(path, time_column) else { return true };
    filter.from.is_none_or(|from| from.date_naive() < after) && filter.to.is_none_or(|to| first <= to.date_naive())
}

#[async_trait]
impl BatchStream for Rows {
    async fn next(&mut self) -> Result<Option<RecordBatch>, StageError> {
        while !self.is_full() {
            if !self.read_some()? {
                self.open = None;
                if !self.open_next()? {
                    break;
                }
            }
        }
        if self.rows == 0 {
            return Ok(None);
        }
        let columns = self.builders.iter_mut().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(self.layout.schema.clone(), columns, &options)
            .map(Some)
            .map_err(|error| StageError::developer(format!("rows read back do not fit their schema: {error}")))
    }
}
