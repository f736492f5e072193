//! Tells rows that are stored already from new ones: exact on keys.
//!
//! A **duplicate** has the key of another row and the same values in all other stored columns; a **conflict** has the key and other values. The
//! values are compared by a 64-bit fingerprint. What is known of keys lives in the [`Store`]; a [`Deduper`] loads the part that a batch
//! touches and keeps what the open epoch changes until that is committed or given up.
//!
//! Keys with one timestamp are a series and a time, kept in chunks; all others are rows of a table, which is slower.

mod bytes;
mod chunk;
mod held;
mod key;
mod keyed;
mod known;
mod layout;
mod log;
mod names;
mod prepared;
mod series;
mod slot;
#[cfg(test)]
mod tests;
mod width;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::BooleanArray;
use arrow::{RecordBatch, SchemaRef};
use pipeline_contract::{ColumnType, Reject, StageError, arrow, cell_json, row_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::held::{series, times};
use self::keyed::Keyed;
use self::layout::{Layout, NOWHERE, Place, Rows, Seen};
pub use self::log::logged_times;
pub(crate) use self::prepared::Prepared;
use self::series::Series;
use crate::stages::selected::Selected;
use crate::state::{ChunkKey, DedupeChanges, Store};

/// What becomes of a row whose key is stored already with other values. It is counted as a conflict in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The stored row stays; the new one is left out.
    #[default]
    KeepFirst,
    /// The new row takes the place of the stored one. Needs a sink that can replace.
    KeepLast,
    /// The new row is rejected, under the rule `conflict`.
    Reject,
}

/// A column of the batches to come.
#[derive(Debug)]
struct PlannedColumn {
    name: String,
    place: usize,
    ty: ColumnType,
}

#[derive(Debug)]
struct Plan {
    keys: Vec<PlannedColumn>,
    others: Vec<PlannedColumn>,
    on_conflict: OnConflict,
    series_time: bool,
    /// How many keys, each once, the last batch had: the next one may have as many.
    keys_of_batch: AtomicUsize,
}

/// Which columns are the key, which make the fingerprint, and what becomes of a conflict.
#[derive(Clone, Debug)]
pub struct DedupePlan(Arc<Plan>);

impl DedupePlan {
    /// Plans for batches of this schema: `keys` are the columns of the key; `stored` are those whose values are compared, in an order that must
    /// not change while the state lives. Keys among `stored` are left out of the comparison.
    ///
    /// # Errors
    /// When a column is missing or has a type that pipelines do not speak, or there is no key: the caller has checked all that.
    pub fn new(schema: &SchemaRef, keys: &[String], stored: &[String], on_conflict: OnConflict) -> Result<Self, StageError> {
        let planned = |name: &String| {
            let (place, field) =
                schema.column_with_name(name).ok_or_else(|| StageError::developer(format!("dedupe: there is no column {name:?}")))?;
            let ty = ColumnType::of(field.data_type())
                .ok_or_else(|| StageError::developer(format!("dedupe: the column {name:?} has the type {}", field.data_type())))?;
            Ok(PlannedColumn { name: name.clone(), place, ty })
        };
        let keys = keys.iter().map(planned).collect::<Result<Vec<_>, StageError>>()?;
        if keys.is_empty() {
            return Err(StageError::developer("dedupe: there is no key"));
        }
        let is_key = |name: &String| keys.iter().any(|key| key.name == *name);
        let others = stored.iter().filter(|name| !is_key(name)).map(planned).collect::<Result<_, StageError>>()?;
        let series_time = keys.iter().filter(|key| key.ty == ColumnType::Timestamp).count() == 1;
        Ok(Self(Arc::new(Plan { keys, others, on_conflict, series_time, keys_of_batch: AtomicUsize::new(0) })))
    }

    /// Is the key a series and a time, which is fast? That is: is exactly one of its columns a timestamp?
    pub fn is_series_time(&self) -> bool {
        self.0.series_time
    }

    /// Does for a batch what needs no knowledge of other rows, so that another thread may do it than the one that [`Deduper::apply`]s it. Rows
    /// that are not among those `kept` are left out then.
    ///
    /// # Errors
    /// When the batch has not the planned columns.
    pub(crate) fn prepare(&self, batch: &RecordBatch, kept: Option<&BooleanArray>) -> Result<Prepared, StageError> {
        let prepared = Prepared::of(&Rows::of(&self.0, batch)?, kept, self.0.keys_of_batch.load(Ordering::Relaxed))?;
        self.0.keys_of_batch.store(prepared.key_count(), Ordering::Relaxed);
        Ok(prepared)
    }

    /// What becomes of a conflict.
    pub fn on_conflict(&self) -> OnConflict {
        self.0.on_conflict
    }
}

