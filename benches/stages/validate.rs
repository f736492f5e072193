//! Validation of one batch.

use divan::Bencher;
use divan::counter::ItemsCount;
use pipeline::stages::validate::{ValidateConfig, Validator};
use pipeline_contract::{parse_config, table_from_str};

use crate::candles::{Candle, SERIES, batches, by_time, spoiled};

const PRICES: &str = "[[rules]]\nkind = \"price_envelope\"\n[[rules]]\nkind = \"positive_prices\"\n[[rules]]\nkind = \"non_negative_volume\"\n";

fn apply(bencher: Bencher<'_, '_>, toml: &str, rows: &[Candle], rejected: impl Fn(usize) -> usize) {
    let config: ValidateConfig = parse_config("[validate]", &table_from_str(toml).unwrap()).unwrap_or_else(|faults| panic!("{faults:?}"));
    let batch = batches(rows).swap_remove(0);
    let validator = Validator::new(&batch.schema(), &config, 0..toml.len()).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(validator.apply(&batch).unwrap().rejects.len(), rejected(batch.num_rows()));
    bencher.counter(ItemsCount::new(batch.num_rows())).bench_local(|| validator.apply(&batch));
}

#[divan::bench]
fn constraints(bencher: Bencher<'_, '_>) {
    let toml = "[columns]\ncoin_id = { required = true, min_length = 1, max_length = 40 }\ntimestamp = { min = '2010-01-01' }\n\
        close = { min = 0, max = 1e9 }\nvolume = { min = 0 }\n";
    apply(bencher, toml, &by_time(SERIES), |_| 0);
}

#[divan::bench]
fn constraint_regex(bencher: Bencher<'_, '_>) {
    apply(bencher, "[columns]\ncoin_id = { regex = '^[a-z]+-[0-9]{3,}$' }\n", &by_time(SERIES), |_| 0);
}

#[divan::bench]
fn prices(bencher: Bencher<'_, '_>) {
    apply(bencher, PRICES, &by_time(SERIES), |_| 0);
}

#[divan::bench]
fn expression(bencher: Bencher<'_, '_>) {
    let toml = "[[rules]]\nname = \"sane\"\nexpr = \"low <= open AND low <= close AND high >= open AND high >= close AND volume >= 0\"\n";
    apply(bencher, toml, &by_time(SERIES), |_| 0);
}

#[divan::bench]
fn prices_1_percent_rejected(bencher: Bencher<'_, '_>) {
    apply(bencher, PRICES, &spoiled(by_time(SERIES), 100), |rows| rows.div_ceil(100));
}

#[divan::bench]
fn prices_20_percent_rejected(bencher: Bencher<'_, '_>) {
    apply(bencher, PRICES, &spoiled(by_time(SERIES), 5), |rows| rows.div_ceil(5));
}
