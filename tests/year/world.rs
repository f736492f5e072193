//! The world of a simulated year, and the processes that live in it one after another.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pipeline::config::{self, Env, SourceFile};
use pipeline::plan::{self, Registry};
use pipeline::run::{CreditStore, Engine, SharedBudget};
use pipeline::state::{ModelStore, RunRecord, RunStatus, SplitStatus, Store, TickStatus};
use pipeline_contract::testkit::TestRandom;
use pipeline_contract::{Budget, BudgetLimits, BudgetScope, Clock, Ports, StageError, async_trait};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::coins::Coins;
use super::disk::{Outside, SimDisk};
use super::ledger::{Counts, Fate, Ledger, NextTick, Row};
use super::life::{Life, Mortal};
use super::server::{SimServer, Wire};
use super::weather::Weather;
use super::witness::Witness;
use super::{DAY, Dice, HOUR, MINUTE, hash, name, shown};

/// Tokio's paused time, and a wall clock that can be set.
#[derive(Debug)]
pub struct SimClock {
    start: i64,
    began: tokio::time::Instant,
    off: AtomicI64,
}

impl SimClock {
    fn new(start: i64) -> Arc<Self> {
        Arc::new(Self { start, began: tokio::time::Instant::now(), off: AtomicI64::new(0) })
    }

    /// What time it is.
    pub fn true_ms(&self) -> i64 {
        self.start + i64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    /// How far the wall clock is off.
    pub fn off_ms(&self) -> i64 {
        self.off.load(Ordering::SeqCst)
    }

    /// What the wall clock shows.
    pub fn wall_ms(&self) -> i64 {
        self.true_ms() + self.off_ms()
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.wall_ms()).unwrap()
    }
    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[derive(Default)]
struct Credits(Mutex<BTreeMap<String, u64>>);

impl CreditStore for Credits {
    fn spent(&self, _: &BudgetScope, month: &str) -> Result<u64, StageError> {
        Ok(self.0.lock().unwrap().get(month).copied().unwrap_or(0))
    }
    fn spend(&self, _: &BudgetScope, month: &str, credits: u64) -> Result<(), StageError> {
        *self.0.lock().unwrap().entry(month.to_owned()).or_default() += credits;
        Ok(())
    }
}

/// The budget, at which a run asks before its first request.
struct Till {
    inner: SharedBudget,
    witness: Witness,
}

#[async_trait]
impl Budget for Till {
    async fn acquire(&self, scope: &BudgetScope, limits: &BudgetLimits, patience: Duration) -> Result<(), StageError> {
        // Whoever asks does not wait for a tick any more.
        check_waited(&self.witness.ledger, &self.witness, self.witness.clock.wall_ms());
        self.inner.acquire(scope, limits, patience).await
    }
    fn spend(&self, scope: &BudgetScope, credits: u64) -> Result<(), StageError> {
        self.inner.spend(scope, credits)
    }
    fn hold(&self, scope: &BudgetScope, hold: Duration) {
        self.inner.hold(scope, hold);
    }
}

/// What is simulated.
#[derive(Clone)]
pub struct Setup {
    pub seed: u64,
    /// From when to when, in milliseconds since 1970.
    pub from: i64,
    pub to: i64,
    /// The pipeline file.
    pub toml: String,
    /// When it should fire.
    pub next_tick: NextTick,
    pub keep_runs: usize,
    pub weather: Weather,
}

/// How it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub counts: Counts,
    pub processes: u64,
    pub killed: u64,
    pub ran: usize,
    pub skipped: usize,
    pub hours: usize,
    pub rejects: usize,
    /// The most bytes that an engine held on to when its process ended.
    pub held: u64,
    /// A hash of all files.
    pub digest: u64,
    pub violations: Vec<String>,
}

/// The shipped pipeline, with some changes.
pub fn crypto(trigger: Option<&str>, more: &str) -> String {
    let shipped = include_str!("../../pipelines/crypto.toml");
    let text = match trigger {
        None => shipped.to_owned(),
        Some(trigger) => {
            let (head, rest) = shipped.split_once("[trigger]").unwrap();
            let (_, tail) = rest.split_once("[source]").unwrap();
            format!("{head}[trigger]\n{trigger}\n\n[source]{tail}")
        }
    };
    format!("{text}\n[source.http]\nretries = 2\nrequests_per_minute = 10\n\n{more}\n")
}

