//! A sink that writes everything anew in each epoch, and can break each promise.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline_contract::arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use pipeline_contract::arrow::{RecordBatch, SchemaRef};
use pipeline_contract::testkit::{KitRow, Promise, Report, SinkKit};
use pipeline_contract::{
    Ahead, BatchStream, Begun, BuildContext, Category, ConfigTable, Delivery, Descriptor, Epoch, Filter, Kind, Op, PlanError, Plugin, Recovery, Row,
    Sink, SinkCapabilities, SinkContext, SinkInput, SinkPlan, SinkState, Stage, StageError, async_trait, select_rows,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Breaks;

pub(crate) fn check(breaks: Breaks) -> Report {
    let kit = SinkKit::new(Toy(breaks), "dir = \"toy\"");
    match breaks.0 {
        Some(promise) => kit.only(promise).check(),
        None => kit.check(),
    }
}

/// The options.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The folder.
    dir: String,
}

struct Toy(Breaks);

impl Plugin for Toy {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Sink,
            type_name: self.0.name("toy_sink"),
            summary: "A toy",
            config: || schemars::schema_for!(Config),
            sample: "type = \"toy_sink\"\ndir = \"data\"\n",
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let config: Config = self.0.parse("sink \"toy_sink\"", config)?;
        Ok(Stage::Sink(Box::new(ToySink { breaks: self.0, dir: config.dir.into(), cx: None, written: Vec::new(), prepared: None })))
    }
}

/// A row as it is stored; floats by their bits, as JSON lacks some.
#[derive(Clone, Serialize, Deserialize)]
struct Line {
    series: String,
    at: i64,
    flag: Option<bool>,
    count: Option<i64>,
    value: Option<u64>,
    note: Option<String>,
}

fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> &'a T {
    batch.column_by_name(name).unwrap().as_any().downcast_ref().unwrap()
}

fn lines(batch: &RecordBatch) -> Vec<Line> {
    let series: &StringArray = column(batch, "series");
    let at: &TimestampMicrosecondArray = column(batch, "at");
    let (flag, count): (&BooleanArray, &Int64Array) = (column(batch, "flag"), column(batch, "count"));
    let (value, note): (&Float64Array, &StringArray) = (column(batch, "value"), column(batch, "note"));
    let line = |row: usize| Line {
        series: series.value(row).to_owned(),
        at: at.value(row),
        flag: flag.is_valid(row).then(|| flag.value(row)),
        count: count.is_valid(row).then(|| count.value(row)),
        value: value.is_valid(row).then(|| value.value(row).to_bits()),
        note: note.is_valid(row).then(|| note.value(row).to_owned()),
    };
    (0..batch.num_rows()).map(line).collect()
}

fn batch(lines: &[Line]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(lines.iter().map(|line| Some(line.series.clone())).collect::<StringArray>()),
        Arc::new(lines.iter().map(|line| Some(line.at)).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(lines.iter().map(|line| line.flag).collect::<BooleanArray>()),
        Arc::new(lines.iter().map(|line| line.count).collect::<Int64Array>()),
        Arc::new(lines.iter().map(|line| line.value.map(f64::from_bits)).collect::<Float64Array>()),
        Arc::new(lines.iter().map(|line| line.note.clone()).collect::<StringArray>()),
    ];
    let schema: SchemaRef = KitRow::schema();
    RecordBatch::try_new(schema, columns).unwrap()
}

struct ToySink {
    breaks: Breaks,
    dir: PathBuf,
    cx: Option<SinkContext>,
    written: Vec<(Op, Line)>,
    /// What was prepared and is not decided.
    prepared: Option<PathBuf>,
}

impl ToySink {
    fn fault(&self, doing: &str, path: &Path, error: &io::Error) -> StageError {
        let message = format!("cannot {doing} {}: {error}", path.display());
        if self.breaks.it(Promise::DiskErrors) {
            StageError::developer(message)
        } else {
            StageError::operator(Category::Storage, message).help("look at the disk")
        }
    }

    fn cx(&self) -> &SinkContext {
        self.cx.as_ref().unwrap()
    }

