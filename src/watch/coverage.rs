//! What is stored of each series, and what is missing in it.
//!
//! A **gap** lies between two stored rows of one series that are further apart than a step: what is missing after the newest row is its age,
//! and a series that ended has no gap that grows for ever. Rows need not sit on a grid: two rows lack as many others as steps fit between
//! them, to the nearest, less one; so rows that come some seconds early or late make no gap.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pipeline_contract::{Gap, StageError, instant};
use serde_json::{Map, Value};

use super::Expected;
use crate::stages::dedupe;
use crate::state::{ChunkKey, Store};

/// So many gaps are told, the newest: nobody reads more, and no source is asked for more in one run.
const MOST: usize = 10_000;

/// What is found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The time of the newest stored row.
    pub newest: Option<DateTime<Utc>>,
    /// What is missing, by time; `None` when nobody said how far apart rows should be.
    pub gaps: Option<Vec<Gap>>,
}

/// Two neighbours that are too far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    /// A step before the first missing row, in microseconds: the row before, if it sits where rows should.
    base: i64,
    /// The row behind.
    before: i64,
    /// How many rows are missing between them.
    missing: u64,
}

/// A stretch of a series: a chunk of keys, or the whole of it.
#[derive(Clone, Debug)]
struct Piece {
    first: i64,
    last: i64,
    holes: Box<[Hole]>,
}

/// What is stored, chunk by chunk, without the rows: it is loaded once, and then told which chunks changed.
#[derive(Clone, Debug)]
pub struct Coverage {
    expected: Expected,
    step: Option<i64>,
    /// Sorted; a list, which takes half the memory of a tree: it is kept for as long as the process lives.
    pieces: Vec<(ChunkKey, Piece)>,
}

impl Coverage {
    /// Nothing is stored yet.
    pub fn new(expected: &Expected) -> Self {
        let step = expected.step.and_then(|step| i64::try_from(step.as_micros()).ok()).filter(|step| *step > 0);
        Self { expected: expected.clone(), step, pieces: Vec::new() }
    }

    /// Reads what dedupe holds. Costs some milliseconds for a million rows.
    ///
    /// # Errors
    /// `storage` when the state cannot be read.
    pub fn load(&mut self, store: &dyn Store) -> Result<(), StageError> {
        let mut pieces = Vec::new();
        // The log first: what it holds may be moved into chunks meanwhile.
        let mut logged = dedupe::logged_times(store)?;
        let sorted = |mut times: Vec<i64>| {
            times.sort_unstable();
            times.dedup();
            self.piece(&times)
        };
        store.each_chunk(&mut |key, data| {
            let times = dedupe::times(data)?;
            let piece = match logged.remove(&key) {
                Some(more) => sorted([times, more].concat()),
                None => self.piece(&times),
            };
            pieces.extend(piece.map(|piece| (key, piece)));
            Ok(())
        })?;
        pieces.extend(logged.into_iter().filter_map(|(key, times)| Some((key, sorted(times)?))));
        pieces.sort_by(|(a, _), (b, _)| a.cmp(b));
        pieces.shrink_to_fit();
        self.pieces = pieces;
        Ok(())
    }

    /// Reads again those chunks of what dedupe holds.
    ///
    /// # Errors
    /// `storage` when the state cannot be read.
    pub fn touch(&mut self, store: &dyn Store, changed: &[ChunkKey]) -> Result<(), StageError> {
        let mut new = Vec::new();
        for (key, data) in changed.iter().zip(store.chunks(changed)?) {
            let piece = data.map(|data| dedupe::times(&data)).transpose()?.and_then(|times| self.piece(&times));
            match (self.pieces.binary_search_by(|(held, _)| held.cmp(key)), piece) {
                (Ok(at), Some(piece)) => self.pieces[at].1 = piece,
                (Ok(at), None) => drop(self.pieces.remove(at)),
                (Err(_), piece) => new.extend(piece.map(|piece| (key.clone(), piece))),
            }
        }
        if !new.is_empty() {
            self.pieces.reserve_exact(new.len());
            self.pieces.append(&mut new);
            // Two sorted lists, which a stable sort merges.
            self.pieces.sort_by(|(a, _), (b, _)| a.cmp(b));
            self.pieces.dedup_by(|(a, _), (b, _)| a == b);
        }
        Ok(())
    }

