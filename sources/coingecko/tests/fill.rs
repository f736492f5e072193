//! Gaps: what is asked for them, what is brought, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod common;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use common::{Brought, KEY, World, always, build, fixture, read_split, world};
use pipeline_contract::testkit::Answer;
use pipeline_contract::{Act, Filling, Gap, MUST_BE_STORED, Position, Source, Split};
use pipeline_source_coingecko::CoingeckoOhlc;
use serde_json::{Value, json};

const FREE: &str = "coins = [\"bitcoin\"]\n";

fn paid(more: &str) -> Box<dyn Source> {
    let toml = format!("{FREE}base_url = \"https://pro-api.coingecko.com/api/v3\"\napi_key = \"{KEY}\"\n{more}");
    build(&CoingeckoOhlc, &toml).unwrap()
}

fn free(more: &str) -> Box<dyn Source> {
    build(&CoingeckoOhlc, &format!("{FREE}{more}")).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A gap of a series, in hours.
fn gap_of(series: &Value, from: &str, to: &str) -> Gap {
    let missing = (at(to) - at(from)).num_hours().unsigned_abs();
    Gap { series: series.as_object().unwrap().clone(), from: at(from), to: at(to), missing }
}

fn gap(from: &str, to: &str) -> Gap {
    gap_of(&json!({ "coin_id": "bitcoin" }), from, to)
}

async fn fill(source: &dyn Source, gaps: &[Gap], world: &World) -> Filling {
    let filling = source.fill(gaps, &world.run).await.unwrap();
    let mut ids: Vec<_> = filling.splits.iter().map(|split| &split.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), filling.splits.len(), "{:?}", filling.splits);
    filling
}

fn ids(filling: &Filling) -> Vec<&str> {
    filling.splits.iter().map(|split| split.id.as_str()).collect()
}

/// Reads a split as after a restart: all that is left of it is its JSON.
async fn read(source: &dyn Source, split: &Split, world: &World) -> Brought {
    let kept: Split = serde_json::from_str(&serde_json::to_string(split).unwrap()).unwrap();
    let brought = read_split(source, &kept, &world.run).await.unwrap();
    assert_eq!(brought.positions, [Position(json!({ "done": true }))], "a split is one request");
    let done = source.open(&kept, Some(brought.positions[0].clone()), &world.run).await;
    assert!(done.unwrap().read().await.unwrap().is_none());
    brought
}

fn times(brought: &Brought) -> Vec<&str> {
    brought.rows.iter().map(|row| row["timestamp"].as_str().unwrap()).collect()
}

fn of<'a>(query: &'a str, name: &str) -> &'a str {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap()
}

fn window(request: &http::Request<bytes::Bytes>) -> (i64, i64) {
    let query = request.uri().query().unwrap();
    (of(query, "from").parse().unwrap(), of(query, "to").parse().unwrap())
}

/// `/ohlc/range` without end, `from` and `to` included, as the documentation says.
fn range() -> World {
    world(|request| {
        assert!(request.uri().path().ends_with("/coins/bitcoin/ohlc/range"), "{}", request.uri());
        let (from, to) = window(request);
        assert!(to - from <= 31 * 86_400 && to < 1_779_205_040);
        let closes = (from / 3600..=to / 3600).map(|hour| hour * 3600).filter(|close| (from..=to).contains(close));
        let price = |close: i64| (close / 3600 % 1000) as f64 + 1.0;
        Answer::ok(closes.map(|close| json!([close * 1000, price(close), 2000.0, 0.5, price(close + 3600)])).collect::<Value>().to_string())
    })
}

/// The price of the look-alike at an instant, in seconds.
fn price(seconds: i64) -> f64 {
    (seconds % 1_000_000) as f64 + 1.0
}

