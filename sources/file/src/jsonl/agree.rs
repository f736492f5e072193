//! Lines that are read by their shape bring what serde_json brings.

use std::cell::{Cell, RefCell};

use pipeline_contract::testkit::{Draw, Fuzz};

use super::JsonRows;
use crate::agree::{agreed, columns};
use crate::columns::Cells;
use crate::csv::MOST;
use crate::reader::{Batch, Step};

const COLUMNS: [&str; 11] = [
    "id = { type = \"integer\", required = true }",
    "note = \"text\"",
    "at = { type = \"timestamp\", format = \"unix_ms\" }",
    "price = \"float\"",
    "size = { type = \"float\", required = true }",
    "ok = \"boolean\"",
    "when = \"timestamp\"",
    "day = { type = \"timestamp\", format = \"%d.%m.%Y\" }",
    "sec = { type = \"timestamp\", format = \"unix\" }",
    "x = { type = \"float\", from = \"a.b.x\" }",
    "y = { type = \"text\", from = \"a.y\" }",
];

fn table(draw: &mut Draw) -> String {
    let parts = draw.of(&["", "", "part_size = 700\n", "part_size = 5000\n"]);
    let mut text = format!("path = \"x.jsonl\"\n{parts}[columns]\n");
    let columns = COLUMNS.iter().enumerate().filter(|(nth, _)| *nth < 2 || !draw.once_in(4));
    columns.for_each(|(_, column)| text.push_str(&format!("{column}\n")));
    text
}

const KEYS: [&str; 12] = ["id", "note", "at", "price", "size", "ok", "when", "day", "sec", "a", "other", "t\u{e9}xt"];

/// The same key as `note`.
const NOTE: &str = "n\\u006fte";

const ODD: [&str; 60] = [
    "null",
    "null",
    "nul",
    "nulls",
    "true",
    "tru",
    "truex",
    "0",
    "-0",
    "-0.0",
    "0.0",
    "-",
    "--1",
    "+1",
    "01",
    "-01",
    "00",
    "01.5",
    "1.",
    ".5",
    "1.5.5",
    "-1.5",
    "-7",
    "1e5",
    "1E-2",
    "1.5e3",
    "1e999",
    "0.30000000000000004",
    "123456789.123456789",
    "12345678.12345678",
    "1234567.12345678",
    "9007199254740993",
    "99999999999999999",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "99999999999999999999",
    "NaN",
    "[1]",
    "{}",
    "{\"b\":1}",
    " 7 ",
    "\"\"",
    "\"7\"",
    "\"-7.5\"",
    "\"1577836800000\"",
    "\"a\\nb\"",
    "\"\\u00e9\"",
    "\"x\\\"y\"",
    "\"in a longer text a \\\\ backslash\"",
    "\"\\x\"",
    "\"é\"",
    "\"日本 and more signs\"",
    "\"a\tb\"",
    "\"in a longer text a \u{1} sign\"",
    "\"\u{7f}\"",
    "\"\"x",
    "\"open",
    "\"2026-05-19T15:00:00.5+02:00\"",
    "\"2026-13-19T15:00:00Z\"",
];

fn value(draw: &mut Draw, key: &str) -> String {
    let size = [10, 1000, 100_000, 10_000_000][draw.below(4)];
    let decimals = 1 + draw.below(4);
    if draw.once_in(80) {
        return draw.of(&ODD).to_owned();
    }
    if draw.once_in(80) {
        let mut digits = |end| (0..draw.below(end)).map(|_| char::from(b'0' + draw.below(10) as u8)).collect::<String>();
        let (whole, part) = (digits(20), digits(20));
        return if draw.once_in(2) { whole } else { format!("{whole}.{part}") };
    }
    match key {
        "id" => format!("{}", draw.below(size)),
        "note" | NOTE | "y" => format!("\"{}\"", draw.of(&["coin-00072", "btc", "a text of more than sixteen signs", "日本", "", "z"])),
        "at" => format!("{}", 1_577_836_800_000_u64 + draw.bits() % 1_000_000_000),
        "ok" => draw.of(&["true", "false"]).to_owned(),
        "when" => "\"2026-05-19T15:00:00Z\"".to_owned(),
        "day" => "\"19.05.2026\"".to_owned(),
        "sec" => draw.of(&["1577836800", "1577836800.25", "\"1577836800\""]).to_owned(),
        "a" => {
            let (x, y, z) = (value(draw, "x"), value(draw, "y"), value(draw, "ok"));
            format!("{{\"b\":{{\"x\":{x}}},\"y\":{y},\"z\":{z}}}")
        }
        "other" => draw.of(&["1", "\"x\"", "null", "0.5", "-3", "true"]).to_owned(),
        _ => format!("{}.{:0decimals$}", draw.below(size), draw.below(10_usize.pow(decimals as u32))),
    }
}

