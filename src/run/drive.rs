//! One run from its splits to its last commit.
//!
//! Up to `concurrency` splits are read at once, each in a task of its own with a bounded channel; their rows are passed on in split order,
//! whatever finishes first, so that the same input makes the same bytes.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipeline_contract::{Act, Category, Position, RunContext, StageError};

use super::epoch::{CommitError, Committed, EpochWriter, Passed};
use super::worker::{Chunk, Message, Route, Worker};
use super::{Observer, RunEvent, Settings, broken_by_rows, broken_by_share};
use crate::stages::validate::OnReject;
use crate::state::{Counts, ErrorRecord, RunRecord, RunStatus, SplitRecord, SplitStatus};

/// Why a run goes no further.
enum Stop {
    /// It was told to: what is passed on is committed, the rest stays to be done.
    Cancelled,
    /// Its deadline passed: what is not done has failed.
    Deadline,
    /// Nothing else can succeed either.
    Fatal(StageError),
    /// Too many rejects: the open epoch is dropped.
    Abort(StageError),
}

pub(crate) struct Drive<'a> {
    pub(crate) run: &'a RunContext,
    pub(crate) route: &'a Route,
    pub(crate) settings: &'a Settings,
    pub(crate) writer: &'a mut EpochWriter,
    pub(crate) record: &'a mut RunRecord,
    pub(crate) observer: &'a Observer,
}

