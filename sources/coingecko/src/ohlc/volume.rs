//! The rolling 24-hour volume at a candle's close, from `/coins/{id}/market_chart`. It is **not** the candle's volume, which CoinGecko does
//! not tell, and differences of it mean nothing.

use serde::Deserialize;
use serde_json::Value;

use super::candles::MINUTE;

/// A sample older than this says nothing of the candle's close; samples come every 5 minutes.
const OLDEST: i64 = 10 * MINUTE;

/// The part of a body of `market_chart` that is used.
#[derive(Deserialize)]
pub(super) struct Chart {
    total_volumes: Vec<Value>,
}

/// Samples of the rolling volume, ascending by time in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Volumes(Vec<(i64, f64)>);

impl Volumes {
    /// The sound samples of a chart. A sample that cannot be read is passed over: the column is null where there is none.
    pub(super) fn of(chart: &Chart) -> Self {
        let sample = |sample: &Value| {
            let (at, volume) = (sample.get(0)?.as_i64()?, sample.get(1)?.as_f64()?);
            (volume.is_finite() && volume >= 0.0).then_some((at, volume))
        };
        let mut samples: Vec<_> = chart.total_volumes.iter().filter_map(sample).collect();
        samples.sort_by_key(|(at, _)| *at);
        Self(samples)
    }

    /// The last sample at or before `close` that is at most 10 minutes old.
    pub(super) fn at(&self, close: i64) -> Option<f64> {
        let after = self.0.partition_point(|(at, _)| *at <= close);
        let (at, volume) = self.0.get(after.checked_sub(1)?)?;
        (close.saturating_sub(*at) <= OLDEST).then_some(*volume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volumes(samples: Value) -> Volumes {
        Volumes::of(&serde_json::from_value(json!({ "total_volumes": samples })).unwrap())
    }

    #[test]
    fn the_last_sample_not_after_the_close() {
        const CLOSE: i64 = 1_779_123_600_000;
        let cases = [
            (json!([[CLOSE, 1.0]]), Some(1.0)),
            (json!([[CLOSE + 1, 1.0]]), None),
            (json!([[CLOSE - 1, 1.0], [CLOSE + 1, 2.0]]), Some(1.0)),
            (json!([[CLOSE - OLDEST, 1.0]]), Some(1.0)),
            (json!([[CLOSE - OLDEST - 1, 1.0]]), None),
            (json!([[CLOSE - 3, 3.0], [CLOSE - 317_411, 1.0]]), Some(3.0)),
            (json!([[CLOSE - 5, 5], [CLOSE - 4, null], [CLOSE - 3, "7"], [CLOSE - 2], 9, [CLOSE - 1, -1.0]]), Some(5.0)),
            (json!([]), None),
        ];
        for (samples, expected) in cases {
            assert_eq!(volumes(samples.clone()).at(CLOSE), expected, "{samples}");
        }
        assert_eq!(volumes(json!([[i64::MIN, 1.0]])).at(CLOSE), None);
    }
}
