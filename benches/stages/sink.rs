//! The sinks of files: rows to lines in memory (`write`), and lines to the disk of the temporary folder (`commit`, which syncs).

use std::sync::Arc;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::testkit::{TestRecords, TestTransport, sink_context};
use pipeline_contract::{Op, Plugin, Recovery, Sink, SinkInput};
use tempfile::TempDir;

use crate::candles::{SERIES, batches, by_time, rows};
use crate::rig::KEYS;
use crate::rig::{self, block};

const ONE_FILE: &str = "candles";
const A_FILE_A_COIN: &str = "{coin_id}";

/// A sink in a folder of its own.
struct Rig {
    folder: TempDir,
    sink: Box<dyn Sink>,
    records: Arc<TestRecords>,
}

impl Rig {
    fn new(kind: &str, file: &str, batches: &[RecordBatch]) -> Self {
        let plugins: Vec<Box<dyn Plugin>> = pipeline_sink_csv::plugins().into_iter().chain(pipeline_sink_jsonl::plugins()).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = rig::quoted(&folder.path().join("data").join(format!("{file}.{kind}")));
        let mut sink = rig::sink(&plugins, kind, &format!("path = {path}\n"));
        let input = SinkInput { schema: batches[0].schema(), keys: KEYS.map(str::to_owned).to_vec(), replaces: false };
        sink.plan(&input).unwrap_or_else(|faults| panic!("{faults:?}"));
        let records = Arc::<TestRecords>::default();
        let context = sink_context(rig::run(TestTransport::in_turn([])).ports, records.clone(), folder.path().join("cut"));
        block(sink.recover(&context, &Recovery::default())).unwrap();
        Self { folder, sink, records }
    }

    fn write(&mut self, batches: &[RecordBatch]) {
        for batch in batches {
            block(self.sink.write(batch, Op::Append)).unwrap();
        }
    }

    /// The end of an epoch as a sink sees it, without the state's part.
    fn commit(&mut self) {
        let state = block(self.sink.prepare(1)).unwrap();
        self.records.apply(&state);
        block(self.sink.commit(1, &state)).unwrap();
    }

    fn bytes(&self) -> u64 {
        std::fs::read_dir(self.folder.path().join("data")).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }
}

/// How many bytes come of an epoch; more than a header, or nothing was written.
fn bytes(kind: &str, file: &str, batches: &[RecordBatch]) -> BytesCount {
    let mut rig = Rig::new(kind, file, batches);
    rig.write(batches);
    rig.commit();
    assert!(rig.bytes() > rows() as u64 * 40, "{}", rig.bytes());
    BytesCount::new(rig.bytes())
}

fn write(bencher: Bencher<'_, '_>, kind: &str, file: &str) {
    let batches = batches(&by_time(SERIES));
    let bencher = bencher.counter(ItemsCount::new(rows())).counter(bytes(kind, file, &batches));
    bencher.with_inputs(|| Rig::new(kind, file, &batches)).bench_local_refs(|rig| rig.write(&batches));
}

fn commit(bencher: Bencher<'_, '_>, kind: &str, file: &str) {
    let batches = batches(&by_time(SERIES));
    let written = || {
        let mut rig = Rig::new(kind, file, &batches);
        rig.write(&batches);
        rig
    };
    let bencher = bencher.counter(ItemsCount::new(rows())).counter(bytes(kind, file, &batches));
    bencher.with_inputs(written).bench_local_refs(Rig::commit);
}

#[divan::bench]
fn csv_write(bencher: Bencher<'_, '_>) {
    write(bencher, "csv", ONE_FILE);
}

#[divan::bench]
fn csv_write_500_files(bencher: Bencher<'_, '_>) {
    write(bencher, "csv", A_FILE_A_COIN);
}

#[divan::bench]
fn jsonl_write(bencher: Bencher<'_, '_>) {
    write(bencher, "jsonl", ONE_FILE);
}

#[divan::bench]
fn csv_commit(bencher: Bencher<'_, '_>) {
    commit(bencher, "csv", ONE_FILE);
}

#[divan::bench]
fn csv_commit_500_files(bencher: Bencher<'_, '_>) {
    commit(bencher, "csv", A_FILE_A_COIN);
}

#[divan::bench]
fn jsonl_commit(bencher: Bencher<'_, '_>) {
    commit(bencher, "jsonl", ONE_FILE);
}
