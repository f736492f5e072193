//! What can be told of a batch without knowing what is stored: on any thread, before its turn has come.

use pipeline_contract::StageError;
use pipeline_contract::arrow::array::{BooleanArray, StringArray};

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
    /// The rows that are not left out, where some are.
    kept: Option<BooleanArray>,
}

impl Prepared {
    /// Looks at every row that is not left out.
    pub(super) fn of(rows: &Rows<'_>, kept: Option<&BooleanArray>) -> Result<Self, StageError> {
        let mut prepared = Self { key_of_rows: Vec::with_capacity(rows.len), kept: kept.cloned(), ..Self::default() };
        let is_there = |row: usize| !rows.lacks_key(row) && kept.is_none_or(|kept| kept.value(row));
        match rows.only_text() {
            Some(texts) => prepared.find_texts(rows, texts, is_there)?,
            None => prepared.find_keys(rows, is_there)?,
        }
        let mut buffer = Vec::new();
        let print = |(row, key): (usize, &u32)| if *key == NOWHERE.0 { 0 } else { rows.fingerprint(row, &mut buffer) };
        prepared.prints = prepared.key_of_rows.iter().enumerate().map(print).collect();
        Ok(prepared)
    }

    fn find_keys(&mut self, rows: &Rows<'_>, is_there: impl Fn(usize) -> bool) -> Result<(), StageError> {
        let hasher = foldhash::fast::RandomState::default();
        let mut table: hashbrown::HashTable<u32> = hashbrown::HashTable::new();
        let mut key = Vec::new();
        for row in 0..rows.len {
            if !is_there(row) {
                self.key_of_rows.push(NOWHERE.0);
                continue;
            }
            rows.key_bytes(row, &mut key);
            let id = self.find(&hasher, &mut table, &key)?;
            self.key_of_rows.push(id);
        }
        Ok(())
    }

    fn find(&mut self, hasher: &foldhash::fast::RandomState, table: &mut hashbrown::HashTable<u32>, key: &[u8]) -> Result<u32, StageError> {
        let hash = |key: &[u8]| std::hash::BuildHasher::hash_one(hasher, key);
        let nth = |id: &u32| nth(&self.bytes, &self.ends, *id);
        let entry = table.entry(hash(key), |id| nth(id) == Some(key), |id| hash(nth(id).unwrap_or_default()));
        let new = match entry {
            hashbrown::hash_table::Entry::Occupied(known) => return Ok(*known.get()),
            hashbrown::hash_table::Entry::Vacant(new) => new,
        };
        let id = place_id(self.ends.len())?;
        new.insert(id);
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        Ok(id)
    }

    /// As [`Prepared::find_keys`], where the key is one text: most are short, and compared as a few words instead of byte by byte.
    fn find_texts(&mut self, rows: &Rows<'_>, texts: &StringArray, is_there: impl Fn(usize) -> bool) -> Result<(), StageError> {
        let hasher = foldhash::fast::RandomState::default();
        let (seed, other) = (std::hash::BuildHasher::hash_one(&hasher, 0), std::hash::BuildHasher::hash_one(&hasher, 1));
        let hash = |short: &Short| short.hash(seed, other);
        let mut long_ones: hashbrown::HashTable<u32> = hashbrown::HashTable::new();
        let mut short_ones: hashbrown::HashTable<(Short, u32)> = hashbrown::HashTable::new();
        let mut key = Vec::new();
        let (data, offsets) = (texts.value_data(), texts.value_offsets());
        for (row, span) in offsets.array_windows::<2>().enumerate() {
            if !is_there(row) {
                self.key_of_rows.push(NOWHERE.0);
                continue;
            }
            // They count up from 0, and end where the data does.
            let [start, end] = span.map(|offset| offset as usize);
            let id = match Short::of(data, start, end) {
                Some(short) => match short_ones.find(hash(&short), |(known, _)| *known == short) {
                    Some((_, id)) => *id,
                    None => {
                        let id = place_id(self.ends.len())?;
                        short_ones.insert_unique(hash(&short), (short, id), |(known, _)| hash(known));
                        rows.key_bytes(row, &mut key);
                        self.bytes.extend_from_slice(&key);
                        self.ends.push(self.bytes.len());
                        id
                    }
                },
                None => {
                    rows.key_bytes(row, &mut key);
                    self.find(&hasher, &mut long_ones, &key)?
                }
            };
            self.key_of_rows.push(id);
        }
        Ok(())
    }

