//! Nothing lost, nothing twice, shown at every single step: a reference workload through the real engine and the real csv sink, on a disk on
//! which only what was synced survives. At every operation the process dies, or the operation fails; afterwards every file is, byte for
//! byte, what an undisturbed process writes.
//!
//! `cargo test` takes a sample. All of it, with the number of operations and cases:
//!
//! ```text
//! PIPELINE_CRASH=all cargo test --release --test crash -- --nocapture
//! ```
//!
//! `PIPELINE_CRASH=N` takes every Nth case of those (all is 1), `PIPELINE_CRASH_SEED` another sample (1).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may stop where it stands")]

mod tape;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use pipeline::run::Engine;
use pipeline::state::{ErrorRecord, RunRecord, RunStatus, Store};
use pipeline_contract::testkit::{Fail, Fault, SimDisk, Survives};
use pipeline_contract::{Category, StageError};
use world::{Conflicts, Run, Saved, World, block_on, outputs};

/// Which cases are taken: one of so many, chosen by a hash of the case.
struct Sample {
    one_of: u64,
    seed: u64,
    seen: u64,
    taken: u64,
}

impl Sample {
    /// A sample that takes one of `sparse` cases unless the environment says otherwise.
    fn new(sparse: u64) -> Self {
        let number = |name: &str, text: String| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"));
        let one_of = match std::env::var("PIPELINE_CRASH") {
            Ok(text) if text == "all" => 1,
            Ok(text) => number("PIPELINE_CRASH", text),
            Err(_) => sparse,
        };
        let seed = std::env::var("PIPELINE_CRASH_SEED").map_or(1, |text| number("PIPELINE_CRASH_SEED", text));
        Self { one_of: one_of.max(1), seed, seen: 0, taken: 0 }
    }

    fn takes(&mut self) -> bool {
        self.seen += 1;
        // SplitMix64, so that neighbours are chosen independently.
        let mut z = self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(self.seen).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let takes = (z ^ (z >> 31)).is_multiple_of(self.one_of);
        self.taken += u64::from(takes);
        takes
    }
}

/// What an undisturbed process does.
struct Reference {
    conflicts: Conflicts,
    /// Each operation, in words.
    operations: Vec<String>,
    outputs: BTreeMap<String, String>,
    /// The outputs after each run.
    after: Vec<BTreeMap<String, String>>,
    runs: Vec<Run>,
    /// The number of its last epoch.
    epochs: u64,
}

impl Reference {
    fn new(conflicts: Conflicts) -> Self {
        block_on(async {
            let world = World::new(conflicts);
            world.disk.record();
            let mut engine = world.engine();
            world.resume(&mut engine).await.unwrap();
            let mut after = Vec::new();
            for tick in 0..3 {
                world.run(&mut engine, tick).await;
                after.push(world.outputs());
            }
            let operations = world.disk.history();
            let epochs = world.model.last_epoch().unwrap().unwrap().0;
            Self { conflicts, operations, outputs: world.outputs(), after, runs: world.runs(), epochs }
        })
    }

    fn both() -> [Self; 2] {
        [Conflicts::KeepFirst, Conflicts::KeepLast].map(Self::new)
    }

    /// K: how many operations there are at which a process can die.
    fn k(&self) -> usize {
        self.operations.len()
    }

    fn at(&self, k: usize) -> String {
        format!("{:?}, operation {k} ({})", self.conflicts, self.operations.get(k).map_or("", String::as_str))
    }

    fn told(&self) -> String {
        let of_state = self.operations.iter().filter(|what| what.starts_with("state:")).count();
        format!("{:?}: K = {} ({} of the disk, {of_state} of the state), {} epochs", self.conflicts, self.k(), self.k() - of_state, self.epochs)
    }

    /// Every row is there once, as if nothing had happened, and stays so without power.
    #[track_caller]
    fn holds_rows(&self, world: &World, case: &str) {
        let expected = in_order(&self.outputs);
        same(&in_order(&world.outputs()), &expected, case);
        same(&in_order(&outputs(&world.disk.crash(Survives::SYNCED))), &expected, &format!("{case}; then without power"));
    }

    /// Everything is as if nothing had happened, and stays so without power.
    #[track_caller]
    fn holds(&self, world: &World, case: &str) {
        same(&world.outputs(), &self.outputs, case);
        same(&outputs(&world.disk.crash(Survives::SYNCED)), &self.outputs, &format!("{case}; then without power"));
    }
}

