//! Hourly candles from a seed, the same at each start: prices of 2 to 4 decimals that walk at random.

use std::fmt::Write;
use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::testkit::TestRandom;
use pipeline_contract::{Random, Row, rows};

rows! {
    pub(crate) struct Candle {
        pub(crate) coin_id: String,
        pub(crate) timestamp: DateTime<Utc>,
        pub(crate) open: f64,
        pub(crate) high: f64,
        pub(crate) low: f64,
        pub(crate) close: f64,
        pub(crate) volume: f64,
    }
}

/// How many series there are, if not said otherwise.
pub(crate) const SERIES: usize = 500;
/// How many rows a batch has: as many as the source `file` puts into one.
const BATCH: usize = 8192;

/// An epoch of rows, or few where nothing is timed.
pub(crate) fn rows() -> usize {
    static TIMED: LazyLock<bool> = LazyLock::new(|| {
        let said = |flag: &str| std::env::args().any(|arg| arg == flag);
        said("--bench") && !said("--test")
    });
    if *TIMED { 100_000 } else { 2000 }
}

/// Candles of so many series, one hour of all after the other.
pub(crate) fn by_time(series: usize) -> Vec<Candle> {
    let random = TestRandom::new(18);
    let places = |value: f64, decimals: usize| (value * [100.0, 1000.0, 10_000.0][decimals % 3]).round() / [100.0, 1000.0, 10_000.0][decimals % 3];
    let mut prices: Vec<f64> = (0..series).map(|_| 1.0 + random.unit() * 2000.0).collect();
    let first: DateTime<Utc> = "2021-01-01T00:00:00Z".parse().unwrap();
    let candle = |row: usize| {
        let (number, hour) = (row % series, row / series);
        let near = |value: f64| places(value * (0.98 + 0.04 * random.unit()), number);
        let open = places(prices[number], number);
        let close = near(open).max(0.01);
        prices[number] = close.max(0.5);
        let (high, low) = (near(open.max(close)).max(open).max(close), near(open.min(close)).min(open).min(close));
        let timestamp = first + TimeDelta::hours(i64::try_from(hour).unwrap());
        Candle { coin_id: format!("coin-{number:03}"), timestamp, open, high, low, close, volume: places(random.unit() * 1e6, number) }
    };
    (0..rows()).map(candle).collect()
}

/// Shuffled within each stretch of so many rows.
pub(crate) fn shuffled(mut rows: Vec<Candle>, window: usize) -> Vec<Candle> {
    let random = TestRandom::new(26);
    for part in rows.chunks_mut(window) {
        for last in (1..part.len()).rev() {
            part.swap(last, usize::try_from(random.next() % (last as u64 + 1)).unwrap());
        }
    }
    rows
}

/// Each so many rows, one whose high is below its low.
pub(crate) fn spoiled(mut rows: Vec<Candle>, every: usize) -> Vec<Candle> {
    for row in rows.iter_mut().step_by(every) {
        row.high = row.low / 2.0;
    }
    rows
}

/// Rows in batches as a source brings them.
pub(crate) fn batches(rows: &[Candle]) -> Vec<RecordBatch> {
    rows.chunks(BATCH).map(Candle::batch).collect()
}

/// One batch.
pub(crate) fn batch() -> RecordBatch {
    batches(&by_time(SERIES)).swap_remove(0)
}

/// As a CSV file with a header; the time in milliseconds. `quote` stands before and after each cell.
pub(crate) fn csv(rows: &[Candle], quote: &str) -> String {
    let mut text = String::from("coin_id,timestamp,open,high,low,close,volume\n");
    let q = quote;
    for Candle { coin_id, timestamp, open, high, low, close, volume } in rows {
        let at = timestamp.timestamp_millis();
        let between = format!("{q},{q}");
        let cells = [coin_id.clone(), at.to_string(), open.to_string(), high.to_string(), low.to_string(), close.to_string(), volume.to_string()];
        writeln!(text, "{q}{}{q}", cells.join(&between)).unwrap();
    }
    text
}

/// As JSON Lines.
pub(crate) fn jsonl(rows: &[Candle]) -> String {
    let mut text = String::new();
    for Candle { coin_id, timestamp, open, high, low, close, volume } in rows {
        let at = timestamp.timestamp_millis();
        writeln!(
            text,
            "{{\"coin_id\":\"{coin_id}\",\"timestamp\":{at},\"open\":{open},\"high\":{high},\"low\":{low},\"close\":{close},\"volume\":{volume}}}"
        )
        .unwrap();
    }
    text
}
