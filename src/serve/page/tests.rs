//! Charts of any values, and the words for times.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::chart::{self, Bar, Bars, Candle, Stretch, drawable};
use super::html::{age_text, count, countdown_text, encoded, took};

fn times() -> impl Strategy<Value = DateTime<Utc>> {
    // The years 1 to 9999, and moments close to each other.
    prop_oneof![-62_135_596_800_i64..253_402_300_799, 1_779_000_000_i64..1_779_000_100].prop_map(|at| DateTime::from_timestamp(at, 0).unwrap())
}

fn values() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-1.0..1.0, -99..99).prop_map(|(value, power): (f64, i32)| value * 10_f64.powi(power)),
        Just(0.0),
        Just(7.1e-6),
        1e16..1.000_000_000_001e16,
        0.999..1.001
    ]
}

/// It is drawn, in both sizes, and nothing in it is more than a number that can be read.
fn drawn(markup: &maud::Markup) -> Result<(), TestCaseError> {
    let text = &markup.0;
    prop_assert_eq!(text.matches("<svg ").count(), 2, "{}", text);
    prop_assert!(!text.contains("NaN") && !text.contains("inf") && !text.contains(" style="), "{}", text);
    Ok(())
}

proptest! {
    #[test]
    fn any_rows_can_be_drawn(rows in proptest::collection::btree_map(times(), [values(), values(), values(), values()], 0..40)) {
        let candles: Vec<Candle> =
            rows.iter().map(|(at, [open, high, low, close])| Candle { at: *at, open: *open, high: *high, low: *low, close: *close }).collect();
        prop_assert!(candles.iter().all(|candle| drawable(candle.open)));
        drawn(&chart::candles(&candles, "candles"))?;
        drawn(&chart::line(&rows.iter().map(|(at, values)| (*at, values[0])).collect::<Vec<_>>(), "a line"))?;
    }

    #[test]
    fn any_runs_and_gaps_can_be_drawn(runs in proptest::collection::vec((times(), any::<u64>(), any::<u64>()), 0..120), lanes in 0_usize..12) {
        let bars: Vec<Bar> = runs.iter().map(|(at, good, bad)| Bar { at: *at, good: *good, bad: *bad }).collect();
        drawn(&chart::bars(&Bars { bars: &bars, marked: Some(3), small: false }, "runs"))?;
        let stretches: Vec<Stretch> = runs.iter().map(|(at, lane, long)| {
            Stretch { lane: (*lane % 12) as usize, from: *at, to: *at + TimeDelta::seconds((*long % 100_000) as i64) }
        }).collect();
        let from = runs.iter().map(|(at, ..)| *at).min().unwrap_or_default();
        let to = stretches.iter().map(|stretch| stretch.to).max().unwrap_or(from + TimeDelta::hours(1));
        drawn(&chart::lanes(lanes, from, to.max(from + TimeDelta::minutes(1)), &stretches, "gaps"))?;
    }
}

#[test]
fn times_and_counts_in_words() {
    let words = [(0, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (172_800, "2 days ago"), (-5, "in 5 s")];
    for (seconds, text) in words {
        assert_eq!(age_text(TimeDelta::seconds(seconds)), text);
    }
    let words = [(-3, "in 0:00:00"), (59, "in 0:00:59"), (3661, "in 1:01:01"), (90_061, "in 1 day 1:01:01"), (200_000, "in 2 days 7:33:20")];
    for (seconds, text) in words {
        assert_eq!(countdown_text(TimeDelta::seconds(seconds)), text);
    }
    for (ms, text) in [(-4, "0 ms"), (999, "999 ms"), (1234, "1.2 s"), (100_000, "1m 40s")] {
        assert_eq!(took(TimeDelta::milliseconds(ms)), text);
    }
    assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!(encoded("a@2026-05-19T12:20:00Z/ü?"), "a%402026-05-19T12%3A20%3A00Z%2F%C3%BC%3F");
}
