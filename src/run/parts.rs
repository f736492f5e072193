//! What an engine is made of, what it is asked, and what it tells meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{Sink, Source, Transform, Trigger, Window};

use super::{FindMissing, Missing};
use crate::stages::dedupe::DedupePlan;
use crate::stages::validate::{Limit, OnReject, Validator};
use crate::state::{ChunkKey, Counts};

/// Which ticks of the past run when the pipeline was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// None of them.
    None,
    /// The latest alone.
    #[default]
    Latest,
    /// All, in order.
    All,
}

/// What becomes of a tick that comes while a run is still going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overrun {
    /// It is skipped.
    #[default]
    Skip,
    /// It runs as soon as the other has ended.
    Wait,
}

/// How a pipeline runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The path of its file, for what to do about errors.
    pub file: PathBuf,
    /// How many splits are read at once.
    pub concurrency: usize,
    /// How many rows make an epoch full.
    pub epoch_rows: u64,
    /// How many bytes of memory do, though they be fewer rows.
    pub epoch_bytes: usize,
    /// How many rows make it full in any case: where a commit saves nearly as much for few rows as for many, more are waited for.
    pub most_epoch_rows: u64,
    /// How long rows wait for their epoch to fill.
    pub epoch_interval: Duration,
    /// How long a run may take.
    pub deadline: Duration,
    /// How long a run that somebody asked for may take.
    pub once_deadline: Duration,
    /// How long a run over a window of the past may take.
    pub window_deadline: Duration,
    /// What becomes of missed ticks.
    pub catch_up: CatchUp,
    /// What becomes of ticks during a run.
    pub overrun: Overrun,
    /// How many runs and ticks are remembered.
    pub keep_runs: usize,
    /// For how long they are remembered; `None` when only their number counts.
    pub keep_for: Option<Duration>,
    /// For how long rejects are kept; `None` for ever.
    pub keep_rejects: Option<Duration>,
    /// What becomes of rejects.
    pub on_reject: OnReject,
    /// A warning is given beyond this.
    pub warn: Option<Limit>,
    /// The run fails beyond this.
    pub abort: Option<Limit>,
}

/// A sink that is planned and not yet opened.
pub struct SinkPart {
    /// Its name in the state.
    pub id: String,
    /// The sink.
    pub sink: Box<dyn Sink>,
}

/// What an engine runs: stages that fit each other.
pub struct Parts {
    /// The pipeline's name.
    pub name: Arc<str>,
    /// How it runs.
    pub settings: Settings,
    /// When it runs.
    pub trigger: Arc<dyn Trigger>,
    /// Where rows come from.
    pub source: Arc<dyn Source>,
    /// What changes them.
    pub transforms: Arc<[Box<dyn Transform>]>,
    /// What checks them.
    pub validator: Option<Arc<Validator>>,
    /// What leaves out those that are stored.
    pub dedupe: Option<DedupePlan>,
    /// Where they are stored.
    pub sinks: Vec<SinkPart>,
    /// Where rejects are kept.
    pub quarantine: Option<PathBuf>,
    /// The columns that enter each transform, and last those that enter validation: for the replay of rejects.
    pub stage_inputs: Vec<pipeline_contract::arrow::SchemaRef>,
    /// What finds the gaps that scheduled runs fill; `None` when they fill none.
    pub find_missing: Option<FindMissing>,
}

/// Something that happened in a run, for progress bars.
#[derive(Clone, Debug)]
pub enum RunEvent {
    /// The splits are known.
    Started {
        /// Which run.
        run_id: Arc<str>,
        /// How many.
        splits: usize,
    },
    /// One more split is done or failed.
    SplitRead {
        /// How many are.
        done: usize,
        /// How long it was read, up to its last row or its error.
        took: Duration,
    },
    /// An epoch is stored.
    Committed {
        /// The run's stored rows.
        rows: Counts,
        /// The chunks of what dedupe holds that it changed.
        chunks: Vec<ChunkKey>,
    },
    /// The run is over.
    Ended,
}

/// Who is told of events.
pub type Observer = Arc<dyn Fn(&RunEvent) + Send + Sync>;

/// One run that is asked for.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The instant that fires it.
    pub tick: DateTime<Utc>,
    /// It was fired by the trigger.
    pub scheduled: bool,
    /// What part of the past is asked for.
    pub window: Option<Window>,
    /// What is missing and asked for, and nothing else.
    pub missing: Option<Missing>,
    /// It may take so long, and no longer than the settings say.
    pub within: Option<Duration>,
}

impl RunRequest {
    /// A run that the trigger fires.
    pub fn scheduled(tick: DateTime<Utc>) -> Self {
        Self { tick, scheduled: true, window: None, missing: None, within: None }
    }

    pub(super) fn cause(&self) -> &'static str {
        match (self.scheduled, self.window, &self.missing) {
            (.., Some(_)) => FILL,
            (true, ..) => SCHEDULE,
            (false, Some(_), _) => "backfill",
            (false, None, _) => "once",
        }
    }
}

/// The cause of a run that its trigger fired.
pub(super) const SCHEDULE: &str = "schedule";
/// The cause of a run that asks for what is missing.
pub(super) const FILL: &str = "fill";