/// `/market_chart/range`, hourly for 2 to 90 days, with each stamp some seconds off.
fn samples() -> World {
    world(|request| {
        assert!(request.uri().path().ends_with("/coins/bitcoin/market_chart/range"), "{}", request.uri());
        let (from, to) = window(request);
        assert!((2 * 86_400..=90 * 86_400).contains(&(to - from)) && to < 1_779_205_040 && from >= 1_779_205_040 - 365 * 86_400);
        let at: Vec<i64> = (from / 3600..=to / 3600).map(|hour| hour * 3600 + hour % 7 * 20 - 60).filter(|at| (from..=to).contains(at)).collect();
        let prices: Value = at.iter().map(|at| json!([at * 1000 + 7, price(*at)])).collect();
        let volumes: Value = at.iter().map(|at| json!([at * 1000 + 7, price(*at) * 10.0])).collect();
        Answer::ok(json!({ "prices": prices, "market_caps": [], "total_volumes": volumes }).to_string())
    })
}

#[test]
fn a_step_is_an_interval() {
    for (interval, minutes) in [("30m", 30), ("1h", 60), ("4h", 240), ("4d", 5760)] {
        let source = free(&format!("interval = \"{interval}\""));
        assert_eq!(source.step(), Some(Duration::from_secs(minutes * 60)));
        assert!(source.fills());
    }
}

#[tokio::test]
async fn a_gap_of_the_last_day_is_filled_from_the_last_day() {
    let world = always(Answer::ok(fixture("ohlc_bitcoin_days1.json")));
    let source = free("");
    let gaps = [gap("2026-05-19T03:00:00Z", "2026-05-19T05:00:00Z"), gap("2026-05-19T08:00:00Z", "2026-05-19T09:00:00Z")];
    let filling = fill(source.as_ref(), &gaps, &world).await;
    assert!(filling.refused.is_empty());
    assert_eq!(ids(&filling), ["bitcoin 2026-05-19T03:00:00Z/2026-05-19T09:00:00Z"], "one request brings both");
    let brought = read(source.as_ref(), &filling.splits[0], &world).await;
    assert_eq!(times(&brought), ["2026-05-19T03:00:00Z", "2026-05-19T04:00:00Z", "2026-05-19T08:00:00Z"]);
    assert!(brought.rows.iter().all(|row| row["coin_id"] == "bitcoin"));
    assert_eq!(world.transport.asked(), ["/api/v3/coins/bitcoin/ohlc?vs_currency=usd&days=1"]);
    assert_eq!(source.splits(&world.run).await.unwrap(), [Split::new("bitcoin")], "ordinary splits say no more than before");
    assert_eq!(source.capabilities().requests_per_run, Some(1));
}

#[tokio::test]
async fn without_a_paid_key_what_is_older_than_a_day_is_refused() {
    let world = always(Answer::ok("[]"));
    let source = free("");
    let whole = gap("2026-05-17T03:00:00Z", "2026-05-17T05:00:00Z");
    let across = gap("2026-05-18T10:00:00Z", "2026-05-18T20:00:00Z");
    let filling = fill(source.as_ref(), &[whole.clone(), across], &world).await;
    assert_eq!(ids(&filling), ["bitcoin 2026-05-18T16:00:00Z/2026-05-18T20:00:00Z"]);
    assert_eq!(filling.refused[0].gap, whole);
    assert_eq!(
        filling.refused[0].reason,
        "not fillable at this quality: CoinGecko keeps hourly candles for a day without a paid key; `fill_from = \"samples\"` stores hourly samples \
         apart, a paid key the candles themselves"
    );
    assert_eq!(filling.refused[1].gap, gap("2026-05-18T10:00:00Z", "2026-05-18T16:00:00Z"), "the part that is gone");
    assert_eq!(filling.refused.len(), 2);
    assert!(world.transport.asked().is_empty());
}

