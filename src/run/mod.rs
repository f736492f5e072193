//! Runs: ticks, splits, epochs, shutdown.
//!
//! - [`Engine`] runs one pipeline: one run at a time, or by its trigger until stopped.
//! - `drive` takes one run from its splits to its last commit; `worker` reads one split; `epoch` commits.
//! - `parts` is what an engine is made of, asked and tells; `fill` copies to a sink what another holds; `replay` takes rejects through the pipeline again.
//! - `gaps` asks the source for what is missing.
//! - `schedule` decides which ticks run.
//! - `budget` and `ports` are the engine's side of the contract's ports.

mod advice;
pub mod alike;
mod budget;
mod drive;
mod epoch;
mod fill;
mod gaps;
mod kept;
mod parts;
mod ports;
mod quarantine;
mod rejects;
mod replay;
mod schedule;
#[cfg(test)]
mod tests;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use pipeline_contract::{Category, Filling, Ports, Refusal, RunContext, SinkContext, Split, StageError, Trigger, Window, rfc3339};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use advice::advice;
pub use budget::{CreditStore, SharedBudget};
pub use epoch::{OpenSink, Preview};
pub use fill::Fill;
pub use gaps::{FindMissing, Missing, reason, refusals};
pub use parts::{CatchUp, Observer, Overrun, Parts, RunEvent, RunRequest, Settings, SinkPart};
pub use ports::{RealClock, RealRandom};
pub use quarantine::{QUARANTINE, QuarantineFile, StoredReject, adopt_quarantine};
pub use replay::ReplayReport;
pub use schedule::Stop;

use crate::stages::dedupe::Deduper;
use crate::stages::validate::{Limit, OnReject};
use crate::state::{Counts, RunRecord, RunStatus, SplitRecord, SplitStatus, Store};
use advice::advised;
use drive::Drive;
use epoch::{EpochWriter, StoredRecords};
use parts::{FILL, SCHEDULE};
use quarantine::Quarantine;
use worker::Route;

/// Where rejects broke a limit on their number.
fn broken_by_rows(limit: Limit, counts: &Counts) -> Option<String> {
    match limit {
        Limit::Rows(limit) if counts.rejected > limit => Some(format!("{} of {} rows, more than {limit}", counts.rejected, counts.read)),
        _ => None,
    }
}

/// Where rejects broke a limit on their share of the rows read.
fn broken_by_share(limit: Limit, counts: &Counts) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "a share of rows needs no more than 53 bits")]
    let share = counts.rejected as f64 / counts.read.max(1) as f64;
    match limit {
        Limit::Share(limit) if share > limit => {
            Some(format!("{} of {} rows, {:.1} %, more than {} %", counts.rejected, counts.read, share * 100.0, limit * 100.0))
        }
        _ => None,
    }
}

/// Why a run was not begun.
enum NotBegun {
    /// It was told to stop.
    Cancelled,
    /// Nothing of what is missing can be had.
    Refused(StageError),
    /// Its splits are not known.
    Failed(StageError),
}

/// One pipeline, ready to run.
pub struct Engine {
    name: Arc<str>,
    settings: Settings,
    trigger: Arc<dyn Trigger>,
    route: Route,
    writer: EpochWriter,
    store: Arc<dyn Store>,
    ports: Ports,
    /// Where they are others: the world of the source alone.
    asks_through: Option<Ports>,
    observer: Observer,
    stage_inputs: Vec<pipeline_contract::arrow::SchemaRef>,
    dry: bool,
    recovered: bool,
    find_missing: Option<FindMissing>,
    /// What could not be filled in the last run that asked for what is missing.
    refused: Vec<Refusal>,
    /// Runs of this process that are over and still open in the state: until what they left is taken back, or their end can be recorded.
    unended: Vec<RunRecord>,
}

impl Engine {
    /// An engine over stages, a store and the world outside. `state_dir` is the pipeline's own folder under the state directory.
    ///
    /// # Errors
    /// `storage` when the dedupe state cannot be read.
    pub fn new(parts: Parts, store: Arc<dyn Store>, ports: Ports, state_dir: PathBuf, observer: Observer) -> Result<Self, StageError> {
        Self::build(parts, store, ports, state_dir, observer, false)
    }

    /// An engine that stores nothing and keeps what it would store; see [`Engine::preview`].
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn dry(parts: Parts, store: Arc<dyn Store>, ports: Ports, state_dir: PathBuf, observer: Observer) -> Result<Self, StageError> {
        Self::build(parts, store, ports, state_dir, observer, true)
    }