/// Keys in an order, what stands between them, and what ends a line.
struct Style(Vec<&'static str>, &'static str, &'static str, &'static str);

fn style(draw: &mut Draw) -> Style {
    let mut keys: Vec<&str> = KEYS.into_iter().filter(|key| *key == "id" || *key == "size" || !draw.once_in(6)).collect();
    if draw.once_in(2) {
        let (one, other) = (draw.below(keys.len()), draw.below(keys.len()));
        keys.swap(one, other);
    }
    if draw.once_in(20) {
        keys.push(draw.of(&KEYS[..2]));
    }
    if draw.once_in(8) {
        keys.iter_mut().filter(|key| **key == "note").for_each(|key| *key = NOTE);
    }
    Style(keys, draw.of(&[",", ",", ", ", " ,\t"]), draw.of(&[":", ":", ": "]), draw.of(&["\n", "\n", "\r\n", " \n"]))
}

fn line(draw: &mut Draw, Style(keys, comma, colon, end): &Style) -> Vec<u8> {
    let pairs: Vec<String> = keys.iter().map(|key| format!("\"{key}\"{colon}{}", value(draw, key))).collect();
    let mut line = format!("{{{}}}{end}", pairs.join(comma)).into_bytes();
    if draw.once_in(30) {
        let (at, byte) = (draw.below(line.len()), draw.of(&[" ", "\"", "\\", "}", "]", ",", ":", "0", "-", ".", "\n", "\u{1}", "x"]).as_bytes()[0]);
        match draw.below(4) {
            0 => line[at] = byte,
            1 => line.insert(at, byte),
            2 => drop(line.remove(at)),
            _ => line[at] |= 0x80,
        }
    }
    line
}

fn file(draw: &mut Draw) -> Vec<u8> {
    let styles: Vec<Style> = (0..1 + draw.below(3)).map(|_| style(draw)).collect();
    let (mut text, mut now, often) = (Vec::new(), 0, 1 + draw.below(12));
    for _ in 0..draw.below(60) {
        if draw.once_in(often) {
            now = draw.below(styles.len());
        }
        text.extend_from_slice(&line(draw, &styles[now]));
        if draw.once_in(40) {
            text.extend_from_slice(draw.of(&["\n", "\r\n", " \n", "{}\n", "[]\n", "x\n", "null\n"]).as_bytes());
        }
    }
    if draw.once_in(3) {
        text.truncate(text.len() - draw.below(20).min(text.len()));
    }
    text
}

