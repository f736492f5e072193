use std::collections::BTreeSet;

use proptest::prelude::*;
use rusqlite::Connection;

use super::{BLOCK, FULL, MANY, SCHEMA};
use crate::state::sqlite::{SqliteStore, open};
use crate::state::suite::{commit, run};
use crate::state::{EpochCommit, ModelStore, Rebuilt, RejectHash, Store};

/// There are so many hashes in a test.
const ALL: usize = 9000;

/// Some lie side by side at either end, the others anywhere.
fn hash(n: usize) -> RejectHash {
    match n % 4 {
        0 => n as RejectHash,
        1 => RejectHash::MAX - n as RejectHash,
        _ => anywhere(n),
    }
}

fn anywhere(n: usize) -> RejectHash {
    xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes())
}

fn some(from: usize, len: usize) -> Vec<RejectHash> {
    (from..from + len).map(|n| hash(n % ALL)).collect()
}

fn none_few_or_many() -> impl Strategy<Value = Vec<RejectHash>> {
    prop_oneof![
        2 => Just(Vec::new()),
        3 => prop::collection::vec((0..ALL).prop_map(hash), 1..30),
        3 => (0..ALL, MANY - 2..3 * MANY).prop_map(|(from, len)| some(from, len)),
    ]
}

/// Rejects that are kept, replayed and let go; and whether the state is rebuilt of them instead.
type Change = (Vec<RejectHash>, Vec<RejectHash>, Vec<RejectHash>, bool);

fn change() -> impl Strategy<Value = Change> {
    (none_few_or_many(), none_few_or_many(), none_few_or_many(), prop::bool::weighted(0.1))
}

fn make(store: &dyn Store, epoch: u64, (rejects, replayed, forgotten, rebuild): &Change) {
    if *rebuild {
        let which = |hashes: &[RejectHash], replayed| hashes.iter().map(move |hash| (*hash, replayed)).collect::<Vec<_>>();
        store.rebuild(&Rebuilt { rejects: [which(rejects, false), which(replayed, true)].concat(), ..Rebuilt::default() }).unwrap();
        return store.commit_epoch(&commit(epoch, "r")).unwrap();
    }
    let (rejects, replayed, forgotten) = (rejects.clone(), replayed.clone(), forgotten.clone());
    store.commit_epoch(&EpochCommit { rejects, replayed, forgotten, ..commit(epoch, "r") }).unwrap();
}

fn each(store: &dyn Store) -> BTreeSet<RejectHash> {
    let mut all = BTreeSet::new();
    store.each_reject(&mut |hash| all.extend([hash])).unwrap();
    all
}

/// A store that does not wait for the disk.
fn quick(dir: &std::path::Path) -> SqliteStore {
    let store = SqliteStore::open(dir).unwrap();
    store.connection.lock().unwrap().pragma_update(None, "synchronous", "OFF").unwrap();
    store.start_run(&run("r", "2026-05-19T15:00:00Z"), false).unwrap();
    store
}

