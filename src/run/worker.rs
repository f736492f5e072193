//! One split at work: read, transform, validate, hand on. Retried once when time heals its error.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::arrow::array::BooleanArray;
use pipeline_contract::{Act, Category, Position, Reject, RunContext, Source, Split, StageError, Transform, TransformRun, select_rows};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::rejects::Rejects;
use crate::stages::dedupe::{DedupePlan, Prepared};
use crate::stages::validate::{Parted, Validator};

/// How often a split is opened at most: once, and once more.
const ATTEMPTS: u32 = 2;
/// How many chunks a split may be ahead of the one whose turn it is ...
const AHEAD: usize = 64;
/// ... and how many bytes of them.
const AHEAD_BYTES: usize = 4 << 20;
/// So many more are read ahead of the split whose turn it is. Few: what is read long before it is used is no longer in the processor's cache then ...
const TURN_BYTES: usize = 12 << 20;
/// ... and of the one behind it, so that two read at once where reading is the slow part.
const NEXT_BYTES: usize = 8 << 20;
/// A split that was read gives its place to another one when its rows that wait for their turn take no more than this ...
const WAITING_BYTES: usize = 256 << 10;
/// ... and there are no more rejects beside them.
const WAITING_REJECTS: usize = 1000;
/// The wait before a split is opened again when the far side did not say.
const PAUSE: Duration = Duration::from_secs(1);

/// Rows that are ready for dedupe.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) batch: RecordBatch,
    /// The rows that `validate` did not reject, where it did some. (Dedupe leaves out others: rows are copied once for both.)
    pub(crate) kept: Option<BooleanArray>,
    pub(crate) rejects: Rejects,
    /// Rows that the source brought, rejects included.
    pub(crate) read: u64,
    /// Rows that a transform left out without rejecting them.
    pub(crate) filtered: u64,
    /// Where the reader is after these rows; `None` when it cannot be opened there.
    pub(crate) position: Option<Position>,
    /// What dedupe can tell of the rows by themselves, where that was looked at already.
    pub(crate) prepared: Option<Prepared>,
}

impl Chunk {
    /// Rows of which nothing was rejected, out of so many.
    pub(crate) fn of(batch: RecordBatch, read: u64) -> Self {
        Self { batch, kept: None, rejects: Rejects::default(), read, filtered: 0, position: None, prepared: None }
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        self.batch.get_array_memory_size() + self.rejects.memory()
    }

    /// Leaves the rejected rows out of the batch.
    fn take_out(&mut self) -> Result<(), StageError> {
        if let Some(kept) = self.kept.take() {
            self.batch = select_rows(&self.batch, &kept)?;
        }
        Ok(())
    }
}

/// What a worker says.
#[derive(Debug)]
pub(crate) enum Message {
    /// Rows, and the room that they take until they are received.
    Chunk {
        chunk: Box<Chunk>,
        room: OwnedSemaphorePermit,
    },
    /// Everything that was sent and not passed on is void: the split starts again.
    Restart,
    Done,
    Failed(StageError),
}

/// What rows go through between source and dedupe.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) transforms: Arc<[Box<dyn Transform>]>,
    pub(crate) validator: Option<Arc<Validator>>,
    pub(crate) dedupe: Option<DedupePlan>,
    /// Rejects are kept in a quarantine, and nobody else wants their rows.
    pub(crate) keeps_rejects: bool,
}

impl Route {
    /// Does for rows and rejects what needs no knowledge of others, before their turn has come.
    fn prepare(&self, chunk: &mut Chunk, run: &RunContext, split: &Split) -> Result<(), StageError> {
        match &self.dedupe {
            Some(plan) => chunk.prepared = Some(plan.prepare(&chunk.batch, chunk.kept.as_ref())?),
            None => chunk.take_out()?,
        }
        if self.keeps_rejects {
            chunk.rejects.keep_lines(&run.run_id, &split.id);
        } else {
            chunk.rejects.take_apart();
        }
        Ok(())
    }
}

/// How many splits are read at once, whatever the driver does meanwhile; they begin in the order in which they were given a place.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// Says that the one before has begun.
    last: oneshot::Receiver<()>,
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        // Nobody is before the first: its sender is gone.
        Self { free: Arc::new(Semaphore::new(count)), last: oneshot::channel().1 }
    }

    fn next(&mut self) -> Place {
        let (begun, last) = oneshot::channel();
        Place { free: Arc::clone(&self.free), before: std::mem::replace(&mut self.last, last), begun }
    }
}

/// A place in the queue of those that want to begin.
struct Place {
    free: Arc<Semaphore>,
    before: oneshot::Receiver<()>,
    begun: oneshot::Sender<()>,
}

