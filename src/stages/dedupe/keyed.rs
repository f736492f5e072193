//! Keys of any kind: each is a row of a table. One look-up for each distinct key of a batch.

use std::collections::HashMap;

use pipeline_contract::StageError;

use super::layout::{Layout, Place, Rows, Seen};
use super::prepared::Prepared;
use crate::state::{DedupeChanges, Store};

/// Rows of the table lie beside one another when many are saved at once: waited for when there is more than one for so many rows.
const SCATTERED: u64 = 8;

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
    /// Those of an epoch before it that is being stored.
    sealed: HashMap<Vec<u8>, u64>,
    batch: Vec<Entry>,
}

impl Layout for Keyed {
    fn locate(&mut self, _: &Rows<'_>, prepared: &Prepared, store: &dyn Store) -> Result<Vec<Place>, StageError> {
        let entry = |key: &[u8]| Entry { key: key.to_vec(), print: self.overlay.get(key).or_else(|| self.sealed.get(key)).copied(), changed: false };
        self.batch = prepared.keys().map(entry).collect();
        let asked: Vec<Vec<u8>> = self.batch.iter().filter(|entry| entry.print.is_none()).map(|entry| entry.key.clone()).collect();
        if !asked.is_empty() {
            let unknown = self.batch.iter_mut().filter(|entry| entry.print.is_none());
            unknown.zip(store.keyed(&asked)?).for_each(|(entry, print)| entry.print = print);
        }
        Ok(prepared.key_of_rows().iter().map(|key| (*key, 0)).collect())
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

    fn is_worth_waiting(&self, rows: u64) -> bool {
        (self.overlay.len() as u64).saturating_mul(SCATTERED) > rows
    }

    fn changes(&self) -> DedupeChanges {
        let mut keyed: Vec<_> = self.overlay.iter().map(|(key, print)| (key.clone(), *print)).collect();
        keyed.sort_unstable();
        DedupeChanges { keyed, ..DedupeChanges::default() }
    }

    fn seal(&mut self) {
        self.sealed = std::mem::take(&mut self.overlay);
    }

    fn committed(&mut self) {
        self.sealed = HashMap::new();
    }

    fn abort(&mut self) {
        (self.overlay, self.sealed) = (HashMap::new(), HashMap::new());
        self.batch.clear();
    }
}

/// A number for a place, of which a batch or a cache never has as many as 2^32.
pub(super) fn place_id(number: usize) -> Result<u32, StageError> {
    u32::try_from(number).map_err(|_| StageError::developer("dedupe was given more than 4 billion keys at once"))
}
