//! The tables of a pipeline file that the engine reads itself.

use std::ops::Range;
use std::time::Duration;

use pipeline_contract::{ConfigTable, HumanDuration, PlanError, Spanned, parse_partial};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::stages::dedupe::OnConflict;

use super::values::ByteSize;

/// `[run]`: how a run works.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// How many splits are open at once. Some that were read may wait beside them until those before them are stored.
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: usize,
    /// Commit after so many rows ... If not given after 300000, or fewer that take 32 MB; where dedupe has keys without a time up to 1000000, so that
    /// their table is written in fewer, larger parts.
    #[schemars(range(min = 1))]
    pub epoch_rows: Option<Spanned<u64>>,
    /// ... or after so long, whichever comes first. Sooner where 64 splits have brought files of their own, the next one is not read yet, and no limit
    /// may end the run.
    pub epoch_interval: HumanDuration,
    /// A run ends after so long. If not given it follows from the trigger.
    pub deadline: Option<Spanned<HumanDuration>>,
    /// How many runs the state remembers ...
    #[schemars(range(min = 1))]
    pub keep_runs: u64,
    /// ... and for how long, whichever is less. If not given, only their number counts.
    pub keep_for: Option<Spanned<HumanDuration>>,
    /// After a run that the trigger fired, what is missing from what is stored is asked for in a run of its own, where the source can. A gap that stays
    /// is asked for again after 1 hour, 6 hours, a day, and then once a week.
    pub fill_gaps: Option<Spanned<bool>>,
}

/// Shorter than this nobody could look back over a night.
pub(super) const SHORTEST_MEMORY: Duration = Duration::from_secs(24 * 3600);

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            concurrency: 4,
            epoch_rows: None,
            epoch_interval: HumanDuration(Duration::from_secs(10)),
            deadline: None,
            keep_runs: 10_000,
            keep_for: None,
            fill_gaps: None,
        }
    }
}

impl RunConfig {
    /// Commit after so many rows, and after how many at the latest where each is a key of its own.
    pub fn epoch_rows(&self) -> (u64, u64) {
        self.epoch_rows.as_deref().map_or((300_000, 1_000_000), |rows| (*rows, *rows))
    }

    pub(super) fn parse(table: &ConfigTable<'_>) -> (Option<Self>, Vec<PlanError>) {
        let (run, mut faults) = parse_partial::<Self>("[run]", table);
        if let Some(deadline) = run.as_ref().and_then(|run| run.deadline.as_ref()).filter(|deadline| deadline.0.is_zero()) {
            faults.push(deadline.error("E012", "`deadline`: expected more than no time").help("leave it out for the default"));
        }
        if let Some(keep_for) = run.as_ref().and_then(|run| run.keep_for.as_ref()).filter(|keep_for| keep_for.0 < SHORTEST_MEMORY) {
            let fault = keep_for.error("E012", "`keep_for`: expected a day or more: `status` and notifications look at the last runs");
            faults.push(fault.suggest(keep_for.span(), "\"1 day\""));
        }
        (run, faults)
    }
}

/// What to do about ticks that were missed while nothing ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// Nothing.
    None,
    /// Run the latest of them.
    #[default]
    Latest,
    /// Run them all, the oldest first.
    All,
}

/// What to do about a tick that comes while the run before it still works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overrun {
    /// Leave it out.
    #[default]
    Skip,
    /// Run it as soon as that run is done.
    Wait,
}

/// The keys of `[trigger]` that the engine reads, whatever the type of the trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TriggerPolicy {
    /// What to do about ticks that were missed while nothing ran.
    pub catch_up: Option<Spanned<CatchUp>>,
    /// What to do about a tick that comes while the run before it still works.
    pub overrun: Overrun,
}

impl TriggerPolicy {
    /// What to do about ticks that were missed while nothing ran.
    pub fn catch_up(&self) -> CatchUp {
        self.catch_up.as_deref().copied().unwrap_or_default()
    }

    /// The names of its keys.
    pub const KEYS: [&'static str; 2] = ["catch_up", "overrun"];
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Which log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// ... and what is odd.
    Warn,
    /// ... and what was done.
    #[default]
    Info,
    /// ... and how.
    Debug,
    /// ... and every step of it.
    Trace,
}

/// `[log]`: what is written down about runs.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// The file to write to, besides stderr.
    #[schemars(length(min = 1))]
    pub file: Option<Spanned<String>>,
    /// For people or for programs.
    pub format: LogFormat,
    /// How much is written.
    pub level: LogLevel,
    /// A file that grows beyond this is put aside and a new one begun.
    pub max_size: ByteSize,
    /// How many files are kept that were put aside.
    pub keep: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { file: None, format: LogFormat::Text, level: LogLevel::Info, max_size: ByteSize(10_000_000), keep: 5 }
    }
}

/// `[dedupe]`: which rows are the same row.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DedupeDef {
    /// The columns that tell rows apart.
    #[schemars(length(min = 1))]
    pub keys: Vec<Spanned<String>>,
    /// What to do about a row whose key is stored already, with other values.
    pub on_conflict: Option<Spanned<OnConflict>>,
    /// Where the table stands.
    #[serde(skip)]
    pub span: Range<usize>,
}

impl DedupeDef {
    /// What to do about a row whose key is stored already, with other values.
    pub fn on_conflict(&self) -> OnConflict {
        self.on_conflict.as_deref().copied().unwrap_or_default()
    }

    pub(super) fn parse(table: &ConfigTable<'_>) -> (Option<Self>, Vec<PlanError>) {
        let (mut dedupe, mut faults) = parse_partial::<Self>("[dedupe]", table);
        if let Some(dedupe) = &mut dedupe {
            dedupe.span = table.span();
            let twice = dedupe.keys.iter().enumerate().filter(|(n, key)| dedupe.keys[..*n].contains(key));
            faults.extend(twice.map(|(_, key)| key.error("E012", format!("`keys` names `{}` twice", **key))));
        }
        (dedupe, faults)
    }
}
