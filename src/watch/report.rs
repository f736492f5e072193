//! What is known of one pipeline, and the verdict.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{Gap, HumanDuration, StageError, Trigger, rfc3339};
use serde::Serialize;

use super::{Accepted, Found};

use crate::run::status_name;
use crate::state::{Counts, ErrorRecord, RunRecord, RunStatus, Store};

/// So many failed runs in a row make a pipeline unhealthy.
const FAILURES: u32 = 3;
/// So many of the newest runs are looked at.
const RUNS: usize = 100;

/// What a pipeline should look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The stored column that says of what time a row is.
    pub time: Option<String>,
    /// The columns that tell series apart.
    pub series: Vec<String>,
    /// How far apart the rows of one series are.
    pub step: Option<Duration>,
    /// Newest data that are older than this are stale.
    pub max_age: Option<Duration>,
    /// Gaps before this do not count.
    pub since: Option<DateTime<Utc>>,
    /// Holes that are known.
    pub accept: Vec<Accepted>,
    /// Where what is stored is looked up.
    pub held: Held,
}

/// Where it is looked up what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// Nowhere: no column says of what time rows are.
    #[default]
    Unknown,
    /// In what dedupe holds: keys are these series and this time.
    Keys,
    /// In the rows themselves, which are read back: slower.
    Rows,
}

/// What the verdict is made from.
pub struct Subject<'a> {
    /// The pipeline's name.
    pub name: &'a str,
    /// Its memory.
    pub store: &'a dyn Store,
    /// When it runs.
    pub trigger: &'a dyn Trigger,
    /// What it should look like.
    pub expected: &'a Expected,
    /// The time of its newest stored row, where that is known.
    pub newest: Option<DateTime<Utc>>,
    /// What is missing from what is stored, where that is known.
    pub gaps: Option<&'a [Gap]>,
    /// Why it does not run, or runs by an older version of its file: what `check` says of it.
    pub fault: Option<&'a str>,
    /// It does not run at all because of `fault`.
    pub down: bool,
}

impl<'a> Subject<'a> {
    /// A pipeline that runs by its file as it is, and what was found of what it stored.
    pub fn of(name: &'a str, store: &'a dyn Store, trigger: &'a dyn Trigger, expected: &'a Expected, found: &'a Found) -> Self {
        Self { name, store, trigger, expected, newest: found.newest, gaps: found.gaps.as_deref(), fault: None, down: false }
    }
}

/// How well a pipeline is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is as it should be.
    #[default]
    Healthy,
    /// Somebody should look, and nothing is lost by doing so tomorrow.
    Degraded,
    /// Data are not coming.
    Unhealthy,
}

impl Health {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What kind: `stale`, `failed`, `partial`, `gaps`, `config`, `state`.
    pub code: &'static str,
    /// How grave.
    pub health: Health,
    /// In one line, for people.
    pub message: String,
}

/// The newest run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastRun {
    /// Its id.
    pub run_id: String,
    /// `open`, `ok`, `partial`, `failed` or `interrupted`.
    pub status: &'static str,
    /// What fired it.
    pub cause: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// What became of its rows.
    pub rows: Counts,
    /// Its error, or the first of its splits'.
    pub error: Option<ErrorRecord>,
}

/// The newest stored data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Data {
    /// The column that says so.
    pub time_column: String,
    /// The time of the newest stored row.
    pub newest: DateTime<Utc>,
    /// How old it is, in seconds; below 0 when it lies in the future.
    pub age_seconds: i64,
    /// Beyond this it is stale, in seconds.
    pub max_age_seconds: Option<u64>,
    /// It is.
    pub stale: bool,
}

/// What is missing from what is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gaps {
    /// How many stretches.
    pub count: u64,
    /// How many rows they lack.
    pub missing: u64,
    /// Where the first of them begins.
    pub oldest: Option<DateTime<Utc>>,
    /// How far apart rows should be, in seconds.
    pub step_seconds: f64,
}

/// What is known of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Its name.
    pub pipeline: String,
    /// The verdict: the gravest of `reasons`.
    pub status: Health,
    /// What is not as it should be; empty when it is healthy.
    pub reasons: Vec<Reason>,
    /// The newest run; `None` when it has not run yet.
    pub last_run: Option<LastRun>,
    /// When the last run ended that was good as a whole.
    pub last_success: Option<DateTime<Utc>>,
    /// How many runs failed since the last one that stored anything it should (status `ok` or `partial`).
    pub consecutive_failures: u32,
    /// When it runs next.
    pub next_tick: Option<DateTime<Utc>>,
    /// The newest stored data; `None` when nothing is stored or no column says of what time rows are.
    pub data: Option<Data>,
    /// What is missing; `None` when nobody said how far apart rows should be.
    pub gaps: Option<Gaps>,
}