/// The files with their lines in order. After an error, one split may be stored before another that was healed later: the lines are the same,
/// each once, but in a file that several splits share their order is that of the storing.
fn in_order(files: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let sorted = |text: &String| {
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.sort_unstable();
        lines.concat()
    };
    files.iter().map(|(path, text)| (path.clone(), sorted(text))).collect()
}

#[track_caller]
fn same(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>, case: &str) {
    if found == expected {
        return;
    }
    let paths: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differ: Vec<_> = paths.into_iter().filter(|path| found.get(*path) != expected.get(*path)).collect();
    let show = |files: &BTreeMap<String, String>, path: &String| files.get(path).cloned().unwrap_or_else(|| "(not there)".to_owned());
    let text: String = differ.iter().map(|path| format!("\n--- {path}\n{}+++ expected\n{}", show(found, path), show(expected, path))).collect();
    panic!("{case}: other bytes{text}");
}

/// Runs these ticks; a process that died stops.
async fn run_all(world: &World, engine: &mut Engine, ticks: Range<usize>) -> Vec<RunRecord> {
    let mut records = Vec::new();
    for tick in ticks {
        records.push(world.run(engine, tick).await);
        if world.disk.is_dead() {
            break;
        }
    }
    records
}

/// How the next process goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum GoOn {
    /// With the run that was open; then the ticks that did not run.
    Rest,
    /// The same, and the interrupted tick once more, as `run --once` does.
    Again,
}

/// A process that goes on where the last one died. False when it dies, too.
async fn restart(world: &World, how: GoOn, case: &str) -> bool {
    let mut engine = world.engine();
    let all = world.to_do();
    let resumed = world.resume(&mut engine).await;
    if world.disk.is_dead() {
        return false;
    }
    resumed.unwrap_or_else(|error| panic!("{case}: the restart fails: {error}"));
    let ticks = if how == GoOn::Again { all } else { world.to_do() };
    run_all(world, &mut engine, ticks).await;
    !world.disk.is_dead()
}

/// A process that dies at operation `k`.
async fn die(world: &World, k: usize) {
    world.disk.fail(Fail::From(k, Fault::Crash));
    let mut engine = world.engine();
    let _ = world.resume(&mut engine).await;
    run_all(world, &mut engine, 0..3).await;
    assert!(world.disk.is_dead());
}

#[test]
fn the_reference_workload_has_everything() {
    for reference in Reference::both() {
        println!("{}", reference.told());
        let names: Vec<_> = reference.outputs.keys().map(String::as_str).collect();
        let years = |dir: &str, name: &str| [2025, 2026].map(|year| format!("{dir}/{name}_{year}.csv"));
        for path in ["btc", "eth", "ltc"].iter().flat_map(|name| years("data", name)) {
            assert!(names.contains(&path.as_str()), "{path} is not in {names:?}");
        }
        assert_eq!(names.len(), 10, "{names:?}");
        assert_eq!(reference.runs.iter().map(|run| run.status).collect::<Vec<_>>(), [RunStatus::Ok, RunStatus::Partial, RunStatus::Ok]);
        assert!(reference.epochs >= 10, "{}", reference.epochs);
        let counts = |text: &str| reference.operations.iter().filter(|what| what.starts_with(text)).count();
        assert!(counts("rename") >= 10 && counts("sync the folder") > 10 && counts("open") > 10, "{:#?}", reference.operations);
        let eth = &reference.outputs["data/eth_2025.csv"];
        assert_eq!(eth.contains("9.5"), reference.conflicts == Conflicts::KeepLast, "{eth}");
        assert_eq!(reference.outputs["data/rejects/crash.jsonl"].lines().count(), 7);
    }
}

#[test]
fn the_same_run_again_changes_nothing() {
    for reference in Reference::both() {
        block_on(async {
            let world = World::new(reference.conflicts);
            for tick in [0, 0, 1, 1, 2, 2] {
                world.run(&mut world.engine(), tick).await;
            }
            reference.holds(&world, "each run twice");
        });
    }
}

#[test]
fn a_crash_at_every_operation() {
    let mut sample = Sample::new(150);
    for reference in Reference::both() {
        for k in 0..reference.k() {
            for (n, survives) in Survives::variants().chain((0..4).map(|n| Survives::seeded((k * 4 + n) as u64))).enumerate() {
                if !sample.takes() {
                    continue;
                }
                let how = if n % 2 == 0 { GoOn::Rest } else { GoOn::Again };
                let case = format!("{}, a crash, {survives:?}, {how:?}", reference.at(k));
                block_on(async {
                    let mut world = World::new(reference.conflicts).scheduled(k % 2 == 0);
                    die(&world, k).await;
                    world.crash(survives);
                    assert!(restart(&world, how, &case).await);
                    reference.holds(&world, &case);
                    if how == GoOn::Rest {
                        assert_eq!(world.runs(), reference.runs, "{case}: the records tell it otherwise");
                    }
                });
            }
        }
        println!("{}", reference.told());
    }
    println!("a crash at every operation: {} of {} cases", sample.taken, sample.seen);
}

