//! What somebody's hand did to a file, in words.

use std::io::{self, Read, SeekFrom};

use pipeline_contract::{Category, DiskFile, Metadata, StageError, instant, rfc3339};

use crate::error::bytes;
use crate::io_error;
use crate::mark::{Differs, Mark};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// How a file begins, compared with the header that is written.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// It begins with a byte order mark.
    bom: bool,
    /// The line ends of the first line, where they are other than the header's.
    line_ends: Option<&'static str>,
    /// The first line, where its text is another one.
    other: Option<String>,
    empty: bool,
}

impl Head {
    /// Reads as much of a file as tells.
    pub(crate) fn of(file: &mut dyn DiskFile, header: &[u8]) -> io::Result<Self> {
        let mut head = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        // More than the header, so that a longer one can be shown.
        file.take(header.len() as u64 + 1024).read_to_end(&mut head)?;
        let bom = head.starts_with(BOM);
        let first = head.strip_prefix(BOM).unwrap_or(&head).split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        if header.is_empty() || first == header {
            return Ok(Self { bom, ..Self::default() });
        }
        let ends = |line: &[u8]| if line.ends_with(b"\r\n") { "CRLF" } else { "LF" };
        let line_ends = (first.ends_with(b"\n") && ends(first) != ends(header)).then_some(ends(first));
        let other = (text(first) != text(header) || !first.ends_with(b"\n")).then(|| text(first));
        Ok(Self { bom, line_ends, other, empty: head.is_empty() })
    }

    /// Another program's way to write the same header?
    pub(crate) fn is_other(&self) -> bool {
        self.other.is_some()
    }

    /// What is not as it is written, as ", and ..." of a sentence; nothing when all is.
    fn told(&self, header: &[u8]) -> String {
        let mut parts = Vec::new();
        if self.bom {
            parts.push("it begins with a byte order mark now".to_owned());
        }
        if let Some(ends) = self.line_ends {
            parts.push(format!("its line ends are {ends} now"));
        }
        if self.empty && self.other.is_some() {
            parts.push(format!("it is empty, but this pipeline writes `{}` first", text(header)));
        } else if let Some(other) = &self.other {
            parts.push(format!("it begins with `{other}`, but this pipeline writes `{}`", text(header)));
        }
        if (self.bom || self.line_ends.is_some()) && self.other.is_none() {
            parts.push("a spreadsheet program or an editor may have saved it".to_owned());
        }
        parts.join("; ")
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

/// Refuses a file whose first line is not the header. A byte order mark and other line ends are as good: rows are read with them.
pub(crate) fn check_header(path: &str, file: &mut dyn DiskFile, header: &[u8]) -> Result<Head, StageError> {
    let head = Head::of(file, header).map_err(|error| io_error("read", path, &error))?;
    if !head.is_other() {
        return Ok(head);
    }
    Err(StageError::split(Category::Storage, format!("{path}: {}", head.told(header))).help(NOT_AS_IT_IS))
}

const NOT_AS_IT_IS: &str =
    "put it back as it was; or move it away, then `pipeline state rebuild FILE`: its rows are stored again when they come again";

/// Somebody's hand: only the splits that need the file are concerned.
fn changed(message: String) -> StageError {
    StageError::split(Category::Storage, message)
        .help("put it back as it was; or, if it is right as it is, `pipeline state rebuild FILE` takes it over")
}

pub(crate) fn gone(path: &str, mark: &Mark) -> StageError {
    StageError::split(Category::Storage, format!("{path} is gone: {} were committed", bytes(mark.len)))
        .help("put it back; or `pipeline state rebuild FILE` forgets it, and its rows are stored again when they come again")
}

pub(crate) fn a_folder(path: &str, mark: &Mark) -> StageError {
    StageError::split(Category::Storage, format!("{path} is a folder now: a file of {} was committed", bytes(mark.len)))
        .help("move the folder away and put the file back; or, without it, `pipeline state rebuild FILE`")
}

pub(crate) fn other_length(path: &str, is: u64, was: u64) -> StageError {
    changed(format!("{path} has {}, but {} were committed", bytes(is), bytes(was)))
}

/// A file of another length, with what its first line tells of how that came.
pub(crate) fn resized(path: &str, file: Option<&mut dyn DiskFile>, is: u64, mark: &Mark, header: &[u8]) -> StageError {
    // A file that cannot be read is told by its length alone.
    let head = file.and_then(|file| Head::of(file, header).ok()).unwrap_or_default();
    let told = if is == 0 { String::new() } else { head.told(header) };
    let StageError { message, .. } = other_length(path, is, mark.len);
    let message = if told.is_empty() { message } else { format!("{message}: {told}") };
    if is == 0 || head.is_other() { StageError::split(Category::Storage, message).help(NOT_AS_IT_IS) } else { changed(message) }
}

/// A file of the same length and other content.
pub(crate) fn edited(path: &str, differs: Differs, head: &Head, meta: &Metadata, mark: &Mark, header: &[u8]) -> StageError {
    let what = match differs {
        Differs::Head => "its header line differs".to_owned(),
        Differs::Tail => "the end of it differs".to_owned(),
        Differs::Body => "something before the end of it differs".to_owned(),
    };
    let told = head.told(header);
    let what = if told.is_empty() { what } else { told };
    let at = |stamp: Option<pipeline_contract::Stamp>| stamp.and_then(|stamp| instant(stamp.modified / 1000)).map(rfc3339);
    let when = match (at(meta.stamp), at(mark.stamp)) {
        (Some(is), Some(was)) if is != was => format!(" (last changed {is}, by this pipeline {was})"),
        _ => String::new(),
    };
    let message = format!("{path} was changed after its {} were committed: {what}{when}", bytes(mark.len));
    if head.is_other() { StageError::split(Category::Storage, message).help(NOT_AS_IT_IS) } else { changed(message) }
}

pub(crate) fn foreign(path: &str, len: u64, is_dir: bool) -> StageError {
    let what = if is_dir { "it is a folder".to_owned() } else { bytes(len) };
    let error = StageError::split(Category::Storage, format!("{path} exists, but this pipeline did not write it ({what})"));
    if is_dir {
        return error.help("move the folder away, or choose another `path`");
    }
    error.help("if its rows belong here: `pipeline state rebuild FILE` takes it over; if not, move it away or choose another `path`")
}

impl Head {
    /// What a person should know of a file that is taken over as it is; empty when there is nothing.
    pub(crate) fn notice(&self, header: &[u8]) -> String {
        let mut notice = self.told(header);
        if self.line_ends.is_some() {
            notice.push_str("; new lines end as the pipeline file says");
        }
        notice
    }
}
