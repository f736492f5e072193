//! Blocks of records bring what the same records bring one by one.

use std::cell::RefCell;

use pipeline_contract::testkit::{Draw, Fuzz};

use crate::agree::agreed;

const COLUMNS: [&str; 7] = [
    "note = \"text\"",
    "at = { type = \"timestamp\", format = \"unix_ms\", required = true }",
    "price = \"float\"",
    "id = { type = \"integer\", required = true }",
    "ok = \"boolean\"",
    "when = \"timestamp\"",
    "size = { type = \"float\", required = true }",
];

fn table(draw: &mut Draw, delimiter: char) -> String {
    let mut text = format!("path = \"x.csv\"\ndelimiter = {:?}\n", delimiter.to_string());
    let header = draw.once_in(2);
    text.push_str(if header { "" } else { "header = false\n" });
    text.push_str(if delimiter != ',' && draw.once_in(2) { "decimal = \",\"\n" } else { "" });
    text.push_str(draw.of(&["", "", "null = [\"-999\", \"NA\"]\n", "null = [\"\", \"0\", \"12.5\"]\n", "null = []\n"]));
    let parts =
        draw.of(&["", "quoted_newlines = false\n", "quoted_newlines = false\npart_size = 40\n", "quoted_newlines = false\npart_size = 333\n"]);
    text.push_str(parts);
    text.push_str("[columns]\n");
    let columns = COLUMNS.iter().enumerate().filter(|(nth, _)| *nth == 0 || !header || !draw.once_in(4));
    columns.for_each(|(_, column)| text.push_str(&format!("{column}\n")));
    text
}

fn cell(draw: &mut Draw, nth: usize) -> String {
    const ODD: [&str; 26] = [
        "",
        "",
        "-999",
        "NA",
        "0",
        "12.5",
        "x",
        "é",
        "\"q\"",
        "\"a,\nb\"",
        "\"open",
        "a\"b",
        "\"c\"d",
        "1e5",
        "-1.5",
        "-0",
        "1.",
        ".5",
        " 7 ",
        "1,5",
        "\r",
        "\0",
        "123456789.123456789",
        "99999999999999999999",
        "NaN",
        "2026-05-19T15:00:00.5Z",
    ];
    if draw.once_in(25) {
        return draw.of(&ODD).to_owned();
    }
    let size = [10, 1000, 100_000, 10_000_000][draw.below(4)];
    let decimals = 1 + draw.below(4);
    match nth {
        0 => draw.of(&["coin-00072", "btc", "a text of more than sixteen signs", "日本", "z"]).to_owned(),
        1 => format!("{}", 1_577_836_800_000_u64 + draw.bits() % 1_000_000_000),
        3 => format!("{}", draw.below(size)),
        4 => draw.of(&["true", "0", "FALSE"]).to_owned(),
        5 => "2026-05-19T15:00:00Z".to_owned(),
        _ => format!("{}.{:0decimals$}", draw.below(size), draw.below(10_usize.pow(decimals as u32))),
    }
}

fn file(draw: &mut Draw, delimiter: char) -> Vec<u8> {
    let delimiter = delimiter.to_string();
    let end = draw.of(&["\n", "\n", "\r\n"]);
    let mut text = ["note", "at", "price", "id", "ok", "when", "size"].join(&delimiter).into_bytes();
    text.extend_from_slice(end.as_bytes());
    for _ in 0..draw.below(40) {
        let cells = if draw.once_in(30) { draw.below(10) } else { 7 };
        let cells: Vec<String> = (0..cells).map(|nth| cell(draw, nth)).collect();
        text.extend_from_slice(cells.join(&delimiter).as_bytes());
        text.extend_from_slice(if draw.once_in(40) { "" } else { end }.as_bytes());
        if draw.once_in(40) {
            text.extend_from_slice(draw.of(&["\n", "\r\n", "\r", "\r\r\n"]).as_bytes());
        }
        if draw.once_in(60) {
            let at = draw.below(text.len());
            text[at] = 0x80 | draw.bits().to_le_bytes()[0];
        }
    }
    if draw.once_in(3) {
        text.truncate(text.len() - draw.below(20).min(text.len()));
    }
    text
}

#[test]
fn fuzzed_files_bring_the_same_in_blocks() {
    let samples = [
        "note,at,price,id,ok,when,size\nbtc,1577836800000,217.3023,7,true,2026-05-19T15:00:00Z,14463682.34\neth,1577836800000,9.5,8,0,,1.25\n",
        "note,at,price,id,ok,when,size\r\nbtc,1577836800000,,7,,,1.5\r\n\"eth\",1577836800000,-9.5,8,1,,0.25\r\nz,0,1,2,0,,3",
    ];
    let fuzz = Fuzz { name: "csv blocks", samples: &samples, words: &[",", "\"", "\n", "\r\n", "-", ".", "é", "-999"], cases: 300, cost: 60 };
    // What a damaged sample is read by is what was drawn last.
    let last = RefCell::new(("path = \"x.csv\"\n[columns]\nnote = \"text\"\nprice = \"float\"\n".to_owned(), 0));
    let (mut rows, mut rejects) = (0, 0);
    fuzz.run(
        |draw| {
            let delimiter = [',', ',', ';', '\t', '|'][draw.below(5)];
            *last.borrow_mut() = (table(draw, delimiter), draw.below(2000));
            file(draw, delimiter)
        },
        |bytes| {
            let (toml, place) = &*last.borrow();
            let brought = agreed(toml, "x.csv", bytes, &[40, 100, 333, super::MOST], Some(*place));
            rows += brought.rows();
            rejects += brought.rejects();
            brought.error.is_none() && brought.rows() > 0
        },
    );
    assert!(rows > 500 && rejects > 100, "{rows} rows, {rejects} rejects");
}

#[test]
fn batches_end_where_they_end_one_by_one() {
    const TABLE: &str = "path = \"x.csv\"\nheader = false\nnull = [\"\", \"7\"]\n[columns]\nid = \"integer\"\nnote = { type = \"text\", required = true }\n\
        price = \"float\"\n";
    // By rows, with and without rejects among them; and by bytes.
    for (rows, len, odd) in [(9000, 3, 1000), (9000, 12, 3), (6000, 900, 501)] {
        let cells = |row: usize| match row % odd {
            1 => format!("{row},,{row}.5"),
            2 => format!("x,{:len$},", row * 7),
            _ => format!("{row},{:len$},{row}.25", row * 7),
        };
        let text: String = (0..rows).map(|row| format!("{}\n", cells(row))).collect();
        let brought = agreed(TABLE, "x.csv", text.as_bytes(), &[1000, super::MOST], None);
        assert_eq!(brought.error, None);
        assert!(brought.reads.len() > 1, "{} batches", brought.reads.len());
        assert_eq!(brought.rows() + brought.rejects(), rows);
    }
}

#[test]
fn files_of_one_column_have_empty_lines_too() {
    for text in ["1\n2\n\n3\n", "\n\n1\r\n\r\n\r\r\nx\r\n2\r\n", "1\n\"2\"\n3\n\"\"\n4", "\r\n1,2\n3\n", "\r"] {
        for column in ["\"integer\"", "\"text\"", "{ type = \"float\", required = true }"] {
            let table = format!("path = \"x.csv\"\nheader = false\n[columns]\nx = {column}\n");
            agreed(&table, "x.csv", text.as_bytes(), &[2, 5, super::MOST], None);
        }
    }
}
