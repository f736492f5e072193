//! What can be told of a batch without knowing what is stored: on any thread, before its turn has come.

use pipeline_contract::StageError;

use super::keyed::place_id;
use super::layout::Rows;

/// The number of a row without a key.
const NONE: u32 = u32::MAX;

/// The series and the fingerprint of every row of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    /// The names of the batch's series, one behind the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// For each row the number of its series among these; empty where keys are not a series and a time.
    series: Vec<u32>,
    prints: Vec<u64>,
}

impl Prepared {
    /// Looks at every row. `by_series`: keys are a series and a time.
    pub(super) fn of(rows: &Rows<'_>, by_series: bool) -> Result<Self, StageError> {
        let mut prepared = Self { prints: Vec::with_capacity(rows.len), ..Self::default() };
        let mut buffer = Vec::new();
        prepared.prints.extend((0..rows.len).map(|row| rows.fingerprint(row, &mut buffer)));
        if by_series {
            prepared.find_series(rows)?;
        }
        Ok(prepared)
    }

    fn find_series(&mut self, rows: &Rows<'_>) -> Result<(), StageError> {
        let Self { bytes, ends, series, .. } = self;
        series.reserve_exact(rows.len);
        let hasher = foldhash::fast::RandomState::default();
        let mut table: hashbrown::HashTable<u32> = hashbrown::HashTable::new();
        let mut name = Vec::new();
        for row in 0..rows.len {
            if rows.lacks_key(row) {
                series.push(NONE);
                continue;
            }
            rows.key_bytes(row, &mut name);
            if let Some(last) = series.last()
                && nth(bytes, ends, *last) == Some(&name)
            {
                series.push(*last);
                continue;
            }
            let hash = |name: &[u8]| std::hash::BuildHasher::hash_one(&hasher, name);
            let entry = table.entry(hash(&name), |id| nth(bytes, ends, *id) == Some(&name), |id| hash(nth(bytes, ends, *id).unwrap_or_default()));
            let id = match entry {
                hashbrown::hash_table::Entry::Occupied(known) => *known.get(),
                hashbrown::hash_table::Entry::Vacant(new) => {
                    let id = place_id(ends.len())?;
                    new.insert(id);
                    bytes.extend_from_slice(&name);
                    ends.push(bytes.len());
                    id
                }
            };
            series.push(id);
        }
        Ok(())
    }

    /// The names of the series.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len() as u32).filter_map(|id| nth(&self.bytes, &self.ends, id))
    }

    /// For each row the number of its series; one that is no number of a series where the key lacks a part.
    pub(super) fn series(&self) -> &[u32] {
        &self.series
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