/// What is there before and after a process.
struct World {
    setup: Setup,
    clock: Arc<SimClock>,
    life: Arc<Life>,
    ledger: Arc<Ledger>,
    witness: Witness,
    disk: Arc<SimDisk>,
    ports: Ports,
    dice: Dice,
    processes: u64,
    killed: u64,
    /// The most bytes that an engine held on to when its process ended.
    held: u64,
}

/// What ends a process.
#[derive(Clone, Copy, Debug)]
enum EndsBy {
    /// SIGTERM.
    Stop,
    /// SIGKILL at a moment.
    Moment,
    /// SIGKILL at a change of disk or state.
    Effect(i64),
    /// SIGKILL between two polls.
    Poll(i64),
}

impl World {
    fn new(setup: Setup) -> Self {
        let seed = setup.seed;
        let clock = SimClock::new(setup.from);
        let life = Arc::new(Life::new(seed));
        let weather = Arc::new(setup.weather.clone());
        let ledger = Arc::new(Ledger::new(setup.next_tick));
        let coins = Coins { seed, renamed_at: setup.from + (setup.to - setup.from) / 5 * 3 };
        let disk = SimDisk::new(Outside { life: Arc::clone(&life), clock: Arc::clone(&clock), weather: Arc::clone(&weather) });
        let witness = Witness { inner: ModelStore::new(), life: Arc::clone(&life), clock: Arc::clone(&clock), weather, ledger: Arc::clone(&ledger) };
        let server = SimServer::new(seed, coins, &witness);
        let port: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let ports = Ports {
            clock: Arc::clone(&port),
            random: TestRandom::new(seed),
            disk: Arc::clone(&disk) as Arc<dyn pipeline_contract::Disk>,
            transport: Arc::new(Wire(server)),
            budget: Arc::new(Till { inner: SharedBudget::new(port, Arc::new(Credits::default())), witness: witness.clone() }),
        };
        Self { dice: Dice::new(seed, "world"), setup, clock, life, ledger, witness, disk, ports, processes: 0, killed: 0, held: 0 }
    }

    fn engine(&self) -> Engine {
        let mut registry = Registry::new();
        registry.add(pipeline_triggers::plugins());
        registry.add(pipeline_source_coingecko::plugins());
        registry.add(pipeline_sink_csv::plugins());
        let file = Arc::new(SourceFile { path: PathBuf::from("crypto.toml"), text: self.setup.toml.clone() });
        let env: Env = [("COINGECKO_BASE_URL", "https://coingecko.sim/api/v3")].into_iter().collect();
        let (def, mut faults) = config::parse(&file, &env);
        let (plan, _, more) = plan::plan(&def, &registry);
        faults.extend(more);
        assert!(faults.is_empty(), "{faults:?}");
        let mut parts = plan.unwrap().parts;
        parts.settings.keep_runs = self.setup.keep_runs;
        let store: Arc<dyn Store> = Arc::new(self.witness.clone());
        Engine::new(parts, store, self.ports.clone(), PathBuf::from("state/crypto"), Arc::new(|_| {})).unwrap()
    }

    /// A run ended.
    fn told(&self, record: &RunRecord) {
        if self.life.is_dead() {
            return;
        }
        let wall = self.clock.wall_ms();
        check_waited(&self.ledger, &self.witness, record.started_at.timestamp_millis());
        self.ledger.idle(Some(wall));
        let failed = record.splits.iter().filter(|split| split.status != SplitStatus::Ok);
        let failed: Vec<(String, String)> =
            failed.map(|split| (split.split.id.clone(), split.error.as_ref().map(|error| error.message.clone()).unwrap_or_default())).collect();
        let errors = record.splits.iter().filter_map(|split| split.error.as_ref()).chain(&record.error);
        let hopeless = errors.into_iter().any(|error| error.message.contains("deadline") || error.message.contains("1020"));
        let (from, to) = (self.clock.true_ms() - HOUR, self.clock.true_ms());
        let excuse = hopeless || record.status == RunStatus::Interrupted || self.setup.weather.disk_bad(from, to);
        self.ledger.run_ended(&record.run_id, record.status == RunStatus::Ok, &failed, excuse);
    }

