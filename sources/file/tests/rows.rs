//! What is read of files, good and bad.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use common::{block, build, put, read, read_all, read_split, run_on};
use pipeline_contract::testkit::SimDisk;
use pipeline_contract::{Act, Clock, Disk, Read, RealDisk, RunContext, async_trait};

const COLUMNS: &str = "[columns]\nid = \"integer\"\nnote = \"text\"\n";

#[test]
fn every_type_is_read_and_columns_are_found_by_name() {
    let columns = "[columns]\nname = \"text\"\nn = { type = \"integer\", from = \"count\" }\nok = \"boolean\"\nprice = \"float\"\n\
                   at = \"timestamp\"\nms = { type = \"timestamp\", format = \"unix_ms\" }\nday = { type = \"timestamp\", format = \"%d.%m.%Y\" }\n";
    let text = "price,extra,ok,count,name,at,ms,day\n1e-8,?,TRUE,-5,\"a \"\"b\"\", c\",2026-05-19T15:00:00Z,1779202800000,19.05.2026\n\
                 77139.5 ,,0, 7,,2026-05-19T17:00:00.25+02:00,0,01.01.1970\n,,,,,,,\n";
    let brought = read(columns, "x.csv", text.as_bytes());
    assert_eq!(brought.reasons(), Vec::<String>::new());
    assert_eq!(
        brought.lines(),
        "{\"at\":\"2026-05-19T15:00:00Z\",\"day\":\"2026-05-19T00:00:00Z\",\"ms\":\"2026-05-19T15:00:00Z\",\"n\":-5,\"name\":\"a \\\"b\\\", c\",\"ok\":true,\"price\":1e-8}\n\
         {\"at\":\"2026-05-19T15:00:00.250Z\",\"day\":\"1970-01-01T00:00:00Z\",\"ms\":\"1970-01-01T00:00:00Z\",\"n\":7,\"name\":null,\"ok\":false,\"price\":77139.5}\n\
         {\"at\":null,\"day\":null,\"ms\":null,\"n\":null,\"name\":null,\"ok\":null,\"price\":null}\n"
    );
}

#[test]
fn a_line_that_is_no_row_is_a_reject_with_its_number_and_its_text() {
    let text: &[u8] =
        b"id,note\n1,good\n2\n3,a,b\nx,c\n\n4,\xff\n5,\"two\nlines\"\n6,\"text\"after\n9223372036854775808,d\n7,good\n8,\"open\n9,good\n";
    let brought = read(COLUMNS, "in/x.csv", text);
    assert_eq!(brought.error, None);
    assert_eq!(
        brought.reasons(),
        [
            "file:cells in/x.csv line 3: it has 1 cells, where 2 are expected",
            "file:cells in/x.csv line 4: it has 3 cells, where 2 are expected",
            "file:value in/x.csv line 5: id: `x` is not integer",
            "file:utf8 in/x.csv line 7: note is not UTF-8",
            "file:quote in/x.csv line 10: there is text after a closing quote",
            "file:value in/x.csv line 11: id: `9223372036854775808` is not integer",
            "file:quote in/x.csv line 13: a quote is opened and never closed",
        ]
    );
    assert_eq!(brought.texts(), ["2", "3,a,b", "x,c", "4,\u{fffd}", "6,\"text\"after", "9223372036854775808,d", "8,\"open"]);
    let ids: Vec<i64> = brought.rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [1, 5, 7, 9]);
    assert_eq!(brought.rejects[0].row["file"], "in/x.csv");
    assert_eq!(brought.rejects[0].row["line"], 3);
}

