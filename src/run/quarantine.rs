//! Rejects as JSON Lines, in the same epoch as the rows that passed, each (split, stage, rule, row) once and not at every run.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{Category, Clock, Disk, Epoch, Recovery, Reject, SinkContext, SinkState, StageError, rfc3339};
use pipeline_files::{FileSet, Root};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kept::Kept;
use crate::state::{RejectHash, Store};

/// The quarantine's name among a pipeline's sinks.
pub const QUARANTINE: &str = "quarantine";

/// The longest line that is written and read back, in bytes.
pub(crate) const LONGEST_LINE: u64 = 64 << 20;

/// One line of a quarantine file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredReject {
    /// The row: an object of columns, or whatever the source received.
    pub row: Value,
    /// The rule that it broke.
    pub rule: String,
    /// Why.
    pub message: String,
    /// The run that rejected it first.
    pub run: String,
    /// Its split.
    pub split: String,
    /// The stage that rejected it: `source`, `transforms.N`, `validate` or `dedupe`.
    pub stage: String,
}

impl StoredReject {
    /// Its identity: split, stage, rule and row. The run and the wording of the message do not count.
    pub fn hash(&self) -> RejectHash {
        let identity = (&self.split, &self.stage, &self.rule, &self.row);
        // A tuple of texts and JSON always serializes.
        xxhash_rust::xxh3::xxh3_128(&serde_json::to_vec(&identity).unwrap_or_default())
    }
}

impl StoredReject {
    fn of(run: &str, split: &str, staged: &StagedReject) -> Self {
        let Reject { row, rule, message } = staged.reject.clone();
        Self { row, rule, message, run: run.to_owned(), split: split.to_owned(), stage: staged.stage.clone() }
    }

    /// Without its row, which would make the whole file unreadable. Rows that differ stay apart.
    fn shortened(&self, bytes: usize) -> Self {
        let row = Value::String(format!("left out, as it makes a line of {bytes} bytes: {:032x}", self.hash()));
        let cut = |text: &str| text.chars().take(1000).collect::<String>();
        let Self { rule, message, run, split, stage, .. } = self;
        Self { row, rule: cut(rule), message: cut(message), run: cut(run), split: cut(split), stage: cut(stage) }
    }

    /// The tick of the run that rejected it, which is part of the run's id.
    fn rejected_at(&self) -> Option<DateTime<Utc>> {
        let (_, tick) = self.run.rsplit_once('@')?;
        let tick = tick.split_once('/').map_or(tick, |(tick, _)| tick);
        Some(DateTime::parse_from_rfc3339(tick).ok()?.to_utc())
    }
}

/// A reject and the stage that it failed at: `source`, `transforms.N`, `validate` or `dedupe`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StagedReject {
    pub(crate) stage: String,
    pub(crate) reject: Reject,
    /// What the quarantine keeps of it, once that is made: then the row is nowhere else.
    pub(crate) line: Option<Line>,
}

/// A reject as the line that the quarantine keeps of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    hash: RejectHash,
    bytes: Vec<u8>,
}

impl Line {
    /// The same as of a [`StoredReject`], without making one; `None` when it is longer than a line may be.
    pub(crate) fn of(run: &str, split: &str, stage: &str, reject: &Reject) -> Option<Self> {
        let json = |bytes: &mut Vec<u8>, text: &str| serde_json::to_writer(bytes, text).ok();
        let row = serde_json::to_vec(&reject.row).ok()?;
        let mut bytes = Vec::with_capacity(row.len() + reject.message.len() + split.len() + run.len() + 100);
        bytes.push(b'[');
        for part in [split, stage, &reject.rule] {
            json(&mut bytes, part)?;
            bytes.push(b',');
        }
        bytes.extend_from_slice(&row);
        bytes.push(b']');
        let hash = xxhash_rust::xxh3::xxh3_128(&bytes);
        bytes.clear();
        bytes.extend_from_slice(b"{\"row\":");
        bytes.extend_from_slice(&row);
        for (name, part) in [("rule", reject.rule.as_str()), ("message", &reject.message), ("run", run), ("split", split), ("stage", stage)] {
            bytes.extend_from_slice(b",\"");
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b"\":");
            json(&mut bytes, part)?;
        }
        bytes.extend_from_slice(b"}\n");
        (bytes.len() as u64 <= LONGEST_LINE).then_some(Self { hash, bytes })
    }

    /// For messages.
    pub(crate) fn shown(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes.trim_ascii_end())
    }
}

/// The quarantine of one pipeline at work.
pub(crate) struct Quarantine {
    path: PathBuf,
    files: FileSet,
    store: Arc<dyn Store>,
    added: Vec<RejectHash>,
    seen: HashSet<RejectHash>,
    kept: Kept,
    /// For how long rejects are kept; `None` for ever.
    keep: Option<Duration>,
    clock: Arc<dyn Clock>,
    /// What this epoch lets go, once it is prepared.
    forgotten: Arc<Mutex<Vec<RejectHash>>>,
}

