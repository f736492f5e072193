//! The sink `my_plugin`: rows as JSON, one object a line, in one file.
//!
//! `pipeline-files` keeps the promises of a sink: bytes are durable before they count, and a crash leaves the old epoch or the new one.

use std::io::{BufRead, BufReader, Read, Take};
use std::path::Path;

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatchOptions, TimestampMicrosecondArray};
use pipeline_contract::arrow::{Array, RecordBatch, SchemaRef, select};
use pipeline_contract::{
    BatchStream, BuildContext, Category, ColumnType, ConfigTable, Delivery, Descriptor, DiskFile, Epoch, Filter, Kind, Op, PlanError, Plugin,
    Recovery, Sink, SinkCapabilities, SinkContext, SinkInput, SinkPlan, SinkState, Spanned, Stage, StageError, async_trait, batch_from_json,
    parse_config, row_json,
};
use pipeline_files::{FileSet, Root, io_error};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

const TYPE: &str = "my_plugin";

/// The options of `my_plugin`: the comments are shown by `pipeline explain my_plugin`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The file; folders are created.
    path: Spanned<String>,
}

/// The plugins of this crate, for the program's list.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(MyPlugin)]
}

/// The plugin `my_plugin`.
#[derive(Clone, Copy, Debug)]
pub struct MyPlugin;

impl Plugin for MyPlugin {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Sink,
            type_name: TYPE,
            summary: "rows as JSON, one object a line",
            config: || schemars::schema_for!(Config),
            sample: include_str!("../sample.toml"),
        }
    }

    fn build(&self, table: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let config = parse_config::<Config>("sink \"my_plugin\"", table)?;
        // What a type cannot say is checked here, and told where it stands in the file.
        if Path::new(config.path.as_str()).file_name().is_none() {
            return Err(vec![config.path.error("E012", "`path` names no file").help("as path = \"data/rows.jsonl\"")]);
        }
        Ok(Stage::Sink(Box::new(MySink { path: config.path.to_string(), schema: None, files: None })))
    }
}

struct MySink {
    path: String,
    schema: Option<SchemaRef>,
    files: Option<FileSet>,
}

impl MySink {
    /// The folder of the file, in which this sink may have left temporary ones.
    fn root(&self) -> Root {
        let folder = Path::new(&self.path).parent().map(|folder| folder.to_string_lossy().into_owned());
        Root { dir: folder.unwrap_or_default(), depth: 0 }
    }

    fn schema(&self) -> Result<SchemaRef, StageError> {
        self.schema.clone().ok_or_else(|| StageError::developer("the sink was not planned"))
    }

    fn files(&mut self) -> Result<&mut FileSet, StageError> {
        self.files.as_mut().ok_or_else(|| StageError::developer("the sink was not recovered before it is used"))
    }

    /// The rows in the file, up to a length.
    fn lines(&self, cx: &SinkContext, filter: &Filter, len: u64) -> Result<Lines, StageError> {
        let disk = &cx.ports.disk;
        let path = Path::new(&self.path);
        let is_there = disk.metadata(path).map_err(|error| io_error("look at", &self.path, &error))?.is_some();
        let open = || disk.open(path).map_err(|error| io_error("open", &self.path, &error));
        let file = if is_there { Some(BufReader::new(open()?.take(len))) } else { None };
        Ok(Lines { path: self.path.clone(), schema: self.schema()?, filter: filter.clone(), file, line: 0 })
    }
}

