//! Candles, against the fixtures.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod common;

use std::time::Duration;

use common::{Brought, KEY, always, build, fixture, json, read_all, read_split, world};
use pipeline_contract::testkit::Answer;
use pipeline_contract::{Act, Category, Position, Split, StageError, Window};
use pipeline_source_coingecko::CoingeckoOhlc;
use serde_json::{Value, json};

const BITCOIN: &str = "coins = [\"bitcoin\"]\n";

/// One coin from one body, without retries.
async fn read(toml: &str, body: impl Into<Vec<u8>>) -> Result<Brought, StageError> {
    let source = build(&CoingeckoOhlc, &format!("{BITCOIN}{toml}\n[http]\nretries = 0\n")).unwrap();
    read_split(source.as_ref(), &Split::new("bitcoin"), &always(Answer::ok(body)).run).await
}

async fn hourly(body: impl Into<Vec<u8>>) -> Brought {
    read("", body).await.unwrap()
}

fn millis(row: &Value) -> i64 {
    row["timestamp"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_millis()
}

/// Do rows equal the expected hours, to the last bit?
fn assert_hours(rows: &[Value], coin: &str, expected: &[Value]) {
    assert_eq!(rows.len(), expected.len());
    for (row, hour) in rows.iter().zip(expected) {
        assert_eq!(row["coin_id"], coin);
        assert_eq!(millis(row), hour["open_time"].as_i64().unwrap());
        for price in ["open", "high", "low", "close"] {
            assert_eq!(row[price].as_f64().unwrap().to_bits(), hour[price].as_f64().unwrap().to_bits(), "{row} {hour}");
        }
    }
}

fn expected(coin: &str) -> Vec<Value> {
    json(&format!("expected_hourly_{coin}.json")).as_array().unwrap().clone()
}

#[tokio::test]
async fn hours_equal_the_expected_ones() {
    let world = world(|request| {
        let coin = request.uri().path().split('/').nth(4).unwrap().to_owned();
        Answer::ok(fixture(&format!("ohlc_{coin}_days1.json")))
    });
    let coins = ["bitcoin", "ethereum", "tether"];
    let source = build(&CoingeckoOhlc, "coins = [\"bitcoin\", \"ethereum\", \"tether\"]").unwrap();
    let all = read_all(source.as_ref(), &world.run).await.unwrap();
    for (coin, (split, brought)) in coins.iter().zip(&all) {
        assert_eq!(coin, split);
        assert_hours(&brought.rows, coin, &expected(coin));
        assert!(brought.rejects.is_empty(), "{:?}", brought.rejects);
        assert_eq!(brought.positions, [Position(json!({ "done": true }))]);
    }
    assert_eq!(world.transport.asked()[0], "/api/v3/coins/bitcoin/ohlc?vs_currency=usd&days=1");
    assert_eq!(world.transport.asked().len(), 3);
    assert_eq!(source.capabilities().requests_per_run, Some(3));
}

#[tokio::test]
async fn a_done_split_brings_nothing_when_opened_again() {
    let source = build(&CoingeckoOhlc, BITCOIN).unwrap();
    let world = always(Answer::ok("[]"));
    let mut reader = source.open(&Split::new("bitcoin"), Some(Position(json!({ "done": true }))), &world.run).await.unwrap();
    assert!(reader.read().await.unwrap().is_none());
    assert!(world.transport.asked().is_empty());
    let error = source.open(&Split::new("bitcoin"), Some(Position(json!("x"))), &world.run).await.err().unwrap();
    assert_eq!(error.act, Act::Developer);
}

#[tokio::test]
async fn an_empty_body_is_no_rows() {
    let brought = hourly("[]").await;
    assert!(brought.rows.is_empty() && brought.rejects.is_empty() && brought.positions.len() == 1);
}

#[tokio::test]
async fn an_hour_without_both_halves_is_left_out() {
    let body = json("ohlc_gap.json");
    let stamps: Vec<i64> = body.as_array().unwrap().iter().map(|row| row[0].as_i64().unwrap()).collect();
    let both = |hour: &&Value| {
        let open = hour["open_time"].as_i64().unwrap();
        stamps.contains(&(open + 1_800_000)) && stamps.contains(&(open + 3_600_000))
    };
    let hours = expected("bitcoin");
    let whole: Vec<Value> = hours.iter().filter(both).cloned().collect();
    assert!(whole.len() < hours.len(), "the fixture has a gap");
    let brought = hourly(fixture("ohlc_gap.json")).await;
    assert_hours(&brought.rows, "bitcoin", &whole);
    assert!(brought.rejects.is_empty());
}

#[tokio::test]
async fn an_open_candle_is_left_out_without_a_word() {
    let brought = hourly(fixture("ohlc_open_tail.json")).await;
    assert_hours(&brought.rows, "bitcoin", &expected("bitcoin"));
    assert!(brought.rejects.is_empty(), "{:?}", brought.rejects);

    // The half hour that closes at 16:00 is not over at 15:37.
    let mut body = json("ohlc_bitcoin_days1.json");
    body.as_array_mut().unwrap().push(json!([1_779_206_400_000_i64, 1.0, 1.0, 1.0, 1.0]));
    let brought = hourly(body.to_string()).await;
    assert_hours(&brought.rows, "bitcoin", &expected("bitcoin"));
    assert!(brought.rejects.is_empty());
}

/// The `30m` candles of a body that a cache held for `age`.
async fn cached(body: &Value, age: &'static str) -> usize {
    let source = build(&CoingeckoOhlc, &format!("{BITCOIN}interval = \"30m\"")).unwrap();
    let world = always(Answer::ok(body.to_string()).header("Age", age));
    let brought = read_split(source.as_ref(), &Split::new("bitcoin"), &world.run).await.unwrap();
    assert!(brought.rejects.is_empty(), "{:?}", brought.rejects);
    brought.rows.len()
}

#[tokio::test]
async fn a_candle_that_was_open_when_a_cache_took_the_body_is_not_finished_by_waiting() {
    const CLOSE: i64 = 1_779_204_600_000; // 15:30:00; it is 15:37:20
    let mut body = spaced(5, 1_800_000);
    body.as_array_mut().unwrap().retain(|row| row[0].as_i64() < Some(CLOSE));
    body.as_array_mut().unwrap().push(json!([CLOSE, 5.0, 6.0, 4.0, 5.5]));
    let all = body.as_array().unwrap().len();
    // Fresh, or made after the close: the candle is whole.
    for age in ["", "0", "440", " 60 ", "60, 3600"] {
        assert_eq!(cached(&body, age).await, all, "{age:?}");
    }
    for age in ["441", "900", "900, 0"] {
        assert_eq!(cached(&body, age).await, all - 1, "{age:?}");
    }
    for garbage in ["-900", "900.5", "soon", "0x900", "900s"] {
        assert_eq!(cached(&body, garbage).await, all, "{garbage:?}");
    }
    // No cache of candles holds them for longer than a day.
    let mut old = body.clone();
    old.as_array_mut().unwrap().iter_mut().for_each(|row| row[0] = json!(row[0].as_i64().unwrap() - 86_400_000));
    for age in ["86400", "86841", "4000000000", "99999999999999999999999"] {
        assert_eq!(cached(&old, age).await, all, "{age:?}");
    }

    // Cut by the minute, and taken by a cache then.
    body.as_array_mut().unwrap().last_mut().unwrap()[0] = json!(CLOSE - 600_000);
    assert_eq!(cached(&body, "1040").await, all - 1);
}

#[tokio::test]
async fn a_body_of_no_candles_is_said_aloud() {
    /// What was warned of.
    #[derive(Clone, Default)]
    struct Warned(std::sync::Arc<std::sync::Mutex<Vec<String>>>);
    struct Text(String);
    impl tracing::field::Visit for Text {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            self.0.push_str(&format!("{field}={value:?} "));
        }
    }
    impl tracing::Subscriber for Warned {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == tracing::Level::WARN
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    let warned = Warned::default();
    let _guard = tracing::subscriber::set_default(warned.clone());
    hourly(fixture("ohlc_bitcoin_days1.json")).await;
    assert!(warned.0.lock().unwrap().is_empty());
    hourly("[]").await;
    let lines = warned.0.lock().unwrap();
    assert!(lines.len() == 1 && lines[0].contains("no candles") && lines[0].contains("coin=\"bitcoin\""), "{lines:?}");
}

#[tokio::test]
async fn every_bad_row_is_rejected_by_name_and_its_hour_left_out() {
    let brought = hourly(fixture("ohlc_bad_rows.json")).await;
    assert!(brought.rows.is_empty());
    let rules = ["price_envelope", "row", "non_positive", "non_positive", "row", "row"].map(|rule| format!("coingecko:{rule}"));
    assert_eq!(brought.rules(), rules);
    let body = json("ohlc_bad_rows.json");
    for (reject, place) in brought.rejects.iter().zip(1..) {
        assert_eq!(reject.row, body[place], "the row as it came");
    }

    // Within a good body it costs its own hour and no other.
    let mut body = json("ohlc_bitcoin_days1.json");
    body[2] = json!([body[2][0], null, null, null, null]);
    let brought = hourly(body.to_string()).await;
    assert_hours(&brought.rows, "bitcoin", &expected("bitcoin")[1..]);
    assert_eq!(brought.rules(), ["coingecko:row"]);
}

#[tokio::test]
async fn rows_that_are_none() {
    let mut body = json("ohlc_bitcoin_days1.json");
    let rows = body.as_array_mut().unwrap();
    let odd = [
        json!({ "t": 1 }),
        json!("x"),
        json!(null),
        json!([]),
        json!([1_779_120_000_000_i64, 1, 1, 1, 1, 1]),
        json!([1_779_120_000_000.5, 1, 1, 1, 1]),
        json!([1_779_120_000_000_i64, 1, 1, 1, true]),
        json!([-5, 1, 1, 1, 1]),
        json!([i64::MIN, 1, 1, 1, 1]),
        json!([i64::MAX, 1, 1, 1, 1]),
        json!([1_779_120_000_000_000_i64, 1, 1, 1, 1]),
    ];
    rows.extend(odd.iter().cloned());
    rows.push(json!([1_779_120_000_001_i64, 1, 1, 1, 1]));
    let brought = hourly(body.to_string()).await;
    assert_hours(&brought.rows, "bitcoin", &expected("bitcoin"));
    let (last, rest) = brought.rejects.split_last().unwrap();
    assert_eq!(last.rule, "coingecko:off_grid");
    assert!(last.message.contains("30-minute") && last.message.contains("2026-05-18T16:00:00.001Z"), "{}", last.message);
    assert_eq!(rest.iter().map(|reject| reject.row.clone()).collect::<Vec<_>>(), odd);
    assert!(rest.iter().all(|reject| reject.rule == "coingecko:row"));
}

#[tokio::test]
async fn order_does_not_matter_and_neither_does_saying_a_thing_twice() {
    let mut body = json("ohlc_bitcoin_days1.json");
    let rows = body.as_array_mut().unwrap();
    rows.reverse();
    rows.push(rows[7].clone());
    let brought = hourly(body.to_string()).await;
    assert_hours(&brought.rows, "bitcoin", &expected("bitcoin"));
    assert!(brought.rejects.is_empty());
}

#[tokio::test]
async fn a_contradiction_is_believed_on_neither_side() {
    let mut body = json("ohlc_bitcoin_days1.json");
    let mut other = body[1].clone();
    other[4] = json!(77_073.0);
    body.as_array_mut().unwrap().push(other.clone());
    let brought = hourly(body.to_string()).await;
    assert_hours(&brought.rows, "bitcoin", &expected("bitcoin")[1..]);
    assert_eq!(brought.rules(), ["coingecko:contradiction"; 2]);
    assert_eq!((&brought.rejects[0].row, &brought.rejects[1].row), (&body[1], &other));
}

fn spaced(count: i64, step: i64) -> Value {
    let rows = (0..count).map(|n| json!([1_779_192_000_000_i64 - (count - 1 - n) * step, 5.0, 6.0, 4.0, 5.5]));
    rows.collect()
}

#[tokio::test]
async fn candles_of_another_length_fail_the_split_by_name() {
    const M30: i64 = 1_800_000;
    let cases = [("1h", 8 * M30, "30-minute candles, got 4-hour"), ("30m", 8 * M30, "30-minute candles, got 4-hour")];
    let more =
        [("4h", M30, "4-hour candles, got 30-minute"), ("4h", 192 * M30, "4-hour candles, got 4-day"), ("4d", 8 * M30, "4-day candles, got 4-hour")];
    for (interval, step, message) in cases.into_iter().chain(more) {
        let error = read(&format!("interval = \"{interval}\""), spaced(40, step).to_string()).await.unwrap_err();
        assert_eq!((error.act, error.category), (Act::Split, Category::ServerError));
        assert_eq!(error.message, format!("coin \"bitcoin\": expected {message} spacing"));
    }
}

#[tokio::test]
async fn the_other_intervals() {
    let brought = read("interval = \"30m\"", fixture("ohlc_bitcoin_days1.json")).await.unwrap();
    let body = json("ohlc_bitcoin_days1.json");
    assert_eq!(brought.rows.len(), body.as_array().unwrap().len());
    assert_eq!(millis(&brought.rows[0]), body[0][0].as_i64().unwrap() - 1_800_000, "the stamp is the close");
    assert_eq!(brought.rows[0]["high"], body[0][2]);

    for (interval, days, step) in [("4h", "30", 14_400_000), ("4d", "365", 345_600_000)] {
        let world = always(Answer::ok(spaced(20, step).to_string()));
        let source = build(&CoingeckoOhlc, &format!("{BITCOIN}interval = \"{interval}\"\nvs_currency = \"eur\"")).unwrap();
        let brought = read_split(source.as_ref(), &Split::new("bitcoin"), &world.run).await.unwrap();
        assert_eq!(brought.rows.len(), 20);
        assert_eq!(millis(&brought.rows[19]), 1_779_192_000_000 - step);
        assert_eq!(world.transport.asked(), [format!("/api/v3/coins/bitcoin/ohlc?vs_currency=eur&days={days}")]);
    }

    // Where 4-day candles begin is nobody's promise; the last one goes on.
    let mut body = spaced(20, 345_600_000);
    for row in body.as_array_mut().unwrap() {
        row[0] = json!(row[0].as_i64().unwrap() - 12_345);
    }
    body.as_array_mut().unwrap().push(json!([1_779_205_040_000_i64, 5.0, 6.0, 4.0, 5.5]));
    let brought = read("interval = \"4d\"", body.to_string()).await.unwrap();
    assert_eq!((brought.rows.len(), brought.rejects.len()), (20, 0));
}

#[tokio::test]
async fn another_body_than_candles_is_asked_for_again_and_then_fails() {
    for body in ["{}", "null", "7", "\"x\"", "[1, 2]", "[{}]", "<html>busy</html>", "", "[[1,2"] {
        let world = always(Answer::ok(body));
        let source = build(&CoingeckoOhlc, BITCOIN).unwrap();
        let error = read_split(source.as_ref(), &Split::new("bitcoin"), &world.run).await.unwrap_err();
        assert!(error.is_transient() && error.category == Category::ServerError, "{body}: {error}");
        assert_eq!(world.transport.asked().len(), 5);
    }
}

#[tokio::test]
async fn the_volume_at_each_close() {
    let chart = json("market_chart_bitcoin_days1.json");
    let world = world(|request| {
        let path = request.uri().path();
        Answer::ok(fixture(if path.ends_with("market_chart") { "market_chart_bitcoin_days1.json" } else { "ohlc_bitcoin_days1.json" }))
    });
    let source = build(&CoingeckoOhlc, &format!("{BITCOIN}volume_24h = true")).unwrap();
    let brought = read_split(source.as_ref(), &Split::new("bitcoin"), &world.run).await.unwrap();
    assert_hours(&brought.rows, "bitcoin", &expected("bitcoin"));
    let samples = chart["total_volumes"].as_array().unwrap();
    for row in &brought.rows {
        let close = millis(row) + 3_600_000;
        let before = samples.iter().rfind(|sample| sample[0].as_i64().unwrap() <= close).unwrap();
        assert!(close - before[0].as_i64().unwrap() <= 600_000);
        assert_eq!(row["volume_24h"], before[1]);
    }
    assert_eq!(world.transport.asked()[1], "/api/v3/coins/bitcoin/market_chart?vs_currency=usd&days=1");
    assert_eq!(source.capabilities().requests_per_run, Some(2));
}

#[tokio::test]
async fn the_largest_are_looked_up_in_each_run() {
    let mut asked = 0;
    let world = world(move |request| {
        if request.uri().path().ends_with("/markets") {
            asked += 1;
            return Answer::ok(fixture(if asked == 1 { "markets_top3.json" } else { "markets_top3_rank_changed.json" }));
        }
        Answer::ok("[]")
    });
    let source = build(&CoingeckoOhlc, "top = 3").unwrap();
    assert_eq!(source.capabilities().requests_per_run, Some(4));
    let ids = |splits: Vec<Split>| splits.into_iter().map(|split| split.id).collect::<Vec<_>>();
    assert_eq!(ids(source.splits(&world.run).await.unwrap()), ["bitcoin", "ethereum", "tether"]);
    assert_eq!(ids(source.splits(&world.run).await.unwrap()), ["bitcoin", "ethereum", "ripple"]);
    assert_eq!(world.transport.asked()[0], "/api/v3/coins/markets?vs_currency=usd&order=market_cap_desc&sparkline=false&per_page=3&page=1");
}

#[tokio::test]
async fn more_than_a_page_of_the_largest() {
    let world = world(|request| {
        let first = if request.uri().query().unwrap().ends_with("page=2") { 249 } else { 0 };
        Answer::ok(Value::from_iter((first..first + 250).map(|n| json!({ "id": format!("coin-{n}") }))).to_string())
    });
    let splits = build(&CoingeckoOhlc, "top = 300").unwrap().splits(&world.run).await.unwrap();
    assert_eq!(splits.len(), 300);
    assert_eq!(splits[299].id, "coin-299", "the coin that came twice is one split");
    assert_eq!(world.transport.asked().len(), 2);
    assert!(build(&CoingeckoOhlc, "top = 3").unwrap().splits(&always(Answer::ok("[]")).run).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_window_keeps_what_opens_in_it() {
    let source = build(&CoingeckoOhlc, BITCOIN).unwrap();
    let mut body = json("ohlc_bitcoin_days1.json");
    body[1] = json!([body[1][0], null, null, null, null]);
    let mut world = always(Answer::ok(body.to_string()));
    world.run.window = Some(Window { from: Some("2026-05-19T03:00:00Z".parse().unwrap()), to: Some("2026-05-19T05:00:00Z".parse().unwrap()) });
    let brought = &read_all(source.as_ref(), &world.run).await.unwrap()[0].1;
    let times: Vec<_> = brought.rows.iter().map(|row| row["timestamp"].as_str().unwrap()).collect();
    assert_eq!(times, ["2026-05-19T03:00:00Z", "2026-05-19T04:00:00Z"]);
    assert!(brought.rejects.is_empty(), "a bad row outside of the window is nobody's");
}

#[tokio::test]
async fn a_window_out_of_reach_is_told_before_anything_is_asked() {
    let mut world = always(Answer::ok("[]"));
    world.run.window = Some(Window { from: Some("2026-05-01T00:00:00Z".parse().unwrap()), to: None });
    let source = build(&CoingeckoOhlc, "top = 3").unwrap();
    for error in [source.splits(&world.run).await.unwrap_err(), source.open(&Split::new("x"), None, &world.run).await.err().unwrap()] {
        assert_eq!((error.act, error.category), (Act::Operator, Category::ClientError));
    }
    assert!(world.transport.asked().is_empty());
}

/// A far side with hourly candles for ever, that refuses what the documentation says it refuses.
fn hourly_range(request: &http::Request<bytes::Bytes>) -> Answer {
    let query = request.uri().query().unwrap();
    let of = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap().parse::<i64>().unwrap();
    let (from, to) = (of("from"), of("to"));
    assert!(to - from <= 31 * 86_400 && to < 1_779_205_040, "{query}");
    let closes = (from / 3600..=to / 3600).map(|hour| hour * 3600).filter(|close| (from..=to).contains(close));
    Answer::ok(closes.map(|close| json!([close * 1000, 5.0, 6.0, 4.0, 5.5])).collect::<Value>().to_string())
}

#[tokio::test]
async fn a_paid_key_reads_the_past_a_month_at_a_time() {
    let toml = format!("{BITCOIN}base_url = \"https://pro-api.coingecko.com/api/v3\"\napi_key = \"{KEY}\"");
    let source = build(&CoingeckoOhlc, &toml).unwrap();
    let mut world = world(hourly_range);
    world.run.window = Some(Window { from: Some("2026-03-01T00:30:00Z".parse().unwrap()), to: None });
    let split = Split::new("bitcoin");
    let whole = read_split(source.as_ref(), &split, &world.run).await.unwrap();
    assert_eq!(whole.positions.len(), 3);
    assert_eq!(whole.positions[2], Position(json!({ "done": true })));
    // Every hour from the first in the window to the last that is over, each once.
    let first = "2026-03-01T01:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_millis();
    let last = "2026-05-19T14:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_millis();
    let times: Vec<i64> = whole.rows.iter().map(millis).collect();
    assert_eq!(times, (0..=(last - first) / 3_600_000).map(|n| first + n * 3_600_000).collect::<Vec<_>>());
    let asked = &world.transport.asked()[0];
    assert!(
        asked.starts_with("/api/v3/coins/bitcoin/ohlc/range?vs_currency=usd&from=1772325000&to=") && asked.ends_with("&interval=hourly"),
        "{asked}"
    );

    let mut reader = source.open(&split, Some(whole.positions[0].clone()), &world.run).await.unwrap();
    let mut resumed = 0;
    while let Some(read) = reader.read().await.unwrap() {
        resumed += read.batch.num_rows();
    }
    assert_eq!(resumed, times.len() - 30 * 24, "it goes on after the first month");
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let source = build(&CoingeckoOhlc, BITCOIN).unwrap();
    let world = always(Answer::status(503, "")).run;
    let mut reader = source.open(&Split::new("bitcoin"), None, &world).await.unwrap();
    assert!(reader.read().await.is_err());
    assert!(reader.read().await.is_err(), "it asks again");
}

#[tokio::test]
async fn ids_do_not_lead_elsewhere() {
    let source = build(&CoingeckoOhlc, "coins = [\"we ird\"]").err().unwrap();
    assert_eq!(source.len(), 1);
    let source = build(&CoingeckoOhlc, "top = 1").unwrap();
    let world = always(Answer::ok("[]"));
    read_split(source.as_ref(), &Split::new("../ping?x#é"), &world.run).await.unwrap();
    assert_eq!(world.transport.asked(), ["/api/v3/coins/..%2Fping%3Fx%23%C3%A9/ohlc?vs_currency=usd&days=1"]);
    assert_eq!(read_split(source.as_ref(), &Split::new(".."), &world.run).await.unwrap_err().act, Act::Split);
}

#[tokio::test]
async fn the_run_goes_on_when_time_passes() {
    // 20 hours later the same body holds nothing that is in the future, and its open tail is a row off the grid.
    let source = build(&CoingeckoOhlc, BITCOIN).unwrap();
    let world = always(Answer::ok(fixture("ohlc_open_tail.json")));
    world.clock.advance(Duration::from_secs(20 * 3600));
    let brought = read_split(source.as_ref(), &Split::new("bitcoin"), &world.run).await.unwrap();
    assert_hours(&brought.rows, "bitcoin", &expected("bitcoin"));
    assert_eq!(brought.rules(), ["coingecko:off_grid"]);
}
