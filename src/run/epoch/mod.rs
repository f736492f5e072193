//! The open epoch: rows on their way through dedupe into the sinks, and the commit that makes them count.
//!
//! `write*` -> every sink `prepare(n)` -> one state transaction -> every sink `commit(n)`. What was passed on stays in memory until the
//! commit, so that one split's rows can be taken out again: everything is aborted and the others are written anew.

mod commit;
mod flight;
mod outlets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{Category, Clock, Epoch, Op, Position, Records, Recovery, Sink, SinkContext, StageError};
use serde_json::Value;

pub(crate) use self::flight::Landing;
use self::flight::{Flight, Queued};
use self::outlets::Outlets;
use super::Settings;
use super::quarantine::Quarantine;
use super::rejects::{Rejects, StagedReject};
use super::worker::Chunk;
use crate::stages::dedupe::Deduper;
use crate::stages::selected::Selected;
use crate::state::{ChunkKey, Counts, RejectHash, Store};

/// More rows are waited for while they take less memory than this.
const WAIT_BYTES: usize = 128 << 20;

/// So many splits that bring files of their own are worth a commit: fewer, and the state is saved more often than it need be.
const FILES_APART: usize = 64;

/// A sink's records, read from the store.
pub(crate) struct StoredRecords {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) sink: String,
}

impl Records for StoredRecords {
    fn get(&self, key: &str) -> Result<Option<Value>, StageError> {
        self.store.record(&self.sink, key)
    }
    fn all(&self) -> Result<Vec<(String, Value)>, StageError> {
        self.store.records(&self.sink)
    }
}

/// What a reject does under `on_reject = "fail"`.
pub(crate) fn reject_fails(reject: &pipeline_contract::Reject) -> StageError {
    StageError::split(Category::Validation, format!("a row broke the rule {}: {} (on_reject = \"fail\")", reject.rule, reject.message))
        .help("mend the rule or the source, or keep such rows apart with on_reject = \"quarantine\"")
}

/// A sink at work.
pub struct OpenSink {
    /// Its name in the state.
    pub id: String,
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// What it works with.
    pub cx: SinkContext,
}

/// Rows of one split that were passed on together.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    pub(crate) split: usize,
    pub(crate) chunks: Vec<Chunk>,
    /// The split is done with these.
    pub(crate) complete: bool,
    /// The reject that is replayed with these rows, and whether dedupe rejected it then.
    pub(crate) replays: Option<(RejectHash, bool)>,
}

impl Passed {
    /// The reject that is settled now: its row passed, or was rejected by another stage than before and is kept as that.
    fn replayed(&self, outcome: &Outcome) -> Option<RejectHash> {
        self.replays.filter(|(_, by_dedupe)| outcome.rows.rejected == 0 || !by_dedupe).map(|(hash, _)| hash)
    }
}

/// What became of one passed item.
#[derive(Clone, Debug, Default)]
struct Outcome {
    rows: Counts,
    position: Option<Position>,
}

/// What a commit did to the splits it held.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// For each split: the rows that are stored now, where it stands, whether it is done.
    pub(crate) splits: Vec<(usize, Counts, Option<Position>, bool)>,
    /// The chunks of what dedupe holds that it changed.
    pub(crate) chunks: Vec<ChunkKey>,
}

/// Why an epoch could not be committed.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// Nothing of it is stored.
    Dropped {
        /// The splits whose rows are lost.
        lost: Vec<usize>,
        /// The splits of which it held nothing but their end: all their rows are stored already.
        done: Vec<usize>,
        /// Why.
        error: StageError,
    },
    /// Nothing of it is stored yet: one split's rows may be in the others' way. To be passed on again, split by split.
    Apart(Vec<Passed>),
    /// It is decided and saved, but a sink has not made it visible yet: the next run will.
    Undelivered(Committed, StageError),
}

/// Rows that a dry run would store.
#[derive(Clone, Debug, Default)]
pub struct Preview {
    /// New rows, by split.
    pub append: BTreeMap<usize, Vec<RecordBatch>>,
    /// Rows that would take the place of stored ones, by split.
    pub replace: BTreeMap<usize, Vec<RecordBatch>>,
    /// Rejects, by split: stage, rule, message, row.
    pub rejects: BTreeMap<usize, Vec<(String, pipeline_contract::Reject)>>,
}

/// How large the open epoch is.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    rows: u64,
    /// The memory that its rows and rejects take, about.
    bytes: usize,
    /// The files that it changes, in all sinks.
    files: usize,
    /// The splits that brought a file which none before them did.
    files_apart: usize,
    /// The last of them.
    last_apart: Option<usize>,
}

