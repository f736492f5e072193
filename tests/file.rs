//! Files in, files out: the pipeline that is shipped, what `new pipeline --from` writes, and the columns against a model that goes row by row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use proptest::prelude::*;
use support::Room;
use support::room::nobody_listens;

fn room() -> Room {
    Room::at(&nobody_listens())
}

#[test]
fn the_shipped_pipeline_cleans_its_candles_once() {
    let room = room();
    room.shipped("clean-candles.toml").shipped("clean-candles.test.toml");
    let data = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/data/candles.csv")).unwrap();
    room.write("pipelines/data/candles.csv", &data);
    let file = "pipelines/clean-candles.toml";
    room.pipeline(&["check", file, "--deny-warnings"]).exits(0);
    room.pipeline(&["test", file]).exits(0).says("3 of 3 tests ok");
    room.pipeline(&["run", file, "--once"]).exits(0).prints("298 read: 288 written, 2 duplicates, 1 conflicts, 7 rejected");
    let cleaned = room.read("data/clean/candles.csv");
    let good: Vec<&str> = cleaned.lines().collect();
    assert_eq!((good.len(), good[0]), (289, "coin_id,timestamp,open,high,low,close,volume"));
    // What was good went through to the byte, in its order.
    let is_kept = |line: &&str| good.contains(line);
    let mut seen = std::collections::HashSet::new();
    assert_eq!(good, data.lines().filter(is_kept).filter(|line| seen.insert(line.to_owned())).collect::<Vec<_>>());
    let rejects = room.rejects("clean-candles");
    let mut rules: Vec<&str> = rejects.iter().map(|reject| reject["rule"].as_str().unwrap()).collect();
    rules.sort_unstable();
    assert_eq!(rules, ["file:cells", "file:null", "file:quote", "file:value", "non_negative_volume", "positive_prices", "price_envelope"]);
    room.pipeline(&["run", file, "--once"]).exits(0).prints("298 read: 0 written, 290 duplicates, 1 conflicts, 7 rejected");
    assert_eq!(room.read("data/clean/candles.csv"), cleaned);
}

/// However many parts a file is read in, one thing is said of it once.
#[test]
fn the_parts_of_a_file_are_spoken_of_together() {
    let room = room();
    let rows: String = (0..400).map(|n| format!("a,{},1.5\n", 1_779_202_800_000_i64 + n * 60_000)).collect();
    room.write("in.csv", &format!("coin_id,at,price\n{rows}"));
    let columns = "coin_id = \"text\"\nat = { type = \"timestamp\", format = \"unix_ms\" }\nprice = \"float\"\n";
    let source = "[source]\ntype = \"file\"\npath = \"in.csv\"\nquoted_newlines = false\npart_size = 300\n";
    let rest = "[dedupe]\nkeys = [\"coin_id\", \"at\"]\n[sink]\ntype = \"csv\"\npath = \"out.csv\"\n";
    room.write("p.toml", &format!("name = \"p\"\n[trigger]\ntype = \"manual\"\n{source}[source.columns]\n{columns}{rest}"));
    let done = room.pipeline(&["run", "p.toml", "--once"]);
    done.exits(0).prints("\n  in.csv#0 ... in.csv#26 (27 splits)  ok  400 read: 400 written\n");
    std::fs::remove_file(room.path("out.csv")).unwrap();
    let failed = room.pipeline(&["run", "p.toml", "--once"]);
    failed.exits(1).prints("  in.csv#0 ... in.csv#26 (27 splits)  failed  storage: out.csv is gone").says("splits_failed=27");
    for said in [&failed.stdout, &failed.stderr] {
        assert_eq!(said.matches("help").count(), 1, "{said}");
    }
    assert_eq!(failed.stderr.lines().count(), 3, "the run began, it failed, it is over: {}", failed.stderr);
}

