use std::collections::{BTreeMap, BTreeSet};

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use chrono::{DateTime, Utc};
use pipeline_contract::{Act, Category, Row, rows};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::state::{ChunkKey, CommitFault, EpochCommit, ModelStore, SqliteStore, suite};
use crate::watch::{Coverage, Expected, Found};

rows! {
    struct Candle {
        /// Tells rows apart; not stored.
        row: i64,
        coin: Option<String>,
        time: Option<DateTime<Utc>>,
        number: Option<i64>,
        close: Option<f64>,
        note: Option<String>,
    }
}

/// A row with its number, the hour of its time and its close.
fn candle(row: i64, coin: &str, hour: i64, close: f64) -> Candle {
    Candle { row, coin: Some(coin.to_owned()), time: Some(hour_of(hour)), number: Some(hour), close: Some(close), note: None }
}

fn hour_of(hour: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::Duration::hours(hour)
}

const SERIES: [&str; 2] = ["coin", "time"];
const KEYED: [&str; 2] = ["number", "coin"];

fn plan(keys: &[&str], on_conflict: OnConflict) -> DedupePlan {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    DedupePlan::new(&Candle::schema(), &owned(keys), &owned(&["coin", "time", "number", "close", "note"]), on_conflict).unwrap()
}

/// A deduper, its store, and what an engine does with them.
struct Rig {
    store: Arc<dyn Store>,
    plan: DedupePlan,
    deduper: Deduper,
}

impl Rig {
    fn on(store: Arc<dyn Store>, plan: DedupePlan) -> Self {
        store.start_run(&suite::run("r", "1970-01-01T00:00:00Z"), false).unwrap();
        let deduper = Deduper::new(plan.clone(), store.clone()).unwrap();
        Self { store, plan, deduper }
    }

    fn new(keys: &[&str], on_conflict: OnConflict) -> Self {
        Self::on(Arc::new(ModelStore::new()), plan(keys, on_conflict))
    }

    /// Numbers of the rows in `append`, `replace` and `stored`, and how many duplicates, conflicts and rejects.
    fn apply(&mut self, rows: &[Candle]) -> (Vec<i64>, Vec<i64>, Vec<i64>, [usize; 3]) {
        let done = self.deduper.apply(&Candle::batch(rows)).unwrap();
        let counts = [usize::try_from(done.duplicates).unwrap(), usize::try_from(done.conflicts).unwrap(), done.rejects.len()];
        (numbers(&done.append), numbers(&done.replace), numbers(&done.stored), counts)
    }

    fn save(&self, dedupe: DedupeChanges) -> Result<(), StageError> {
        let epoch = self.store.last_epoch()?.map_or(1, |(epoch, _)| epoch + 1);
        self.store.commit_epoch(&EpochCommit { epoch, run_id: "r".to_owned(), dedupe, ..EpochCommit::default() })
    }

    fn commit(&mut self) {
        let changes = self.deduper.to_save();
        self.save(changes).unwrap();
        self.deduper.committed();
    }

    /// How many parts the log of keys has.
    fn key_parts(&self) -> usize {
        let mut parts = 0;
        self.store
            .each_key_part(&mut |_| {
                parts += 1;
                Ok(())
            })
            .unwrap();
        parts
    }

    fn restart(&mut self) {
        self.deduper = Deduper::new(self.plan.clone(), self.store.clone()).unwrap();
    }
}

fn numbers(batch: &RecordBatch) -> Vec<i64> {
    batch["row"].as_primitive::<Int64Type>().values().to_vec()
}

fn both(on_conflict: OnConflict, test: impl Fn(Rig)) {
    for keys in [SERIES, KEYED] {
        test(Rig::new(&keys, on_conflict));
    }
}

#[test]
fn the_kind_of_key_picks_the_layout() {
    assert!(plan(&["time"], OnConflict::KeepFirst).is_series_time());
    assert!(plan(&["coin", "time", "number"], OnConflict::KeepFirst).is_series_time());
    assert!(!plan(&["coin"], OnConflict::KeepFirst).is_series_time());
    let broken = |keys: &[&str], stored: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        DedupePlan::new(&Candle::schema(), &owned(keys), &owned(stored), OnConflict::KeepFirst).unwrap_err().act
    };
    assert_eq!(broken(&[], &["coin"]), Act::Developer);
    assert_eq!(broken(&["moon"], &[]), Act::Developer);
    assert_eq!(broken(&["coin"], &["moon"]), Act::Developer);
}