impl Drive<'_> {
    /// Reads and stores every pending split of the record. The record tells how it went.
    pub(crate) async fn run(mut self) {
        let pending: VecDeque<usize> =
            self.record.splits.iter().enumerate().filter(|(_, split)| split.status == SplitStatus::Pending).map(|(index, _)| index).collect();
        let mut stop = self.read_all(pending).await.err();
        if let Some(Stop::Abort(error)) = &stop {
            self.writer.abort().await;
            tracing::error!(%error, "the run is aborted; the open epoch is dropped");
        } else if let Err(error) = self.commit().await {
            stop = Some(match stop {
                None | Some(Stop::Cancelled | Stop::Deadline) => error,
                Some(first) => first,
            });
        }
        self.conclude(stop);
    }

    async fn read_all(&mut self, mut pending: VecDeque<usize>) -> Result<(), Stop> {
        let mut workers: VecDeque<Worker> = VecDeque::new();
        loop {
            while workers.len() < self.settings.concurrency
                && let Some(index) = pending.pop_front()
            {
                let Some(split) = self.record.splits.get(index) else { continue };
                workers.push_back(Worker::start(index, split.split.clone(), split.position.clone(), self.route.clone(), self.run.clone()));
            }
            let Some(mut worker) = workers.pop_front() else { return Ok(()) };
            let outcome = self.store_split(&mut worker).await;
            if let Some(split) = self.record.splits.get_mut(worker.index) {
                split.attempts = worker.attempts.load(Ordering::SeqCst).max(1);
            }
            match outcome {
                Ok(()) => (self.observer)(&RunEvent::SplitRead { done: self.record.splits.len() - pending.len() - workers.len() }),
                Err(SplitEnd::Failed(error)) => {
                    let fatal = error.act == Act::Operator;
                    self.fail(worker.index, &error);
                    if fatal {
                        return Err(Stop::Fatal(error));
                    }
                }
                Err(SplitEnd::Stop(stop)) => return Err(stop),
            }
            if self.writer.rows() >= self.settings.epoch_rows || self.epoch_is_old() {
                self.commit().await?;
            }
        }
    }

    /// Takes one split's rows as they come, and passes them on when it is done or a prefix is full.
    async fn store_split(&mut self, worker: &mut Worker) -> Result<(), SplitEnd> {
        let mut held: Vec<Chunk> = Vec::new();
        let mut rows = 0;
        loop {
            let message = tokio::select! {
                biased;
                () = self.run.cancel.cancelled() => return Err(SplitEnd::Stop(Stop::Cancelled)),
                message = worker.messages.recv() => message,
                () = self.run.ports.clock.sleep(self.run.time_left()), if self.run.deadline.is_some() => return Err(SplitEnd::Stop(Stop::Deadline)),
                // Rows that wait for nothing but a slow neighbour are made durable.
                () = self.run.ports.clock.sleep(self.until_epoch_is_old()), if !self.writer.is_empty() && self.writer.preview.is_none() => {
                    self.commit().await.map_err(SplitEnd::Stop)?;
                    continue;
                }
            };
            match message {
                Some(Message::Chunk(chunk)) => {
                    if self.settings.on_reject == OnReject::Fail
                        && let Some(first) = chunk.rejects.first()
                    {
                        let text = format!("a row broke the rule {}: {} (on_reject = \"fail\")", first.reject.rule, first.reject.message);
                        return Err(SplitEnd::Failed(
                            StageError::split(Category::Validation, text)
                                .help("the row is in the log at level debug; mend the rule or set on_reject"),
                        ));
                    }
                    let can_stop_here = chunk.position.is_some();
                    rows += chunk.read;
                    held.push(chunk);
                    if can_stop_here && rows >= self.settings.epoch_rows && self.writer.preview.is_none() {
                        self.pass(worker.index, std::mem::take(&mut held), false).await?;
                        rows = 0;
                        self.commit().await.map_err(SplitEnd::Stop)?;
                    }
                }
                Some(Message::Restart) => {
                    held.clear();
                    rows = 0;
                }
                Some(Message::Done) => return self.pass(worker.index, held, true).await,
                Some(Message::Failed(error)) => return Err(SplitEnd::Failed(error)),
                None => return Err(SplitEnd::Failed(StageError::developer("the task that read the split ended without a word (it panicked)"))),
            }
        }
    }

    async fn pass(&mut self, split: usize, chunks: Vec<Chunk>, complete: bool) -> Result<(), SplitEnd> {
        let item = Passed { split, chunks, complete, replays: Vec::new() };
        let Err(lost) = self.writer.pass(item).await else { return self.check_limits() };
        let mut own = None;
        for (index, error) in lost {
            if index == split { own = Some(error) } else { self.fail(index, &error) }
        }
        Err(own.map_or_else(|| SplitEnd::Stop(Stop::Fatal(StageError::developer("rows were lost without an error"))), SplitEnd::Failed))
    }

    fn total(&self) -> Counts {
        let mut total = self.record.rows;
        total.add(&self.writer.counts());
        total
    }

    /// Limits given as rows hold at once.
    fn check_limits(&self) -> Result<(), SplitEnd> {
        match self.settings.abort.and_then(|limit| broken_by_rows(limit, &self.total())) {
            Some(text) => Err(SplitEnd::Stop(Stop::Abort(abort_error(&text)))),
            None => Ok(()),
        }
    }

    fn until_epoch_is_old(&self) -> Duration {
        let age = self.writer.opened_at().map_or(Duration::ZERO, |at| self.run.ports.clock.monotonic().saturating_sub(at));
        self.settings.epoch_interval.saturating_sub(age)
    }

    fn epoch_is_old(&self) -> bool {
        !self.writer.is_empty() && self.until_epoch_is_old().is_zero() && self.writer.preview.is_none()
    }

    async fn commit(&mut self) -> Result<(), Stop> {
        // Limits given as a share hold for all that was read so far, at each commit.
        if let Some(text) = self.settings.abort.and_then(|limit| broken_by_share(limit, &self.total())) {
            self.writer.abort().await;
            return Err(Stop::Abort(abort_error(&text)));
        }
        let splits = &self.record.splits;
        let records = |index: usize, rows: &Counts, position: Option<&Position>, done: bool| {
            let mut record = splits.get(index).cloned().unwrap_or_else(|| unknown_split(index));
            stored(&mut record, rows, position, done);
            record
        };
        match self.writer.commit(&self.record.rows, records).await {
            Ok(committed) => {
                self.count(&committed);
                Ok(())
            }
            Err(CommitError::Undelivered(committed, error)) => {
                self.count(&committed);
                Err(Stop::Fatal(error))
            }
            Err(CommitError::Dropped(splits, error)) => {
                let fatal = error.act == Act::Operator || error.category == Category::Storage && error.act != Act::Split;
                splits.iter().for_each(|split| self.fail(*split, &error));
                if fatal { Err(Stop::Fatal(error)) } else { Ok(()) }
            }
            Err(CommitError::Unknown(splits, error)) => {
                splits.iter().for_each(|split| self.fail(*split, &error));
                Err(Stop::Fatal(error))
            }
        }
    }

    fn count(&mut self, committed: &Committed) {
        for (index, rows, position, done) in &committed.splits {
            self.record.rows.add(rows);
            if let Some(split) = self.record.splits.get_mut(*index) {
                stored(split, rows, position.as_ref(), *done);
            }
        }
        if !committed.splits.is_empty() {
            (self.observer)(&RunEvent::Committed { rows: self.record.rows });
        }
    }

    fn fail(&mut self, index: usize, error: &StageError) {
        if let Some(split) = self.record.splits.get_mut(index) {
            tracing::error!(split = %split.split.id, category = %error.category, reason = %error, help = error.help.as_deref(), "split failed");
            split.status = SplitStatus::Failed;
            split.error = Some(error_record(error));
        }
    }

    /// Gives the record its final status.
    fn conclude(&mut self, stop: Option<Stop>) {
        // Even when every split is stored: a sink may not have made the last epoch visible.
        let fatal = matches!(stop, Some(Stop::Fatal(_)));
        let (status, error) = match stop {
            None => (None, None),
            Some(Stop::Cancelled) => (Some(RunStatus::Interrupted), None),
            Some(Stop::Deadline) => (
                None,
                Some(
                    StageError::transient(Category::Network, "the run's deadline passed before this split was done")
                        .help("raise [run] deadline, or ask less in one run"),
                ),
            ),
            Some(Stop::Fatal(error)) => (None, Some(error)),
            Some(Stop::Abort(error)) => (Some(RunStatus::Failed), Some(error)),
        };
        if let Some(error) = &error {
            for split in self.record.splits.iter_mut().filter(|split| split.status == SplitStatus::Pending) {
                split.status = SplitStatus::Failed;
                split.error = Some(error_record(error));
            }
        }
        let of = |status| self.record.splits.iter().filter(|split| split.status == status).count();
        let (ok, failed) = (of(SplitStatus::Ok), of(SplitStatus::Failed));
        self.record.status = match status {
            Some(RunStatus::Interrupted) if ok + failed == self.record.splits.len() => by_splits(ok, failed),
            Some(status) => status,
            None if fatal && failed == 0 => RunStatus::Partial,
            None => by_splits(ok, failed),
        };
        if self.record.status == RunStatus::Failed || fatal && failed == 0 {
            let first = self.record.splits.iter().find_map(|split| split.error.clone());
            self.record.error = error.as_ref().map(error_record).or(first);
        }
    }
}

enum SplitEnd {
    Failed(StageError),
    Stop(Stop),
}

fn by_splits(ok: usize, failed: usize) -> RunStatus {
    match (ok, failed) {
        (_, 0) => RunStatus::Ok,
        (0, _) => RunStatus::Failed,
        _ => RunStatus::Partial,
    }
}

fn stored(record: &mut SplitRecord, rows: &Counts, position: Option<&Position>, done: bool) {
    record.rows.add(rows);
    record.position = position.cloned();
    if done {
        record.status = SplitStatus::Ok;
        record.position = None;
    }
}

fn unknown_split(index: usize) -> SplitRecord {
    let split = pipeline_contract::Split::new(format!("#{index}"));
    SplitRecord { split, status: SplitStatus::Pending, rows: Counts::default(), attempts: 0, position: None, error: None }
}

fn abort_error(text: &str) -> StageError {
    StageError::operator(Category::Validation, format!("too many rejects: {text}"))
        .help("nothing of the open epoch was stored; look at what the source sends, then mend the rules or raise [validate.limits] abort")
}

/// An error as summaries show it.
pub(crate) fn error_record(error: &StageError) -> ErrorRecord {
    ErrorRecord { category: error.category, message: error.message.clone(), help: error.help.clone() }
}
