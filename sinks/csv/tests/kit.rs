//! The sink with several tables, through everything that sinks promise.

#![allow(missing_docs, reason = "a test")]

use pipeline_contract::testkit::SinkKit;
use pipeline_sink_csv::Csv;

#[test]
fn one_file_keeps_its_promises() {
    SinkKit::new(Csv, "path = \"data/all.csv\"").assert();
}

#[test]
fn a_file_for_each_series_keeps_its_promises() {
    SinkKit::new(Csv, "path = \"data/{series}/rows.csv\"\ncolumns = [\"at\", \"value\", { column = \"note\", as = \"words\" }]").assert();
}

#[test]
fn another_dialect_keeps_its_promises() {
    let table = "path = \"{series}_{at:%Y}.txt\"\ntime_format = \"unix_ms\"\ndelimiter = \";\"\nheader = false\nnull = \"NULL\"\nguard_formulas = true\n\
                 line_ending = \"crlf\"\n";
    SinkKit::new(Csv, table).assert();
}

#[test]
fn files_by_a_column_that_is_no_key_keep_their_promises() {
    SinkKit::new(Csv, "path = \"by/{flag}/{series}.csv\"").append_only().unordered().assert();
}