#[test]
fn a_line_of_json_that_is_no_row_is_a_reject_too() {
    let columns = "[columns]\nid = { type = \"integer\", required = true }\nnote = \"text\"\nx = { type = \"float\", from = \"a.b.x\" }\n\
                   at = { type = \"timestamp\", format = \"unix\" }\n";
    let text = b"{\"id\":1,\"note\":\"\\u00e9\\n\",\"a\":{\"b\":{\"x\":2,\"y\":[1,{}]},\"c\":0},\"at\":1.5}\n\
        {\"at\":7,\"other\":{\"id\":9},\"id\":2,\"a\":null}\n\
        {\"id\":1.5}\n{\"id\":\"3\"}\n{\"id\":3,\"id\":3}\n{\"note\":\"x\"}\n{\"id\":4,\"note\":[1]}\n[1]\n{\"id\":5,\n{\"id\":6}}\n\
        {\"id\":7,\"x\":NaN}\n{\"id\":8,\"a\":{\"b\":1}}\n{\"id\":9,\"note\":\"\xff\"}\n{\"id\":10,\"at\":\"8\"}\n  \n{\"id\":11,\"a\":{\"b\":{\"x\":1e999}}}\n{\"id\":12,\"note\":null,\"note\":\"x\"}";
    let brought = read(columns, "x.jsonl", text);
    assert_eq!(brought.error, None);
    assert_eq!(
        brought.lines(),
        "{\"at\":\"1970-01-01T00:00:01.500Z\",\"id\":1,\"note\":\"é\\n\",\"x\":2.0}\n\
         {\"at\":\"1970-01-01T00:00:07Z\",\"id\":2,\"note\":null,\"x\":null}\n\
         {\"at\":\"1970-01-01T00:00:08Z\",\"id\":10,\"note\":null,\"x\":null}\n"
    );
    assert_eq!(
        brought.reasons(),
        [
            "file:value x.jsonl line 3: id: 1.5 is not integer",
            "file:value x.jsonl line 4: id: \"3\" is not integer",
            "file:json x.jsonl line 5: the key of id comes twice",
            "file:null x.jsonl line 6: id is null, and it is required",
            "file:value x.jsonl line 7: note: a list is not text",
            "file:json x.jsonl line 8: invalid type: sequence, expected an object",
            "file:json x.jsonl line 9: EOF while parsing a value at column 8",
            "file:json x.jsonl line 10: trailing characters at column 9",
            "file:json x.jsonl line 11: expected value at column 13",
            "file:value x.jsonl line 12: b is not an object",
            "file:json x.jsonl line 13: invalid unicode code point at column 17",
            "file:json x.jsonl line 16: number out of range at column 28",
            "file:json x.jsonl line 17: the key of note comes twice",
        ]
    );
}

#[test]
fn files_may_begin_and_end_as_other_programs_make_them() {
    for (text, rows) in [
        ("", 0),
        ("id,note\n", 0),
        ("id,note", 0),
        ("\n\r\nid,note\n1,a\n", 1),
        ("\u{feff}id,note\r\n1,a\r\n2,b\r\n", 2),
        ("\u{feff}\"id\",\"note\"\r\n\"1\",\"a\"\r", 1),
        ("id,note\n1,a\n2,\"b\"", 2),
        ("id,note\n\n1,a\n\n\n2,b\n\n", 2),
        (" note , id \na,1\n", 1),
    ] {
        let brought = read(COLUMNS, "x.csv", text.as_bytes());
        assert_eq!((brought.rows.len(), brought.reasons(), &brought.error), (rows, vec![], &None), "{text:?}");
        assert!(rows == 0 || brought.rows[0] == serde_json::json!({ "id": 1, "note": "a" }), "{text:?}: {}", brought.lines());
    }
    let brought = read(&format!("header = false\nnull = [\"NA\", \"-\"]\n{COLUMNS}"), "x.csv", b"NA,\n-,NA\n1,\"NA\"\n");
    assert_eq!(brought.lines(), "{\"id\":null,\"note\":\"\"}\n{\"id\":null,\"note\":null}\n{\"id\":1,\"note\":\"NA\"}\n");
    let brought = read("decimal = \",\"\ndelimiter = \";\"\n[columns]\nx = \"float\"\n", "x.csv", b"x\n1,5\n1.000,5\n");
    assert_eq!((brought.lines().as_str(), brought.rejects.len()), ("{\"x\":1.5}\n", 1));
    let brought = read(COLUMNS, "x.tsv", b"id\tnote\n1\ta,b\n");
    assert_eq!(brought.lines(), "{\"id\":1,\"note\":\"a,b\"}\n");
    let brought = read(COLUMNS, "x.ndjson", b"\xef\xbb\xbf{\"id\":1}\r\n{\"id\":2}");
    assert_eq!(brought.rows.len(), 2);
}

