//! How wide the chunks of a pipeline are: fixed when its first rows come.

use pipeline_contract::StageError;

use super::series::damaged;
use crate::state::Store;

/// The name under which the store keeps the width of a chunk, in microseconds.
pub(super) const WIDTH: &str = "chunk_width_us";

/// How many times a chunk of a regular series holds. Adding a row writes its chunk again: 512 are at most 5 KB.
const TIMES: i64 = 512;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 3600 * SECOND;

/// The narrowest chunk.
const NARROWEST: i64 = SECOND;
/// The widest chunk. A chunk that is too narrow costs some bytes a row, one that is too wide is written again and again in full; so this is
/// no wider than hourly rows need, although daily ones would fill a wider one.
const WIDEST: i64 = 30 * DAY;
/// The width when the first batch does not tell: right for minutes and hours, bearable for the rest.
const UNKNOWN: i64 = DAY;

/// The width that the store has, in microseconds; `None` while nothing is stored.
///
/// # Errors
/// `storage` when it is no width, or the store cannot be read.
pub(super) fn stored_width(store: &dyn Store) -> Result<Option<i64>, StageError> {
    let Some(stored) = store.dedupe_meta(WIDTH)? else { return Ok(None) };
    stored.as_i64().filter(|width| *width >= NARROWEST).map(Some).ok_or_else(|| damaged(format!("{WIDTH} is {stored}")))
}

/// The width that suits the distances between the times of one series: of the closest tenth, the widest.
pub(super) fn fitting_width(series: impl Iterator<Item = Option<u32>>, times: &[i64]) -> i64 {
    let mut keys: Vec<(u32, i64)> = series.zip(times).filter_map(|(series, time)| Some((series?, *time))).collect();
    keys.sort_unstable();
    keys.dedup();
    let pairs = keys.array_windows().filter(|[(a, _), (b, _)]| a == b);
    let mut distances: Vec<u64> = pairs.map(|[(_, a), (_, b)]| b.abs_diff(*a)).collect();
    if distances.is_empty() {
        return UNKNOWN;
    }
    let tenth = distances.len() / 10;
    let (_, distance, _) = distances.select_nth_unstable(tenth);
    i64::try_from(*distance).unwrap_or(i64::MAX).saturating_mul(TIMES).clamp(NARROWEST, WIDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * SECOND;

    #[test]
    fn the_width_follows_the_times_of_one_series() {
        let one = |times: &[i64]| fitting_width(times.iter().map(|_| Some(0)), times);
        assert_eq!(one(&[]), UNKNOWN);
        assert_eq!(one(&[5]), UNKNOWN);
        assert_eq!(one(&[5, 5]), UNKNOWN);
        assert_eq!(one(&[0, HOUR, 2 * HOUR]), 512 * HOUR);
        assert_eq!(one(&[2 * HOUR, 0, HOUR]), 512 * HOUR);
        assert_eq!(one(&[0, DAY, 2 * DAY]), WIDEST);
        assert_eq!(one(&[0, 1, 2]), NARROWEST);
        assert_eq!(one(&[i64::MIN, i64::MAX]), WIDEST);
        assert_eq!(fitting_width([Some(0), Some(1), None].into_iter(), &[0, HOUR, 2 * HOUR]), UNKNOWN);
        assert_eq!(fitting_width([Some(0), Some(1), Some(0), Some(1)].into_iter(), &[0, 7, HOUR, HOUR + 7]), 512 * HOUR);
        let mut glitch: Vec<i64> = (0..100).map(|hour| hour * HOUR).collect();
        glitch.push(HOUR + 1);
        assert_eq!(one(&glitch), 512 * HOUR);
    }
}
