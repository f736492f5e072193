//! Files that are none.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

mod common;

use common::{Brought, read};
use pipeline_contract::testkit::{Draw, Fuzz};
use serde_json::Value;

const COLUMNS: &str =
    "[columns]\nid = { type = \"integer\", required = true }\nprice = \"float\"\nok = \"boolean\"\nnote = \"text\"\nat = \"timestamp\"\n";

/// What is brought can be said, and of bad lines it is said where they stand.
fn check(brought: &Brought, path: &str, bytes: &[u8]) {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    let mut last = 0;
    for reject in &brought.rejects {
        let line = reject.row["line"].as_u64().unwrap();
        assert!(last < line && (line <= lines || path.ends_with(".gz") || path.ends_with(".zst")), "{reject:?}");
        last = line;
        assert!(reject.message.starts_with(&format!("{path} line {line}: ")) && reject.rule.starts_with("file:"), "{reject:?}");
        assert!(reject.message.len() < 1000 && reject.row["text"].as_str().unwrap().len() < 7000, "{reject:?}");
    }
    if let Some(error) = &brought.error {
        assert!(error.message.starts_with(path) && error.help.is_some() && error.message.len() < 1000, "{error:?}");
    }
}

const WORDS: [&str; 16] =
    [",", "\"", "\"\"", "\n", "\r\n", "\0", "\u{feff}", "é", "NaN", "1e999", "-9223372036854775809", "2026-02-30T00:00:00Z", "true", "id", " ", ";"];

#[test]
fn fuzzed_csv_files_bring_rows_and_rejects() {
    let samples = [
        "id,price,ok,note,at\n1,1.5,true,x,2026-01-01T00:00:00Z\n2,,,\"a \"\"b\"\"\nc\",\n",
        "at,note,ok,price,id\r\n,,,,7\r\n",
        "id,price,ok,note,at\n1\n",
    ];
    let fuzz = Fuzz { name: "csv source files", samples: &samples, words: &WORDS, cases: 400, cost: 10 };
    fuzz.run(
        |draw| {
            let cell = |draw: &mut Draw| draw.of(&["", "1", "2.5", "true", "x", "2026-01-01T00:00:00Z", "\"1\"", " 7 "]).to_owned();
            let line = |draw: &mut Draw| (0..5).map(|_| cell(draw)).collect::<Vec<_>>().join(",") + "\n";
            let lines: String = (0..draw.below(5)).map(|_| line(draw)).collect();
            format!("id,price,ok,note,at\n{lines}").into_bytes()
        },
        |bytes| {
            let whole = read(COLUMNS, "x.csv", bytes);
            check(&whole, "x.csv", bytes);
            // In parts or not: where a cell cannot hold a line break, it is the same.
            let lines = |more: &str| {
                let brought = read(&format!("quoted_newlines = false\n{more}{COLUMNS}"), "x.csv", bytes);
                check(&brought, "x.csv", bytes);
                (brought.error.is_none(), brought.lines(), brought.reasons())
            };
            let one = lines("");
            if one.0 && bytes.len() < 2000 {
                assert_eq!(one, lines("part_size = 64\n"));
            }
            whole.error.is_none() && !whole.rows.is_empty()
        },
    );
}

#[test]
fn fuzzed_json_lines_are_what_another_reader_finds() {
    let samples = [
        "{\"id\":1,\"price\":1.5,\"ok\":true,\"note\":\"x\\n\\u00e9\",\"at\":\"2026-01-01T00:00:00Z\"}\n{\"id\":2}\n",
        "{\"at\":null,\"note\":\"\",\"id\":-3,\"more\":{\"id\":[1,{}]}}\r\n\n[1]\n",
    ];
    let words = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\ud800",
        "null",
        "\"id\":",
        "\"id\":1,",
        "1e999",
        "1.0",
        "\n",
        "\0",
        "é",
        "NaN",
        "9223372036854775808",
    ];
    let fuzz = Fuzz { name: "json lines source", samples: &samples, words: &words, cases: 600, cost: 10 };
    fuzz.run(
        |draw| {
            let value = |draw: &mut Draw| draw.of(&["1", "1.5", "true", "\"x\"", "null", "[]", "{}", "\"2026-01-01T00:00:00Z\""]).to_owned();
            let line = |draw: &mut Draw| format!("{{\"id\":{},\"{}\":{}}}\n", value(draw), draw.of(&["price", "ok", "note", "at"]), value(draw));
            (0..draw.below(6)).map(|_| line(draw)).collect::<String>().into_bytes()
        },
        |bytes| {
            let brought = read(COLUMNS, "x.jsonl", bytes);
            check(&brought, "x.jsonl", bytes);
            // Line by line, by way of values.
            let plain = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            let filled = plain.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace));
            let all: Vec<&[u8]> = filled.collect();
            assert_eq!(brought.rows.len() + brought.rejects.len(), all.len());
            let bad: Vec<u64> = brought.rejects.iter().map(|reject| reject.row["line"].as_u64().unwrap()).collect();
            let numbered = plain.split(|byte| *byte == b'\n').enumerate().map(|(at, line)| (at as u64 + 1, line));
            let good = numbered.filter(|(at, line)| !line.iter().all(u8::is_ascii_whitespace) && !bad.contains(at));
            for ((_, line), row) in good.zip(&brought.rows) {
                let value: Value = serde_json::from_slice(line).unwrap();
                for name in ["id", "ok", "note"] {
                    assert_eq!(value.get(name).unwrap_or(&Value::Null), &row[name], "{name}");
                }
                assert_eq!(value.get("price").and_then(Value::as_f64), row["price"].as_f64());
            }
            !brought.rows.is_empty()
        },
    );
}

#[test]
fn fuzzed_compressed_files_are_unpacked_or_refused() {
    let text = "id,price,ok,note,at\n1,1.5,true,x,2026-01-01T00:00:00Z\n".repeat(3);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    let packed = [gzip.finish().unwrap(), ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)];
    // Samples are text: bytes stand in the valid inputs, and are damaged there.
    let fuzz = Fuzz {
        name: "compressed files",
        samples: &["\u{1f}\u{8b}\u{8}", "(\u{b5}/\u{fd}"],
        words: &["\0", "\u{1f}", "(", "\u{ff}"],
        cases: 600,
        cost: 10,
    };
    fuzz.run(
        |draw| {
            let mut bytes = packed[draw.below(2)].clone();
            for _ in 0..draw.below(3) {
                let at = draw.below(bytes.len());
                match draw.below(3) {
                    0 => bytes[at] ^= 1 << draw.below(8),
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.extend_from_slice(&packed[draw.below(2)].clone()),
                }
            }
            bytes
        },
        |bytes| {
            let both = ["x.csv.gz", "x.csv.zst"].map(|path| {
                let brought = read(COLUMNS, path, bytes);
                check(&brought, path, bytes);
                brought.error.is_none() && !brought.rows.is_empty()
            });
            both.contains(&true)
        },
    );
}