impl Quarantine {
    pub(crate) fn new(path: PathBuf, cx: SinkContext, store: Arc<dyn Store>, keep: Option<Duration>) -> Self {
        let (files, clock) = (FileSet::new(&cx).renewing(), cx.ports.clock);
        Self { path, files, store, added: Vec::new(), seen: HashSet::new(), kept: Kept::default(), keep, clock, forgotten: Arc::default() }
    }

    pub(crate) fn id(&self) -> &'static str {
        QUARANTINE
    }

    pub(crate) fn recover(&mut self, recovery: &Recovery) -> Result<(), StageError> {
        let dir = self.path.parent().map(slashed).unwrap_or_default();
        self.forget();
        self.kept = Kept::default();
        self.files.recover(recovery, &[Root { dir, depth: 0 }])
    }

    /// Adds the rejects of a split, of which those that are kept already are left out: the store is asked once for all of them.
    pub(crate) fn add(&mut self, run: &str, split: &str, rejects: &[StagedReject]) -> Result<(), StageError> {
        let made: Vec<Cow<'_, Line>> = rejects
            .iter()
            .map(|staged| match &staged.line {
                Some(line) => Ok(Cow::Borrowed(line)),
                None => line(run, split, staged).map(Cow::Owned),
            })
            .collect::<Result<_, StageError>>()?;
        let maybe_known: Vec<RejectHash> =
            made.iter().map(|line| line.hash).filter(|hash| !self.seen.contains(hash) && self.kept.may_hold(*hash)).collect();
        let known = if maybe_known.is_empty() { Vec::new() } else { self.kept.look_up(&maybe_known, &*self.store)? };
        let mut known = maybe_known.into_iter().zip(known).peekable();
        for line in made {
            // In the same order, and each that was asked for once.
            if known.next_if(|(hash, _)| *hash == line.hash).is_some_and(|(_, kept)| kept.is_some()) || !self.seen.insert(line.hash) {
                continue;
            }
            self.files.append(&slashed(&self.path), b"", line.bytes.as_slice())?;
            self.added.push(line.hash);
        }
        Ok(())
    }

    /// The run is over: what is only a cache is let go.
    pub(crate) fn rest(&mut self) {
        self.kept = Kept::default();
    }

    /// The rejects of the open epoch.
    pub(crate) fn added(&self) -> Vec<RejectHash> {
        self.added.clone()
    }

    /// The rejects that the open epoch lets go, once it is prepared.
    pub(crate) fn forgotten(&self) -> Vec<RejectHash> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn prepare(&mut self, epoch: Epoch) -> Result<SinkState, StageError> {
        if !self.added.is_empty() {
            self.let_go()?;
        }
        self.files.prepare(epoch)
    }

    /// Lets go what was kept long enough. The file is written anew for that, so not for each line that is a day too old.
    fn let_go(&mut self) -> Result<(), StageError> {
        let Some(keep) = self.keep.and_then(|keep| chrono::Duration::from_std(keep).ok()) else { return Ok(()) };
        let now = self.clock.now();
        let (Some(oldest), Some(limit)) = (now.checked_sub_signed(keep + keep / 10), now.checked_sub_signed(keep)) else { return Ok(()) };
        let path = slashed(&self.path);
        let mut first = Vec::new();
        let content = self.files.content(&path, b"")?;
        BufReader::new(content.take(LONGEST_LINE)).read_until(b'\n', &mut first).map_err(|error| pipeline_files::io_error("read", &path, &error))?;
        if parsed(&first).and_then(|reject| reject.rejected_at()).is_none_or(|at| at >= oldest) {
            return Ok(());
        }
        let (name, forgotten) = (path.clone(), Arc::clone(&self.forgotten));
        let edit = move |old: &mut (dyn Read + Send), new: &mut dyn std::io::Write| {
            let gone = keep_since(old, new, limit)?;
            tracing::info!(file = %name, rejects = gone.len(), before = %rfc3339(limit), "rejects that were kept long enough are let go (keep_rejects)");
            *forgotten.lock().unwrap_or_else(PoisonError::into_inner) = gone;
            Ok(())
        };
        self.files.rewrite(&path, b"", Box::new(edit))
    }

    pub(crate) fn commit(&mut self, epoch: Epoch, state: &SinkState) -> Result<(), StageError> {
        self.added.iter().for_each(|hash| self.kept.note(*hash));
        self.forget();
        self.files.commit(epoch, state)
    }

    pub(crate) fn abort(&mut self) -> Result<(), StageError> {
        self.forget();
        self.files.abort()
    }

    fn forget(&mut self) {
        self.added.clear();
        self.seen.clear();
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn line(run: &str, split: &str, staged: &StagedReject) -> Result<Line, StageError> {
    if let Some(line) = Line::of(run, split, &staged.stage, &staged.reject) {
        return Ok(line);
    }
    let whole = StoredReject::of(run, split, staged);
    let length = serde_json::to_vec(&whole).map_or(0, |line| line.len() + 1);
    let short = whole.shortened(length);
    let reject = Reject { row: short.row, rule: short.rule, message: short.message };
    Line::of(&short.run, &short.split, &short.stage, &reject).ok_or_else(|| StageError::developer("a reject cannot be written as JSON"))
}

fn parsed(line: &[u8]) -> Option<StoredReject> {
    serde_json::from_slice(line).ok()
}

/// Copies the lines of rejects since `limit`, and those that are no rejects; answers what was left out.
fn keep_since(old: &mut dyn Read, new: &mut dyn std::io::Write, limit: DateTime<Utc>) -> std::io::Result<Vec<RejectHash>> {
    let (mut old, mut line, mut gone) = (BufReader::new(old), Vec::new(), Vec::new());
    while old.read_until(b'\n', &mut line)? > 0 {
        match parsed(&line) {
            Some(reject) if reject.rejected_at().is_some_and(|at| at < limit) => gone.push(reject.hash()),
            _ => new.write_all(&line)?,
        }
        line.clear();
    }
    Ok(gone)
}

/// A path as records name it.
fn slashed(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The records of a quarantine file as it is on disk, for `pipeline state rebuild`.
///
/// # Errors
/// When the file cannot be read or its last line is cut off.
pub fn adopt_quarantine(path: &Path, cx: &SinkContext) -> Result<SinkState, StageError> {
    let there = cx.ports.disk.metadata(path).map_err(|error| pipeline_files::io_error("look at", &slashed(path), &error))?.is_some();
    let paths: Vec<String> = there.then(|| slashed(path)).into_iter().collect();
    pipeline_files::adopt(cx, &paths, b"")
}

/// The quarantine file of a pipeline, for reading.
pub struct QuarantineFile<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// The disk it is on.
    pub disk: &'a dyn Disk,
}

impl QuarantineFile<'_> {
    /// All its lines, in order; none when there is no file.
    ///
    /// # Errors
    /// A line that is not a reject, with its number; or when the file cannot be read.
    pub fn read(&self) -> Result<Vec<StoredReject>, StageError> {
        let mut rejects = Vec::new();
        self.each(&mut |reject| {
            rejects.push(reject);
            Ok(())
        })?;
        Ok(rejects)
    }

    /// Hands over its lines, in order, until `each` fails; none when there is no file.
    ///
    /// # Errors
    /// As [`QuarantineFile::read`], or what `each` failed with.
    pub fn each(&self, each: &mut dyn FnMut(StoredReject) -> Result<(), StageError>) -> Result<(), StageError> {
        let storage = |message: String| StageError::operator(Category::Storage, message);
        let name = self.path.display();
        if self.disk.metadata(self.path).map_err(|error| storage(format!("{name}: {error}")))?.is_none() {
            return Ok(());
        }
        let file = self.disk.open(self.path).map_err(|error| storage(format!("{name} cannot be read: {error}")))?;
        let mut file = BufReader::new(file);
        let (mut line, mut number) = (Vec::new(), 0_u64);
        loop {
            line.clear();
            number += 1;
            let fault = |what: String| storage(format!("{name}:{number}: {what}")).help("mend the line, or move the file away");
            let read = (&mut file).take(LONGEST_LINE + 1).read_until(b'\n', &mut line).map_err(|error| storage(format!("{name}: {error}")))?;
            if read == 0 {
                return Ok(());
            }
            if line.len() as u64 > LONGEST_LINE {
                return Err(fault(format!("this line is longer than {} MiB, the most that is read", LONGEST_LINE >> 20)));
            }
            match serde_json::from_slice(&line) {
                Ok(reject) => each(reject)?,
                // What a killed run leaves; the next run takes it back.
                Err(error) if !line.ends_with(b"\n") && error.is_eof() => {
                    tracing::warn!("{name}:{number}: the last line is cut off; the next run takes it back");
                }
                Err(error) => return Err(fault(format!("this line is not a reject: {error}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn a_line_is_what_its_reject_is_written_as(run in ".*", split in ".*", stage in ".*", rule in ".*", message in ".*", text in ".*", number in any::<f64>()) {
            let reject = Reject::new(json!({ "b": text, "a": number, "c": null }), rule, message);
            let stored = StoredReject::of(&run, &split, &StagedReject { stage: stage.clone(), reject: reject.clone(), line: None });
            let line = Line::of(&run, &split, &stage, &reject).unwrap();
            prop_assert_eq!(line.hash, stored.hash());
            let mut written = serde_json::to_vec(&stored).unwrap();
            written.push(b'\n');
            prop_assert_eq!(line.bytes, written);
        }
    }
}
