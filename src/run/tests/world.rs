//! A small world for the engine's own tests: a scripted source, a shelf for a sink, time that passes when nobody works.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::arrow::array::BooleanArray;
use pipeline_contract::arrow::{RecordBatch, SchemaRef};
use pipeline_contract::testkit::{Answer, TestBudget, TestRandom, TestTransport};
use pipeline_contract::{
    Ahead, BatchStream, Begun, Clock, Delivery, Epoch, Filling, Filter, Gap, Op, PlanError, Ports, Position, Read, Reader, RealDisk, Recovery,
    Refusal, Reject, Row, RunContext, Sink, SinkCapabilities, SinkContext, SinkInput, SinkPlan, SinkState, Source, SourceCapabilities, Split,
    StageError, Trigger, async_trait, parse_config, row_json, rows, select_rows, table_from_str,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::run::{CatchUp, Engine, FindMissing, Missing, Overrun, Parts, RunRequest, Settings, SinkPart};
use crate::stages::dedupe::{DedupePlan, OnConflict};
use crate::stages::validate::{OnReject, Validator};
use crate::state::{ChunkKey, ModelStore, RunRecord, Store};

rows! {
    /// A row of the tests.
    pub(super) struct Sample {
        /// Which split it came from.
        pub(super) series: String,
        /// When.
        pub(super) timestamp: DateTime<Utc>,
        /// What.
        pub(super) value: f64,
    }
}

/// Tokio's clock, which stands still while something works when the test is `start_paused`.
#[derive(Debug)]
pub(super) struct TokioClock {
    start: DateTime<Utc>,
    began: tokio::time::Instant,
    /// How far the wall clock was stepped, in seconds.
    pub(super) stepped: std::sync::atomic::AtomicI64,
}

impl TokioClock {
    pub(super) fn new(start: &str) -> Arc<Self> {
        let start = start.parse().unwrap();
        Arc::new(Self { start, began: tokio::time::Instant::now(), stepped: std::sync::atomic::AtomicI64::new(0) })
    }
}

#[async_trait]
impl Clock for TokioClock {
    fn now(&self) -> DateTime<Utc> {
        self.start + self.began.elapsed() + TimeDelta::seconds(self.stepped.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// One step of a split's script.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Rows with these minutes, value = minute.
    Rows(Vec<i64>),
    /// Rows with these minutes and another value.
    Other(Vec<i64>),
    /// So many rows that are none.
    Bad(usize),
    /// An error, once: the next opening passes it.
    Once(StageError),
    /// An error, always.
    Always(StageError),
    /// A wait.
    Wait(Duration),
}

/// A split and the position that it was opened with.
type Opening = (String, Option<u64>);

/// A source that does what its script says.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) splits: Vec<(&'static str, Vec<Step>)>,
    pub(super) resumable: bool,
    pub(super) listing: Option<StageError>,
    /// How it fills gaps.
    pub(super) filling: Filler,
    /// Every gap that it was asked to fill, by call: series, first minute, last.
    pub(super) asked: Arc<Mutex<Vec<Vec<String>>>>,
    /// Every opening: split and position.
    pub(super) opened: Arc<Mutex<Vec<Opening>>>,
    passed: Arc<Mutex<std::collections::HashSet<(String, usize)>>>,
}

/// Rules as they stand below `[validate]`.
fn rule(toml: &str) -> Validator {
    let config = parse_config("[validate]", &table_from_str(toml).unwrap()).unwrap();
    Validator::new(&Sample::schema(), &config, 0..toml.len()).unwrap()
}

/// How a script fills gaps.
#[derive(Clone, Debug, Default)]
pub(super) struct Filler {
    /// Those of this series are refused.
    pub(super) refuses: Option<&'static str>,
    /// Those of this series take so long.
    pub(super) slow: Option<(&'static str, Duration)>,
    /// What it brings is none of it: it promised too much.
    pub(super) barren: bool,
}

/// A gap as tests show it.
pub(super) fn shown(gap: &Gap) -> String {
    format!("{} {}..{}", gap.series["series"].as_str().unwrap(), minute_of(gap.from), minute_of(gap.to))
}

fn minute_of(at: DateTime<Utc>) -> i64 {
    at.timestamp() / 60
}

/// A gap of a series: its first minute that is missing, and the first that is there again.
pub(super) fn gap(series: &str, from: i64, to: i64) -> Gap {
    let series = serde_json::Map::from_iter([("series".to_owned(), json!(series))]);
    Gap { series, from: minute(from), to: minute(to), missing: u64::try_from(to - from).unwrap() }
}

impl Script {
    pub(super) fn new(splits: Vec<(&'static str, Vec<Step>)>) -> Self {
        Self {
            splits,
            resumable: true,
            listing: None,
            filling: Filler::default(),
            asked: Arc::default(),
            opened: Arc::default(),
            passed: Arc::default(),
        }
    }
}

impl Script {
    fn filled(&self, series: &str, data: &serde_json::Value) -> Vec<Step> {
        let minutes = data["from"].as_i64().unwrap()..data["to"].as_i64().unwrap();
        let wait = self.filling.slow.filter(|(slow, _)| *slow == series).map(|(_, wait)| Step::Wait(wait));
        let rows = (!self.filling.barren).then(|| Step::Rows(minutes.collect()));
        wait.into_iter().chain(rows).collect()
    }
}

#[async_trait]
impl Source for Script {
    fn schema(&self) -> SchemaRef {
        Sample::schema()
    }
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { windows: true, resumable: self.resumable, requests_per_run: None }
    }
    async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
        match &self.listing {
            Some(error) => Err(error.clone()),
            None => Ok(self.splits.iter().map(|(id, _)| Split::new(*id)).collect()),
        }
    }
    fn fills(&self) -> bool {
        true
    }
    async fn fill(&self, gaps: &[Gap], _: &RunContext) -> Result<Filling, StageError> {
        self.asked.lock().unwrap().push(gaps.iter().map(shown).collect());
        let mut filling = Filling::default();
        for gap in gaps {
            let series = gap.series["series"].as_str().unwrap();
            if self.filling.refuses == Some(series) {
                filling.refused.push(Refusal { gap: gap.clone(), reason: "too long ago for this plan".to_owned() });
            } else {
                let data = json!({"series": series, "from": minute_of(gap.from), "to": minute_of(gap.to)});
                filling.splits.push(Split { id: format!("fill {}", shown(gap)), data });
            }
        }
        Ok(filling)
    }
    async fn open(&self, split: &Split, resume: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        let at = resume.and_then(|position| position.0.as_u64());
        self.opened.lock().unwrap().push((split.id.clone(), at));
        let steps = self.splits.iter().find(|(id, _)| *id == split.id).map(|(_, steps)| steps.clone()).unwrap_or_default();
        let at = usize::try_from(at.unwrap_or(0)).unwrap();
        let (name, steps) = match split.data.get("series").and_then(serde_json::Value::as_str) {
            Some(series) => (series.to_owned(), self.filled(series, &split.data)),
            None => (split.id.clone(), steps),
        };
        Ok(Box::new(ScriptReader { split: name, steps, at, script: self.clone(), clock: Arc::clone(&run.ports.clock) }))
    }
    async fn probe(&self, _: &RunContext) -> Result<(), StageError> {
        Ok(())
    }
}

struct ScriptReader {
    split: String,
    steps: Vec<Step>,
    at: usize,
    script: Script,
    clock: Arc<dyn Clock>,
}

pub(super) fn minute(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
}

#[async_trait]
impl Reader for ScriptReader {
    #[expect(clippy::cast_precision_loss, reason = "small minutes")]
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        loop {
            let Some(step) = self.steps.get(self.at).cloned() else { return Ok(None) };
            let (minutes, add, bad) = match step {
                Step::Wait(duration) => {
                    self.clock.sleep(duration).await;
                    self.at += 1;
                    continue;
                }
                Step::Always(error) => return Err(error),
                Step::Once(error) => {
                    if self.script.passed.lock().unwrap().insert((self.split.clone(), self.at)) {
                        return Err(error);
                    }
                    self.at += 1;
                    continue;
                }
                Step::Rows(minutes) => (minutes, 0.0, 0),
                Step::Other(minutes) => (minutes, 0.5, 0),
                Step::Bad(count) => (Vec::new(), 0.0, count),
            };
            self.at += 1;
            let rows: Vec<Sample> =
                minutes.iter().map(|m| Sample { series: self.split.clone(), timestamp: minute(*m), value: *m as f64 + add }).collect();
            let rejects = (0..bad).map(|n| Reject::new(json!({"n": n, "split": self.split}), "script", "a bad row")).collect();
            return Ok(Some(Read { batch: Sample::batch(&rows), rejects, position: Position(json!(self.at)) }));
        }
    }
}

/// What a shelf holds and when it fails.
#[derive(Default)]
pub(super) struct ShelfState {
    pub(super) committed: Vec<String>,
    /// Prepared epochs that are not visible yet: what a crash between prepare and commit leaves.
    pub(super) prepared: BTreeMap<Epoch, Vec<String>>,
    /// Rows of this series cannot be written.
    pub(super) refuses: Option<String>,
    /// So many prepares have begun.
    pub(super) preparing: usize,
    /// So long takes each prepare.
    pub(super) prepare_takes: Duration,
    /// The next so many prepares fail with this.
    pub(super) prepare_fails: Option<(u32, StageError)>,
    /// After so many prepares, so many fail with this.
    pub(super) prepares_before_fault: Option<(u32, u32, StageError)>,
    /// Epochs with rows of this series cannot be prepared.
    pub(super) jams: Option<String>,
    /// The next so many aborts cannot take back what was prepared.
    pub(super) abort_fails: u32,
    /// The next so many commits fail.
    pub(super) commit_fails: u32,
    /// Each series has a file of its own; or else all are in one.
    pub(super) file_each: bool,
    pub(super) recovered: Vec<(Option<Epoch>, bool)>,
    pub(super) looked: usize,
    /// It begins with rows while it is at its disk.
    pub(super) begins: bool,
    /// With so many it did.
    pub(super) begun: usize,
}

/// A sink that keeps rows as texts.
pub(super) struct Shelf {
    pub(super) state: Arc<Mutex<ShelfState>>,
    open: Vec<String>,
}

impl Shelf {
    pub(super) fn new(state: &Arc<Mutex<ShelfState>>) -> Self {
        Self { state: Arc::clone(state), open: Vec::new() }
    }

    fn put(&mut self, texts: Vec<String>, op: Op) -> Result<(), StageError> {
        let state = self.state.lock().unwrap();
        for text in texts {
            if state.refuses.as_ref().is_some_and(|series| text.starts_with(series.as_str())) {
                return Err(StageError::split(pipeline_contract::Category::Storage, format!("{text} cannot be stored")));
            }
            self.open.push(if op == Op::Replace { format!("replace {text}") } else { text });
        }
        Ok(())
    }
}

/// Makes texts of rows before the shelf is back.
struct ShelfAhead(Arc<Mutex<ShelfState>>);

impl Ahead for ShelfAhead {
    fn begin(&self, batch: &RecordBatch, selection: Option<&BooleanArray>) -> Option<Begun> {
        let texts = selection.map_or_else(|| texts(batch), |selection| texts(&select_rows(batch, selection).unwrap()));
        self.0.lock().unwrap().begun += texts.len();
        Some(Box::new(texts))
    }
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    (0..batch.num_rows())
        .map(|row| {
            let row = row_json(batch, row);
            format!("{} {} {}", row["series"].as_str().unwrap(), &row["timestamp"].as_str().unwrap()[11..16], row["value"])
        })
        .collect()
}

#[async_trait]
impl Sink for Shelf {
    fn plan(&mut self, input: &SinkInput) -> Result<SinkPlan, Vec<PlanError>> {
        let stored: Vec<_> = input.schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(SinkPlan { written: stored.clone(), stored, identity: json!({}), targets: vec!["shelf".to_owned()], warnings: Vec::new() })
    }
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities { replace: true, delivery: Delivery::ExactlyOnce }
    }
    async fn recover(&mut self, _: &SinkContext, recovery: &Recovery) -> Result<(), StageError> {
        let mut state = self.state.lock().unwrap();
        let last = recovery.last.as_ref().map(|(epoch, _)| *epoch);
        state.recovered.push((last, recovery.run_was_open));
        if let Some(rows) = last.and_then(|epoch| state.prepared.remove(&epoch)) {
            state.committed.extend(rows);
        }
        if recovery.run_was_open {
            state.prepared.clear();
        }
        Ok(())
    }
    async fn write(&mut self, batch: &RecordBatch, op: Op) -> Result<(), StageError> {
        self.put(texts(batch), op)
    }
    fn ahead(&self) -> Option<Arc<dyn Ahead>> {
        let begins = self.state.lock().unwrap().begins;
        begins.then(|| Arc::new(ShelfAhead(Arc::clone(&self.state))) as _)
    }
    async fn write_begun(&mut self, begun: Begun) -> Result<(), StageError> {
        self.put(*begun.downcast().unwrap(), Op::Append)
    }
    fn changed_files(&self) -> usize {
        let series: BTreeSet<_> = self.open.iter().map(|text| text.split(' ').next()).collect();
        if self.state.lock().unwrap().file_each { series.len() } else { series.len().min(1) }
    }
    async fn look(&mut self, stored: &RecordBatch) -> Result<(), StageError> {
        self.state.lock().unwrap().looked += stored.num_rows();
        Ok(())
    }
    async fn prepare(&mut self, epoch: Epoch) -> Result<SinkState, StageError> {
        let takes = {
            let mut state = self.state.lock().unwrap();
            state.preparing += 1;
            state.prepare_takes
        };
        if takes > Duration::ZERO {
            tokio::time::sleep(takes).await;
        }
        let mut state = self.state.lock().unwrap();
        match state.prepares_before_fault.take() {
            Some((0, 1, error)) => return Err(error),
            Some((0, times, error)) => {
                state.prepares_before_fault = Some((0, times - 1, error.clone()));
                return Err(error);
            }
            Some((before, times, error)) => state.prepares_before_fault = Some((before - 1, times, error)),
            None => {}
        }
        if let Some((times, error)) = state.prepare_fails.take() {
            if times > 1 {
                state.prepare_fails = Some((times - 1, error.clone()));
            }
            return Err(error);
        }
        if let Some(jammed) = self.open.iter().find(|text| state.jams.as_ref().is_some_and(|series| text.starts_with(series.as_str()))) {
            return Err(StageError::split(pipeline_contract::Category::Storage, format!("{jammed} is jammed")));
        }
        if !state.prepared.is_empty() {
            return Err(StageError::developer("what was prepared before is still there"));
        }
        state.prepared.insert(epoch, std::mem::take(&mut self.open));
        Ok(SinkState([("rows".to_owned(), json!(state.committed.len()))].into()))
    }
    async fn commit(&mut self, epoch: Epoch, _: &SinkState) -> Result<(), StageError> {
        let mut state = self.state.lock().unwrap();
        if state.commit_fails > 0 {
            state.commit_fails -= 1;
            return Err(StageError::operator(pipeline_contract::Category::Storage, "the shelf is stuck"));
        }
        if let Some(rows) = state.prepared.remove(&epoch) {
            state.committed.extend(rows);
        }
        Ok(())
    }
    async fn abort(&mut self) -> Result<(), StageError> {
        self.open.clear();
        let mut state = self.state.lock().unwrap();
        if state.abort_fails > 0 {
            state.abort_fails -= 1;
            return Err(StageError::operator(pipeline_contract::Category::Storage, "nothing can be taken back"));
        }
        state.prepared.clear();
        Ok(())
    }
    async fn read_back(&self, _: &SinkContext, _: &Filter) -> Result<Box<dyn BatchStream>, StageError> {
        Err(StageError::developer("the shelf is not read"))
    }
    async fn adopt(&self, _: &SinkContext) -> Result<SinkState, StageError> {
        Ok(SinkState::default())
    }
    async fn probe(&self, _: &SinkContext) -> Result<(), StageError> {
        Ok(())
    }
}