    /// Where all rows are, as the records say.
    fn current(&self, cx: &SinkContext) -> Result<Option<PathBuf>, StageError> {
        if self.breaks.it(Promise::Hidden) {
            return Ok(self.snapshots(cx)?.pop());
        }
        Ok(cx.records.get("current")?.and_then(|name| name.as_str().map(PathBuf::from)))
    }

    fn snapshots(&self, cx: &SinkContext) -> Result<Vec<PathBuf>, StageError> {
        cx.ports.disk.list(&self.dir).map_err(|error| self.fault("list", &self.dir, &error))
    }

    fn load(&self, cx: &SinkContext) -> Result<Vec<Line>, StageError> {
        let Some(path) = self.current(cx)? else { return Ok(Vec::new()) };
        let mut text = String::new();
        let read = cx.ports.disk.open(&path).and_then(|mut file| file.read_to_string(&mut text));
        read.map_err(|error| self.fault("read", &path, &error))?;
        serde_json::from_str(&text).map_err(|error| self.fault("read", &path, &error.into()))
    }

    fn remove(&self, paths: &[PathBuf]) -> Result<(), StageError> {
        for path in paths {
            self.cx().ports.disk.remove(path).map_err(|error| self.fault("remove", path, &error))?;
        }
        self.cx().ports.disk.sync_dir(&self.dir).map_err(|error| self.fault("sync", &self.dir, &error))
    }

    fn save(&self, path: &Path, text: &str) -> io::Result<()> {
        let disk = &self.cx().ports.disk;
        disk.create_dir(&self.dir)?;
        disk.sync_dir(Path::new(""))?;
        let mut file = disk.create(path)?;
        file.write_all(text.as_bytes())?;
        if !self.breaks.it(Promise::Crash) {
            file.sync()?;
        }
        disk.sync_dir(&self.dir)
    }
}