#[async_trait]
impl Sink for MySink {
    fn plan(&mut self, input: &SinkInput) -> Result<SinkPlan, Vec<PlanError>> {
        self.schema = Some(input.schema.clone());
        let columns: Vec<String> = input.schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(SinkPlan {
            stored: columns.clone(),
            written: columns.clone(),
            // When this changes, what is stored no longer fits: the engine says so before it writes.
            identity: json!({"path": self.path, "columns": columns}),
            targets: vec![self.path.clone()],
            warnings: Vec::new(),
        })
    }

    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities { replace: false, delivery: Delivery::ExactlyOnce }
    }

    async fn recover(&mut self, cx: &SinkContext, recovery: &Recovery) -> Result<(), StageError> {
        let root = self.root();
        self.files.insert(FileSet::new(cx)).recover(recovery, &[root])
    }

    async fn write(&mut self, batch: &RecordBatch, _: Op) -> Result<(), StageError> {
        let mut bytes = Vec::new();
        for row in 0..batch.num_rows() {
            bytes.extend_from_slice(Value::Object(object(batch, row)?).to_string().as_bytes());
            bytes.push(b'\n');
        }
        let path = self.path.clone();
        self.files()?.append(&path, b"", bytes)
    }

    async fn look(&mut self, _: &RecordBatch) -> Result<(), StageError> {
        let path = self.path.clone();
        self.files()?.check(&path, b"").map(|_| ())
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<SinkState, StageError> {
        self.files()?.prepare(epoch)
    }

    async fn commit(&mut self, epoch: Epoch, state: &SinkState) -> Result<(), StageError> {
        self.files()?.commit(epoch, state)
    }

    async fn abort(&mut self) -> Result<(), StageError> {
        self.files.as_mut().map_or(Ok(()), FileSet::abort)
    }

    async fn read_back(&self, cx: &SinkContext, filter: &Filter) -> Result<Box<dyn BatchStream>, StageError> {
        // What is behind the committed length does not count yet.
        let committed = cx.records.get(&self.path)?.and_then(|record| record.get("len").and_then(Value::as_u64));
        Ok(Box::new(self.lines(cx, filter, committed.unwrap_or(u64::MAX))?))
    }

    async fn adopt(&self, cx: &SinkContext) -> Result<SinkState, StageError> {
        let mut lines = self.lines(cx, &Filter::default(), u64::MAX)?;
        let paths = if lines.file.is_some() { vec![self.path.clone()] } else { Vec::new() };
        // What cannot be read back is not taken over.
        while lines.next().await?.is_some() {}
        pipeline_files::adopt(cx, &paths, b"")
    }

    async fn probe(&self, cx: &SinkContext) -> Result<(), StageError> {
        pipeline_files::probe(cx, &self.root().dir)
    }
}

/// A row as JSON. Numbers that JSON lacks are texts; an instant that has no text that can be read back is refused.
fn object(batch: &RecordBatch, row: usize) -> Result<Map<String, Value>, StageError> {
    let mut object = row_json(batch, row);
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if let Some(floats) = column.as_any().downcast_ref::<Float64Array>()
            && floats.is_valid(row)
            && !floats.value(row).is_finite()
        {
            object.insert(field.name().clone(), floats.value(row).to_string().into());
        }
        let is_time = ColumnType::of(field.data_type()) == Some(ColumnType::Timestamp) && column.is_valid(row);
        if is_time && !object.get(field.name()).and_then(Value::as_str).is_some_and(|at| DateTime::parse_from_rfc3339(at).is_ok()) {
            let text = format!("column {}: {} is beyond the years that can be written", field.name(), object[field.name()]);
            return Err(StageError::split(Category::Validation, text).help("leave such rows out with a rule in [validate]"));
        }
    }
    Ok(object)
}

/// Stored rows.
struct Lines {
    path: String,
    schema: SchemaRef,
    filter: Filter,
    file: Option<BufReader<Take<Box<dyn DiskFile>>>>,
    line: usize,
}

/// Rows in one batch.
const BATCH: usize = 1000;

impl Lines {
    fn fault(&self, line: usize, why: &str) -> StageError {
        StageError::split(Category::Storage, format!("{}, line {line}: {why}", self.path)).help("mend the line, or put the file back as it was")
    }