#[test]
fn duplicates_and_conflicts_are_told_apart_within_a_batch_and_an_epoch() {
    both(OnConflict::KeepFirst, |mut rig| {
        let rows = [candle(0, "a", 1, 1.0), candle(1, "a", 1, 1.0), candle(2, "a", 1, 2.0), candle(3, "b", 1, 1.0), candle(4, "a", 2, 1.0)];
        assert_eq!(rig.apply(&rows), (vec![0, 3, 4], vec![], vec![1, 2], [1, 1, 0]));
        assert_eq!(rig.apply(&rows), (vec![], vec![], vec![0, 1, 2, 3, 4], [4, 1, 0]));
    });
}

#[test]
fn what_was_committed_is_known_after_a_restart() {
    both(OnConflict::KeepFirst, |mut rig| {
        rig.apply(&[candle(0, "a", 1, 1.0), candle(1, "b", 1, 1.0)]);
        rig.commit();
        rig.apply(&[candle(2, "a", 2, 1.0)]);
        rig.restart();
        let rows = [candle(3, "a", 1, 1.0), candle(4, "b", 1, 2.0), candle(5, "a", 2, 1.0)];
        assert_eq!(rig.apply(&rows), (vec![5], vec![], vec![3, 4], [1, 1, 0]));
    });
}

#[test]
fn an_abort_forgets_the_epoch_and_no_more() {
    both(OnConflict::KeepLast, |mut rig| {
        rig.apply(&[candle(0, "a", 1, 1.0)]);
        rig.deduper.abort();
        assert_eq!(rig.deduper.changes(), DedupeChanges::default());
        assert_eq!(rig.apply(&[candle(1, "a", 1, 1.0)]).0, [1]);
        rig.commit();
        assert_eq!(rig.apply(&[candle(2, "a", 1, 2.0), candle(3, "a", 2, 2.0)]), (vec![3], vec![2], vec![], [0, 1, 0]));
        rig.deduper.abort();
        assert_eq!(rig.apply(&[candle(4, "a", 1, 1.0), candle(5, "a", 2, 2.0)]), (vec![5], vec![], vec![4], [1, 0, 0]));
    });
}

#[test]
fn nothing_new_changes_nothing() {
    both(OnConflict::KeepFirst, |mut rig| {
        let rows = [candle(0, "a", 1, 1.0), candle(1, "a", 2, 1.0)];
        rig.apply(&rows);
        rig.commit();
        assert_eq!(rig.deduper.changes(), DedupeChanges::default());
        rig.apply(&rows);
        rig.apply(&[candle(2, "a", 1, 9.0)]);
        rig.apply(&[candle(3, "z", 1, 9.0)][..0]);
        assert_eq!(rig.deduper.changes(), DedupeChanges::default());
    });
}

#[test]
fn keep_last_replaces_in_the_batch_or_in_what_is_stored() {
    both(OnConflict::KeepLast, |mut rig| {
        let rows = [candle(0, "a", 1, 1.0), candle(1, "a", 2, 1.0), candle(2, "a", 1, 2.0), candle(3, "a", 1, 3.0), candle(4, "a", 1, 3.0)];
        assert_eq!(rig.apply(&rows), (vec![1, 3], vec![], vec![4], [1, 2, 0]));
        // Of this epoch.
        let rows = [candle(5, "a", 1, 4.0), candle(6, "a", 3, 1.0), candle(7, "a", 1, 5.0)];
        assert_eq!(rig.apply(&rows), (vec![6], vec![7], vec![], [0, 2, 0]));
        rig.commit();
        // Stored.
        let rows = [candle(8, "a", 2, 4.0), candle(9, "a", 1, 5.0), candle(10, "a", 2, 5.0)];
        assert_eq!(rig.apply(&rows), (vec![], vec![10], vec![9], [1, 2, 0]));
        rig.commit();
        rig.restart();
        assert_eq!(rig.apply(&[candle(11, "a", 2, 5.0)]), (vec![], vec![], vec![11], [1, 0, 0]));
    });
}

