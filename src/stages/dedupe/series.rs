//! Keys that are a series and a time: kept by series and stretch of time, so that the cost follows the rows that arrive.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pipeline_contract::{Category, StageError};
use serde_json::Value;

use super::chunk::Chunk;
use super::keyed::place_id;
use super::known::{Known, Stretch};
use super::layout::{Layout, NOWHERE, Place, Rows, Seen};
use super::log;
use super::names::Names;
use super::prepared::Prepared;
use super::slot::{self, Slot};
use super::width::{WIDTH, fitting_width, stored_width};
use crate::state::{ChunkKey, DedupeChanges, Store};

/// Looked up for every row: the standard library's hash costs several times what this one does.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// How many bytes of chunks are kept that no open epoch changed, and that rows came for not long ago. (Few in the engine's own tests, in which a
/// log is soon too large.)
const CACHE: usize = if cfg!(test) { 8 << 10 } else { 128 << 20 };

/// For more than the eighth part of these bytes, rows must have come within so many batches: the past of series that go on is not asked for again.
const RECENT: u32 = 200;

/// Rows are scattered when an epoch would save more than one chunk for so many of its keys ...
const SCATTERED: usize = 32;

/// ... and worth a part of the log when there are as many. (What is tested by the engine's own tests goes by the log much sooner.)
const FEW: usize = if cfg!(test) { 4 } else { 5_000 };

/// So many keys tell whether those of an epoch are scattered: twice as many for each chunk, and no more are listed for the log.
const ENOUGH: usize = if cfg!(test) { 64 } else { 1 << 16 };

/// The keys of an epoch are not listed for the log beyond this, where there is none yet: it is no epoch then, but all that somebody has.
const MANY: usize = 4 << 20;

/// What is known of the log.
#[derive(Default)]
struct Log {
    /// The chunks in memory have what it holds.
    read: bool,
    /// How many rows it holds, or will when what is sealed is stored.
    rows: usize,
    /// How many series it has numbered, or will have.
    names: u32,
    /// Those that the open epoch is the first to name, in the order of their numbers.
    new: Vec<u32>,
    /// What the open epoch is to be stored as was said to be a part of it ...
    adding: bool,
    /// ... and so it was of what is sealed.
    added: bool,
}

/// A number that no series has in the log.
const UNNUMBERED: u32 = u32::MAX;

/// A number that no slot has.
const NO_SLOT: u32 = u32::MAX;