#[tokio::test]
async fn each_interval_reaches_as_far_as_its_candles() {
    let world = always(Answer::ok("[]"));
    // Interval, the last stretch that is refused without a paid key, and with one.
    let ends = [("30m", "2026-05-18T15:37:20Z", Some("2026-05-18T15:37:20Z")), ("4h", "2026-04-19T15:37:20Z", Some("2018-02-09T00:00:00Z"))];
    let more = [("1h", "2026-05-18T15:37:20Z", Some("2018-02-09T00:00:00Z")), ("4d", "2025-05-19T15:37:20Z", None)];
    for (interval, free_end, paid_end) in ends.into_iter().chain(more) {
        let option = format!("interval = \"{interval}\"");
        for (source, end) in [(free(&option), Some(free_end)), (paid(&option), paid_end)] {
            let size = TimeDelta::from_std(source.step().unwrap()).unwrap();
            let from = at("2016-01-01T00:00:00Z");
            let filling = fill(source.as_ref(), &[Gap { from, ..gap("2016-01-01T00:00:00Z", "2026-05-19T12:00:00Z") }], &world).await;
            let refused = filling.refused.first().map(|refusal| refusal.gap.to);
            assert_eq!(refused.is_some(), end.is_some(), "{interval}");
            if let (Some(refused), Some(end)) = (refused, end) {
                assert!(refused >= at(end) && refused - at(end) < size, "{interval}: {refused}");
                assert!(filling.refused[0].reason.starts_with("not fillable at this quality: "));
                assert_eq!(TimeDelta::seconds(size.num_seconds() * filling.refused[0].gap.missing as i64), refused - from);
                assert!(filling.splits[0].id.starts_with(&format!("bitcoin {}", pipeline_contract::rfc3339(refused))), "{}", filling.splits[0].id);
            }
        }
    }
}

#[tokio::test]
async fn with_a_paid_key_exactly_the_missing_window_is_asked_for() {
    let world = range();
    let source = paid("");
    let filling = fill(source.as_ref(), &[gap("2026-03-05T15:00:00Z", "2026-03-05T18:00:00Z")], &world).await;
    assert_eq!(ids(&filling), ["bitcoin 2026-03-05T15:00:00Z/2026-03-05T18:00:00Z"]);
    let brought = read(source.as_ref(), &filling.splits[0], &world).await;
    assert_eq!(times(&brought), ["2026-03-05T15:00:00Z", "2026-03-05T16:00:00Z", "2026-03-05T17:00:00Z"], "not the one that closes at 15:00");
    assert_eq!(world.transport.asked(), ["/api/v3/coins/bitcoin/ohlc/range?vs_currency=usd&from=1772722800&to=1772733600&interval=hourly"]);
}

#[tokio::test]
async fn gaps_within_a_month_go_together_and_a_long_one_is_cut() {
    let world = range();
    let source = paid("");
    let gaps = [
        gap("2026-01-20T00:00:00Z", "2026-01-20T02:00:00Z"),
        gap("2026-01-03T00:00:00Z", "2026-01-03T01:00:00Z"),
        gap("2026-01-03T01:00:00Z", "2026-01-03T03:00:00Z"),
        gap("2026-02-10T00:00:00Z", "2026-04-25T05:00:00Z"),
    ];
    let filling = fill(source.as_ref(), &gaps, &world).await;
    assert_eq!(filling.splits[0].id, "bitcoin 2026-01-03T00:00:00Z/2026-01-20T02:00:00Z");
    assert_eq!(filling.splits.len(), 4);
    let mut all = Vec::new();
    for split in &filling.splits {
        all.extend(read(source.as_ref(), split, &world).await.rows.into_iter().map(|row| at(row["timestamp"].as_str().unwrap())));
    }
    let mut wanted: Vec<_> = gaps.iter().flat_map(|gap| (0..gap.missing as i64).map(|n| gap.from + TimeDelta::hours(n))).collect();
    wanted.sort_unstable();
    assert_eq!(all, wanted, "every missing hour once, and no other");
    assert_eq!(world.transport.asked().len(), 4);
}