#[test]
fn a_new_pipeline_from_a_file_reads_it() {
    let room = room();
    let csv = "coin;open_time;day;price;trades;final;note;zip\n\
               btc;1779202800000;2026-05-19;1.5;7;true;\"a; b\";01234\neth;1779206400000;2026-05-20;2;8;FALSE;;99999\n";
    room.write("in/x.csv", csv);
    room.pipeline(&["new", "pipeline", "candles", "--from", "in/x.csv", "--sink", "csv"]).exits(0).says("file into csv");
    let text = room.read("pipelines/candles.toml");
    let expected = "[source]\ntype = \"file\"\npath = \"in/x.csv\"\ndelimiter = \";\"\n\n# What is read, as found in the first rows. With `required` a row without the value is rejected.\n[source.columns]\n\
        coin = { type = \"text\", required = true }\nopen_time = { type = \"timestamp\", format = \"unix_ms\", required = true }\nday = { type = \"timestamp\", format = \"%Y-%m-%d\" }\n\
        price = \"float\"\ntrades = \"integer\"\nfinal = \"boolean\"\nnote = \"text\"\nzip = \"text\"\n";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("keys = [\"coin\", \"open_time\"]"), "{text}");
    room.pipeline(&["check", "pipelines/candles.toml", "--deny-warnings"]).exits(0);
    room.pipeline(&["run", "pipelines/candles.toml", "--once"]).exits(0).prints("2 read: 2 written");
    let json = "{\"id\":7,\"at\":\"2026-05-19T15:00:00Z\",\"user\":{\"name\":\"a\",\"tags\":[1]},\"x\":1}\n{\"id\":8,\"at\":\"2026-05-19T16:00:00Z\",\"user\":null,\"x\":1.5}\nnot json\n";
    room.write("in/events", json);
    room.pipeline(&["new", "pipeline", "events", "--from", "in/events", "--sink", "csv", "--every", "2h"]).exits(0);
    let text = room.read("pipelines/events.toml");
    let expected = "format = \"jsonl\"\n\n# What is read, as found in the first rows. With `required` a row without the value is rejected.\n[source.columns]\n\
        at = { type = \"timestamp\", required = true }\nid = \"integer\"\nuser_name = { type = \"text\", from = \"user.name\" }\nx = \"float\"\n";
    assert!(text.contains(expected), "{text}");
    room.pipeline(&["run", "pipelines/events.toml", "--once"]).exits(0).prints("3 read: 2 written, 1 rejected");
    room.write("in/none.csv", "");
    for (file, why) in
        [("in/none.csv", "in/none.csv: there is no line in it"), ("in/no.csv", "in/no.csv: there is no such file"), ("in", "in: it is a folder")]
    {
        room.pipeline(&["new", "pipeline", "p", "--from", file, "--sink", "csv"]).exits(2).complains(why);
    }
    room.pipeline(&["new", "pipeline", "p", "--from", "in/x.csv", "--source", "coingecko_ohlc", "--sink", "csv"])
        .exits(2)
        .complains("no such source");
}

const TO_JSON: &str = "name = \"j\"\n[trigger]\ntype = \"manual\"\n[source]\ntype = \"file\"\npath = \"in.csv\"\n[source.columns]\n\
    id = { type = \"text\", required = true }\nat = { type = \"timestamp\", required = true }\nprice = \"float\"\nok = \"boolean\"\n\
    [dedupe]\nkeys = [\"id\", \"at\"]\n[sink]\ntype = \"jsonl\"\npath = \"out/{id}.jsonl\"\n";

