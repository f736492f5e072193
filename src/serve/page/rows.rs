//! The newest stored rows of a pipeline, for its chart.
//!
//! They are read again when something was stored since, not at every look; and only from the end of time, as far as that is known: a sink
//! that holds years is not read through.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use pipeline_contract::arrow::{Array, RecordBatch};
use pipeline_contract::{ColumnType, Epoch, Filter, Ports, StageError, cell_json, instant};
use serde_json::Value;

use super::chart::drawable;
use crate::run::sink_context;
use crate::serve::Member;

/// So many rows of a series are shown.
pub(super) const ROWS: usize = 200;
/// With fewer than so many, it is looked further back.
const FEW: usize = 60;
/// So many series are told apart.
const SERIES: usize = 500;
/// How much further back it is looked each time.
const WIDER: i32 = 10;

/// What is drawn of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Its columns `open`, `high`, `low` and `close`.
    Candles,
    /// One column.
    Line(String),
}

/// A row: its values are those of [`Shape`], one or four.
pub(super) type Values = [f64; 4];

/// The newest rows, series by series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Newest {
    /// The column that says of what time a row is.
    pub(super) time: String,
    pub(super) shape: Shape,
    /// By name and by time, [`ROWS`] each at most.
    pub(super) series: BTreeMap<String, BTreeMap<DateTime<Utc>, Values>>,
}

/// What was read last of each pipeline.
#[derive(Default)]
pub(super) struct Shelf {
    kept: Mutex<HashMap<Arc<str>, Kept>>,
    /// One reads at a time, whoever asks.
    reading: tokio::sync::Mutex<()>,
}

struct Kept {
    member: Weak<Member>,
    epoch: Option<Epoch>,
    newest: Arc<Newest>,
}

impl Shelf {
    /// The newest rows; `None` when they have no time, or no number to draw.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) async fn newest(&self, member: &Arc<Member>, ports: &Ports) -> Result<Option<Arc<Newest>>, StageError> {
        let epoch = member.store.last_epoch()?.map(|(epoch, _)| epoch);
        if let Some(newest) = self.kept(member, epoch) {
            return Ok(Some(newest));
        }
        let _one = self.reading.lock().await;
        if let Some(newest) = self.kept(member, epoch) {
            return Ok(Some(newest));
        }
        let Some(plan) = Wanted::of(member) else { return Ok(None) };
        let newest = Arc::new(plan.read(member, ports).await?);
        let kept = Kept { member: Arc::downgrade(member), epoch, newest: Arc::clone(&newest) };
        let mut shelf = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.retain(|_, kept| kept.member.strong_count() > 0);
        shelf.insert(Arc::clone(&member.name), kept);
        Ok(Some(newest))
    }

    fn kept(&self, member: &Arc<Member>, epoch: Option<Epoch>) -> Option<Arc<Newest>> {
        let shelf = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = shelf.get(&member.name)?;
        let same = kept.epoch == epoch && std::ptr::eq(kept.member.as_ptr(), Arc::as_ptr(member));
        same.then(|| Arc::clone(&kept.newest))
    }
}

/// What is looked for in rows.
struct Wanted {
    time: String,
    shape: Shape,
    columns: Vec<String>,
    series: Vec<String>,
}

impl Wanted {
    fn of(member: &Member) -> Option<Self> {
        let plan = &member.plan;
        let time = member.expected.time.clone().or_else(|| plan.time_column())?;
        let stored = &plan.sinks.first()?.plan.stored;
        let is = |name: &str, types: &[ColumnType]| {
            let field = plan.schema.field_with_name(name).ok().filter(|_| stored.iter().any(|column| column == name));
            field.and_then(|field| ColumnType::of(field.data_type())).is_some_and(|ty| types.contains(&ty))
        };
        let numbers = [ColumnType::Float, ColumnType::Integer];
        let series = member.expected.series.iter().filter(|name| stored.contains(name)).cloned().collect();
        let prices = ["open", "high", "low", "close"];
        if prices.iter().all(|name| is(name, &numbers)) {
            let columns = prices.map(str::to_owned).to_vec();
            return Some(Self { time, shape: Shape::Candles, columns, series });
        }
        let first = |types: &[ColumnType]| stored.iter().find(|name| is(name, types) && !member.expected.series.contains(name)).cloned();
        let column = first(&[ColumnType::Float]).or_else(|| first(&[ColumnType::Integer]))?;
        Some(Self { time, shape: Shape::Line(column.clone()), columns: vec![column], series })
    }