#[test]
fn a_rejected_conflict_names_its_key() {
    let mut rig = Rig::new(&SERIES, OnConflict::Reject);
    let done = rig.deduper.apply(&Candle::batch(&[candle(0, "a", 1, 1.0), candle(1, "a", 1, 2.0)])).unwrap();
    assert_eq!((done.conflicts, numbers(&done.append), numbers(&done.stored)), (1, vec![0], vec![1]));
    let [reject] = &done.rejects[..] else { panic!("{:?}", done.rejects) };
    assert_eq!(reject.rule, "conflict");
    assert_eq!(reject.message, r#"other values are stored for coin = "a", time = "1970-01-01T01:00:00Z""#);
    assert_eq!(reject.row["row"], json!(1));
    // The first still stands.
    assert_eq!(rig.apply(&[candle(2, "a", 1, 1.0), candle(3, "a", 1, 2.0)]), (vec![], vec![], vec![2, 3], [1, 1, 1]));
}

#[test]
fn a_row_without_a_whole_key_is_rejected() {
    both(OnConflict::KeepLast, |mut rig| {
        let rows = [
            Candle { coin: None, ..candle(0, "", 1, 1.0) },
            Candle { time: None, number: None, ..candle(1, "a", 1, 1.0) },
            candle(2, "a", 1, 1.0),
            Candle { coin: None, time: None, number: None, ..candle(3, "", 1, 1.0) },
        ];
        let done = rig.deduper.apply(&Candle::batch(&rows)).unwrap();
        assert_eq!((numbers(&done.append), numbers(&done.stored), done.conflicts, done.duplicates), (vec![2], vec![], 0, 0));
        assert!(done.rejects.iter().all(|reject| reject.rule == "null_key"));
        assert!(done.rejects[0].message.starts_with("coin: null"), "{:?}", done.rejects);
        assert_eq!(done.rejects.len(), 3);
        assert!(done.rejects[2].message.contains("coin") && done.rejects[2].message.contains(", "), "{:?}", done.rejects);
    });
}

#[test]
fn rows_without_keys_and_epochs_given_up_do_not_fix_the_width() {
    let mut rig = Rig::new(&SERIES, OnConflict::KeepFirst);
    rig.apply(&[Candle { time: None, ..candle(0, "a", 1, 1.0) }]);
    rig.apply(&[candle(0, "a", 1, 1.0)]);
    assert_eq!(rig.deduper.changes().meta["chunk_width_us"], json!(24 * 3_600_000_000_i64));
    rig.deduper.abort();
    rig.apply(&[candle(0, "a", 1, 1.0), candle(1, "a", 2, 1.0)]);
    assert_eq!(rig.deduper.changes().meta["chunk_width_us"], json!(512 * 3_600_000_000_i64));
    rig.commit();
    assert_eq!(rig.apply(&[candle(2, "a", 3, 1.0)]).0, [2]);
    assert_eq!(rig.deduper.changes().meta, BTreeMap::new());
}

#[test]
fn equal_values_in_other_clothes_are_duplicates() {
    both(OnConflict::KeepFirst, |mut rig| {
        let noted = |row, note: Option<&str>, close| Candle { note: note.map(str::to_owned), close, ..candle(row, "a", row, 1.0) };
        rig.apply(&[noted(1, None, Some(0.0)), noted(2, Some(""), Some(f64::NAN)), noted(3, Some("x"), None)]);
        let same = [noted(1, Some(""), Some(-0.0)), noted(2, None, Some(-f64::NAN)), noted(3, Some("x"), None)];
        assert_eq!(rig.apply(&same).3, [3, 0, 0]);
        let other = [noted(1, None, None), noted(2, None, Some(f64::INFINITY)), noted(3, None, None)];
        assert_eq!(rig.apply(&other).3, [0, 3, 0]);
    });
}

#[test]
fn keys_that_look_alike_are_not_equal() {
    let mut rig = Rig::new(&["coin", "note"], OnConflict::KeepFirst);
    let pair = |row, coin: &str, note: &str| Candle { note: Some(note.to_owned()), ..candle(row, coin, 0, 1.0) };
    let rows = [pair(0, "ab", "c"), pair(1, "a", "bc"), pair(2, "", "abc"), pair(3, "abc", ""), pair(4, "a\0", "bc"), pair(5, "a", "\0bc")];
    assert_eq!(rig.apply(&rows).0, [0, 1, 2, 3, 4, 5]);
    let mut rig = Rig::new(&["close"], OnConflict::KeepFirst);
    let rows = [candle(0, "", 0, 0.0), candle(1, "", 0, -0.0), candle(2, "", 0, f64::NAN), candle(3, "", 0, -f64::NAN), candle(4, "", 0, 1e-300)];
    assert_eq!(rig.apply(&rows), (vec![0, 2, 4], vec![], vec![1, 3], [2, 0, 0]));
}

#[test]
fn damaged_state_is_an_error_and_changes_nothing() {
    let mut rig = Rig::new(&SERIES, OnConflict::KeepFirst);
    rig.apply(&[candle(0, "a", 1, 1.0), candle(1, "a", 2, 1.0)]);
    rig.commit();
    let name = rig.store_key();
    let good = rig.store.chunks(std::slice::from_ref(&name)).unwrap().remove(0).unwrap();
    let foreign = {
        let mut other = Rig::new(&SERIES, OnConflict::KeepFirst);
        other.apply(&[candle(0, "a", 100_000, 1.0), candle(1, "a", 100_001, 1.0)]);
        other.deduper.changes().chunks.remove(0).1
    };
    for bad in [vec![], vec![1, 2, 3], good[..good.len() - 1].to_vec(), foreign] {
        rig.save(DedupeChanges { chunks: vec![(name.clone(), bad)], ..DedupeChanges::default() }).unwrap();
        rig.restart();
        let error = rig.deduper.apply(&Candle::batch(&[candle(9, "b", 1, 1.0), candle(2, "a", 3, 1.0)])).unwrap_err();
        assert_eq!((error.act, error.category), (Act::Operator, Category::Storage));
        assert!(error.help.unwrap().contains("pipeline state rebuild"));
        assert_eq!(rig.deduper.changes(), DedupeChanges::default());
        rig.save(DedupeChanges { chunks: vec![(name.clone(), good.clone())], ..DedupeChanges::default() }).unwrap();
        assert_eq!(rig.apply(&[candle(3, "a", 1, 1.0), candle(4, "b", 1, 1.0)]), (vec![4], vec![], vec![3], [1, 0, 0]));
    }
    for bad in [json!("wide"), json!(0), json!(-5)] {
        rig.save(DedupeChanges { meta: BTreeMap::from([("chunk_width_us".to_owned(), bad)]), ..DedupeChanges::default() }).unwrap();
        rig.restart();
        assert!(rig.deduper.apply(&Candle::batch(&[candle(0, "a", 1, 1.0)])).is_err());
    }
}

impl Rig {
    /// The chunk of coin `a` around the first hours of 1970.
    fn store_key(&self) -> ChunkKey {
        ChunkKey { series: vec![4, 0, 0, 0, 1, b'a'], chunk: 0 }
    }
}

#[test]
fn an_unknown_outcome_is_healed_by_an_abort() {
    for (fault, appended) in [(CommitFault::Before, vec![2, 3]), (CommitFault::After, vec![])] {
        for keys in [SERIES, KEYED] {
            let store = ModelStore::new();
            let mut rig = Rig::on(Arc::new(store.clone()), plan(&keys, OnConflict::KeepFirst));
            rig.apply(&[candle(0, "a", 1, 1.0), candle(1, "a", 2, 1.0)]);
            store.fail_next_commit(fault);
            rig.save(rig.deduper.changes()).unwrap_err();
            rig.deduper.abort();
            assert_eq!(rig.apply(&[candle(2, "a", 1, 1.0), candle(3, "a", 2, 1.0)]).0, appended);
        }
        // As a part of the log, the first one and a later one.
        let store = ModelStore::new();
        let mut rig = Rig::on(Arc::new(store.clone()), plan(&SERIES, OnConflict::KeepFirst));
        let scattered = |first: i64| (0..6).map(|row| candle(first + row, &format!("coin {row}"), first, 1.0)).collect::<Vec<_>>();
        for first in [0, 100] {
            rig.apply(&scattered(first));
            store.fail_next_commit(fault);
            let part = rig.deduper.to_save();
            assert!(part.key_part.is_some() && part.chunks.is_empty());
            rig.save(part).unwrap_err();
            rig.deduper.abort();
            assert_eq!(rig.apply(&scattered(first)).0.is_empty(), appended.is_empty());
            rig.commit();
        }
        rig.deduper.fold().unwrap();
        rig.restart();
        assert_eq!(rig.apply(&[scattered(0), scattered(100)].concat()).3, [12, 0, 0]);
    }
}

#[test]
fn scattered_rows_go_into_the_log_and_are_folded_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::on(Arc::new(SqliteStore::open(dir.path()).unwrap()), plan(&SERIES, OnConflict::KeepLast));
    let rows = |hour: i64, close: f64| (0..50).map(|coin| candle(hour * 100 + coin, &format!("coin {coin}"), hour, close)).collect::<Vec<_>>();
    for hour in 0..3 {
        assert_eq!(rig.apply(&rows(hour, 1.0)).0.len(), 50);
        rig.commit();
    }
    // The last of these counts, also where the log is read anew.
    assert_eq!(rig.apply(&rows(1, 2.0)).1.len(), 50);
    rig.commit();
    assert_eq!((rig.key_parts(), rig.store.dedupe_size().unwrap().0), (4, 0));
    rig.apply(&rows(7, 1.0));
    assert_eq!(rig.deduper.fold(), Ok(vec![]), "not while an epoch is open");
    rig.deduper.to_save();
    rig.deduper.seal();
    assert_eq!(rig.deduper.fold(), Ok(vec![]), "nor while one is being stored");
    rig.deduper.abort();
    rig.restart();
    assert_eq!(rig.apply(&[rows(1, 2.0), rows(2, 1.0), rows(7, 3.0)].concat()).3, [100, 0, 0]);
    rig.commit();
    let folded = rig.deduper.fold().unwrap();
    assert_eq!((folded.len(), rig.key_parts(), rig.store.dedupe_size().unwrap().0), (50, 0, 50));
    assert!(folded.is_sorted());
    assert_eq!(rig.apply(&rows(1, 2.0)).3, [50, 0, 0]);
    rig.restart();
    assert_eq!(rig.apply(&[rows(0, 1.0), rows(1, 2.0), rows(2, 1.0), rows(7, 3.0)].concat()).3, [200, 0, 0]);
    assert_eq!(rig.deduper.to_save(), DedupeChanges::default());
    // The next log names its series anew.
    for hour in 8..10 {
        rig.apply(&rows(hour, 1.0));
        rig.commit();
        rig.deduper.fold().unwrap();
    }
    rig.apply(&rows(10, 1.0));
    rig.commit();
    assert_eq!(rig.key_parts(), 1);
    rig.restart();
    assert_eq!(rig.apply(&[rows(9, 1.0), rows(10, 1.0)].concat()).3, [100, 0, 0]);
}

