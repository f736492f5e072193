//! What is remembered of a file: enough to notice whatever somebody else did to it.

use std::io::{self, BufReader, Read, SeekFrom};

use pipeline_contract::{Category, Disk, DiskFile, SinkContext, StageError, Stamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::appended::Appended;
use crate::io_error;

/// How much of a file's end is hashed.
pub(crate) const TAIL: u64 = 4096;

/// The pieces of a file whose hashes make up that of its body, so that a longer file costs no more than what is new.
const BLOCK: u64 = 4096;

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
    /// The sum of the hashes of its whole blocks, each with its number as the seed. Older records have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    /// What the disk said of the file then: while it says the same, the body is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stamp: Option<Stamp>,
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
    Body,
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
        let (head, tail) = Self::ends(file, len, head_len)?;
        let body = Some(sum_blocks(file, len / BLOCK)?);
        Ok(Self { len, head_len, head, tail, body, stamp: None })
    }

    /// Appends bytes to a file that has the mark `before`, and answers the mark that it has then. Of what was there only the ends are read.
    pub(crate) fn append(file: &mut dyn DiskFile, before: &Self, appended: &Appended) -> io::Result<Self> {
        let len = before.len + appended.len();
        let mut blocks = before.blocks(file)?;
        file.seek(SeekFrom::Start(before.len))?;
        for piece in appended.pieces() {
            file.write_all(piece)?;
            // Now it is in the processor's cache.
            if let Some(blocks) = &mut blocks {
                blocks.add(piece);
            }
        }
        let Some(blocks) = blocks else { return Self::of(file, len, before.head_len) };
        let (head, tail) = Self::ends(file, len, before.head_len)?;
        Ok(Self { len, head_len: before.head_len, head, tail, body: Some(blocks.text()), stamp: None })
    }

    /// The blocks of the body so far; `None` where the record does not know them.
    fn blocks(&self, file: &mut dyn DiskFile) -> io::Result<Option<Blocks>> {
        let Some(sum) = self.body.as_deref().and_then(|body| u64::from_str_radix(body, 16).ok()) else { return Ok(None) };
        let begun = self.len % BLOCK;
        Ok(Some(Blocks { number: self.len / BLOCK, sum, begun: read_part(file, self.len - begun, begun)? }))
    }

    fn ends(file: &mut dyn DiskFile, len: u64, head_len: u64) -> io::Result<(String, String)> {
        let head = hash_part(file, 0, head_len.min(len))?;
        let from = len.saturating_sub(TAIL);
        Ok((head, hash_part(file, from, len - from)?))
    }

    /// Does the file still begin with what was marked? `stamp` is what the disk says of it now.
    pub(crate) fn differs(&self, file: &mut dyn DiskFile, stamp: Option<Stamp>) -> io::Result<Option<Differs>> {
        let (head, tail) = Self::ends(file, self.len, self.head_len)?;
        if head != self.head {
            return Ok(Some(Differs::Head));
        }
        if tail != self.tail {
            return Ok(Some(Differs::Tail));
        }
        // A copy that was put back has another stamp and the same bytes.
        let touched = stamp.is_none() || stamp != self.stamp;
        let same = match &self.body {
            Some(body) if touched => sum_blocks(file, self.len / BLOCK)? == *body,
            _ => true,
        };
        Ok((!same).then_some(Differs::Body))
    }

    /// Is the file, as a whole, what was marked?
    pub(crate) fn is(&self, file: &mut dyn DiskFile, stamp: Option<Stamp>) -> io::Result<bool> {
        Ok(file.size()? == self.len && self.differs(file, stamp)?.is_none())
    }
}

/// The sum of the hashes of a file's blocks, each with its number as the seed.
#[derive(Default)]
struct Blocks {
    /// The number of the next block.
    number: u64,
    sum: u64,
    /// What there is of it.
    begun: Vec<u8>,
}

