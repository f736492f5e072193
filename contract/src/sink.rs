//! Sinks: where rows are stored.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{PlanError, Ports, StageError, select_rows};

/// The number of a commit of a pipeline: 1, 2, 3, ...
pub type Epoch = u64;

/// What to do with the rows of a `write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// They are new.
    Append,
    /// Each takes the place of the stored row with the same key. Only for sinks that can replace.
    Replace,
}

/// What reaches a sink, fixed at plan time.
#[derive(Clone, Debug)]
pub struct SinkInput {
    /// The columns of the batches.
    pub schema: SchemaRef,
    /// The dedupe key; empty when the pipeline has none.
    pub keys: Vec<String>,
    /// Rows may arrive with [`Op::Replace`].
    pub replaces: bool,
}

/// What a sink makes of its input.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// The input columns that can be read back from what is stored, in schema order.
    pub stored: Vec<String>,
    /// The input columns that what is stored depends on, also those that cannot be read back.
    pub written: Vec<String>,
    /// What state is bound to: when this changes, what is stored no longer fits (path, columns, formats).
    pub identity: Value,
    /// What it writes to, so that two pipelines that write one place are found: a path template, a table.
    pub targets: Vec<String>,
    /// Legal, but odd.
    pub warnings: Vec<PlanError>,
}

/// What a sink promises about a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// After a crash and a restart every row is there once.
    ExactlyOnce,
    /// After a crash some rows may be there twice.
    AtLeastOnce,
}

/// What a sink can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkCapabilities {
    /// It understands [`Op::Replace`].
    pub replace: bool,
    /// What it promises about a crash.
    pub delivery: Delivery,
}

/// The changes of one epoch to a sink's records: key to new value, `null` removes the key.
///
/// Records are what the sink needs to know of what it stored (a file's committed length, say). They are saved in the epoch's one state
/// transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkState(pub BTreeMap<String, Value>);

/// A sink's records as last committed.
pub trait Records: Send + Sync {
    /// One record.
    ///
    /// # Errors
    /// When the state store cannot be read.
    fn get(&self, key: &str) -> Result<Option<Value>, StageError>;

    /// All of them, ordered by key.
    ///
    /// # Errors
    /// When the state store cannot be read.
    fn all(&self) -> Result<Vec<(String, Value)>, StageError>;
}

/// What a sink is given to work with.
#[derive(Clone)]
pub struct SinkContext {
    /// Disk, clock and the rest of the world.
    pub ports: Ports,
    /// Its records as last committed.
    pub records: Arc<dyn Records>,
    /// A name that is this sink's alone among all pipelines, stable over restarts: for temporary names.
    pub id: String,
    /// A folder of its own under the state directory, for bytes that are cut from a file. It may not exist yet.
    pub keep_dir: PathBuf,
}

/// How a sink finds things after the last process ended, in whatever way it ended.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The last committed epoch and what it changed: its `commit` may not have run. `None` before the first.
    pub last: Option<(Epoch, SinkState)>,
    /// A run was open when the last process ended: only then may what is not committed be cut away.
    pub run_was_open: bool,
}

/// What part of the stored rows is wanted. Parts that are `None` do not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The time column that `from` and `to` speak of.
    pub time_column: Option<String>,
    /// From this instant on.
    pub from: Option<DateTime<Utc>>,
    /// Up to, but without, this instant.
    pub to: Option<DateTime<Utc>>,
}

/// Stored rows, batch by batch, in the sink's `stored` columns.
#[async_trait]
pub trait BatchStream: Send {
    /// The next batch, `None` at the end.
    ///
    /// # Errors
    /// A stored row that cannot be read back, with its file and line.
    async fn next(&mut self) -> Result<Option<RecordBatch>, StageError>;
}

/// What was begun with some rows: the sink that is given it in [`Sink::write_begun`] knows its type.
pub type Begun = Box<dyn Any + Send + Sync>;

/// Begins with rows for a sink that is at its disk with the epoch before: does with them what needs nothing but them.
pub trait Ahead: Send + Sync {
    /// Begins with new rows of a batch: with those for which `selection` is true, as in [`Sink::write_selected`], or with all. The sink is given the
    /// answer in [`Sink::write_begun`], or nobody is: rows may have to be taken back. `None` where it does not begin with these; they come as if
    /// nobody had been asked, and what is wrong with them is said then.
    fn begin(&self, batch: &RecordBatch, selection: Option<&BooleanArray>) -> Option<Begun>;
}