/// Loaded chunks: those of the open epoch and of the log, and a cache of others.
pub(super) struct Series {
    /// The width of a chunk; `None` until it is asked for.
    width: Option<i64>,
    width_stored: bool,
    ids: Names,
    names: Vec<Arc<[u8]>>,
    /// For each series its number in the log.
    numbers: Vec<u32>,
    /// For each series the slot that it used last.
    recent: Vec<u32>,
    index: Map<(u32, i64), u32>,
    slots: Vec<Slot>,
    changed: Vec<u32>,
    sealed: Vec<u32>,
    logged: Vec<u32>,
    log: Log,
    /// What the open epoch adds, in order; `None` when that is too much to list.
    added: Option<Vec<log::Row>>,
    /// The weight of all slots that are not changed, and how much of it is too much.
    clean: usize,
    cache: usize,
    /// The weight of those that are in memory because of the log.
    pinned: usize,
    batch: u32,
    /// The batch at which it was last looked for what is not recent.
    looked_at: u32,
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
            ids: Names::default(),
            names: Vec::new(),
            numbers: Vec::new(),
            recent: Vec::new(),
            index: Map::default(),
            slots: Vec::new(),
            changed: Vec::new(),
            sealed: Vec::new(),
            logged: Vec::new(),
            log: Log::default(),
            added: Some(Vec::new()),
            clean: 0,
            cache,
            pinned: 0,
            batch: 0,
            looked_at: 0,
        }
    }

    /// The number of a series, whose name has so many bytes at the front.
    fn series_id(&mut self, data: &[u8], len: usize) -> Result<u32, StageError> {
        if let Some(id) = self.ids.get(data, len) {
            return Ok(id);
        }
        let id = place_id(self.names.len())?;
        let name: Arc<[u8]> = Arc::from(data.get(..len).unwrap_or_default());
        self.ids.insert(&name, id);
        self.names.push(name);
        self.numbers.push(UNNUMBERED);
        self.recent.push(NO_SLOT);
        Ok(id)
    }

    fn is_logged(&self) -> bool {
        self.log.rows > 0
    }

    /// Has the chunks in memory have what the store's log holds. After an error nothing is known.
    fn read_log(&mut self, store: &dyn Store) -> Result<(), StageError> {
        if self.log.read { Ok(()) } else { self.replay(store).inspect_err(|_| self.forget()) }
    }

    fn replay(&mut self, store: &dyn Store) -> Result<(), StageError> {
        let log = log::read(store)?;
        if !log.rows.is_empty() {
            let width = stored_width(store)?.ok_or_else(log::without_width)?;
            (self.width, self.width_stored) = (Some(width), true);
            let ids = log.names.iter().map(|name| self.series_id(name, name.len())).collect::<Result<Vec<_>, _>>()?;
            ids.iter().zip(0..).for_each(|(id, number)| self.numbers[*id as usize] = number);
            // Every number was looked at when the log was read.
            let chunk_of = |(number, time, _): &log::Row| (ids[*number as usize], time.div_euclid(width));
            let mut wanted: Vec<(u32, i64)> = log.rows.iter().map(chunk_of).collect();
            wanted.sort_unstable();
            wanted.dedup();
            wanted.retain(|chunk| !self.index.contains_key(chunk));
            place_id(self.slots.len() + wanted.len())?;
            let loaded = self.load(&wanted, width, store)?;
            for (chunk, loaded) in wanted.into_iter().zip(loaded) {
                self.add_slot(chunk, loaded);
            }
            for row in &log.rows {
                let place = self.index[&chunk_of(row)];
                let slot = &mut self.slots[place as usize];
                slot.known.put(row.1, row.2, true, stretch(slot.number, width));
                if !std::mem::replace(&mut slot.logged, true) {
                    self.clean -= slot.weight as usize;
                    self.logged.push(place);
                }
            }
            self.pinned = self.logged.iter().map(|place| self.slots[*place as usize].weigh()).sum();
        }
        self.log = Log { read: true, rows: log.rows.len(), names: log.names.len() as u32, ..Log::default() };
        Ok(())
    }

    /// All is forgotten but what the pipeline is: the store is asked anew.
    fn forget(&mut self) {
        *self = Self::with_cache(self.cache);
    }

    fn add_slot(&mut self, (series, number): (u32, i64), known: Known) {
        // Whoever asked for it has seen that there is a number for it.
        self.index.insert((series, number), self.slots.len() as u32);
        let mut slot = Slot { series, number, known, changed: false, sealed: false, logged: false, used: self.batch, weight: 0 };
        self.clean += slot.weigh();
        self.slots.push(slot);
    }

    /// The width of a chunk: as stored, or fixed now by what these rows show.
    fn width<I: Iterator<Item = Option<u32>>>(&mut self, series: impl Fn() -> I, times: &[i64], store: &dyn Store) -> Result<i64, StageError> {
        if let Some(width) = self.width {
            return Ok(width);
        }
        let stored = stored_width(store)?;
        self.width_stored = stored.is_some();
        let width = stored.unwrap_or_else(|| fitting_width(series(), times));
        self.width = Some(width);
        Ok(width)
    }

    fn load(&self, wanted: &[(u32, i64)], width: i64, store: &dyn Store) -> Result<Vec<Known>, StageError> {
        let keys: Vec<ChunkKey> = wanted.iter().map(|(series, number)| self.chunk_key(*series, *number)).collect();
        let stored = store.chunks(&keys)?;
        if stored.len() != keys.len() {
            return Err(StageError::developer(format!("the store answered {} chunks when asked for {}", stored.len(), keys.len())));
        }
        let decoded = stored.into_iter().zip(wanted).map(|(bytes, (_, number))| {
            let Some(bytes) = bytes else { return Ok(Known::default()) };
            let chunk = Chunk::decode(&bytes).map_err(|fault| damaged(format!("a chunk of keys cannot be read: {fault}")))?;
            let fits = |time: i64| time.div_euclid(width) == *number;
            match chunk.span() {
                Some((first, last)) if !fits(first) || !fits(last) => Err(damaged("a chunk of keys holds times of another".to_owned())),
                _ => Ok(Known::of(chunk, stretch(*number, width))),
            }
        });
        decoded.collect()
    }

    fn chunk_key(&self, series: u32, number: i64) -> ChunkKey {
        ChunkKey { series: self.names[series as usize].to_vec(), chunk: number }
    }

    /// The width of a chunk, where it is stored with what is added.
    fn new_width(&self, is_any: bool) -> BTreeMap<String, Value> {
        let width = self.width.filter(|_| !self.width_stored && is_any);
        width.map(|width| (WIDTH.to_owned(), Value::from(width))).into_iter().collect()
    }

    /// Drops slots, and series that have none any more.
    fn retain(&mut self, keep: impl Fn(&Slot) -> bool) {
        let (names, numbers) = (std::mem::take(&mut self.names), std::mem::take(&mut self.numbers));
        let slots = std::mem::take(&mut self.slots);
        self.ids = Names::default();
        self.index = Map::default();
        (self.changed, self.sealed, self.logged) = (Vec::new(), Vec::new(), Vec::new());
        // What the open epoch adds speaks of series that it changed: they stay.
        let mut moved = vec![0; names.len()];
        self.recent.clear();
        self.clean = 0;
        for mut slot in slots.into_iter().filter(keep) {
            let old = slot.series as usize;
            let name = &names[old];
            // There are no more slots and series than before: their numbers fit.
            let next = self.names.len() as u32;
            slot.series = match self.ids.get(name, name.len()) {
                Some(id) => id,
                None => next,
            };
            if slot.series == next {
                self.ids.insert(name, next);
                self.names.push(name.clone());
                self.numbers.push(numbers[old]);
                self.recent.push(NO_SLOT);
                moved[old] = next;
            }
            let place = self.slots.len() as u32;
            self.index.insert((slot.series, slot.number), place);
            if slot.changed {
                self.changed.push(place);
            }
            if slot.sealed {
                self.sealed.push(place);
            }
            if slot.logged {
                self.logged.push(place);
            }
            if slot.is_clean() {
                self.clean += slot.weight as usize;
            }
            self.slots.push(slot);
        }
        self.added.iter_mut().flatten().for_each(|(series, ..)| *series = moved[*series as usize]);
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
        let cache = self.cache.saturating_sub(self.pinned);
        if self.clean <= cache {
            return;
        }
        let mut clean: Vec<(u32, u32)> = self.slots.iter().filter(|slot| slot.is_clean()).map(|slot| (slot.used, slot.weight)).collect();
        clean.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = 0;
        let first_dropped = clean.iter().find(|(_, weight)| {
            kept += *weight as usize;
            kept > cache / 2
        });
        let oldest = first_dropped.map_or(0, |(used, _)| *used);
        self.retain(|slot| !slot.is_clean() || slot.used > oldest);
    }
}