impl Blocks {
    fn add(&mut self, mut bytes: &[u8]) {
        if !self.begun.is_empty() {
            let (of_it, rest) = bytes.split_at(bytes.len().min(BLOCK as usize - self.begun.len()));
            self.begun.extend_from_slice(of_it);
            bytes = rest;
            if self.begun.len() < BLOCK as usize {
                return;
            }
            let begun = std::mem::take(&mut self.begun);
            self.whole(&begun);
        }
        let blocks = bytes.chunks_exact(BLOCK as usize);
        self.begun.extend_from_slice(blocks.remainder());
        blocks.for_each(|block| self.whole(block));
    }

    fn whole(&mut self, block: &[u8]) {
        self.sum = self.sum.wrapping_add(xxh3_64_with_seed(block, self.number));
        self.number += 1;
    }

    fn text(&self) -> String {
        format!("{:016x}", self.sum)
    }
}

/// The sum of the hashes of a file's first blocks.
fn sum_blocks(file: &mut dyn DiskFile, count: u64) -> io::Result<String> {
    let mut blocks = Blocks::default();
    let mut block = vec![0; BLOCK as usize];
    if count > 0 {
        file.seek(SeekFrom::Start(0))?;
        let mut file = BufReader::with_capacity(64 << 10, file);
        for _ in 0..count {
            file.read_exact(&mut block)?;
            blocks.whole(&block);
        }
    }
    Ok(blocks.text())
}

/// What the disk says of a file now.
pub(crate) fn stamp(disk: &dyn Disk, path: &str) -> Result<Option<Stamp>, StageError> {
    Ok(disk.metadata(path.as_ref()).map_err(|error| io_error("look at", path, &error))?.and_then(|meta| meta.stamp))
}

/// Piece by piece: the length may be that of a record which somebody wrote.
fn hash_part(file: &mut dyn DiskFile, from: u64, len: u64) -> io::Result<String> {
    let mut hash = Xxh3::new();
    let (mut at, mut left) = (from, len);
    while left > 0 {
        let piece = read_part(file, at, left.min(TAIL))?;
        hash.update(&piece);
        at += piece.len() as u64;
        left -= piece.len() as u64;
    }
    Ok(format!("{:016x}", hash.digest()))
}

/// Bytes of a file, all of them or an error.
pub(crate) fn read_part(file: &mut dyn DiskFile, from: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut part = vec![0; len];
    file.seek(SeekFrom::Start(from))?;
    file.read_exact(&mut part)?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use pipeline_contract::Disk;
    use pipeline_contract::testkit::SimDisk;

    use super::*;

    #[test]
    fn a_mark_that_grows_is_the_mark_of_the_whole() {
        let bytes: Vec<u8> = (0..60_000_u32).map(|n| (n * 7 % 127) as u8).collect();
        for (first, pieces) in
            [(0, vec![1, 70_000]), (5, vec![4091, 1, 4096]), (4096, vec![4095, 1]), (4095, vec![1]), (9000, vec![10, 20, 30_000, 5]), (7, vec![0, 3])]
        {
            let disk = SimDisk::new();
            disk.put("x", std::str::from_utf8(&bytes[..first]).unwrap());
            let mut file = disk.open_write("x".as_ref()).unwrap();
            let mut mark = Mark::of(&mut *file, first as u64, 3.min(first as u64)).unwrap();
            let mut appended = Appended::default();
            let mut at = first;
            for piece in pieces {
                appended.push(bytes[at..(at + piece).min(bytes.len())].to_vec());
                at = (at + piece).min(bytes.len());
            }
            let grown = Mark::append(&mut *file, &mark, &appended).unwrap();
            let whole = Mark::of(&mut *file, mark.len + appended.len(), mark.head_len).unwrap();
            assert_eq!(grown, whole);
            mark.body = None;
            assert_eq!(Mark::append(&mut *file, &mark, &appended).unwrap(), whole, "of an older record");
        }
    }
}