#[async_trait]
impl Sink for ToySink {
    fn plan(&mut self, input: &SinkInput) -> Result<SinkPlan, Vec<PlanError>> {
        let mut stored: Vec<_> = input.schema.fields().iter().map(|field| field.name().clone()).collect();
        if self.breaks.it(Promise::Plan) {
            stored.push("what_nobody_gave".to_owned());
        }
        Ok(SinkPlan {
            written: stored.clone(),
            stored,
            identity: json!(self.dir),
            targets: vec![self.dir.display().to_string()],
            warnings: Vec::new(),
        })
    }

    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities { replace: true, delivery: Delivery::ExactlyOnce }
    }

    async fn recover(&mut self, cx: &SinkContext, recovery: &Recovery) -> Result<(), StageError> {
        self.cx = Some(cx.clone());
        let (current, mut strays) = (self.current(cx)?, self.snapshots(cx)?);
        if !recovery.run_was_open {
            return Ok(());
        }
        if self.breaks.it(Promise::Recover) {
            // As if what is newest counted.
            strays.pop();
        } else {
            strays.retain(|path| Some(path) != current.as_ref());
        }
        if strays.is_empty() { Ok(()) } else { self.remove(&strays) }
    }

    async fn write(&mut self, batch: &RecordBatch, op: Op) -> Result<(), StageError> {
        let lines = lines(batch);
        if self.breaks.it(Promise::Unstorable) && lines.iter().any(|line| line.series.contains('\0')) {
            return Err(StageError::operator(Category::Storage, "this series has a sign that is none"));
        }
        self.written.extend(lines.into_iter().map(|line| (op, line)));
        Ok(())
    }

    fn ahead(&self) -> Option<Arc<dyn Ahead>> {
        Some(Arc::new(ToyAhead))
    }

    async fn write_begun(&mut self, begun: Begun) -> Result<(), StageError> {
        let lines: Vec<Line> = *begun.downcast().unwrap();
        self.written.extend(lines.into_iter().map(|line| (Op::Append, line)));
        Ok(())
    }

    async fn look(&mut self, _: &RecordBatch) -> Result<(), StageError> {
        self.load(self.cx()).map(drop)
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<SinkState, StageError> {
        if self.written.is_empty() && !self.breaks.it(Promise::EmptyEpoch) {
            return Ok(SinkState::default());
        }
        let forgets = self.written.is_empty() && self.breaks.it(Promise::EmptyEpoch);
        let mut all = if forgets { Vec::new() } else { self.load(self.cx())? };
        for (op, line) in &self.written {
            let mut line = line.clone();
            if self.breaks.it(Promise::Stores) {
                line.note = line.note.filter(|note| !note.is_empty());
            }
            let replaces = *op == Op::Replace && !self.breaks.it(Promise::Replace);
            match all.iter_mut().find(|old| replaces && old.series == line.series && old.at == line.at) {
                Some(old) => *old = line,
                None => all.push(line),
            }
        }
        let path = self.dir.join(format!("rows-{epoch:08}.json"));
        self.prepared = Some(path.clone());
        let text = serde_json::to_string(&all).unwrap();
        self.save(&path, &text).map_err(|error| self.fault("write", &path, &error))?;
        Ok(SinkState([("current".to_owned(), json!(path))].into()))
    }

    async fn commit(&mut self, _: Epoch, state: &SinkState) -> Result<(), StageError> {
        self.prepared = None;
        self.written.clear();
        let Some(current) = state.0.get("current").and_then(Value::as_str).map(PathBuf::from) else { return Ok(()) };
        let mut old = self.snapshots(self.cx())?;
        old.retain(|path| *path != current);
        if self.breaks.it(Promise::CommitTwice) && old.is_empty() && !current.ends_with("rows-00000001.json") {
            return Err(StageError::operator(Category::Storage, "there is nothing to commit"));
        }
        if old.is_empty() { Ok(()) } else { self.remove(&old) }
    }

    async fn abort(&mut self) -> Result<(), StageError> {
        self.written.clear();
        let Some(prepared) = self.prepared.clone().filter(|_| !self.breaks.it(Promise::Abort)) else { return Ok(()) };
        let there = self.cx().ports.disk.metadata(&prepared).map_err(|error| self.fault("look at", &prepared, &error))?;
        if there.is_some() {
            self.remove(&[prepared])?;
        }
        self.prepared = None;
        Ok(())
    }

    async fn read_back(&self, cx: &SinkContext, filter: &Filter) -> Result<Box<dyn BatchStream>, StageError> {
        let mut lines = self.load(cx)?;
        let to = |line: &Line| filter.to.is_none_or(|to| line.at < to.timestamp_micros() + i64::from(self.breaks.it(Promise::Filter)));
        lines.retain(|line| filter.from.is_none_or(|from| from.timestamp_micros() <= line.at) && to(line));
        Ok(Box::new(Once(Some(batch(&lines)))))
    }

    async fn adopt(&self, cx: &SinkContext) -> Result<SinkState, StageError> {
        match self.snapshots(cx)?.pop() {
            Some(path) if !self.breaks.it(Promise::Adopt) => Ok(SinkState([("current".to_owned(), json!(path))].into())),
            _ => Ok(SinkState::default()),
        }
    }

    async fn probe(&self, cx: &SinkContext) -> Result<(), StageError> {
        let path = self.dir.join("probe");
        let disk = &cx.ports.disk;
        let probe = || {
            disk.create_dir(&self.dir)?;
            drop(disk.create(&path)?);
            if self.breaks.it(Promise::Probe) { Ok(()) } else { disk.remove(&path) }
        };
        probe().map_err(|error| self.fault("write", &path, &error))
    }
}

struct ToyAhead;

impl Ahead for ToyAhead {
    fn begin(&self, batch: &RecordBatch, selection: Option<&BooleanArray>) -> Option<Begun> {
        let selected = selection.map(|selection| select_rows(batch, selection).unwrap());
        let lines = lines(selected.as_ref().unwrap_or(batch));
        // Of these `write` may say that they cannot be stored.
        let is_plain = lines.iter().all(|line| !line.series.contains('\0'));
        is_plain.then(|| Box::new(lines) as Begun)
    }
}

struct Once(Option<RecordBatch>);

#[async_trait]
impl BatchStream for Once {
    async fn next(&mut self) -> Result<Option<RecordBatch>, StageError> {
        Ok(self.0.take())
    }
}
