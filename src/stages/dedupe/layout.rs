//! What the two layouts of keys have in common.

use arrow::RecordBatch;
use arrow::array::{StringArray, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use pipeline_contract::{StageError, arrow};

use super::Plan;
use super::key::{Column, Others};
use super::prepared::Prepared;
use crate::state::{ChunkKey, DedupeChanges, Store};

/// Where the key of a row is, until the batch is settled. Equal keys have equal places.
pub(super) type Place = (u32, i64);

/// The place of a row without a key. It is never put.
pub(super) const NOWHERE: Place = (u32::MAX, 0);

/// What was known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing.
    New,
    /// It, with this fingerprint.
    Same,
    /// It, with another fingerprint.
    Other,
}

/// Keys and their fingerprints: what the store holds, and on top of it what the open epoch changes.
pub(super) trait Layout {
    /// Finds the place of every row's key, and loads what the store knows of it. After an error nothing has changed.
    fn locate(&mut self, rows: &Rows<'_>, prepared: &Prepared, store: &dyn Store) -> Result<Vec<Place>, StageError>;

    /// Looks at what is known of keys that are put next, so that it is in the processor's cache then: what is looked at for many keys, one behind
    /// the other, is fetched at once; what is needed to go on with one is waited for.
    fn look_ahead(&self, _places: &[Place]) {}

    /// Adds a key; one that is known keeps its fingerprint unless `replace`.
    fn put(&mut self, place: Place, print: u64, replace: bool) -> Seen;

    /// The batch is done: its places are void.
    fn settle(&mut self);

    /// Would a larger epoch of so many rows cost less to save for each of them?
    fn is_worth_waiting(&self, _rows: u64) -> bool {
        false
    }

    /// What the open epoch changes.
    fn changes(&self) -> DedupeChanges;

    /// The same as what it adds to a log, where that is to be saved instead.
    fn additions(&mut self) -> Option<DedupeChanges> {
        None
    }

    /// Does the log make too much be kept in memory?
    fn is_log_large(&self) -> bool {
        false
    }

    /// Saves what is in the log where it belongs, unless there is an epoch that is not stored. Answers the chunks.
    fn fold(&mut self, _store: &dyn Store) -> Result<Vec<ChunkKey>, StageError> {
        Ok(Vec::new())
    }

    /// What the open epoch changed is about to be stored: a new one begins, for which it is known.
    fn seal(&mut self);

    /// The store holds what was sealed.
    fn committed(&mut self);

    /// What was sealed and what the open epoch changed is forgotten; what the store holds is the truth, whatever that is.
    fn abort(&mut self);
}

/// A batch as the dedupe stage sees it.
pub(super) struct Rows<'a> {
    /// How many.
    pub(super) len: usize,
    /// The columns of the key, without the time of a series.
    pub(super) key: Vec<Column<'a>>,
    /// The time of a series.
    pub(super) time: Option<&'a TimestampMicrosecondArray>,
    others: Others<'a>,
    nulls: Option<NullBuffer>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(plan: &Plan, batch: &'a RecordBatch) -> Result<Self, StageError> {
        let others = plan.others.iter().map(|column| Column::of(batch, column.place, column.ty)).collect::<Result<_, _>>()?;
        let mut rows = Self { len: batch.num_rows(), key: Vec::new(), time: None, others: Others::of(others), nulls: None };
        for column in &plan.keys {
            let typed = Column::of(batch, column.place, column.ty)?;
            rows.nulls = NullBuffer::union(rows.nulls.as_ref(), typed.nulls());
            match typed {
                Column::Timestamp(time) if plan.series_time => rows.time = Some(time),
                _ => rows.key.push(typed),
            }
        }
        Ok(rows)
    }

    /// Does the row lack a part of its key?
    #[inline]
    pub(super) fn lacks_key(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The column of the key, without the time of a series, where it is one of texts.
    pub(super) fn only_text(&self) -> Option<&'a StringArray> {
        if let [Column::Text(texts)] = self.key[..] { Some(texts) } else { None }
    }

    /// Adds the row's key as bytes, without the time of a series.
    #[inline]
    pub(super) fn add_key(&self, row: usize, to: &mut Vec<u8>) {
        for column in &self.key {
            column.key(row, to);
        }
    }

    /// The fingerprints of all rows; 0 for one that is not there.
    pub(super) fn fingerprints(&self, is_there: impl Fn(usize) -> bool) -> Vec<u64> {
        self.others.fingerprints(self.len, is_there)
    }
}
