//! Keys that are a series and a time: kept by series and stretch of time, so that the cost follows the rows that arrive.

use std::collections::HashMap;
use std::sync::Arc;

use pipeline_contract::{Category, StageError};
use serde_json::Value;

use super::chunk::Chunk;
use super::keyed::place_id;
use super::known::{Known, PLACES, Stretch};
use super::layout::{Layout, NOWHERE, Place, Rows, Seen};
use super::prepared::Prepared;
use crate::state::{ChunkKey, DedupeChanges, Store};

/// Looked up for every row: the standard library's hash costs several times what this one does.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The name under which the store keeps the width of a chunk, in microseconds.
const WIDTH: &str = "chunk_width_us";

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 3600 * SECOND;

/// The narrowest chunk.
const NARROWEST: i64 = SECOND;
/// The widest chunk. A chunk that is too narrow costs some bytes a row, one that is too wide is written again and again in full; so this is
/// no wider than hourly rows need, although daily ones would fill a wider one.
const WIDEST: i64 = 30 * DAY;
/// The width when the first batch does not tell: right for minutes and hours, bearable for the rest.
const UNKNOWN: i64 = DAY;

/// How many bytes of chunks are kept that no open epoch changed, and that rows came for not long ago.
const CACHE: usize = 128 << 20;

/// For more than the eighth part of these bytes, rows must have come within so many batches: the past of series that go on is not asked for again.
const RECENT: u64 = 200;

/// What a slot takes besides the times.
const OVERHEAD: usize = 160;

/// A loaded chunk.
struct Slot {
    series: u32,
    number: i64,
    within: Stretch,
    known: Known,
    /// Changed in the open epoch.
    changed: bool,
    /// Changed in one before it that is being stored.
    sealed: bool,
    /// The batch that used it last.
    used: u64,
    /// What it counted in `Series::clean`.
    weight: usize,
}

impl Slot {
    /// Does the store hold it as it is?
    fn is_clean(&self) -> bool {
        !self.changed && !self.sealed
    }

    fn weigh(&mut self) -> usize {
        self.weight = self.known.weight() + OVERHEAD;
        self.weight
    }
}

/// Loaded chunks: those of the open epoch, and a cache of others.
pub(super) struct Series {
    /// The width of a chunk; `None` until it is asked for.
    width: Option<i64>,
    width_stored: bool,
    ids: Map<Arc<[u8]>, u32>,
    names: Vec<Arc<[u8]>>,
    /// For each series the slot that it used last.
    recent: Vec<Option<(Stretch, u32)>>,
    index: Map<(u32, i64), u32>,
    slots: Vec<Slot>,
    changed: Vec<u32>,
    sealed: Vec<u32>,
    /// The weight of all slots that are not changed, and how much of it is too much.
    clean: usize,
    cache: usize,
    batch: u64,
    /// The batch at which it was last looked for what is not recent.
    looked_at: u64,
}

impl Default for Series {
    fn default() -> Self {
        Self::with_cache(CACHE)
    }
}

impl Series {
    pub(super) fn with_cache(cache: usize) -> Self {
        Self {
            width: None,
            width_stored: false,
            ids: Map::default(),
            names: Vec::new(),
            recent: Vec::new(),
            index: Map::default(),
            slots: Vec::new(),
            changed: Vec::new(),
            sealed: Vec::new(),
            clean: 0,
            cache,
            batch: 0,
            looked_at: 0,
        }
    }

    fn series_id(&mut self, name: &[u8]) -> Result<u32, StageError> {
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        let id = place_id(self.names.len())?;
        let name: Arc<[u8]> = Arc::from(name);
        self.names.push(name.clone());
        self.recent.push(None);
        self.ids.insert(name, id);
        Ok(id)
    }

    /// The width of a chunk: as stored, or fixed now by what these rows show.
    fn width<I: Iterator<Item = Option<u32>>>(&mut self, series: impl Fn() -> I, times: &[i64], store: &dyn Store) -> Result<i64, StageError> {
        if let Some(width) = self.width {
            return Ok(width);
        }
        let width = match store.dedupe_meta(WIDTH)? {
            Some(stored) => {
                self.width_stored = true;
                stored.as_i64().filter(|width| *width >= NARROWEST).ok_or_else(|| damaged(format!("{WIDTH} is {stored}")))?
            }
            None => {
                self.width_stored = false;
                fitting_width(series(), times)
            }
        };
        self.width = Some(width);
        Ok(width)
    }

