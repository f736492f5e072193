//! The hours that must be stored, computed from the bodies that were served and from nothing of the product.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::coins::{HALF_HOUR, HOUR, MINUTE};

/// One stored hour. Figures are compared bit by bit.
#[derive(Clone, Copy)]
pub struct Hour {
    /// When it opened, in milliseconds since 1970.
    pub open_time: i64,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    pub volume: Option<f64>,
}

impl Hour {
    fn bits(&self) -> (i64, [u64; 4], Option<u64>) {
        (self.open_time, [self.open, self.high, self.low, self.close].map(f64::to_bits), self.volume.map(f64::to_bits))
    }
}

impl PartialEq for Hour {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}

impl fmt::Debug for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = chrono::DateTime::from_timestamp_millis(self.open_time).unwrap();
        write!(f, "{} {:?} {:?} {:?} {:?} {:?}", at.format("%m-%dT%H:%M"), self.open, self.high, self.low, self.close, self.volume)
    }
}

/// The whole hours of a body of half-hour rows: both halves there, both closed at `now`. `chart` gives the volume.
pub fn hours(ohlc: &[Value], chart: Option<&Value>, now: i64) -> Vec<Hour> {
    let mut halves: BTreeMap<i64, [f64; 4]> = BTreeMap::new();
    for row in ohlc {
        let stamp = row[0].as_i64().unwrap();
        if stamp % HALF_HOUR == 0 && stamp <= now {
            halves.insert(stamp - HALF_HOUR, [1, 2, 3, 4].map(|place| row[place].as_f64().unwrap()));
        }
    }
    let mut hours = Vec::new();
    for (opened, first) in &halves {
        if opened.rem_euclid(HOUR) != 0 {
            continue;
        }
        let Some(second) = halves.get(&(opened + HALF_HOUR)) else { continue };
        hours.push(Hour {
            open_time: *opened,
            open: first[0],
            high: if first[1] > second[1] { first[1] } else { second[1] },
            low: if first[2] < second[2] { first[2] } else { second[2] },
            close: second[3],
            volume: chart.and_then(|chart| volume_at(chart, opened + HOUR)),
        });
    }
    hours
}

/// The last sample at or before `close`, at most ten minutes old.
fn volume_at(chart: &Value, close: i64) -> Option<f64> {
    let samples = chart["total_volumes"].as_array().unwrap().iter().map(|sample| (sample[0].as_i64().unwrap(), sample[1].as_f64()));
    let (at, value) = samples.filter(|(at, _)| *at <= close).max_by_key(|(at, _)| *at)?;
    if close - at <= 10 * MINUTE { value } else { None }
}

/// Both, in order of time, each hour once; what comes later goes first.
pub fn union(earlier: &[Hour], later: &[Hour]) -> Vec<Hour> {
    let by_time: BTreeMap<i64, Hour> = earlier.iter().chain(later).map(|hour| (hour.open_time, *hour)).collect();
    by_time.into_values().collect()
}

/// Fails with the first difference in words.
#[track_caller]
pub fn assert_same_hours(what: &str, stored: &[Hour], expected: &[Hour]) {
    for (place, (stored, expected)) in stored.iter().zip(expected).enumerate() {
        assert!(stored == expected, "{what}: row {place} differs\n  stored   {stored:?}\n  expected {expected:?}");
    }
    let edge = |hours: &[Hour]| format!("{} hours, from {:?} to {:?}", hours.len(), hours.first(), hours.last());
    assert_eq!(stored.len(), expected.len(), "{what}:\n  stored   {}\n  expected {}", edge(stored), edge(expected));
}