#[tokio::test]
async fn four_hours_of_months_ago_are_made_of_whole_hours() {
    let source = paid("interval = \"4h\"");
    let world = world(|request| {
        let (from, to) = window(request);
        // The hour that closes at 2026-01-03T07:00 is missing.
        let closes = (from / 3600..=to / 3600).map(|hour| hour * 3600).filter(|close| *close != 1_767_423_600);
        Answer::ok(closes.map(|close| json!([close * 1000, 5.0, 6.0 + (close / 3600 % 4) as f64, 4.0, 5.5])).collect::<Value>().to_string())
    });
    let filling = fill(source.as_ref(), &[gap("2026-01-03T00:00:00Z", "2026-01-03T12:00:00Z")], &world).await;
    let brought = read(source.as_ref(), &filling.splits[0], &world).await;
    assert_eq!(times(&brought), ["2026-01-03T00:00:00Z", "2026-01-03T08:00:00Z"]);
    assert_eq!((&brought.rows[0]["open"], &brought.rows[0]["high"], &brought.rows[0]["close"]), (&json!(5.0), &json!(9.0), &json!(5.5)));
}

#[tokio::test]
async fn samples_stand_for_candles_that_are_gone() {
    let world = samples();
    let source = free("fill_from = \"samples\"\nvolume_24h = true");
    let gaps = [gap("2026-05-10T03:00:00Z", "2026-05-10T06:00:00Z"), gap("2026-04-01T00:00:00Z", "2026-04-01T01:00:00Z")];
    let filling = fill(source.as_ref(), &gaps, &world).await;
    assert!(filling.refused.is_empty());
    assert_eq!(ids(&filling), ["bitcoin 2026-04-01T00:00:00Z/2026-05-10T06:00:00Z"]);
    let brought = read(source.as_ref(), &filling.splits[0], &world).await;
    assert_eq!(times(&brought), ["2026-04-01T00:00:00Z", "2026-05-10T03:00:00Z", "2026-05-10T04:00:00Z", "2026-05-10T05:00:00Z"]);
    for row in &brought.rows {
        assert_eq!(row["source"], "samples");
        assert!(["open", "high", "low"].iter().all(|name| row[*name].is_null()), "{row}");
        // The price at the hour's end, as that is when its candle closed.
        let hour = at(row["timestamp"].as_str().unwrap()).timestamp() / 3600 + 1;
        let taken = price(hour * 3600 + hour % 7 * 20 - 60);
        assert_eq!((&row["close"], &row["volume_24h"]), (&json!(taken), &json!(taken * 10.0)));
    }
    assert!(brought.rejects.is_empty(), "{:?}", brought.rejects);
    assert_eq!(world.transport.asked().len(), 1);
    assert_eq!(source.capabilities().requests_per_run, Some(2), "that of an ordinary run");
}

#[tokio::test]
async fn a_short_gap_is_asked_for_as_days_so_that_the_answer_is_hourly() {
    let world = samples();
    let source = free("fill_from = \"samples\"");
    // The second is the first hour that can be had at all: there are no days before it.
    for (from, to) in [("2026-05-10T03:00:00Z", "2026-05-10T04:00:00Z"), ("2025-05-19T16:00:00Z", "2025-05-19T17:00:00Z")] {
        let filling = fill(source.as_ref(), &[gap(from, to)], &world).await;
        assert_eq!(times(&read(source.as_ref(), &filling.splits[0], &world).await), [from]);
    }
    let asked = world.transport.asked();
    assert_eq!(asked[0], "/api/v3/coins/bitcoin/market_chart/range?vs_currency=usd&from=1778128200&to=1778387400");
}

