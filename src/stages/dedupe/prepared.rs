//! What can be told of a batch without knowing what is stored: on any thread, before its turn has come.

use std::ops::Range;

use pipeline_contract::StageError;
use pipeline_contract::arrow::array::BooleanArray;

use super::keyed::place_id;
use super::layout::{NOWHERE, Rows};
use super::names::{Short, ShortNames};

/// As many bytes as most keys have at most.
const LIKELY: usize = 32;

/// So many rows tell whether keys come again within a batch: most do not where fewer than one of so many did.
const SAMPLE: usize = if cfg!(test) { 16 } else { 512 };
const SELDOM: usize = if cfg!(test) { 4 } else { 32 };

/// The key (without the time of a series) and the fingerprint of every row of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    /// The keys of the batch, one behind the other, and where each ends. Each is there once, but where it is a series and most are others: then each
    /// row's is.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// For each row the number of its key among these.
    key_of_rows: Vec<u32>,
    prints: Vec<u64>,
    /// The rows that are not left out, where some are.
    kept: Option<BooleanArray>,
}

impl Prepared {
    /// Looks at every row that is not left out. About so many keys are expected.
    pub(super) fn of(rows: &Rows<'_>, kept: Option<&BooleanArray>, expected: usize) -> Result<Self, StageError> {
        let mut prepared = Self { key_of_rows: Vec::with_capacity(rows.len), kept: kept.cloned(), ..Self::default() };
        let is_there = |row: usize| !rows.lacks_key(row) && kept.is_none_or(|kept| kept.value(row));
        prepared.find_keys(rows, is_there, expected.min(rows.len))?;
        prepared.prints = rows.fingerprints(|row| prepared.key_of_rows.get(row).is_some_and(|key| *key != NOWHERE.0));
        Ok(prepared)
    }

    fn find_keys(&mut self, rows: &Rows<'_>, is_there: impl Fn(usize) -> bool, expected: usize) -> Result<(), StageError> {
        let mut finder = Finder::default();
        self.ends.reserve(expected);
        self.bytes.reserve(expected * LIKELY);
        let sample = rows.len.min(SAMPLE);
        self.add_rows(0..sample, &is_there, |all, row| finder.number(all, rows, row))?;
        let there = self.key_of_rows.iter().filter(|key| **key != NOWHERE.0).count();
        let repeated = there - self.key_count();
        if rows.time.is_some() && there > sample / 2 && repeated < there / SELDOM {
            // A table of nearly all of them would spare nobody a look-up.
            return self.add_rows(sample..rows.len, &is_there, |all, row| all.add(|bytes| rows.add_key(row, bytes)));
        }
        finder.short.reserve(expected);
        self.add_rows(sample..rows.len, &is_there, |all, row| finder.number(all, rows, row))
    }

    fn add_rows(
        &mut self,
        mut rows: Range<usize>,
        is_there: impl Fn(usize) -> bool,
        mut number: impl FnMut(&mut Self, usize) -> Result<u32, StageError>,
    ) -> Result<(), StageError> {
        rows.try_for_each(|row| {
            let id = if is_there(row) { number(self, row)? } else { NOWHERE.0 };
            self.key_of_rows.push(id);
            Ok(())
        })
    }

    /// Adds a key: `put` adds its bytes.
    fn add(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Result<u32, StageError> {
        let id = place_id(self.ends.len())?;
        put(&mut self.bytes);
        self.ends.push(self.bytes.len());
        Ok(id)
    }

    /// How many keys there are.
    pub(super) fn key_count(&self) -> usize {
        self.ends.len()
    }

    /// The keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.wide_keys().filter_map(|(rest, len)| rest.get(..len))
    }

    /// The keys, each with what stands behind it, and its length.
    pub(super) fn wide_keys(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).filter_map(|(start, end)| Some((self.bytes.get(*start..)?, end - start)))
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

/// Finds keys that are there already.
#[derive(Default)]
struct Finder {
    hasher: foldhash::fast::RandomState,
    table: hashbrown::HashTable<u32>,
    short: ShortNames,
    key: Vec<u8>,
}

impl Finder {
    /// The number of a row's key, which is added where it is not there.
    #[inline]
    fn number(&mut self, all: &mut Prepared, rows: &Rows<'_>, row: usize) -> Result<u32, StageError> {
        // A key that is one text is most often short, and compared as a few words instead of byte by byte.
        let short = rows.only_text().and_then(|texts| {
            // They count up from 0, and end where the data does.
            let [start, end] = texts.value_offsets().get(row..)?.first_chunk::<2>()?.map(|offset| offset as usize);
            Short::of(texts.value_data().get(start..)?, end.wrapping_sub(start))
        });
        let Some(short) = short else {
            self.key.clear();
            rows.add_key(row, &mut self.key);
            return self.number_of_long(all);
        };
        if let Some(id) = self.short.get(&short) {
            return Ok(id);
        }
        let id = all.add(|bytes| rows.add_key(row, bytes))?;
        self.short.insert(short, id);
        Ok(id)
    }