    fn build(parts: Parts, store: Arc<dyn Store>, ports: Ports, state_dir: PathBuf, observer: Observer, dry: bool) -> Result<Self, StageError> {
        let Parts { name, mut settings, trigger, source, transforms, validator, dedupe, sinks, quarantine, stage_inputs, find_missing } = parts;
        let deduper = dedupe.clone().map(|plan| Deduper::new(plan, Arc::clone(&store))).transpose()?;
        let context = |id: &str| sink_context(&name, id, &ports, &store, &state_dir);
        let (open, quarantine) = if dry {
            (settings.epoch_rows, settings.most_epoch_rows) = (u64::MAX, u64::MAX);
            (Vec::new(), None)
        } else {
            let open = sinks.into_iter().map(|part| OpenSink { cx: context(&part.id), id: part.id, sink: part.sink }).collect();
            (open, quarantine.map(|path| Quarantine::new(path, context(QUARANTINE), Arc::clone(&store), settings.keep_rejects)))
        };
        let preview = dry.then(Preview::default);
        let fail_on_reject = settings.on_reject == OnReject::Fail;
        let writer = EpochWriter::new(Arc::clone(&store), Arc::clone(&ports.clock), deduper, open, quarantine, preview, fail_on_reject);
        let keeps_rejects = writer.outlets.quarantine.is_some() && writer.preview.is_none();
        let route = Route { source, transforms, validator, dedupe, keeps_rejects };
        Ok(Self {
            name,
            settings,
            trigger,
            route,
            writer,
            store,
            ports,
            asks_through: None,
            observer,
            stage_inputs,
            dry,
            recovered: false,
            find_missing,
            refused: Vec::new(),
            unended: Vec::new(),
        })
    }

    /// What a dry run would have stored.
    pub fn preview(&self) -> Preview {
        self.writer.preview.clone().unwrap_or_default()
    }

    /// From now on runs ask through these ports, to be recorded or counted. Sinks and the records of runs stay with the engine's own.
    pub fn ask_through(&mut self, ports: Ports) {
        self.asks_through = Some(ports);
    }

    /// A request for a run now.
    pub fn now(&self, window: Option<Window>) -> RunRequest {
        RunRequest { tick: self.ports.clock.now().trunc_subsecs(3), scheduled: false, window, missing: None, within: None }
    }

    /// Goes on with the run that the last process left open, if it had stored something or was asked for a window; else closes it, since
    /// the next run does all of its work, and what is missing is found again. When `scheduled`, a closed run whose tick is still the latest is begun again.
    ///
    /// # Errors
    /// `storage` when the state cannot be read or written.
    pub async fn resume(&mut self, cancel: &CancellationToken, scheduled: bool) -> Result<Option<RunRecord>, StageError> {
        let Some(open) = self.store.open_run()? else { return Ok(None) };
        let run_id = open.run_id.clone();
        self.recover(true).await?;
        let resumed = self.go_on(open, cancel, scheduled).await?;
        // Older ones were over, and only their end was not recorded.
        while let Some(older) = self.store.open_run()?.filter(|older| older.run_id != run_id) {
            self.close(older)?;
        }
        Ok(resumed)
    }

    async fn go_on(&mut self, mut open: RunRecord, cancel: &CancellationToken, scheduled: bool) -> Result<Option<RunRecord>, StageError> {
        let begun = open.splits.iter().any(|split| split.status == SplitStatus::Ok || split.position.is_some());
        if begun || open.window.is_some() {
            tracing::info!(run_id = %open.run_id, "going on with the run that was interrupted");
            let window = open.window.map(|(from, to)| Window { from, to });
            let span = tracing::info_span!("run", pipeline = %self.name, run_id = %open.run_id);
            // What is missing must not keep a schedule waiting for longer than a run may.
            let within = (scheduled && open.cause == FILL).then_some(self.settings.deadline);
            let context = self.context(&open, window, within, cancel);
            self.drive(&context, &mut open).instrument(span).await;
            return Ok(Some(open));
        }
        if scheduled && open.cause == SCHEDULE && self.latest_due(&open)? {
            // Its tick is not lost: the same run begins again.
            let request = RunRequest::scheduled(open.tick);
            return Ok(Some(self.run(&request, cancel).await));
        }
        self.close(open)?;
        Ok(None)
    }

    /// Takes back what a run left half done, and closes it without going on.
    ///
    /// # Errors
    /// `storage` when something cannot be taken back.
    pub async fn close_open_run(&mut self) -> Result<(), StageError> {
        self.recover(true).await?;
        let Some(open) = self.store.open_run()? else { return Ok(()) };
        self.close(open)
    }

    fn close(&self, mut open: RunRecord) -> Result<(), StageError> {
        open.status = RunStatus::Interrupted;
        open.ended_at = Some(self.ports.clock.now());
        self.store.end_run(&open)
    }

