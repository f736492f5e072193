//! One run from its splits to its last commit.
//!
//! Up to `concurrency` splits are read at once, each in a task of its own with a bounded channel; their rows are passed on in split order,
//! whatever finishes first, so that the same input makes the same bytes.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipeline_contract::{Act, Category, Position, RunContext, StageError};
use pipeline_files::threads;

use super::advice::advised;
use super::epoch::{CommitError, Committed, EpochWriter, Landing, Passed, reject_fails};
use super::worker::{Chunk, Message, Places, Route, Worker};
use super::{Observer, RunEvent, Settings, broken_by_rows, broken_by_share};
use crate::stages::validate::OnReject;
use crate::state::{Counts, ErrorRecord, RunRecord, RunStatus, SplitRecord, SplitStatus};

/// So many splits in a row that fail for a reason that the operator must mend (a wrong key, say): the others would fail as well.
const HOPELESS: u32 = 3;

/// For each split that is read at once, so many others may be read and wait for their turn: while an epoch is committed, or one split takes longer.
const READ_AHEAD: usize = 3;

/// So many chunks are passed on at once, if they are there.
const AT_ONCE: usize = 8;

/// Fewer rows are passed on where the driver is: to hand its thread to other tasks takes longer.
const FEW_ROWS: usize = 1000;

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
            // The one before it was full, and may have been at the disk still.
            if let Err(Stop::Fatal(error)) = self.landed().await {
                tracing::error!(%error, "nor could the epoch before it be stored");
            }
        } else if let Err(error) = self.commit(true).await {
            stop = Some(match stop {
                None | Some(Stop::Cancelled | Stop::Deadline) => error,
                Some(first) => first,
            });
        }
        self.fold().await;
        self.conclude(stop);
    }

    /// Has dedupe put what it logged in its place, where that may be done now.
    async fn fold(&mut self) {
        let chunks = apart(async { self.writer.fold() }).await;
        if !chunks.is_empty() {
            (self.observer)(&RunEvent::Committed { rows: self.record.rows, chunks });
        }
    }

    async fn read_all(&mut self, mut pending: VecDeque<usize>) -> Result<(), Stop> {
        let mut workers: VecDeque<Worker> = VecDeque::new();
        let mut places = Places::new(self.settings.concurrency);
        let mut hopeless = 0;
        loop {
            while workers.len() < self.settings.concurrency.saturating_mul(1 + READ_AHEAD)
                && let Some(index) = pending.pop_front()
            {
                let Some(split) = self.record.splits.get(index) else { continue };
                workers.push_back(Worker::start(
                    index,
                    split.split.clone(),
                    split.position.clone(),
                    self.route.clone(),
                    self.run.clone(),
                    &mut places,
                ));
            }
            let Some(mut worker) = workers.pop_front() else { return Ok(()) };
            worker.is_next();
            if let Some(second) = workers.front_mut() {
                second.is_second();
            }
            let outcome = self.store_split(&mut worker).await;
            if let Some(split) = self.record.splits.get_mut(worker.index) {
                split.attempts = worker.attempts.load(Ordering::SeqCst).max(1);
            }
            // A part of a split does not count without the rest, unless the run goes on later.
            if let Err(SplitEnd::Failed(_) | SplitEnd::Stop(Stop::Deadline | Stop::Fatal(_))) = &outcome {
                let lost = apart(self.writer.take_out(worker.index)).await;
                let landed = self.landed().await;
                lost.iter().for_each(|(index, error)| self.fail(*index, error));
                landed?;
            }
            match outcome {
                Ok(()) => hopeless = 0,
                Err(SplitEnd::Failed(error)) => {
                    self.fail(worker.index, &error);
                    hopeless = if error.act == Act::Operator { hopeless + 1 } else { 0 };
                    if hopeless == HOPELESS {
                        return Err(Stop::Fatal(error));
                    }
                }
                Err(SplitEnd::Stored) => {}
                Err(SplitEnd::Stop(stop)) => return Err(stop),
            }
            let done = self.record.splits.len() - pending.len() - workers.len();
            (self.observer)(&RunEvent::SplitRead { done, took: worker.took.get().copied().unwrap_or_default() });
            let full = self.writer.is_full(self.settings);
            // While the far side is waited for, the disk has nothing else to do. (What aborts a run is not known before its end.)
            let is_idle = || workers.front().is_some_and(Worker::is_waited_for) && self.settings.abort.is_none();
            if full {
                self.commit_beside().await?;
            } else if self.epoch_is_old() || (self.writer.has_many_files() && is_idle()) {
                self.commit(false).await?;
                // Where rows come slowly, those who look for gaps see them as soon as they are stored.
                self.fold().await;
            }
        }
    }

    /// Takes one split's rows, and passes them on as they come where it can be gone on with behind them, or else when it is done.
    async fn store_split(&mut self, worker: &mut Worker) -> Result<(), SplitEnd> {
        let mut held: Vec<Chunk> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        loop {
            let message = tokio::select! {
                biased;
                () = self.run.cancel.cancelled() => return Err(SplitEnd::Stop(Stop::Cancelled)),
                message = worker.messages.recv() => message,
                () = self.run.ports.clock.sleep(self.run.time_left()), if self.run.deadline.is_some() => return Err(SplitEnd::Stop(Stop::Deadline)),
                // Rows that wait for nothing but a slow neighbour are made durable.
                () = self.run.ports.clock.sleep(self.until_epoch_is_old()), if self.writer.holds_others(worker.index) && self.writer.preview.is_none() => {
                    self.commit_others(worker.index).await?;
                    continue;
                }
            };
            match message {
                Some(Message::Chunk { chunk, room }) => {
                    drop(room);
                    if self.settings.on_reject == OnReject::Fail
                        && let Some(first) = chunk.rejects.first()
                    {
                        return Err(SplitEnd::Failed(reject_fails(&first.reject)));
                    }
                    let can_stop_here = chunk.position.is_some();
                    rows += chunk.read;
                    bytes += chunk.memory();
                    held.push(*chunk);
                    let more = held.len() < AT_ONCE && !worker.messages.is_empty() && self.writer.has_room(&held, self.settings);
                    if !can_stop_here || self.writer.preview.is_some() || more {
                        continue;
                    }
                    if self.writer.may_land() {
                        // What these rows have for the sinks need not wait.
                        self.land().await.map_err(SplitEnd::Stop)?;
                        self.still_counts(worker.index)?;
                    }
                    // Rows that are fresh from the reader are worked on fastest.
                    self.pass(worker.index, std::mem::take(&mut held), false).await?;
                    if (rows >= self.settings.epoch_rows || bytes >= self.settings.epoch_bytes) && self.writer.is_full(self.settings) {
                        (rows, bytes) = (0, 0);
                        self.commit_beside().await.map_err(SplitEnd::Stop)?;
                        self.still_counts(worker.index)?;
                    }
                }
                Some(Message::Restart) => {
                    held.clear();
                    (rows, bytes) = (0, 0);
                }
                Some(Message::Done) => return self.pass(worker.index, held, true).await,
                Some(Message::Failed(error)) => return Err(SplitEnd::Failed(error)),
                None => return Err(SplitEnd::Failed(StageError::developer("the task that read the split ended without a word (it panicked)"))),
            }
        }
    }

    /// Fails for a split whose rows so far could not be stored: what follows would stand alone.
    fn still_counts(&self, split: usize) -> Result<(), SplitEnd> {
        match self.record.splits.get(split) {
            Some(split) if split.status == SplitStatus::Failed => Err(SplitEnd::Stored),
            _ => Ok(()),
        }
    }

    async fn pass(&mut self, split: usize, chunks: Vec<Chunk>, complete: bool) -> Result<(), SplitEnd> {
        let few = chunks.iter().map(|chunk| chunk.batch.num_rows()).sum::<usize>() < FEW_ROWS;
        let item = Passed { split, chunks, complete, replays: None };
        let passed = if few { self.writer.pass(item).await } else { apart(self.writer.pass(item)).await };
        let lost = match passed {
            Ok(_) => return self.check_limits(),
            Err(lost) => lost,
        };
        let landed = self.landed().await;
        let mut own = None;
        for (index, error) in lost {
            if index == split { own = Some(error) } else { self.fail(index, &error) }
        }
        landed.map_err(SplitEnd::Stop)?;
        Err(own.map_or_else(|| SplitEnd::Stop(Stop::Fatal(StageError::developer("rows were lost without an error"))), SplitEnd::Failed))
    }

    /// Commits what does not belong to a split, of which there is a part alone.
    async fn commit_others(&mut self, split: usize) -> Result<(), SplitEnd> {
        let (part, lost) = apart(self.writer.set_aside(split)).await;
        let landed = self.landed().await;
        lost.iter().for_each(|(index, error)| self.fail(*index, error));
        landed.map_err(SplitEnd::Stop)?;
        self.commit(false).await.map_err(SplitEnd::Stop)?;
        for item in part {
            self.pass(split, item.chunks, item.complete).await?;
        }
        Ok(())
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

    /// Commits the open epoch. Limits given as a share hold when it is full and at the end (`judge`), not when only time has passed: what
    /// fails must not depend on how fast the source answers.
    async fn commit(&mut self, judge: bool) -> Result<(), Stop> {
        self.land().await?;
        if judge {
            self.judge().await?;
        }
        match apart(self.commit_epoch()).await? {
            Some(alone) => apart(self.store_alone(alone)).await,
            None => Ok(()),
        }
    }

    /// Commits the open epoch, which is full, beside the rows that come now.
    async fn commit_beside(&mut self) -> Result<(), Stop> {
        if self.writer.preview.is_some() {
            return self.commit(true).await;
        }
        if self.writer.is_log_large() {
            self.commit(true).await?;
            self.fold().await;
            return Ok(());
        }
        self.land().await?;
        self.judge().await?;
        if !self.writer.is_empty() {
            let splits = &self.record.splits;
            self.writer.launch(&self.record.rows, |index, rows, position, done| stored_record(splits, index, rows, position, done));
        }
        Ok(())
    }

    /// Ends the run where too large a share of its rows was rejected.
    async fn judge(&mut self) -> Result<(), Stop> {
        let Some(text) = self.settings.abort.and_then(|limit| broken_by_share(limit, &self.total())) else { return Ok(()) };
        self.writer.abort().await;
        Err(Stop::Abort(abort_error(&text)))
    }

    /// Waits for the epoch that is committed beside the open one.
    async fn land(&mut self) -> Result<(), Stop> {
        apart(self.writer.land()).await;
        self.landed().await
    }

    /// Counts what became of the epoch that was committed beside the open one, if it has landed.
    async fn landed(&mut self) -> Result<(), Stop> {
        let Some(Landing { committed, lost, next }) = self.writer.landing.take() else { return Ok(()) };
        let alone = self.count_commit(committed);
        lost.iter().for_each(|(index, error)| self.fail(*index, error));
        if let Some(alone) = alone? {
            apart(self.store_alone(alone)).await?;
        }
        for item in next {
            // What follows of a split that failed would stand alone.
            if self.record.splits.get(item.split).is_some_and(|split| split.status != SplitStatus::Failed)
                && let Err(lost) = apart(self.writer.pass(item)).await
            {
                lost.iter().for_each(|(index, error)| self.fail(*index, error));
            }
        }
        Ok(())
    }

    /// One split's rows may be in the others' way: each is stored by itself.
    async fn store_alone(&mut self, mut alone: Vec<Passed>) -> Result<(), Stop> {
        while let Some(first) = alone.first().map(|item| item.split) {
            let rest = alone.iter().position(|item| item.split != first).unwrap_or(alone.len());
            for item in alone.drain(..rest) {
                if let Err(lost) = self.writer.pass(item).await {
                    lost.iter().for_each(|(index, error)| self.fail(*index, error));
                    // Nor does what follows of it count.
                    break;
                }
            }
            self.commit_epoch().await?;
        }
        Ok(())
    }

    /// Commits what is passed on; answers it when it is to be committed split by split.
    async fn commit_epoch(&mut self) -> Result<Option<Vec<Passed>>, Stop> {
        let splits = &self.record.splits;
        let records = |index: usize, rows: &Counts, position: Option<&Position>, done: bool| stored_record(splits, index, rows, position, done);
        let committed = self.writer.commit(&self.record.rows, records).await;
        self.count_commit(committed)
    }

    /// Counts what became of an epoch; answers its rows when they are to be committed split by split.
    fn count_commit(&mut self, committed: Result<Committed, CommitError>) -> Result<Option<Vec<Passed>>, Stop> {
        match committed {
            Ok(committed) => self.count(&committed),
            Err(CommitError::Apart(items)) => return Ok(Some(items)),
            Err(CommitError::Undelivered(committed, error)) => {
                self.count(&committed);
                return Err(Stop::Fatal(error));
            }
            Err(CommitError::Dropped { lost, done, error }) => {
                let error = advised(&error, &self.settings.file);
                for index in done {
                    if let Some(split) = self.record.splits.get_mut(index) {
                        stored(split, &Counts::default(), None, true);
                    }
                }
                if error.act != Act::Split {
                    // Said once: it is the same for all of them.
                    tracing::error!(category = %error.category, reason = %error, help = error.help.as_deref(), "the epoch could not be stored");
                    lost.iter().for_each(|split| self.note(*split, &error));
                    return Err(Stop::Fatal(error));
                }
                lost.iter().for_each(|split| self.fail(*split, &error));
            }
        }
        Ok(None)
    }

    fn count(&mut self, committed: &Committed) {
        for (index, rows, position, done) in &committed.splits {
            self.record.rows.add(rows);
            if let Some(split) = self.record.splits.get_mut(*index) {
                stored(split, rows, position.as_ref(), *done);
            }
        }
        if !committed.splits.is_empty() {
            (self.observer)(&RunEvent::Committed { rows: self.record.rows, chunks: committed.chunks.clone() });
        }
    }

    fn fail(&mut self, index: usize, error: &StageError) {
        let error = &advised(error, &self.settings.file);
        // Said once, where the file of a hundred splits is gone; the run's last line names them all.
        let is_said = self.record.splits.iter().take(index).rev().find_map(|split| split.error.as_ref()) == Some(&error_record(error));
        match self.record.splits.get(index) {
            Some(split) if is_said => tracing::debug!(split = %split.split.id, "split failed as the one before"),
            Some(split) => {
                tracing::error!(split = %split.split.id, category = %error.category, reason = %error, help = error.help.as_deref(), "split failed");
            }
            None => {}
        }
        self.note(index, error);
    }

    fn note(&mut self, index: usize, error: &StageError) {
        let error = &advised(error, &self.settings.file);
        if let Some(split) = self.record.splits.get_mut(index) {
            split.status = SplitStatus::Failed;
            split.error = Some(error_record(error));
        }
    }

    /// Gives the record its final status.
    fn conclude(&mut self, stop: Option<Stop>) {
        let (aborted, cancelled) = (matches!(stop, Some(Stop::Abort(_))), matches!(stop, Some(Stop::Cancelled)));
        let error = match stop {
            None => None,
            Some(Stop::Cancelled) => None,
            Some(Stop::Deadline) => {
                Some(StageError::transient(Category::Network, "the run's deadline passed").help("raise [run] deadline, or ask less in one run"))
            }
            Some(Stop::Fatal(error) | Stop::Abort(error)) => Some(advised(&error, &self.settings.file)),
        };
        let pending = |split: &&mut SplitRecord| split.status == SplitStatus::Pending;
        if !cancelled {
            let why = error.clone().map_or_else(
                || StageError::developer("the split was neither stored nor did it fail"),
                |error| StageError { message: format!("not done: {}", error.message), ..error },
            );
            for split in self.record.splits.iter_mut().filter(pending) {
                split.status = SplitStatus::Failed;
                split.error = Some(error_record(&why));
            }
        }
        let of = |status| self.record.splits.iter().filter(|split| split.status == status).count();
        let by_splits = match (of(SplitStatus::Ok), of(SplitStatus::Failed)) {
            // All rows count, but something could not be made visible, or was said at the very end.
            (_, 0) if error.is_some() => RunStatus::Partial,
            (_, 0) => RunStatus::Ok,
            (0, _) => RunStatus::Failed,
            _ => RunStatus::Partial,
        };
        self.record.status = match (aborted, of(SplitStatus::Pending)) {
            (true, _) => RunStatus::Failed,
            (false, 0) => by_splits,
            (false, _) => RunStatus::Interrupted,
        };
        let first = || self.record.splits.iter().find_map(|split| split.error.clone());
        self.record.error = match self.record.status {
            RunStatus::Failed => error.as_ref().map(error_record).or_else(first),
            _ => error.as_ref().map(error_record),
        };
    }
}

/// Does what keeps a core busy for long: tasks that it wakes meanwhile run on other threads, where there are any. (A task that was woken last is
/// next on the thread that woke it, and no other thread may take it.)
async fn apart<T>(work: impl Future<Output = T>) -> T {
    match threads::several() {
        Some(runtime) => tokio::task::block_in_place(|| runtime.block_on(work)),
        None => work.await,
    }
}

enum SplitEnd {
    Failed(StageError),
    /// It failed while it was committed, and its record says so already.
    Stored,
    Stop(Stop),
}

fn stored(record: &mut SplitRecord, rows: &Counts, position: Option<&Position>, done: bool) {
    record.rows.add(rows);
    record.position = position.cloned();
    if done {
        record.status = SplitStatus::Ok;
        record.position = None;
    }
}

/// What the state is to record of a split, when so much of it is stored.
fn stored_record(splits: &[SplitRecord], index: usize, rows: &Counts, position: Option<&Position>, done: bool) -> SplitRecord {
    let mut record = splits.get(index).cloned().unwrap_or_else(|| unknown_split(index));
    stored(&mut record, rows, position, done);
    record
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