    fn number_of_long(&mut self, all: &mut Prepared) -> Result<u32, StageError> {
        let key = &*self.key;
        let nth = |id: &u32| nth(&all.bytes, &all.ends, *id);
        // Rows of one series often come one after the other.
        if let Some(last) = all.key_of_rows.last().filter(|last| nth(last) == Some(key)) {
            return Ok(*last);
        }
        let hash = |key: &[u8]| std::hash::BuildHasher::hash_one(&self.hasher, key);
        let new = match self.table.entry(hash(key), |id| nth(id) == Some(key), |id| hash(nth(id).unwrap_or_default())) {
            hashbrown::hash_table::Entry::Occupied(known) => return Ok(*known.get()),
            hashbrown::hash_table::Entry::Vacant(new) => new,
        };
        new.insert(place_id(all.ends.len())?);
        all.add(|bytes| bytes.extend_from_slice(key))
    }
}

#[inline]
fn nth<'a>(bytes: &'a [u8], ends: &[usize], id: u32) -> Option<&'a [u8]> {
    let id = id as usize;
    let start = if id == 0 { 0 } else { *ends.get(id - 1)? };
    bytes.get(start..*ends.get(id)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use pipeline_contract::arrow::RecordBatch;
    use pipeline_contract::arrow::array::{Float64Array, StringArray, TimestampMicrosecondArray};
    use pipeline_contract::arrow::select::concat::concat_batches;
    use pipeline_contract::{ColumnType, schema};
    use proptest::prelude::*;

    use super::super::{DedupePlan, Deduper, OnConflict};
    use super::*;
    use crate::state::ModelStore;

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

    #[test]
    fn rows_that_are_left_out_are_neither_known_nor_rejected() {
        let columns = schema([("id", ColumnType::Text, true), ("at", ColumnType::Timestamp, true), ("price", ColumnType::Float, true)]);
        let rows = [
            (None, 1.0, true),       // rejected: it has no key
            (None, 1.0, false),      // was rejected before
            (Some("a"), 1.0, false), // makes no key known ...
            (Some("a"), 2.0, true),  // ... so that this one is new
            (Some("a"), 2.0, false),
            (Some("a"), 2.0, true), // and this one a duplicate
            (Some("b"), 3.0, true),
        ];
        let kept = BooleanArray::from(rows.map(|row| row.2).to_vec());
        let batch = RecordBatch::try_new(
            columns,
            vec![
                Arc::new(StringArray::from(rows.map(|row| row.0).to_vec())),
                Arc::new(TimestampMicrosecondArray::from(vec![7; rows.len()]).with_timezone("UTC")),
                Arc::new(Float64Array::from(rows.map(|row| row.1).to_vec())),
            ],
        )
        .unwrap();
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for keys in [&["id"][..], &["id", "at"]] {
            let plan = DedupePlan::new(&batch.schema(), &owned(keys), &owned(&["id", "at", "price"]), OnConflict::KeepFirst).unwrap();
            let mut deduper = Deduper::new(plan, Arc::new(ModelStore::default())).unwrap();
            let done = deduper.apply_kept(&batch, Some(&kept)).unwrap();
            assert_eq!(done.append, concat_batches(&batch.schema(), [&batch.slice(3, 1), &batch.slice(6, 1)]).unwrap(), "{keys:?}");
            assert_eq!((done.stored, done.duplicates, done.conflicts, done.rejects.len()), (batch.slice(5, 1), 1, 0, 1), "{keys:?}");
        }
    }

    #[test]
    fn of_many_series_each_row_brings_its_key_and_of_few_each_series_does() {
        for (series, keys) in [(60, 100), (8, 8)] {
            let columns = schema([("id", ColumnType::Text, true), ("at", ColumnType::Timestamp, true)]);
            // One of twelve has no key, and the last ones are there twice.
            let names = (0..100).map(|row| (row % 12 != 5).then(|| format!("series {}", row % series)));
            let times = (0..100).map(|row| row % series % 7);
            let batch = RecordBatch::try_new(
                columns,
                vec![Arc::new(names.collect::<StringArray>()), Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))],
            )
            .unwrap();
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let plan = DedupePlan::new(&batch.schema(), &owned(&["id", "at"]), &owned(&["id", "at"]), OnConflict::KeepFirst).unwrap();
            let there = (0..100).filter(|row| row % 12 != 5).count();
            assert_eq!(plan.prepare(&batch, None).unwrap().key_count(), keys.min(there), "{series}");
            let distinct: std::collections::HashSet<_> = (0..100).filter(|row| row % 12 != 5).map(|row| row % series).collect();
            let mut deduper = Deduper::new(plan, Arc::new(ModelStore::default())).unwrap();
            let done = deduper.apply_kept(&batch, None).unwrap();
            assert_eq!((done.append.num_rows(), done.duplicates, done.rejects.len()), (distinct.len(), (there - distinct.len()) as u64, 100 - there));
        }
    }
}
