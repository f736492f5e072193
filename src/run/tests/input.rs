//! Quarantine files that somebody edited.

use std::io::Write;
use std::path::Path;

use pipeline_contract::testkit::{Draw, Fuzz, SimDisk};
use pipeline_contract::{Disk, Row, StageError, batch_from_json};
use tokio_util::sync::CancellationToken;

use super::world::{Sample, World};
use crate::run::rejects::LONGEST_LINE;
use crate::run::{QuarantineFile, StoredReject};

fn read(content: &[u8]) -> Result<Vec<StoredReject>, StageError> {
    let disk = SimDisk::new();
    disk.create("q.jsonl".as_ref()).unwrap().write_all(content).unwrap();
    QuarantineFile { path: Path::new("q.jsonl"), disk: &disk }.read()
}

fn line(row: &str, stage: &str) -> String {
    format!("{{\"row\":{row},\"rule\":\"r\",\"message\":\"m\",\"run\":\"test@1\",\"split\":\"a\",\"stage\":\"{stage}\"}}\n")
}

fn made(draw: &mut Draw) -> String {
    let rows = [
        r#"{"series":"a","timestamp":"1970-01-01T00:01:00Z","value":1.5}"#,
        r#"{"series":"a","timestamp":"+262142-12-31T23:59:59Z","value":1e308}"#,
        r#"{"series":null,"timestamp":0,"value":"x"}"#,
        r#"{"series":"a"}"#,
        "[1,2,3]",
        "null",
    ];
    let stages =
        ["validate", "dedupe", "source", "transforms.0", "transforms.1", "transforms.99999999999999999999", "transforms.-1", "transforms.", ""];
    (0..draw.below(4)).map(|_| line(draw.of(&rows), draw.of(&stages))).collect()
}

#[test]
fn fuzzed_quarantine_lines_are_replayed_or_the_line_is_named() {
    let good = line(r#"{"series":"a","timestamp":"1970-01-01T00:01:00Z","value":1.5}"#, "validate");
    let words =
        ["{", "}", "[", "\"", ":", ",", "\n", "null", "\\ud800", "\\u0000", "1e999", "{\"a\":", "[[", "é", "\0", "\"stage\":", "transforms.", "-0"];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let _inside = runtime.enter();
    let fuzz = Fuzz { name: "quarantine lines", samples: &[&good, "{}\n"], words: &words, cases: 200, cost: 40 };
    let mut count = 0;
    fuzz.run_text(made, |text| {
        let rejects = match read(text.as_bytes()) {
            Ok(rejects) => rejects,
            Err(error) => {
                let number = error.message.strip_prefix("q.jsonl:").and_then(|rest| rest.split(": ").next()).and_then(|number| number.parse().ok());
                assert!(number.is_some_and(|number: usize| number >= 1 && number <= text.lines().count() + 1), "{error:?}");
                assert!(error.message.len() < 1000 && error.help.is_some(), "{error:?}");
                return false;
            }
        };
        for reject in &rejects {
            let again: StoredReject = serde_json::from_str(&serde_json::to_string(reject).unwrap()).unwrap();
            assert_eq!((again.hash(), &again), (reject.hash(), reject));
            let rows = batch_from_json(&Sample::schema(), std::slice::from_ref(&reject.row)).unwrap();
            assert_eq!(rows.batch.num_rows() + rows.rejects.len(), 1);
        }
        count += 1;
        if count % 8 == 0 {
            let report = runtime.block_on(async {
                let world = World::new(vec![]);
                world.engine().replay(&rejects, &CancellationToken::new()).await.unwrap()
            });
            assert_eq!(report.accepted + report.not_replayable + report.still_rejected.len() as u64, rejects.len() as u64);
        }
        !rejects.is_empty()
    });
}

/// A disk whose one file has no end.
#[test]
fn a_line_without_an_end_is_not_read_into_memory() {
    let disk = SimDisk::new();
    let mut file = disk.create("q.jsonl".as_ref()).unwrap();
    file.write_all(line("1", "source").as_bytes()).unwrap();
    file.write_all(&vec![b' '; usize::try_from(LONGEST_LINE).unwrap() + 1]).unwrap();
    let error = QuarantineFile { path: Path::new("q.jsonl"), disk: &disk }.read().unwrap_err();
    assert_eq!(error.message, "q.jsonl:2: this line is longer than 64 MiB, the most that is read");
}

#[test]
fn nesting_without_end_is_a_fault_of_its_line() {
    let error = read(line(&"[".repeat(100_000), "source").as_bytes()).unwrap_err();
    assert!(error.message.starts_with("q.jsonl:1: this line is not a reject: recursion limit exceeded"), "{error}");
    let error = read(&[line("1", "source").as_bytes(), b"\xff\xfe\n"].concat()).unwrap_err();
    assert!(error.message.starts_with("q.jsonl:2: this line is not a reject:"), "{error}");
}
