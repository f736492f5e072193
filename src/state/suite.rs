//! What every store must do, run on both.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pipeline_contract::{Category, Position, SinkState, Split};
use serde_json::{Value, json};

use super::*;

/// A test of each, on a store that `$make` makes and a value that must outlive it.
macro_rules! store_suite {
    ($make:expr; $($test:ident)*) => {$(
        #[test]
        fn $test() {
            let (store, _alive) = $make;
            crate::state::suite::$test(&store);
        }
    )*};
    ($make:expr) => {
        store_suite! { $make;
            a_new_store_knows_nothing
            bindings_are_kept_and_replaced
            epochs_follow_one_another
            an_epoch_saves_everything_it_changes
            an_epoch_of_an_unknown_run_or_split_saves_nothing
            records_are_of_one_sink_and_ordered
            what_counts_is_read_while_an_epoch_is_saved
            chunks_and_keys_answer_in_the_order_asked
            rejects_are_known_and_whether_they_were_replayed
            many_rejects_are_known_replayed_and_let_go_as_few_are
            runs_open_go_on_and_end
            a_run_that_starts_again_replaces_itself
            only_scheduled_runs_have_a_tick
            stretches_of_ticks_hold_what_is_within
            the_last_tick_ends_a_stretch_or_is_the_limit
            pruning_keeps_the_newest_and_what_is_open
            pruning_by_age_keeps_the_young_the_open_and_the_newest
            what_is_noted_outlives_epochs_and_rebuilds
            chunks_are_handed_over_by_series_and_time
            a_rebuilt_state_takes_the_place_of_the_old
            instants_are_kept_to_the_microsecond
        }
    };
}
pub(super) use store_suite;

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn split(id: &str) -> SplitRecord {
    SplitRecord {
        split: Split { id: id.to_owned(), data: json!({ "page": 1 }) },
        status: SplitStatus::Pending,
        rows: Counts::default(),
        attempts: 0,
        position: None,
        error: None,
    }
}

/// A run that has just begun.
pub(crate) fn run(id: &str, tick: &str) -> RunRecord {
    RunRecord {
        run_id: id.to_owned(),
        tick: at(tick),
        cause: "schedule".to_owned(),
        window: None,
        started_at: at(tick) + chrono::Duration::microseconds(1_500_001),
        ended_at: None,
        status: RunStatus::Open,
        rows: Counts::default(),
        error: None,
        splits: vec![split("bitcoin"), split("ethereum")],
    }
}

pub(super) fn commit(epoch: Epoch, run_id: &str) -> EpochCommit {
    EpochCommit { epoch, run_id: run_id.to_owned(), ..EpochCommit::default() }
}

