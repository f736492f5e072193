use exchange_rates::ExchangeRates;
use pipeline_contract::testkit::{Answer, SourceKit};

#[test]
fn the_source_keeps_every_promise() {
    SourceKit::new(ExchangeRates, include_str!("../sample.toml"))
        .answers(|_| Answer::ok(include_str!("rates.json")))
        .now("2026-05-19T15:00:00Z".parse().unwrap())
        .window("2026-05-11T00:00:00Z".parse().unwrap(), "2026-05-15T00:00:00Z".parse().unwrap())
        .assert();
}
