//! What a pipeline must remember between runs: behind one trait, with two implementations.
//!
//! [`SqliteStore`] is the real one; [`ModelStore`] keeps everything in memory and commits in one atomic step, so that tests can crash around it.
//! A store belongs to one pipeline. Everything that an epoch changes (positions, dedupe state, what sinks need, the run's counts) goes into
//! the one transaction of [`Store::commit_epoch`].

mod credits;
mod lock;
mod model;
mod sqlite;
#[cfg(test)]
pub(crate) mod suite;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pipeline_contract::{Category, Epoch, Position, SinkState, Split, StageError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use credits::SqliteCredits;
pub use lock::{LockError, PipelineLock};
pub use model::{CommitFault, ModelStore};
pub use sqlite::{OpenError, SqliteStore};

/// What the state speaks of. A pipeline file that says something else does not fit it: exit 2, and `pipeline state rebuild` mends it.
///
/// Part names read as the pipeline file does (`dedupe.keys`, `sink.path`), so that a message can name what changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding(pub BTreeMap<String, Value>);

/// Rows by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that the source brought, rejects included.
    pub read: u64,
    /// Rows stored, new or replacing.
    pub written: u64,
    /// Rows whose key and values were stored already.
    pub duplicates: u64,
    /// Rows whose key was stored already with other values, whatever became of them.
    pub conflicts: u64,
    /// Rows that broke a rule.
    pub rejected: u64,
    /// Rows that a filter left out.
    pub filtered: u64,
}

impl Counts {
    /// Adds the rows of another part.
    pub fn add(&mut self, other: &Self) {
        self.read = self.read.saturating_add(other.read);
        self.written = self.written.saturating_add(other.written);
        self.duplicates = self.duplicates.saturating_add(other.duplicates);
        self.conflicts = self.conflicts.saturating_add(other.conflicts);
        self.rejected = self.rejected.saturating_add(other.rejected);
        self.filtered = self.filtered.saturating_add(other.filtered);
    }
}

impl<'a> std::iter::Sum<&'a Self> for Counts {
    fn sum<I: Iterator<Item = &'a Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |mut sum, part| {
            sum.add(part);
            sum
        })
    }
}

/// How a run stands or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Under way, or its process died.
    Open,
    /// Every split is stored.
    Ok,
    /// Some splits are stored, some failed.
    Partial,
    /// An abort limit, every split, or the list of splits failed.
    Failed,
    /// Stopped before it was done; what succeeded is stored.
    Interrupted,
}

/// How a split stands or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitStatus {
    /// Not done: to be read from its position, or from its start.
    Pending,
    /// All its rows are stored.
    Ok,
    /// It failed; what was committed of it is stored.
    Failed,
}

/// An error as summaries show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// Its kind.
    pub category: Category,
    /// What happened and where.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// One split of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// The split.
    pub split: Split,
    /// How it stands.
    pub status: SplitStatus,
    /// Its committed rows.
    pub rows: Counts,
    /// How often it was opened.
    pub attempts: u32,
    /// Where its committed prefix ends.
    pub position: Option<Position>,
    /// Why it failed.
    pub error: Option<ErrorRecord>,
}

/// The window that a run was asked for: `from` and `to`.
pub type AskedWindow = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its id, made of pipeline and tick.
    pub run_id: String,
    /// The instant that fired it.
    pub tick: DateTime<Utc>,
    /// What fired it: `schedule`, `once`, `backfill`, `fill`, `replay`.
    pub cause: String,
    /// The window asked for, `from` and `to`.
    pub window: Option<AskedWindow>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it stands.
    pub status: RunStatus,
    /// Its committed rows.
    pub rows: Counts,
    /// Why it failed as a whole.
    pub error: Option<ErrorRecord>,
    /// Its splits, in the order in which they are stored.
    pub splits: Vec<SplitRecord>,
}

/// What became of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TickStatus {
    /// Its run is under way, or its process died.
    Running,
    /// It ran; its run tells how that went.
    Ran,
    /// It did not run.
    Skipped,
}

/// One tick, or a stretch of ticks that were skipped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickRecord {
    /// The instant; of a stretch the first.
    pub tick: DateTime<Utc>,
    /// The last instant of a stretch; equal to `tick` for a single one.
    pub until: DateTime<Utc>,
    /// How many ticks the stretch has.
    pub count: u64,
    /// What became of it.
    pub status: TickStatus,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// Its run.
    pub run_id: Option<String>,
}

/// One chunk of a series' keys, as the dedupe stage encodes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkKey {
    /// The series: its key columns but the time, encoded.
    pub series: Vec<u8>,
    /// Which stretch of time.
    pub chunk: i64,
}

