//! The sink, through everything that sinks promise.

#![allow(missing_docs, reason = "a test")]

use pipeline_contract::testkit::SinkKit;
use pipeline_sink_jsonl::Jsonl;

#[test]
fn files_a_series_and_month_keep_their_promises() {
    SinkKit::new(Jsonl, "path = \"data/{series}_{at:%Y-%m}.jsonl\"\n").assert();
}

#[test]
fn numbers_of_time_and_nulls_left_out_keep_their_promises() {
    SinkKit::new(Jsonl, "[sink]\ntype = \"jsonl\"\npath = \"all.jsonl\"\ntime_format = \"unix_ms\"\nnulls = \"omit\"\n").assert();
}
