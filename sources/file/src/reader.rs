//! One file, or a part of one, batch by batch.

use std::collections::VecDeque;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::arrow::array::{ArrayRef, RecordBatchOptions, StringArray};
use pipeline_contract::{Category, Clock, Position, Read, Reader, Reject, StageError, async_trait, nearest};
use pipeline_files::io_error;
use pipeline_files::threads::blocking;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cell::shown;
use crate::columns::Cells;
use crate::config::{Compression, Dialect, Format, Wanted};
use crate::counted::{Before, Begun, Counted};
use crate::csv::{Block, CsvRows, Field, Scan, scan};
use crate::input::plain;
use crate::jsonl::JsonRows;
use crate::lines::{LONGEST, Lines};
use crate::source::{Opened, Shared};

/// Rows in a batch ...
const ROWS: usize = 8192;
/// ... or bytes of the file, whichever comes first.
const BYTES: u64 = 4 << 20;
/// Batches are read together up to so many bytes of the file.
const READY: u64 = 2 << 20;
/// While somebody else is about to know the lines before, it is read on until rows take so many bytes of memory ...
const HELD: usize = 8 << 20;
/// ... and then it is waited for so long: whoever reads the parts in another order would wait for ever.
const PATIENCE: Duration = Duration::from_secs(1);
/// As much of a line as a reject keeps.
const KEPT: usize = 2000;

/// Why a line is no row.
#[derive(Debug)]
pub(crate) struct Fault {
    rule: &'static str,
    message: String,
}

impl Fault {
    pub(crate) fn new(rule: &'static str, message: impl Into<String>) -> Self {
        Self { rule, message: message.into() }
    }

    /// A value that is not of its column's type.
    pub(crate) fn value(wanted: &Wanted, shown: &str) -> Self {
        Self::new("file:value", format!("{}: {shown} is not {}", wanted.name, wanted.ty.column()))
    }
}

/// What was found at the front of the bytes.
pub(crate) enum Step {
    /// A row, which is in the columns now.
    Row { len: usize, lines: u64 },
    /// Nothing that counts: an empty line.
    Took { len: usize, lines: u64 },
    /// A record that is no row; what was put into the columns is taken back.
    Reject { len: usize, lines: u64, fault: Fault },
    /// No record: its first line is rejected, and the next one looked at.
    Bad(Fault),
    /// More bytes are needed to tell.
    More,
}

/// Rows that are being read.
pub(crate) struct Batch {
    pub(crate) columns: Vec<Cells>,
    pub(crate) rows: usize,
}

/// A record that is no row. Its line is counted from where the part counts.
struct Malformed {
    line: u64,
    text: String,
    fault: Fault,
}

/// What was read, but for the lines of the rejects.
struct Held {
    batch: RecordBatch,
    malformed: Vec<Malformed>,
    place: Place,
}

/// What is known of the next batch.
enum Next {
    Ready,
    /// It waits for the lines before it.
    Later,
    None,
}

/// Where a reader is: behind so many plain bytes and line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) line: u64,
}

enum Parser {
    Csv(CsvRows),
    Jsonl(JsonRows),
}

/// Reads a file.
pub(crate) struct FileReader {
    shared: Arc<Shared>,
    opened: Opened,
    lines: Lines,
    parser: Parser,
    batch: Batch,
    malformed: Vec<Malformed>,
    /// Records that begin here are another part's.
    end: Option<u64>,
    /// The lines before this part, once they are known.
    before: Option<u64>,
    /// What is known of the lines of the file, by the readers of all its parts.
    counted: Counted,
    /// They may wait for this one.
    _begun: Option<Begun>,
    clock: Arc<dyn Clock>,
    patient: bool,
    failed: Option<StageError>,
    done: bool,
    /// What was read and is next.
    ready: VecDeque<Result<Held, StageError>>,
}

