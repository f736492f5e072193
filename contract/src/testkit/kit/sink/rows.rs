//! The rows that sinks are given, and what should be stored of them.

use std::fmt;

use arrow_array::{Array, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use chrono::{DateTime, TimeDelta, Utc};

use super::super::row_text;
use crate::arrow::SchemaRef;
use crate::{Op, Row, instant};

crate::rows! {
    /// A row that reaches a sink in a [`SinkKit`](super::SinkKit).
    pub struct KitRow {
        /// What it belongs to: the first part of the key.
        pub series: String,
        /// When: the second part of the key.
        pub at: DateTime<Utc>,
        /// A boolean.
        pub flag: Option<bool>,
        /// An integer.
        pub count: Option<i64>,
        /// A float.
        pub value: Option<f64>,
        /// A text.
        pub note: Option<String>,
    }
}

impl KitRow {
    pub(super) const KEYS: [&'static str; 2] = ["series", "at"];

    pub(super) fn input() -> SchemaRef {
        Self::schema()
    }

    fn plain(series: &str, hours: i64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "it is small")]
        let value = hours as f64 + 0.5;
        Self { series: series.to_owned(), at: hour(hours), flag: None, count: Some(hours), value: Some(value), note: None }
    }

    /// A row of the first epoch for each series.
    pub(super) fn some(series: &[&str]) -> RecordBatch {
        Self::batch(&series.iter().map(|series| Self::plain(series, 0)).collect::<Vec<_>>())
    }
}

/// So many hours after the first row.
pub(super) fn hour(hours: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_222_000, 0).unwrap_or_default() + TimeDelta::hours(hours)
}

/// The writes of one epoch.
#[derive(Clone, Debug)]
pub(super) struct Work(pub(super) Vec<(Op, RecordBatch)>);

impl Work {
    fn append(rows: &[KitRow]) -> (Op, RecordBatch) {
        (Op::Append, KitRow::batch(rows))
    }

    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    pub(super) fn empty_batch() -> Self {
        Self(vec![Self::append(&[])])
    }

    /// Two series.
    pub(super) fn first() -> Self {
        Self(vec![Self::append(&[KitRow::plain("a", 0)]), Self::append(&[KitRow::plain("b", 0), KitRow::plain("a", 1)])])
    }

    /// One that goes on, one that is new, and one that changes.
    pub(super) fn second(replaces: bool) -> Self {
        let mut work = Self(vec![Self::append(&[KitRow::plain("a", 2), KitRow::plain("new", 0)])]);
        if replaces {
            work.0.push((Op::Replace, KitRow::batch(&[KitRow { note: Some("replaced".to_owned()), ..KitRow::plain("b", 0) }])));
        }
        work
    }

    /// Rows that go on, one for each of two series.
    pub(super) fn next(hours: i64) -> Self {
        Self(vec![Self::append(&[KitRow::plain("a", 10 + hours), KitRow::plain("z", 10 + hours)])])
    }

    /// Other values for two rows of the first epochs.
    pub(super) fn replacing() -> Self {
        let other = |series, hours, note: &str| KitRow { flag: Some(true), value: None, note: Some(note.to_owned()), ..KitRow::plain(series, hours) };
        Self(vec![(Op::Replace, KitRow::batch(&[other("a", 1, "longer than what was there before"), other("b", 0, "")]))])
    }

    /// Other values for a row that comes in the same epoch, twice.
    pub(super) fn replacing_new() -> Self {
        let other = |count| KitRow { count: Some(count), ..KitRow::plain("a", 40) };
        let row = |count| KitRow::batch(&[other(count)]);
        Self(vec![(Op::Append, row(1)), (Op::Replace, row(2)), (Op::Replace, row(3))])
    }

    /// All kinds of values, in several epochs.
    pub(super) fn varied() -> Vec<Self> {
        let texts = [
            "",
            " ",
            "null",
            "NULL",
            "NaN",
            "0",
            "a,b;c|d\te",
            "say \"yes\"",
            "\"",
            "'",
            "two\nlines",
            "two\r\nlines",
            "\r",
            "\n",
            "=1+1",
            "-1",
            "+1",
            "@x",
            "\u{feff}mark",
            "grün 漢字 🦀",
            "e\u{301}",
            "\\",
            "\\n",
            "%41",
            "#",
            "{}",
            "a ",
            " a",
        ];
        let mut hours = 100;
        let mut plain = |series: &str| {
            hours += 1;
            KitRow::plain(series, hours)
        };
        let notes: Vec<_> = texts.iter().map(|text| KitRow { note: Some((*text).to_owned()), ..plain("notes") }).collect();
        let floats = [0.0, -0.0, 0.1, -1.5, 1e-300, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::MIN, f64::EPSILON, 1e21, f64::NAN, f64::INFINITY];
        let mut values: Vec<_> = floats.iter().map(|value| KitRow { value: Some(*value), ..plain("values") }).collect();
        values.push(KitRow { value: None, ..plain("values") });
        values.push(KitRow { value: Some(f64::NEG_INFINITY), ..plain("values") });
        let counts = [Some(i64::MIN), Some(i64::MAX), Some(-1), Some(0), None, Some(9_007_199_254_740_993)];
        let counts: Vec<_> = counts.iter().map(|count| KitRow { count: *count, ..plain("counts") }).collect();
        let flags: Vec<_> = [Some(true), None, Some(false)].iter().map(|flag| KitRow { flag: *flag, ..plain("counts") }).collect();
        let times = [
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
            "2026-05-19T15:37:20.123Z",
        ];
        let times = times.iter().filter_map(|text| text.parse().ok()).enumerate();
        let times: Vec<_> = times.map(|(n, at)| KitRow { at, ..plain(["t0", "t1", "t2", "t3", "t4"][n % 5]) }).collect();
        let series: Vec<_> = texts.iter().map(|text| plain(text)).collect();
        let more = ["..", "a/../b", "A", "CON", "x.csv", ".hidden", "a:b?*"].map(&mut plain);
        let many: Vec<_> = (0..40).map(|n| plain(if n % 3 == 0 { "a" } else { "b" })).collect();
        let all_null = KitRow { count: None, value: None, ..plain("nulls") };
        vec![
            Self(vec![Self::append(&[KitRow::plain("a", 0)]), Self::append(&notes)]),
            Self(vec![Self::append(&values), Self::append(&counts), Self::append(&flags)]),
            Self::none(),
            Self(vec![Self::append(&times)]),
            Self(vec![Self::append(&series), Self::append(&more)]),
            Self(vec![Self::append(&[all_null]), Self::append(&many[..20]), Self::append(&many[20..])]),
        ]
    }
}