#[test]
fn rows_are_stored_as_json_lines_and_read_back() {
    let csv = "id,at,price,ok\na,2026-05-19T15:00:00Z,0.1,true\na,2026-05-19T15:00:00.5Z,NaN,\na,2026-05-19T15:00:01Z,1e-300,false\n\"b\"\"\n\",2026-05-19T15:00:00Z,-inf,\n";
    for (more, a, b) in [
        (
            "",
            "{\"id\":\"a\",\"at\":\"2026-05-19T15:00:00Z\",\"price\":0.1,\"ok\":true}\n{\"id\":\"a\",\"at\":\"2026-05-19T15:00:00.500Z\",\"price\":\"NaN\",\"ok\":null}\n\
             {\"id\":\"a\",\"at\":\"2026-05-19T15:00:01Z\",\"price\":1e-300,\"ok\":false}\n",
            "{\"id\":\"b\\\"\\n\",\"at\":\"2026-05-19T15:00:00Z\",\"price\":\"-inf\",\"ok\":null}\n",
        ),
        (
            "nulls = \"omit\"\ntime_format = \"unix\"\ncolumns = [\"at\", { column = \"price\", as = \"p\" }, \"ok\"]\n",
            "{\"at\":1779202800,\"p\":0.1,\"ok\":true}\n{\"at\":1779202800.5,\"p\":\"NaN\"}\n{\"at\":1779202801,\"p\":1e-300,\"ok\":false}\n",
            "{\"at\":1779202800,\"p\":\"-inf\"}\n",
        ),
        (
            "time_format = '%Y-%m-%d \"%H:%M:%S%.6f\\'\ncolumns = [\"at\"]\n",
            "{\"at\":\"2026-05-19 \\\"15:00:00.000000\\\\\"}\n{\"at\":\"2026-05-19 \\\"15:00:00.500000\\\\\"}\n{\"at\":\"2026-05-19 \\\"15:00:01.000000\\\\\"}\n",
            "{\"at\":\"2026-05-19 \\\"15:00:00.000000\\\\\"}\n",
        ),
    ] {
        let room = room();
        room.write("in.csv", csv).write("p.toml", &format!("{TO_JSON}{more}"));
        room.pipeline(&["run", "p.toml", "--once"]).exits(0).prints("4 read: 4 written");
        let files = room.files("out");
        let texts: Vec<String> = files.values().map(|bytes| String::from_utf8(bytes.clone()).unwrap()).collect();
        assert_eq!(texts, [a, b], "{more}");
        // What is read back is what the state is made of anew: every row is known again.
        room.pipeline(&["state", "rebuild", "p.toml"]).exits(0);
        room.pipeline(&["run", "p.toml", "--once"]).exits(0).prints("4 read: 0 written, 4 duplicates");
        room.pipeline(&["read", "p.toml", "--format", "json"]).exits(0).prints("2026-05-19T15:00:00.500Z");
    }
    let room = room();
    room.write("in.csv", csv).write("p.toml", TO_JSON);
    room.write("out/a.jsonl", "{\"id\":\"a\",\"at\":\"2026-05-19T15:00:00Z\",\"price\":1,\"ok\":true,\"more\":1}\n");
    room.pipeline(&["state", "rebuild", "p.toml"]).exits(2).complains("out/a.jsonl line 1: it has the key \"more\", which is no column");
    room.write("out/a.jsonl", "{\"id\":\"a\",\"at\":\"2026-05-19T15:00:00Z\"}\n{\"id\":\"a\",\"at\":7}\n");
    room.pipeline(&["state", "rebuild", "p.toml"]).exits(2).complains("out/a.jsonl line 2: at: `7` is not timestamp");
}

/// What a pipeline makes of a file.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    stored: String,
    /// Line numbers and rules of rejects of the source; rules of those of the validation, of which two of one row are kept once.
    rejects: Vec<(Option<u64>, String)>,
    /// All of them, counted.
    rejected: u64,
    duplicates: u64,
    conflicts: u64,
}

/// Is a quote left open, or text behind it? Sign by sign.
fn quotes_are_wrong(line: &str) -> bool {
    let mut rest = line.trim_end_matches(['\r', '\n']);
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut signs = quoted.char_indices().peekable();
            let end = loop {
                match signs.next() {
                    None => return true,
                    Some((_, '"')) if signs.peek().is_some_and(|next| next.1 == '"') => drop(signs.next()),
                    Some((at, '"')) => break at + 1,
                    Some(_) => {}
                }
            };
            rest = &quoted[end..];
            if !rest.is_empty() && !rest.starts_with(',') {
                return true;
            }
        }
        match rest.split_once(',') {
            Some((_, next)) => rest = next,
            None => return false,
        }
    }
}