#[test]
fn a_crash_at_every_operation_and_again_while_recovering() {
    let mut sample = Sample::new(300);
    for reference in Reference::both() {
        for k in (0..reference.k()).step_by(5) {
            for n in 0_u64.. {
                if !sample.takes() && n < 400 {
                    continue;
                }
                let j = usize::try_from(n).unwrap();
                let case = format!("{}, a crash, another at {j} of the next process", reference.at(k));
                let again = block_on(async {
                    let mut world = World::new(reference.conflicts).scheduled(j.is_multiple_of(2));
                    die(&world, k).await;
                    world.crash(Survives::seeded(n));
                    world.disk.fail(Fail::From(j, Fault::Crash));
                    let mut engine = world.engine();
                    let _ = world.resume(&mut engine).await;
                    if !world.disk.is_dead() {
                        return false;
                    }
                    world.crash(Survives::seeded(!n));
                    assert!(restart(&world, GoOn::Rest, &case).await);
                    reference.holds(&world, &case);
                    assert_eq!(world.runs(), reference.runs, "{case}: the records tell it otherwise");
                    true
                });
                if !again {
                    break;
                }
            }
        }
    }
    println!("a crash while recovering from a crash: {} of {} cases", sample.taken, sample.seen);
}

/// How a process goes on after a fault is gone.
#[derive(Clone, Copy, Debug)]
enum Heals {
    /// It lives on.
    SameProcess,
    /// It ended, and another is started.
    Restart,
    /// The power failed before another is started.
    PowerCut,
}

/// Is this an error that somebody can act on?
fn is_clear(error: &ErrorRecord) -> bool {
    let names = ["data", "mirror", "state", "the working directory"].iter().any(|path| error.message.contains(path));
    error.category == Category::Storage && names && error.help.as_ref().is_some_and(|help| !help.is_empty())
}

/// The run went as it does undisturbed, or its record says plainly why it did not.
fn check_record(record: &RunRecord, reference: &Reference, tick: usize, case: &str) -> bool {
    let expected = &reference.runs[tick];
    if Run::of(record) == *expected && (record.error.is_none() || record.status == RunStatus::Failed) {
        return true;
    }
    assert!(matches!(record.status, RunStatus::Failed | RunStatus::Partial), "{case}: {:?} {record:#?}", record.status);
    let errors: Vec<_> = record.error.iter().chain(record.splits.iter().filter_map(|split| split.error.as_ref())).collect();
    let errors: Vec<_> = errors.into_iter().filter(|error| error.message != "the tape broke").collect();
    assert!(!errors.is_empty(), "{case}: no error tells why: {record:#?}");
    for error in errors {
        assert!(is_clear(error), "{case}: {error:#?}");
    }
    false
}

async fn disturbed(mut world: World, reference: &Reference, fail: Fail, heals: Heals, case: &str) {
    world.disk.fail(fail);
    let mut engine = world.engine();
    let mut broken = 3;
    for tick in 0..3 {
        let record = world.run(&mut engine, tick).await;
        if !check_record(&record, reference, tick, case) {
            broken = tick;
            break;
        }
        same(&world.outputs(), &reference.after[tick], &format!("{case}, all is said to be well after run {tick}"));
    }
    match heals {
        Heals::SameProcess => {
            world.disk.fail(Fail::Never);
            world.find_state();
        }
        Heals::Restart | Heals::PowerCut => {
            drop(engine);
            if matches!(heals, Heals::PowerCut) {
                world.crash(Survives::SYNCED)
            } else {
                world.disk.fail(Fail::Never)
            }
            world.find_state();
            engine = world.engine();
            world.resume(&mut engine).await.unwrap_or_else(|error| panic!("{case}: the restart fails: {error}"));
        }
    }
    for tick in broken..3 {
        let record = world.run(&mut engine, tick).await;
        assert_eq!(record.status, reference.runs[tick].status, "{case}: it does not heal: {record:#?}");
    }
    reference.holds_rows(&world, case);
    assert!(world.model.open_run().unwrap().is_none(), "{case}: a run stays open");
}