impl Layout for Series {
    fn locate(&mut self, rows: &Rows<'_>, prepared: &Prepared, store: &dyn Store) -> Result<Vec<Place>, StageError> {
        let times = rows.time.ok_or_else(|| StageError::developer("a series has no time"))?.values();
        self.read_log(store)?;
        let known = self.ids.get_all(prepared.wide_keys());
        let ids = prepared.wide_keys().zip(known).map(|((name, len), known)| known.map_or_else(|| self.series_id(name, len), Ok));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        if ids.is_empty() {
            return Ok(vec![NOWHERE; rows.len]);
        }
        let series = || prepared.key_of_rows().iter().map(|of_batch| ids.get(*of_batch as usize).copied());
        let width = self.width(series, times, store)?;
        self.batch = self.batch.saturating_add(1);
        let mut places = Vec::with_capacity(rows.len);
        let mut wanted: Vec<(u32, i64)> = Vec::new();
        let mut coming: Map<(u32, i64), u32> = Map::default();
        for (series, time) in series().zip(times) {
            let Some(series) = series else {
                places.push(NOWHERE);
                continue;
            };
            let recent = self.recent.get_mut(series as usize);
            if let Some(recent) = &recent
                && let Some(slot) = self.slots.get(**recent as usize)
                && stretch(slot.number, width).holds(*time)
            {
                places.push((**recent, *time));
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
                *recent = slot;
            }
            places.push((slot, *time));
        }
        if !wanted.is_empty() {
            let loaded = match self.load(&wanted, width, store) {
                Ok(loaded) => loaded,
                Err(error) => {
                    // What was to come is not there.
                    self.recent.fill(NO_SLOT);
                    return Err(error);
                }
            };
            for (place, known) in wanted.into_iter().zip(loaded) {
                self.add_slot(place, known);
            }
        }
        Ok(places)
    }