/// Goes through the file row by row, with the `csv` crate and the standard library.
fn model(text: &[u8]) -> Outcome {
    let mut outcome = Outcome { stored: "id,at,price,note\n".to_owned(), ..Outcome::default() };
    let mut known: HashMap<(String, i64), String> = HashMap::new();
    let mut bad = HashSet::new();
    for (number, line) in text.split_inclusive(|sign| *sign == b'\n').enumerate().skip(1) {
        let number = number as u64 + 1;
        if line.iter().all(|sign| b"\r\n".contains(sign)) {
            continue;
        }
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line);
        let cells = reader.byte_records().next().unwrap().unwrap();
        let mut reject = |number: Option<u64>, rule: &str| {
            outcome.rejects.push((number, rule.to_owned()));
            outcome.rejected += 1;
        };
        if quotes_are_wrong(&String::from_utf8_lossy(line)) {
            reject(Some(number), "file:quote");
            continue;
        }
        if cells.len() != 4 {
            reject(Some(number), "file:cells");
            continue;
        }
        let text = |at: usize| std::str::from_utf8(&cells[at]);
        let Ok(id) = text(0) else {
            reject(Some(number), "file:utf8");
            continue;
        };
        // The generator quotes no empty text.
        if id.is_empty() {
            reject(Some(number), "file:null");
            continue;
        }
        let trim = |at: usize| text(at).map(|text| text.trim_matches([' ', '\t']).to_owned()).unwrap_or_else(|_| "?".to_owned());
        if cells[1].is_empty() {
            reject(Some(number), "file:null");
            continue;
        }
        let Ok(at) = trim(1).parse::<i64>() else {
            reject(Some(number), "file:value");
            continue;
        };
        let price = match trim(2).as_str() {
            _ if cells[2].is_empty() => None,
            text => match text.parse::<f64>() {
                Ok(price) if !price.is_infinite() || !text.bytes().any(|sign| sign.is_ascii_digit()) => Some(price),
                _ => {
                    reject(Some(number), "file:value");
                    continue;
                }
            },
        };
        let Ok(note) = text(3) else {
            reject(Some(number), "file:utf8");
            continue;
        };
        if price.is_some_and(|price| price.is_nan() || price < 0.0) {
            if bad.insert((id.to_owned(), at, price.map(|price| price.to_string()), note.to_owned())) {
                reject(None, "positive");
            } else {
                outcome.rejected += 1;
            }
            continue;
        }
        let note = if note.contains([',', '"', '\r']) { format!("\"{}\"", note.replace('"', "\"\"")) } else { note.to_owned() };
        let id = if id.contains([',', '"', '\r']) { format!("\"{}\"", id.replace('"', "\"\"")) } else { id.to_owned() };
        let with = |price: Option<f64>| {
            let price = price.map(|price| zmij::Buffer::new().format(price).to_owned()).unwrap_or_default();
            format!("{id},{at},{price},{note}\n")
        };
        // Of two rows with one key, -0 is 0 (the sum of the two is 0); what is stored is as it came.
        let compared = with(price.map(|price| price + 0.0));
        match known.get(&(id.clone(), at)) {
            Some(same) if *same == compared => outcome.duplicates += 1,
            Some(_) => outcome.conflicts += 1,
            None => {
                outcome.stored.push_str(&with(price));
                known.insert((id, at), compared);
            }
        }
    }
    outcome
}

/// A line of a file: mostly a row, often a bad one.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![6 => "[ab]", 1 => "", 1 => "x,y", 1 => "é \"q\""];
    let at = prop_oneof![6 => (0..6_i64).prop_map(|n| n.to_string()), 1 => "", 1 => " 3 ", 1 => "[-+]?[0-9]{1,16}", 1 => "1x", 1 => "99999999999999999999"];
    let price = prop_oneof![
        3 => any::<f64>().prop_map(|f| f.to_string()), 3 => (0..3_u8).prop_map(|n| format!("{n}.5")), 1 => "", 1 => "NaN", 1 => "-1", 1 => "1e999", 1 => "inf",
        1 => " 7\t", 1 => "[0-9.eE+-]{1,6}"
    ];
    let note = prop_oneof![3 => "", 3 => "[a-z ]{0,6}", 1 => "\"[a-z,\"]{1,4}", 1 => "[a-z]\"[a-z]"];
    let row = (id, at, price, note).prop_map(|cells| {
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        writer.write_record([cells.0, cells.1, cells.2, cells.3]).unwrap();
        writer.into_inner().unwrap()
    });
    let with_end = (row, any::<u8>()).prop_map(|(mut row, how)| {
        match how % 16 {
            0 => row.truncate(row.len() - 2),
            1 => drop(row.splice(row.len() - 1.., b"\r\n".to_vec())),
            2 => row.splice(row.len() - 1.., b",more\n".to_vec()).for_each(drop),
            3 => row[0] = 0xff,
            _ => {}
        }
        row
    });
    prop_oneof![12 => with_end, 1 => Just(b"\n".to_vec()), 1 => Just(b"one\n".to_vec())].prop_map(|mut line| {
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        line
    })
}

