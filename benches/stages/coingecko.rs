//! The sources `coingecko_*`: from an answer's body in memory to a batch, through the polite client.

use std::path::Path;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use pipeline_contract::testkit::{Answer, TestTransport};

use crate::rig;

fn read(bencher: Bencher<'_, '_>, type_name: &str, options: &str, bodies: &[(&'static str, &str)]) {
    let body = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sources/coingecko/tests/fixtures").join(name);
        std::fs::read(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
    };
    let bodies: Vec<(&str, Vec<u8>)> = bodies.iter().map(|(path, name)| (*path, body(name))).collect();
    let bytes: usize = bodies.iter().map(|(_, body)| body.len()).sum();
    let source = rig::source(&pipeline_source_coingecko::plugins(), type_name, options);
    let run = rig::run(TestTransport::new(move |request| match bodies.iter().find(|(path, _)| request.uri().path().ends_with(path)) {
        Some((_, body)) => Answer::ok(body.clone()),
        None => Answer::status(404, "{}"),
    }));
    let (rows, rejects) = rig::read(&*source, &run);
    assert!(rows > 1 && rejects == 0, "{rows} rows, {rejects} rejects");
    bencher.counter(ItemsCount::new(rows)).counter(BytesCount::new(bytes)).bench_local(|| rig::read(&*source, &run));
}

#[divan::bench]
fn ohlc(bencher: Bencher<'_, '_>) {
    read(bencher, "coingecko_ohlc", "coins = [\"bitcoin\"]\n", &[("/ohlc", "ohlc_bitcoin_days1.json")]);
}

#[divan::bench]
fn ohlc_and_volume(bencher: Bencher<'_, '_>) {
    let bodies = [("/ohlc", "ohlc_bitcoin_days1.json"), ("/market_chart", "market_chart_bitcoin_days1.json")];
    read(bencher, "coingecko_ohlc", "coins = [\"bitcoin\"]\nvolume_24h = true\n", &bodies);
}

#[divan::bench]
fn markets(bencher: Bencher<'_, '_>) {
    read(bencher, "coingecko_markets", "top = 3\n", &[("/markets", "markets_top3.json")]);
}