    /// One process, from its start to its end.
    async fn process(&mut self, ends_by: EndsBy, after: Duration) {
        self.processes += 1;
        self.life.begin();
        match ends_by {
            EndsBy::Effect(n) => self.life.ends_at_effect(n),
            EndsBy::Poll(n) => self.life.ends_at_poll(n),
            EndsBy::Stop | EndsBy::Moment => {}
        }
        let cancel = CancellationToken::new();
        let mut engine = self.engine();
        let outcome = {
            self.ledger.idle(Some(self.clock.wall_ms()));
            let running = async { engine.run_scheduled(&cancel, |record| self.told(record)).await };
            let mut mortal = Mortal { inner: Box::pin(running), life: &self.life };
            tokio::select! {
                biased;
                outcome = &mut mortal => outcome,
                () = tokio::time::sleep(after) => {
                    if let EndsBy::Stop = ends_by {
                        cancel.cancel();
                        tokio::select! {
                            biased;
                            outcome = &mut mortal => outcome,
                            () = tokio::time::sleep(Duration::from_secs(30)) => {
                                self.ledger.violation(format!("{}: told to stop, it did not within 30 s", shown(self.clock.true_ms())));
                                None
                            }
                        }
                    } else {
                        None
                    }
                }
            }
        };
        // What it held on to when it ended: the store and the far side are not part of it.
        let held = allocation_counter::measure(|| drop(engine)).bytes_current;
        self.held = self.held.max(held.unsigned_abs());
        self.life.kill();
        check_waited(&self.ledger, &self.witness, self.clock.wall_ms());
        self.ledger.idle(None);
        match outcome {
            None => self.killed += 1,
            Some(()) if cancel.is_cancelled() => {}
            Some(()) => self.ledger.violation("it ended by itself".to_owned()),
        }
        // What the process had begun is dropped now.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.read_ticks();
    }

    fn read_ticks(&self) {
        let ticks: Vec<_> = self.witness.inner.ticks(usize::MAX).unwrap();
        if ticks.len() > self.setup.keep_runs + 1100 {
            self.ledger.violation(format!("{} ticks are kept", ticks.len()));
        }
        let told: Vec<_> = ticks
            .into_iter()
            .map(|tick| {
                let run = tick.run_id.clone().unwrap_or_default();
                let fate = match tick.status {
                    TickStatus::Running => Fate::Running(run),
                    TickStatus::Ran => Fate::Ran(run),
                    TickStatus::Skipped => Fate::Skipped(tick.reason.clone().unwrap_or_default()),
                };
                if matches!(&fate, Fate::Running(text) | Fate::Ran(text) | Fate::Skipped(text) if text.is_empty()) {
                    self.ledger.violation(format!("a tick without a run or a reason: {tick:?}"));
                }
                (tick.tick.timestamp_millis(), tick.until.timestamp_millis(), tick.count, fate)
            })
            .collect();
        self.ledger.told_ticks(&told, self.setup.keep_runs > 9000);
    }

    /// How long a process lives, and what ends it.
    fn lot(&mut self) -> (EndsBy, Duration) {
        let dice = &mut self.dice;
        let minutes = match dice.below(10) {
            0..=2 => dice.between(1, 60),
            3..=6 => dice.between(60, 24 * 60),
            _ => dice.between(24 * 60, 3 * 24 * 60),
        };
        let ends_by = match dice.below(4) {
            0 => EndsBy::Stop,
            1 => EndsBy::Moment,
            2 => EndsBy::Effect(dice.between(1, 60)),
            _ => EndsBy::Poll(dice.between(1, 40)),
        };
        // A death that waits for a run may wait for some to pass before.
        (ends_by, Duration::from_millis((minutes * MINUTE + dice.between(0, MINUTE)).cast_unsigned()))
    }

    fn pause(&mut self) -> Duration {
        let dice = &mut self.dice;
        let ms = match dice.below(100) {
            0..=69 => dice.between(500, 5 * MINUTE),
            70..=93 => dice.between(5 * MINUTE, 7 * HOUR),
            _ => dice.between(7 * HOUR, 4 * DAY),
        };
        Duration::from_millis(ms.cast_unsigned())
    }

    fn left(&self, until: i64) -> Duration {
        Duration::from_millis((until - self.clock.true_ms()).max(0).cast_unsigned())
    }

