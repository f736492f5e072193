//! The state in memory, with a witness: it fails when the process is dead or the disk is full, and tells the oracle what it saved.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline::state::{
    Binding, ChunkKey, EachChunk, EachPart, EpochCommit, LastEpoch, ModelStore, Rebuilt, RejectHash, RunRecord, RunStatus, SplitStatus, Store,
    TickRecord, TickStatus,
};
use pipeline_contract::{Category, StageError};
use serde_json::Value;

use super::ledger::Ledger;
use super::life::Life;
use super::shown;
use super::weather::Weather;
use super::world::SimClock;

#[derive(Clone)]
pub struct Witness {
    pub inner: ModelStore,
    pub life: Arc<Life>,
    pub clock: Arc<SimClock>,
    pub weather: Arc<Weather>,
    pub ledger: Arc<Ledger>,
}

fn failure(what: &str) -> StageError {
    StageError::operator(Category::Storage, format!("cannot save the state: {what}"))
}

impl Witness {
    fn look(&self) -> Result<(), StageError> {
        if self.life.is_dead() { Err(failure("the process is dead")) } else { Ok(()) }
    }

    fn change(&self) -> Result<(), StageError> {
        if !self.life.effect() {
            return Err(failure("the process is dead"));
        }
        let now = self.clock.true_ms();
        if self.weather.disk_full(now) && self.life.dice().once_in(3) {
            return Err(failure("no space left on device (simulated)"));
        }
        if self.weather.disk_flaky(now) && self.life.dice().once_in(25) {
            return Err(failure("an input/output error (simulated)"));
        }
        Ok(())
    }
}