    /// The times of one series, sorted.
    fn piece(&self, times: &[i64]) -> Option<Piece> {
        let (first, last) = (*times.first()?, *times.last()?);
        let holes = times.array_windows().filter_map(|[after, before]| self.hole(*after, *before)).collect();
        Some(Piece { first, last, holes })
    }

    fn hole(&self, after: i64, before: i64) -> Option<Hole> {
        let step = u64::try_from(self.step?).ok()?;
        let missing = (before.abs_diff(after).saturating_add(step / 2) / step).checked_sub(1).filter(|missing| *missing > 0)?;
        let step = self.step?;
        // A stray row must not shift what is asked for: whole steps since 1970 are where rows usually sit.
        let backwards = || before.checked_sub(i64::try_from(missing).ok()?.checked_add(1)?.checked_mul(step)?);
        let base = if after.rem_euclid(step) != 0 && before.rem_euclid(step) == 0 { backwards().unwrap_or(after) } else { after };
        Some(Hole { base, before, missing })
    }

    /// What there is, and what is missing.
    ///
    /// # Errors
    /// `storage` when the state has a series that it cannot name.
    pub fn found(&self) -> Result<Found, StageError> {
        let newest = self.pieces.iter().map(|(_, piece)| piece.last).max().and_then(instant);
        if self.step.is_none() {
            return Ok(Found { newest, gaps: None });
        }
        let mut gaps = Vec::new();
        let mut before: Option<(&ChunkKey, i64)> = None;
        let mut named: Option<(&[u8], Map<String, Value>)> = None;
        for (key, piece) in &self.pieces {
            let across = before.filter(|(other, _)| other.series == key.series).and_then(|(_, last)| self.hole(last, piece.first));
            for hole in across.iter().chain(&piece.holes) {
                let series = match &named {
                    Some((bytes, series)) if *bytes == key.series.as_slice() => series,
                    _ => &named.insert((&key.series, dedupe::series(&key.series, &self.expected.series)?)).1,
                };
                self.cut(*hole, series, &mut gaps);
            }
            before = Some((key, piece.last));
        }
        Ok(Found { newest, gaps: Some(newest_first_of(gaps)) })
    }

    /// As [`Coverage::found`], of rows that were read back: times in microseconds by series, in any order.
    pub fn found_in(&self, rows: Vec<(Map<String, Value>, Vec<i64>)>) -> Found {
        let newest = rows.iter().flat_map(|(_, times)| times).max().copied().and_then(instant);
        if self.step.is_none() {
            return Found { newest, gaps: None };
        }
        let mut gaps = Vec::new();
        for (series, mut times) in rows {
            times.sort_unstable();
            for hole in self.piece(&times).into_iter().flat_map(|piece| piece.holes) {
                self.cut(hole, &series, &mut gaps);
            }
        }
        Found { newest, gaps: Some(newest_first_of(gaps)) }
    }