#[test]
fn a_few_rows_go_into_the_log_as_well_while_there_is_one() {
    let mut rig = Rig::new(&SERIES, OnConflict::KeepLast);
    rig.apply(&(0..6).map(|row| candle(row, &format!("coin {row}"), 0, 1.0)).collect::<Vec<_>>());
    rig.commit();
    // In its chunk, the log would overrule it.
    let revised = [candle(6, "coin 2", 0, 2.0)];
    assert_eq!(rig.apply(&revised).1, [6]);
    rig.commit();
    assert_eq!((rig.key_parts(), rig.store.dedupe_size().unwrap().0), (2, 0));
    rig.restart();
    assert_eq!(rig.apply(&revised).3, [1, 0, 0]);
}

#[test]
fn a_log_is_large_by_its_chunks_and_by_its_rows() {
    for (coins, hours) in [(60, 1), (4, 300)] {
        let mut rig = Rig::new(&SERIES, OnConflict::KeepLast);
        let rows = |close: f64| (0..coins * hours).map(|row| candle(row, &format!("coin {}", row % coins), row / coins, close)).collect::<Vec<_>>();
        // A log that is there already takes what is not scattered.
        rig.apply(&rows(1.0)[..4]);
        rig.commit();
        assert!(!rig.deduper.is_log_large());
        rig.apply(&rows(1.0));
        assert!(!rig.deduper.is_log_large(), "what is not in it yet is not counted");
        rig.commit();
        assert!(rig.deduper.is_log_large(), "{coins} chunks, {hours} rows in each");
        rig.restart();
        rig.apply(&rows(1.0)[..1]);
        assert!(rig.deduper.is_log_large(), "and one that was found");
        rig.deduper.fold().unwrap();
        assert!(!rig.deduper.is_log_large());
    }
}