#[test]
fn a_header_without_a_column_fails_the_file_with_what_it_has() {
    for (text, message, help) in [
        ("id,nota\n1,a\n", "x.csv: the header has no `note`; it has `id`, `nota`", "did you mean `nota`?"),
        ("id,note,id\n", "x.csv: two columns of the header are named `id`", "rename one"),
        ("1,a\n2,b\n", "x.csv: the header has no `id`, `note`; it has `1`, `a`", "header = false"),
        ("id,\"note\n", "x.csv: the header cannot be read: a quote is opened and never closed", "header = false"),
    ] {
        let error = read(COLUMNS, "x.csv", text.as_bytes()).error.unwrap();
        assert_eq!((error.act, error.message.as_str()), (Act::Split, message));
        assert!(error.help.unwrap().contains(help), "{message}");
    }
}

#[test]
fn a_line_without_an_end_is_not_read_into_memory_for_ever() {
    let mut text = b"id,note\n1,".to_vec();
    text.resize(text.len() + (17 << 20), b'x');
    text.extend_from_slice(b"\n2,good\n");
    let brought = read(COLUMNS, "x.csv", &text);
    assert_eq!(brought.reasons(), ["file:long x.csv line 2: it is longer than 16 MiB, the most that is read"]);
    assert!(brought.texts()[0].len() < 3000);
    assert_eq!(brought.lines(), "{\"id\":2,\"note\":\"good\"}\n");
    // A quote that is never closed costs one line, however much follows.
    let mut text = b"id,note\n1,\"open\n".to_vec();
    let note = "y".repeat(5000);
    (0..3600).for_each(|row| text.extend_from_slice(format!("{row},{note}\n").as_bytes()));
    let brought = read(COLUMNS, "x.csv", &text);
    assert_eq!((brought.reasons().len(), brought.rows.len(), brought.texts()), (1, 3600, vec!["1,\"open"]));
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn compressed_files_are_read_whole_and_a_damaged_one_as_far_as_it_goes() {
    let part = |from: usize| (from..from + 5000).map(|id| format!("{id},text {id}\n")).collect::<String>();
    let (one, two) = (format!("id,note\n{}", part(0)), part(5000));
    for (path, pack) in [("x.csv.gz", gzip as fn(&[u8]) -> Vec<u8>), ("x.csv.zst", zstd)] {
        let mut packed = [pack(one.as_bytes()), pack(two.as_bytes())].concat();
        let brought = read(COLUMNS, path, &packed);
        assert_eq!((brought.rows.len(), brought.rejects.len(), &brought.error), (10_000, 0, &None), "{path}");
        assert_eq!(brought.rows[9999]["note"], "text 9999");
        let cut = read(COLUMNS, path, &packed[..packed.len() - 7]);
        let error = cut.error.unwrap();
        assert!(error.message.starts_with(&format!("{path}: what is compressed cannot be read to its end: ")), "{}", error.message);
        assert_eq!((error.act, cut.rejects.len()), (Act::Split, 0));
        assert!(cut.rows.len() >= 5000 && cut.rows.len() <= 10_000, "{path}: {}", cut.rows.len());
        let middle = packed.len() / 4;
        packed[middle] ^= 0x55;
        let damaged = read(COLUMNS, path, &packed);
        assert!(damaged.error.is_some(), "{path}");
    }
    let brought = read(&format!("compression = \"gzip\"\nformat = \"csv\"\n{COLUMNS}"), "x", &gzip(b"id,note\n1,a\n"));
    assert_eq!(brought.rows.len(), 1);
    let brought = read(&format!("compression = \"none\"\n{COLUMNS}"), "x.csv.gz", b"id,note\n1,a\n");
    assert_eq!(brought.rows.len(), 1);
    // zstd's frames without contents.
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(b"id,note\n1,a\n")].concat();
    assert_eq!(read(COLUMNS, "x.csv.zst", &skippable).rows.len(), 1);
}

