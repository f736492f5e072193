//! The engine on a simulated disk and a state whose every transaction is a step that can be the last one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline::config::{self, Env, SourceFile};
use pipeline::plan::{self, Registry};
use pipeline::run::{Engine, RunRequest};
use pipeline::state::{
    Binding, ChunkKey, Counts, EachChunk, EachPart, EpochCommit, LastEpoch, ModelStore, Rebuilt, RejectHash, RunRecord, RunStatus, SplitStatus,
    Store, TickRecord,
};
use pipeline_contract::testkit::{Answer, SimDisk, Survives, TestBudget, TestRandom, TestTransport};
use pipeline_contract::{CancellationToken, Category, Clock, Epoch, Ports, StageError, async_trait};
use serde_json::Value;

use crate::tape::{TapePlugin, ticks};

/// What is done with a known key whose row has other values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflicts {
    KeepFirst,
    KeepLast,
}

impl Conflicts {
    fn pipeline(self) -> String {
        let on_conflict = if self == Self::KeepFirst { "keep_first" } else { "keep_last" };
        format!(
            r#"
            name = "crash"
            [trigger]
            type = "manual"
            [run]
            concurrency = 2
            epoch_rows = 4
            [source]
            type = "tape"
            [validate]
            on_reject = "quarantine"
            [[validate.rules]]
            name = "positive"
            expr = "value >= 0"
            [dedupe]
            keys = ["series", "timestamp"]
            on_conflict = "{on_conflict}"
            [[sink]]
            type = "csv"
            path = "data/{{series}}_{{timestamp:%Y}}.csv"
            [[sink]]
            type = "csv"
            path = "mirror/{{timestamp:%Y}}/all.csv"
            "#
        )
    }
}

/// Tokio's paused clock: time passes when nobody works.
#[derive(Debug)]
struct PausedClock {
    start: DateTime<Utc>,
    began: tokio::time::Instant,
}

#[async_trait]
impl Clock for PausedClock {
    fn now(&self) -> DateTime<Utc> {
        self.start + self.began.elapsed()
    }
    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// What a state does when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// Nothing is saved.
    No,
    /// It is, and yet an error is answered.
    Yes,
    /// It never fails: it is on another disk than the files.
    Elsewhere,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    /// The epoch whose commit is the last thing that the state does, and whether it does that.
    epoch: Epoch,
    saved: Saved,
    gone: bool,
}

/// The state, whose every transaction is a step of the same process that writes the files: it can fail, and nothing is saved after the end.
struct SteppedStore {
    model: ModelStore,
    disk: SimDisk,
    saved: Saved,
    lost: Arc<Mutex<Option<Lost>>>,
}

fn unsaved(error: &std::io::Error) -> StageError {
    StageError::operator(Category::Storage, format!("cannot save the state in state/crash/state.db: {error}")).help("free space, then run again")
}

impl SteppedStore {
    fn step<T>(&self, what: &str, save: impl FnOnce(&ModelStore) -> Result<T, StageError>) -> Result<T, StageError> {
        self.alive()?;
        match self.disk.step(&format!("state: {what}")) {
            Ok(()) => save(&self.model),
            Err(error) => {
                let saved = if self.saved == Saved::No || self.disk.is_dead() { None } else { Some(save(&self.model)?) };
                saved.filter(|_| self.saved == Saved::Elsewhere).ok_or_else(|| unsaved(&error))
            }
        }
    }

    /// What is done after the end reads and saves nothing.
    fn alive(&self) -> Result<(), StageError> {
        let gone = self.lost.lock().unwrap().is_some_and(|lost| lost.gone);
        if self.disk.is_dead() || gone { Err(unsaved(&std::io::Error::other("it is gone"))) } else { Ok(()) }
    }

    fn read<T>(&self, read: impl FnOnce(&ModelStore) -> Result<T, StageError>) -> Result<T, StageError> {
        self.alive()?;
        read(&self.model)
    }
}

