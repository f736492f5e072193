//! From a body of `/coins/{id}/ohlc` to candles. No I/O.
//!
//! A row is `[ms, open, high, low, close]`, and its stamp is the candle's **close**.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::DateTime;
use pipeline_contract::{Reject, rfc3339};
use serde_json::Value;

use crate::errors::short;

pub(super) const MINUTE: i64 = 60_000;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// A candle; times in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candle {
    pub(super) open_time: i64,
    pub(super) close_time: i64,
    pub(super) open: f64,
    pub(super) high: f64,
    pub(super) low: f64,
    pub(super) close: f64,
}

/// What a body holds.
#[derive(Debug, PartialEq)]
pub(super) struct Digest {
    /// Sound, finished candles, ascending, one for each stamp.
    pub(super) candles: Vec<Candle>,
    /// Every other row that was wanted, in the order of the body.
    pub(super) rejects: Vec<Reject>,
}

/// The body's candles are of another length than was asked for: the usual distance of its stamps.
#[derive(Debug, PartialEq)]
pub(super) struct WrongSpacing(pub(super) i64);

/// Reads a body whose candles should be `size` long. With `grid`, stamps are whole multiples of `size`. `wanted` tells by a candle's open
/// time whether it is asked for; what is not is left out, as is a candle that is not finished at `now`.
pub(super) fn digest(rows: &[Value], size: i64, grid: bool, now: i64, wanted: impl Fn(i64) -> bool) -> Result<Digest, WrongSpacing> {
    let unfinished = unfinished_tail(rows, size, grid, now);
    let going_on = |stamp: i64| stamp > now && stamp <= soon(size, now);
    let passed_over = |stamp: i64| going_on(stamp) || unfinished == Some(stamp) || !wanted(stamp.saturating_sub(size));
    check_spacing(rows, size, grid, unfinished)?;

    let mut rejects: Vec<(usize, Reject)> = Vec::new();
    let mut by_stamp: BTreeMap<i64, Vec<(usize, Candle)>> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate() {
        if stamp_of(row).is_some_and(passed_over) {
            continue;
        }
        match read_row(row, size, grid, now) {
            Ok(candle) => by_stamp.entry(candle.close_time).or_default().push((place, candle)),
            Err((rule, message)) => rejects.push((place, Reject::new(row.clone(), rule, message))),
        }
    }
    let mut candles = Vec::with_capacity(by_stamp.len());
    for (stamp, same) in by_stamp {
        match same.as_slice() {
            [(_, first), rest @ ..] if rest.iter().all(|(_, other)| other == first) => candles.push(*first),
            // Nothing tells which of them is right.
            _ => rejects.extend(same.iter().filter_map(|(place, _)| {
                let message = format!("{} rows of one answer say different things of the candle that closed at {}", same.len(), shown(stamp));
                Some((*place, Reject::new(rows.get(*place)?.clone(), "coingecko:contradiction", message)))
            })),
        }
    }
    rejects.sort_by_key(|(place, _)| *place);
    Ok(Digest { candles, rejects: rejects.into_iter().map(|(_, reject)| reject).collect() })
}

/// Candles of `size` from the shorter ones in them, ascending: those of which every part is there.
pub(super) fn whole(parts: &[Candle], size: i64) -> Vec<Candle> {
    let mut all = Vec::new();
    let mut begun: Option<Candle> = None;
    for part in parts {
        let so_far = match begun.take() {
            Some(so_far) if so_far.close_time == part.open_time => {
                Candle { close_time: part.close_time, high: so_far.high.max(part.high), low: so_far.low.min(part.low), close: part.close, ..so_far }
            }
            _ if part.open_time.rem_euclid(size) == 0 => *part,
            _ => continue,
        };
        if so_far.close_time - so_far.open_time == size { all.push(so_far) } else { begun = Some(so_far) }
    }
    all
}

/// A length of time in messages: `30-minute`, `4-hour`, `4-day`.
pub(super) fn length(ms: i64) -> String {
    match ms {
        ms if ms % DAY == 0 => format!("{}-day", ms / DAY),
        ms if ms % HOUR == 0 => format!("{}-hour", ms / HOUR),
        ms if ms % MINUTE == 0 => format!("{}-minute", ms / MINUTE),
        ms => format!("{}-second", ms / 1000),
    }
}

/// No unfinished candle closes later than this, even by a clock that is hours slow. Stamps in another unit would, and must not be lost
/// without a word.
fn soon(size: i64, now: i64) -> i64 {
    now.saturating_add(size.max(DAY))
}

fn stamp_of(row: &Value) -> Option<i64> {
    row.get(0).and_then(Value::as_i64)
}

/// The newest row, when it is a candle that goes on: its stamp is the moment at which it was cut, not one at which candles close.
fn unfinished_tail(rows: &[Value], size: i64, grid: bool, now: i64) -> Option<i64> {
    let stamps: BTreeSet<i64> = rows.iter().filter_map(stamp_of).filter(|stamp| *stamp <= now).collect();
    let mut newest_first = stamps.iter().rev();
    let newest = newest_first.next()?;
    let between = if grid { *newest % size != 0 } else { newest_first.next().is_some_and(|before| newest.saturating_sub(*before) < size) };
    (between && now.saturating_sub(*newest) < size).then_some(*newest)
}