    /// Runs once. How it went is in the record, errors too.
    pub async fn run(&mut self, request: &RunRequest, cancel: &CancellationToken) -> RunRecord {
        // It may begin at the very instant of another run.
        let suffix = if request.missing.is_some() { "-fill" } else { "" };
        let run_id = format!("{}@{}{suffix}", self.name, rfc3339(request.tick));
        self.refused.clear();
        let mut record = RunRecord {
            run_id: run_id.clone(),
            tick: request.tick,
            cause: request.cause().to_owned(),
            window: request.window.map(|window| (window.from, window.to)),
            started_at: self.ports.clock.now(),
            ended_at: None,
            status: RunStatus::Open,
            rows: Counts::default(),
            error: None,
            splits: Vec::new(),
        };
        let span = tracing::info_span!("run", pipeline = %self.name, run_id = %run_id);
        let context = self.context(&record, request.window, request.within, cancel);
        async {
            tracing::info!(tick = %rfc3339(request.tick), cause = %record.cause, "run started");
            match self.begin(&context, request, &mut record).await {
                Ok(()) => self.drive(&context, &mut record).await,
                Err(NotBegun::Cancelled) => {
                    record.status = RunStatus::Interrupted;
                    self.finish(&mut record, false);
                }
                Err(NotBegun::Refused(error)) => {
                    // Not remembered: there was no run.
                    record.status = RunStatus::Partial;
                    record.error = Some(drive::error_record(&advised(&error, &self.settings.file)));
                    self.finish(&mut record, false);
                }
                Err(NotBegun::Failed(error)) => {
                    let error = advised(&error, &self.settings.file);
                    tracing::error!(category = %error.category, reason = %error, help = error.help.as_deref(), "the run failed before its first split");
                    record.status = RunStatus::Failed;
                    record.error = Some(drive::error_record(&error));
                    for split in &mut record.splits {
                        split.status = SplitStatus::Failed;
                        split.error.clone_from(&record.error);
                    }
                    // Open until it is ended: else nobody would end its tick if the process died in between.
                    let open = RunRecord { status: RunStatus::Open, ..record.clone() };
                    let saved = self.dry
                        || self.store.start_run(&open, request.scheduled).map_err(|e| tracing::error!(error = %e, "the run could not be recorded")).is_ok();
                    self.finish(&mut record, saved);
                }
            }
        }
        .instrument(span)
        .await;
        record
    }

    /// Finds the splits and opens the run.
    async fn begin(&mut self, context: &RunContext, request: &RunRequest, record: &mut RunRecord) -> Result<(), NotBegun> {
        let failed = NotBegun::Failed;
        self.recover(false).await.map_err(failed)?;
        let Route { source, transforms, .. } = &self.route;
        let asked = async {
            match &request.missing {
                Some(missing) => gaps::filling(source.as_ref(), transforms, missing, context).await,
                None => source.splits(context).await.map(|splits| Filling { splits, refused: Vec::new() }),
            }
        };
        let Filling { splits, refused } = tokio::select! {
            biased;
            () = context.cancel.cancelled() => return Err(NotBegun::Cancelled),
            asked = asked => asked.map_err(failed)?,
            () = context.ports.clock.sleep(context.time_left()) => {
                return Err(failed(StageError::transient(Category::Network, "the run's deadline passed before its splits were known")));
            }
        };
        if let Some(missing) = &request.missing {
            self.note_refused(missing, refused).map_err(failed)?;
            if splits.is_empty() {
                return Err(NotBegun::Refused(gaps::nothing_to_ask(missing, &self.refused)));
            }
        }
        let mut names = std::collections::HashSet::new();
        if let Some(twice) = splits.iter().find(|split| !names.insert(split.id.as_str())) {
            return Err(failed(StageError::developer(format!("the source named the split {} twice", twice.id))));
        }
        if splits.is_empty() {
            tracing::warn!("the source has no splits for this run: nothing to do");
        }
        record.splits = splits.into_iter().map(pending).collect();
        if !self.dry {
            self.store.start_run(record, request.scheduled).map_err(failed)?;
        }
        Ok(())
    }

    async fn drive(&mut self, context: &RunContext, record: &mut RunRecord) {
        self.writer.run_id.clone_from(&record.run_id);
        self.writer.split_names = record.splits.iter().map(|split| split.split.id.clone()).collect();
        (self.observer)(&RunEvent::Started { run_id: Arc::clone(&context.run_id), splits: record.splits.len() });
        let drive = Drive { run: context, route: &self.route, settings: &self.settings, writer: &mut self.writer, record, observer: &self.observer };
        drive.run().await;
        self.finish(record, true);
    }

