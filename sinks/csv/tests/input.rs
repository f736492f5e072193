//! Files, paths and values that others wrote.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop where it stands

#[allow(dead_code)]
mod common;

use std::io::Write;

use common::{Candle, World, candle, plan, time};
use pipeline_contract::testkit::{Draw, Fuzz};
use pipeline_contract::{Disk, Filter, Row, row_json};

const CONFIG: &str = "path = \"data/{coin}.csv\"\ncolumns = [\"at\", \"close\", \"trades\", \"final_\", \"note\"]";
const HEADER: &str = "at,close,trades,final_,note\n";

const FILES: [&str; 3] = [
    "at,close,trades,final_,note\n2026-01-01T00:00:00Z,1.5,2,true,x\n2026-01-01T01:00:00Z,2.5,,,\"a \"\"b\"\", c\"\n",
    "at,close,trades,final_,note\r\n2026-01-01T00:00:00Z,1e300,-9223372036854775808,false,'=1\r\n",
    "at,close,trades,final_,note\n2026-01-01 00:00:00+01:00,NaN,,,\n\n",
];

fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn put(world: &World, path: &str, content: &[u8]) {
    for folder in ["data", "out"] {
        world.disk.create_dir(folder.as_ref()).unwrap();
    }
    let mut file = world.disk.create(path.as_ref()).unwrap();
    file.write_all(content).unwrap();
}