impl FileReader {
    /// Opens a file at its start, at the start of a part, or where a reader was.
    pub(crate) fn open(shared: Arc<Shared>, opened: Opened, resume: Option<Place>, clock: Arc<dyn Clock>) -> Result<Self, StageError> {
        let checked = &shared.checked;
        let start = opened.part.map_or(0, |(start, _)| start);
        let mut lines = opened.lines(0)?;
        let fail = |error: io::Error| opened.error("read", &error);
        let parser = match checked.format {
            Format::Jsonl => {
                skip_mark(&mut lines).map_err(fail)?;
                Parser::Jsonl(JsonRows::new(&checked.columns, checked.dialect.block))
            }
            Format::Csv => Parser::Csv(CsvRows::new(checked.dialect.clone(), header(&mut lines, &checked.dialect, &checked.columns, &opened)?)),
        };
        match resume {
            Some(place) => {
                lines = opened.lines(place.offset)?;
                lines.line = place.line;
            }
            None if start > 0 => {
                // The line that goes on over the border is the part's before.
                lines = opened.lines(opened.base())?;
                lines.skip_line().map_err(fail)?;
            }
            None => {}
        }
        let batch = Batch { columns: checked.columns.iter().map(|column| Cells::new(&column.ty)).collect(), rows: 0 };
        let end = opened.part.map(|(_, end)| end);
        let before = (start == 0).then_some(0);
        let counted = opened.part.map(|_| shared.counted(&opened)).unwrap_or_default();
        let begun = opened.part.map(|_| counted.begin(opened.base()));
        Ok(Self {
            shared,
            opened,
            lines,
            parser,
            batch,
            malformed: Vec::new(),
            end,
            before,
            counted,
            _begun: begun,
            clock,
            patient: true,
            failed: None,
            done: false,
            ready: VecDeque::new(),
        })
    }

    /// Makes some batches ready: each change of threads costs both of them their caches. False when there are no more.
    fn some(&mut self) -> bool {
        let from = self.lines.offset;
        let before = self.ready.len();
        while self.lines.offset - from < READY
            && self.ready.back().is_none_or(Result::is_ok)
            && let Some(next) = self.next().transpose()
        {
            self.ready.push_back(next);
        }
        self.ready.len() > before
    }

    /// Has the next batch ready, if there is one, with the lines of its rejects known.
    fn advance(&mut self) -> Result<Next, StageError> {
        if self.ready.is_empty() && !self.some() {
            return Ok(Next::None);
        }
        while self.is_held() {
            match self.counted.look(self.opened.base()) {
                Before::Known(lines) => self.before = Some(lines),
                // To count them is to read the file twice.
                Before::Soon if self.patient => {
                    let held: usize = self.ready.iter().flatten().map(|held| held.batch.get_array_memory_size()).sum();
                    if held >= HELD || !self.some() {
                        return Ok(Next::Later);
                    }
                }
                Before::Soon | Before::Unknown => self.before = Some(self.opened.lines_before(&self.counted)?),
            }
        }
        Ok(Next::Ready)
    }

    /// Is the next batch ready but for the lines of its rejects?
    fn is_held(&self) -> bool {
        self.before.is_none() && matches!(self.ready.front(), Some(Ok(held)) if !held.malformed.is_empty())
    }