/// Where rows go after validation.
pub(crate) struct EpochWriter {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) deduper: Option<Deduper>,
    /// Elsewhere while an epoch is committed beside this one.
    pub(crate) outlets: Outlets,
    /// In a dry run rows end here instead of in sinks, and nothing is committed.
    pub(crate) preview: Option<Preview>,
    pub(crate) split_names: Vec<String>,
    pub(crate) run_id: String,
    epoch: Epoch,
    passed: Vec<Passed>,
    outcomes: Vec<Outcome>,
    size: Size,
    opened_at: Option<Duration>,
    /// Something that was written could not be taken back: only recovery may.
    unclean: bool,
    /// Nobody knows whether the last epoch counts, or it does and is not visible yet: nothing may be written or taken back before recovery.
    poisoned: Option<StageError>,
    /// A reject of dedupe fails its split.
    fail_on_reject: bool,
    /// The epoch that is being committed.
    flight: Option<Flight>,
    /// What became of the last one that was, until somebody asks.
    pub(crate) landing: Option<Landing>,
}

impl EpochWriter {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        deduper: Option<Deduper>,
        sinks: Vec<OpenSink>,
        quarantine: Option<Quarantine>,
        preview: Option<Preview>,
        fail_on_reject: bool,
    ) -> Self {
        Self {
            store,
            clock,
            deduper,
            outlets: Outlets { sinks, quarantine },
            preview,
            split_names: Vec::new(),
            run_id: String::new(),
            epoch: 0,
            passed: Vec::new(),
            outcomes: Vec::new(),
            size: Size::default(),
            opened_at: None,
            unclean: false,
            poisoned: None,
            fail_on_reject,
            flight: None,
            landing: None,
        }
    }

    /// Brings every sink to the last committed epoch.
    pub(crate) async fn recover(&mut self, run_was_open: bool) -> Result<(), StageError> {
        if self.preview.is_some() {
            return Ok(());
        }
        self.passed.clear();
        self.land().await;
        self.landing = None;
        let last = self.store.last_epoch()?;
        self.epoch = last.as_ref().map_or(0, |(epoch, _)| *epoch);
        let of = |id: &str| Recovery {
            last: last
                .as_ref()
                .map(|(epoch, sinks)| (*epoch, sinks.iter().find(|(sink, _)| sink == id).map(|(_, state)| state.clone()).unwrap_or_default())),
            run_was_open,
        };
        for open in &mut self.outlets.sinks {
            let recovery = of(&open.id);
            open.sink.recover(&open.cx, &recovery).await?;
        }
        self.passed.clear();
        self.outcomes.clear();
        self.size = Size::default();
        self.opened_at = None;
        if let Some(deduper) = &mut self.deduper {
            deduper.abort();
        }
        if let Some(quarantine) = &mut self.outlets.quarantine {
            let recovery = of(quarantine.id());
            quarantine.recover(&recovery)?;
        }
        self.unclean = false;
        self.poisoned = None;
        Ok(())
    }

    /// Should what dedupe has logged be put in its place before more comes?
    pub(crate) fn is_log_large(&self) -> bool {
        self.preview.is_none() && self.deduper.as_ref().is_some_and(Deduper::is_log_large)
    }

    /// Puts what dedupe has logged in its place, unless an epoch is open or nobody knows what is stored. Answers the chunks that changed by that.
    /// Where it fails the log stays as it is, and is read by the next run.
    pub(crate) fn fold(&mut self) -> Vec<ChunkKey> {
        let Some(deduper) = &mut self.deduper else { return Vec::new() };
        if self.preview.is_some() || self.poisoned.is_some() || self.flight.is_some() || !self.passed.is_empty() {
            return Vec::new();
        }
        deduper.fold().unwrap_or_else(|error| {
            tracing::warn!(%error, "the log of keys could not be put in its place now; a later run will");
            Vec::new()
        })
    }

    /// The run is over: what is only a cache is let go.
    pub(crate) fn rest(&mut self) {
        if let Some(deduper) = &mut self.deduper {
            deduper.rest();
        }
        if let Some(quarantine) = &mut self.outlets.quarantine {
            quarantine.rest();
        }
        self.passed.shrink_to_fit();
        self.outcomes.shrink_to_fit();
    }

    /// Must the next process take something back? Then the run stays open in the state, which is what allows it to.
    pub(crate) fn unclean(&self) -> bool {
        self.unclean
    }

    /// Rows in the open epoch.
    pub(crate) fn rows(&self) -> u64 {
        self.size.rows
    }

    /// Will the open epoch not be full with these?
    pub(crate) fn has_room(&self, chunks: &[Chunk], settings: &Settings) -> bool {
        let rows: u64 = chunks.iter().map(|chunk| chunk.read).sum();
        let bytes: usize = chunks.iter().map(Chunk::memory).sum();
        self.size.rows + rows < settings.epoch_rows && self.size.bytes + bytes < settings.epoch_bytes
    }

    /// Are there as many rows as are worth a commit?
    pub(crate) fn is_full(&self, settings: &Settings) -> bool {
        let Size { rows, bytes, .. } = self.size;
        let waits = || self.deduper.as_ref().is_some_and(|deduper| deduper.is_worth_waiting(rows));
        let is_large = rows >= settings.epoch_rows || bytes >= settings.epoch_bytes;
        is_large && (rows >= settings.most_epoch_rows || bytes >= WAIT_BYTES || !waits())
    }

    /// Has it so many files that few of them are likely to change again, and a commit would do at once what is otherwise left for later?
    pub(crate) fn has_many_files(&self) -> bool {
        self.size.files_apart >= FILES_APART
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.passed.is_empty()
    }

    /// When, on the monotonic clock, the first rows of the open epoch came.
    pub(crate) fn opened_at(&self) -> Option<Duration> {
        self.opened_at
    }

    /// The counts of what is passed on and not committed yet.
    pub(crate) fn counts(&self) -> Counts {
        let in_flight = self.flight.iter().flat_map(|flight| &flight.outcomes);
        self.outcomes.iter().chain(in_flight).map(|outcome| &outcome.rows).sum()
    }

    /// Passes rows on. On an error these rows have left no trace, and all that was passed on before is as it was; unless that could not be
    /// written anew: then `Err` also names the splits that were lost with it.
    pub(crate) async fn pass(&mut self, mut item: Passed) -> Result<Counts, Vec<(usize, StageError)>> {
        if let Some(error) = &self.poisoned {
            return Err(vec![(item.split, error.clone())]);
        }
        if self.opened_at.is_none() {
            self.opened_at = Some(self.clock.monotonic());
        }
        match self.apply(&item).await {
            Ok(outcome) => {
                let rows = outcome.rows;
                self.grow(&item, outcome);
                // Should they be passed on again, it is looked at anew: that is seldom, and they are many.
                item.chunks.iter_mut().for_each(|chunk| chunk.prepared = None);
                self.passed.push(item);
                Ok(rows)
            }
            Err(error) => {
                self.land().await;
                let mut lost = vec![(item.split, error)];
                lost.extend(self.write_anew(item.split).await);
                Err(lost)
            }
        }
    }

    fn grow(&mut self, item: &Passed, outcome: Outcome) {
        let files = self.outlets.changed_files();
        let size = &mut self.size;
        size.rows += outcome.rows.read;
        size.bytes += item.chunks.iter().map(Chunk::memory).sum::<usize>();
        if files > size.files && size.last_apart != Some(item.split) {
            (size.files_apart, size.last_apart) = (size.files_apart + 1, Some(item.split));
        }
        size.files = files;
        self.outcomes.push(outcome);
    }

    /// Takes the rows of one split out of the open epoch. Answers the splits that were lost with it.
    pub(crate) async fn take_out(&mut self, split: usize) -> Vec<(usize, StageError)> {
        if !self.passed.iter().any(|item| item.split == split) {
            return Vec::new();
        }
        self.land().await;
        self.write_anew(split).await
    }

    /// Takes the rows of one split out of the open epoch, and answers them beside the splits that were lost with it.
    pub(crate) async fn set_aside(&mut self, split: usize) -> (Vec<Passed>, Vec<(usize, StageError)>) {
        let own = self.passed.iter().filter(|item| item.split == split).cloned().collect();
        (own, self.take_out(split).await)
    }

    /// Are there rows of another split in the open epoch?
    pub(crate) fn holds_others(&self, split: usize) -> bool {
        self.passed.iter().any(|item| item.split != split)
    }

    /// Aborts everything and writes what was passed on again, without the given split. Answers the splits that failed doing so.
    async fn write_anew(&mut self, without: usize) -> Vec<(usize, StageError)> {
        let mut lost = Vec::new();
        let mut gone = vec![without];
        if let Some(landing) = &mut self.landing {
            landing.next.retain(|item| item.split != without);
        }
        loop {
            let items: Vec<Passed> = std::mem::take(&mut self.passed).into_iter().filter(|item| !gone.contains(&item.split)).collect();
            self.clear().await;
            let mut failed = None;
            for item in &items {
                match self.apply(item).await {
                    Ok(outcome) => self.grow(item, outcome),
                    Err(error) => {
                        failed = Some((item.split, error));
                        break;
                    }
                }
            }
            self.passed = items;
            match failed {
                None => return lost,
                Some((split, error)) => {
                    gone.push(split);
                    lost.push((split, error));
                }
            }
        }
    }

    /// Forgets the open epoch; the one that is being committed was passed on before, and lands.
    pub(crate) async fn abort(&mut self) {
        self.passed.clear();
        self.land().await;
        self.forget().await;
    }

    async fn forget(&mut self) {
        self.passed.clear();
        // Who works out rules wants to see what broke a limit.
        let preview = self.preview.clone();
        self.clear().await;
        self.preview = preview;
    }

    async fn clear(&mut self) {
        self.outcomes.clear();
        self.size = Size::default();
        if self.poisoned.is_some() {
            return;
        }
        self.unclean |= !self.outlets.abort().await;
        if let Some(deduper) = &mut self.deduper {
            deduper.abort();
        }
        if let Some(preview) = &mut self.preview {
            *preview = Preview::default();
        }
    }

    async fn apply(&mut self, item: &Passed) -> Result<Outcome, StageError> {
        let mut outcome = Outcome::default();
        for chunk in &item.chunks {
            outcome.rows.read += chunk.read;
            outcome.rows.filtered += chunk.filtered;
            outcome.position.clone_from(&chunk.position);
            self.reject(item.split, &chunk.rejects, &mut outcome.rows)?;
            if chunk.batch.num_rows() == 0 {
                continue;
            }
            let Some(deduper) = &mut self.deduper else {
                self.write(item.split, chunk.batch.clone().into(), Op::Append, &mut outcome.rows).await?;
                continue;
            };
            let deduped = match &chunk.prepared {
                Some(prepared) => deduper.select(&chunk.batch, prepared)?,
                None => deduper.select(&chunk.batch, &deduper.plan().prepare(&chunk.batch, chunk.kept.as_ref())?)?,
            };
            outcome.rows.duplicates += deduped.duplicates;
            outcome.rows.conflicts += deduped.conflicts;
            if self.fail_on_reject
                && let Some(first) = deduped.rejects.first()
            {
                return Err(reject_fails(first));
            }
            self.reject(item.split, &Rejects::of("dedupe", deduped.rejects), &mut outcome.rows)?;
            self.write(item.split, deduped.append, Op::Append, &mut outcome.rows).await?;
            self.write(item.split, deduped.replace.into(), Op::Replace, &mut outcome.rows).await?;
            if deduped.stored.num_rows() > 0 {
                match &mut self.flight {
                    Some(flight) => flight.queue.push((item.split, Queued::Look(deduped.stored))),
                    None => self.outlets.look(&deduped.stored).await?,
                }
            }
        }
        Ok(outcome)
    }

    async fn write(&mut self, split: usize, rows: Selected, op: Op, counts: &mut Counts) -> Result<(), StageError> {
        if rows.rows == 0 {
            return Ok(());
        }
        counts.written += rows.rows as u64;
        if let Some(preview) = &mut self.preview {
            let part = if op == Op::Append { &mut preview.append } else { &mut preview.replace };
            part.entry(split).or_default().push(rows.copied()?.into_owned());
        }
        match &mut self.flight {
            Some(flight) => flight.write_later(split, rows, op),
            None => self.outlets.write(&rows, op, Vec::new()).await?,
        }
        Ok(())
    }

    fn reject(&mut self, split: usize, rejects: &Rejects, rows: &mut Counts) -> Result<(), StageError> {
        if rejects.len() == 0 {
            return Ok(());
        }
        rows.rejected += rejects.len() as u64;
        if tracing::enabled!(tracing::Level::DEBUG) {
            for StagedReject { stage, reject } in rejects.iter() {
                tracing::debug!(%stage, rule = %reject.rule, message = %reject.message, row = %reject.row, "row rejected");
            }
        }
        if let Some(preview) = &mut self.preview {
            preview.rejects.entry(split).or_default().extend(rejects.iter().map(|staged| (staged.stage, staged.reject)));
        }
        let name = self.split_names.get(split).map_or("", String::as_str);
        match &mut self.flight {
            Some(flight) => flight.queue.push((split, Queued::Rejects(rejects.lines(&self.run_id, name).into_owned()))),
            None => self.outlets.keep(|| rejects.lines(&self.run_id, name))?,
        }
        Ok(())
    }
}