    fn look_ahead(&self, places: &[Place]) {
        let slots = || places.iter().filter_map(|(place, time)| Some((self.slots.get(*place as usize)?, *time)));
        let here = slots().fold(0, |sum, (slot, _)| sum ^ u64::from(slot.used) ^ slot.known.look());
        let elsewhere = slots().fold(0, |sum, (slot, time)| sum ^ slot.known.look_for(time));
        std::hint::black_box((here, elsewhere));
    }

    #[inline]
    fn put(&mut self, (place, time): Place, print: u64, replace: bool) -> Seen {
        let slot = &mut self.slots[place as usize];
        slot.used = self.batch;
        let seen = slot.known.put(time, print, replace, stretch(slot.number, self.width.unwrap_or_default()));
        let is_added = seen == Seen::New || (seen == Seen::Other && replace);
        if is_added && !slot.changed {
            self.clean -= if slot.is_kept() { 0 } else { slot.weight as usize };
            slot.changed = true;
            self.changed.push(place);
        }
        if is_added && let Some(added) = &mut self.added {
            added.push((slot.series, time, print));
        }
        seen
    }

    fn settle(&mut self) {
        let is_dense = |rows: usize| rows > MANY || (rows > ENOUGH && rows > 2 * SCATTERED * self.changed.len());
        if !self.is_logged() && self.added.as_ref().is_some_and(|added| is_dense(added.len())) {
            self.added = None;
        }
        self.trim();
    }

    fn changes(&self) -> DedupeChanges {
        let changed = self.changed.iter().map(|place| &self.slots[*place as usize]);
        let mut chunks: Vec<_> = changed.map(|slot| (self.chunk_key(slot.series, slot.number), slot.known.encode())).collect();
        chunks.sort_unstable();
        DedupeChanges { meta: self.new_width(!chunks.is_empty()), chunks, ..DedupeChanges::default() }
    }

    fn additions(&mut self) -> Option<DedupeChanges> {
        self.log.adding = false;
        let added = self.added.as_ref()?;
        let is_scattered = || added.len() >= FEW && self.changed.len().saturating_mul(SCATTERED) > added.len();
        // What is in the log would overrule what a chunk holds since.
        if added.is_empty() || !(self.is_logged() || is_scattered()) {
            return None;
        }
        self.log.adding = true;
        let Self { names, numbers, log, .. } = self;
        let mut number = |series: u32| {
            let number = &mut numbers[series as usize];
            if *number == UNNUMBERED {
                *number = log.names;
                log.names += 1;
                log.new.push(series);
            }
            *number
        };
        let rows: Vec<log::Row> = added.iter().map(|(series, time, print)| (number(*series), *time, *print)).collect();
        let part = log::encode(log.new.iter().map(|series| &*names[*series as usize]), rows.into_iter());
        Some(DedupeChanges { key_part: Some(part), meta: self.new_width(true), ..DedupeChanges::default() })
    }

    fn is_log_large(&self) -> bool {
        self.pinned > self.cache
    }