    fn next(&mut self) -> Result<Option<Held>, StageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let from = self.lines.offset;
        while !self.done {
            let is_empty = self.batch.rows == 0 && self.malformed.is_empty();
            let rows = ROWS.saturating_sub(self.batch.rows + self.malformed.len());
            let bytes = BYTES.saturating_sub(self.lines.offset - from);
            if !is_empty && (rows == 0 || bytes == 0) {
                break;
            }
            if let Err(error) = self.block(rows, bytes).and_then(|some| if some { Ok(()) } else { self.step() }) {
                self.failed = Some(error);
                break;
            }
        }
        match &self.failed {
            // What was read before the error counts.
            _ if self.batch.rows > 0 || !self.malformed.is_empty() => self.finish().map(Some),
            Some(error) => Err(error.clone()),
            None => Ok(None),
        }
    }

    /// Takes records at the front that are as most are: up to so many, which begin before so many bytes. False when there is none.
    fn block(&mut self, most: usize, bytes: u64) -> Result<bool, StageError> {
        let limit = self.end.map_or(bytes, |end| bytes.min(end.saturating_sub(self.lines.offset)));
        let (data, wanted) = (self.lines.data(), &self.shared.checked.columns);
        let block = match &mut self.parser {
            Parser::Csv(rows) => rows.block(data, most, limit, wanted, &mut self.batch),
            Parser::Jsonl(rows) => {
                let (len, rows) = rows.block(data, most, limit, wanted, &mut self.batch);
                Block { len, rows, bad: Vec::new() }
            }
        };
        let lines = (block.rows + block.bad.len()) as u64;
        for bad in block.bad {
            self.reject(bad.start..bad.end, bad.line as u64, bad.fault);
        }
        self.batch.rows += block.rows;
        self.lines.take(block.len, lines);
        Ok(lines > 0)
    }

    /// Looks at one record.
    fn step(&mut self) -> Result<(), StageError> {
        if self.end.is_some_and(|end| self.lines.offset >= end) {
            self.done = true;
            return Ok(());
        }
        let (data, whole) = (self.lines.data(), self.lines.is_whole());
        let wanted = &self.shared.checked.columns;
        let step = match &mut self.parser {
            Parser::Csv(rows) => rows.step(data, whole, wanted, &mut self.batch),
            Parser::Jsonl(rows) => rows.step(data, whole, wanted, &mut self.batch),
        };
        let too_long = || Fault::new("file:long", format!("it is longer than {} MiB, the most that is read", LONGEST >> 20));
        match step {
            // However much of it happens to be in memory. Its first line alone is at fault: it may be a quote that is never closed.
            Step::Row { len, .. } | Step::Reject { len, .. } if len > LONGEST => self.reject_line(too_long())?,
            Step::Row { len, lines } => {
                self.batch.rows += 1;
                self.lines.take(len, lines);
            }
            Step::Took { len, lines } => self.lines.take(len, lines),
            Step::Reject { len, lines, fault } => {
                self.take_back();
                self.reject(0..len, 0, fault);
                self.lines.take(len, lines);
            }
            Step::Bad(fault) => self.reject_line(fault)?,
            Step::More if data.len() > LONGEST => self.reject_line(too_long())?,
            Step::More if whole => {
                self.done = true;
                self.opened.ended(&self.shared, self.lines.offset)?;
            }
            Step::More => self.fill()?,
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), StageError> {
        self.lines.fill().map_err(|error| self.opened.error("read", &error))
    }

    /// Rejects the first line of what cannot be read as a record.
    fn reject_line(&mut self, fault: Fault) -> Result<(), StageError> {
        self.take_back();
        match memchr::memchr(b'\n', self.lines.data()) {
            Some(end) => {
                self.reject(0..end + 1, 0, fault);
                self.lines.take(end + 1, 1);
                Ok(())
            }
            None if self.lines.is_whole() || self.lines.data().len() > LONGEST => {
                self.reject(0..self.lines.data().len(), 0, fault);
                self.lines.skip_line().map_err(|error| self.opened.error("read", &error))
            }
            None => self.fill(),
        }
    }

    /// Takes out of the columns what is no row.
    fn take_back(&mut self) {
        self.batch.columns.iter_mut().for_each(|cells| cells.truncate(self.batch.rows));
    }

    /// Keeps a record that is in these bytes, and behind so many lines of them, as no row.
    fn reject(&mut self, record: Range<usize>, lines: u64, fault: Fault) {
        let data = self.lines.data();
        let record = data.get(record).unwrap_or(data);
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        self.malformed.push(Malformed { line: self.lines.line + lines + 1, text: shown(record, KEPT), fault });
    }

    /// The rejects as they are told, once the lines before are known.
    fn release(&self, held: Held) -> Read {
        let before = self.before.unwrap_or_default();
        let file = &self.opened.name;
        let rejects = held.malformed.into_iter().map(|Malformed { line, text, fault }| {
            let line = before + line;
            // Spelled out: `json!` would make each text twice, and to collect them sorts them.
            let mut row = Map::new();
            row.insert("file".to_owned(), Value::from(file.as_str()));
            row.insert("line".to_owned(), line.into());
            row.insert("text".to_owned(), text.into());
            Reject::of_row(row, fault.rule, format!("{file} line {line}: {}", fault.message))
        });
        Read { batch: held.batch, rejects: rejects.collect(), position: Position(json!(held.place)) }
    }

    /// Tells the readers of later parts which lines they need not count.
    fn tell(&self) {
        let Some(end) = self.end else { return };
        let (from, to, lines) = (self.opened.base(), self.lines.offset, self.lines.line);
        match end.checked_sub(1) {
            // Nothing comes behind, and the last line need not have an end.
            _ if to >= self.opened.len => {}
            // With the line that goes on over the border the next part begins.
            Some(border) if to > border => self.counted.passed(from, border, lines.saturating_sub(1), true),
            _ => self.counted.passed(from, to, lines, false),
        }
    }

    fn finish(&mut self) -> Result<Held, StageError> {
        self.tell();
        let checked = &self.shared.checked;
        let rows = std::mem::take(&mut self.batch.rows);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(checked.columns.len() + 1);
        for (cells, wanted) in self.batch.columns.iter_mut().zip(&checked.columns) {
            columns.push(cells.finish(&wanted.ty, ROWS)?);
        }
        if checked.file_column {
            columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(self.opened.name.as_str(), rows))));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(checked.schema.clone(), columns, &options)
            .map_err(|error| StageError::developer(format!("rows that were read do not fit their schema: {error}")))?;
        let place = Place { offset: self.lines.offset, line: self.lines.line };
        Ok(Held { batch, malformed: std::mem::take(&mut self.malformed), place })
    }
}