impl Store for SteppedStore {
    fn binding(&self) -> Result<Option<Binding>, StageError> {
        self.read(|model| model.binding())
    }
    fn bind(&self, binding: &Binding) -> Result<(), StageError> {
        self.step("bind", |model| model.bind(binding))
    }
    fn last_epoch(&self) -> Result<Option<LastEpoch>, StageError> {
        self.read(|model| model.last_epoch())
    }
    fn reopen(&self) -> Result<(), StageError> {
        self.alive()
    }
    fn commit_epoch(&self, commit: &EpochCommit) -> Result<(), StageError> {
        let mut lost = self.lost.lock().unwrap();
        if let Some(lost) = lost.as_mut().filter(|lost| lost.epoch == commit.epoch) {
            lost.gone = true;
            if lost.saved == Saved::Yes {
                self.model.commit_epoch(commit)?;
            }
            return Err(unsaved(&std::io::Error::other("it is gone")));
        }
        drop(lost);
        self.step(&format!("epoch {}", commit.epoch), |model| model.commit_epoch(commit))
    }
    fn record(&self, sink: &str, key: &str) -> Result<Option<Value>, StageError> {
        self.read(|model| model.record(sink, key))
    }
    fn records(&self, sink: &str) -> Result<Vec<(String, Value)>, StageError> {
        self.read(|model| model.records(sink))
    }
    fn chunks(&self, keys: &[ChunkKey]) -> Result<Vec<Option<Vec<u8>>>, StageError> {
        self.read(|model| model.chunks(keys))
    }
    fn keyed(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<u64>>, StageError> {
        self.read(|model| model.keyed(keys))
    }
    fn dedupe_meta(&self, name: &str) -> Result<Option<Value>, StageError> {
        self.read(|model| model.dedupe_meta(name))
    }
    fn each_chunk(&self, each: &mut EachChunk<'_>) -> Result<(), StageError> {
        self.read(|model| model.each_chunk(each))
    }
    fn each_key_part(&self, each: &mut EachPart<'_>) -> Result<(), StageError> {
        self.read(|model| model.each_key_part(each))
    }
    fn fold_keys(&self, chunks: &mut dyn Iterator<Item = (ChunkKey, Vec<u8>)>) -> Result<(), StageError> {
        self.step("the log of keys in its place", |model| model.fold_keys(chunks))
    }
    fn run(&self, run_id: &str) -> Result<Option<RunRecord>, StageError> {
        self.read(|model| model.run(run_id))
    }
    fn note(&self, name: &str) -> Result<Option<Value>, StageError> {
        self.read(|model| model.note(name))
    }
    fn set_note(&self, name: &str, value: &Value) -> Result<(), StageError> {
        self.step("note", |model| model.set_note(name, value))
    }
    fn size(&self) -> Result<u64, StageError> {
        self.read(|model| model.size())
    }
    fn dedupe_size(&self) -> Result<(u64, u64), StageError> {
        self.read(|model| model.dedupe_size())
    }
    fn each_reject(&self, each: &mut dyn FnMut(RejectHash)) -> Result<(), StageError> {
        self.read(|model| model.each_reject(each))
    }
    fn rejects(&self, hashes: &[RejectHash]) -> Result<Vec<Option<bool>>, StageError> {
        self.read(|model| model.rejects(hashes))
    }
    fn open_run(&self) -> Result<Option<RunRecord>, StageError> {
        self.read(|model| model.open_run())
    }
    fn start_run(&self, run: &RunRecord, scheduled: bool) -> Result<(), StageError> {
        self.step("start of a run", |model| model.start_run(run, scheduled))
    }
    fn end_run(&self, run: &RunRecord) -> Result<(), StageError> {
        self.step("end of a run", |model| model.end_run(run))
    }
    fn runs(&self, limit: usize) -> Result<Vec<RunRecord>, StageError> {
        self.read(|model| model.runs(limit))
    }
    fn tick(&self, tick: DateTime<Utc>) -> Result<Option<TickRecord>, StageError> {
        self.read(|model| model.tick(tick))
    }
    fn last_tick(&self, limit: Option<DateTime<Utc>>) -> Result<Option<DateTime<Utc>>, StageError> {
        self.read(|model| model.last_tick(limit))
    }
    fn skip_ticks(&self, ticks: &[TickRecord]) -> Result<(), StageError> {
        self.step("skipped ticks", |model| model.skip_ticks(ticks))
    }
    fn ticks(&self, limit: usize) -> Result<Vec<TickRecord>, StageError> {
        self.read(|model| model.ticks(limit))
    }
    fn prune(&self, keep: usize, before: Option<DateTime<Utc>>) -> Result<(), StageError> {
        self.step("forgotten runs", |model| model.prune(keep, before))
    }
    fn rebuild(&self, rebuilt: &Rebuilt) -> Result<(), StageError> {
        self.step("rebuild", |model| model.rebuild(rebuilt))
    }
}

/// What survives a process, and how it is disturbed.
pub(crate) struct World {
    conflicts: Conflicts,
    scheduled: bool,
    pub(crate) disk: SimDisk,
    pub(crate) model: ModelStore,
    /// What a transaction of the state has done when it reports a fault.
    pub(crate) saved: Saved,
    lost: Arc<Mutex<Option<Lost>>>,
}

impl World {
    pub(crate) fn new(conflicts: Conflicts) -> Self {
        Self { conflicts, scheduled: false, disk: SimDisk::new(), model: ModelStore::new(), saved: Saved::No, lost: Arc::default() }
    }