#[tokio::test]
async fn candles_are_taken_before_samples_and_samples_end_with_the_year() {
    let source = free("fill_from = \"samples\"");
    let world = samples();
    let filling = fill(source.as_ref(), &[gap("2025-05-01T00:00:00Z", "2026-05-19T10:00:00Z")], &world).await;
    assert_eq!(filling.refused[0].gap, gap("2025-05-01T00:00:00Z", "2025-05-19T16:00:00Z"));
    assert!(filling.refused[0].reason.contains("hourly samples for 365 days"), "{}", filling.refused[0].reason);
    let all = ids(&filling);
    assert!(all[0].starts_with("bitcoin 2025-05-19T16:00:00Z/") && all.len() == 6, "{all:?}");
    assert_eq!(all[5], "bitcoin 2026-05-18T16:00:00Z/2026-05-19T10:00:00Z");
    for split in &filling.splits[..5] {
        assert!(read(source.as_ref(), split, &world).await.rows.iter().all(|row| row["source"] == "samples"));
    }
    let world = always(Answer::ok(fixture("ohlc_bitcoin_days1.json")));
    let brought = read(source.as_ref(), &filling.splits[5], &world).await;
    assert_eq!(times(&brought).first(), Some(&"2026-05-18T16:00:00Z"));
    assert!(brought.rows.iter().all(|row| row["source"] == "candles" && row["open"].is_f64()));

    let all = paid("fill_from = \"samples\"");
    let filling = fill(all.as_ref(), &[gap("2026-03-05T15:00:00Z", "2026-03-05T18:00:00Z")], &world).await;
    let brought = read(all.as_ref(), &filling.splits[0], &range()).await;
    assert!(brought.rows.len() == 3 && brought.rows.iter().all(|row| row["source"] == "candles"), "a paid key has the candles");
}

/// The sample source, on one body for the hours from 03:00 to 06:00.
async fn sampled(prices: Value) -> Result<Brought, pipeline_contract::StageError> {
    let source = free("fill_from = \"samples\"");
    let world = always(Answer::ok(json!({ "prices": prices }).to_string()));
    let filling = fill(source.as_ref(), &[gap("2026-05-10T03:00:00Z", "2026-05-10T06:00:00Z")], &world).await;
    read_split(source.as_ref(), &filling.splits[0], &world.run).await
}

/// 2026-05-10T04:00:00Z: the end of the first hour that is missing.
const FOUR: i64 = 1_778_385_600_000;
const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

#[tokio::test]
async fn a_sample_far_from_the_hour_is_rejected_and_the_point_of_now_is_nobodys() {
    let now = 1_779_205_040_000_i64;
    let body = json!([
        [FOUR - HOUR, 1.0],
        [FOUR + 10 * MINUTE, 2.0],
        [FOUR + HOUR - 10 * MINUTE - 1, 3.0],
        [FOUR + 2 * HOUR, -4.0],
        [FOUR + 3 * HOUR, 5.0],
        [now, 6.0]
    ]);
    let brought = sampled(body).await.unwrap();
    assert_eq!(times(&brought), ["2026-05-10T03:00:00Z"]);
    assert_eq!(brought.rows[0]["close"], 2.0);
    assert_eq!(brought.rules(), ["coingecko:off_grid", "coingecko:non_positive"]);
    assert!(brought.rejects[0].message.contains("10 minutes from a whole hour"), "{}", brought.rejects[0].message);
}

#[tokio::test]
async fn of_two_samples_the_nearer_counts_and_of_two_that_contradict_none() {
    let body = json!([
        [FOUR - MINUTE, 1.0],
        [FOUR + 2 * MINUTE, 2.0],
        [FOUR + HOUR, 3.0],
        [FOUR + HOUR, 4.0],
        [FOUR + 2 * HOUR, 5.0],
        [FOUR + 3 * HOUR, 6.0],
        "x"
    ]);
    let brought = sampled(body).await.unwrap();
    let closes: Vec<_> = brought.rows.iter().map(|row| row["close"].as_f64().unwrap()).collect();
    assert_eq!(closes, [1.0, 5.0]);
    assert_eq!(brought.rules(), ["coingecko:row", "coingecko:contradiction", "coingecko:contradiction"]);
}

#[tokio::test]
async fn samples_at_another_distance_fail_the_split() {
    for (step, named) in [(5 * MINUTE, "5-minute"), (24 * HOUR, "1-day")] {
        let body = (-20..20).map(|n| json!([FOUR + n * step, 5.0])).collect();
        let error = sampled(body).await.unwrap_err();
        assert_eq!(error.act, Act::Split);
        assert_eq!(error.message, format!("coin \"bitcoin\": expected hourly samples, got {named} spacing"));
    }
}

