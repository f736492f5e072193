//! Hourly samples of the price, from `/coins/{id}/market_chart/range`: what is known of an hour when its candle is gone. A sample is a price
//! at one moment, so that the one at the end of an hour says what that hour's candle would have closed at, and nothing else of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::{Category, Reject, StageError, rfc3339};
use serde::Deserialize;
use serde_json::Value;

use super::candles::{HOUR, MINUTE, length};
use super::columns::{OhlcRow, SAMPLES};
use super::fetch::Fetch;
use crate::errors::short;

/// How far from a whole hour a sample may be taken. They are jittered by a minute or a few.
const OFF: i64 = 10 * MINUTE;
/// A window is answered by the hour when it is 2 to 90 days long. A shorter one is asked for so much longer.
const SHORTEST: TimeDelta = TimeDelta::days(3);

/// The part of a body of `market_chart/range` that is used.
#[derive(Deserialize)]
struct History {
    prices: Vec<Value>,
    #[serde(default)]
    total_volumes: Vec<Value>,
}

/// A price at the end of an hour.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    /// When it was taken, in milliseconds since 1970.
    at: i64,
    price: f64,
}

impl Fetch {
    /// Samples for the hours that open from `from` up to `to`, where they are wanted.
    pub(super) async fn samples(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<(Vec<OhlcRow>, Vec<Reject>), StageError> {
        let (first, last) = asked(from, to, self.run.ports.clock.now());
        let (first, last) = (first.timestamp().to_string(), last.timestamp().to_string());
        let query = [("vs_currency", self.shared.api.vs_currency.as_str()), ("from", &first), ("to", &last)];
        let history = self.shared.api.client.get_json::<History>(&self.run, &["coins", &self.coin, "market_chart", "range"], &query).await;
        let history = history.map_err(|error| self.name_coin(error))?;
        let (samples, rejects) = hourly(&history.prices, wanted).map_err(|found| {
            let message = format!("coin \"{}\": expected hourly samples, got {} spacing", self.coin, length(found));
            StageError::split(Category::ServerError, message).help("nothing of this answer is stored; if it goes on, CoinGecko has changed its API")
        })?;
        let volume = |sample: &Value| Some((sample.get(0)?.as_i64()?, sample.get(1)?.as_f64().filter(|volume| *volume >= 0.0)?));
        let volumes: HashMap<i64, f64> = history.total_volumes.iter().filter_map(volume).collect();
        let row = |(open, sample): (i64, Sample)| OhlcRow {
            coin_id: self.coin.clone(),
            timestamp: DateTime::from_timestamp_millis(open).unwrap_or_default(),
            open: None,
            high: None,
            low: None,
            close: sample.price,
            volume_24h: volumes.get(&sample.at).copied(),
            source: SAMPLES.to_owned(),
        };
        Ok((samples.into_iter().map(row).collect(), rejects))
    }
}

/// The window to ask for: the ends of the hours with room for jitter, made longer where the answer would not be hourly.
fn asked(from: DateTime<Utc>, to: DateTime<Utc>, now: DateTime<Utc>) -> Stretch {
    let room = TimeDelta::minutes(30);
    // What is older is refused as a whole; the far side's clock may be ahead of ours.
    let oldest = now - TimeDelta::days(365) + TimeDelta::minutes(1);
    let (first, last) = (from + TimeDelta::hours(1) - room, to + room);
    let first = first.min(last - SHORTEST).max(oldest);
    (first, last.max(first + SHORTEST).min(now - TimeDelta::seconds(60)))
}

type Stretch = (DateTime<Utc>, DateTime<Utc>);
/// Samples by the open time of the hour that they end, ascending, and what is none.
type Hours = (BTreeMap<i64, Sample>, Vec<Reject>);

/// A sample for each hour that is wanted by when it opens: the one nearest to its end. Fails with the usual distance when that is no hour.
fn hourly(prices: &[Value], wanted: impl Fn(i64) -> bool) -> Result<Hours, i64> {
    let stamps: BTreeSet<i64> = prices.iter().filter_map(stamp_of).collect();
    let mut distances: Vec<i64> = stamps.iter().zip(stamps.iter().skip(1)).map(|(before, after)| after.saturating_sub(*before)).collect();
    distances.sort_unstable();
    // Half of them are shorter and half longer: holes and jitter do not move it.
    let usual = distances.get(distances.len() / 2).copied().filter(|distance| (*distance - HOUR).abs() > 2 * OFF);
    if let Some(distance) = usual {
        return Err((distance / MINUTE).max(1) * MINUTE);
    }
    let mut hours: BTreeMap<i64, Sample> = BTreeMap::new();
    let mut contradicted = BTreeSet::new();
    let mut rejects = Vec::new();
    for point in prices {
        // The nearest whole hour. The irregular point of now lies near an hour that is not asked for.
        let hour = stamp_of(point).map(|at| at.saturating_add(HOUR / 2).div_euclid(HOUR) * HOUR);
        if hour.is_some_and(|hour| !wanted(hour.saturating_sub(HOUR))) {
            continue;
        }
        let sample = match read_point(point) {
            Ok(sample) => sample,
            Err((rule, message)) => {
                rejects.push(Reject::new(point.clone(), rule, message));
                continue;
            }
        };
        let open = hour.unwrap_or_default().saturating_sub(HOUR);
        let off = |sample: &Sample| (sample.at - open - HOUR).abs();
        match hours.get(&open) {
            Some(other) if other.at == sample.at && other.price != sample.price => {
                contradicted.insert(open);
            }
            Some(other) if off(other) <= off(&sample) => {}
            _ => {
                // What is said twice of a moment further off no longer counts.
                contradicted.remove(&open);
                hours.insert(open, sample);
            }
        }
    }
    // Nothing tells which of them is right.
    for sample in contradicted.iter().filter_map(|open| hours.remove(open)) {
        let told = prices.iter().filter(|point| stamp_of(point) == Some(sample.at));
        rejects.extend(told.map(|point| {
            let message = format!("one answer says different things of the price at {}", shown(sample.at));
            Reject::new(point.clone(), "coingecko:contradiction", message)
        }));
    }
    Ok((hours, rejects))
}

fn stamp_of(point: &Value) -> Option<i64> {
    point.get(0).and_then(Value::as_i64).filter(|at| DateTime::from_timestamp_millis(*at).is_some())
}

fn read_point(point: &Value) -> Result<Sample, (&'static str, String)> {
    let at = stamp_of(point).ok_or_else(|| ("coingecko:row", format!("a sample is a stamp and a price, and this is {}", short(point))))?;
    let price = point.get(1).and_then(Value::as_f64).filter(|price| price.is_finite());
    let price = price.ok_or_else(|| ("coingecko:row", format!("the price at {} is not a number", shown(at))))?;
    if price <= 0.0 {
        return Err(("coingecko:non_positive", format!("the price at {} is not above zero", shown(at))));
    }
    let past = at.rem_euclid(HOUR);
    if past.min(HOUR - past) > OFF {
        return Err(("coingecko:off_grid", format!("the sample of {} is further than 10 minutes from a whole hour", shown(at))));
    }
    Ok(Sample { at, price })
}

fn shown(at: i64) -> String {
    DateTime::from_timestamp_millis(at).map_or_else(|| at.to_string(), rfc3339)
}