/// Who is handed chunks, one after another.
pub type EachChunk<'a> = dyn FnMut(ChunkKey, &[u8]) -> Result<(), StageError> + 'a;

/// Who is handed the parts of the log of keys, one after another.
pub type EachPart<'a> = dyn FnMut(&[u8]) -> Result<(), StageError> + 'a;

/// What an epoch changes in the dedupe state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DedupeChanges {
    /// Chunks and their new content.
    pub chunks: Vec<(ChunkKey, Vec<u8>)>,
    /// Keys and the fingerprint of their row, for keys that are not (series, time).
    pub keyed: Vec<(Vec<u8>, u64)>,
    /// Small facts of the dedupe stage itself (as the width of a chunk), by name.
    pub meta: BTreeMap<String, Value>,
    /// A part that is added to the log of keys, which holds what chunks lack, as the dedupe stage encodes it.
    pub key_part: Option<Vec<u8>>,
}

/// A reject's identity: a hash of split, rule and row. It is written once, not at every run.
pub type RejectHash = u128;

/// Everything that one epoch changes: saved together or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpochCommit {
    /// Its number: one more than the last.
    pub epoch: Epoch,
    /// The run it belongs to.
    pub run_id: String,
    /// The run's counts so far.
    pub rows: Counts,
    /// The splits that changed, by their place in the run.
    pub splits: Vec<(usize, SplitRecord)>,
    /// What changed in each sink's records, by sink id.
    pub sinks: Vec<(String, SinkState)>,
    /// What changed in the dedupe state.
    pub dedupe: DedupeChanges,
    /// Rejects that were written in this epoch.
    pub rejects: Vec<RejectHash>,
    /// Rejects that are kept no longer.
    pub forgotten: Vec<RejectHash>,
    /// Rejects that were replayed with success in this epoch.
    pub replayed: Vec<RejectHash>,
}

/// A committed epoch and what it changed in each sink's records, by sink id.
pub type LastEpoch = (Epoch, Vec<(String, SinkState)>);

/// What `pipeline state rebuild` puts in place of the old, in one transaction. Runs and ticks stay.
#[derive(Clone, Debug, Default)]
pub struct Rebuilt {
    /// The new binding.
    pub binding: Binding,
    /// All records of each sink, by sink id.
    pub sinks: Vec<(String, SinkState)>,
    /// The whole dedupe state.
    pub dedupe: DedupeChanges,
    /// Rejects that are stored, and whether each was replayed.
    pub rejects: Vec<(RejectHash, bool)>,
}

/// What is known of an epoch once the sinks and the quarantine have made it durable.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    /// What changes in the records of each sink, by sink id.
    pub sinks: Vec<(String, SinkState)>,
    /// Rejects that are kept no longer.
    pub forgotten: Vec<RejectHash>,
}

/// Waits until an epoch is durable.
pub type UntilDurable<'a> = dyn FnMut() -> Result<Durable, StageError> + 'a;

impl EpochCommit {
    pub(crate) fn durable(&mut self, Durable { sinks, forgotten }: Durable) {
        (self.sinks, self.forgotten) = (sinks, forgotten);
    }
}

/// The memory of one pipeline. All methods are one transaction each; none leaves half of its work behind.
///
/// Errors are [`StageError`]s of category `storage` that name the file and what to do.
pub trait Store: Send + Sync {
    /// What the state speaks of; `None` when it is new.
    fn binding(&self) -> Result<Option<Binding>, StageError>;
    /// Says what the state speaks of.
    fn bind(&self, binding: &Binding) -> Result<(), StageError>;

    /// The last committed epoch and what it changed in each sink's records; `None` before the first.
    fn last_epoch(&self) -> Result<Option<LastEpoch>, StageError>;
    /// Closes the state and opens it again, so that what a failed commit left is decided.
    fn reopen(&self) -> Result<(), StageError>;
    /// Saves an epoch. After an error the outcome is unknown: [`Store::reopen`], then read [`Store::last_epoch`].
    fn commit_epoch(&self, commit: &EpochCommit) -> Result<(), StageError>;
    /// As [`Store::commit_epoch`], while the sinks make their part durable: `durable` waits for them, and what it answers goes into `commit`.
    /// Until then everything else may be written, and the state can be read as it is without this epoch. When it fails, the epoch is not
    /// saved, and its error is the answer.
    fn commit_epoch_with(&self, commit: &mut EpochCommit, durable: &mut UntilDurable<'_>) -> Result<(), StageError> {
        commit.durable(durable()?);
        self.commit_epoch(commit)
    }

    /// One record of a sink.
    fn record(&self, sink: &str, key: &str) -> Result<Option<Value>, StageError>;
    /// All records of a sink, ordered by key.
    fn records(&self, sink: &str) -> Result<Vec<(String, Value)>, StageError>;

