//! The test kit: runs a plugin through everything that its kind promises.
//!
//! ```no_run
//! # fn my_plugin() -> Box<dyn pipeline_contract::Plugin> { unimplemented!() }
//! use pipeline_contract::testkit::{Answer, SourceKit};
//!
//! SourceKit::new(my_plugin(), r#"city = "Paris""#).answers(|request| Answer::ok(r#"{"temperature": 21.5}"#)).assert();
//! ```
//!
//! A kit builds the plugin anew for each case, in a world of its own: a far side that answers by a function of the request, a disk in memory,
//! a clock on which time passes as soon as everybody waits. It needs no runtime: it polls futures itself, so that it can drop one after any
//! poll. What the promises are is said at [`Promise`]; [`Report`] says which were broken, and in how many cases they were tried.

mod exec;
mod harm;
mod options;
mod sink;
mod source;
mod transform;
mod trigger;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::{Array, RecordBatch};

use crate::{ColumnType, cell_json};

pub use sink::{KitRow, SinkKit};
pub use source::SourceKit;
pub use transform::TransformKit;
pub use trigger::TriggerKit;

/// More of one promise are counted and not told.
const TOLD: usize = 5;

/// What a plugin promises, and a kit tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    // Every plugin.
    /// It introduces itself: a type name of small letters, digits and `_`, a summary of one line, words for every option; its sample and the
    /// given table build, and the same each time.
    Describe,
    /// An unknown key and a value of another type are faults, and each points at its own token.
    Faults,

    // Sources.
    /// Split ids are unique and not empty, the same when asked again; a split survives being stored as JSON.
    Splits,
    /// Every batch has exactly the columns of the schema, of the five types, and no null where none may be; a reject names its rule and says
    /// why; a position survives being stored as JSON.
    Schema,
    /// Undisturbed, it brings rows without an error, the same rows each time; a reader that is done stays done.
    Reads,
    /// Opened at any position, in another process, it brings the rest: nothing is lost, nothing comes twice. (Where it is `resumable`.)
    Resume,
    /// A `splits`, `open` or `read` that is dropped after any poll and called again loses nothing and brings nothing twice.
    CancelSafe,
    /// Asked for a window, it brings rows of that window alone, and the two halves of a window are the whole. One that cannot ignores or refuses it.
    Window,
    /// Whatever the far side does (refuses, breaks off, answers with a refusal, another thing or half of one), once or for ever: no panic,
    /// never other rows than undisturbed without an error or a reject, and an error that says who must act, in one line without a secret.
    Errors,
    /// Every request asks the budget first, and an undisturbed run costs no more requests than announced.
    Budget,
    /// After `cancel` nothing more is asked, and no call ends after the deadline, even if the far side never answers.
    Stops,

    // Sources and sinks.
    /// `probe` succeeds when all is well, with few requests and nothing left behind, and fails when the far side or the disk is dead.
    Probe,

    // Sinks.
    /// `plan` names columns of its input as stored, and the same identity each time.
    Plan,
    /// What was committed is read back: every row once, its stored columns as they were written, in order within a series; by another process too.
    /// Rows that are selected from a batch are stored as if they had come alone. `look` at stored rows succeeds.
    Stores,
    /// Nothing shows before the state has decided, prepared or not.
    Hidden,
    /// An abort forgets what was written, prepared or not, and leaves nothing behind.
    Abort,
    /// `commit` can be repeated, also in another process.
    CommitTwice,
    /// After a process ended between two calls, `recover` leads to the last decided epoch, and the sink can go on. Repeating it changes nothing.
    Recover,
    /// After a process died at any operation on the disk, and the disk lost what was not synced, likewise.
    Crash,
    /// A replaced row takes the place of the stored one with its key, and touches no other. (Where it can replace.)
    Replace,
    /// An epoch without rows changes nothing that is stored.
    EmptyEpoch,
    /// `read_back` with `from` or `to` brings exactly the rows from the one up to the other.
    Filter,
    /// `adopt` derives records from what is stored, with which the sink can go on, and changes nothing.
    Adopt,
    /// When the disk fails, at any operation (the ways to fail take turns), the error is `storage`, names the place and what to do; nothing is lost, and the
    /// sink goes on when the disk is well again.
    DiskErrors,
    /// A row that cannot be stored fails with [`Act::Split`](crate::Act::Split), and after an abort the others can be stored; every other row is.
    Unstorable,

    // Triggers.
    /// The next tick is strictly later, whatever the instant.
    Later,
    /// Ticks and delays depend on nothing but what was asked.
    Pure,
    /// No tick is skipped: between an instant and its next tick there is none. After the last there is no other.
    Steady,
    /// Two ticks are never closer than `period`.
    Period,
    /// The delay stays below the period.
    Delay,

    // Transforms.
    /// What comes out has the planned columns, no null where none may be, and rejects that say why; no more rows than went in.
    Applies,
    /// The same rows in other batches bring the same rows.
    Batches,
}