    fn fold(&mut self, store: &dyn Store) -> Result<Vec<ChunkKey>, StageError> {
        // It may be of a process that was killed, and nothing has come since.
        self.read_log(store)?;
        if self.logged.is_empty() || !self.changed.is_empty() || !self.sealed.is_empty() {
            return Ok(Vec::new());
        }
        let mut slots: Vec<&Slot> = self.logged.iter().map(|place| &self.slots[*place as usize]).collect();
        slots.sort_unstable_by_key(|slot| (&self.names[slot.series as usize], slot.number));
        let folded: Vec<ChunkKey> = slots.iter().map(|slot| self.chunk_key(slot.series, slot.number)).collect();
        if let Err(error) = slot::fold(store, &folded, &slots) {
            // Nobody knows whether it is.
            self.forget();
            return Err(error);
        }
        for place in std::mem::take(&mut self.logged) {
            let slot = &mut self.slots[place as usize];
            slot.logged = false;
            self.clean += slot.weigh();
        }
        self.pinned = 0;
        self.numbers.fill(UNNUMBERED);
        self.log = Log { read: true, ..Log::default() };
        self.trim();
        Ok(folded)
    }

    fn seal(&mut self) {
        let added = self.added.get_or_insert_default();
        self.log.new.clear();
        self.log.added = std::mem::take(&mut self.log.adding);
        if self.log.added {
            self.log.rows += added.len();
        }
        added.clear();
        self.sealed = std::mem::take(&mut self.changed);
        for place in &self.sealed {
            let slot = &mut self.slots[*place as usize];
            (slot.changed, slot.sealed) = (false, true);
        }
    }

    fn committed(&mut self) {
        self.width_stored |= !self.sealed.is_empty();
        let is_logged = std::mem::take(&mut self.log.added);
        for place in std::mem::take(&mut self.sealed) {
            let slot = &mut self.slots[place as usize];
            slot.sealed = false;
            if is_logged {
                self.pinned -= if slot.logged { slot.weight as usize } else { 0 };
                self.pinned += slot.weigh();
                if !std::mem::replace(&mut slot.logged, true) {
                    self.logged.push(place);
                }
            } else if !slot.changed {
                self.clean += slot.weigh();
            }
        }
        self.trim();
    }

    fn abort(&mut self) {
        if self.log.adding || self.log.added || self.is_logged() {
            // It tells again what it holds, whatever that is.
            self.forget();
            return;
        }
        self.added = Some(Vec::new());
        if self.width_stored {
            self.retain(Slot::is_clean);
        } else {
            // Chunks of another width are other chunks; and it may have been stored after all.
            self.width = None;
            self.retain(|_| false);
        }
    }
}

#[cfg(test)]
impl Series {
    /// Does what is kept beside the slots say what they say?
    pub(super) fn check(&self) {
        let places = |is: fn(&Slot) -> bool| (0..).zip(&self.slots).filter(|(_, slot)| is(slot)).map(|(place, _)| place).collect::<Vec<u32>>();
        let sorted = |list: &Vec<u32>| {
            let mut list = list.clone();
            list.sort_unstable();
            list
        };
        assert_eq!(sorted(&self.changed), places(|slot| slot.changed));
        assert_eq!(sorted(&self.sealed), places(|slot| slot.sealed));
        assert_eq!(sorted(&self.logged), places(|slot| slot.logged));
        assert_eq!(
            self.clean,
            self.slots.iter().filter(|slot| slot.is_clean()).map(|slot| slot.weight as usize).sum::<usize>(),
            "the weight of the rest"
        );
        let pinned = self.slots.iter().filter(|slot| slot.logged);
        assert_eq!(self.pinned, pinned.map(|slot| slot.weight as usize).sum::<usize>(), "the weight of what is in the log");
        assert_eq!(self.index.len(), self.slots.len());
        assert!((0..).zip(&self.slots).all(|(place, slot)| self.index.get(&(slot.series, slot.number)) == Some(&place)));
        assert!((0..).zip(&self.names).all(|(id, name)| self.ids.get(name, name.len()) == Some(id)));
    }
}

/// Where the times of a chunk lie.
fn stretch(number: i64, width: i64) -> Stretch {
    Stretch { start: number.saturating_mul(width), width }
}

pub(super) fn damaged(what: String) -> StageError {
    StageError::operator(Category::Storage, format!("the state's dedupe keys are damaged: {what}"))
        .help("`pipeline state rebuild` makes them anew from what is stored")
}
