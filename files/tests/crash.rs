//! Every operation of a workload fails once, or is the last one before a crash; the files end up as if nothing had happened.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop where it stands

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use chrono::DateTime;
use pipeline_contract::testkit::{Fail, Fault, SimDisk, Survives, TestClock, TestRecords, TestTransport, ports, sink_context};
use pipeline_contract::{Epoch, Recovery, SinkContext, SinkState, StageError};
use pipeline_files::{FileSet, Root};

const HEADER: &[u8] = b"id,value\n";

enum Step {
    Append(&'static str, &'static str),
    Upper(&'static str),
}

fn workload() -> Vec<Vec<Step>> {
    use Step::{Append, Upper};
    vec![
        vec![Append("data/a/x.csv", "1,one\n2,two\n"), Append("data/a/y.csv", "1,uno\n")],
        vec![Append("data/a/x.csv", "3,three\n"), Append("data/b/z.csv", "1,eins\n")],
        vec![Upper("data/a/x.csv"), Append("data/a/x.csv", "4,four\n"), Append("data/a/y.csv", "2,dos\n")],
        vec![Upper("data/a/x.csv"), Upper("data/b/new.csv"), Append("data/b/new.csv", "5,five\n")],
        vec![Append("data/a/x.csv", "5,five\n"), Append("data/b/z.csv", "2,zwei\n")],
    ]
}

/// What the engine keeps; it survives crashes.
#[derive(Default)]
struct State {
    records: Arc<TestRecords>,
    last: Option<(Epoch, SinkState)>,
    open: bool,
}

fn context(disk: &SimDisk, state: &State) -> SinkContext {
    let clock = TestClock::new(DateTime::UNIX_EPOCH);
    let mut ports = ports(clock, TestTransport::in_turn([]));
    ports.disk = Arc::new(disk.clone());
    sink_context(ports, state.records.clone(), "state/keep")
}

fn roots() -> [Root; 1] {
    [Root { dir: "data".into(), depth: 1 }]
}

fn epoch(files: &mut FileSet, steps: &[Step], n: Epoch) -> Result<SinkState, StageError> {
    for step in steps {
        match step {
            Step::Append(path, rows) => files.append(path, HEADER, rows.as_bytes())?,
            Step::Upper(path) => files.rewrite(
                path,
                HEADER,
                Box::new(|old: &mut (dyn Read + Send), new: &mut dyn Write| {
                    let mut text = String::new();
                    old.read_to_string(&mut text)?;
                    let (head, rows) = text.split_once('\n').unwrap();
                    Ok(write!(new, "{head}\n{}", rows.to_uppercase())?)
                }),
            )?,
        }
    }
    files.prepare(n)
}

/// One process, from its start to its end or death. `patient` tries again what failed, as a process does that lives on.
fn process(disk: &SimDisk, state: &mut State, patient: bool) -> Result<(), StageError> {
    let mut files = FileSet::new(&context(disk, state));
    let tries = if patient { 3 } else { 1 };
    let recovery = Recovery { last: state.last.clone(), run_was_open: state.open };
    state.open = true;
    retry(tries, || files.recover(&recovery, &roots()))?;
    let done = state.last.as_ref().map_or(0, |(n, _)| *n);
    for (n, steps) in (1..).zip(workload()).skip(usize::try_from(done).unwrap()) {
        let changes = retry(tries, || {
            let prepared = epoch(&mut files, &steps, n);
            if prepared.is_err() {
                let _ = files.abort();
            }
            prepared
        })?;
        state.records.apply(&changes);
        state.last = Some((n, changes.clone()));
        retry(tries, || files.commit(n, &changes))?;
    }
    state.open = false;
    Ok(())
}

fn retry<T>(tries: usize, mut f: impl FnMut() -> Result<T, StageError>) -> Result<T, StageError> {
    let mut result = f();
    for _ in 1..tries {
        if result.is_ok() {
            break;
        }
        result = f();
    }
    result
}

fn stored(disk: &SimDisk) -> BTreeMap<String, String> {
    disk.files().into_iter().filter(|(path, _)| !path.starts_with("state/")).collect()
}

fn undisturbed() -> (usize, BTreeMap<String, String>) {
    let disk = SimDisk::new();
    disk.fail(Fail::Never);
    process(&disk, &mut State::default(), false).unwrap();
    (disk.ops(), stored(&disk))
}

#[test]
fn without_faults() {
    let (ops, files) = undisturbed();
    assert!(ops > 100, "{ops}");
    assert_eq!(files["data/a/x.csv"], "id,value\n1,ONE\n2,TWO\n3,THREE\n4,FOUR\n5,five\n");
    assert_eq!(files["data/a/y.csv"], "id,value\n1,uno\n2,dos\n");
    assert_eq!(files["data/b/z.csv"], "id,value\n1,eins\n2,zwei\n");
    assert_eq!(files["data/b/new.csv"], "id,value\n5,FIVE\n");
    assert_eq!(files.len(), 4);
}

#[test]
fn a_crash_at_every_operation() {
    let (ops, expected) = undisturbed();
    for k in 0..ops {
        for survives in Survives::variants().skip(k % 4).step_by(4) {
            let mut state = State::default();
            let disk = SimDisk::new();
            disk.fail(Fail::From(k, Fault::Crash));
            process(&disk, &mut state, false).unwrap_err();
            let disk = disk.crash(survives);
            process(&disk, &mut state, false).unwrap_or_else(|error| panic!("crash at {k}, {survives:?}: {error}"));
            assert_eq!(stored(&disk), expected, "crash at {k}, {survives:?}");
            // Nothing relied on is unsynced at the end either.
            assert_eq!(stored(&disk.crash(Survives::SYNCED)), expected, "power cut after the end; crash at {k}, {survives:?}");
        }
    }
}

#[test]
fn a_crash_at_every_operation_and_again_while_recovering() {
    let (ops, expected) = undisturbed();
    for k in (0..ops).step_by(3) {
        for (first, second) in Survives::variants().skip(k % 4).step_by(4).zip(Survives::variants().collect::<Vec<_>>().into_iter().rev()) {
            for again in 0..24 {
                let mut state = State::default();
                let disk = SimDisk::new();
                disk.fail(Fail::From(k, Fault::Crash));
                process(&disk, &mut state, false).unwrap_err();
                let disk = disk.crash(first);
                disk.fail(Fail::From(again, Fault::Crash));
                if process(&disk, &mut state, false).is_ok() {
                    break;
                }
                let disk = disk.crash(second);
                let at = format!("crash at {k}, {first:?}, then at {again}, {second:?}");
                process(&disk, &mut state, false).unwrap_or_else(|error| panic!("{at}: {error}"));
                assert_eq!(stored(&disk), expected, "{at}");
            }
        }
    }
}

#[test]
fn a_fault_at_every_operation() {
    let (ops, expected) = undisturbed();
    for (k, fault) in (0..ops).flat_map(|k| [Fault::Full, Fault::Denied, Fault::Short].map(|fault| (k, fault))) {
        let mut state = State::default();
        let disk = SimDisk::new();
        disk.fail(Fail::Once(k, fault));
        process(&disk, &mut state, true).unwrap_or_else(|error| panic!("{fault:?} at {k}: {error}"));
        assert_eq!(stored(&disk), expected, "{fault:?} at {k}");
        assert_eq!(stored(&disk.crash(Survives::SYNCED)), expected, "power cut after {fault:?} at {k}");
    }
}

#[test]
fn what_is_cut_is_kept() {
    let disk = SimDisk::new();
    let mut state = State::default();
    process(&disk, &mut state, false).unwrap();
    let mut files = FileSet::new(&context(&disk, &state));
    files.append("data/a/x.csv", HEADER, b"6,six\n").unwrap();
    files.append("data/a/fresh.csv", HEADER, b"1,a\n").unwrap();
    files.prepare(6).unwrap();
    drop(files);
    assert!(stored(&disk)["data/a/x.csv"].ends_with("6,six\n"));
    assert_eq!(stored(&disk).len(), 5);

    // Not without an open run: then it is somebody's hand.
    let untouched = stored(&disk);
    process(&disk, &mut state, false).unwrap();
    assert_eq!(stored(&disk), untouched);

    state.open = true;
    process(&disk, &mut state, false).unwrap();
    assert!(stored(&disk)["data/a/x.csv"].ends_with("5,five\n"));
    assert_eq!(stored(&disk).len(), 4);
    let kept: Vec<_> = disk.files().into_iter().filter(|(path, _)| path.starts_with("state/keep/")).collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].0.starts_with("state/keep/epoch-5-x.csv-at-"), "{}", kept[0].0);
    assert_eq!(kept[0].1, "6,six\n");
}