impl Place {
    /// Waits for its turn to begin. (With one that begins before its turn and waits for the driver, the driver could wait for one that cannot begin.)
    async fn begin(self) -> Option<OwnedSemaphorePermit> {
        let _ = self.before.await;
        let place = self.free.acquire_owned().await.ok();
        drop(self.begun);
        place
    }
}

/// A split at work in a task of its own.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) messages: mpsc::Receiver<Message>,
    pub(crate) attempts: Arc<AtomicU32>,
    /// How long it took, once it is over.
    pub(crate) took: Arc<OnceLock<Duration>>,
    room: Arc<Semaphore>,
    /// How many bytes more it was let read ahead.
    more: usize,
    task: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    /// Starts reading a split once there is a place for it, from its start or after `resume`.
    pub(crate) fn start(index: usize, split: Split, resume: Option<Position>, route: Route, run: RunContext, places: &mut Places) -> Self {
        let (sender, messages) = mpsc::channel(AHEAD);
        let room = Arc::new(Semaphore::new(AHEAD_BYTES));
        let sender = Sender { messages: sender, room: Arc::clone(&room), rejects: AtomicUsize::new(0) };
        let place = places.next();
        let attempts = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&attempts);
        let took = Arc::new(OnceLock::new());
        let over = Arc::clone(&took);
        let task = tokio::spawn(async move {
            let _place = place.begin().await;
            let began = run.ports.clock.monotonic();
            let last = work(&split, resume, &route, &run, &sender, &count).await;
            let _ = over.set(run.ports.clock.monotonic().saturating_sub(began));
            // Nobody listens when the run has ended: then there is nothing to say.
            let is_done = matches!(last, Message::Done);
            let _ = sender.messages.send(last).await;
            if is_done && sender.rejects.load(Ordering::Relaxed) <= WAITING_REJECTS {
                let taken = u32::try_from(AHEAD_BYTES - WAITING_BYTES).unwrap_or(u32::MAX);
                let _ = sender.room.acquire_many(taken).await;
            } else {
                // It takes much memory; or it failed, others may fail as well, and the driver says whether to go on.
                sender.messages.closed().await;
            }
        });
        Self { index, messages, attempts, took, room, more: 0, task }
    }

    /// Has it brought nothing that was not taken?
    pub(crate) fn is_waited_for(&self) -> bool {
        self.messages.is_empty()
    }

    /// It is the split's turn: what it reads is stored as it comes.
    pub(crate) fn is_next(&mut self) {
        self.read_ahead(TURN_BYTES);
    }

    /// Its turn is the next one.
    pub(crate) fn is_second(&mut self) {
        self.read_ahead(NEXT_BYTES);
    }

    fn read_ahead(&mut self, more: usize) {
        self.room.add_permits(more.saturating_sub(self.more));
        self.more = more.max(self.more);
    }
}

/// Where a worker's messages go.
struct Sender {
    messages: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    /// How many rejects were sent.
    rejects: AtomicUsize,
}

impl Sender {
    /// Sends rows, once there is room for them; `None` when nobody listens any more.
    async fn chunk(&self, chunk: Chunk) -> Option<()> {
        // One that is larger than all the room waits until it is alone.
        let bytes = chunk.memory().clamp(1, AHEAD_BYTES);
        self.rejects.fetch_add(chunk.rejects.len(), Ordering::Relaxed);
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)) => room.ok()?,
            () = self.messages.closed() => return None,
        };
        self.messages.send(Message::Chunk { chunk: Box::new(chunk), room }).await.ok()
    }
}

async fn work(split: &Split, mut resume: Option<Position>, route: &Route, run: &RunContext, sender: &Sender, attempts: &AtomicU32) -> Message {
    let resumable = route.source.capabilities().resumable;
    let mut stages = Stages::new(route, split);
    loop {
        let attempt = attempts.fetch_add(1, Ordering::SeqCst) + 1;
        let error = match read_split(split, &mut resume, resumable, &mut stages, route, run, sender).await {
            Ok(()) => return Message::Done,
            Err(error) => error,
        };
        let Act::Time { retry_after } = error.act else { return Message::Failed(error) };
        let pause = retry_after.unwrap_or(PAUSE);
        if attempt >= ATTEMPTS || run.cancel.is_cancelled() || pause >= run.time_left() {
            return Message::Failed(error);
        }
        tracing::warn!(split = %split.id, wait = %humantime::format_duration(whole_millis(pause)), reason = %error, "the split is tried once more");
        run.ports.clock.sleep(pause).await;
        if !resumable {
            stages = Stages::new(route, split);
            if sender.messages.send(Message::Restart).await.is_err() {
                return Message::Failed(error);
            }
        }
    }
}

fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