    /// Ends a run: its record is saved (unless it is to go on later) and its one line is logged.
    fn finish(&mut self, record: &mut RunRecord, saved: bool) {
        let now = self.ports.clock.now();
        record.ended_at = Some(now);
        self.writer.rest();
        // What was interrupted stays open in the state: the next process goes on with it, and takes back what could not be taken back now.
        let ended = saved && !self.dry && record.status != RunStatus::Interrupted;
        // A run without splits has written nothing.
        if ended && self.writer.unclean() && !record.splits.is_empty() {
            self.unended.push(record.clone());
        } else if ended {
            if let Err(error) = self.store.end_run(record) {
                tracing::error!(%error, "the end of the run could not be recorded now; the next run does it first");
                record.error.get_or_insert_with(|| drive::error_record(&advised(&error, &self.settings.file)));
                record.status = if record.status == RunStatus::Ok { RunStatus::Partial } else { record.status };
                self.unended.push(record.clone());
            } else if let Err(error) = self.store.prune(self.settings.keep_runs, self.forget_before(now)) {
                tracing::warn!(%error, "old runs could not be forgotten");
            }
        }
        if let Some(text) = self.settings.warn.and_then(|limit| broken_by_rows(limit, &record.rows).or_else(|| broken_by_share(limit, &record.rows)))
        {
            tracing::warn!("many rejects: {text}");
        }
        (self.observer)(&RunEvent::Ended);
        let failed: Vec<String> = alike::alike(&record.splits)
            .filter_map(|group| group.first()?.error.as_ref().map(|e| format!("{}: {}: {}", alike::named(group), e.category, e.message)))
            .collect();
        let of = |status| record.splits.iter().filter(|split| split.status == status).count();
        tracing::info!(
            status = status_name(record.status),
            started_at = %rfc3339(record.started_at),
            ended_at = %rfc3339(now),
            duration_ms = (now - record.started_at).num_milliseconds(),
            read = record.rows.read,
            written = record.rows.written,
            duplicates = record.rows.duplicates,
            conflicts = record.rows.conflicts,
            rejected = record.rows.rejected,
            filtered = record.rows.filtered,
            splits = record.splits.len(),
            splits_ok = of(SplitStatus::Ok),
            splits_failed = of(SplitStatus::Failed),
            errors = failed.join("; "),
            error = record.error.as_ref().map(|e| e.message.as_str()),
            "run finished"
        );
    }

    /// Runs that ended before this are forgotten.
    fn forget_before(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        now.checked_sub_signed(chrono::Duration::from_std(self.settings.keep_for?).ok()?)
    }

    /// Once a process what its predecessor left, and at each run what the last commit left.
    async fn recover(&mut self, run_was_open: bool) -> Result<(), StageError> {
        let run_was_open = run_was_open || self.writer.unclean() || (!self.recovered && self.store.open_run()?.is_some());
        self.writer.recover(run_was_open).await?;
        self.recovered = true;
        while let Some(record) = self.unended.first() {
            if record.status != RunStatus::Interrupted {
                self.store.end_run(record)?;
            }
            self.unended.remove(0);
        }
        Ok(())
    }

    fn context(&self, record: &RunRecord, window: Option<Window>, within: Option<Duration>, cancel: &CancellationToken) -> RunContext {
        let deadline = match (window, record.cause.as_str()) {
            (Some(_), _) | (None, FILL) => self.settings.window_deadline,
            (None, SCHEDULE) => self.settings.deadline,
            (None, _) => self.settings.once_deadline,
        };
        let deadline = within.map_or(deadline, |within| within.min(deadline));
        RunContext {
            pipeline: Arc::clone(&self.name),
            run_id: Arc::from(record.run_id.as_str()),
            tick: record.tick,
            window,
            deadline: Some(self.ports.clock.monotonic().saturating_add(deadline)),
            cancel: cancel.clone(),
            ports: self.asks_through.as_ref().unwrap_or(&self.ports).clone(),
        }
    }
}

/// What a sink of a pipeline is given: the same for runs, for `read` and for `state rebuild`.
pub fn sink_context(pipeline: &str, sink: &str, ports: &Ports, store: &Arc<dyn Store>, state_dir: &std::path::Path) -> SinkContext {
    SinkContext {
        ports: ports.clone(),
        records: Arc::new(StoredRecords { store: Arc::clone(store), sink: sink.to_owned() }),
        id: format!("{pipeline}/{sink}"),
        keep_dir: state_dir.join("cut").join(sink),
    }
}

/// The name of a status in summaries.
pub fn status_name(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Open => "open",
        RunStatus::Ok => "ok",
        RunStatus::Partial => "partial",
        RunStatus::Failed => "failed",
        RunStatus::Interrupted => "interrupted",
    }
}

fn pending(split: Split) -> SplitRecord {
    SplitRecord { split, status: SplitStatus::Pending, rows: Counts::default(), attempts: 0, position: None, error: None }
}