    async fn read(self, member: &Member, ports: &Ports) -> Result<Newest, StageError> {
        let newest = member.live().newest;
        let anchor = newest.unwrap_or_else(|| ports.clock.now());
        let step = member.expected.step.and_then(|step| TimeDelta::from_std(step).ok());
        let mut back = step.map_or(TimeDelta::days(2), |step| step.checked_mul(ROWS as i32).unwrap_or(TimeDelta::MAX));
        let mut found = Newest { time: self.time.clone(), shape: self.shape.clone(), series: BTreeMap::new() };
        for _ in 0..3 {
            found.series = self.since(member, ports, anchor.checked_sub_signed(back)).await?;
            let most = found.series.values().map(BTreeMap::len).max().unwrap_or_default();
            if most >= FEW || (most > 0 && step.is_some() && newest.is_some()) {
                return Ok(found);
            }
            back = back.checked_mul(WIDER).unwrap_or(TimeDelta::MAX);
        }
        if found.series.is_empty() {
            // What is stored is all older than that, or there is nothing.
            found.series = self.since(member, ports, None).await?;
        }
        Ok(found)
    }

    async fn since(
        &self,
        member: &Member,
        ports: &Ports,
        from: Option<DateTime<Utc>>,
    ) -> Result<BTreeMap<String, BTreeMap<DateTime<Utc>, Values>>, StageError> {
        let mut series: BTreeMap<String, BTreeMap<DateTime<Utc>, Values>> = BTreeMap::new();
        let Some(part) = member.plan.parts.sinks.first() else { return Ok(series) };
        let context = sink_context(&member.name, &part.id, ports, &member.store, &member.state_dir);
        let filter = Filter { time_column: Some(self.time.clone()), from, to: None };
        let mut stream = part.sink.read_back(&context, &filter).await?;
        while let Some(batch) = stream.next().await? {
            for row in 0..batch.num_rows() {
                let Some((at, values)) = self.values(&batch, row) else { continue };
                let name = self.name(&batch, row);
                if !series.contains_key(&name) && series.len() >= SERIES {
                    continue;
                }
                let rows = series.entry(name).or_default();
                rows.insert(at, values);
                if rows.len() > ROWS {
                    rows.pop_first();
                }
            }
        }
        Ok(series)
    }

    fn values(&self, batch: &RecordBatch, row: usize) -> Option<(DateTime<Utc>, Values)> {
        let times = batch.column_by_name(&self.time).filter(|times| !times.is_null(row))?;
        let at = instant(times.as_primitive_opt::<TimestampMicrosecondType>()?.value(row)).filter(|at| (1..=9999).contains(&at.year()))?;
        let mut values = [0.0; 4];
        for (value, name) in values.iter_mut().zip(&self.columns) {
            *value = number(batch.column_by_name(name)?.as_ref(), row).filter(|value| drawable(*value))?;
        }
        Some((at, values))
    }

    fn name(&self, batch: &RecordBatch, row: usize) -> String {
        let cells = self.series.iter().filter_map(|name| batch.column_by_name(name)).map(|column| cell_json(column, row));
        cells.map(|cell| plain(&cell)).collect::<Vec<_>>().join(", ")
    }
}

fn number(column: &dyn Array, row: usize) -> Option<f64> {
    if column.is_null(row) {
        return None;
    }
    let float = column.as_primitive_opt::<Float64Type>().map(|column| column.value(row));
    float.or_else(|| column.as_primitive_opt::<Int64Type>().map(|column| column.value(row) as f64))
}

/// A cell as people read it.
pub(super) fn plain(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
