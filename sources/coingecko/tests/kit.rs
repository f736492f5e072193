//! Both sources, through everything that sources promise.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may stop where it stands")]

mod common;

use common::{KEY, NOW, fixture};
use pipeline_contract::testkit::{Answer, SourceKit};
use pipeline_source_coingecko::{CoingeckoMarkets, CoingeckoOhlc};
use serde_json::{Value, json};

/// CoinGecko, as far as the sources ask it: the recorded answers by path.
fn coingecko(path: &str, query: &str) -> Answer {
    let parts: Vec<&str> = path.trim_start_matches("/api/v3/").split('/').collect();
    match parts[..] {
        ["ping"] => Answer::ok(fixture("ping.json")),
        ["coins", "markets"] if query.contains("top") || query.contains("per_page") => Answer::ok(fixture("markets_top3.json")),
        ["coins", coin, "ohlc"] => Answer::ok(fixture(&format!("ohlc_{coin}_days1.json"))),
        ["coins", _, "ohlc", "range"] => Answer::ok(range(query).to_string()),
        ["coins", _, "market_chart"] => Answer::ok(fixture("market_chart_bitcoin_days1.json")),
        _ => Answer::status(404, r#"{"error":"coin not found"}"#),
    }
}

/// Hourly candles whose stamps lie between `from` and `to`.
fn range(query: &str) -> Value {
    let of = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<i64>().ok()).unwrap();
    let first = of("from").div_euclid(3600) + i64::from(of("from").rem_euclid(3600) > 0);
    (first..=of("to").div_euclid(3600)).map(|hour| json!([hour * 3_600_000, 1.0, 2.0, 0.5, 1.0 + (hour % 1000) as f64 / 1e4])).collect()
}

/// A page of 250 coins of a list of 520.
fn page(query: &str) -> Value {
    let page: usize = query.split('&').find_map(|pair| pair.strip_prefix("page=")?.parse().ok()).unwrap();
    let place = |n: usize| json!({ "id": format!("coin-{n}"), "symbol": "c", "name": "C", "current_price": n, "market_cap_rank": n + 1 });
    ((page - 1) * 250..(page * 250).min(520)).map(place).collect()
}

fn kit(kit: SourceKit) -> SourceKit {
    kit.now(NOW.parse().unwrap()).answers(|request| coingecko(request.uri().path(), request.uri().query().unwrap_or_default()))
}

#[test]
fn candles_keep_their_promises() {
    let toml = format!("api_key = \"{KEY}\"\ncoins = [\"bitcoin\", \"ethereum\"]\nvolume_24h = true\n[http]\nretries = 1\n");
    let (from, to) = ("2026-05-18T16:00:00Z".parse().unwrap(), "2026-05-19T15:00:00Z".parse().unwrap());
    kit(SourceKit::new(CoingeckoOhlc, &toml)).secret(KEY).window(from, to).assert();
}

#[test]
fn candles_of_the_largest_coins_keep_their_promises() {
    let (from, to) = ("2026-05-18T16:00:00Z".parse().unwrap(), "2026-05-19T15:00:00Z".parse().unwrap());
    kit(SourceKit::new(CoingeckoOhlc, "[source]\ntype = \"coingecko_ohlc\"\ntop = 2\ninterval = \"30m\"\n")).window(from, to).assert();
}

#[test]
fn candles_beside_samples_keep_their_promises() {
    let (from, to) = ("2026-05-18T16:00:00Z".parse().unwrap(), "2026-05-19T15:00:00Z".parse().unwrap());
    kit(SourceKit::new(CoingeckoOhlc, "coins = [\"bitcoin\", \"ethereum\"]\nfill_from = \"samples\"\n")).window(from, to).assert();
}

#[test]
fn candles_of_months_keep_their_promises() {
    let toml = format!("base_url = \"https://pro-api.coingecko.com/api/v3\"\napi_key = \"{KEY}\"\ncoins = [\"bitcoin\"]\n[http]\nretries = 2\n");
    let (from, to) = ("2026-02-20T00:30:00Z".parse().unwrap(), "2026-05-19T00:00:00Z".parse().unwrap());
    kit(SourceKit::new(CoingeckoOhlc, &toml)).secret(KEY).window(from, to).assert();
}

#[test]
fn markets_keep_their_promises() {
    let toml = format!("api_key = \"{KEY}\"\ntop = 510\n");
    let kit = SourceKit::new(CoingeckoMarkets, &toml).now(NOW.parse().unwrap()).secret(KEY).varying("fetched_at");
    kit.answers(|request| match request.uri().path() {
        "/api/v3/ping" => Answer::ok("{}"),
        _ => Answer::ok(page(request.uri().query().unwrap_or_default()).to_string()),
    })
    .assert();
}

#[test]
fn markets_by_name_keep_their_promises() {
    kit(SourceKit::new(CoingeckoMarkets, "ids = [\"bitcoin\", \"ethereum\", \"nobody\"]\nprice_change_percentage = [\"1h\"]\n"))
        .varying("fetched_at")
        .assert();
}