/// What was taken back stays so, although no later write or run touches the file.
#[test]
fn what_is_taken_back_stays_so_without_power() {
    for by_recovery in [false, true] {
        let disk = SimDisk::new();
        let mut state = State::default();
        process(&disk, &mut state, false).unwrap();
        let committed = stored(&disk);
        let mut files = FileSet::new(&context(&disk, &state));
        files.append("data/a/x.csv", HEADER, b"6,six\n").unwrap();
        files.prepare(6).unwrap();
        if by_recovery {
            state.open = true;
            process(&disk, &mut state, false).unwrap();
        } else {
            files.abort().unwrap();
        }
        assert_eq!(stored(&disk), committed);
        assert_eq!(stored(&disk.crash(Survives::SYNCED)), committed, "by recovery: {by_recovery}");
    }
}

/// The epoch after a rewrite, prepared but not decided, is not taken for the one before.
#[test]
fn an_undecided_rewrite_after_a_decided_one_is_dropped() {
    let disk = SimDisk::new();
    let mut state = State::default();
    process(&disk, &mut state, false).unwrap();
    let mut files = FileSet::new(&context(&disk, &state));
    for n in [6, 7] {
        let changes = epoch(&mut files, &[Step::Append("data/a/x.csv", "n,n\n"), Step::Upper("data/a/x.csv")], n).unwrap();
        if n == 6 {
            state.records.apply(&changes);
            state.last = Some((n, changes.clone()));
            files.commit(n, &changes).unwrap();
        }
    }
    let committed = disk.files()["data/a/x.csv"].clone();
    assert!(committed.ends_with("\nN,N\n"));
    state.open = true;
    process(&disk, &mut state, false).unwrap();
    assert_eq!(disk.files()["data/a/x.csv"], committed);
    assert_eq!(stored(&disk).len(), 4);
}