    async fn live(&mut self) {
        let calm = self.setup.weather.calm;
        while self.clock.true_ms() < calm {
            let (ends_by, after) = self.lot();
            let left = self.left(calm);
            // Some processes meet their end in one of the first runs, others after a while.
            if let EndsBy::Effect(_) | EndsBy::Poll(_) = ends_by
                && self.dice.once_in(2)
            {
                let wait = after.min(left);
                self.process(EndsBy::Moment, wait).await;
                let left = self.left(calm);
                self.process(ends_by, left.min(Duration::from_secs(2 * 24 * 3600))).await;
            } else {
                self.process(ends_by, after.min(left)).await;
            }
            let pause = self.pause().min(self.left(calm));
            tokio::time::sleep(pause).await;
        }
        let left = self.left(self.setup.to);
        self.process(EndsBy::Stop, left).await;
    }

    fn judge(mut self) -> Report {
        self.life.begin();
        let (ran, skipped) = self.ledger.account(self.clock.wall_ms());
        let files = self.disk.files();
        let mut hours = BTreeMap::new();
        let mut rejects = Vec::new();
        let mut faults = Vec::new();
        for (path, bytes) in &files {
            let text = String::from_utf8_lossy(bytes);
            if let Some(file) = path.strip_prefix("data/raw/").and_then(|file| file.strip_suffix(".csv")) {
                faults.extend(read_csv(file, &text, &mut hours));
            } else if path == "data/rejects/crypto.jsonl" {
                for line in text.lines() {
                    match serde_json::from_str::<Value>(line) {
                        Ok(reject) => {
                            let text = |key: &str| reject[key].as_str().unwrap_or_default().to_owned();
                            rejects.push((text("split"), text("rule"), reject["row"].clone()));
                        }
                        Err(error) => faults.push(format!("{path}: {error}: {line}")),
                    }
                }
            } else if !path.starts_with("state/crypto/cut/") {
                faults.push(format!("{path} was left behind"));
            }
        }
        let cut = files.keys().filter(|path| path.starts_with("state/")).count() as u64;
        if cut > self.killed * 4 + 40 {
            faults.push(format!("{cut} cut tails are kept, after {} kills", self.killed));
        }
        self.ledger.compare(&hours);
        self.ledger.compare_rejects(&rejects);
        faults.extend(self.sizes(&hours));
        let runs = self.witness.inner.runs(usize::MAX).unwrap();
        match runs.first() {
            Some(last) if last.status == RunStatus::Ok && last.ended_at.is_some() => {}
            last => faults.push(format!("the last run, without any fault around, is {last:?}")),
        }
        if let Some(open) = self.witness.inner.open_run().unwrap() {
            faults.push(format!("a run is still open: {open:?}"));
        }
        let mut violations = self.ledger.violations();
        violations.append(&mut faults);
        let digest = files.iter().fold(0, |sum, (path, bytes)| hash(&[sum, name(path), name(&String::from_utf8_lossy(bytes))]));
        Report {
            counts: self.ledger.counts(),
            processes: std::mem::take(&mut self.processes),
            killed: self.killed,
            ran,
            skipped,
            hours: hours.len(),
            rejects: rejects.len(),
            held: self.held,
            digest,
            violations,
        }
    }

    /// What is kept must follow the data.
    fn sizes(&self, hours: &BTreeMap<(String, i64), Row>) -> Vec<String> {
        let store = &self.witness.inner;
        let mut faults = Vec::new();
        let mut at_most = |what: &str, is: usize, most: usize| {
            if is > most {
                faults.push(format!("{is} {what}, where {most} would do"));
            }
        };
        let coins: std::collections::BTreeSet<_> = hours.keys().map(|(coin, _)| coin.clone()).collect();
        let days = usize::try_from((self.setup.to - self.setup.from) / DAY).unwrap();
        let (chunks, keyed) = store.dedupe_size().unwrap();
        at_most("chunks of keys", usize::try_from(chunks).unwrap(), coins.len() * (days / 20 + 2));
        at_most("keys by themselves", usize::try_from(keyed).unwrap(), 0);
        at_most("runs", store.runs(usize::MAX).unwrap().len(), self.setup.keep_runs + 1);
        at_most("records of files", store.records("sink.0").unwrap().len(), coins.len() * 2);
        at_most("records of rejects", store.records(pipeline::run::QUARANTINE).unwrap().len(), 1);
        let counts = self.ledger.counts();
        at_most("bytes in a chunk", counts.largest_chunk, 16 << 10);
        at_most("chunks in an epoch", counts.most_chunks, 6);
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        at_most("tasks that go on", tasks, 1);
        at_most("bytes held by an engine", usize::try_from(self.held).unwrap(), 1 << 20);
        faults
    }
}