    fn load(&self, wanted: &[(u32, i64)], width: i64, store: &dyn Store) -> Result<Vec<Chunk>, StageError> {
        let keys: Vec<ChunkKey> = wanted.iter().map(|(series, number)| self.chunk_key(*series, *number)).collect();
        let stored = store.chunks(&keys)?;
        if stored.len() != keys.len() {
            return Err(StageError::developer(format!("the store answered {} chunks when asked for {}", stored.len(), keys.len())));
        }
        let decoded = stored.into_iter().zip(wanted).map(|(bytes, (_, number))| {
            let Some(bytes) = bytes else { return Ok(Chunk::default()) };
            let chunk = Chunk::decode(&bytes).map_err(|fault| damaged(format!("a chunk of keys cannot be read: {fault}")))?;
            let fits = |time: i64| time.div_euclid(width) == *number;
            match chunk.span() {
                Some((first, last)) if !fits(first) || !fits(last) => Err(damaged("a chunk of keys holds times of another".to_owned())),
                _ => Ok(chunk),
            }
        });
        decoded.collect()
    }

    fn chunk_key(&self, series: u32, number: i64) -> ChunkKey {
        ChunkKey { series: self.names[series as usize].to_vec(), chunk: number }
    }

    /// Drops slots, and series that have none any more.
    fn retain(&mut self, keep: impl Fn(&Slot) -> bool) {
        let names = std::mem::take(&mut self.names);
        let slots = std::mem::take(&mut self.slots);
        self.ids = Map::default();
        self.index = Map::default();
        (self.changed, self.sealed) = (Vec::new(), Vec::new());
        self.recent.clear();
        self.clean = 0;
        for mut slot in slots.into_iter().filter(keep) {
            let name = &names[slot.series as usize];
            // There are no more slots and series than before: their numbers fit.
            let next = self.names.len() as u32;
            slot.series = *self.ids.entry(name.clone()).or_insert(next);
            if slot.series == next {
                self.names.push(name.clone());
                self.recent.push(None);
            }
            let place = self.slots.len() as u32;
            self.index.insert((slot.series, slot.number), place);
            if slot.changed {
                self.changed.push(place);
            }
            if slot.sealed {
                self.sealed.push(place);
            }
            if slot.is_clean() {
                self.clean += slot.weight;
            }
            self.slots.push(slot);
        }
    }

    /// Keeps the cache in its bounds: drops what was not used for long, or for longest, down to the half.
    fn trim(&mut self) {
        let few = self.cache / 8;
        // To look at all of them takes a while, too: not at each batch.
        if self.clean > few && self.batch >= self.looked_at.saturating_add(RECENT / 4) {
            self.looked_at = self.batch;
            let recent = self.batch.saturating_sub(RECENT);
            if self.slots.iter().any(|slot| slot.is_clean() && slot.used < recent) {
                self.retain(|slot| !slot.is_clean() || slot.used >= recent);
            }
        }
        if self.clean <= self.cache {
            return;
        }
        let mut clean: Vec<(u64, usize)> = self.slots.iter().filter(|slot| slot.is_clean()).map(|slot| (slot.used, slot.weight)).collect();
        clean.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = 0;
        let first_dropped = clean.iter().find(|(_, weight)| {
            kept += weight;
            kept > self.cache / 2
        });
        let oldest = first_dropped.map_or(0, |(used, _)| *used);
        self.retain(|slot| !slot.is_clean() || slot.used > oldest);
    }
}