#[test]
fn the_log_names_the_right_series_though_others_were_let_go_meanwhile() {
    let mut rig = Rig::new(&SERIES, OnConflict::KeepFirst);
    let rows: Vec<Candle> = (0..12).map(|row| candle(row, &format!("coin {row}"), 0, 1.0)).collect();
    rig.apply(&rows[..6]);
    rig.commit();
    rig.deduper.fold().unwrap();
    rig.restart();
    rig.deduper.kind = Kind::Series(Box::new(Series::with_cache(0)));
    // Nothing is kept of those that are known, and the new ones move up.
    assert_eq!(rig.apply(&rows).0.len(), 6);
    rig.commit();
    assert_eq!(rig.key_parts(), 1);
    rig.restart();
    assert_eq!(rig.apply(&rows).3, [12, 0, 0]);
}

#[test]
fn whatever_became_of_a_fold_nothing_is_forgotten() {
    for fault in [CommitFault::Before, CommitFault::After] {
        let store = ModelStore::new();
        let mut rig = Rig::on(Arc::new(store.clone()), plan(&SERIES, OnConflict::KeepFirst));
        let rows = |hour: i64| (0..6).map(|row| candle(row, &format!("coin {row}"), hour, 1.0)).collect::<Vec<_>>();
        rig.apply(&rows(0));
        rig.commit();
        store.fail_next_commit(fault);
        rig.deduper.fold().unwrap_err();
        // Series that the log named, or did not, as the store has it now.
        rig.apply(&rows(1));
        rig.commit();
        rig.restart();
        assert_eq!(rig.apply(&[rows(0), rows(1)].concat()).3, [12, 0, 0], "{fault:?}");
        rig.deduper.fold().unwrap();
        rig.restart();
        assert_eq!(rig.apply(&[rows(0), rows(1)].concat()).3, [12, 0, 0], "{fault:?}");
    }
}

