//! Answers that are none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

mod common;

use common::{KEY, NOW, always, build, read_split};
use pipeline_contract::testkit::{Answer, Draw, Fuzz};
use pipeline_contract::{Plugin, Split};
use pipeline_source_coingecko::{CoingeckoMarkets, CoingeckoOhlc};
use serde_json::Value;

const MARKETS: &str = include_str!("fixtures/markets_nulls.json");
const OHLC: &str = include_str!("fixtures/ohlc_bad_rows.json");
const GAP: &str = include_str!("fixtures/ohlc_gap.json");
const LIMIT: &str = include_str!("fixtures/err_429.json");
const KEYED: &str = r#"{"status":{"error_code":10010,"error_message":"words for CG-very-secret-key"}}"#;
const CHART: &str = r#"{"prices":[[1779202800000,1.5]],"market_caps":[],"total_volumes":[[1779201000000,1e9],[1779202800000,2]]}"#;

#[rustfmt::skip]
const WORDS: [&str; 36] = [
    "[", "]", "{", "}", ",", ":", "\"", "null", "true", "-", "0", "1e308", "1e309", "-1e-400", "123456789012345678901234567890", "1779202800000", "\\u0000", "\\ud800",
    "[[", "{\"a\":", "\"id\"", "\"bitcoin\"", "\"status\":", "\"error_code\":", "429", "10005", "\"roi\":", "\"ath_date\":\"", "é", "\0", "<html>", "\u{feff}", " ",
    "CG-very-secret-key", "[1779202800000,1,2,0.5,1.5],", "[1779202800001,1,2,0.5,1.5],",
];

/// What a source brings of one answer to everything; whether there were rows.
fn brings(source: &dyn Plugin, config: &str, split: &str, status: u16, body: &[u8]) -> bool {
    let source = build(source, &format!("{config}\napi_key = \"{KEY}\"\nhttp = {{ retries = 0 }}")).unwrap();
    let world = always(Answer::status(status, body));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let brought = match runtime.block_on(read_split(&*source, &Split::new(split), &world.run)) {
        Ok(brought) => brought,
        Err(error) => {
            let told = format!("{error:?}");
            assert!(!told.contains(KEY), "{told}");
            assert!(told.len() < 3000, "{} bytes: {told}", told.len());
            return false;
        }
    };
    for reject in &brought.rejects {
        assert!(reject.message.len() < 1000, "{} bytes: {}", reject.message.len(), reject.message);
        // As the quarantine stores it, it can be read again.
        let line = serde_json::json!({ "row": reject.row }).to_string();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["row"], reject.row);
    }
    let rows = serde_json::from_slice::<Vec<Value>>(body).map_or(0, |rows| rows.len());
    assert!(brought.rows.len() + brought.rejects.len() <= rows + 1, "{} rows and {} rejects of {rows}", brought.rows.len(), brought.rejects.len());
    for row in &brought.rows {
        if let Some([open, high, low, close]) =
            ["open", "high", "low", "close"].map(|name| row[name].as_f64()).into_iter().collect::<Option<Vec<_>>>().as_deref()
        {
            assert!(*low > 0.0 && low <= &open.min(*close) && high >= &open.max(*close), "{row}");
        }
    }
    !brought.rows.is_empty()
}

fn status(body: &[u8]) -> u16 {
    [200, 200, 200, 200, 400, 401, 403, 404, 429, 500][body.len() % 10]
}

fn candles(draw: &mut Draw) -> String {
    let now = NOW.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_millis() / 14_400_000 * 14_400_000;
    let price = |draw: &mut Draw| {
        let odd = draw.once_in(4);
        draw.of(if odd { &["0", "-1", "null", "1e308", "\"3\""] } else { &["1", "2", "0.5", "1.5"] })
    };
    let candle = |draw: &mut Draw, n: i64| {
        let stamp = now - n * 14_400_000 + if draw.once_in(9) { 1 } else { 0 };
        format!("[{stamp},{},{},{},{}]", price(draw), if draw.once_in(9) { "1" } else { "3" }, if draw.once_in(9) { "1" } else { "0.5" }, price(draw))
    };
    let rows: Vec<String> = (0..draw.below(6)).rev().map(|n| candle(draw, n as i64)).collect();
    format!("[{}]", rows.join(","))
}

#[test]
fn fuzzed_candles_are_rows_that_hold_or_rejects_and_errors_that_are_short() {
    let fuzz = Fuzz { name: "coingecko ohlc", samples: &[OHLC, GAP, LIMIT, KEYED], words: &WORDS, cases: 200, cost: 40 };
    fuzz.run(
        |draw| candles(draw).into_bytes(),
        |body| brings(&CoingeckoOhlc, "coins = [\"bitcoin\"]\ninterval = \"4h\"", "bitcoin", status(body), body),
    );
}

#[test]
fn fuzzed_market_lists_are_rows_or_rejects_and_errors_that_are_short() {
    let fuzz = Fuzz { name: "coingecko markets", samples: &[MARKETS, LIMIT, KEYED, "[]"], words: &WORDS, cases: 200, cost: 40 };
    let valid = |draw: &mut Draw| {
        let value = |draw: &mut Draw| draw.of(&["1", "1.5", "null", "\"2\"", "\"x\"", "[]", "1e999", "-0"]);
        format!("[{{\"id\":\"bitcoin\",\"current_price\":{},\"market_cap_rank\":{}}}]", value(draw), value(draw)).into_bytes()
    };
    fuzz.run(valid, |body| brings(&CoingeckoMarkets, "ids = [\"bitcoin\"]", "markets", status(body), body));
}

#[test]
fn fuzzed_charts_are_volumes_or_errors_that_are_short() {
    let fuzz = Fuzz { name: "coingecko charts", samples: &[CHART, LIMIT, KEYED], words: &WORDS, cases: 200, cost: 40 };
    fuzz.run(
        |draw| CHART.replace("1e9", draw.of(&["1", "null", "\"2\"", "[]", "-1"])).into_bytes(),
        |chart| {
            let source = build(
                &CoingeckoOhlc,
                &format!("coins = [\"bitcoin\"]\ninterval = \"1h\"\nvolume_24h = true\napi_key = \"{KEY}\"\nhttp = {{ retries = 0 }}"),
            );
            let (ohlc, chart) = ("[[1779201000000,1,2,0.5,1.5],[1779202800000,1,2,0.5,1.5]]", chart.to_vec());
            let world =
                common::world(move |request| if request.uri().path().ends_with("/ohlc") { Answer::ok(ohlc) } else { Answer::ok(chart.clone()) });
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            match runtime.block_on(read_split(&*source.unwrap(), &Split::new("bitcoin"), &world.run)) {
                Ok(brought) => !brought.rows.is_empty(),
                Err(error) => {
                    let told = format!("{error:?}");
                    assert!(!told.contains(KEY) && told.len() < 3000, "{told}");
                    false
                }
            }
        },
    );
}