/// What became of a batch. Every row is in `append` or in `replace`, or counts as a duplicate or a conflict, or is a reject; a row that a
/// later one of the same batch replaced is dropped.
#[derive(Clone, Debug)]
pub struct Deduped<New = RecordBatch> {
    /// Rows whose key is new.
    pub append: New,
    /// Rows that take the place of the one with their key, stored or written in this epoch; one a key. Only with [`OnConflict::KeepLast`].
    pub replace: RecordBatch,
    /// Rows that are not written because their key is there already, stored or about to be: for [`Sink::look`](pipeline_contract::Sink::look).
    pub stored: RecordBatch,
    /// How many rows have key and values of one that is there already.
    pub duplicates: u64,
    /// How many rows have the key of one that is there already and other values, whatever became of them.
    pub conflicts: u64,
    /// Rows without a whole key (rule `null_key`) and, with [`OnConflict::Reject`], conflicts (rule `conflict`).
    pub rejects: Vec<Reject>,
}

/// So many keys are looked at before they are put.
const LOOK_AHEAD: usize = 64;

/// What becomes of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Append,
    Replace,
    Stored,
    Dropped,
}

enum Kind {
    Series(Box<Series>),
    Keyed(Keyed),
}

impl Kind {
    fn of(plan: &DedupePlan) -> Self {
        if plan.is_series_time() { Self::Series(Box::default()) } else { Self::Keyed(Keyed::default()) }
    }
}

/// The dedupe stage of one pipeline.
pub struct Deduper {
    plan: DedupePlan,
    store: Arc<dyn Store>,
    kind: Kind,
    /// What an epoch before the open one changed is being stored.
    sealed: bool,
}

impl Deduper {
    /// A stage that knows what the store holds.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(plan: DedupePlan, store: Arc<dyn Store>) -> Result<Self, StageError> {
        let kind = Kind::of(&plan);
        Ok(Self { plan, store, kind, sealed: false })
    }

    /// Sorts the rows of a batch; new keys are known from now on.
    ///
    /// # Errors
    /// When the store cannot be read, or what it holds is damaged. Nothing of the batch is known then.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<Deduped, StageError> {
        self.apply_kept(batch, None)
    }

    /// As [`Deduper::apply`], for those rows of the batch that are marked.
    pub(crate) fn apply_kept(&mut self, batch: &RecordBatch, kept: Option<&BooleanArray>) -> Result<Deduped, StageError> {
        let Deduped { append, replace, stored, duplicates, conflicts, rejects } = self.select(batch, &self.plan.prepare(batch, kept)?)?;
        Ok(Deduped { append: append.copied()?.into_owned(), replace, stored, duplicates, conflicts, rejects })
    }

    /// What is done for a batch on any thread, before [`Deduper::select`].
    pub(crate) fn plan(&self) -> &DedupePlan {
        &self.plan
    }

    /// As [`Deduper::apply`], with what [`DedupePlan::prepare`] made of this batch, and without copying its new rows.
    pub(crate) fn select(&mut self, batch: &RecordBatch, prepared: &Prepared) -> Result<Deduped<Selected>, StageError> {
        let Self { plan: DedupePlan(plan), store, kind, .. } = self;
        match kind {
            Kind::Series(layout) => apply(plan, &mut **layout, &**store, batch, prepared),
            Kind::Keyed(layout) => apply(plan, layout, &**store, batch, prepared),
        }
    }

    /// Would a larger epoch than one of so many rows cost less to save for each of them?
    pub(crate) fn is_worth_waiting(&self, rows: u64) -> bool {
        self.layout().is_worth_waiting(rows)
    }

    /// What the open epoch changes in the store, as a whole: for a store in which there is no log of keys.
    pub fn changes(&self) -> DedupeChanges {
        self.layout().changes()
    }

    /// What the open epoch is to be saved as: what it changes, or a part of the log where that is less.
    pub fn to_save(&mut self) -> DedupeChanges {
        match self.layout_mut().additions() {
            Some(additions) => additions,
            None => self.changes(),
        }
    }

    /// Does the log make too much be kept in memory? Then the next epoch is to be committed alone, and [`Deduper::fold`] to be called.
    pub(crate) fn is_log_large(&self) -> bool {
        self.layout().is_log_large()
    }

    /// Saves what is in the log of keys where it belongs, unless there is an epoch that is not stored. Answers the chunks that changed by that.
    ///
    /// # Errors
    /// When the store cannot be written: then the log stays, and nothing is lost.
    pub fn fold(&mut self) -> Result<Vec<ChunkKey>, StageError> {
        let store = Arc::clone(&self.store);
        self.layout_mut().fold(&*store)
    }

    /// What [`Deduper::to_save`] said is about to be stored, and counts as known: a new epoch begins beside it, until it is committed or both are
    /// given up.
    pub(crate) fn seal(&mut self) {
        self.sealed = true;
        self.layout_mut().seal();
    }

    /// The store holds what [`Deduper::to_save`] or [`Deduper::changes`] said: a new epoch begins, unless it began when that was sealed.
    pub fn committed(&mut self) {
        if !std::mem::take(&mut self.sealed) {
            self.layout_mut().seal();
        }
        self.layout_mut().committed();
    }

    /// What the store holds is the truth: a new epoch begins. Right also after a commit whose outcome is unknown.
    pub fn abort(&mut self) {
        self.sealed = false;
        self.layout_mut().abort();
    }

    /// As [`Deduper::abort`]; and nothing is kept in memory until the next batch. For the time between runs, which may be hours.
    pub fn rest(&mut self) {
        self.kind = Kind::of(&self.plan);
    }

    fn layout(&self) -> &dyn Layout {
        match &self.kind {
            Kind::Series(layout) => &**layout,
            Kind::Keyed(layout) => layout,
        }
    }

    fn layout_mut(&mut self) -> &mut dyn Layout {
        match &mut self.kind {
            Kind::Series(layout) => &mut **layout,
            Kind::Keyed(layout) => layout,
        }
    }
}

