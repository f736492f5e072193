//! The state in SQLite, on the disk of the temporary folder: what it costs to make an epoch durable, and to read its keys again.

use std::sync::Arc;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use pipeline::state::{ChunkKey, Counts, DedupeChanges, EpochCommit, ModelStore, SqliteStore, Store};
use tempfile::TempDir;

use crate::candles::{SERIES, batches, by_time, rows};
use crate::dedupe;
use crate::rig::{KEYS, RUN, start};

/// The keys of an epoch: a chunk for each series.
fn chunks() -> DedupeChanges {
    let batches = batches(&by_time(SERIES));
    let mut deduper = dedupe::deduper(&batches[0], &KEYS, Arc::new(ModelStore::new()));
    dedupe::apply(&mut deduper, &batches);
    let changes = deduper.changes();
    assert_eq!(changes.chunks.len(), SERIES);
    changes
}

fn commit(epoch: u64, dedupe: DedupeChanges) -> EpochCommit {
    let read = rows() as u64;
    EpochCommit { epoch, run_id: RUN.to_owned(), rows: Counts { read, written: read, ..Counts::default() }, dedupe, ..EpochCommit::default() }
}

fn bytes(dedupe: &DedupeChanges) -> BytesCount {
    BytesCount::new(dedupe.chunks.iter().map(|(_, data)| data.len()).sum::<usize>())
}

fn opened() -> (TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap_or_else(|error| panic!("{error:?}"));
    start(&store);
    (folder, store)
}

/// A state that holds an epoch.
fn held(dedupe: &DedupeChanges) -> (TempDir, SqliteStore) {
    let (folder, store) = opened();
    store.commit_epoch(&commit(1, dedupe.clone())).unwrap();
    (folder, store)
}

#[divan::bench]
fn commit_of_new_chunks(bencher: Bencher<'_, '_>) {
    let dedupe = chunks();
    let bencher = bencher.counter(ItemsCount::new(rows())).counter(bytes(&dedupe));
    let epoch = commit(1, dedupe);
    bencher.with_inputs(opened).bench_local_refs(|(_, store)| store.commit_epoch(&epoch).unwrap());
}

#[divan::bench]
fn commit_of_changed_chunks(bencher: Bencher<'_, '_>) {
    let dedupe = chunks();
    let bencher = bencher.counter(ItemsCount::new(rows())).counter(bytes(&dedupe));
    let epoch = commit(2, dedupe.clone());
    bencher.with_inputs(|| held(&dedupe)).bench_local_refs(|(_, store)| store.commit_epoch(&epoch).unwrap());
}

#[divan::bench]
fn chunks_read(bencher: Bencher<'_, '_>) {
    let dedupe = chunks();
    let keys: Vec<ChunkKey> = dedupe.chunks.iter().map(|(key, _)| key.clone()).collect();
    let (_folder, store) = held(&dedupe);
    assert!(store.chunks(&keys).unwrap().iter().all(Option::is_some));
    bencher.counter(ItemsCount::new(rows())).counter(bytes(&dedupe)).bench_local(|| store.chunks(&keys));
}