#[test]
fn fuzzed_files_bring_the_same_by_their_shape() {
    let samples = [
        "{\"id\":7,\"note\":\"btc\",\"price\":217.3023,\"ok\":true,\"x\":null}\n{\"id\":8,\"note\":\"eth\",\"price\":14463682.34,\"ok\":false,\"x\":1}\n\
         {\"id\":9,\"note\":null,\"price\":-0.5,\"ok\":false,\"x\":\"\"}\n",
        "{\"price\": 1, \"id\": 1577836800000, \"a\": {\"b\": {\"x\": 1.5}}}\r\n{\"price\": 0.25, \"id\": 2, \"a\": {\"b\": {\"x\": 20.5}}}\r\n\
         {\"price\": 123456.75, \"id\": -3, \"a\": {\"b\": {\"x\": 0}}}\r\n{\"price\": 2, \"id\": 4, \"a\": {\"b\": {\"x\": 30}}}",
    ];
    let words = ["\"", "\\", "{", "}", ",", ":", "\n", "\r\n", "-", ".", "0", "e", "é", "null", "\"id\":1,"];
    let fuzz = Fuzz { name: "json lines by their shape", samples: &samples, words: &words, cases: 400, cost: 60 };
    // What a damaged sample is read by is what was drawn last.
    let last = RefCell::new(("path = \"x.jsonl\"\n[columns]\nid = \"integer\"\nprice = \"float\"\n".to_owned(), 0));
    let (rows, rejects) = (Cell::new(0), Cell::new(0));
    let read = |bytes: &[u8]| {
        let (toml, place) = &*last.borrow();
        let brought = agreed(toml, "x.jsonl", bytes, &[333, MOST], Some(*place));
        rows.set(rows.get() + brought.rows());
        rejects.set(rejects.get() + brought.rejects());
        brought.error.is_none() && brought.rows() > 0
    };
    fuzz.run(
        |draw| {
            // More of these than of damaged ones.
            let mut one = || {
                *last.borrow_mut() = (table(draw), draw.below(5000));
                file(draw)
            };
            for _ in 0..5 {
                read(&one());
            }
            one()
        },
        read,
    );
    let (rows, rejects) = (rows.get(), rejects.get());
    assert!(rows > 8000 && rejects > 3000, "{rows} rows, {rejects} rejects");
}

const TABLE: &str = "path = \"x.jsonl\"\n[columns]\nid = { type = \"integer\", required = true }\nnote = \"text\"\nprice = \"float\"\nok = \"boolean\"\n\
    at = { type = \"timestamp\", format = \"unix_ms\" }\n";

#[test]
fn each_odd_value_among_plain_lines_is_read_as_before() {
    let line = |key: &str, odd: &str| {
        let pairs = [("id", "12"), ("note", "\"btc\""), ("extra", "1"), ("price", "217.3023"), ("ok", "true"), ("at", "1577836800000")];
        let pairs = pairs.map(|(name, value)| format!("\"{name}\":{}", if name == key { odd } else { value }));
        format!("{{{}}}\n", pairs.join(","))
    };
    for key in ["id", "note", "extra", "price", "ok", "at"] {
        for odd in ODD {
            let text = [line("", ""), line("", ""), line(key, odd), line("", ""), line(key, odd), line("", ""), line("", "")].concat();
            let brought = agreed(TABLE, "x.jsonl", text.as_bytes(), &[MOST], None);
            assert!(brought.rows() >= 5, "{key} {odd}");
        }
    }
}

#[test]
fn keys_are_the_same_however_they_are_written() {
    let lines = |pairs: &str| format!("{{{pairs}}}\n").repeat(4);
    for (pairs, rows) in [
        ("\"id\":1,\"n\\u006fte\":\"btc\"", 4),
        ("\"id\":1,\"note\":\"btc\",\"n\\u006fte\":\"eth\"", 0),
        ("\"id\":1,\"no\\\"te\":\"btc\",\"note\":\"eth\"", 4),
        ("\"id\":1,\"more\":2,\"more\":3", 4),
        ("\"id\":1,\"id\":1", 0),
        ("\"more\":{\"id\":2},\"id\":1", 4),
    ] {
        let brought = agreed(TABLE, "x.jsonl", lines(pairs).as_bytes(), &[MOST], None);
        assert_eq!(brought.rows(), rows, "{pairs}");
    }
}

#[test]
fn bytes_that_are_no_text_are_rejected_wherever_they_stand() {
    let good = b"{\"note\":\"a text of more than eight\",\"id\":1,\"extra\":\"and another text\"}\n".to_vec();
    for at in 0..good.len() - 1 {
        for byte in [0, 0x1f, b'\\', b'"', 0x7f, 0x80, 0xc3, 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            let text = [&good[..], &good, &bad, &good, &good].concat();
            agreed(TABLE, "x.jsonl", &text, &[MOST], None);
        }
    }
}