    /// What of a hole counts: not what lies before `since`, nor what is accepted.
    fn cut(&self, hole: Hole, series: &Map<String, Value>, gaps: &mut Vec<Gap>) {
        let Some(step) = self.step else { return };
        // The number of the first missing row at or after an instant.
        let number = |at: DateTime<Utc>| {
            let distance = i128::from(at.timestamp_micros()) - i128::from(hole.base);
            u64::try_from(distance.div_euclid(i128::from(step)) + i128::from(distance.rem_euclid(i128::from(step)) > 0)).unwrap_or(0)
        };
        // Half-open ranges of numbers, from 1 to `missing`.
        let mut left = vec![(1, hole.missing + 1)];
        let mut without = |from: u64, to: u64| {
            let parts = left.drain(..).flat_map(|(a, b)| [(a, b.min(from)), (a.max(to), b)]);
            left = parts.filter(|(a, b)| a < b).collect();
        };
        if let Some(since) = self.expected.since {
            without(0, number(since));
        }
        for accepted in self.expected.accept.iter().filter(|accepted| accepted.holds(series)) {
            without(number(accepted.from), number(accepted.to));
        }
        let time = |number: u64| i64::try_from(number).ok().and_then(|n| hole.base.checked_add(n.checked_mul(step)?)).and_then(instant);
        gaps.extend(left.into_iter().filter_map(|(a, b)| {
            let to = if b == hole.missing + 1 { instant(hole.before) } else { time(b) };
            Some(Gap { series: series.clone(), from: time(a)?, to: to?, missing: b - a })
        }));
        if gaps.len() > 4 * MOST {
            gaps.sort_unstable_by_key(|gap| std::cmp::Reverse(gap.from));
            gaps.truncate(MOST);
        }
    }
}

/// By time, of too many the newest.
fn newest_first_of(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_by_key(|gap| gap.from);
    gaps.split_off(gaps.len().saturating_sub(MOST))
}

/// A hole that nobody can fill, and that everybody knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The first instant in it.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub to: DateTime<Utc>,
    /// Which series, by columns as text; all when there is none.
    pub series: BTreeMap<String, String>,
}

