//! The state in memory, for tests.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, SubsecRound, Utc};
use pipeline_contract::{Category, SinkState, StageError};
use serde_json::Value;

use super::{
    Binding, ChunkKey, DedupeChanges, EachChunk, EpochCommit, LastEpoch, Rebuilt, RejectHash, RunRecord, RunStatus, SplitRecord, Store, TickRecord,
    TickStatus, check_next,
};

/// How a commit is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing of it is saved.
    Before,
    /// All of it is saved, and yet it answers with an error: an unknown outcome.
    After,
}

/// The state in memory. Its clones share it, so that a test can drop everything else and start again on the same state.
#[derive(Clone, Debug, Default)]
pub struct ModelStore(Arc<Mutex<Model>>);

#[derive(Debug, Default)]
struct Model {
    binding: Option<Binding>,
    last: Option<LastEpoch>,
    records: BTreeMap<(String, String), Value>,
    chunks: HashMap<ChunkKey, Vec<u8>>,
    keyed: HashMap<Vec<u8>, u64>,
    meta: BTreeMap<String, Value>,
    rejects: HashMap<RejectHash, bool>,
    /// In the order in which they were opened.
    runs: Vec<RunRecord>,
    ticks: BTreeMap<DateTime<Utc>, TickRecord>,
    notes: BTreeMap<String, Value>,
    fault: Option<CommitFault>,
}

impl Model {
    fn apply_records(&mut self, sinks: &[(String, SinkState)]) {
        for (sink, SinkState(changes)) in sinks {
            for (key, value) in changes {
                let place = (sink.clone(), key.clone());
                if value.is_null() {
                    self.records.remove(&place)
                } else {
                    self.records.insert(place, value.clone())
                };
            }
        }
    }