    /// The keys, each once.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len() as u32).filter_map(|id| nth(&self.bytes, &self.ends, id))
    }

    /// For each row the number of its key; that of [`NOWHERE`] where the key lacks a part, or the row was left out.
    pub(super) fn key_of_rows(&self) -> &[u32] {
        &self.key_of_rows
    }

    /// Is the row none that counts?
    pub(super) fn is_left_out(&self, row: usize) -> bool {
        self.kept.as_ref().is_some_and(|kept| !kept.value(row))
    }

    /// The fingerprint of each row that has a key.
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

/// The bytes of a text that has at most 24 of them, zeros behind, and its length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Short([u64; 4]);

impl Short {
    const LONGEST: usize = 24;

    #[inline]
    fn of(data: &[u8], start: usize, end: usize) -> Option<Self> {
        let len = end.wrapping_sub(start);
        if len > Self::LONGEST {
            return None;
        }
        let rest = data.get(start..)?;
        let bytes = match rest.first_chunk::<{ Self::LONGEST }>() {
            // What stands behind it is read, too, and left out: of a known length, it takes no call.
            Some(bytes) => *bytes,
            None => {
                let mut bytes = [0; Self::LONGEST];
                bytes.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                bytes
            }
        };
        let mut words = [0, 0, 0, len as u64];
        for (place, (word, bytes)) in words.iter_mut().zip(bytes.as_chunks::<8>().0).enumerate() {
            let its = len.saturating_sub(8 * place).min(8);
            // (A shift by 64 is none.)
            let mask = if its == 8 { u64::MAX } else { (1 << (8 * its)) - 1 };
            *word = u64::from_le_bytes(*bytes) & mask;
        }
        Some(Self(words))
    }

    /// By products of secret numbers, as `foldhash` does it.
    #[inline]
    fn hash(&self, seed: u64, other: u64) -> u64 {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            product as u64 ^ (product >> 64) as u64
        };
        let [first, second, third, len] = self.0;
        fold(fold(first ^ seed, second ^ other) ^ len, third ^ seed.rotate_left(32) ^ other)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use pipeline_contract::arrow::RecordBatch;
    use pipeline_contract::{ColumnType, schema};
    use proptest::prelude::*;

    use super::super::{DedupePlan, OnConflict};
    use super::*;

    proptest! {
        /// Short ones, long ones, ones that begin or end alike, and with zeros at the end; rows that are left out, and rows without a key.
        #[test]
        fn rows_have_one_number_if_their_texts_are_one(
            texts in prop::collection::vec(prop::option::weighted(0.9, "[ab\0]{0,3}|[a\0]{7,9}|a{22}[ab\0]{0,4}|é{11,13}"), 0..60),
            kept in prop::option::of(prop::collection::vec(any::<bool>(), 60)),
            before in 0..3_usize,
        ) {
            let before = before.min(texts.len());
            let batch = RecordBatch::try_new(
                schema([("id", ColumnType::Text, true)]),
                vec![Arc::new(StringArray::from_iter(texts.iter().map(|text| text.as_deref())))],
            ).unwrap().slice(before, texts.len() - before);
            let texts = &texts[before..];
            let kept = kept.map(|kept| BooleanArray::from(kept[..texts.len()].to_vec()));
            let plan = DedupePlan::new(&batch.schema(), &["id".to_owned()], &[], OnConflict::KeepFirst).unwrap();
            let prepared = plan.prepare(&batch, kept.as_ref()).unwrap();
            let mut numbers: HashMap<&str, u32> = HashMap::new();
            for (row, text) in texts.iter().enumerate() {
                let number = prepared.key_of_rows()[row];
                match text {
                    Some(text) if kept.as_ref().is_none_or(|kept| kept.value(row)) => {
                        let next = numbers.len() as u32;
                        prop_assert_eq!(number, *numbers.entry(text).or_insert(next));
                        let mut key = vec![4];
                        key.extend_from_slice(&(text.len() as u32).to_be_bytes());
                        key.extend_from_slice(text.as_bytes());
                        prop_assert_eq!(prepared.keys().nth(number as usize), Some(&key[..]));
                    }
                    _ => prop_assert_eq!(number, NOWHERE.0),
                }
            }
            prop_assert_eq!(prepared.keys().count(), numbers.len());
        }
    }
}