/// The usual distance of the stamps must be `size`. Gaps are fine; another length of candle would be stored as something it is not.
fn check_spacing(rows: &[Value], size: i64, grid: bool, unfinished: Option<i64>) -> Result<(), WrongSpacing> {
    /// The shortest candles there are. What is off this grid is rejected row by row.
    const FINEST: i64 = 30 * MINUTE;
    /// All that CoinGecko has.
    const LENGTHS: [i64; 5] = [FINEST, HOUR, 4 * HOUR, DAY, 4 * DAY];
    let stamps = rows.iter().filter_map(stamp_of).filter(|stamp| Some(*stamp) != unfinished && (!grid || stamp % FINEST == 0));
    let stamps: Vec<i64> = stamps.collect::<BTreeSet<_>>().into_iter().collect();
    let mut counts: HashMap<i64, usize> = HashMap::new();
    for (before, after) in stamps.iter().zip(stamps.iter().skip(1)) {
        *counts.entry(after.saturating_sub(*before)).or_default() += 1;
    }
    let pairs = counts.values().sum::<usize>();
    // Of two that are as usual the shorter one: a gap makes distances longer, never shorter.
    let usual = counts.into_iter().max_by_key(|(distance, count)| (*count, std::cmp::Reverse(*distance)));
    match usual {
        // One distance alone is usual only where there are candles of that length.
        Some((distance, _)) if pairs == 1 && distance > size && !LENGTHS.contains(&distance) => Ok(()),
        Some((distance, _)) if distance != size => Err(WrongSpacing(distance)),
        _ => Ok(()),
    }
}

fn read_row(row: &Value, size: i64, grid: bool, now: i64) -> Result<Candle, (&'static str, String)> {
    let malformed = |message: &str| ("coingecko:row", message.to_owned());
    let Value::Array(cells) = row else { return Err(malformed("a candle must be an array of five numbers")) };
    let [_, _, _, _, _] = cells.as_slice() else {
        return Err(("coingecko:row", format!("a candle has five numbers, and this row has {}", cells.len())));
    };
    let stamp = stamp_of(row).ok_or_else(|| malformed("the stamp is not a whole number of milliseconds"))?;
    if DateTime::from_timestamp_millis(stamp).is_none() || stamp < size {
        return Err(malformed("the stamp is no date"));
    }
    if stamp > soon(size, now) {
        return Err(malformed("the stamp lies too far in the future to be that of a candle which goes on"));
    }
    let mut prices = [0.0; 4];
    for ((price, cell), name) in prices.iter_mut().zip(cells.iter().skip(1)).zip(["open", "high", "low", "close"]) {
        *price = match cell {
            Value::Number(number) => number.as_f64().filter(|price| price.is_finite()),
            _ => None,
        }
        .ok_or_else(|| ("coingecko:row", format!("{name} is not a number: {}", short(cell))))?;
    }
    let [open, high, low, close] = prices;
    if grid && stamp % size != 0 {
        return Err(("coingecko:off_grid", format!("{} candles do not close at {}", length(size), shown(stamp))));
    }
    if prices.iter().any(|price| *price <= 0.0) {
        return Err(("coingecko:non_positive", format!("a price of the candle that closed at {} is not above zero", shown(stamp))));
    }
    if low > open.min(close) || high < open.max(close) {
        let message = format!("open or close lies outside of low and high in the candle that closed at {}", shown(stamp));
        return Err(("coingecko:price_envelope", message));
    }
    Ok(Candle { open_time: stamp - size, close_time: stamp, open, high, low, close })
}

fn shown(stamp: i64) -> String {
    DateTime::from_timestamp_millis(stamp).map_or_else(|| stamp.to_string(), rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(n: i64) -> Candle {
        let price = n as f64;
        Candle { open_time: n * HOUR, close_time: (n + 1) * HOUR, open: price, high: price + 2.0, low: price - 2.0, close: price + 1.0 }
    }

    #[test]
    fn a_longer_candle_is_made_where_every_part_is_there() {
        let made = |hours: &[i64]| whole(&hours.iter().map(|n| hour(*n)).collect::<Vec<_>>(), 4 * HOUR);
        let of = |n: i64| Candle { close_time: (n + 4) * HOUR, high: n as f64 + 5.0, close: n as f64 + 4.0, ..hour(n) };
        assert_eq!(made(&[4, 5, 6, 7, 8, 9, 10, 11]), [of(4), of(8)]);
        assert_eq!(made(&[5, 6, 7, 8, 9, 10, 11, 12]), [of(8)], "the parts before the grid and after the last whole one");
        assert_eq!(made(&[4, 5, 7, 8, 9, 10, 11]), [of(8)], "one is missing");
        assert_eq!(made(&[4, 5, 6, 8, 9, 10]), []);
    }
}
