//! Keys of any kind: each is a row of a table. One look-up for each distinct key of a batch.

use std::collections::HashMap;

use pipeline_contract::StageError;

use super::layout::{Layout, NOWHERE, Place, Rows, Seen};
use super::prepared::Prepared;
use crate::state::{DedupeChanges, Store};

/// A key of the batch at work.
struct Entry {
    key: Vec<u8>,
    print: Option<u64>,
    changed: bool,
}

/// The keys of the open epoch, and those of the batch at work.
#[derive(Default)]
pub(super) struct Keyed {
    overlay: HashMap<Vec<u8>, u64>,
    batch: Vec<Entry>,
}

impl Layout for Keyed {
    fn locate(&mut self, rows: &Rows<'_>, _: &Prepared, store: &dyn Store) -> Result<Vec<Place>, StageError> {
        self.batch.clear();
        let mut ids: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut asked = Vec::new();
        let mut asked_for = Vec::new();
        let mut places = Vec::with_capacity(rows.len);
        let mut key = Vec::new();
        for row in 0..rows.len {
            if rows.lacks_key(row) {
                places.push(NOWHERE);
                continue;
            }
            rows.key_bytes(row, &mut key);
            let id = match ids.get(&key) {
                Some(id) => *id,
                None => {
                    let id = place_id(self.batch.len())?;
                    let print = self.overlay.get(&key).copied();
                    if print.is_none() {
                        asked.push(key.clone());
                        asked_for.push(self.batch.len());
                    }
                    self.batch.push(Entry { key: key.clone(), print, changed: false });
                    ids.insert(key.clone(), id);
                    id
                }
            };
            places.push((id, 0));
        }
        if !asked.is_empty() {
            for (entry, print) in asked_for.into_iter().zip(store.keyed(&asked)?) {
                self.batch[entry].print = print;
            }
        }
        Ok(places)
    }

    fn put(&mut self, (id, _): Place, print: u64, replace: bool) -> Seen {
        let entry = &mut self.batch[id as usize];
        let seen = match entry.print {
            None => Seen::New,
            Some(known) if known == print => Seen::Same,
            Some(_) => Seen::Other,
        };
        if seen == Seen::New || (seen == Seen::Other && replace) {
            entry.print = Some(print);
            entry.changed = true;
        }
        seen
    }

    fn settle(&mut self) {
        for entry in self.batch.drain(..).filter(|entry| entry.changed) {
            if let Some(print) = entry.print {
                self.overlay.insert(entry.key, print);
            }
        }
    }

    fn to_save(&self) -> usize {
        self.overlay.len()
    }

    fn changes(&self) -> DedupeChanges {
        let mut keyed: Vec<_> = self.overlay.iter().map(|(key, print)| (key.clone(), *print)).collect();
        keyed.sort_unstable();
        DedupeChanges { keyed, ..DedupeChanges::default() }
    }

    fn committed(&mut self) {
        self.overlay = HashMap::new();
    }

    fn abort(&mut self) {
        self.overlay = HashMap::new();
        self.batch.clear();
    }
}

/// A number for a place, of which a batch or a cache never has as many as 2^32.
pub(super) fn place_id(number: usize) -> Result<u32, StageError> {
    u32::try_from(number).map_err(|_| StageError::developer("dedupe was given more than 4 billion keys at once"))
}
