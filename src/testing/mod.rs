//! Tests of a pipeline: rows or recorded responses in, expected rows and rejects out, through the real engine in a world of their own.
//!
//! `config` reads `[[test]]`, `plan` types it against the columns of the pipeline and makes [`Case`]s; [`run`] runs one. No network, no real
//! time, nothing is written; what earlier runs stored is a state in memory.

mod cell;
mod diff;
mod world;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{Reject, Spanned, StageError};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use cell::Cell;
pub(crate) use cell::batch;
use diff::Line;
pub use world::Headers;
use world::{FOR_EVER, Given, ports};

use crate::run::{Engine, Parts};
use crate::state::{Counts, ModelStore, RunRecord, RunStatus, Store};

/// One test, typed.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: Spanned<String>,
    /// What comes in.
    pub input: Input,
    /// Rows, as the source brings them, that an earlier run has stored.
    pub stored: RecordBatch,
    /// What time it is.
    pub now: DateTime<Utc>,
    /// What must become of it.
    pub expect: Expect,
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// Rows of one split: the source is not asked.
    Rows(String, RecordBatch),
    /// What the far side of the source answers.
    Responses(Vec<Recorded>),
}

/// A recorded response.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The path that is asked for: its whole, its beginning or its end; with `?query` where that matters.
    pub on: String,
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: ResponseBody,
}

/// The body of a response.
#[derive(Clone, Debug)]
pub enum ResponseBody {
    /// As it is.
    Inline(Bytes),
    /// In a file that is yet to be read.
    File(Spanned<PathBuf>),
}

/// Columns of a row that are compared.
pub type Named = Vec<(String, Cell)>;

/// What must become of it. `None` is not looked at.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// New rows.
    pub rows: Option<Vec<Named>>,
    /// Rows that take the place of stored ones.
    pub replaced: Option<Vec<Named>>,
    /// Rejected rows.
    pub rejects: Option<Vec<ExpectReject>>,
    /// Rows that are stored already.
    pub duplicates: Option<u64>,
    /// Rows that are stored already with other values.
    pub conflicts: Option<u64>,
    /// Rows that transforms left out.
    pub filtered: Option<u64>,
    /// A part of the message of an error.
    pub error: Option<String>,
}

/// A rejected row.
#[derive(Clone, Debug)]
pub struct ExpectReject {
    /// The rule.
    pub rule: String,
    /// A part of the message.
    pub message: Option<String>,
    /// Columns of the row.
    pub row: Named,
}

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of what: `rows`, `replaced`, `rejects`, `duplicates`, `conflicts`, `filtered`, `error`, `stored`.
    pub what: &'static str,
    /// How, in one line.
    pub message: String,
    /// The difference: `-` was expected, `+` was found.
    pub lines: Vec<String>,
}

impl Failure {
    fn new(what: &'static str, message: impl Into<String>) -> Self {
        Self { what, message: message.into(), lines: Vec::new() }
    }
}

/// Runs a test; what is not as expected. `parts` makes the stages of its pipeline anew.
pub fn run(case: &Case, parts: &(dyn Fn() -> Option<Parts> + Sync)) -> Vec<Failure> {
    // A runtime of one thread: who works before whom is the same each time.
    let within = || -> Result<Vec<Failure>, StageError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| StageError::developer(format!("a test cannot start: {error}")))?.block_on(run_within(case, parts))
    };
    let ended = std::thread::scope(|scope| scope.spawn(within).join());
    match ended {
        Ok(Ok(failures)) => failures,
        Ok(Err(error)) => vec![Failure::new("error", error.message)],
        Err(_) => vec![Failure::new("error", "the test ended without a word (a plugin panicked)")],
    }
}