impl Accepted {
    fn holds(&self, series: &Map<String, Value>) -> bool {
        self.series.iter().all(|(name, wanted)| match series.get(name) {
            Some(Value::String(text)) => text == wanted,
            Some(value) => serde_json::to_string(value).is_ok_and(|text| text == *wanted),
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn coverage(step_hours: u64) -> Coverage {
        Coverage::new(&Expected { step: Some(Duration::from_secs(step_hours * 3600)), series: vec!["coin_id".to_owned()], ..Expected::default() })
    }

    fn bitcoin() -> Map<String, Value> {
        Map::from_iter([("coin_id".to_owned(), "bitcoin".into())])
    }

    fn gaps(coverage: &Coverage, times: &[i64]) -> Vec<(i64, i64, u64)> {
        let found = coverage.found_in(vec![(bitcoin(), times.to_vec())]);
        found.gaps.unwrap().iter().map(|gap| (gap.from.timestamp_micros() / HOUR, gap.to.timestamp_micros() / HOUR, gap.missing)).collect()
    }

    fn hours(hours: &[i64]) -> Vec<i64> {
        hours.iter().map(|hour| hour * HOUR).collect()
    }

    #[test]
    fn a_gap_lies_between_two_rows_of_one_series() {
        let hourly = coverage(1);
        assert_eq!(gaps(&hourly, &[]), []);
        assert_eq!(gaps(&hourly, &hours(&[5])), []);
        assert_eq!(gaps(&hourly, &hours(&[5, 6, 7])), []);
        assert_eq!(gaps(&hourly, &hours(&[9, 5, 6])), [(7, 9, 2)]);
        assert_eq!(gaps(&hourly, &hours(&[1, 3, 4, 10])), [(2, 3, 1), (5, 10, 5)]);
        let other = Map::from_iter([("coin_id".to_owned(), "ethereum".into())]);
        let two = hourly.found_in(vec![(bitcoin(), hours(&[1, 2])), (other, hours(&[5, 6]))]);
        assert_eq!((two.gaps, two.newest), (Some(Vec::new()), instant(6 * HOUR)));
    }

    #[test]
    fn rows_that_come_early_or_late_make_no_gap() {
        let hourly = coverage(1);
        let second = 1_000_000;
        assert_eq!(gaps(&hourly, &[0, HOUR + 20 * second, 2 * HOUR - 20 * second, 3 * HOUR + 1]), []);
        assert_eq!(gaps(&hourly, &[0, 2 * HOUR + 20 * second]), [(1, 2, 1)]);
        // An extra row between two others is no reason to ask for one, and does not shift the place of a missing one.
        assert_eq!(gaps(&hourly, &[0, HOUR / 2, HOUR, 2 * HOUR]), []);
        let found = hourly.found_in(vec![(bitcoin(), vec![0, HOUR / 3, 3 * HOUR])]).gaps.unwrap();
        assert_eq!(
            found.iter().map(|gap| (gap.from, gap.to, gap.missing)).collect::<Vec<_>>(),
            [(instant(HOUR).unwrap(), instant(3 * HOUR).unwrap(), 2)]
        );
    }

    #[test]
    fn what_lies_before_since_or_is_accepted_does_not_count() {
        let at = |hour: i64| instant(hour * HOUR).unwrap();
        let mut hourly = coverage(1);
        hourly.expected.since = Some(at(4));
        assert_eq!(gaps(&hourly, &hours(&[0, 10])), [(4, 10, 6)]);
        let all = BTreeMap::new();
        hourly.expected.accept = vec![Accepted { from: at(6), to: at(8), series: all.clone() }];
        assert_eq!(gaps(&hourly, &hours(&[0, 10])), [(4, 6, 2), (8, 10, 2)]);
        hourly.expected.accept.push(Accepted { from: at(8), to: at(99), series: all });
        assert_eq!(gaps(&hourly, &hours(&[0, 10])), [(4, 6, 2)]);
        let of = |coin: &str| BTreeMap::from([("coin_id".to_owned(), coin.to_owned())]);
        hourly.expected.accept = vec![Accepted { from: at(0), to: at(99), series: of("ethereum") }];
        assert_eq!(gaps(&hourly, &hours(&[0, 10])), [(4, 10, 6)]);
        hourly.expected.accept = vec![Accepted { from: at(0), to: at(99), series: of("bitcoin") }];
        assert_eq!(gaps(&hourly, &hours(&[0, 10])), []);
        hourly.expected.since = Some(DateTime::<Utc>::MAX_UTC);
        assert_eq!(gaps(&hourly, &[i64::MIN / 2, i64::MAX / 2]), []);
    }

    proptest! {
        // Against a naive model: which hours of the grid between two rows are not there.
        #[test]
        fn on_a_grid_the_missing_rows_are_those_that_are_not_there(rows in prop::collection::btree_set(0..200_i64, 0..60), since in 0..200_i64, from in 0..200_i64, length in 0..50_i64) {
            let mut hourly = coverage(1);
            hourly.expected.since = instant(since * HOUR - HOUR / 3);
            let accepted = (from, from + length);
            hourly.expected.accept = vec![Accepted { from: instant(accepted.0 * HOUR).unwrap(), to: instant(accepted.1 * HOUR).unwrap(), series: BTreeMap::new() }];
            let times: Vec<i64> = rows.iter().copied().collect();
            let missing: Vec<i64> = match (times.first(), times.last()) {
                (Some(first), Some(last)) => (*first..*last).filter(|hour| !rows.contains(hour) && *hour >= since && !(accepted.0..accepted.1).contains(hour)).collect(),
                _ => Vec::new(),
            };
            let found = gaps(&hourly, &hours(&times));
            let told: Vec<i64> = found.iter().flat_map(|(from, _, missing)| (0..i64::try_from(*missing).unwrap()).map(move |n| from + n)).collect();
            prop_assert_eq!(told, missing);
            prop_assert!(found.iter().all(|(from, to, missing)| to - from == i64::try_from(*missing).unwrap()));
        }

        #[test]
        fn any_times_and_steps_are_taken(times in prop::collection::vec(any::<i64>(), 0..20), step in any::<u64>(), since in any::<i64>()) {
            let mut any = Coverage::new(&Expected { step: Some(Duration::from_micros(step)), ..Expected::default() });
            any.expected.since = instant(since);
            let _ = any.found_in(vec![(Map::new(), times)]);
        }
    }
}