#[test]
fn parts_bring_what_the_whole_file_brings_and_know_their_lines() {
    let text: String = std::iter::once("id,note\n".to_owned())
        .chain((0..500).map(|id| if id % 50 == 7 { format!("x{id},bad\n") } else { format!("{id},{}\n", "y".repeat(id % 40)) }))
        .collect();
    let whole = read(COLUMNS, "x.csv", text.as_bytes());
    for size in [61, 1000, 5000, 100_000] {
        let parts = read(&format!("quoted_newlines = false\npart_size = {size}\n{COLUMNS}"), "x.csv", text.as_bytes());
        assert_eq!((parts.lines(), parts.reasons(), parts.error), (whole.lines(), whole.reasons(), None), "{size}");
    }
    let disk = SimDisk::new();
    put(&disk, "x.csv", text.as_bytes());
    let source = build(&format!("path = \"x.csv\"\nquoted_newlines = false\npart_size = 5000\n{COLUMNS}")).unwrap();
    let ids: Vec<String> = block(source.splits(&run_on(Arc::new(disk)))).unwrap().into_iter().map(|split| split.id).collect();
    assert_eq!(ids, ["x.csv#0", "x.csv#1", "x.csv#2"]);
    // Where a cell may not hold a line end, one that does is rejected by its row, and the next line is looked at by itself.
    let brought = read(&format!("quoted_newlines = false\n{COLUMNS}"), "x.csv", b"id,note\n1,\"a\nb\"\n2,\"c\"\n");
    assert_eq!(
        brought.reasons(),
        [
            "file:quote x.csv line 2: a quote is not closed on its line, and `quoted_newlines` is false",
            "file:cells x.csv line 3: it has 1 cells, where 2 are expected"
        ]
    );
    assert_eq!(brought.lines(), "{\"id\":2,\"note\":\"c\"}\n");
}

/// A clock that stands still: who waits on it waits for ever.
#[derive(Debug)]
struct Still;

#[async_trait]
impl Clock for Still {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    async fn sleep(&self, _: Duration) {
        std::future::pending().await
    }
}

#[test]
fn a_part_waits_for_the_lines_before_it_where_somebody_reads_them() {
    let text: String =
        std::iter::once("id,note\n".to_owned()).chain((0..500).map(|id| format!("{}{id},a\n", if id % 50 == 7 { "x" } else { "" }))).collect();
    let disk = SimDisk::new();
    put(&disk, "x.csv", text.as_bytes());
    let opened = || disk.history().iter().filter(|what| *what == "open x.csv").count();
    let lines = |read: &Read| read.rejects.iter().map(|reject| reject.row["line"].as_u64().unwrap()).collect::<Vec<_>>();
    let readers = async |run: &RunContext| {
        let source = build(&format!("path = \"x.csv\"\nquoted_newlines = false\npart_size = 2000\n{COLUMNS}")).unwrap();
        let splits = source.splits(run).await.unwrap();
        let first = source.open(&splits[0], None, run).await.unwrap();
        let second = source.open(&splits[1], None, run).await.unwrap();
        (first, second)
    };
    let mut still = run_on(Arc::new(disk.clone()));
    still.ports.clock = Arc::new(Still);
    disk.record();
    let (passed, given_up, left_alone) = block(async {
        // Somebody reads them, and they need not be looked at again.
        let (mut first, mut second) = readers(&still).await;
        let before = opened();
        let (passed, ()) = tokio::join!(second.read(), async { while first.read().await.unwrap().is_some() {} });
        assert_eq!(opened(), before);
        // Somebody begins, and does not go on ...
        let (first, mut second) = readers(&still).await;
        let before = opened();
        let (given_up, ()) = tokio::join!(second.read(), async { drop(first) });
        assert_eq!(opened(), before + 1);
        // ... or takes too long for it. (On this clock any wait is over at once.)
        let (_first, mut second) = readers(&run_on(Arc::new(disk.clone()))).await;
        (passed, given_up, second.read().await)
    });
    let [passed, given_up, left_alone] = [passed, given_up, left_alone].map(|read| lines(&read.unwrap().unwrap()));
    assert_eq!((&given_up, &left_alone), (&passed, &passed));
    let all: Vec<u64> = (0..500).filter(|id| id % 50 == 7).map(|id| id + 2).collect();
    assert!(all.len() > passed.len() && all.windows(passed.len()).any(|some| some == passed), "{passed:?}");
}