/// How many hashes each run has, the largest first; that the blocks of each are those that are listed is looked at on the way.
fn runs(store: &SqliteStore) -> Vec<i64> {
    let connection = store.connection.lock().unwrap();
    let mut select = connection
        .prepare(
            "SELECT r.run, hashes, (SELECT sum(length(b.hashes)) FROM reject_block b WHERE b.place >> 32 = r.run) FROM reject_run r ORDER BY 2 DESC",
        )
        .unwrap();
    let runs: Vec<(i64, i64, i64)> =
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(runs.iter().all(|(_, hashes, bytes)| hashes * 16 == *bytes), "{runs:?}");
    let blocks_of_none = "SELECT count(*) FROM reject_block WHERE place >> 32 NOT IN (SELECT run FROM reject_run)";
    assert_eq!(connection.query_row(blocks_of_none, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    runs.into_iter().map(|(_, hashes, _)| hashes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_epochs_leave_what_the_model_has(changes in prop::collection::vec(change(), 1..10), asked in prop::collection::vec(0..ALL, 200)) {
        let dir = tempfile::tempdir().unwrap();
        let (store, model) = (quick(dir.path()), ModelStore::new());
        model.start_run(&run("r", "2026-05-19T15:00:00Z"), false).unwrap();
        let reader = SqliteStore::open_read_only(dir.path()).unwrap().unwrap();
        let asked: Vec<_> = asked.into_iter().map(hash).collect();
        for (epoch, change) in (1..).zip(&changes) {
            make(&store, epoch, change);
            make(&model, epoch, change);
            prop_assert_eq!(store.rejects(&asked).unwrap(), model.rejects(&asked).unwrap());
            prop_assert_eq!(each(&store), each(&model));
            runs(&store);
        }
        let all = some(0, ALL);
        prop_assert_eq!(reader.rejects(&all).unwrap(), model.rejects(&all).unwrap());
    }
}

#[test]
fn runs_are_few_and_the_full_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = quick(dir.path());
    let full = usize::try_from(FULL).unwrap();
    let epochs = 4 * full / MANY;
    for epoch in 0..epochs {
        let rejects = (epoch * MANY..(epoch + 1) * MANY).map(anywhere).collect();
        store.commit_epoch(&EpochCommit { rejects, ..commit(epoch as u64 + 1, "r") }).unwrap();
        let runs = runs(&store);
        assert_eq!(runs.iter().sum::<i64>(), ((epoch + 1) * MANY) as i64);
        let growing: Vec<_> = runs.iter().filter(|run| **run < FULL).collect();
        assert!(growing.windows(2).all(|pair| *pair[0] >= 2 * *pair[1]), "{runs:?}");
    }
    assert!(runs(&store).iter().all(|run| *run < 3 * FULL));
    let known = store.rejects(&(0..epochs * MANY + 5).map(anywhere).collect::<Vec<_>>()).unwrap();
    assert!(known.iter().enumerate().all(|(n, known)| *known == (n < epochs * MANY).then_some(false)));
    let blocks = store.connection.lock().unwrap().query_row("SELECT count(*) FROM reject_block", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(blocks.unsigned_abs() as usize <= epochs * MANY / BLOCK + 10, "{blocks} blocks");
}

#[test]
fn a_full_block_fills_a_page_and_spills_into_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = quick(dir.path());
    let pages = || store.connection.lock().unwrap().query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = pages();
    store.commit_epoch(&EpochCommit { rejects: (0..2 * MANY).map(anywhere).collect(), ..commit(1, "r") }).unwrap();
    let blocks = (2 * MANY / BLOCK) as i64;
    assert!((blocks..=blocks + 2).contains(&(pages() - before)), "{} pages for {blocks} blocks", pages() - before);
}

#[test]
fn a_run_whose_hashes_are_all_let_go_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = quick(dir.path());
    store.commit_epoch(&EpochCommit { rejects: some(0, MANY), ..commit(1, "r") }).unwrap();
    store.commit_epoch(&EpochCommit { forgotten: some(1, MANY), ..commit(2, "r") }).unwrap();
    assert_eq!(runs(&store), [1]);
    store.commit_epoch(&EpochCommit { forgotten: some(0, 1), ..commit(3, "r") }).unwrap();
    assert!(runs(&store).is_empty() && each(&store).is_empty());
}

#[test]
fn a_commit_that_fails_leaves_the_runs_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let store = quick(dir.path());
    store.commit_epoch(&EpochCommit { rejects: some(0, MANY), ..commit(1, "r") }).unwrap();
    let mut second = EpochCommit { rejects: some(MANY, MANY), ..commit(2, "r") };
    let beside = |known| move |store: &SqliteStore| assert_eq!(store.rejects(&[hash(0), hash(MANY)]).unwrap(), known);
    let before = beside([Some(false), None]);
    let failed = store.commit_epoch_with(&mut second, &mut || {
        before(&store);
        Err(pipeline_contract::StageError::developer("no"))
    });
    failed.unwrap_err();
    before(&store);
    assert_eq!(runs(&store), [MANY as i64]);
    store.commit_epoch(&second).unwrap();
    beside([Some(false); 2])(&store);
    assert_eq!(runs(&store), [2 * MANY as i64]);
}

/// A state as the first version left it: read by others before this program writes to it, and afterwards.
#[test]
fn a_state_of_the_first_version_is_read_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(SqliteStore::FILE);
    {
        let old = Connection::open(&file).unwrap();
        old.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        old.execute_batch(open::SCHEMA).unwrap();
        for (n, replayed) in [(0, false), (1, true), (2, true), (3, false)] {
            old.execute("INSERT INTO reject(hash, replayed) VALUES(?1, ?2)", rusqlite::params![hash(n).to_be_bytes(), replayed]).unwrap();
        }
    }
    let asked = some(0, 5);
    let reader = SqliteStore::open_read_only(dir.path()).unwrap().unwrap();
    let old = [Some(false), Some(true), Some(true), Some(false), None];
    assert_eq!(reader.rejects(&asked).unwrap(), old);
    assert_eq!(each(&reader), some(0, 4).into_iter().collect());

    let store = quick(dir.path());
    assert_eq!(store.rejects(&asked).unwrap(), old);
    store.commit_epoch(&EpochCommit { rejects: some(2, MANY), forgotten: vec![hash(3)], ..commit(1, "r") }).unwrap();
    let new = [Some(false), Some(true), Some(false), Some(false), Some(false)];
    for store in [&store, &reader, &SqliteStore::open_read_only(dir.path()).unwrap().unwrap()] {
        assert_eq!(store.rejects(&asked).unwrap(), new);
        assert_eq!(each(store).len(), MANY + 2);
    }
    drop((store, reader));
    let store = SqliteStore::open(dir.path()).unwrap();
    assert_eq!(store.rejects(&asked).unwrap(), new);
    let replayed = "SELECT sql FROM sqlite_schema WHERE name = 'reject_replayed'";
    let made: String = store.connection.lock().unwrap().query_row(replayed, [], |row| row.get(0)).unwrap();
    assert!(SCHEMA.contains(&made), "{made}");
}