/// The ticks that passed while the process waited for one must have run before.
pub fn check_waited(ledger: &Ledger, witness: &Witness, wall: i64) {
    for tick in ledger.passed(wall) {
        let found = witness.inner.tick(DateTime::from_timestamp_millis(tick).unwrap()).unwrap();
        let now = witness.clock.true_ms();
        let has_run = found.as_ref().is_some_and(|found| found.status != TickStatus::Skipped);
        // A schedule that cannot record a tick stands still.
        if !has_run && !witness.weather.disk_bad(now - 2 * HOUR, now) {
            ledger.violation(format!("the tick {} passed while the process waited for it: {found:?}", shown(tick)));
        }
    }
}

fn read_csv(file: &str, text: &str, hours: &mut BTreeMap<(String, i64), Row>) -> Vec<String> {
    let mut faults = Vec::new();
    let (coin, year) = file.rsplit_once('_').unwrap();
    let mut lines = text.split_inclusive('\n');
    if lines.next() != Some("timestamp,open,high,low,close,volume\n") {
        faults.push(format!("{file} begins with another header"));
    }
    for line in lines {
        let Some(row) = line.strip_suffix('\n').and_then(read_line) else {
            faults.push(format!("{file} has a line that is none: {line:?}"));
            continue;
        };
        let (at, row) = row;
        if at.format("%Y").to_string() != year {
            faults.push(format!("{file} holds {at}"));
        }
        if hours.insert((coin.to_owned(), at.timestamp_millis()), row).is_some() {
            faults.push(format!("{file} holds {at} twice"));
        }
    }
    faults
}

fn read_line(line: &str) -> Option<(DateTime<Utc>, Row)> {
    let cells: Vec<&str> = line.split(',').collect();
    let [at, open, high, low, close, volume] = cells.as_slice() else { return None };
    let price = |text: &str| text.parse::<f64>().ok();
    let volume = if volume.is_empty() { None } else { Some(price(volume)?) };
    Some((at.parse().ok()?, Row { prices: [price(open)?, price(high)?, price(low)?, price(close)?], volume }))
}

/// Lives through it.
pub fn simulate(setup: &Setup) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(setup.clone());
        let (clock, ledger, steps) = (Arc::clone(&world.clock), Arc::clone(&world.ledger), setup.weather.steps.clone());
        let witness = world.witness.clone();
        let stepping = tokio::spawn(async move {
            for (at, off) in steps {
                tokio::time::sleep(Duration::from_millis((at - clock.true_ms()).max(0).cast_unsigned())).await;
                // What it waited for until now counts by the old clock.
                let waits = ledger.waits();
                check_waited(&ledger, &witness, clock.wall_ms());
                clock.off.store(off, Ordering::SeqCst);
                ledger.idle(waits.then(|| clock.wall_ms()));
            }
        });
        world.live().await;
        let _ = stepping.await;
        world.judge()
    })
}

/// Simulates, prints a line, and fails with every violation and the command that shows it again.
#[track_caller]
pub fn prove(what: &str, setup: &Setup, again: &str) -> Report {
    let began = Instant::now();
    let report = simulate(setup);
    let Report { counts, processes, killed, ran, skipped, hours, rejects, held, digest, violations } = &report;
    eprintln!(
        "{what}, seed {}: {} days in {:.1} s: {ran} ticks ran and {skipped} were skipped, {} runs ({} ok), {} requests, {processes} processes ({killed} killed), {} epochs, {hours} hours and {rejects} rejects stored, at most {held} bytes held, {digest:016x}",
        setup.seed,
        (setup.to - setup.from) / DAY,
        began.elapsed().as_secs_f64(),
        counts.runs,
        counts.runs_ok,
        counts.requests,
        counts.epochs,
    );
    assert!(
        violations.is_empty(),
        "{what}, seed {}: {} violations:\n  {}\n  again: {again}",
        setup.seed,
        violations.len(),
        violations.iter().take(12).cloned().collect::<Vec<_>>().join("\n  ")
    );
    report
}

/// An instant in milliseconds.
pub fn at(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp_millis()
}