#[test]
fn a_log_that_was_left_is_folded_though_nothing_comes() {
    let mut rig = Rig::new(&SERIES, OnConflict::KeepFirst);
    let rows: Vec<Candle> = (0..6).map(|row| candle(row, &format!("coin {row}"), 0, 1.0)).collect();
    rig.apply(&rows);
    rig.commit();
    rig.restart();
    assert_eq!((rig.deduper.fold().unwrap().len(), rig.key_parts()), (6, 0));
    assert_eq!(rig.apply(&rows).3, [6, 0, 0]);
}

#[test]
fn a_damaged_log_is_told() {
    let rig = || {
        let mut rig = Rig::new(&SERIES, OnConflict::KeepFirst);
        rig.apply(&(0..9).map(|row| candle(row, &format!("coin {row}"), 0, 1.0)).collect::<Vec<_>>());
        let part = rig.deduper.to_save();
        (rig, part)
    };
    let of = |change: &dyn Fn(&mut DedupeChanges)| {
        let (mut rig, mut part) = rig();
        change(&mut part);
        rig.save(part).unwrap();
        rig.restart();
        let batch = Candle::batch(&[candle(0, "coin 3", 0, 1.0)]);
        let told = rig.deduper.apply(&batch).unwrap_err();
        assert_eq!(rig.deduper.apply(&batch).unwrap_err(), told, "and again");
        assert_eq!((told.act, told.category), (Act::Operator, Category::Storage));
        assert!(told.help.is_some_and(|help| help.contains("state rebuild")));
        assert_eq!(Coverage::new(&Expected::default()).load(rig.store.as_ref()).unwrap_err().message, told.message);
        told.message
    };
    let cut = |changes: &mut DedupeChanges| changes.key_part.iter_mut().for_each(|part| part.truncate(30));
    assert_eq!(of(&cut), "the state's dedupe keys are damaged: a part of the log of keys cannot be read: its checksum does not fit");
    assert_eq!(of(&|changes| changes.meta.clear()), "the state's dedupe keys are damaged: there is a log of keys, and not the width of a chunk");
}

#[test]
fn the_real_store_keeps_it_too() {
    for keys in [SERIES, KEYED] {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<Candle> = (0..3000).map(|row| candle(row, ["a", "b", "c"][usize::try_from(row % 3).unwrap()], row / 3, 1.0)).collect();
        {
            let mut rig = Rig::on(Arc::new(SqliteStore::open(dir.path()).unwrap()), plan(&keys, OnConflict::KeepFirst));
            for part in rows.chunks(1000) {
                assert_eq!(rig.apply(part).0.len(), 1000);
                rig.commit();
            }
        }
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir.path()).unwrap());
        let mut deduper = Deduper::new(plan(&keys, OnConflict::KeepFirst), store.clone()).unwrap();
        assert_eq!(deduper.apply(&Candle::batch(&rows)).unwrap().duplicates, 3000);
        assert_eq!(store.dedupe_size().unwrap(), if keys == SERIES { (6, 0) } else { (0, 3000) });
    }
}