impl Promise {
    /// What every plugin promises.
    pub const PLUGIN: [Self; 2] = [Self::Describe, Self::Faults];
    /// What a source promises besides.
    pub const SOURCE: [Self; 10] =
        [Self::Splits, Self::Schema, Self::Reads, Self::Resume, Self::CancelSafe, Self::Window, Self::Errors, Self::Budget, Self::Stops, Self::Probe];
    /// What a sink promises besides.
    pub const SINK: [Self; 14] = [
        Self::Plan,
        Self::Stores,
        Self::Hidden,
        Self::Abort,
        Self::CommitTwice,
        Self::Recover,
        Self::Crash,
        Self::Replace,
        Self::EmptyEpoch,
        Self::Filter,
        Self::Adopt,
        Self::DiskErrors,
        Self::Unstorable,
        Self::Probe,
    ];
    /// What a trigger promises besides.
    pub const TRIGGER: [Self; 5] = [Self::Later, Self::Pure, Self::Steady, Self::Period, Self::Delay];
    /// What a transform promises besides.
    pub const TRANSFORM: [Self; 3] = [Self::Applies, Self::Batches, Self::Pure];
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// In which case, and how.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}

/// What a kit found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The plugin's type name.
    pub plugin: String,
    /// Every broken promise, with the first few cases.
    pub broken: Vec<Broken>,
    /// In how many cases each promise was tried.
    pub cases: BTreeMap<Promise, usize>,
    /// What was not tried, and why.
    pub notes: Vec<String>,
    more: BTreeMap<Promise, usize>,
    /// Nothing else is tried, but for what the rest stands on.
    only: Option<Promise>,
}

impl Report {
    /// One case of a promise. A panic breaks it.
    fn case(&mut self, promise: Promise, label: impl FnOnce() -> String, case: impl FnOnce() -> Result<(), String>) -> bool {
        if self.only.is_some_and(|only| only != promise) && !matches!(promise, Promise::Describe | Promise::Plan | Promise::Reads) {
            return true;
        }
        *self.cases.entry(promise).or_default() += 1;
        let what = match catch_unwind(AssertUnwindSafe(case)) {
            Ok(Ok(())) => return true,
            Ok(Err(what)) => what,
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                format!("it panicked: {}", said.unwrap_or_default())
            }
        };
        if self.broken.iter().filter(|broken| broken.promise == promise).count() < TOLD {
            self.broken.push(Broken { promise, what: format!("{}: {what}", label()) });
        } else {
            *self.more.entry(promise).or_default() += 1;
        }
        false
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Was this promise broken?
    pub fn breaks(&self, promise: Promise) -> bool {
        self.broken.iter().any(|broken| broken.promise == promise)
    }