impl Layout for Series {
    fn locate(&mut self, rows: &Rows<'_>, prepared: &Prepared, store: &dyn Store) -> Result<Vec<Place>, StageError> {
        let times = rows.time.ok_or_else(|| StageError::developer("a series has no time"))?.values();
        let ids = prepared.keys().map(|name| self.series_id(name)).collect::<Result<Vec<_>, _>>()?;
        if ids.is_empty() {
            return Ok(vec![NOWHERE; rows.len]);
        }
        let series = || prepared.key_of_rows().iter().map(|of_batch| ids.get(*of_batch as usize).copied());
        let width = self.width(series, times, store)?;
        self.batch += 1;
        let mut places = Vec::with_capacity(rows.len);
        let mut wanted: Vec<(u32, i64)> = Vec::new();
        let mut coming: Map<(u32, i64), u32> = Map::default();
        for (series, time) in series().zip(times) {
            let Some(series) = series else {
                places.push(NOWHERE);
                continue;
            };
            let recent = self.recent.get_mut(series as usize);
            if let Some(Some((within, slot))) = &recent
                && within.holds(*time)
            {
                places.push((*slot, *time));
                continue;
            }
            let chunk = (series, time.div_euclid(width));
            let slot = match self.index.get(&chunk).or_else(|| coming.get(&chunk)) {
                Some(slot) => *slot,
                None => {
                    let slot = place_id(self.slots.len() + wanted.len())?;
                    wanted.push(chunk);
                    coming.insert(chunk, slot);
                    slot
                }
            };
            if let Some(recent) = recent {
                *recent = Some((stretch(chunk.1, width), slot));
            }
            places.push((slot, *time));
        }
        if !wanted.is_empty() {
            let loaded = match self.load(&wanted, width, store) {
                Ok(loaded) => loaded,
                Err(error) => {
                    // What was to come is not there.
                    self.recent.fill(None);
                    return Err(error);
                }
            };
            for ((series, number), chunk) in wanted.into_iter().zip(loaded) {
                let within = stretch(number, width);
                let known = Known::of(chunk, within);
                let mut slot = Slot { series, number, within, known, changed: false, sealed: false, used: self.batch, weight: 0 };
                self.clean += slot.weigh();
                self.slots.push(slot);
            }
            self.index.extend(coming);
        }
        Ok(places)
    }

    #[inline]
    fn put(&mut self, (place, time): Place, print: u64, replace: bool) -> Seen {
        let slot = &mut self.slots[place as usize];
        slot.used = self.batch;
        let seen = slot.known.put(time, print, replace, slot.within);
        if !slot.changed && (seen == Seen::New || (seen == Seen::Other && replace)) {
            self.clean -= if slot.sealed { 0 } else { slot.weight };
            slot.changed = true;
            self.changed.push(place);
        }
        seen
    }

    fn settle(&mut self) {
        self.trim();
    }

    fn to_save(&self) -> usize {
        self.changed.len()
    }

    fn changes(&self) -> DedupeChanges {
        let changed = self.changed.iter().map(|place| &self.slots[*place as usize]);
        let mut chunks: Vec<_> = changed.map(|slot| (self.chunk_key(slot.series, slot.number), slot.known.encode())).collect();
        chunks.sort_unstable();
        let width = self.width.filter(|_| !self.width_stored && !chunks.is_empty());
        let meta = width.map(|width| (WIDTH.to_owned(), Value::from(width))).into_iter().collect();
        DedupeChanges { chunks, keyed: Vec::new(), meta }
    }

    fn seal(&mut self) {
        self.sealed = std::mem::take(&mut self.changed);
        for place in &self.sealed {
            let slot = &mut self.slots[*place as usize];
            (slot.changed, slot.sealed) = (false, true);
        }
    }

    fn committed(&mut self) {
        self.width_stored |= !self.sealed.is_empty();
        for place in std::mem::take(&mut self.sealed) {
            let slot = &mut self.slots[place as usize];
            slot.sealed = false;
            if !slot.changed {
                self.clean += slot.weigh();
            }
        }
        self.trim();
    }

    fn abort(&mut self) {
        if self.width_stored {
            self.retain(Slot::is_clean);
        } else {
            // Chunks of another width are other chunks; and it may have been stored after all.
            self.width = None;
            self.retain(|_| false);
        }
    }
}

/// Where the times of a chunk lie.
fn stretch(number: i64, width: i64) -> Stretch {
    Stretch { start: number.saturating_mul(width), width }
}

/// The width that suits the distances between the times of one series: of the closest tenth, the widest.
fn fitting_width(series: impl Iterator<Item = Option<u32>>, times: &[i64]) -> i64 {
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
    i64::try_from(*distance).unwrap_or(i64::MAX).saturating_mul(PLACES as i64).clamp(NARROWEST, WIDEST)
}

pub(super) fn damaged(what: String) -> StageError {
    StageError::operator(Category::Storage, format!("the state's dedupe keys are damaged: {what}"))
        .help("`pipeline state rebuild` makes them anew from what is stored")
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