// Against a model.

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Candle>),
    Commit,
    /// A commit beside which a batch comes.
    CommitBeside(Vec<Candle>),
    Fold,
    Abort,
    Restart,
}

fn any_candle() -> impl Strategy<Value = Candle> {
    let coin = prop::option::weighted(0.95, prop::sample::select(vec!["", "a", "b", "ab", "zürich"]).prop_map(str::to_owned));
    let hour = 3_600_000_000;
    let micros = prop_oneof![
        8 => (0..12_i64).prop_map(move |n| n * hour),
        4 => (-3..3_i64).prop_map(move |n| n * 700 * hour),
        1 => prop::sample::select(vec![-1, 1, hour + 1, -7_000_000_000_000_000, 7_000_000_000_000_000]),
    ];
    let time = prop::option::weighted(0.95, micros.prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap()));
    let number = prop::option::weighted(0.95, prop_oneof![0..6_i64, Just(i64::MIN), Just(i64::MAX)]);
    let close = prop::option::weighted(0.9, prop::sample::select(vec![0.0, -0.0, 1.0, f64::NAN]));
    let note = prop::option::weighted(0.5, prop::sample::select(vec!["", "x"]).prop_map(str::to_owned));
    (coin, time, number, close, note).prop_map(|(coin, time, number, close, note)| Candle { row: 0, coin, time, number, close, note })
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => prop::collection::vec(any_candle(), 0..40).prop_map(Step::Batch),
        3 => Just(Step::Commit),
        2 => prop::collection::vec(any_candle(), 0..40).prop_map(Step::CommitBeside),
        1 => Just(Step::Fold),
        1 => Just(Step::Abort),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..20)
}

type Key = Vec<String>;
type Values = (Option<i64>, Option<u64>, [String; 2], Option<i64>);

/// The key and the other values of a row, spelled out.
fn spelled(row: &Candle, keys: &[&str]) -> Option<(Key, Values)> {
    let text = |key: &&str| match *key {
        "coin" => row.coin.as_ref().map(|coin| format!("text {coin}")),
        "time" => row.time.map(|time| format!("time {}", time.timestamp_micros())),
        "number" => row.number.map(|number| format!("number {number}")),
        other => panic!("{other}"),
    };
    let key = keys.iter().map(text).collect::<Option<Key>>()?;
    let close = row.close.map(|close| if close.is_nan() { 1 } else { (close + 0.0).to_bits() });
    let unless_key = |name: &str, value: Option<i64>| value.filter(|_| !keys.contains(&name));
    let time = unless_key("time", row.time.map(|time| time.timestamp_micros()));
    let coin = row.coin.clone().filter(|_| !keys.contains(&"coin")).unwrap_or_default();
    Some((key, (unless_key("number", row.number), close, [coin, row.note.clone().unwrap_or_default()], time)))
}