    /// The runs are fired by the trigger, not by hand.
    pub(crate) fn scheduled(mut self, scheduled: bool) -> Self {
        self.scheduled = scheduled;
        self
    }

    /// The state can neither be read nor written any more once it was told to save this epoch, until it is found again.
    pub(crate) fn lose_state_at(&self, epoch: Epoch, saved: Saved) {
        *self.lost.lock().unwrap() = Some(Lost { epoch, saved, gone: false });
    }

    pub(crate) fn find_state(&self) {
        *self.lost.lock().unwrap() = None;
    }

    /// A new process on what the last one left on disk.
    pub(crate) fn crash(&mut self, survives: Survives) {
        self.disk = self.disk.crash(survives);
        self.find_state();
    }

    /// A new process.
    pub(crate) fn engine(&self) -> Engine {
        let file = SourceFile { path: PathBuf::from("crash.toml"), text: self.conflicts.pipeline() };
        let (def, faults) = config::parse(&file, &Env::from_iter(Vec::<(String, String)>::new()));
        assert!(faults.is_empty(), "{faults:?}");
        let mut registry = Registry::new();
        registry.add([Box::new(TapePlugin) as _]);
        registry.add(pipeline_triggers::plugins());
        registry.add(pipeline_sink_csv::plugins());
        let (plan, _, faults) = plan::plan(&def, &registry);
        let plan = plan.unwrap_or_else(|| panic!("{faults:?}"));
        let ports = Ports {
            clock: Arc::new(PausedClock { start: ticks()[2], began: tokio::time::Instant::now() }),
            random: TestRandom::new(1),
            disk: Arc::new(self.disk.clone()),
            transport: TestTransport::in_turn(Vec::<Answer>::new()),
            budget: Arc::new(TestBudget::default()),
        };
        let store = SteppedStore { model: self.model.clone(), disk: self.disk.clone(), saved: self.saved, lost: Arc::clone(&self.lost) };
        Engine::new(plan.parts, Arc::new(store), ports, PathBuf::from("state/crash"), Arc::new(|_| {})).unwrap()
    }

    pub(crate) async fn run(&self, engine: &mut Engine, tick: usize) -> RunRecord {
        let request = RunRequest { scheduled: self.scheduled, ..RunRequest::scheduled(ticks()[tick]) };
        engine.run(&request, &CancellationToken::new()).await
    }

    pub(crate) async fn resume(&self, engine: &mut Engine) -> Result<Option<RunRecord>, StageError> {
        engine.resume(&CancellationToken::new(), self.scheduled).await
    }

    /// The ticks that have no run which ended.
    pub(crate) fn to_do(&self) -> std::ops::Range<usize> {
        let runs = self.model.runs(10).unwrap();
        let ended =
            |tick: &DateTime<Utc>| runs.iter().any(|run| run.tick == *tick && !matches!(run.status, RunStatus::Open | RunStatus::Interrupted));
        let first = ticks().iter().position(|tick| !ended(tick)).unwrap_or(3);
        first..3
    }

    /// Every run in the state: when, how it ended, what it stored.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<_> = self.model.runs(10).unwrap().iter().map(Run::of).collect();
        runs.sort_by_key(|run| run.tick);
        runs
    }

    /// Everything but the state's own folder.
    pub(crate) fn outputs(&self) -> BTreeMap<String, String> {
        outputs(&self.disk)
    }
}

pub(crate) fn outputs(disk: &SimDisk) -> BTreeMap<String, String> {
    disk.files().into_iter().filter(|(path, _)| !path.starts_with("state/")).collect()
}

/// What a run's record says, however often the process died on the way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) tick: DateTime<Utc>,
    pub(crate) status: RunStatus,
    rows: Counts,
    splits: Vec<(String, SplitStatus, Counts, Option<String>)>,
}

impl Run {
    pub(crate) fn of(record: &RunRecord) -> Self {
        let splits = record.splits.iter();
        let splits = splits.map(|s| (s.split.id.clone(), s.status, s.rows, s.error.as_ref().map(|error| error.message.clone()))).collect();
        Self { tick: record.tick, status: record.status, rows: record.rows, splits }
    }
}

/// Runs a test's process on a runtime of its own, whose time passes when nobody works.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}