/// Passes over a byte order mark.
pub(crate) fn skip_mark(lines: &mut Lines) -> io::Result<()> {
    while lines.data().len() < 3 && !lines.is_whole() {
        lines.fill()?;
    }
    if lines.data().starts_with(b"\xef\xbb\xbf") {
        lines.take(3, 0);
    }
    Ok(())
}

/// The cells of a record, or why it is none.
pub(crate) type Cut = Result<Vec<Vec<u8>>, &'static str>;

/// The first record that is not an empty line; `None` in a file without any.
pub(crate) fn first_record(lines: &mut Lines, dialect: &Dialect) -> io::Result<Option<Cut>> {
    skip_mark(lines)?;
    let mut fields: Vec<Field> = Vec::new();
    loop {
        match scan(lines.data(), lines.is_whole(), dialect, &mut fields) {
            Scan::Record { len, lines: ends } => {
                let cells: Vec<Vec<u8>> = fields.iter().map(|field| field.text(lines.data())).collect();
                lines.take(len, ends);
                if cells.len() > 1 || cells.iter().any(|cell| !cell.is_empty()) {
                    return Ok(Some(Ok(cells)));
                }
            }
            Scan::Bad(why) => return Ok(Some(Err(why))),
            Scan::More if lines.data().len() > LONGEST => return Ok(Some(Err("it is too long"))),
            Scan::More if lines.is_whole() => return Ok(None),
            Scan::More => lines.fill()?,
        }
    }
}