fn sink_state<const N: usize>(changes: [(&str, Value); N]) -> SinkState {
    SinkState(changes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn chunk(series: &[u8], chunk: i64) -> ChunkKey {
    ChunkKey { series: series.to_vec(), chunk }
}

fn stretch(from: &str, until: &str, count: u64) -> TickRecord {
    TickRecord { tick: at(from), until: at(until), count, status: TickStatus::Skipped, reason: Some("down".to_owned()), run_id: None }
}

pub(super) fn a_new_store_knows_nothing(store: &dyn Store) {
    assert_eq!(store.binding().unwrap(), None);
    assert_eq!(store.last_epoch().unwrap(), None);
    assert_eq!(store.record("csv-0", "a").unwrap(), None);
    assert_eq!(store.records("csv-0").unwrap(), []);
    assert_eq!(store.chunks(&[chunk(b"a", 1)]).unwrap(), [None]);
    assert_eq!(store.keyed(&[b"a".to_vec()]).unwrap(), [None]);
    assert_eq!(store.dedupe_meta("width").unwrap(), None);
    assert_eq!(store.dedupe_size().unwrap(), (0, 0));
    assert_eq!(store.rejects(&[1]).unwrap(), [None]);
    assert_eq!(store.open_run().unwrap(), None);
    assert_eq!(store.runs(10).unwrap(), []);
    assert_eq!(store.tick(at("2026-05-19T15:00:00Z")).unwrap(), None);
    assert_eq!(store.last_tick(None).unwrap(), None);
    assert_eq!(store.ticks(10).unwrap(), []);
    store.prune(1, None).unwrap();
}

pub(super) fn bindings_are_kept_and_replaced(store: &dyn Store) {
    store.bind(&Binding::default()).unwrap();
    assert_eq!(store.binding().unwrap(), Some(Binding::default()));
    let binding = Binding(BTreeMap::from([("dedupe.keys".to_owned(), json!(["coin_id", "timestamp"]))]));
    store.bind(&binding).unwrap();
    assert_eq!(store.binding().unwrap(), Some(binding));
}

pub(super) fn epochs_follow_one_another(store: &dyn Store) {
    store.start_run(&run("r", "2026-05-19T15:00:00Z"), false).unwrap();
    for wrong in [0, 2] {
        assert_eq!(store.commit_epoch(&commit(wrong, "r")).unwrap_err().act, pipeline_contract::Act::Developer);
    }
    store.commit_epoch(&commit(1, "r")).unwrap();
    for wrong in [1, 3] {
        store.commit_epoch(&commit(wrong, "r")).unwrap_err();
    }
    store.commit_epoch(&commit(2, "r")).unwrap();
    assert_eq!(store.last_epoch().unwrap(), Some((2, vec![])));
}

pub(super) fn an_epoch_saves_everything_it_changes(store: &dyn Store) {
    let mut expected = run("r", "2026-05-19T15:00:00Z");
    store.start_run(&expected, true).unwrap();
    expected.rows = Counts { read: u64::MAX, written: 7, duplicates: 3, conflicts: 2, rejected: 1, filtered: 4 };
    expected.splits[1] = SplitRecord {
        split: Split { id: "ethereum".to_owned(), data: Value::Null },
        status: SplitStatus::Failed,
        rows: Counts { read: 10, ..Counts::default() },
        attempts: 2,
        position: Some(Position(Value::Null)),
        error: Some(ErrorRecord { category: Category::Network, message: "no answer".to_owned(), help: Some("wait".to_owned()) }),
    };
    let change = sink_state([("a.csv", json!({ "len": 10 })), ("b.csv", Value::Null)]);
    let first = EpochCommit {
        rows: expected.rows,
        splits: vec![(1, expected.splits[1].clone())],
        sinks: vec![("csv-0".to_owned(), change.clone())],
        dedupe: DedupeChanges {
            chunks: vec![(chunk(b"x", -1), vec![1, 2, 3])],
            keyed: vec![(b"k".to_vec(), u64::MAX)],
            meta: BTreeMap::from([("width".to_owned(), json!(3600))]),
        },
        rejects: vec![1, RejectHash::MAX],
        replayed: vec![],
        ..commit(1, "r")
    };
    store.commit_epoch(&first).unwrap();
    assert_eq!(store.last_epoch().unwrap(), Some((1, vec![("csv-0".to_owned(), change)])));
    assert_eq!(store.open_run().unwrap(), Some(expected));
    assert_eq!(store.record("csv-0", "a.csv").unwrap(), Some(json!({ "len": 10 })));
    assert_eq!(store.records("csv-0").unwrap(), [("a.csv".to_owned(), json!({ "len": 10 }))]);
    assert_eq!(store.chunks(&[chunk(b"x", -1)]).unwrap(), [Some(vec![1, 2, 3])]);
    assert_eq!(store.keyed(&[b"k".to_vec()]).unwrap(), [Some(u64::MAX)]);
    assert_eq!(store.dedupe_meta("width").unwrap(), Some(json!(3600)));
    assert_eq!(store.dedupe_size().unwrap(), (1, 1));
    assert_eq!(store.rejects(&[RejectHash::MAX, 2, 1]).unwrap(), [Some(false), None, Some(false)]);

    let second = EpochCommit {
        sinks: vec![("csv-0".to_owned(), sink_state([("a.csv", Value::Null), ("c.csv", json!(1))]))],
        dedupe: DedupeChanges {
            chunks: vec![(chunk(b"x", -1), vec![4])],
            keyed: vec![(b"k".to_vec(), 0)],
            meta: BTreeMap::from([("width".to_owned(), json!(60))]),
        },
        ..commit(2, "r")
    };
    store.commit_epoch(&second).unwrap();
    assert_eq!(store.records("csv-0").unwrap(), [("c.csv".to_owned(), json!(1))]);
    assert_eq!(store.chunks(&[chunk(b"x", -1)]).unwrap(), [Some(vec![4])]);
    assert_eq!(store.keyed(&[b"k".to_vec()]).unwrap(), [Some(0)]);
    assert_eq!(store.dedupe_meta("width").unwrap(), Some(json!(60)));
    assert_eq!(store.dedupe_size().unwrap(), (1, 1));
}

pub(super) fn an_epoch_of_an_unknown_run_or_split_saves_nothing(store: &dyn Store) {
    let expected = run("r", "2026-05-19T15:00:00Z");
    store.start_run(&expected, false).unwrap();
    let whole = EpochCommit {
        rows: Counts { read: 1, ..Counts::default() },
        splits: vec![(0, SplitRecord { attempts: 9, ..split("bitcoin") })],
        sinks: vec![("csv-0".to_owned(), sink_state([("a.csv", json!(1))]))],
        rejects: vec![5],
        ..commit(1, "r")
    };
    store.commit_epoch(&EpochCommit { run_id: "other".to_owned(), ..whole.clone() }).unwrap_err();
    store.commit_epoch(&EpochCommit { splits: vec![whole.splits[0].clone(), (2, split("solana"))], ..whole }).unwrap_err();
    assert_eq!(store.last_epoch().unwrap(), None);
    assert_eq!(store.open_run().unwrap(), Some(expected));
    assert_eq!(store.records("csv-0").unwrap(), []);
    assert_eq!(store.rejects(&[5]).unwrap(), [None]);
}

pub(super) fn records_are_of_one_sink_and_ordered(store: &dyn Store) {
    store.start_run(&run("r", "2026-05-19T15:00:00Z"), false).unwrap();
    let mine = sink_state([("b", json!(2)), ("a", json!([1])), ("é", json!("x"))]);
    let other = sink_state([("a", json!(3))]);
    let sinks = vec![("csv-1".to_owned(), mine), ("csv-10".to_owned(), other)];
    store.commit_epoch(&EpochCommit { sinks, ..commit(1, "r") }).unwrap();
    let records = store.records("csv-1").unwrap();
    assert_eq!(records, [("a".to_owned(), json!([1])), ("b".to_owned(), json!(2)), ("é".to_owned(), json!("x"))]);
    assert_eq!(store.record("csv-10", "a").unwrap(), Some(json!(3)));
    assert_eq!(store.records("csv").unwrap(), []);
}

pub(super) fn what_counts_is_read_while_an_epoch_is_saved(store: &dyn Store) {
    store.start_run(&run("r", "2026-05-19T15:00:00Z"), false).unwrap();
    let sinks = |value: u64| vec![("csv-0".to_owned(), sink_state([("a", json!(value))]))];
    store.commit_epoch(&EpochCommit { sinks: sinks(1), rejects: vec![7], ..commit(1, "r") }).unwrap();
    let first_counts = || {
        assert_eq!(store.record("csv-0", "a").unwrap(), Some(json!(1)));
        assert_eq!(store.chunks(&[chunk(b"a", 1)]).unwrap(), [None]);
        assert_eq!(store.rejects(&[5, 7]).unwrap(), [None, Some(false)]);
    };
    let dedupe = DedupeChanges { chunks: vec![(chunk(b"a", 1), vec![2])], ..DedupeChanges::default() };
    let mut second = EpochCommit { rejects: vec![5], dedupe, ..commit(2, "r") };
    let failed = store.commit_epoch_with(&mut second, &mut || {
        first_counts();
        Err(StageError::split(Category::Storage, "the sink is full"))
    });
    assert_eq!(failed.unwrap_err().message, "the sink is full");
    first_counts();
    assert_eq!(store.last_epoch().unwrap().unwrap().0, 1);

    let saved = store.commit_epoch_with(&mut second, &mut || {
        first_counts();
        Ok(Durable { sinks: sinks(2), forgotten: vec![7, 5] })
    });
    saved.unwrap();
    assert_eq!(second.sinks, sinks(2));
    assert_eq!(store.last_epoch().unwrap().unwrap(), (2, sinks(2)));
    assert_eq!(store.record("csv-0", "a").unwrap(), Some(json!(2)));
    assert_eq!(store.chunks(&[chunk(b"a", 1)]).unwrap(), [Some(vec![2])]);
    assert_eq!(store.rejects(&[5, 7]).unwrap(), [Some(false), None], "what is let go and comes again is kept");
}

pub(super) fn chunks_and_keys_answer_in_the_order_asked(store: &dyn Store) {
    store.start_run(&run("r", "2026-05-19T15:00:00Z"), false).unwrap();
    let dedupe = DedupeChanges {
        chunks: vec![(chunk(b"a", 1), vec![]), (chunk(b"a", i64::MIN), vec![2]), (chunk(b"", 1), vec![3])],
        keyed: vec![(vec![], 1), (vec![0], 2)],
        meta: BTreeMap::new(),
    };
    store.commit_epoch(&EpochCommit { dedupe, ..commit(1, "r") }).unwrap();
    let asked = [chunk(b"", 1), chunk(b"", 2), chunk(b"a", i64::MIN), chunk(b"a", 1), chunk(b"", 1)];
    assert_eq!(store.chunks(&asked).unwrap(), [Some(vec![3]), None, Some(vec![2]), Some(vec![]), Some(vec![3])]);
    assert_eq!(store.keyed(&[vec![0], vec![1], vec![]]).unwrap(), [Some(2), None, Some(1)]);
    assert_eq!(store.dedupe_size().unwrap(), (3, 2));
}

pub(super) fn rejects_are_known_and_whether_they_were_replayed(store: &dyn Store) {
    store.start_run(&run("r", "2026-05-19T15:00:00Z"), false).unwrap();
    store.commit_epoch(&EpochCommit { rejects: vec![1, 2], ..commit(1, "r") }).unwrap();
    store.commit_epoch(&EpochCommit { replayed: vec![2, 3], ..commit(2, "r") }).unwrap();
    assert_eq!(store.rejects(&[1, 2, 3, 4]).unwrap(), [Some(false), Some(true), Some(true), None]);
    store.commit_epoch(&EpochCommit { rejects: vec![2], ..commit(3, "r") }).unwrap();
    assert_eq!(store.rejects(&[2]).unwrap(), [Some(false)]);
}

pub(super) fn many_rejects_are_known_replayed_and_let_go_as_few_are(store: &dyn Store) {
    store.start_run(&run("r", "2026-05-19T15:00:00Z"), false).unwrap();
    let hashes = |numbers: std::ops::Range<u32>| numbers.map(|n| RejectHash::MAX / 10_000 * RejectHash::from(n)).collect::<Vec<_>>();
    let known = |expected: [(std::ops::Range<u32>, Option<bool>); 5]| {
        for (numbers, expected) in expected {
            let all = store.rejects(&hashes(numbers.clone())).unwrap();
            assert!(all.iter().all(|known| *known == expected), "{numbers:?}: {all:?}");
        }
        // In the order asked, and each as often as it is asked for.
        let mixed: Vec<_> = hashes(0..10_000).into_iter().step_by(7).rev().chain(hashes(4..6)).collect();
        let one_by_one: Vec<_> = mixed.iter().map(|hash| store.rejects(&[*hash]).unwrap().remove(0)).collect();
        assert_eq!(store.rejects(&mixed).unwrap(), one_by_one);
    };
    let (kept, replayed) = (Some(false), Some(true));
    let rejects = hashes(0..3000).into_iter().rev().chain(hashes(5..7)).collect();
    store.commit_epoch(&EpochCommit { rejects, ..commit(1, "r") }).unwrap();
    known([(0..1, kept), (1..10, kept), (10..3000, kept), (3000..5000, None), (5000..10_000, None)]);
    store.commit_epoch(&EpochCommit { replayed: hashes(1..10), rejects: hashes(4000..5000), ..commit(2, "r") }).unwrap();
    known([(0..1, kept), (1..10, replayed), (10..3000, kept), (3000..4000, None), (4000..5000, kept)]);
    store.commit_epoch(&EpochCommit { forgotten: hashes(1000..3000), rejects: hashes(4990..7000), ..commit(3, "r") }).unwrap();
    known([(0..1, kept), (1..10, replayed), (10..1000, kept), (1000..4000, None), (4000..7000, kept)]);
    store.commit_epoch(&EpochCommit { rejects: hashes(8..2000), forgotten: hashes(0..10), ..commit(4, "r") }).unwrap();
    known([(0..8, None), (8..2000, kept), (2000..4000, None), (4000..7000, kept), (7000..10_000, None)]);
    store.commit_epoch(&EpochCommit { replayed: hashes(0..1500), ..commit(5, "r") }).unwrap();
    store.commit_epoch(&EpochCommit { rejects: hashes(1000..2001), ..commit(6, "r") }).unwrap();
    known([(0..1000, replayed), (1000..2001, kept), (2001..4000, None), (4000..7000, kept), (7000..10_000, None)]);
    store.rebuild(&Rebuilt { rejects: hashes(2000..4000).into_iter().map(|hash| (hash, hash % 3 == 0)).collect(), ..Rebuilt::default() }).unwrap();
    known([(0..1, None), (1..1000, None), (1000..2000, None), (4000..5000, None), (5000..10_000, None)]);
    assert!(hashes(2000..4000).iter().all(|hash| store.rejects(&[*hash]).unwrap() == [Some(hash % 3 == 0)]));
}

pub(super) fn runs_open_go_on_and_end(store: &dyn Store) {
    let mut first = run("r1", "2026-05-19T15:00:00Z");
    store.start_run(&first, true).unwrap();
    assert_eq!(store.open_run().unwrap().as_ref(), Some(&first));
    assert_eq!(store.tick(first.tick).unwrap().unwrap().status, TickStatus::Running);
    first.status = RunStatus::Partial;
    first.ended_at = Some(at("2026-05-19T15:01:00.123456Z"));
    first.window = Some((Some(at("2026-01-01T00:00:00Z")), None));
    first.error = Some(ErrorRecord { category: Category::Storage, message: "full".to_owned(), help: None });
    first.splits.push(split("solana"));
    store.end_run(&first).unwrap();
    assert_eq!(store.open_run().unwrap(), None);
    let second = run("r2", "2026-05-19T16:00:00Z");
    store.start_run(&second, true).unwrap();
    assert_eq!(store.runs(10).unwrap(), [second.clone(), first.clone()]);
    assert_eq!(store.runs(1).unwrap(), [second]);
    let tick = store.tick(first.tick).unwrap().unwrap();
    assert_eq!((tick.status, tick.run_id.as_deref(), tick.count), (TickStatus::Ran, Some("r1"), 1));
    assert_eq!(store.ticks(10).unwrap().iter().map(|tick| tick.status).collect::<Vec<_>>(), [TickStatus::Running, TickStatus::Ran]);
}

pub(super) fn a_run_that_starts_again_replaces_itself(store: &dyn Store) {
    let first = run("r1", "2026-05-19T15:00:00Z");
    store.start_run(&first, true).unwrap();
    store.end_run(&RunRecord { status: RunStatus::Failed, ..run("r2", "2026-05-19T16:00:00Z") }).unwrap();
    let again = RunRecord { splits: vec![split("solana")], ..first };
    store.start_run(&again, true).unwrap();
    let runs = store.runs(10).unwrap();
    assert_eq!(runs.iter().map(|run| run.run_id.as_str()).collect::<Vec<_>>(), ["r1", "r2"]);
    assert_eq!(runs[0], again);
    let before = |id: &str, limit| store.runs_before(id, limit).unwrap().map(|runs| runs.into_iter().map(|run| run.run_id).collect::<Vec<_>>());
    assert_eq!(before("r1", 10), Some(vec!["r2".to_owned()]));
    assert_eq!(before("r1", 0), Some(Vec::new()));
    assert_eq!(before("r2", 10), Some(Vec::new()));
    assert_eq!(before("r3", 10), None);
}

pub(super) fn only_scheduled_runs_have_a_tick(store: &dyn Store) {
    let once = run("once", "2026-05-19T15:00:00Z");
    store.start_run(&once, false).unwrap();
    store.end_run(&RunRecord { status: RunStatus::Ok, ..once.clone() }).unwrap();
    assert_eq!(store.tick(once.tick).unwrap(), None);
    assert_eq!(store.ticks(10).unwrap(), []);
}

pub(super) fn stretches_of_ticks_hold_what_is_within(store: &dyn Store) {
    let long = stretch("2026-05-19T00:00:00Z", "2026-05-19T10:00:00Z", 11);
    let single = stretch("2026-05-19T12:00:00Z", "2026-05-19T12:00:00Z", 1);
    store.skip_ticks(&[long.clone(), single.clone()]).unwrap();
    let inner = run("r", "2026-05-19T03:00:00Z");
    store.start_run(&inner, true).unwrap();
    assert_eq!(store.tick(at("2026-05-19T00:00:00Z")).unwrap().as_ref(), Some(&long));
    assert_eq!(store.tick(at("2026-05-19T03:00:00Z")).unwrap().unwrap().run_id.as_deref(), Some("r"));
    assert_eq!(store.tick(at("2026-05-19T04:00:00Z")).unwrap().as_ref(), Some(&long));
    assert_eq!(store.tick(at("2026-05-19T10:00:00Z")).unwrap().as_ref(), Some(&long));
    assert_eq!(store.tick(at("2026-05-19T11:00:00Z")).unwrap(), None);
    assert_eq!(store.tick(at("2026-05-19T12:00:00Z")).unwrap().as_ref(), Some(&single));
    assert_eq!(store.tick(at("2026-05-18T23:00:00Z")).unwrap(), None);
    assert_eq!(store.ticks(1).unwrap(), [single]);
    let longer = stretch("2026-05-19T00:00:00Z", "2026-05-19T11:00:00Z", 12);
    store.skip_ticks(std::slice::from_ref(&longer)).unwrap();
    assert_eq!(store.tick(at("2026-05-19T11:00:00Z")).unwrap(), Some(longer));
}

pub(super) fn the_last_tick_ends_a_stretch_or_is_the_limit(store: &dyn Store) {
    store.skip_ticks(&[stretch("2026-05-19T00:00:00Z", "2026-05-19T10:00:00Z", 11)]).unwrap();
    store.start_run(&run("r", "2026-05-19T03:00:00Z"), true).unwrap();
    let last = |limit: &str| store.last_tick(Some(at(limit))).unwrap();
    assert_eq!(store.last_tick(None).unwrap(), Some(at("2026-05-19T10:00:00Z")));
    assert_eq!(last("2026-05-20T00:00:00Z"), Some(at("2026-05-19T10:00:00Z")));
    assert_eq!(last("2026-05-19T05:30:00Z"), Some(at("2026-05-19T05:30:00Z")));
    assert_eq!(last("2026-05-18T05:30:00Z"), None);
}

/// The runs `open`, `a`, `b` and `c`, an hour apart; the first goes on.
fn three_ended_and_one_open(store: &dyn Store) {
    store.start_run(&run("open", "2026-05-19T00:00:00Z"), true).unwrap();
    for (id, tick) in [("a", "2026-05-19T01:00:00Z"), ("b", "2026-05-19T02:00:00Z"), ("c", "2026-05-19T03:00:00Z")] {
        store.start_run(&run(id, tick), true).unwrap();
        store.end_run(&RunRecord { status: RunStatus::Ok, ..run(id, tick) }).unwrap();
    }
}

pub(super) fn pruning_keeps_the_newest_and_what_is_open(store: &dyn Store) {
    three_ended_and_one_open(store);
    store.prune(2, None).unwrap();
    let runs = store.runs(10).unwrap();
    assert_eq!(runs.iter().map(|run| run.run_id.as_str()).collect::<Vec<_>>(), ["c", "b", "open"]);
    assert!(runs.iter().all(|run| run.splits.len() == 2));
    let ticks = store.ticks(10).unwrap();
    assert_eq!(ticks.iter().filter_map(|tick| tick.run_id.as_deref()).collect::<Vec<_>>(), ["c", "b", "open"]);
    store.prune(0, None).unwrap();
    assert_eq!(store.runs(10).unwrap().len(), 1);
    assert_eq!(store.ticks(10).unwrap().len(), 1);
    store.prune(usize::MAX, None).unwrap();
}

pub(super) fn pruning_by_age_keeps_the_young_the_open_and_the_newest(store: &dyn Store) {
    three_ended_and_one_open(store);
    let kept = |keep: usize, before: &str| {
        store.prune(keep, Some(at(before))).unwrap();
        let runs: Vec<String> = store.runs(10).unwrap().into_iter().map(|run| run.run_id).collect();
        let ticks: Vec<String> = store.ticks(10).unwrap().into_iter().filter_map(|tick| tick.run_id).collect();
        assert_eq!(runs, ticks);
        runs.join(" ")
    };
    assert_eq!(kept(10, "2026-05-18T00:00:00Z"), "c b a open");
    assert_eq!(kept(10, "2026-05-19T02:00:00Z"), "c b open");
    assert_eq!(kept(10, "2027-01-01T00:00:00Z"), "c open");
    assert_eq!(kept(0, "2026-05-18T00:00:00Z"), "open");
}

pub(super) fn what_is_noted_outlives_epochs_and_rebuilds(store: &dyn Store) {
    assert_eq!(store.note("told").unwrap(), None);
    store.set_note("told", &json!({"at": 1})).unwrap();
    store.set_note("told", &json!({"at": 2})).unwrap();
    store.set_note("epoch", &json!("no fact of ours")).unwrap();
    store.rebuild(&Rebuilt::default()).unwrap();
    assert_eq!(store.note("told").unwrap(), Some(json!({"at": 2})));
    assert_eq!(store.last_epoch().unwrap(), None);
}

pub(super) fn chunks_are_handed_over_by_series_and_time(store: &dyn Store) {
    store.start_run(&run("r", "2026-05-19T15:00:00Z"), true).unwrap();
    let chunks = vec![(chunk(b"b", 1), vec![1]), (chunk(b"a", 2), vec![2]), (chunk(b"a", -1), vec![3])];
    let dedupe = DedupeChanges { chunks, ..DedupeChanges::default() };
    store.commit_epoch(&EpochCommit { dedupe, ..commit(1, "r") }).unwrap();
    let mut seen = Vec::new();
    let mut each = |key: ChunkKey, data: &[u8]| {
        seen.push((key, data.to_vec()));
        Ok(())
    };
    store.each_chunk(&mut each).unwrap();
    assert_eq!(seen, [(chunk(b"a", -1), vec![3]), (chunk(b"a", 2), vec![2]), (chunk(b"b", 1), vec![1])]);
    let mut count = 0;
    let stopped = store.each_chunk(&mut |_, _| {
        count += 1;
        Err(StageError::developer("enough"))
    });
    assert_eq!((stopped.unwrap_err().message.as_str(), count), ("enough", 1));
    assert!(store.size().unwrap() > 0);
    assert_eq!(store.run("r").unwrap().map(|run| run.run_id), Some("r".to_owned()));
    assert_eq!(store.run("s").unwrap(), None);
}

pub(super) fn a_rebuilt_state_takes_the_place_of_the_old(store: &dyn Store) {
    let old = run("r", "2026-05-19T15:00:00Z");
    store.start_run(&old, true).unwrap();
    let dedupe = |name: &[u8], meta: &str| DedupeChanges {
        chunks: vec![(chunk(name, 1), name.to_vec())],
        keyed: vec![(name.to_vec(), 1)],
        meta: BTreeMap::from([(meta.to_owned(), json!(1))]),
    };
    let sinks = vec![("csv-0".to_owned(), sink_state([("old.csv", json!(1))]))];
    store.commit_epoch(&EpochCommit { sinks, dedupe: dedupe(b"old", "old"), rejects: vec![1], ..commit(1, "r") }).unwrap();
    let binding = Binding(BTreeMap::from([("sink.path".to_owned(), json!("new"))]));
    let sinks = vec![("csv-0".to_owned(), sink_state([("new.csv", json!(2))]))];
    store.rebuild(&Rebuilt { binding: binding.clone(), sinks, dedupe: dedupe(b"new", "new"), rejects: vec![(2, true)] }).unwrap();
    assert_eq!(store.binding().unwrap(), Some(binding));
    assert_eq!(store.records("csv-0").unwrap(), [("new.csv".to_owned(), json!(2))]);
    assert_eq!(store.chunks(&[chunk(b"old", 1), chunk(b"new", 1)]).unwrap(), [None, Some(b"new".to_vec())]);
    assert_eq!(store.keyed(&[b"old".to_vec(), b"new".to_vec()]).unwrap(), [None, Some(1)]);
    assert_eq!((store.dedupe_meta("old").unwrap(), store.dedupe_meta("new").unwrap()), (None, Some(json!(1))));
    assert_eq!(store.rejects(&[1, 2]).unwrap(), [None, Some(true)]);
    assert_eq!(store.runs(1).unwrap(), [old]);
    assert_eq!(store.ticks(10).unwrap().len(), 1);
    assert_eq!(store.last_epoch().unwrap(), Some((1, vec![])));
    store.commit_epoch(&commit(2, "r")).unwrap();
}

pub(super) fn instants_are_kept_to_the_microsecond(store: &dyn Store) {
    let fine = RunRecord {
        started_at: at("1969-12-31T23:59:59.123456789Z"),
        ended_at: Some(at("2026-05-19T15:00:00.999999999Z")),
        ..run("r", "2026-05-19T15:00:00.000000001Z")
    };
    store.start_run(&fine, true).unwrap();
    let kept = store.runs(1).unwrap().remove(0);
    assert_eq!(kept.started_at, at("1969-12-31T23:59:59.123456Z"));
    assert_eq!(kept.ended_at, Some(at("2026-05-19T15:00:00.999999Z")));
    assert_eq!(store.tick(fine.tick).unwrap().unwrap().tick, at("2026-05-19T15:00:00Z"));
    assert_eq!(store.last_tick(None).unwrap(), Some(at("2026-05-19T15:00:00Z")));
}

mod model {
    use super::super::model::{CommitFault, ModelStore};
    use super::*;

    store_suite! { (ModelStore::new(), ()) }

    #[test]
    fn a_clone_sees_the_same_state() {
        let store = ModelStore::new();
        let again = store.clone();
        store.bind(&Binding::default()).unwrap();
        drop(store);
        assert_eq!(again.binding().unwrap(), Some(Binding::default()));
    }

    #[test]
    fn one_commit_can_be_made_to_fail_before_or_after_it_is_saved() {
        let store = ModelStore::new();
        store.start_run(&run("r", "2026-05-19T15:00:00Z"), false).unwrap();
        store.fail_next_commit(CommitFault::Before);
        store.commit_epoch(&commit(1, "r")).unwrap_err();
        assert_eq!(store.last_epoch().unwrap(), None);
        store.fail_next_commit(CommitFault::After);
        store.commit_epoch(&commit(1, "r")).unwrap_err();
        assert_eq!(store.last_epoch().unwrap(), Some((1, vec![])));
        store.commit_epoch(&commit(2, "r")).unwrap();
    }
}
