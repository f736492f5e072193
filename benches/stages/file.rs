//! The source `file`: from a file to batches. Bytes are those of the text, unpacked.

use std::io::Write;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use flate2::Compression;
use flate2::write::GzEncoder;
use pipeline_contract::testkit::TestTransport;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::candles::{SERIES, by_time, csv, jsonl, rows};
use crate::rig;

/// Without `quoted_newlines`, as pipelines/clean-candles.toml reads.
const CSV: &str = "quoted_newlines = false\n";
const COLUMNS: &str = "[columns]\ncoin_id = { type = \"text\", required = true }\n\
    timestamp = { type = \"timestamp\", format = \"unix_ms\", required = true }\nopen = { type = \"float\", required = true }\n\
    high = { type = \"float\", required = true }\nlow = { type = \"float\", required = true }\nclose = { type = \"float\", required = true }\n\
    volume = { type = \"float\", required = true }\n";

fn read(bencher: Bencher<'_, '_>, name: &str, options: &str, text: &str, pack: impl FnOnce(&[u8]) -> Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, pack(text.as_bytes())).unwrap();
    let source = rig::source(&pipeline_source_file::plugins(), "file", &format!("path = {}\n{options}{COLUMNS}", rig::quoted(&path)));
    let run = rig::run(TestTransport::in_turn([]));
    assert_eq!(rig::read(&*source, &run), (rows(), 0));
    bencher.counter(ItemsCount::new(rows())).counter(BytesCount::new(text.len())).bench_local(|| rig::read(&*source, &run));
}

#[divan::bench]
fn csv_plain(bencher: Bencher<'_, '_>) {
    read(bencher, "x.csv", CSV, &csv(&by_time(SERIES), ""), <[u8]>::to_vec);
}

#[divan::bench]
fn csv_quoted_cells(bencher: Bencher<'_, '_>) {
    read(bencher, "x.csv", CSV, &csv(&by_time(SERIES), "\""), <[u8]>::to_vec);
}

#[divan::bench]
fn csv_with_quoted_newlines(bencher: Bencher<'_, '_>) {
    read(bencher, "x.csv", "", &csv(&by_time(SERIES), ""), <[u8]>::to_vec);
}

#[divan::bench]
fn csv_gzip(bencher: Bencher<'_, '_>) {
    read(bencher, "x.csv.gz", CSV, &csv(&by_time(SERIES), ""), |text| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    });
}

#[divan::bench]
fn csv_zstd(bencher: Bencher<'_, '_>) {
    read(bencher, "x.csv.zst", CSV, &csv(&by_time(SERIES), ""), |text| compress_to_vec(text, CompressionLevel::Fastest));
}

#[divan::bench]
fn json_lines(bencher: Bencher<'_, '_>) {
    read(bencher, "x.jsonl", "", &jsonl(&by_time(SERIES)), <[u8]>::to_vec);
}