/// The rows as some of a batch: before each stands one of an instant that is not selected.
pub(super) fn among_others(batch: &RecordBatch, micros: i64) -> Result<(RecordBatch, BooleanArray), String> {
    let mixed = || {
        let all = concat_batches(batch.schema_ref(), [batch, &at(micros)?])?;
        let rows = 0..u32::try_from(batch.num_rows()).unwrap_or_default();
        let other = rows.end;
        let order: UInt32Array = rows.clone().flat_map(|row| [other, row]).collect();
        let selection = rows.flat_map(|_| [false, true]).collect::<Vec<_>>();
        Ok((take_record_batch(&all, &order)?, BooleanArray::from(selection)))
    };
    mixed().map_err(|error: arrow_schema::ArrowError| error.to_string())
}

/// A row of an instant.
fn at(micros: i64) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let mut columns = KitRow::batch(&[KitRow::plain("odd", 0)]).columns().to_vec();
    let times: arrow_array::ArrayRef = std::sync::Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"));
    columns.splice(1..2, [times]);
    RecordBatch::try_new(KitRow::schema(), columns)
}

/// Rows that some sinks cannot store.
pub(super) fn odd() -> Vec<(&'static str, RecordBatch)> {
    let one = |row: KitRow| KitRow::batch(&[row]);
    let at = |micros: i64| at(micros).unwrap_or_else(|_| RecordBatch::new_empty(KitRow::schema()));
    vec![
        ("the first instant there is", at(i64::MIN)),
        ("the last instant there is", at(i64::MAX)),
        ("a year before the first", at(-62_167_219_200_000_001)),
        ("a year of five digits", at(253_402_300_800_000_000)),
        ("a sign that is none", one(KitRow { note: Some("a\0b".to_owned()), ..KitRow::plain("odd", 0) })),
        ("a series with a sign that is none", one(KitRow::plain("a\0b", 0))),
        ("a series of 10,000 letters", one(KitRow::plain(&"long".repeat(2500), 0))),
        ("a text of a million letters", one(KitRow { note: Some("0123456789".repeat(100_000)), ..KitRow::plain("odd", 0) })),
    ]
}

/// When a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// After so many writes.
    Write(usize),
    Prepare,
    Decide,
    Commit,
    /// After the commit, as it should.
    Ended,
}

impl At {
    pub(super) fn all(writes: usize) -> impl Iterator<Item = Self> {
        (0..=writes).map(Self::Write).chain([Self::Prepare, Self::Decide, Self::Commit, Self::Ended])
    }

    pub(super) fn is_decided(self) -> bool {
        matches!(self, Self::Decide | Self::Commit | Self::Ended)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(writes) => write!(f, "after {writes} writes"),
            Self::Prepare => f.write_str("after `prepare`"),
            Self::Decide => f.write_str("after the state had decided, before the commit"),
            Self::Commit => f.write_str("after the commit"),
            Self::Ended => f.write_str("in peace after the commit"),
        }
    }
}

/// A row as it should be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) series: String,
    at: i64,
    pub(super) text: String,
}

/// What should be stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Model(pub(super) Vec<Kept>);

impl Model {
    pub(super) fn apply(&mut self, work: &Work, without: &[String]) {
        for (op, batch) in &work.0 {
            for row in kept(batch, without) {
                match self.0.iter_mut().find(|old| *op == Op::Replace && (&old.series, old.at) == (&row.series, row.at)) {
                    Some(old) => *old = row,
                    None => self.0.push(row),
                }
            }
        }
    }

    pub(super) fn only(&mut self, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) {
        let window = crate::Window { from, to };
        self.0.retain(|row| instant(row.at).is_none_or(|at| window.contains(at)));
    }

    /// Series by series, each in order.
    pub(super) fn texts(&self, ordered: bool) -> Vec<String> {
        let mut rows: Vec<_> = self.0.iter().collect();
        rows.sort_by_key(|row| (&row.series, if ordered { "" } else { &row.text }));
        rows.into_iter().map(|row| row.text.clone()).collect()
    }
}

/// The rows of a batch.
pub(super) fn kept(batch: &RecordBatch, without: &[String]) -> Vec<Kept> {
    let series = batch.column_by_name("series").and_then(|column| column.as_any().downcast_ref::<StringArray>());
    let at = batch.column_by_name("at").and_then(|column| column.as_any().downcast_ref::<TimestampMicrosecondArray>());
    let of = |row: usize| Kept {
        series: series.filter(|column| !column.is_null(row)).map_or_else(String::new, |column| column.value(row).to_owned()),
        at: at.filter(|column| !column.is_null(row)).map_or(0, |column| column.value(row)),
        text: row_text(batch, row, without),
    };
    (0..batch.num_rows()).map(of).collect()
}
