//! Sources: where rows come from.

use std::ops::Range;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{BudgetLimits, BudgetScope, Filling, Gap, RunContext, StageError};

/// The unit of work in a run: one coin, one file, one partition. Read, retried, committed, reported and failed by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Its name, unique in the run and stable from run to run: it is shown, logged and stored.
    pub id: String,
    /// What the source needs to open it again after a restart.
    #[serde(default)]
    pub data: Value,
}

impl Split {
    /// A split that needs nothing but its name.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), data: Value::Null }
    }
}

/// Where a reader is in its split: opaque to the engine, stored with each commit, and dead when the run ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position(pub Value);

/// A row that failed, as its stage saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// The row: an object of column names where it had columns, else whatever was received.
    pub row: Value,
    /// The name of the rule that it broke.
    pub rule: String,
    /// Why, in one line.
    pub message: String,
}

impl Reject {
    /// A reject.
    pub fn new(row: impl Into<Value>, rule: impl Into<String>, message: impl Into<String>) -> Self {
        Self { row: row.into(), rule: rule.into(), message: message.into() }
    }

    /// A reject of a row with columns.
    pub fn of_row(row: Map<String, Value>, rule: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Value::Object(row), rule, message)
    }
}

/// What one `read` brings.
#[derive(Clone, Debug)]
pub struct Read {
    /// Rows, in the source's schema.
    pub batch: RecordBatch,
    /// Rows that could not be read as rows. Malformed input becomes rejects, not errors.
    pub rejects: Vec<Reject>,
    /// Where the reader is now: opening the split with it continues after the last row of `batch`.
    pub position: Position,
}

/// What a source can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCapabilities {
    /// It reads a past window (`--from`, `--to`).
    pub windows: bool,
    /// Opening with a position continues after it. Where false, `open` is never given one, and a split is committed whole.
    pub resumable: bool,
    /// About how many requests a run costs, where that is known beforehand.
    pub requests_per_run: Option<u64>,
}

/// What a source asks of the request budget.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Whose budget it is: everything with the same host and key shares it.
    pub scope: BudgetScope,
    /// What it allows.
    pub limits: BudgetLimits,
    /// The longest that one request may take, its repetitions not counted, where the pipeline file says so.
    pub timeout: Option<Duration>,
    /// Where the pipeline file says how much is asked for: `top = 100`.
    pub place: Option<Range<usize>>,
}

/// Where rows come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// The columns of its batches, known without network.
    fn schema(&self) -> SchemaRef;

    /// What it can do.
    fn capabilities(&self) -> SourceCapabilities;

    /// What its requests cost and what it may spend, for a check against the trigger before anything runs.
    fn demand(&self) -> Option<Demand> {
        None
    }

    /// How far apart the rows of one series are, where the source brings one for each such step: hourly candles, say.
    fn step(&self) -> Option<Duration> {
        None
    }

    /// May [`Source::fill`] answer with splits?
    fn fills(&self) -> bool {
        false
    }

    /// The splits that bring what is missing, and what cannot be brought. Gaps speak in columns of [`Source::schema`]. Never bring rows of
    /// another quality (coarser bars, say) as if they were the missing ones: refuse them.
    ///
    /// # Errors
    /// Fails the run.
    async fn fill(&self, gaps: &[Gap], _run: &RunContext) -> Result<Filling, StageError> {
        Ok(Filling::refuse(gaps, "this source cannot ask for a window of one series"))
    }

    /// The splits of this run, in the order in which their rows are stored.
    ///
    /// # Errors
    /// Fails the run.
    async fn splits(&self, run: &RunContext) -> Result<Vec<Split>, StageError>;

    /// Opens one split, from its start or after `resume`.
    ///
    /// # Errors
    /// Fails the split, or is retried, as [`StageError::act`] says.
    async fn open(&self, split: &Split, resume: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError>;

    /// Asks the far side whether it is there and knows us.
    ///
    /// # Errors
    /// What stands in the way.
    async fn probe(&self, run: &RunContext) -> Result<(), StageError>;
}

/// What reads one split.
#[async_trait]
pub trait Reader: Send {
    /// The next rows, or `None` when the split is done.
    ///
    /// Cancel-safe: a `read` that is dropped before it returns loses nothing, the next one brings the same rows.
    ///
    /// # Errors
    /// Fails the split, or is retried, as [`StageError::act`] says.
    async fn read(&mut self) -> Result<Option<Read>, StageError>;
}