/// Looks at a pipeline's state and judges.
///
/// # Errors
/// `storage` when the state cannot be read.
pub fn report(subject: &Subject<'_>, now: DateTime<Utc>) -> Result<Report, StageError> {
    let runs = newest_runs(subject.store)?;
    let mut reasons = Vec::new();
    let last = runs.first();
    let failures = failures(&runs);
    reasons.extend(subject.fault.map(|fault| {
        if subject.down {
            return does_not_run(fault);
        }
        let message = format!("its file was changed and has errors, the old version goes on: {}", in_short(fault));
        Reason { code: "config", health: Health::Degraded, message }
    }));
    let ended = runs.iter().find(|run| run.status != RunStatus::Open);
    reasons.extend(ended.and_then(|run| of_run(run, failures)));
    let data = subject.expected.time.clone().zip(subject.newest).map(|(time_column, newest)| {
        let age = now - newest;
        let stale = subject.expected.max_age.is_some_and(|limit| age.to_std().is_ok_and(|age| age > limit));
        let max_age_seconds = subject.expected.max_age.map(|limit| limit.as_secs());
        Data { time_column, newest, age_seconds: age.num_seconds(), max_age_seconds, stale }
    });
    if let (Some(data), Some(limit)) = (data.as_ref().filter(|data| data.stale), subject.expected.max_age) {
        let age = (now - data.newest).to_std().unwrap_or_default();
        let message =
            format!("the newest data are of {}, {} old: more than {}", rfc3339(data.newest), HumanDuration(self::age(age)), HumanDuration(limit));
        reasons.push(Reason { code: "stale", health: Health::Unhealthy, message });
    }
    let gaps = subject.gaps.zip(subject.expected.step).map(|(gaps, step)| Gaps {
        count: gaps.len() as u64,
        missing: gaps.iter().map(|gap| gap.missing).sum(),
        oldest: gaps.iter().map(|gap| gap.from).min(),
        step_seconds: step.as_secs_f64(),
    });
    if let Some(gaps) = gaps.as_ref().filter(|gaps| gaps.count > 0) {
        let message = format!("{} rows are missing in {} gaps", gaps.missing, gaps.count);
        reasons.push(Reason { code: "gaps", health: Health::Degraded, message });
    }
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.health));
    Ok(Report {
        pipeline: subject.name.to_owned(),
        status: reasons.first().map_or(Health::Healthy, |reason| reason.health),
        reasons,
        last_run: last.map(last_run),
        last_success: runs.iter().find(|run| run.status == RunStatus::Ok).and_then(|run| run.ended_at),
        consecutive_failures: failures,
        next_tick: subject.trigger.next(now),
        data,
        gaps,
    })
}

impl Report {
    fn of_reason(pipeline: &str, reason: Reason) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            status: reason.health,
            reasons: vec![reason],
            last_run: None,
            last_success: None,
            consecutive_failures: 0,
            next_tick: None,
            data: None,
            gaps: None,
        }
    }

    /// Of a pipeline that cannot even be begun with: `fault` is what `check` says of its file.
    pub fn down(pipeline: &str, fault: &str) -> Self {
        Self::of_reason(pipeline, does_not_run(fault))
    }

    /// Of a pipeline whose state cannot be read.
    pub fn unreadable(pipeline: &str, error: &StageError) -> Self {
        Self::of_reason(pipeline, Reason { code: "state", health: Health::Unhealthy, message: error.message.clone() })
    }
}

fn does_not_run(fault: &str) -> Reason {
    Reason { code: "config", health: Health::Unhealthy, message: format!("it does not run: {}", in_short(fault)) }
}

/// What happened and where: the first two lines of what `check` says.
fn in_short(fault: &str) -> String {
    fault.lines().take(2).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// How old something is, no finer than people want to know it.
pub fn age(age: Duration) -> Duration {
    let seconds = age.as_secs();
    let unit = match seconds {
        0..120 => 1,
        120..7200 => 60,
        7200..172_800 => 3600,
        _ => 86_400,
    };
    Duration::from_secs(seconds - seconds % unit)
}

/// The newest runs up to the last good one, and perhaps some more: usually one or two of them say everything.
fn newest_runs(store: &dyn Store) -> Result<Vec<RunRecord>, StageError> {
    for some in [2, 10] {
        let runs = store.runs(some)?;
        if runs.len() < some || runs.iter().any(|run| run.status == RunStatus::Ok) {
            return Ok(runs);
        }
    }
    store.runs(RUNS)
}

/// How many of the newest runs failed, one after another.
fn failures(runs: &[RunRecord]) -> u32 {
    let over = runs.iter().filter(|run| !matches!(run.status, RunStatus::Open | RunStatus::Interrupted));
    u32::try_from(over.take_while(|run| run.status == RunStatus::Failed).count()).unwrap_or(u32::MAX)
}

fn error_of(run: &RunRecord) -> Option<&ErrorRecord> {
    run.error.as_ref().or_else(|| run.splits.iter().find_map(|split| split.error.as_ref()))
}

fn of_run(run: &RunRecord, failures: u32) -> Option<Reason> {
    let why = error_of(run).map_or_else(String::new, |error| format!(": {}: {}", error.category, error.message));
    match run.status {
        RunStatus::Failed if failures >= FAILURES => {
            Some(Reason { code: "failed", health: Health::Unhealthy, message: format!("the last {failures} runs failed{why}") })
        }
        RunStatus::Failed => Some(Reason { code: "failed", health: Health::Degraded, message: format!("the last run failed{why}") }),
        RunStatus::Partial => {
            let failed = run.splits.iter().filter(|split| split.error.is_some()).count();
            Some(Reason { code: "partial", health: Health::Degraded, message: format!("{failed} of {} splits failed{why}", run.splits.len()) })
        }
        RunStatus::Open | RunStatus::Ok | RunStatus::Interrupted => None,
    }
}

fn last_run(run: &RunRecord) -> LastRun {
    LastRun {
        run_id: run.run_id.clone(),
        status: status_name(run.status),
        cause: run.cause.clone(),
        started_at: run.started_at,
        ended_at: run.ended_at,
        rows: run.rows,
        error: error_of(run).cloned(),
    }
}