fn lines(draw: &mut Draw) -> String {
    let cells: [&[&str]; 5] = [
        &["2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "-0001-01-01T00:00:00Z", "1969-12-31T23:59:60Z", "2026-02-29T00:00:00Z"],
        &["1.5", "-0", "inf", "NaN", "1e999", "1_0", "0x1", " 1", "123456789012345678901234567890"],
        &["", "1", "-9223372036854775808", "9223372036854775808", "1.0", "+1"],
        &["", "true", "false", "TRUE", "1"],
        &["", "x", "\"\"", "\"a,b\"", "\"\n\"", "'=1", "\u{feff}"],
    ];
    let line = |draw: &mut Draw| cells.iter().map(|cell| if draw.once_in(3) { draw.of(cell) } else { cell[0] }).collect::<Vec<_>>().join(",") + "\n";
    HEADER.to_owned() + &(0..draw.below(4)).map(|_| line(draw)).collect::<String>()
}

#[test]
fn fuzzed_files_are_read_as_rows_that_come_back_or_the_line_is_named() {
    let words = [",", "\"", "\n", "\r\n", "\0", "\u{feff}", "é", "NaN", "inf", "true", "2026-01-01T00:00:00Z", "=", "'", "-", "e9"];
    let fuzz = Fuzz { name: "csv files", samples: &FILES, words: &words, cases: 400, cost: 20 };
    fuzz.run(
        |draw| lines(draw).into_bytes(),
        |content| {
            let world = World::new(CONFIG);
            put(&world, "data/btc.csv", content);
            let adopted = block(world.planned().0.adopt(&world.context()));
            if let Err(error) = &adopted {
                assert!(error.message.contains("data/btc.csv") && error.help.is_some(), "{error:?}");
                assert!(error.message.len() < 3000, "{} bytes", error.message.len());
            }
            let batches = match block(world.read(&Filter::default())) {
                Ok(batches) => batches,
                Err(error) => {
                    assert!(error.message.starts_with("data/btc.csv line "), "{error:?}");
                    assert!(error.message.len() < 3000, "{} bytes", error.message.len());
                    return false;
                }
            };
            // What was read is written as it would be now, and read again: the same rows.
            let mut again = World::new(CONFIG);
            let rows = |batches: &[_]| -> Vec<_> {
                batches
                    .iter()
                    .flat_map(|batch: &pipeline_contract::arrow::RecordBatch| (0..batch.num_rows()).map(|row| row_json(batch, row)))
                    .collect()
            };
            // The sink's own column order is the schema's.
            let writes: Vec<_> = batches.iter().map(|batch| (pipeline_contract::Op::Append, batch.clone())).collect();
            block(again.run(&writes)).unwrap();
            let back = block(again.read(&Filter::default())).unwrap();
            assert_eq!(rows(&back), rows(&batches));
            adopted.is_ok()
        },
    );
}

/// Texts that name other places on some system.
const ODD: [&str; 24] = [
    "..",
    ".",
    "",
    "/",
    "\\",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "\\\\host\\x",
    "a/b",
    "con",
    "NUL.txt",
    "com1",
    "lpt\u{b9}",
    "a.",
    "a ",
    " ",
    "\0",
    "a\nb",
    "\u{202e}gpj.exe",
    "..\u{2215}..",
    "%2E%2E",
    "%N",
    "~",
];

#[test]
fn fuzzed_values_never_leave_their_folder() {
    let words = ["..", "/", "\\", ":", "\0", "%", "con", "nul.", "%2F", "%~0123456789abcdef", "\u{202e}", "\u{301}", "．．", "∕", " ", ".", "x", "é"];
    let templates = ["out/{coin}.csv", "out/{note}/{coin}.csv", "out/{coin}_{at:%Y}_{note}.csv", "out/{coin}/x-{note}", "out/{note}.{coin}"];
    let mut which = 0;
    let fuzz = Fuzz { name: "values in paths", samples: &ODD, words: &words, cases: 300, cost: 20 };
    fuzz.run_text(
        |draw| draw.of(&ODD).repeat(1 + draw.below(3)),
        |value| {
            which += 1;
            let template = templates[which % templates.len()];
            let depth = template.matches('/').count();
            let mut world = World::new(&format!("path = \"{template}\""));
            world.keys = vec!["coin", "at", "note"];
            let note = ODD[which % ODD.len()];
            let row = Candle { note: Some(note.to_owned()), ..candle(value, "2026-01-01T00:00:00Z", 1.0) };
            block(world.store(&[row])).unwrap();
            let files = world.files();
            assert_eq!(files.len(), 1, "{files:?}");
            let path = files.keys().next().unwrap();
            let parts: Vec<&str> = path.split('/').collect();
            assert_eq!((parts.len() - 1, parts[0]), (depth, "out"), "{path}");
            for part in &parts {
                assert!(!part.is_empty() && part.len() <= 255 && !part.starts_with("..") && !part.ends_with(['.', ' ']), "{path}");
                assert!(!part.contains(|c: char| c.is_control() || "\\:*?\"<>|".contains(c)), "{path:?}");
            }
            let stem = parts[1].split('.').next().unwrap().to_ascii_lowercase();
            let reserved = ["con", "prn", "aux", "nul", "com1", "lpt1", "lpt\u{b9}"];
            assert!(!reserved.contains(&stem.as_str()), "{path}");
            let back = block(world.read(&Filter::default())).unwrap();
            assert_eq!(row_json(&back[0], 0)["coin"], value);
            // Is it a name as it stands?
            path.contains(value)
        },
    );
}

#[test]
fn fuzzed_templates_are_paths_or_their_faults_stand_in_them() {
    let samples = ["data/{coin}.csv", "{coin}/{at:%Y-%m-%d}.csv", "a{{b}}/{note}_{trades}.csv", "x.csv", "../{ coin }/{at:%j %H}"];
    let words =
        ["{", "}", "{{", "}}", "{coin}", "{at:%Y}", "{at:%", "%s", "%+", "%-d", "%%", ":", "/", "..", "\0", "\n", "'", "\\", "é", "日本", " "];
    let fuzz = Fuzz { name: "path templates", samples: &samples, words: &words, cases: 400, cost: 20 };
    fuzz.run_text(
        |draw| {
            format!(
                "{}/{{at:%{}}}-{{coin}}",
                draw.of(&["a", "b{{", "/", "."]),
                draw.of(&["Y", "m", "D", "c", "3f", "9f", "Z", ":z", "E", "U", "C", "G"])
            )
        },
        |template| {
            let written =
                template.chars().map(|c| if c < ' ' || "\"\\\u{7f}".contains(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() });
            let config = format!("path = \"{}\"", written.collect::<String>());
            if let Err(faults) = plan(&config, Candle::schema(), &["coin", "at"], false) {
                for fault in faults {
                    let about = fault.span.clone().and_then(|span| config.get(span)).unwrap_or_else(|| panic!("{fault:?}"));
                    assert!(about.len() <= config.len() && fault.message.len() < 3 * config.len() + 300, "{fault:?}");
                }
                return false;
            }
            // Values and times name files, or say why not; no panic.
            let mut world = World::new(&config);
            world.keys = vec![];
            let rows = [
                candle("..", "2026-01-01T00:00:00Z", 1.0),
                Candle { at: time("0001-01-01T00:00:00Z"), ..candle("a/b", "2026-01-01T00:00:00Z", 1.0) },
            ];
            let (mut sink, _) = plan(&config, Candle::schema(), &[], false).unwrap();
            let recovery = pipeline_contract::Recovery { last: None, run_was_open: false };
            if block(sink.recover(&world.context(), &recovery)).is_ok() {
                let _ = block(sink.write(&Candle::batch(&rows), pipeline_contract::Op::Append));
            }
            true
        },
    );
}
