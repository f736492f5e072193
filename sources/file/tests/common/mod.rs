//! A source on a disk in memory, and everything that it brings.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

use std::io::Write;
use std::sync::Arc;

use pipeline_contract::testkit::{SimDisk, TestClock, TestTransport, ports, run_context};
use pipeline_contract::{
    BuildContext, Disk, PlanError, Plugin, Position, Reject, RunContext, Source, Split, Stage, StageError, row_json, table_from_str,
};
use pipeline_source_file::File;
use serde_json::Value;

pub fn build(toml: &str) -> Result<Box<dyn Source>, Vec<PlanError>> {
    match File.build(&table_from_str(toml).unwrap(), &BuildContext { pipeline: "test".into() })? {
        Stage::Source(source) => Ok(source),
        other => panic!("a {}", other.kind()),
    }
}

pub fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub fn run_on(disk: Arc<dyn Disk>) -> RunContext {
    let clock = TestClock::new("2026-05-19T15:37:20Z".parse().unwrap());
    let mut ports = ports(clock, TestTransport::in_turn([]));
    ports.disk = disk;
    run_context(ports)
}

/// Puts a file of bytes on the disk.
pub fn put(disk: &SimDisk, path: &str, bytes: &[u8]) {
    disk.put(path, "");
    disk.create(path.as_ref()).unwrap().write_all(bytes).unwrap();
}

/// What a split brought until its end or its error.
#[derive(Debug, Default)]
pub struct Brought {
    pub rows: Vec<Value>,
    pub rejects: Vec<Reject>,
    pub positions: Vec<Position>,
    pub error: Option<StageError>,
}

impl Brought {
    /// The rows as compact JSON, one a line.
    pub fn lines(&self) -> String {
        self.rows.iter().map(|row| format!("{row}\n")).collect()
    }

    /// Each reject as its rule, a space, and its message.
    pub fn reasons(&self) -> Vec<String> {
        self.rejects.iter().map(|reject| format!("{} {}", reject.rule, reject.message)).collect()
    }

    pub fn texts(&self) -> Vec<&str> {
        self.rejects.iter().map(|reject| reject.row["text"].as_str().unwrap()).collect()
    }
}

pub fn read_split(source: &dyn Source, split: &Split, resume: Option<Position>, run: &RunContext) -> Brought {
    let mut brought = Brought::default();
    let mut reader = match block(source.open(split, resume, run)) {
        Ok(reader) => reader,
        Err(error) => return Brought { error: Some(error), ..brought },
    };
    loop {
        match block(reader.read()) {
            Ok(None) => return brought,
            Err(error) => return Brought { error: Some(error), ..brought },
            Ok(Some(read)) => {
                assert_eq!(read.batch.schema(), source.schema());
                assert!(read.batch.num_rows() + read.rejects.len() > 0, "a read brings something");
                brought.rows.extend((0..read.batch.num_rows()).map(|row| Value::Object(row_json(&read.batch, row))));
                brought.rejects.extend(read.rejects);
                brought.positions.push(read.position);
            }
        }
    }
}

/// All splits, one after the other.
pub fn read_all(source: &dyn Source, disk: &SimDisk) -> Brought {
    let run = run_on(Arc::new(disk.clone()));
    let mut all = Brought::default();
    for split in block(source.splits(&run)).unwrap() {
        let one = read_split(source, &split, None, &run);
        all.rows.extend(one.rows);
        all.rejects.extend(one.rejects);
        all.positions.extend(one.positions);
        all.error = all.error.or(one.error);
    }
    all
}

/// What a table brings of one file.
pub fn read(toml: &str, path: &str, bytes: &[u8]) -> Brought {
    let disk = SimDisk::new();
    put(&disk, path, bytes);
    read_all(&*build(&format!("path = \"{path}\"\n{toml}")).unwrap(), &disk)
}
