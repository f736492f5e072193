//! What is read many records at a time, and the same read one by one.

use std::io::Write;
use std::sync::Arc;

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::testkit::{SimDisk, TestClock, TestTransport, ports, run_context};
use pipeline_contract::{Disk, Position, Reject, RunContext, Source, Split, parse_partial, table_from_str};
use serde_json::json;

use crate::config::{Checked, Wanted, check};
use crate::source::FileSource;

fn checked(toml: &str) -> Checked {
    let (config, _) = parse_partial("source \"file\"", &table_from_str(toml).unwrap());
    check(config.unwrap()).0.unwrap()
}

/// The columns of a table.
pub(crate) fn columns(toml: &str) -> Vec<Wanted> {
    checked(toml).columns
}

fn source(toml: &str, block: usize) -> FileSource {
    let mut checked = checked(toml);
    checked.dialect.block = block;
    FileSource::new(checked)
}

fn now<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// What a split brought until its end or its error.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Brought {
    pub(crate) reads: Vec<(RecordBatch, Vec<Reject>, Position)>,
    pub(crate) error: Option<String>,
}

impl Brought {
    pub(crate) fn rows(&self) -> usize {
        self.reads.iter().map(|read| read.0.num_rows()).sum()
    }

    pub(crate) fn rejects(&self) -> usize {
        self.reads.iter().map(|read| read.1.len()).sum()
    }
}

fn split(source: &FileSource, split: &Split, resume: Option<Position>, run: &RunContext) -> Brought {
    let mut brought = Brought::default();
    now(async {
        let mut reader = match source.open(split, resume, run).await {
            Ok(reader) => reader,
            Err(error) => return brought.error = Some(error.to_string()),
        };
        loop {
            match reader.read().await {
                Ok(None) => return,
                Ok(Some(read)) => brought.reads.push((read.batch, read.rejects, read.position)),
                Err(error) => return brought.error = Some(error.to_string()),
            }
        }
    });
    brought
}

fn on_disk(path: &str, bytes: &[u8]) -> RunContext {
    let disk = SimDisk::new();
    disk.put(path, "");
    disk.create(path.as_ref()).unwrap().write_all(bytes).unwrap();
    let mut ports = ports(TestClock::new("2026-05-19T15:37:20Z".parse().unwrap()), TestTransport::in_turn([]));
    ports.disk = Arc::new(disk);
    run_context(ports)
}

/// Is the line that a reject names the one whose text it has?
fn is_where_it_says(reject: &Reject, lines: &[&[u8]]) {
    let text = reject.row["text"].as_str().unwrap();
    let line = lines[reject.row["line"].as_u64().unwrap() as usize - 1];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_plain = line.iter().all(|byte| (b' '..=b'~').contains(byte)) && line.len() < 1000;
    assert!(!is_plain || text.split(['\r', '\n']).next().unwrap().as_bytes() == line, "{text:?} is not {:?}", String::from_utf8_lossy(line));
}

/// Reads a file with blocks of each size, from its begin and from a place within it; answers what it brings, of all splits.
pub(crate) fn agreed(toml: &str, path: &str, bytes: &[u8], blocks: &[usize], place: Option<usize>) -> Brought {
    let run = on_disk(path, bytes);
    let one_by_one = source(toml, 0);
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let mut all = Brought::default();
    for part in now(one_by_one.splits(&run)).unwrap() {
        // A part counts from the line that goes on over its border.
        let border = |nth: usize| part.data["part"][nth].as_u64().map(|border| border.saturating_sub(1) as usize);
        let base = border(0).unwrap_or_default();
        let place = place.map(|place| place.clamp(base, border(1).unwrap_or(bytes.len())));
        let place = place.filter(|place| *place <= bytes.len()).map(|place| {
            let line = bytes[base..place].iter().filter(|byte| **byte == b'\n').count();
            Position(json!({ "offset": place, "line": line }))
        });
        for resume in [None].into_iter().chain(place.map(Some)) {
            let expected = split(&one_by_one, &part, resume.clone(), &run);
            for block in blocks {
                assert_eq!(
                    split(&source(toml, *block), &part, resume.clone(), &run),
                    expected,
                    "{}, blocks of {block}, from {resume:?}: {toml}",
                    part.id
                );
            }
            if resume.is_none() {
                expected.reads.iter().flat_map(|read| &read.1).for_each(|reject| is_where_it_says(reject, &lines));
                all.reads.extend(expected.reads);
                all.error = all.error.or(expected.error);
            }
        }
    }
    all
}