/// Ticks at every whole number of minutes.
pub(super) struct EveryMinutes(pub(super) i64);

impl Trigger for EveryMinutes {
    fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let step = self.0 * 60;
        DateTime::from_timestamp((after.timestamp().div_euclid(step) + 1) * step, 0)
    }
    fn period(&self) -> Option<Duration> {
        Some(Duration::from_secs(u64::try_from(self.0).unwrap() * 60))
    }
}

/// Everything that a test's process would find again after a restart, and the script of its source.
pub(super) struct World {
    pub(super) script: Script,
    pub(super) store: ModelStore,
    pub(super) shelf: Arc<Mutex<ShelfState>>,
    pub(super) clock: Arc<TokioClock>,
    pub(super) settings: Settings,
    /// The columns of the key.
    pub(super) keys: [&'static str; 2],
    pub(super) on_conflict: OnConflict,
    pub(super) quarantine: Option<std::path::PathBuf>,
    /// Rows with larger values break a rule.
    pub(super) most: Option<i64>,
    pub(super) runs: Arc<AtomicU32>,
    /// The chunks of keys that were said to have changed.
    pub(super) changed: Arc<Mutex<Vec<ChunkKey>>>,
    /// Scheduled runs fill gaps: the series that should have all minutes from 1 to so many.
    pub(super) expects: Option<(Vec<&'static str>, i64)>,
    dir: tempfile::TempDir,
}

impl World {
    pub(super) fn new(splits: Vec<(&'static str, Vec<Step>)>) -> Self {
        Self {
            script: Script::new(splits),
            store: ModelStore::default(),
            shelf: Arc::default(),
            clock: TokioClock::new("2026-05-19T15:37:20Z"),
            settings: Settings {
                file: "rates.toml".into(),
                concurrency: 4,
                epoch_rows: 1000,
                most_epoch_rows: 1000,
                epoch_bytes: usize::MAX,
                epoch_interval: Duration::from_secs(10),
                deadline: Duration::from_secs(3000),
                once_deadline: Duration::from_secs(3000),
                window_deadline: Duration::from_secs(3000),
                catch_up: CatchUp::Latest,
                overrun: Overrun::Skip,
                keep_runs: 100_000,
                keep_for: None,
                keep_rejects: None,
                on_reject: OnReject::Quarantine,
                warn: None,
                abort: None,
            },
            keys: ["series", "timestamp"],
            on_conflict: OnConflict::KeepFirst,
            quarantine: None,
            most: None,
            runs: Arc::default(),
            changed: Arc::default(),
            expects: None,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn quarantine_file(&mut self) -> std::path::PathBuf {
        let path = self.dir.path().join("rejects.jsonl");
        self.quarantine = Some(path.clone());
        path
    }

    pub(super) fn ports(&self) -> Ports {
        Ports {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            random: TestRandom::new(1),
            disk: Arc::new(RealDisk),
            transport: TestTransport::in_turn(Vec::<Answer>::new()),
            budget: Arc::new(TestBudget::default()),
        }
    }

    /// What is missing by now.
    pub(super) fn finder(&self) -> Option<FindMissing> {
        let (names, last) = self.expects.clone()?;
        let shelf = Arc::clone(&self.shelf);
        Some(Arc::new(move |_| {
            let stored = &shelf.lock().unwrap().committed;
            let there = |series: &str, minute: i64| stored.iter().any(|row| row.starts_with(&format!("{series} 00:{minute:02} ")));
            let mut gaps = Vec::new();
            for series in &names {
                let missing = |minute: &i64| !there(series, *minute);
                let mut minute = 1;
                while let Some(from) = (minute..=last).find(missing) {
                    minute = (from..=last).find(|minute| !missing(minute)).unwrap_or(last + 1);
                    gaps.push(gap(series, from, minute));
                }
            }
            Ok(Missing { time: "timestamp".to_owned(), gaps })
        }))
    }

    /// A new process.
    pub(super) fn engine(&self) -> Engine {
        let stored: Vec<String> = Sample::schema().fields().iter().map(|field| field.name().clone()).collect();
        let keys = self.keys.map(str::to_owned);
        let parts = Parts {
            name: Arc::from("test"),
            settings: self.settings.clone(),
            trigger: Arc::new(EveryMinutes(60)),
            source: Arc::new(self.script.clone()),
            transforms: Vec::new().into(),
            validator: self.most.map(|most| Arc::new(rule(&format!("[columns.value]\nmax = {most}")))),
            dedupe: Some(DedupePlan::new(&Sample::schema(), &keys, &stored, self.on_conflict).unwrap()),
            sinks: vec![SinkPart { id: "sink.0".to_owned(), sink: Box::new(Shelf::new(&self.shelf)) }],
            quarantine: self.quarantine.clone(),
            stage_inputs: vec![Sample::schema()],
            find_missing: self.finder(),
        };
        let store: Arc<dyn Store> = Arc::new(self.store.clone());
        let (runs, changed) = (Arc::clone(&self.runs), Arc::clone(&self.changed));
        let observer: crate::run::Observer = Arc::new(move |event| match event {
            crate::run::RunEvent::Ended => drop(runs.fetch_add(1, Ordering::SeqCst)),
            crate::run::RunEvent::Committed { chunks, .. } => changed.lock().unwrap().extend_from_slice(chunks),
            _ => {}
        });
        Engine::new(parts, store, self.ports(), self.dir.path().to_path_buf(), observer).unwrap()
    }

    pub(super) async fn run(&self) -> RunRecord {
        let mut engine = self.engine();
        let request = RunRequest { ..engine.now(None) };
        engine.run(&request, &CancellationToken::new()).await
    }

    pub(super) fn stored(&self) -> Vec<String> {
        self.shelf.lock().unwrap().committed.clone()
    }
}