#[tokio::test]
async fn series_that_no_rows_can_fill_are_refused() {
    let world = always(Answer::ok("[]"));
    let source = free("fill_from = \"samples\"");
    let (from, to) = ("2026-05-10T03:00:00Z", "2026-05-19T06:00:00Z");
    let series = [json!({}), json!({ "coin_id": 7 }), json!({ "coin_id": ".." }), json!({ "coin_id": "bitcoin", "source": "samples" })];
    let gaps: Vec<Gap> = series.iter().map(|series| gap_of(series, from, to)).collect();
    let filling = fill(source.as_ref(), &gaps, &world).await;
    assert!(filling.splits.is_empty());
    assert_eq!(filling.refused.iter().map(|refusal| &refusal.gap).collect::<Vec<_>>(), gaps.iter().collect::<Vec<_>>());
    assert!(filling.refused[0].reason.contains("lack `coin_id`") && filling.refused[3].reason.contains("samples stand where"));

    // Samples would be another series, and the gap would be there for ever.
    let filling = fill(source.as_ref(), &[gap_of(&json!({ "coin_id": "bitcoin", "source": "candles" }), from, to)], &world).await;
    assert_eq!(ids(&filling), ["bitcoin 2026-05-18T16:00:00Z/2026-05-19T06:00:00Z"]);
    assert!(filling.refused[0].reason.contains("leave it out of the keys"), "{}", filling.refused[0].reason);
}

#[tokio::test]
async fn splits_of_others_are_no_splits() {
    let source = free("");
    let world = always(Answer::ok("[]"));
    for data in [json!(1), json!({ "coin": "bitcoin" }), json!({ "coin": "bitcoin", "with": "last", "windows": [] })] {
        let split = Split { id: "x".into(), data };
        assert_eq!(source.open(&split, None, &world.run).await.err().unwrap().act, Act::Developer);
    }
}

#[test]
fn with_samples_the_columns_say_which_is_which() {
    let plain = free("").schema();
    assert!(plain.column_with_name("source").is_none() && plain.fields().iter().all(|field| !field.is_nullable()));
    let schema = free("fill_from = \"samples\"").schema();
    let nullable: Vec<_> = schema.fields().iter().filter(|field| field.is_nullable()).map(|field| field.name().as_str()).collect();
    assert_eq!(nullable, ["open", "high", "low"]);
    let marked: Vec<_> = schema.fields().iter().filter(|field| field.metadata().contains_key(MUST_BE_STORED)).map(|field| field.name()).collect();
    assert_eq!(marked, ["source"]);
    let faults = build(&CoingeckoOhlc, &format!("{FREE}interval = \"4h\"\nfill_from = \"samples\"")).err().unwrap();
    assert!(faults.len() == 1 && faults[0].code == "E012" && faults[0].message.contains("\"1h\" alone"), "{faults:?}");
}

#[tokio::test]
async fn two_candles_with_a_hole_between_are_hours_and_two_that_are_longer_are_not() {
    let source = paid("");
    let told = |hours: i64| {
        let from = FOUR - HOUR;
        always(Answer::ok(json!([[from + HOUR, 5.0, 6.0, 4.0, 5.5], [from + HOUR + hours * HOUR, 5.0, 6.0, 4.0, 5.5]]).to_string()))
    };
    let filling = fill(source.as_ref(), &[gap("2026-05-10T03:00:00Z", "2026-05-10T09:00:00Z")], &told(2)).await;
    let brought = read(source.as_ref(), &filling.splits[0], &told(2)).await;
    assert_eq!(times(&brought), ["2026-05-10T03:00:00Z", "2026-05-10T05:00:00Z"]);
    let error = read_split(source.as_ref(), &filling.splits[0], &told(4).run).await.unwrap_err();
    assert_eq!(error.message, "coin \"bitcoin\": expected 1-hour candles, got 4-hour spacing");
}