    /// Up to [`BATCH`] rows, none at the end.
    fn read(&mut self) -> Result<Vec<Value>, StageError> {
        let mut rows = Vec::new();
        while rows.len() < BATCH {
            let Some(file) = &mut self.file else { break };
            let mut bytes = Vec::new();
            let read = file.read_until(b'\n', &mut bytes).map_err(|error| io_error("read", &self.path, &error))?;
            if read == 0 {
                self.file = None;
                break;
            }
            self.line += 1;
            rows.push(serde_json::from_slice(&bytes).map_err(|error| self.fault(self.line, &error.to_string()))?);
        }
        Ok(rows)
    }

    fn batch(&self, mut rows: Vec<Value>) -> Result<RecordBatch, StageError> {
        let first = self.line + 1 - rows.len();
        let unfit = |error: &dyn std::fmt::Display| StageError::developer(format!("{}: {error}", self.path));
        // Numbers that JSON lacks: a zero holds their place.
        let mut odd: Vec<(usize, usize, f64)> = Vec::new();
        for (place, field) in self.schema.fields().iter().enumerate().filter(|(_, f)| ColumnType::of(f.data_type()) == Some(ColumnType::Float)) {
            for (row, value) in rows.iter_mut().enumerate() {
                if let Some(cell) = value.get_mut(field.name())
                    && let Some(number) = cell.as_str().and_then(|text| text.parse::<f64>().ok()).filter(|number| !number.is_finite())
                {
                    odd.push((place, row, number));
                    *cell = json!(0.0);
                }
            }
        }
        let read = batch_from_json(&self.schema, &rows).map_err(|error| unfit(&error))?;
        if let Some(reject) = read.rejects.first() {
            let line = (0..rows.len()).find(|row| !read.places.contains(row)).unwrap_or(0) + first;
            return Err(self.fault(line, &reject.message));
        }
        let mut columns: Vec<ArrayRef> = read.batch.columns().to_vec();
        for (place, column) in columns.iter_mut().enumerate() {
            let of_it: Vec<_> = odd.iter().filter(|(at, _, _)| *at == place).collect();
            if let (Some(floats), false) = (column.as_any().downcast_ref::<Float64Array>(), of_it.is_empty()) {
                let mut values: Vec<Option<f64>> = floats.iter().collect();
                for (_, row, number) in of_it {
                    if let Some(value) = values.get_mut(*row) {
                        *value = Some(*number);
                    }
                }
                *column = std::sync::Arc::new(Float64Array::from(values));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|error| unfit(&error))
    }

    /// The rows of the time that is asked for.
    fn chosen(&self, batch: RecordBatch) -> Result<RecordBatch, StageError> {
        let Some(times) = self.filter.time_column.as_ref().and_then(|name| batch.column_by_name(name)) else { return Ok(batch) };
        let Some(times) = times.as_any().downcast_ref::<TimestampMicrosecondArray>() else { return Ok(batch) };
        // Anything below a microsecond moves the bound to the next one: rows have none.
        let micros = |at: DateTime<Utc>| at.timestamp_micros() + i64::from(!at.timestamp_subsec_nanos().is_multiple_of(1000));
        let (from, to) = (self.filter.from.map(micros), self.filter.to.map(micros));
        if from.is_none() && to.is_none() {
            return Ok(batch);
        }
        let holds = |at: Option<i64>| at.is_some_and(|at| from.is_none_or(|from| from <= at) && to.is_none_or(|to| at < to));
        let mask: BooleanArray = times.iter().map(|at| Some(holds(at))).collect();
        select::filter::filter_record_batch(&batch, &mask).map_err(|error| StageError::developer(error.to_string()))
    }
}

#[async_trait]
impl BatchStream for Lines {
    async fn next(&mut self) -> Result<Option<RecordBatch>, StageError> {
        loop {
            let rows = self.read()?;
            if rows.is_empty() {
                return Ok(None);
            }
            let batch = self.chosen(self.batch(rows)?)?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
    }
}