#[test]
fn batches_of_lines_end_where_they_end_one_by_one() {
    // By rows, with and without rejects among them; and by bytes.
    for (rows, len, odd) in [(9000, 3, 1000), (9000, 12, 3), (6000, 900, 501)] {
        let cells = |row: usize| match row % odd {
            1 => format!("{{\"id\":{row},\"note\":null,\"price\":{row}.5}}\n"),
            2 => format!("{{\"id\":\"x\",\"note\":\"{:len$}\",\"price\":1}}\n", row * 7),
            _ => format!("{{\"id\":{row},\"note\":\"{:len$}\",\"price\":{row}.25}}\n", row * 7),
        };
        let text: String = (0..rows).map(cells).collect();
        let brought = agreed(TABLE, "x.jsonl", text.as_bytes(), &[1000, MOST], None);
        assert_eq!((&brought.error, brought.rows() + brought.rejects()), (&None, rows));
        assert!(brought.reads.len() > 1, "{} batches", brought.reads.len());
    }
}

#[test]
fn a_line_that_is_too_long_is_a_reject_whatever_it_looks_like() {
    let line = |id: usize, len: usize| format!("{{\"id\":{id},\"note\":\"{}\"}}\n", "x".repeat(len));
    let text = [line(1, 3), line(2, 5), line(3, (16 << 20) - 20), line(4, 17 << 20), line(5, 9), line(6, 17)].concat();
    let brought = agreed(TABLE, "x.jsonl", text.as_bytes(), &[MOST], None);
    assert_eq!((brought.rows(), brought.rejects()), (5, 1));
}

/// How many of some lines were read by their shape, and how often that was tried.
fn by_shape(text: &str) -> (usize, usize) {
    let wanted = columns(TABLE);
    let mut rows = JsonRows::new(&wanted, MOST);
    let mut batch = Batch { columns: wanted.iter().map(|wanted| Cells::new(&wanted.ty)).collect(), rows: 0 };
    let (mut at, mut taken, mut tried) = (0, 0, 0);
    while at < text.len() {
        let data = &text.as_bytes()[at..];
        tried += usize::from(rows.shape.wait == 0);
        let (len, some) = rows.block(data, 1000, u64::MAX, &wanted, &mut batch);
        (at, taken, batch.rows) = (at + len, taken + some, batch.rows + some);
        if some == 0 {
            let Step::Row { len, .. } = rows.step(data, true, &wanted, &mut batch) else { panic!("no row") };
            (at, batch.rows) = (at + len, batch.rows + 1);
        }
    }
    assert_eq!(batch.rows, text.lines().count());
    (taken, tried)
}

#[test]
fn lines_of_one_shape_are_read_by_it_and_few_are_tried_where_shapes_change() {
    let lines = |many: usize, line: fn(usize) -> String| (0..many).map(line).collect::<String>();
    let plain = |row: usize| format!("{{\"id\": {row}, \"note\": \"coin\", \"price\": {row}.5, \"more\": 1}}\n");
    // The first and the last one are not: there, no eight bytes follow the last value.
    assert_eq!(by_shape(&lines(500, plain)).0, 498);
    // An escape here and there costs one line each, and null costs none.
    let some = |row: usize| format!("{{\"id\":{row},\"note\":{}}}\n", ["\"a\"", "null", "\"b\"", "\"\\n\""][row % 4]);
    let (taken, tried) = by_shape(&lines(400, some));
    assert!(taken == 299 && tried < 110, "{taken} of {tried}");
    // Each line has another key.
    let (taken, tried) = by_shape(&lines(2000, |row| format!("{{\"id\":{row},\"k{row}\":1}}\n")));
    assert!(taken == 0 && tried < 50, "{taken} of {tried}");
    // A shape that is none.
    let (taken, tried) = by_shape(&lines(2000, |row| format!("{{\"id\":{row},\"list\":[]}}\n")));
    assert!(taken == 0 && tried < 50, "{taken} of {tried}");
    // And then they are alike again.
    let mixed = [lines(2000, |row| format!("{{\"k{row}\":0,\"id\":{row}}}\n")), lines(500, plain)].concat();
    assert!(by_shape(&mixed).0 > 400);
}