async fn run_within(case: &Case, parts: &(dyn Fn() -> Option<Parts> + Sync)) -> Result<Vec<Failure>, StageError> {
    let make = || {
        let mut parts = parts().ok_or_else(|| StageError::developer("the pipeline of the test cannot be built"))?;
        // Deadlines are no matter of time that passes at will, and one split after the other asks for its responses in the order of the file.
        parts.settings.concurrency = 1;
        (parts.settings.deadline, parts.settings.once_deadline) = (FOR_EVER * 2, FOR_EVER * 2);
        Ok::<_, StageError>(parts)
    };
    let store: Arc<dyn Store> = Arc::new(ModelStore::default());
    let cancel = CancellationToken::new();
    if case.stored.num_rows() > 0 {
        let mut earlier = make()?;
        earlier.source = Arc::new(Given { split: split_of(case).to_owned(), batch: case.stored.clone() });
        // What is stored is what the state knows of it: no sink is opened, no reject is kept.
        earlier.sinks.clear();
        earlier.quarantine = None;
        earlier.settings.abort = None;
        let mut engine = Engine::new(earlier, Arc::clone(&store), ports(case.now, Vec::new()), PathBuf::new(), Arc::new(|_| {}))?;
        let record = engine.run(&engine.now(None), &cancel).await;
        let rows = case.stored.num_rows() as u64;
        if record.status != RunStatus::Ok || record.rows.written != rows {
            let why = errors(&record).first().cloned().unwrap_or_else(|| words(&record.rows));
            return Ok(vec![Failure::new("stored", format!("of {rows} rows in `stored` the pipeline stores {}: {why}", record.rows.written))]);
        }
    }
    let mut parts = make()?;
    let responses = match &case.input {
        Input::Rows(split, batch) => {
            parts.source = Arc::new(Given { split: split.clone(), batch: batch.clone() });
            // A few rows by hand are no share of a run.
            parts.settings.abort = None;
            Vec::new()
        }
        Input::Responses(responses) => responses.clone(),
    };
    let mut engine = Engine::dry(parts, store, ports(case.now, responses), PathBuf::new(), Arc::new(|_| {}))?;
    let record = engine.run(&engine.now(None), &cancel).await;
    let preview = engine.preview();
    let batches = |part: std::collections::BTreeMap<usize, Vec<RecordBatch>>| part.into_values().flatten().collect();
    let found = Found {
        rows: batches(preview.append),
        replaced: batches(preview.replace),
        rejects: preview.rejects.into_values().flatten().map(|(_, reject)| reject).collect(),
        counts: record.rows,
        errors: errors(&record),
    };
    Ok(compare(&case.expect, &found))
}

fn split_of(case: &Case) -> &str {
    match &case.input {
        Input::Rows(split, _) => split,
        Input::Responses(_) => "test",
    }
}

fn words(rows: &Counts) -> String {
    format!("{} rejected, {} filtered, {} duplicates, {} conflicts", rows.rejected, rows.filtered, rows.duplicates, rows.conflicts)
}

/// Every error of a run, with the split that it is of.
fn errors(record: &RunRecord) -> Vec<String> {
    let splits = record.splits.iter().filter_map(|split| Some((split.split.id.as_str(), split.error.as_ref()?)));
    let of_splits: Vec<_> = splits.map(|(id, error)| format!("{id}: {}: {}", error.category, error.message)).collect();
    let whole = record.error.iter().filter(|error| !record.splits.iter().any(|split| split.error.as_ref() == Some(*error)));
    whole.map(|error| format!("{}: {}", error.category, error.message)).chain(of_splits.clone()).collect()
}

/// What became of the rows.
struct Found {
    rows: Vec<RecordBatch>,
    replaced: Vec<RecordBatch>,
    rejects: Vec<Reject>,
    counts: Counts,
    errors: Vec<String>,
}

fn compare(expect: &Expect, found: &Found) -> Vec<Failure> {
    let mut failures = Vec::new();
    match &expect.error {
        None => failures.extend(found.errors.iter().map(|error| Failure::new("error", format!("nothing may fail, but: {error}")))),
        Some(part) if !found.errors.iter().any(|error| error.contains(part.as_str())) => {
            let mut failure =
                Failure::new("error", format!("expected one with {part:?}, found {}", count(found.errors.len() as u64, "other", "others")));
            failure.lines = found.errors.iter().map(|error| format!("+ {error}")).collect();
            failures.push(failure);
        }
        Some(_) => {}
    }
    failures.extend(expect.rows.as_ref().and_then(|rows| compare_rows("rows", rows, &found.rows)));
    failures.extend(expect.replaced.as_ref().and_then(|rows| compare_rows("replaced", rows, &found.replaced)));
    failures.extend(expect.rejects.as_ref().and_then(|rejects| compare_rejects(rejects, &found.rejects)));
    for (what, expected, is) in [
        ("duplicates", expect.duplicates, found.counts.duplicates),
        ("conflicts", expect.conflicts, found.counts.conflicts),
        ("filtered", expect.filtered, found.counts.filtered),
    ] {
        failures.extend(expected.filter(|n| *n != is).map(|n| Failure::new(what, format!("expected {n}, found {is}"))));
    }
    failures
}