const PIPELINE: &str = "name = \"model\"\n[trigger]\ntype = \"manual\"\n[source]\ntype = \"file\"\npath = \"in.csv\"\nquoted_newlines = false\npart_size = 500\n[source.columns]\n\
    id = { type = \"text\", required = true }\nat = { type = \"timestamp\", format = \"unix_us\", required = true }\nprice = \"float\"\nnote = \"text\"\n\
    [validate]\non_reject = \"quarantine\"\nquarantine_path = \"rejects.jsonl\"\n[[validate.rules]]\nname = \"positive\"\nexpr = \"price >= 0\"\n\
    [dedupe]\nkeys = [\"id\", \"at\"]\n[run]\nepoch_rows = 40\n[sink]\ntype = \"csv\"\npath = \"out.csv\"\ntime_format = \"unix_us\"\n";

fn columnar(text: &[u8]) -> Outcome {
    let room = room();
    room.write("p.toml", PIPELINE);
    std::fs::write(room.path("in.csv"), text).unwrap();
    let run = room.pipeline(&["run", "p.toml", "--once", "--format", "json"]);
    run.exits(0);
    let summary = run.json();
    let rejects = if room.exists("rejects.jsonl") { room.read("rejects.jsonl") } else { String::new() };
    let mut bad = HashSet::new();
    let rejects = rejects.lines().filter_map(|line| {
        let reject: serde_json::Value = serde_json::from_str(line).unwrap();
        // A row that is in two parts of the file is in two splits.
        let again = reject["stage"] == "validate" && !bad.insert(reject["row"].to_string());
        (!again).then(|| (reject["row"]["line"].as_u64(), reject["rule"].as_str().unwrap().to_owned()))
    });
    let count = |name: &str| summary["rows"][name].as_u64().unwrap_or_else(|| panic!("{summary}"));
    Outcome {
        stored: if room.exists("out.csv") { room.read("out.csv") } else { "id,at,price,note\n".to_owned() },
        rejects: rejects.collect(),
        rejected: count("rejected"),
        duplicates: count("duplicates"),
        conflicts: count("conflicts"),
    }
}

/// In no order but that of their rules: those of the source stand before those of the validation in each chunk.
fn sorted(mut outcome: Outcome) -> Outcome {
    outcome.rejects.sort();
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn columns_and_a_model_that_goes_row_by_row_agree(lines in proptest::collection::vec(line(), 0..150)) {
        let text = [b"id,at,price,note\n".to_vec(), lines.concat()].concat();
        prop_assert_eq!(sorted(columnar(&text)), sorted(model(&text)));
    }
}

/// The model itself, so that it is not wrong in the same way.
#[test]
fn the_model_is_right_about_a_file_that_people_can_read() {
    let text = b"id,at,price,note\na,1,1.5,x\na,1,1.50,x\na,1,2,x\na,2,-1,\n,1,1,\nb,z,1,\nb,1\n\nb,1,,\"q\"\"\"\n";
    let rules = [(Some(6), "file:null"), (Some(7), "file:value"), (Some(8), "file:cells"), (None, "positive")];
    let expected = Outcome {
        stored: "id,at,price,note\na,1,1.5,x\nb,1,,\"q\"\"\"\n".to_owned(),
        rejects: rules.map(|(line, rule)| (line, rule.to_owned())).to_vec(),
        rejected: 4,
        duplicates: 1,
        conflicts: 1,
    };
    assert_eq!(sorted(model(text)), sorted(expected));
    let by_rule: BTreeMap<String, usize> = model(text).rejects.into_iter().fold(BTreeMap::new(), |mut all, (_, rule)| {
        *all.entry(rule).or_default() += 1;
        all
    });
    assert_eq!(by_rule.len(), 4);
}

#[test]
fn a_zero_is_the_same_with_a_sign() {
    let text = b"id,at,price,note\nb,1,0,\nb,1,-0,\nc,1,-0,\nc,1,0,\nc,1,,\n";
    let stored = "id,at,price,note\nb,1,0.0,\nc,1,-0.0,\n".to_owned();
    let expected = Outcome { stored, rejects: Vec::new(), rejected: 0, duplicates: 2, conflicts: 1 };
    assert_eq!(columnar(text), expected);
    assert_eq!(model(text), expected);
}
