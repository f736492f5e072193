//! The source, through everything that sources promise.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may stop where it stands")]

mod common;

use std::io::Write;

use common::put;
use pipeline_contract::testkit::{SimDisk, SourceKit};
use pipeline_source_file::File;

const COLUMNS: &str = "[columns]\ncoin_id = \"text\"\nat = { type = \"timestamp\", required = true }\nclose = \"float\"\n";

/// Enough rows for several batches, with a bad one now and then.
fn csv(rows: usize) -> String {
    let line = |row: usize| match row % 1000 {
        7 => format!("btc,2026-01-01T00:00:00Z,x{row}\n"),
        8 => format!("\"b\nt\"\"c\",2026-01-01T00:00:00Z,{row}.5\n"),
        _ => format!("btc,2026-01-01T{:02}:00:00Z,{row}.5\n", row % 24),
    };
    std::iter::once("coin_id,at,close\n".to_owned()).chain((0..rows).map(line)).collect()
}

#[test]
fn csv_files_keep_their_promises() {
    let disk = SimDisk::new();
    put(&disk, "in/a.csv", csv(9000).as_bytes());
    put(&disk, "in/b.csv", b"close,at,coin_id\r\n1,2026-01-01T00:00:00Z,eth\r\n\r\n2,2026-01-01T00:00:00Z,eth");
    put(&disk, "in/empty.csv", b"");
    SourceKit::new(File, &format!("path = \"in/*.csv\"\nfile_column = \"file\"\n{COLUMNS}")).disk(&disk).assert();
}

#[test]
fn files_in_parts_keep_their_promises() {
    let disk = SimDisk::new();
    put(&disk, "in/a.csv", csv(3000).as_bytes());
    SourceKit::new(File, &format!("path = \"in/*.csv\"\nquoted_newlines = false\npart_size = 40000\n{COLUMNS}")).disk(&disk).assert();
}

#[test]
fn compressed_json_lines_keep_their_promises() {
    let lines: String = (0..9000).map(|row| format!("{{\"coin_id\":\"btc\",\"at\":\"2026-01-01T00:00:00Z\",\"close\":{row}}}\n")).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let disk = SimDisk::new();
    put(&disk, "in/a.jsonl.gz", &gzip.finish().unwrap());
    put(&disk, "in/b.jsonl", b"{\"close\":1}\n{\"at\":\"2026-01-01T00:00:00Z\",\"close\":null}\n[1]\n");
    SourceKit::new(File, &format!("path = [\"in/a.jsonl.gz\", \"in/b.jsonl\"]\n{COLUMNS}")).disk(&disk).assert();
}