async fn read_split(
    split: &Split,
    resume: &mut Option<Position>,
    resumable: bool,
    stages: &mut Stages,
    route: &Route,
    run: &RunContext,
    sender: &Sender,
) -> Result<(), StageError> {
    let gone = || StageError::developer("the run ended while the split was read");
    let mut reader = route.source.open(split, resume.clone(), run).await?;
    while let Some(read) = reader.read().await? {
        if read.batch.schema_ref().fields() != route.source.schema().fields() {
            return Err(StageError::developer(format!("split {}: the source brought other columns than its schema says", split.id)));
        }
        let mut chunk = stages.apply(read.batch, read.rejects)?;
        if resumable {
            *resume = Some(read.position.clone());
            chunk.position = Some(read.position);
        }
        route.prepare(&mut chunk, run, split)?;
        sender.chunk(chunk).await.ok_or_else(gone)?;
    }
    if let Some(mut chunk) = stages.finish()? {
        route.prepare(&mut chunk, run, split)?;
        sender.chunk(chunk).await.ok_or_else(gone)?;
    }
    Ok(())
}

/// The transforms and the validation of one split.
struct Stages {
    transforms: Vec<Box<dyn TransformRun>>,
    validator: Option<Arc<Validator>>,
}

impl Stages {
    fn new(route: &Route, split: &Split) -> Self {
        Self { transforms: route.transforms.iter().map(|t| t.start(split)).collect(), validator: route.validator.clone() }
    }

    fn apply(&mut self, batch: RecordBatch, rejects: Vec<Reject>) -> Result<Chunk, StageError> {
        let read = count(batch.num_rows() + rejects.len());
        let mut chunk = Chunk { rejects: Rejects::of("source", rejects), ..Chunk::of(batch, read) };
        self.apply_from(0, &mut chunk)?;
        Ok(chunk)
    }

    /// Takes a chunk through the transforms from the given one on, and through validation.
    fn apply_from(&mut self, first: usize, chunk: &mut Chunk) -> Result<(), StageError> {
        for (place, transform) in self.transforms.iter_mut().enumerate().skip(first) {
            let before = chunk.batch.num_rows();
            let applied = transform.apply(chunk.batch.clone())?;
            chunk.filtered += count(before.saturating_sub(applied.batch.num_rows() + applied.rejects.len()));
            chunk.batch = applied.batch;
            chunk.rejects.add(&format!("transforms.{place}"), applied.rejects);
        }
        if let Some(validator) = &self.validator
            && let Some(Parted { kept, rejected }) = validator.part(&chunk.batch)?
        {
            chunk.kept = Some(kept);
            chunk.rejects.add_rows("validate", rejected);
        }
        Ok(())
    }

    /// What the transforms still held.
    fn finish(&mut self) -> Result<Option<Chunk>, StageError> {
        let mut held: Option<Chunk> = None;
        for place in 0..self.transforms.len() {
            let Some(last) = self.transforms.get_mut(place).map(|t| t.finish()).transpose()?.flatten() else { continue };
            let mut chunk = Chunk { rejects: Rejects::of(&format!("transforms.{place}"), last.rejects), ..Chunk::of(last.batch, 0) };
            self.apply_from(place + 1, &mut chunk)?;
            chunk.take_out()?;
            held = Some(match held {
                None => chunk,
                Some(mut before) => {
                    before.batch = pipeline_contract::arrow::select::concat::concat_batches(chunk.batch.schema_ref(), [&before.batch, &chunk.batch])
                        .map_err(|error| StageError::developer(format!("transforms brought unlike batches: {error}")))?;
                    before.rejects.append(chunk.rejects);
                    before.filtered += chunk.filtered;
                    before
                }
            });
        }
        Ok(held)
    }
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}

/// Takes rows that were rejected once through the stages again, from the stage that rejected them on.
pub(crate) fn replay(route: &Route, split: &Split, stage: &str, batch: RecordBatch) -> Result<Chunk, StageError> {
    let mut stages = Stages::new(route, split);
    let first = match stage.strip_prefix("transforms.") {
        Some(place) => place.parse().map_err(|_| StageError::split(Category::Validation, format!("there is no stage {stage}")))?,
        None => stages.transforms.len(),
    };
    let read = count(batch.num_rows());
    let mut chunk = Chunk::of(batch, read);
    stages.apply_from(first, &mut chunk)?;
    chunk.take_out()?;
    if let Some(last) = stages.finish()? {
        return Err(StageError::developer(format!("a transform held {} rows back; rows cannot be replayed through it", last.batch.num_rows())));
    }
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_was_given_a_place_first_begins_first() {
        let mut places = Places::new(1);
        let (first, second) = (places.next(), places.next());
        let second = tokio::spawn(second.begin());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!second.is_finished(), "it could not give its place back before the first one is done");
        let place = first.begin().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(place.is_some() && !second.is_finished(), "there is one place");
        drop(place);
        assert!(second.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn one_that_is_given_up_holds_up_nobody() {
        let mut places = Places::new(1);
        drop(places.next());
        assert!(places.next().begin().await.is_some());
    }
}