/// Takes the header, and says for each cell of a record which column it is.
fn header(lines: &mut Lines, dialect: &Dialect, wanted: &[Wanted], opened: &Opened) -> Result<Vec<Option<usize>>, StageError> {
    let fail = |error: io::Error| opened.error("read", &error);
    if !dialect.header {
        skip_mark(lines).map_err(fail)?;
        return Ok((0..wanted.len()).map(Some).collect());
    }
    let file = &opened.name;
    let error = |message: String| StageError::split(Category::Storage, format!("{file}: {message}"));
    let names = match first_record(lines, dialect).map_err(fail)? {
        None => return Ok(Vec::new()),
        Some(Err(why)) => return Err(error(format!("the header cannot be read: {why}")).help("a file without a header needs `header = false`")),
        Some(Ok(names)) => names.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect::<Vec<_>>(),
    };
    let mut targets = vec![None; names.len()];
    let mut missing = Vec::new();
    for (column, wanted) in wanted.iter().enumerate() {
        let name = wanted.from.first().map(String::as_str).unwrap_or_default();
        let mut places = names.iter().enumerate().filter(|(_, other)| *other == name).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => targets[place] = Some(column),
            (Some(_), Some(_)) => {
                return Err(error(format!("two columns of the header are named `{name}`")).help("rename one of them in the file"));
            }
            (None, _) => missing.push(name),
        }
    }
    if let Some(first) = missing.first() {
        let list = |names: &[&str]| shown(names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ").as_bytes(), 500);
        let help = match nearest(first, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`? `from` in `columns` gives a column another name in the file"),
            None => "`from` in `columns` gives a column another name in the file; a file without a header needs `header = false`".to_owned(),
        };
        let has: Vec<&str> = names.iter().map(String::as_str).collect();
        return Err(error(format!("the header has no {}; it has {}", list(&missing), list(&has))).help(help));
    }
    Ok(targets)
}

impl Opened {
    /// The plain bytes from an offset on.
    pub(crate) fn lines(&self, offset: u64) -> Result<Lines, StageError> {
        let mut file = self.disk.open(&self.path).map_err(|error| self.error("open", &error))?;
        if self.compression == Compression::None {
            if offset > 0 {
                file.seek(SeekFrom::Start(offset)).map_err(|error| self.error("read", &error))?;
            }
            let len = self.len.saturating_sub(offset);
            return Ok(Lines::new(plain(std::io::Read::take(file, len), Compression::None), offset, len));
        }
        let mut lines = Lines::new(plain(std::io::Read::take(file, self.len), self.compression), 0, self.len.saturating_mul(4));
        let is_there = lines.skip(offset).map_err(|error| self.error("read", &error))?;
        is_there.then_some(lines).ok_or_else(|| self.changed("it is shorter than what was read of it before"))
    }

    /// An error of the system, or of a decoder.
    pub(crate) fn error(&self, doing: &str, error: &io::Error) -> StageError {
        let name = &self.name;
        let split = |message: String, help: &str| StageError::split(Category::Storage, message).help(help);
        match error.kind() {
            io::ErrorKind::NotFound => {
                split(format!("{name}: there is no such file"), "look at `path`; relative paths begin in the working directory")
            }
            _ if error.raw_os_error().is_none() && doing == "read" && self.compression != Compression::None => split(
                format!("{name}: what is compressed cannot be read to its end: {error}; the rows before are kept"),
                "the file is cut off or damaged: get it again, then run again",
            ),
            _ => io_error(doing, name, error),
        }
    }

    /// The file is not the one that the run began with.
    pub(crate) fn changed(&self, how: &str) -> StageError {
        StageError::split(Category::Storage, format!("{}: the file changed since the run began: {how}", self.name))
            .help("run again, once nobody writes to it; rows that are stored already are not stored twice where there is a [dedupe]")
    }
}

#[async_trait]
impl Reader for FileReader {
    /// What was read stays until it is answered: whoever does not wait for the answer misses nothing.
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        let counted = self.counted.clone();
        loop {
            if !self.is_held()
                && let Some(next) = self.ready.pop_front()
            {
                return next.map(|held| Some(self.release(held)));
            }
            let over = counted.over();
            match blocking(|| self.advance())? {
                Next::Ready => {}
                Next::None => return Ok(None),
                Next::Later => tokio::select! {
                    () = over => {}
                    () = self.clock.sleep(PATIENCE) => self.patient = false,
                },
            }
        }
    }
}