    fn apply_dedupe(&mut self, changes: &DedupeChanges) {
        self.chunks.extend(changes.chunks.iter().cloned());
        self.keyed.extend(changes.keyed.iter().cloned());
        self.meta.extend(changes.meta.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    fn run_with(&mut self, commit: &EpochCommit) -> Result<&mut RunRecord, StageError> {
        let missing = || StageError::developer(format!("epoch {} belongs to the run {}, which was not started", commit.epoch, commit.run_id));
        let run = self.runs.iter_mut().find(|run| run.run_id == commit.run_id).ok_or_else(missing)?;
        match commit.splits.iter().find(|(place, _)| *place >= run.splits.len()) {
            Some((place, _)) => Err(StageError::developer(format!(
                "epoch {} changes the split {place} of the run {}, which has none there",
                commit.epoch, commit.run_id
            ))),
            None => Ok(run),
        }
    }

    fn apply_epoch(&mut self, commit: &EpochCommit) -> Result<(), StageError> {
        check_next(self.last.as_ref().map(|(epoch, _)| *epoch), commit.epoch)?;
        let run = self.run_with(commit)?;
        // From here on nothing fails.
        run.rows = commit.rows;
        for (place, split) in &commit.splits {
            if let Some(old) = run.splits.get_mut(*place) {
                *old = SplitRecord::clone(split);
            }
        }
        self.last = Some((commit.epoch, commit.sinks.clone()));
        self.apply_records(&commit.sinks);
        self.apply_dedupe(&commit.dedupe);
        for hash in &commit.forgotten {
            self.rejects.remove(hash);
        }
        self.rejects.extend(commit.rejects.iter().map(|hash| (*hash, false)));
        self.rejects.extend(commit.replayed.iter().map(|hash| (*hash, true)));
        Ok(())
    }
}

/// Instants are kept to the microsecond.
fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}

fn kept(run: &RunRecord) -> RunRecord {
    RunRecord { tick: micros(run.tick), started_at: micros(run.started_at), ended_at: run.ended_at.map(micros), ..run.clone() }
}

impl ModelStore {
    /// An empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next commit of an epoch fail; the one after it does not.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        self.model().fault = Some(fault);
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for ModelStore {
    fn binding(&self) -> Result<Option<Binding>, StageError> {
        Ok(self.model().binding.clone())
    }

    fn bind(&self, binding: &Binding) -> Result<(), StageError> {
        self.model().binding = Some(binding.clone());
        Ok(())
    }

    fn last_epoch(&self) -> Result<Option<LastEpoch>, StageError> {
        Ok(self.model().last.clone())
    }

    fn reopen(&self) -> Result<(), StageError> {
        Ok(())
    }

    fn commit_epoch(&self, commit: &EpochCommit) -> Result<(), StageError> {
        let mut model = self.model();
        let fault = model.fault.take();
        if fault != Some(CommitFault::Before) {
            model.apply_epoch(commit)?;
        }
        match fault {
            Some(_) => Err(StageError::operator(Category::Storage, "cannot save the state: a test makes this commit fail")),
            None => Ok(()),
        }
    }

    fn record(&self, sink: &str, key: &str) -> Result<Option<Value>, StageError> {
        Ok(self.model().records.get(&(sink.to_owned(), key.to_owned())).cloned())
    }

    fn records(&self, sink: &str) -> Result<Vec<(String, Value)>, StageError> {
        let model = self.model();
        let of_sink = model.records.range((sink.to_owned(), String::new())..).take_while(|((owner, _), _)| owner == sink);
        Ok(of_sink.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn chunks(&self, keys: &[ChunkKey]) -> Result<Vec<Option<Vec<u8>>>, StageError> {
        let model = self.model();
        Ok(keys.iter().map(|key| model.chunks.get(key).cloned()).collect())
    }

    fn keyed(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<u64>>, StageError> {
        let model = self.model();
        Ok(keys.iter().map(|key| model.keyed.get(key).copied()).collect())
    }

    fn dedupe_meta(&self, name: &str) -> Result<Option<Value>, StageError> {
        Ok(self.model().meta.get(name).cloned())
    }

    fn each_chunk(&self, each: &mut EachChunk<'_>) -> Result<(), StageError> {
        let mut chunks: Vec<_> = self.model().chunks.iter().map(|(key, data)| (key.clone(), data.clone())).collect();
        chunks.sort_unstable();
        chunks.into_iter().try_for_each(|(key, data)| each(key, &data))
    }

    fn dedupe_size(&self) -> Result<(u64, u64), StageError> {
        let model = self.model();
        Ok((model.chunks.len() as u64, model.keyed.len() as u64))
    }

    fn each_reject(&self, each: &mut dyn FnMut(RejectHash)) -> Result<(), StageError> {
        self.model().rejects.keys().for_each(|hash| each(*hash));
        Ok(())
    }

    fn rejects(&self, hashes: &[RejectHash]) -> Result<Vec<Option<bool>>, StageError> {
        let model = self.model();
        Ok(hashes.iter().map(|hash| model.rejects.get(hash).copied()).collect())
    }

    fn open_run(&self) -> Result<Option<RunRecord>, StageError> {
        Ok(self.model().runs.iter().rfind(|run| run.status == RunStatus::Open).cloned())
    }

    fn start_run(&self, run: &RunRecord, scheduled: bool) -> Result<(), StageError> {
        let mut model = self.model();
        model.runs.retain(|old| old.run_id != run.run_id);
        model.runs.push(kept(run));
        if scheduled {
            let tick = micros(run.tick);
            let record = TickRecord { tick, until: tick, count: 1, status: TickStatus::Running, reason: None, run_id: Some(run.run_id.clone()) };
            model.ticks.insert(tick, record);
        }
        Ok(())
    }

    fn end_run(&self, run: &RunRecord) -> Result<(), StageError> {
        let mut model = self.model();
        match model.runs.iter_mut().find(|old| old.run_id == run.run_id) {
            Some(old) => *old = kept(run),
            None => model.runs.push(kept(run)),
        }
        for tick in model.ticks.values_mut().filter(|tick| tick.run_id.as_ref() == Some(&run.run_id)) {
            tick.status = TickStatus::Ran;
        }
        Ok(())
    }

    fn runs(&self, limit: usize) -> Result<Vec<RunRecord>, StageError> {
        Ok(self.model().runs.iter().rev().take(limit).cloned().collect())
    }

    fn tick(&self, tick: DateTime<Utc>) -> Result<Option<TickRecord>, StageError> {
        let tick = micros(tick);
        Ok(self.model().ticks.range(..=tick).rev().map(|(_, record)| record).find(|record| tick <= record.until).cloned())
    }

    fn last_tick(&self, limit: Option<DateTime<Utc>>) -> Result<Option<DateTime<Utc>>, StageError> {
        let limit = limit.map_or(DateTime::<Utc>::MAX_UTC, micros);
        Ok(self.model().ticks.range(..=limit).map(|(_, record)| record.until.min(limit)).max())
    }

    fn skip_ticks(&self, ticks: &[TickRecord]) -> Result<(), StageError> {
        let mut model = self.model();
        for record in ticks {
            let record = TickRecord { tick: micros(record.tick), until: micros(record.until), ..record.clone() };
            model.ticks.insert(record.tick, record);
        }
        Ok(())
    }

    fn ticks(&self, limit: usize) -> Result<Vec<TickRecord>, StageError> {
        Ok(self.model().ticks.values().rev().take(limit).cloned().collect())
    }

    fn run(&self, run_id: &str) -> Result<Option<RunRecord>, StageError> {
        Ok(self.model().runs.iter().find(|run| run.run_id == run_id).cloned())
    }

    fn note(&self, name: &str) -> Result<Option<Value>, StageError> {
        Ok(self.model().notes.get(name).cloned())
    }

    fn set_note(&self, name: &str, value: &Value) -> Result<(), StageError> {
        self.model().notes.insert(name.to_owned(), value.clone());
        Ok(())
    }

    fn size(&self) -> Result<u64, StageError> {
        Ok(self.model().chunks.values().map(|data| data.len() as u64).sum())
    }

    fn prune(&self, keep: usize, before: Option<DateTime<Utc>>) -> Result<(), StageError> {
        let mut model = self.model();
        // The oldest one after another, up to the first that is young enough; never the last.
        let aged = |times: &mut dyn Iterator<Item = DateTime<Utc>>, all: usize| {
            let old = before.map_or(0, |before| times.take_while(|at| *at < before).count());
            old.min(all.saturating_sub(1)).max(all.saturating_sub(keep))
        };
        let old = aged(&mut model.runs.iter().map(|run| run.tick), model.runs.len());
        let mut place = 0;
        model.runs.retain(|run| {
            place += 1;
            place > old || run.status == RunStatus::Open
        });
        let old = aged(&mut model.ticks.values().map(|tick| tick.until), model.ticks.len());
        let mut place = 0;
        model.ticks.retain(|_, tick| {
            place += 1;
            place > old || tick.status == TickStatus::Running
        });
        Ok(())
    }

    fn rebuild(&self, rebuilt: &Rebuilt) -> Result<(), StageError> {
        let mut model = self.model();
        model.binding = Some(rebuilt.binding.clone());
        if let Some((_, sinks)) = &mut model.last {
            sinks.clear();
        }
        model.records.clear();
        model.apply_records(&rebuilt.sinks);
        model.chunks.clear();
        model.keyed.clear();
        model.meta.clear();
        model.apply_dedupe(&rebuilt.dedupe);
        model.rejects = rebuilt.rejects.iter().copied().collect();
        Ok(())
    }
}