    /// Panics when a promise was broken, with all of them; else prints how much was tried.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "it is the end of a test")]
    pub fn assert(&self) {
        assert!(self.broken.is_empty(), "{self}");
        println!("{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.cases.values().sum();
        if self.broken.is_empty() {
            write!(f, "{}: every promise held in {total} cases", self.plugin)?;
        } else {
            write!(f, "{}: broken promises, in {total} cases", self.plugin)?;
        }
        for broken in &self.broken {
            write!(f, "\n  {broken}")?;
        }
        for (promise, more) in &self.more {
            write!(f, "\n  {promise:?}: and {more} cases more")?;
        }
        for (promise, cases) in &self.cases {
            write!(f, "\n  tried {promise:?} {cases} times")?;
        }
        for note in &self.notes {
            write!(f, "\n  not tried: {note}")?;
        }
        Ok(())
    }
}

/// Turns a failed comparison into words.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// A row in words that tell every two different rows apart, without the columns in `without`.
fn row_text(batch: &RecordBatch, row: usize, without: &[String]) -> String {
    let mut text = String::new();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()).filter(|(field, _)| !without.contains(field.name())) {
        let cell = if column.is_null(row) {
            "null".to_owned()
        } else if let (Some(ColumnType::Float), Some(column)) =
            (ColumnType::of(field.data_type()), column.as_any().downcast_ref::<arrow_array::Float64Array>())
        {
            // JSON lacks some of them.
            format!("{:?}", column.value(row))
        } else {
            cell_json(column, row).to_string()
        };
        text.push_str(&format!("{}{}={cell}", if text.is_empty() { "" } else { " " }, field.name()));
    }
    text
}

fn rows_text(batch: &RecordBatch, without: &[String]) -> Vec<String> {
    (0..batch.num_rows()).map(|row| row_text(batch, row, without)).collect()
}

/// How two lists of rows differ, in one line; `None` when they do not.
fn difference(found: &[String], expected: &[String]) -> Option<String> {
    if found == expected {
        return None;
    }
    let at = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let show = |rows: &[String]| rows.get(at).map_or_else(|| "nothing".to_owned(), |row| format!("`{row}`"));
    Some(format!("{} rows instead of {}; row {} is {} instead of {}", found.len(), expected.len(), at + 1, show(found), show(expected)))
}

/// What is wrong with a batch that should have these columns.
fn batch_fault(batch: &RecordBatch, schema: &arrow_schema::Schema) -> Option<String> {
    let found = batch.schema_ref().fields();
    if found != &schema.fields {
        let names = |fields: &arrow_schema::Fields| fields.iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", ");
        return Some(format!("a batch has the columns ({}) instead of ({})", names(found), names(&schema.fields)));
    }
    found.iter().zip(batch.columns()).find_map(|(field, column)| {
        (!field.is_nullable() && column.null_count() > 0).then(|| format!("the column {} may not be null and is", field.name()))
    })
}

/// What is wrong with a schema.
fn schema_fault(schema: &arrow_schema::Schema) -> Option<String> {
    if schema.fields.is_empty() {
        return Some("the schema has no column".to_owned());
    }
    let mut seen = std::collections::BTreeSet::new();
    schema.fields.iter().find_map(|field| {
        if field.name().is_empty() || !seen.insert(field.name()) {
            return Some(format!("the column name {:?} is empty or comes twice", field.name()));
        }
        ColumnType::of(field.data_type())
            .is_none()
            .then(|| format!("{} has the type {}, which pipelines do not speak", field.name(), field.data_type()))
    })
}

/// What is wrong with rejects.
fn reject_fault(rejects: &[crate::Reject]) -> Option<String> {
    rejects.iter().find_map(|reject| {
        let line = |text: &str| !text.trim().is_empty() && !text.contains(['\n', '\r']);
        (!line(&reject.rule) || !line(&reject.message)).then(|| format!("a reject needs a rule and a message, each in one line: {reject:?}"))
    })
}