fn count(n: u64, one: &str, more: &str) -> String {
    match n {
        0 => "none".to_owned(),
        1 => format!("1 {one}"),
        n => format!("{n} {more}"),
    }
}

fn compare_rows(what: &'static str, expected: &[Named], found: &[RecordBatch]) -> Option<Failure> {
    let rows: Vec<(&RecordBatch, usize)> = found.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row))).collect();
    let cell = |(batch, row): (&RecordBatch, usize), name: &str| batch.column_by_name(name).map(|column| Cell::of(column, row));
    let same = |e: usize, f: usize| expected[e].iter().all(|(name, wanted)| cell(rows[f], name).as_ref() == Some(wanted));
    let lines = diff::lines(expected.len(), rows.len(), same);
    if lines.iter().all(|line| matches!(line, Line::Same(_))) {
        return None;
    }
    // The columns that the test names, in the order of the rows; all where it names none.
    let is_named = |name: &str| expected.iter().flatten().any(|(named, _)| named == name);
    let in_rows: Vec<String> = found.first().iter().flat_map(|batch| batch.schema_ref().fields().iter().map(|field| field.name().clone())).collect();
    let mut header: Vec<String> = in_rows.iter().filter(|name| is_named(name)).cloned().collect();
    for (name, _) in expected.iter().flatten() {
        if !header.contains(name) {
            header.push(name.clone());
        }
    }
    if header.is_empty() {
        header = in_rows;
    }
    let text = diff::text(&header, &lines, |line| match line {
        Line::Same(f) | Line::Extra(f) => header.iter().map(|name| cell(rows[f], name).map_or_else(String::new, |cell| cell.shown())).collect(),
        Line::Missing(e) => {
            let named = |name: &String| expected[e].iter().find(|(named, _)| named == name);
            header.iter().map(|name| named(name).map_or_else(String::new, |(_, cell)| cell.shown())).collect()
        }
    });
    let message = format!("expected {}, found {}", count(expected.len() as u64, "row", "rows"), count(rows.len() as u64, "row", "rows"));
    Some(Failure { what, message, lines: text })
}

fn compare_rejects(expected: &[ExpectReject], found: &[Reject]) -> Option<Failure> {
    let same = |e: usize, f: usize| {
        let (expected, found) = (&expected[e], &found[f]);
        expected.rule == found.rule
            && expected.message.as_ref().is_none_or(|part| found.message.contains(part.as_str()))
            && expected.row.iter().all(|(name, cell)| cell.is_json(found.row.get(name).unwrap_or(&Value::Null)))
    };
    let lines = diff::lines(expected.len(), found.len(), same);
    if lines.iter().all(|line| matches!(line, Line::Same(_))) {
        return None;
    }
    let row = |named: &Named| named.iter().map(|(name, cell)| format!("{name} = {}", cell.shown())).collect::<Vec<_>>().join(", ");
    let text = diff::text(&["rule".to_owned(), "message".to_owned(), "row".to_owned()], &lines, |line| match line {
        Line::Same(f) | Line::Extra(f) => vec![found[f].rule.clone(), found[f].message.clone(), found[f].row.to_string()],
        Line::Missing(e) => vec![expected[e].rule.clone(), expected[e].message.clone().unwrap_or_default(), row(&expected[e].row)],
    });
    let message = format!("expected {}, found {}", count(expected.len() as u64, "reject", "rejects"), count(found.len() as u64, "reject", "rejects"));
    Some(Failure { what: "rejects", message, lines: text })
}
