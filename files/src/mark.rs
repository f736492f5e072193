//! What is remembered of a file: enough to notice whatever somebody else did to it.

use std::io::{self, SeekFrom};

use pipeline_contract::{Category, DiskFile, SinkContext, StageError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::io_error;

/// How much of a file's end is hashed.
pub(crate) const TAIL: u64 = 4096;

/// A file at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Its length.
    pub(crate) len: u64,
    /// The length of its header line; 0 without one.
    pub(crate) head_len: u64,
    /// The hash of its header line.
    pub(crate) head: String,
    /// The hash of its last 4 KiB.
    pub(crate) tail: String,
}

/// A file in the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub(crate) mark: Mark,
    /// Set by the epoch that makes or rewrites the file; of no meaning once a later epoch exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<Pending>,
}

/// A rename that `commit` does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// The temporary name, in the folder of the file. It holds the epoch, so that an old commit never takes a newer file.
    pub(crate) temp: String,
    /// What stands there before; `None` for a new file, which never goes over one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) over: Option<Mark>,
}

impl Record {
    pub(crate) fn from_value(path: &str, value: &Value) -> Result<Self, StageError> {
        Record::deserialize(value).map_err(|error| {
            StageError::operator(Category::Storage, format!("the state's record of {path} cannot be read: {error}"))
                .help("derive it anew: `pipeline state rebuild FILE`")
        })
    }

    pub(crate) fn to_value(&self, path: &str) -> Result<Value, StageError> {
        serde_json::to_value(self).map_err(|error| StageError::developer(format!("the record of {path} is not JSON: {error}")))
    }
}

/// Which part of a file is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Differs {
    Head,
    Tail,
}

/// How much of the file at `path` counts, as the records say; `None` when they do not know it. While a decided epoch waits for its rename,
/// it is the length of the file that is still in its place.
///
/// # Errors
/// When the disk or the records cannot be read.
pub fn committed_len(cx: &SinkContext, path: &str) -> Result<Option<u64>, StageError> {
    let Some(value) = cx.records.get(path)? else { return Ok(None) };
    let record = Record::from_value(path, &value)?;
    if let Some(Pending { temp, over: Some(over) }) = &record.pending
        && cx.ports.disk.metadata(temp.as_ref()).map_err(|error| io_error("look at", temp, &error))?.is_some()
    {
        return Ok(Some(over.len));
    }
    Ok(Some(record.mark.len))
}

impl Mark {
    /// The first `len` bytes of a file, as they are.
    pub(crate) fn of(file: &mut dyn DiskFile, len: u64, head_len: u64) -> io::Result<Self> {
        let head = hash_part(file, 0, head_len.min(len))?;
        let from = len.saturating_sub(TAIL);
        let tail = hash_part(file, from, len - from)?;
        Ok(Self { len, head_len, head, tail })
    }

    /// Does the file still begin with what was marked?
    pub(crate) fn differs(&self, file: &mut dyn DiskFile) -> io::Result<Option<Differs>> {
        let now = Self::of(file, self.len, self.head_len)?;
        Ok(if now.head != self.head {
            Some(Differs::Head)
        } else if now.tail != self.tail {
            Some(Differs::Tail)
        } else {
            None
        })
    }

    /// Is the file, as a whole, what was marked?
    pub(crate) fn is(&self, file: &mut dyn DiskFile) -> io::Result<bool> {
        Ok(file.size()? == self.len && self.differs(file)?.is_none())
    }
}

fn hash_part(file: &mut dyn DiskFile, from: u64, len: u64) -> io::Result<String> {
    Ok(format!("{:016x}", xxh3_64(&read_part(file, from, len)?)))
}

/// Bytes of a file, all of them or an error.
pub(crate) fn read_part(file: &mut dyn DiskFile, from: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut part = vec![0; len];
    file.seek(SeekFrom::Start(from))?;
    file.read_exact(&mut part)?;
    Ok(part)
}