/// Where rows are stored.
///
/// The order of a commit: `write*`, `prepare(n)`, then the engine's one state transaction, then `commit(n)`. A sink that keeps this promise
/// loses nothing and doubles nothing, wherever the process is killed.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Fixes what arrives and says what becomes of it. Pure; called once, before anything else.
    ///
    /// # Errors
    /// All faults, each with its span.
    fn plan(&mut self, input: &SinkInput) -> Result<SinkPlan, Vec<PlanError>>;

    /// What it can do.
    fn capabilities(&self) -> SinkCapabilities;

    /// The folders of this machine that it writes to, once it is planned, as far as they are known: whoever asks how much room there is
    /// looks at their file systems. None for a sink that stores elsewhere.
    fn folders(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Brings what is stored to the last committed epoch: finishes its commit, cuts what came after. Called once a run, before the first write.
    ///
    /// # Errors
    /// What stands in the way; nothing may be written then.
    async fn recover(&mut self, cx: &SinkContext, recovery: &Recovery) -> Result<(), StageError>;

    /// Takes rows of the open epoch. Nothing of them may be visible before `commit`.
    ///
    /// # Errors
    /// With [`crate::Act::Split`] when only the rows given cannot be stored; the engine then aborts and writes the others again.
    async fn write(&mut self, batch: &RecordBatch, op: Op) -> Result<(), StageError>;

    /// As [`Sink::write`], for those rows of the batch for which `selection` is true; it has a value for each row, and no nulls. The others are none
    /// of the sink's. Without a method of its own a sink is given a batch of the rows selected: copied, which one that goes row by row can spare.
    ///
    /// # Errors
    /// As [`Sink::write`].
    async fn write_selected(&mut self, batch: &RecordBatch, selection: &BooleanArray, op: Op) -> Result<(), StageError> {
        self.write(&select_rows(batch, selection)?, op).await
    }

    /// Who begins with new rows of the next epoch while the sink is busy with [`Sink::prepare`] and [`Sink::commit`] of this one. `None` for a sink that
    /// can do nothing before.
    fn ahead(&self) -> Option<Arc<dyn Ahead>> {
        None
    }

    /// As [`Sink::write`] with [`Op::Append`], for rows with which [`Sink::ahead`] has begun. The order of rows is that of the calls, however they come.
    ///
    /// # Errors
    /// As [`Sink::write`].
    async fn write_begun(&mut self, begun: Begun) -> Result<(), StageError> {
        drop(begun);
        Err(StageError::developer("the sink was given rows with which it had not begun"))
    }

    /// How many files (or the like) the open epoch changes, where each is made durable by itself: a commit takes longer the more there are, however
    /// few rows each has. Asked after each [`Sink::write`]. 0 where that does not depend on which rows they are.
    fn changed_files(&self) -> usize {
        0
    }

    /// Looks at the place where rows that are already stored live, so that what somebody did to it is noticed.
    ///
    /// # Errors
    /// As [`Sink::write`].
    async fn look(&mut self, stored: &RecordBatch) -> Result<(), StageError>;

    /// Makes the epoch's rows durable, not yet visible or not yet counted, and says what changes in its records.
    ///
    /// # Errors
    /// The epoch is then aborted.
    async fn prepare(&mut self, epoch: Epoch) -> Result<SinkState, StageError>;

    /// Makes a decided epoch visible. Idempotent: it is called until it succeeds, also after a restart.
    ///
    /// # Errors
    /// It is called again later.
    async fn commit(&mut self, epoch: Epoch, state: &SinkState) -> Result<(), StageError>;

    /// Forgets what was written since the last commit, prepared or not.
    ///
    /// # Errors
    /// What could not be taken back; `recover` will.
    async fn abort(&mut self) -> Result<(), StageError>;

    /// Stored rows, in the columns of [`SinkPlan::stored`]. Nothing stored is an empty stream.
    ///
    /// # Errors
    /// What cannot be read.
    async fn read_back(&self, cx: &SinkContext, filter: &Filter) -> Result<Box<dyn BatchStream>, StageError>;

    /// Derives the records anew from what is stored, for `pipeline state rebuild`. Changes nothing that is stored.
    ///
    /// # Errors
    /// What is stored but does not fit the pipeline file.
    async fn adopt(&self, cx: &SinkContext) -> Result<SinkState, StageError>;

    /// Can it be written to?
    ///
    /// # Errors
    /// What stands in the way.
    async fn probe(&self, cx: &SinkContext) -> Result<(), StageError>;
}
