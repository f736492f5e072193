//! Records of files that somebody wrote into the state.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop where it stands

use std::io::Write;
use std::sync::Arc;

use chrono::DateTime;
use pipeline_contract::testkit::{Fuzz, SimDisk, TestClock, TestRecords, TestTransport, ports, sink_context};
use pipeline_contract::{Disk, Recovery, SinkState};
use pipeline_files::{FileSet, FileStatus, Root};

const PATH: &str = "data/x.csv";
const CONTENT: &[u8] = b"id\n1\n2\n";

const SAMPLES: [&str; 3] = [
    r#"{"head":"2f1ea4b1e2ab1a1f","head_len":3,"len":7,"tail":"0123456789abcdef"}"#,
    r#"{"head":"2d06800538d394c2","head_len":0,"len":0,"tail":"2d06800538d394c2","pending":{"temp":"data/.pipeline-1.tmp"}}"#,
    r#"{"head":"x","head_len":3,"len":7,"tail":"x","pending":{"temp":"data/t","over":{"head":"x","head_len":3,"len":7,"tail":"x"}}}"#,
];

#[test]
fn fuzzed_records_of_files_are_obeyed_or_the_file_is_named_and_kept() {
    let real = {
        let (disk, records) = (SimDisk::new(), Arc::new(TestRecords::default()));
        let mut files = FileSet::new(&context(&disk, &records));
        files.append(PATH, b"id\n", b"1\n2\n").unwrap();
        let state = files.prepare(1).unwrap();
        files.commit(1, &state).unwrap();
        state.0[PATH].to_string()
    };
    let words =
        ["null", "0", "-1", "7", "1.5", "9223372036854775807", "18446744073709551615", "\"\"", "[", "{", "}", "]", "\"pending\":", "\"over\":", ","];
    let samples = [SAMPLES[0], SAMPLES[1], SAMPLES[2], &real];
    let fuzz = Fuzz { name: "file records", samples: &samples, words: &words, cases: 400, cost: 20 };
    fuzz.run_text(
        |draw| if draw.once_in(2) { real.clone() } else { real.replace(":7", &format!(":{}", draw.bits() >> draw.below(64))) },
        |text| {
            let Ok(record) = serde_json::from_str(text) else { return false };
            let (disk, records) = (SimDisk::new(), Arc::new(TestRecords::default()));
            disk.create_dir("data".as_ref()).unwrap();
            disk.create(PATH.as_ref()).unwrap().write_all(CONTENT).unwrap();
            let state = SinkState([(PATH.to_owned(), record)].into());
            records.apply(&state);
            let mut files = FileSet::new(&context(&disk, &records));
            let checked = files.check(PATH, b"id\n");
            for open in [false, true] {
                let recovery = Recovery { last: Some((1, state.clone())), run_was_open: open };
                if let Err(error) = files.recover(&recovery, &[Root { dir: "data".to_owned(), depth: 0 }]) {
                    assert!(error.message.contains(PATH) || error.message.contains("data/"), "{error:?}");
                }
            }
            // Whatever the record says, no byte is lost: what is cut is kept.
            let all: Vec<String> = disk.files().into_values().collect();
            assert!(all.concat().len() >= CONTENT.len(), "{all:?}");
            match checked {
                Ok(FileStatus::Committed { len }) => {
                    assert_eq!(len, CONTENT.len() as u64);
                    true
                }
                Ok(FileStatus::Absent) => false,
                Err(error) => {
                    assert!(error.message.contains(PATH), "{error:?}");
                    assert!(error.help.is_some());
                    false
                }
            }
        },
    );
}

fn context(disk: &SimDisk, records: &Arc<TestRecords>) -> pipeline_contract::SinkContext {
    let mut ports = ports(TestClock::new(DateTime::UNIX_EPOCH), TestTransport::in_turn([]));
    ports.disk = Arc::new(disk.clone());
    sink_context(ports, records.clone(), "state/keep")
}