impl Store for Witness {
    fn binding(&self) -> Result<Option<Binding>, StageError> {
        self.look()?;
        self.inner.binding()
    }
    fn bind(&self, binding: &Binding) -> Result<(), StageError> {
        self.change()?;
        self.inner.bind(binding)
    }
    fn each_chunk(&self, each: &mut EachChunk<'_>) -> Result<(), StageError> {
        self.look()?;
        self.inner.each_chunk(each)
    }
    fn each_key_part(&self, each: &mut EachPart<'_>) -> Result<(), StageError> {
        self.look()?;
        self.inner.each_key_part(each)
    }
    fn fold_keys(&self, chunks: &mut dyn Iterator<Item = (ChunkKey, Vec<u8>)>) -> Result<(), StageError> {
        self.change()?;
        self.inner.fold_keys(chunks)
    }
    fn run(&self, run_id: &str) -> Result<Option<RunRecord>, StageError> {
        self.look()?;
        self.inner.run(run_id)
    }
    fn note(&self, name: &str) -> Result<Option<Value>, StageError> {
        self.look()?;
        self.inner.note(name)
    }
    fn set_note(&self, name: &str, value: &Value) -> Result<(), StageError> {
        self.change()?;
        self.inner.set_note(name, value)
    }
    fn size(&self) -> Result<u64, StageError> {
        self.look()?;
        self.inner.size()
    }
    fn last_epoch(&self) -> Result<Option<LastEpoch>, StageError> {
        self.look()?;
        self.inner.last_epoch()
    }
    fn commit_epoch(&self, commit: &EpochCommit) -> Result<(), StageError> {
        self.change()?;
        self.inner.commit_epoch(commit)?;
        for (_, split) in &commit.splits {
            if split.status == SplitStatus::Ok {
                self.ledger.stored(&commit.run_id, &split.split.id);
            } else {
                self.ledger.violation(format!("{}: {} was committed in part, though it has few rows", commit.run_id, split.split.id));
            }
        }
        self.ledger.committed(commit.dedupe.chunks.len(), commit.dedupe.chunks.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0));
        // It is saved, and yet nobody is told.
        if self.weather.disk_flaky(self.clock.true_ms()) && self.life.dice().once_in(10) {
            return Err(failure("an input/output error after it was saved (simulated)"));
        }
        Ok(())
    }
    fn reopen(&self) -> Result<(), StageError> {
        self.look()?;
        self.inner.reopen()
    }
    fn record(&self, sink: &str, key: &str) -> Result<Option<Value>, StageError> {
        self.look()?;
        self.inner.record(sink, key)
    }
    fn records(&self, sink: &str) -> Result<Vec<(String, Value)>, StageError> {
        self.look()?;
        self.inner.records(sink)
    }
    fn chunks(&self, keys: &[ChunkKey]) -> Result<Vec<Option<Vec<u8>>>, StageError> {
        self.look()?;
        self.inner.chunks(keys)
    }
    fn keyed(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<u64>>, StageError> {
        self.look()?;
        self.inner.keyed(keys)
    }
    fn dedupe_meta(&self, name: &str) -> Result<Option<Value>, StageError> {
        self.look()?;
        self.inner.dedupe_meta(name)
    }
    fn dedupe_size(&self) -> Result<(u64, u64), StageError> {
        self.look()?;
        self.inner.dedupe_size()
    }
    fn each_reject(&self, each: &mut dyn FnMut(RejectHash)) -> Result<(), StageError> {
        self.look()?;
        self.inner.each_reject(each)
    }
    fn rejects(&self, hashes: &[RejectHash]) -> Result<Vec<Option<bool>>, StageError> {
        self.look()?;
        self.inner.rejects(hashes)
    }
    fn open_run(&self) -> Result<Option<RunRecord>, StageError> {
        self.look()?;
        self.inner.open_run()
    }
    fn start_run(&self, run: &RunRecord, scheduled: bool) -> Result<(), StageError> {
        self.change()?;
        if let Some(tick) = self.inner.tick(run.tick)?.filter(|tick| tick.status == TickStatus::Ran) {
            self.ledger.violation(format!("the tick {} runs again, though it ran: {tick:?}", shown(run.tick.timestamp_millis())));
        }
        if run.status == RunStatus::Open && !run.splits.is_empty() {
            self.ledger.run_started(&run.splits.iter().map(|split| split.split.id.clone()).collect::<Vec<_>>());
        }
        self.inner.start_run(run, scheduled)
    }
    fn end_run(&self, run: &RunRecord) -> Result<(), StageError> {
        self.change()?;
        self.inner.end_run(run)?;
        // Before it can be pruned: a process that catches up with days forgets many ticks before it ends.
        if let Some(tick) = self.inner.tick(run.tick)?.filter(|tick| tick.status == TickStatus::Ran) {
            self.ledger.ran(tick.tick.timestamp_millis(), &run.run_id);
        }
        Ok(())
    }
    fn runs(&self, limit: usize) -> Result<Vec<RunRecord>, StageError> {
        self.look()?;
        self.inner.runs(limit)
    }
    fn tick(&self, tick: DateTime<Utc>) -> Result<Option<TickRecord>, StageError> {
        self.look()?;
        self.inner.tick(tick)
    }
    fn last_tick(&self, limit: Option<DateTime<Utc>>) -> Result<Option<DateTime<Utc>>, StageError> {
        self.look()?;
        self.inner.last_tick(limit)
    }
    fn skip_ticks(&self, ticks: &[TickRecord]) -> Result<(), StageError> {
        self.change()?;
        let now = self.clock.wall_ms();
        for skipped in ticks.iter().filter(|tick| tick.reason.as_ref().is_none_or(|reason| reason.starts_with("missed"))) {
            let until = skipped.until.timestamp_millis();
            if self.ledger.is_latest(until, now) {
                self.ledger.violation(format!("the tick {} was the latest and was not caught up with: {:?}", shown(until), skipped.reason));
            }
        }
        self.inner.skip_ticks(ticks)
    }
    fn ticks(&self, limit: usize) -> Result<Vec<TickRecord>, StageError> {
        self.look()?;
        self.inner.ticks(limit)
    }
    fn prune(&self, keep: usize, before: Option<DateTime<Utc>>) -> Result<(), StageError> {
        self.change()?;
        self.inner.prune(keep, before)
    }
    fn rebuild(&self, rebuilt: &Rebuilt) -> Result<(), StageError> {
        self.change()?;
        self.inner.rebuild(rebuilt)
    }
}
