//! Rejects as JSON Lines, in the same epoch as the rows that passed, each (split, stage, rule, row) once and not at every run.

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
use super::rejects::{LONGEST_LINE, Lines, StagedReject};
use crate::state::{RejectHash, Store};

/// The quarantine's name among a pipeline's sinks.
pub const QUARANTINE: &str = "quarantine";

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
    /// As it was when it was rejected.
    pub(super) fn staged(self) -> StagedReject {
        StagedReject { stage: self.stage, reject: Reject { row: self.row, rule: self.rule, message: self.message } }
    }

    /// The tick of the run that rejected it, which is part of the run's id.
    fn rejected_at(&self) -> Option<DateTime<Utc>> {
        let (_, tick) = self.run.rsplit_once('@')?;
        let tick = tick.split_once('/').map_or(tick, |(tick, _)| tick);
        Some(DateTime::parse_from_rfc3339(tick).ok()?.to_utc())
    }
}

/// The quarantine of one pipeline at work.
pub(crate) struct Quarantine {
    path: PathBuf,
    /// The path as records name it.
    name: String,
    files: FileSet,
    store: Arc<dyn Store>,
    /// The rejects of the open epoch, in order, and ...
    added: Vec<RejectHash>,
    /// ... to be looked up.
    seen: HashSet<RejectHash, foldhash::fast::RandomState>,
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
        let (added, seen) = (Vec::new(), HashSet::default());
        Self { name: slashed(&path), path, files, store, added, seen, kept: Kept::default(), keep, clock, forgotten: Arc::default() }
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

    /// Adds rejects, of which those that are kept already are left out: the store is asked once for all of them.
    pub(crate) fn add(&mut self, lines: &Lines) -> Result<(), StageError> {
        let hashes = lines.hashes();
        let maybe_known: Vec<RejectHash> = hashes.iter().filter(|hash| self.kept.may_hold(**hash) && !self.seen.contains(*hash)).copied().collect();
        let known = if maybe_known.is_empty() { Vec::new() } else { self.kept.look_up(&maybe_known, &*self.store)? };
        let mut known = maybe_known.into_iter().zip(known).peekable();
        let (before, mut is_new) = (self.added.len(), Vec::with_capacity(hashes.len()));
        for hash in hashes {
            // In the same order, and each that was asked for once.
            let is_kept = known.next_if(|(asked, _)| asked == hash).is_some_and(|(_, kept)| kept.is_some());
            let new = !is_kept && self.seen.insert(*hash);
            self.added.extend(new.then_some(*hash));
            is_new.push(new);
        }
        match self.added.len() - before {
            0 => Ok(()),
            all if all == hashes.len() => self.files.append_shared(&self.name, b"", lines.bytes()),
            _ => {
                let mut new = Vec::with_capacity(lines.bytes().len());
                lines.iter().zip(&is_new).filter(|(_, is_new)| **is_new).for_each(|(line, _)| new.extend_from_slice(line));
                self.files.append(&self.name, b"", new)
            }
        }
    }

    /// The run is over: what is only a cache is let go.
    pub(crate) fn rest(&mut self) {
        self.kept = Kept::default();
        self.added.shrink_to_fit();
        self.seen.shrink_to_fit();
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
        let path = self.name.clone();
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