fn apply(
    plan: &Plan,
    layout: &mut impl Layout,
    store: &dyn Store,
    batch: &RecordBatch,
    prepared: &Prepared,
) -> Result<Deduped<Selected>, StageError> {
    let rows = Rows::of(plan, batch)?;
    if prepared.prints().len() != rows.len {
        return Err(StageError::developer("dedupe was given another batch than the one that was prepared"));
    }
    let places = layout.locate(&rows, prepared, store)?;
    let keep_last = plan.on_conflict == OnConflict::KeepLast;
    let mut fates = vec![Fate::Append; rows.len];
    // With keep_last, the row of this batch that holds a key.
    let mut holders: HashMap<Place, usize> = HashMap::new();
    let (mut duplicates, mut conflicts) = (0, 0);
    let mut rejects = Vec::new();
    for (row, (&place, print)) in places.iter().zip(prepared.prints()).enumerate() {
        if row % LOOK_AHEAD == 0 {
            layout.look_ahead(&places[row..rows.len.min(row + LOOK_AHEAD)]);
        }
        if place == NOWHERE {
            if rows.lacks_key(row) && !prepared.is_left_out(row) {
                rejects.push(without_key(plan, batch, row));
            }
            fates[row] = Fate::Dropped;
            continue;
        }
        match layout.put(place, *print, keep_last) {
            Seen::New if keep_last => {
                holders.insert(place, row);
            }
            Seen::New => {}
            Seen::Same => {
                duplicates += 1;
                fates[row] = Fate::Stored;
            }
            Seen::Other => {
                conflicts += 1;
                fates[row] = match plan.on_conflict {
                    OnConflict::KeepFirst => Fate::Stored,
                    OnConflict::Reject => {
                        rejects.push(conflict(plan, batch, row));
                        Fate::Stored
                    }
                    OnConflict::KeepLast => match holders.insert(place, row) {
                        Some(earlier) => std::mem::replace(&mut fates[earlier], Fate::Dropped),
                        None => Fate::Replace,
                    },
                };
            }
        }
    }
    layout.settle();
    Ok(Deduped {
        append: Selected::of(batch, |row| fates[row] == Fate::Append)?,
        replace: copied(batch, &fates, Fate::Replace)?,
        stored: copied(batch, &fates, Fate::Stored)?,
        duplicates,
        conflicts,
        rejects,
    })
}

/// The rows of one fate, in their order.
fn copied(batch: &RecordBatch, fates: &[Fate], wanted: Fate) -> Result<RecordBatch, StageError> {
    Ok(Selected::of(batch, |row| fates[row] == wanted)?.copied()?.into_owned())
}

fn without_key(plan: &Plan, batch: &RecordBatch, row: usize) -> Reject {
    let lacking = plan.keys.iter().filter(|key| batch.column(key.place).is_null(row));
    let names: Vec<&str> = lacking.map(|key| key.name.as_str()).collect();
    let message = format!("{}: null in a key column, so the row cannot be told from others", names.join(", "));
    Reject::of_row(row_json(batch, row), "null_key", message)
}

fn conflict(plan: &Plan, batch: &RecordBatch, row: usize) -> Reject {
    let parts = plan.keys.iter().map(|key| format!("{} = {}", key.name, cell_json(batch.column(key.place), row)));
    let message = format!("other values are stored for {}", parts.collect::<Vec<_>>().join(", "));
    Reject::of_row(row_json(batch, row), "conflict", message)
}