    /// The content of chunks, in the order asked; `None` for those that do not exist.
    fn chunks(&self, keys: &[ChunkKey]) -> Result<Vec<Option<Vec<u8>>>, StageError>;
    /// Hands over the parts of the log of keys, in the order in which epochs added them.
    fn each_key_part(&self, each: &mut EachPart<'_>) -> Result<(), StageError>;
    /// Saves chunks that hold all that the log of keys does, and empties it. It belongs to no epoch: what is stored stays the same.
    fn fold_keys(&self, chunks: &mut dyn Iterator<Item = (ChunkKey, Vec<u8>)>) -> Result<(), StageError>;
    /// The fingerprints of keys, in the order asked.
    fn keyed(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<u64>>, StageError>;
    /// A small fact of the dedupe stage.
    fn dedupe_meta(&self, name: &str) -> Result<Option<Value>, StageError>;
    /// Hands over every chunk, by series and time, until `each` fails.
    fn each_chunk(&self, each: &mut EachChunk<'_>) -> Result<(), StageError>;
    /// How many keys are held is not stored; this is how many chunks and how many keyed keys are, for `state show`.
    fn dedupe_size(&self) -> Result<(u64, u64), StageError>;

    /// Hands over the hash of every reject that is kept, in any order, and some perhaps more than once.
    fn each_reject(&self, each: &mut dyn FnMut(RejectHash)) -> Result<(), StageError>;
    /// For each hash: `None` when unknown, else whether it was replayed.
    fn rejects(&self, hashes: &[RejectHash]) -> Result<Vec<Option<bool>>, StageError>;

    /// The run that is open, with all its splits.
    fn open_run(&self) -> Result<Option<RunRecord>, StageError>;
    /// Opens a run: its record with all its splits and, when it was fired by a schedule, its tick as `running`. A run with the same id is
    /// replaced. Durable when this returns.
    fn start_run(&self, run: &RunRecord, scheduled: bool) -> Result<(), StageError>;
    /// Closes a run: its final record (with all splits); its tick becomes `ran`.
    fn end_run(&self, run: &RunRecord) -> Result<(), StageError>;
    /// The newest runs, newest first.
    fn runs(&self, limit: usize) -> Result<Vec<RunRecord>, StageError>;

    /// The newest runs that were opened before this one, newest first; `None` when it is not remembered.
    fn runs_before(&self, run_id: &str, limit: usize) -> Result<Option<Vec<RunRecord>>, StageError> {
        let mut runs = self.runs(usize::MAX)?.into_iter().skip_while(|run| run.run_id != run_id);
        Ok(runs.next().map(|_| runs.take(limit).collect()))
    }

    /// Is this tick, or a stretch that holds it, recorded?
    fn tick(&self, tick: DateTime<Utc>) -> Result<Option<TickRecord>, StageError>;
    /// The newest recorded tick (the end of a stretch counts), not after `limit` when one is given. Of a stretch that goes on after `limit`
    /// this is `limit` itself: every tick up to it is recorded.
    fn last_tick(&self, limit: Option<DateTime<Utc>>) -> Result<Option<DateTime<Utc>>, StageError>;
    /// Records ticks that will not run.
    fn skip_ticks(&self, ticks: &[TickRecord]) -> Result<(), StageError>;
    /// The newest ticks, newest first.
    fn ticks(&self, limit: usize) -> Result<Vec<TickRecord>, StageError>;

    /// One run, if it is remembered.
    fn run(&self, run_id: &str) -> Result<Option<RunRecord>, StageError>;

    /// A small fact that outlives the process and is part of no epoch: when somebody was last notified, say.
    fn note(&self, name: &str) -> Result<Option<Value>, StageError>;
    /// Keeps such a fact.
    fn set_note(&self, name: &str, value: &Value) -> Result<(), StageError>;
    /// How many bytes the state takes.
    fn size(&self) -> Result<u64, StageError>;

    /// Forgets runs and ticks but the newest `keep` of each, and of those the ones whose tick lies before `before`. A run that is open, a tick
    /// that is running, and the newest of each stay.
    fn prune(&self, keep: usize, before: Option<DateTime<Utc>>) -> Result<(), StageError>;
    /// Puts a rebuilt state in place of the old. The number of the last epoch goes on; what it changed is forgotten, being part of what is rebuilt.
    fn rebuild(&self, rebuilt: &Rebuilt) -> Result<(), StageError>;
}

/// Epochs follow one another without a gap.
fn check_next(last: Option<Epoch>, next: Epoch) -> Result<(), StageError> {
    let expected = last.map_or(1, |last| last.saturating_add(1));
    if next == expected { Ok(()) } else { Err(StageError::developer(format!("epoch {next} was to be saved where epoch {expected} is next"))) }
}
