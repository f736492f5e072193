//! What can be told of a batch without knowing what is stored: on any thread, before its turn has come.

use pipeline_contract::StageError;

use super::keyed::place_id;
use super::layout::{NOWHERE, Rows};

/// The key (without the time of a series) and the fingerprint of every row of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    /// The keys of the batch, each once, one behind the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// For each row the number of its key among these.
    key_of_rows: Vec<u32>,
    prints: Vec<u64>,
}

impl Prepared {
    /// Looks at every row.
    pub(super) fn of(rows: &Rows<'_>) -> Result<Self, StageError> {
        let mut buffer = Vec::new();
        let prints = (0..rows.len).map(|row| rows.fingerprint(row, &mut buffer)).collect();
        let mut prepared = Self { prints, ..Self::default() };
        prepared.find_keys(rows)?;
        Ok(prepared)
    }

    fn find_keys(&mut self, rows: &Rows<'_>) -> Result<(), StageError> {
        let Self { bytes, ends, key_of_rows, .. } = self;
        key_of_rows.reserve_exact(rows.len);
        let hasher = foldhash::fast::RandomState::default();
        let mut table: hashbrown::HashTable<u32> = hashbrown::HashTable::new();
        let mut key = Vec::new();
        for row in 0..rows.len {
            if rows.lacks_key(row) {
                key_of_rows.push(NOWHERE.0);
                continue;
            }
            rows.key_bytes(row, &mut key);
            if let Some(last) = key_of_rows.last()
                && nth(bytes, ends, *last) == Some(&key)
            {
                key_of_rows.push(*last);
                continue;
            }
            let hash = |key: &[u8]| std::hash::BuildHasher::hash_one(&hasher, key);
            let entry = table.entry(hash(&key), |id| nth(bytes, ends, *id) == Some(&key), |id| hash(nth(bytes, ends, *id).unwrap_or_default()));
            let id = match entry {
                hashbrown::hash_table::Entry::Occupied(known) => *known.get(),
                hashbrown::hash_table::Entry::Vacant(new) => {
                    let id = place_id(ends.len())?;
                    new.insert(id);
                    bytes.extend_from_slice(&key);
                    ends.push(bytes.len());
                    id
                }
            };
            key_of_rows.push(id);
        }
        Ok(())
    }

    /// The keys, each once.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len() as u32).filter_map(|id| nth(&self.bytes, &self.ends, id))
    }

    /// For each row the number of its key; that of [`NOWHERE`] where the key lacks a part.
    pub(super) fn key_of_rows(&self) -> &[u32] {
        &self.key_of_rows
    }

    /// The fingerprint of each row.
    pub(super) fn prints(&self) -> &[u64] {
        &self.prints
    }
}

#[inline]
fn nth<'a>(bytes: &'a [u8], ends: &[usize], id: u32) -> Option<&'a [u8]> {
    let id = id as usize;
    let start = if id == 0 { 0 } else { *ends.get(id - 1)? };
    bytes.get(start..*ends.get(id)?)
}