#[test]
fn every_error_at_every_operation() {
    let mut sample = Sample::new(300);
    let faults = Fault::ERRORS.into_iter().chain([Fault::Short]).collect::<Vec<_>>();
    for reference in Reference::both() {
        for k in 0..reference.k() {
            let fails = faults.iter().flat_map(|fault| [Fail::Once(k, *fault), Fail::From(k, *fault)]);
            for (fail, heals) in fails.flat_map(|fail| [Heals::SameProcess, Heals::Restart, Heals::PowerCut].map(|heals| (fail, heals))) {
                for saved in [Saved::No, Saved::Yes] {
                    // Only the state can say that it failed and yet have done its work.
                    if saved == Saved::Yes && !reference.operations[k].starts_with("state:") || !sample.takes() {
                        continue;
                    }
                    let case = format!("{}, {fail:?}, {heals:?}, saved: {saved:?}", reference.at(k));
                    let mut world = World::new(reference.conflicts).scheduled(k.is_multiple_of(2));
                    world.saved = saved;
                    block_on(disturbed(world, &reference, fail, heals, &case));
                }
            }
        }
        println!("{}", reference.told());
    }
    println!("every error at every operation: {} of {} cases", sample.taken, sample.seen);
}

/// A process dies, and the next one meets an error: it says so, or does not mind; the one after that heals.
#[test]
fn an_error_at_every_operation_of_a_restart() {
    let mut sample = Sample::new(600);
    for reference in Reference::both() {
        for k in (0..reference.k()).step_by(7) {
            for j in 0..reference.k() {
                let fault = Fault::ERRORS[(k + j) % 4];
                let fail = if j % 2 == 0 { Fail::Once(j, fault) } else { Fail::From(j, fault) };
                let case = format!("{}, a crash, then {fail:?} in the next process", reference.at(k));
                if !sample.takes() && j < 400 {
                    continue;
                }
                let disturbed = block_on(async {
                    let mut world = World::new(reference.conflicts).scheduled(k % 2 == 0);
                    die(&world, k).await;
                    world.crash(Survives::seeded(j as u64));
                    world.disk.fail(fail);
                    let from = world.to_do().start;
                    let mut engine = world.engine();
                    match world.resume(&mut engine).await {
                        Err(error) => assert!(is_clear(&error_record(&error)), "{case}: {error:#?}"),
                        Ok(Some(record)) => {
                            check_record(&record, &reference, from, &case);
                        }
                        Ok(None) => {}
                    }
                    let disturbed = world.disk.ops() > j;
                    drop(engine);
                    world.disk.fail(Fail::Never);
                    let mut engine = world.engine();
                    world.resume(&mut engine).await.unwrap_or_else(|error| panic!("{case}: the restart fails: {error}"));
                    for tick in from..3 {
                        let record = world.run(&mut engine, tick).await;
                        assert_eq!(record.status, reference.runs[tick].status, "{case}: it does not heal: {record:#?}");
                    }
                    reference.holds_rows(&world, &case);
                    assert!(world.model.open_run().unwrap().is_none(), "{case}: a run stays open");
                    disturbed
                });
                if !disturbed {
                    break;
                }
            }
        }
    }
    println!("an error while recovering from a crash: {} of {} cases", sample.taken, sample.seen);
}

fn error_record(error: &StageError) -> ErrorRecord {
    ErrorRecord { category: error.category, message: error.message.clone(), help: error.help.clone() }
}

/// The state fails while it saves an epoch and cannot be asked how that ended.
#[test]
fn a_state_that_is_gone_with_an_epoch_whose_outcome_nobody_knows() {
    let mut sample = Sample::new(4);
    for reference in Reference::both() {
        for epoch in 1..=reference.epochs {
            for saved in [Saved::No, Saved::Yes] {
                for heals in [Heals::SameProcess, Heals::Restart, Heals::PowerCut] {
                    if !sample.takes() {
                        continue;
                    }
                    let case = format!("{:?}, the state is gone at epoch {epoch}, saved: {saved:?}, {heals:?}", reference.conflicts);
                    let world = World::new(reference.conflicts).scheduled(epoch % 2 == 0);
                    world.lose_state_at(epoch, saved);
                    block_on(disturbed(world, &reference, Fail::Never, heals, &case));
                }
            }
        }
    }
    println!("a state that is gone: {} of {} cases", sample.taken, sample.seen);
}

/// So that nobody takes a broken simulation for a proof.
#[test]
fn the_simulated_disk_forgets() {
    let disk = SimDisk::new();
    disk.put("data/x.csv", "a\n");
    assert_eq!(outputs(&disk.crash(Survives::SYNCED)).len(), 1);
}
