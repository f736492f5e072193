//! Dedupe of an epoch's rows over the state in memory, without its commit.

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use pipeline::stages::dedupe::{DedupePlan, Deduper, OnConflict};
use pipeline::state::{EpochCommit, ModelStore, Store};
use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{Row, rows};

use crate::candles::{Candle, SERIES, batches, by_time, rows, shuffled};
use crate::rig;

const WINDOW: usize = 50_000;

rows! {
    /// A candle whose hour is a number, so that its key has no time.
    struct Numbered {
        coin_id: String,
        hour: i64,
        close: f64,
    }
}

pub(crate) fn deduper(schema_of: &RecordBatch, keys: &[&str], store: Arc<dyn Store>) -> Deduper {
    let schema = schema_of.schema();
    let stored: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    Deduper::new(DedupePlan::new(&schema, &keys, &stored, OnConflict::KeepFirst).unwrap(), store).unwrap()
}

/// How many rows are new, and how many are there already.
pub(crate) fn apply(deduper: &mut Deduper, batches: &[RecordBatch]) -> (usize, u64) {
    let (mut new, mut known) = (0, 0);
    for batch in batches {
        let done = divan::black_box(deduper.apply(batch).unwrap());
        new += done.append.num_rows();
        known += done.duplicates;
    }
    (new, known)
}

fn all_new(bencher: Bencher<'_, '_>, keys: &[&str], batches: &[RecordBatch]) {
    let fresh = || deduper(&batches[0], keys, Arc::new(ModelStore::new()));
    assert_eq!(apply(&mut fresh(), batches), (rows(), 0));
    bencher.counter(ItemsCount::new(rows())).with_inputs(fresh).bench_local_refs(|deduper| apply(deduper, batches));
}

#[divan::bench]
fn sorted_by_time(bencher: Bencher<'_, '_>) {
    all_new(bencher, &rig::KEYS, &batches(&by_time(SERIES)));
}

#[divan::bench]
fn sorted_by_series(bencher: Bencher<'_, '_>) {
    let mut rows = by_time(SERIES);
    rows.sort_by(|one, other| one.coin_id.cmp(&other.coin_id).then(one.timestamp.cmp(&other.timestamp)));
    all_new(bencher, &rig::KEYS, &batches(&rows));
}

#[divan::bench]
fn shuffled_in_a_window(bencher: Bencher<'_, '_>) {
    all_new(bencher, &rig::KEYS, &batches(&shuffled(by_time(SERIES), WINDOW)));
}

/// As many series as rows: each row begins one.
#[divan::bench]
fn shuffled_100_000_series(bencher: Bencher<'_, '_>) {
    all_new(bencher, &rig::KEYS, &batches(&shuffled(by_time(rows()), WINDOW)));
}

/// Every row is in the state already, which is read for it.
#[divan::bench]
fn all_duplicates(bencher: Bencher<'_, '_>) {
    let batches = batches(&shuffled(by_time(SERIES), WINDOW));
    let store: Arc<dyn Store> = Arc::new(ModelStore::new());
    rig::start(&*store);
    let mut first = deduper(&batches[0], &rig::KEYS, store.clone());
    apply(&mut first, &batches);
    store.commit_epoch(&EpochCommit { epoch: 1, run_id: rig::RUN.to_owned(), dedupe: first.changes(), ..EpochCommit::default() }).unwrap();
    let again = || deduper(&batches[0], &rig::KEYS, store.clone());
    assert_eq!(apply(&mut again(), &batches), (0, rows() as u64));
    bencher.counter(ItemsCount::new(rows())).with_inputs(again).bench_local_refs(|deduper| apply(deduper, &batches));
}

#[divan::bench]
fn keys_without_time(bencher: Bencher<'_, '_>) {
    let numbered = |candle: Candle| Numbered { coin_id: candle.coin_id, hour: candle.timestamp.timestamp() / 3600, close: candle.close };
    let rows: Vec<Numbered> = shuffled(by_time(SERIES), WINDOW).into_iter().map(numbered).collect();
    let batches: Vec<RecordBatch> = rows.chunks(8192).map(Numbered::batch).collect();
    all_new(bencher, &["coin_id", "hour"], &batches);
}

/// What the state is to be told of an epoch: its chunks as bytes.
#[divan::bench]
fn changes(bencher: Bencher<'_, '_>) {
    let batches = batches(&by_time(SERIES));
    let mut deduper = deduper(&batches[0], &rig::KEYS, Arc::new(ModelStore::new()));
    apply(&mut deduper, &batches);
    bencher.counter(ItemsCount::new(rows())).bench_local(|| deduper.changes());
}
