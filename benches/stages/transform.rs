//! The engine's own transforms, on one batch.

use divan::Bencher;
use divan::counter::ItemsCount;
use pipeline_contract::Split;
use pipeline_contract::arrow::RecordBatch;

use crate::candles::batch;
use crate::rig;

/// What comes out of a transform that rejects nothing.
fn once(type_name: &str, toml: &str, input: &RecordBatch) -> RecordBatch {
    let mut transform = rig::transform(type_name, toml);
    transform.plan(&input.schema()).unwrap_or_else(|faults| panic!("{type_name}: {faults:?}"));
    let applied = transform.start(&Split::new("one")).apply(input.clone()).unwrap();
    assert!(applied.rejects.is_empty(), "{:?}", applied.rejects.first());
    applied.batch
}

fn apply(bencher: Bencher<'_, '_>, type_name: &str, toml: &str, input: &RecordBatch) {
    assert!(once(type_name, toml, input).num_rows() > 0);
    let mut transform = rig::transform(type_name, toml);
    transform.plan(&input.schema()).unwrap_or_else(|faults| panic!("{type_name}: {faults:?}"));
    let mut run = transform.start(&Split::new("one"));
    let bencher = bencher.counter(ItemsCount::new(input.num_rows()));
    bencher.with_inputs(|| input.clone()).bench_local_values(|batch| run.apply(batch));
}

#[divan::bench]
fn select(bencher: Bencher<'_, '_>) {
    apply(bencher, "select", "columns = [\"timestamp\", \"coin_id\", \"close\"]", &batch());
}

#[divan::bench]
fn rename(bencher: Bencher<'_, '_>) {
    apply(bencher, "rename", "columns = { coin_id = \"coin\" }", &batch());
}

const TO_TEXT: &str = "columns = { close = \"text\" }";

#[divan::bench]
fn cast_float_to_text(bencher: Bencher<'_, '_>) {
    apply(bencher, "cast", TO_TEXT, &batch());
}

#[divan::bench]
fn cast_text_to_float(bencher: Bencher<'_, '_>) {
    apply(bencher, "cast", "columns = { close = \"float\" }", &once("cast", TO_TEXT, &batch()));
}

#[divan::bench]
fn cast_timestamp_to_text(bencher: Bencher<'_, '_>) {
    apply(bencher, "cast", "columns = { timestamp = \"text\" }", &batch());
}

#[divan::bench]
fn derive(bencher: Bencher<'_, '_>) {
    apply(bencher, "derive", "column = \"spread\"\nexpr = \"(high - low) / open\"", &batch());
}

#[divan::bench]
fn filter(bencher: Bencher<'_, '_>) {
    let input = batch();
    let toml = "expr = \"close > open\"";
    // About half of the rows stay: neither all nor none is copied.
    let kept = once("filter", toml, &input).num_rows();
    assert!((input.num_rows() / 4..input.num_rows() * 3 / 4).contains(&kept), "{kept}");
    apply(bencher, "filter", toml, &input);
}