#[test]
fn a_file_that_changed_is_not_read_as_if_it_had_not() {
    let text: String = std::iter::once("id,note\n".to_owned()).chain((0..40_000).map(|id| format!("{id},a\n"))).collect();
    let source = build(&format!("path = \"x.csv\"\n{COLUMNS}")).unwrap();
    let disk = SimDisk::new();
    put(&disk, "x.csv", text.as_bytes());
    let run = run_on(Arc::new(disk.clone()));
    let split = block(source.splits(&run)).unwrap().remove(0);
    let first = block(async { source.open(&split, None, &run).await.unwrap().read().await }).unwrap().unwrap();
    for (path, bytes, why) in [("x.csv", format!("{text}1,b\n"), "has "), ("x.csv", text.replacen("0,a", "0,b", 1), "it was written to")] {
        put(&disk, path, bytes.as_bytes());
        for resume in [None, Some(first.position.clone())] {
            let error = read_split(&*source, &split, resume, &run).error.unwrap();
            assert!(
                error.message.starts_with("x.csv: the file changed since the run began: it ") && error.message.contains(why),
                "{}",
                error.message
            );
            assert_eq!(error.act, Act::Split);
        }
    }
    disk.delete("x.csv");
    assert_eq!(read_split(&*source, &split, None, &run).error.unwrap().message, "x.csv: there is no such file");
    // And while it is read: its end is another. (Of a short one, all was read at once.)
    let long = text + &"7,a\n".repeat(600_000);
    put(&disk, "x.csv", long.as_bytes());
    let split = block(source.splits(&run)).unwrap().remove(0);
    let mut reader = block(source.open(&split, None, &run)).unwrap();
    block(reader.read()).unwrap().unwrap();
    put(&disk, "x.csv", &long.as_bytes()[..long.len() - 2]);
    let error = loop {
        match block(reader.read()) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the end came without an error"),
            Err(error) => break error,
        }
    };
    assert!(error.message.contains("the file changed since the run began"), "{}", error.message);
    // A file that was not there when the run began, and one that is not there at all.
    let empty = SimDisk::new();
    let run = run_on(Arc::new(empty.clone()));
    let split = block(source.splits(&run)).unwrap().remove(0);
    assert_eq!(read_split(&*source, &split, None, &run).error.unwrap().message, "x.csv: there is no such file");
    put(&empty, "x.csv", b"id,note\n");
    assert!(read_split(&*source, &split, None, &run).error.unwrap().message.contains("it could not be read then"));
}

#[test]
fn a_probe_opens_the_first_file() {
    let disk = SimDisk::new();
    let run = run_on(Arc::new(disk.clone()));
    let source = build(&format!("path = \"in/*.csv\"\n{COLUMNS}")).unwrap();
    assert_eq!(block(source.probe(&run)).unwrap_err().message, "no file has a name like `in/*.csv`");
    put(&disk, "in/x.csv", b"id\n1\n");
    assert_eq!(block(source.probe(&run)).unwrap_err().message, "in/x.csv: the header has no `note`; it has `id`");
    put(&disk, "in/x.csv", b"id,note\n");
    block(source.probe(&run)).unwrap();
    // Nothing there is nothing to read, and no error.
    assert_eq!(read_all(&*build(&format!("path = \"no/*.csv\"\n{COLUMNS}")).unwrap(), &disk).rows.len(), 0);
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text_are_read_and_told_apart() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    for name in [&b"a\xff.csv"[..], b"a\xfe.csv", b"a\n#%.csv"] {
        // Some file systems refuse such names.
        if std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), "id,note\n1,a\n").is_err() {
            return;
        }
    }
    let source = build(&format!("path = \"{}/a*.csv\"\nfile_column = \"file\"\n{COLUMNS}", dir.path().display())).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let run = run_on(disk);
    let splits = block(source.splits(&run)).unwrap();
    let ids: Vec<&str> = splits.iter().map(|split| split.id.rsplit('/').next().unwrap()).collect();
    assert_eq!(ids, ["a%0A%23%25.csv", "a%FE.csv", "a%FF.csv"]);
    for split in &splits {
        let brought = read_split(&*source, split, None, &run);
        assert_eq!((brought.rows.len(), brought.error), (1, None));
        assert_eq!(brought.rows[0]["file"], split.id.as_str());
    }
}