/// What must become of the rows, by the plainest means.
fn expected(
    rows: &[Candle],
    keys: &[&str],
    on_conflict: OnConflict,
    known: &mut BTreeMap<Key, Values>,
) -> (Vec<i64>, Vec<i64>, Vec<i64>, [usize; 3]) {
    let before: BTreeSet<Key> = known.keys().cloned().collect();
    let (mut append, mut replace, mut stored, mut counts) = (BTreeMap::new(), BTreeMap::new(), vec![], [0; 3]);
    for row in rows {
        let Some((key, values)) = spelled(row, keys) else {
            counts[2] += 1;
            continue;
        };
        match known.get(&key) {
            None => {
                append.insert(key.clone(), row.row);
                known.insert(key, values);
            }
            Some(same) if *same == values => {
                counts[0] += 1;
                stored.push(row.row);
            }
            Some(_) => {
                counts[1] += 1;
                match on_conflict {
                    OnConflict::KeepFirst => stored.push(row.row),
                    OnConflict::Reject => {
                        stored.push(row.row);
                        counts[2] += 1;
                    }
                    OnConflict::KeepLast => {
                        if before.contains(&key) { &mut replace } else { &mut append }.insert(key.clone(), row.row);
                        known.insert(key, values);
                    }
                }
            }
        }
    }
    let sorted = |rows: BTreeMap<Key, i64>| rows.into_values().collect::<BTreeSet<_>>().into_iter().collect();
    (sorted(append), sorted(replace), stored, counts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn it_does_as_the_model_does(
        mut steps in any_steps(),
        keys in prop::sample::select(vec![&["coin", "time"][..], &["time"], &["number", "time", "coin"], &["coin"], &["number", "coin"]]),
        on_conflict in prop::sample::select(vec![OnConflict::KeepFirst, OnConflict::KeepLast, OnConflict::Reject]),
        cache in prop::sample::select(vec![0, 700, usize::MAX]),
    ) {
        let mut rig = Rig::new(keys, on_conflict);
        let small_cache = |rig: &mut Rig| if let Kind::Series(_) = rig.deduper.kind { rig.deduper.kind = Kind::Series(Box::new(Series::with_cache(cache))) };
        small_cache(&mut rig);
        let mut next = 0;
        let mut committed = BTreeMap::new();
        let mut known = BTreeMap::new();
        for step in &mut steps {
            match step {
                Step::Batch(rows) => {
                    for row in rows.iter_mut() {
                        row.row = next;
                        next += 1;
                    }
                    let expected = expected(rows, keys, on_conflict, &mut known);
                    prop_assert_eq!(rig.apply(rows), expected);
                }
                Step::Commit => {
                    rig.commit();
                    committed = known.clone();
                }
                Step::CommitBeside(rows) => {
                    let changes = rig.deduper.to_save();
                    rig.deduper.seal();
                    committed = known.clone();
                    for row in rows.iter_mut() {
                        row.row = next;
                        next += 1;
                    }
                    let expected = expected(rows, keys, on_conflict, &mut known);
                    prop_assert_eq!(rig.apply(rows), expected);
                    rig.save(changes).unwrap();
                    rig.deduper.committed();
                }
                Step::Fold => {
                    let folded = rig.deduper.fold().unwrap();
                    if !folded.is_empty() {
                        prop_assert_eq!(rig.key_parts(), 0);
                    }
                }
                Step::Abort => {
                    rig.deduper.abort();
                    known = committed.clone();
                }
                Step::Restart => {
                    rig.restart();
                    small_cache(&mut rig);
                    known = committed.clone();
                }
            }
            if let Kind::Series(series) = &rig.deduper.kind {
                series.check();
            }
        }
    }
}

proptest! {
    // What is found chunk by chunk, as they change, is what is found in all rows at once.
    #[test]
    fn what_is_missing_is_found_the_same_from_chunks_and_from_rows(
        epochs in prop::collection::vec((prop::collection::vec((0..3_usize, 0..3000_i64), 1..40), any::<bool>()), 1..6),
    ) {
        let coins = ["bitcoin", "ethereum", ""];
        let mut rig = Rig::new(&SERIES, OnConflict::KeepFirst);
        let step = Some(std::time::Duration::from_secs(3600));
        let expected = Expected { step, series: vec!["coin".to_owned()], time: Some("time".to_owned()), ..Expected::default() };
        let mut watching = Coverage::new(&expected);
        watching.load(rig.store.as_ref()).unwrap();
        let mut model: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        for (rows, fold) in epochs {
            rig.apply(&rows.iter().map(|(coin, hour)| candle(0, coins[*coin], *hour, 1.0)).collect::<Vec<_>>());
            let mut changed: Vec<ChunkKey> = rig.deduper.to_save().chunks.into_iter().map(|(key, _)| key).collect();
            rig.commit();
            if fold {
                changed.extend(rig.deduper.fold().unwrap());
            }
            for (coin, hour) in rows {
                let times = model.entry(coin).or_default();
                if !times.contains(&hour_of(hour).timestamp_micros()) {
                    times.push(hour_of(hour).timestamp_micros());
                }
            }
            if rig.key_parts() == 0 {
                watching.touch(rig.store.as_ref(), &changed).unwrap();
            } else {
                watching.load(rig.store.as_ref()).unwrap();
            }
            let mut anew = Coverage::new(&expected);
            anew.load(rig.store.as_ref()).unwrap();
            let named = |coin: &usize| serde_json::Map::from_iter([("coin".to_owned(), coins[*coin].into())]);
            let by_series = |mut found: Found| {
                found.gaps.iter_mut().for_each(|gaps| gaps.sort_by_key(|gap| (gap.from, gap.series["coin"].as_str().map(str::to_owned))));
                found
            };
            let plain = by_series(anew.found_in(model.iter().map(|(coin, times)| (named(coin), times.clone())).collect()));
            prop_assert_eq!(&by_series(watching.found().unwrap()), &plain);
            prop_assert_eq!(&by_series(anew.found().unwrap()), &plain);
        }
    }
}
