//! What the benches of several stages need: a stage from its table, a run, a runtime.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use chrono::DateTime;
use pipeline::state::{Counts, RunRecord, RunStatus, Store};
use pipeline_contract::testkit::{TestClock, TestTransport, ports, run_context};
use pipeline_contract::{BuildContext, Plugin, RunContext, Sink, Source, Stage, Transform, Trigger, table_from_str};
use tokio::runtime::{Builder, Runtime};

pub(crate) const RUN: &str = "bench@1";
pub(crate) const KEYS: [&str; 2] = ["coin_id", "timestamp"];

/// Opens a run: an epoch is part of one.
pub(crate) fn start(store: &dyn Store) {
    let at = DateTime::UNIX_EPOCH;
    let run = RunRecord {
        run_id: RUN.to_owned(),
        tick: at,
        cause: "once".to_owned(),
        window: None,
        started_at: at,
        ended_at: None,
        status: RunStatus::Open,
        rows: Counts::default(),
        error: None,
        splits: Vec::new(),
    };
    store.start_run(&run, false).unwrap();
}

fn stage(plugins: &[Box<dyn Plugin>], type_name: &str, toml: &str) -> Stage {
    let plugin = plugins.iter().find(|plugin| plugin.describe().type_name == type_name).unwrap();
    let built = plugin.build(&table_from_str(toml).unwrap(), &BuildContext { pipeline: "bench".into() });
    built.unwrap_or_else(|faults| panic!("{type_name}: {faults:?}"))
}

pub(crate) fn source(plugins: &[Box<dyn Plugin>], type_name: &str, toml: &str) -> Box<dyn Source> {
    let Stage::Source(source) = stage(plugins, type_name, toml) else { panic!("{type_name} is no source") };
    source
}

pub(crate) fn transform(type_name: &str, toml: &str) -> Box<dyn Transform> {
    let Stage::Transform(transform) = stage(&pipeline::stages::transforms::plugins(), type_name, toml) else { panic!("{type_name} is no transform") };
    transform
}

pub(crate) fn sink(plugins: &[Box<dyn Plugin>], type_name: &str, toml: &str) -> Box<dyn Sink> {
    let Stage::Sink(sink) = stage(plugins, type_name, toml) else { panic!("{type_name} is no sink") };
    sink
}

pub(crate) fn trigger(type_name: &str, toml: &str) -> Box<dyn Trigger> {
    let Stage::Trigger(trigger) = stage(&pipeline_triggers::plugins(), type_name, toml) else { panic!("{type_name} is no trigger") };
    trigger
}

/// A run at the hour of the fixtures, on the real disk.
pub(crate) fn run(transport: Arc<TestTransport>) -> RunContext {
    run_context(ports(TestClock::new("2026-05-19T15:37:20Z".parse().unwrap()), transport))
}

pub(crate) fn block<F: Future>(future: F) -> F::Output {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());
    RUNTIME.block_on(future)
}

/// Rows and rejects of all splits, one after the other.
pub(crate) fn read(source: &dyn Source, run: &RunContext) -> (usize, usize) {
    block(async {
        let (mut rows, mut rejects) = (0, 0);
        for split in source.splits(run).await.unwrap() {
            let mut reader = source.open(&split, None, run).await.unwrap();
            while let Some(read) = reader.read().await.unwrap() {
                rows += divan::black_box(&read.batch).num_rows();
                rejects += read.rejects.len();
            }
        }
        (rows, rejects)
    })
}

/// A path as TOML takes it, whatever is in it.
pub(crate) fn quoted(path: &Path) -> String {
    serde_json::to_string(path.to_str().unwrap()).unwrap()
}
