//! A csv sink and the part of the engine that a sink sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::{RecordBatch, SchemaRef};
use pipeline_contract::testkit::{SimDisk, TestClock, TestRecords, TestTransport, ports, sink_context};
use pipeline_contract::{
    BuildContext, Disk, Epoch, Filter, Op, PlanError, Plugin, Recovery, Row, Sink, SinkContext, SinkInput, SinkPlan, SinkState, Stage, StageError,
    rows, table_from_str,
};
use pipeline_sink_csv::Csv;

rows! {
    /// A candle, with one column of each type.
    pub(crate) struct Candle {
        pub(crate) coin: String,
        pub(crate) at: DateTime<Utc>,
        pub(crate) close: f64,
        pub(crate) trades: Option<i64>,
        pub(crate) final_: Option<bool>,
        pub(crate) note: Option<String>,
    }
}

pub(crate) fn time(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

pub(crate) fn candle(coin: &str, at: &str, close: f64) -> Candle {
    Candle { coin: coin.to_owned(), at: time(at), close, trades: None, final_: None, note: None }
}

pub(crate) fn build(config: &str) -> Result<Box<dyn Sink>, Vec<PlanError>> {
    let cx = BuildContext { pipeline: "test".to_owned() };
    match Csv.build(&table_from_str(config)?, &cx)? {
        Stage::Sink(sink) => Ok(sink),
        _ => panic!("not a sink"),
    }
}

pub(crate) fn plan(config: &str, schema: SchemaRef, keys: &[&str], replaces: bool) -> Result<(Box<dyn Sink>, SinkPlan), Vec<PlanError>> {
    let mut sink = build(config)?;
    let plan = sink.plan(&SinkInput { schema, keys: keys.iter().map(|key| (*key).to_owned()).collect(), replaces })?;
    Ok((sink, plan))
}

/// What survives a process: disk, records, the last epoch, whether a run is open.
pub(crate) struct World {
    pub(crate) config: String,
    pub(crate) schema: SchemaRef,
    pub(crate) keys: Vec<&'static str>,
    pub(crate) disk: SimDisk,
    pub(crate) records: Arc<TestRecords>,
    pub(crate) last: Option<(Epoch, SinkState)>,
    pub(crate) open: bool,
}

impl World {
    pub(crate) fn new(config: &str) -> Self {
        Self {
            config: config.to_owned(),
            schema: Candle::schema(),
            keys: vec!["coin", "at"],
            disk: SimDisk::new(),
            records: Arc::default(),
            last: None,
            open: false,
        }
    }

    pub(crate) fn context(&self) -> SinkContext {
        let mut ports = ports(TestClock::new(DateTime::UNIX_EPOCH), TestTransport::in_turn([]));
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        ports.disk = disk;
        sink_context(ports, self.records.clone(), "state/keep")
    }

    /// A sink that is planned, not recovered.
    pub(crate) fn planned(&self) -> (Box<dyn Sink>, SinkPlan) {
        plan(&self.config, self.schema.clone(), &self.keys, true).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    /// A sink of a new process.
    pub(crate) async fn start(&mut self) -> Result<Box<dyn Sink>, StageError> {
        let mut sink = self.planned().0;
        let recovery = Recovery { last: self.last.clone(), run_was_open: self.open };
        self.open = true;
        sink.recover(&self.context(), &recovery).await?;
        Ok(sink)
    }

    /// The state's transaction and the commit.
    pub(crate) async fn decide(&mut self, sink: &mut dyn Sink, state: SinkState) -> Result<(), StageError> {
        let epoch = self.last.as_ref().map_or(1, |(epoch, _)| epoch + 1);
        self.records.apply(&state);
        self.last = Some((epoch, state.clone()));
        sink.commit(epoch, &state).await
    }

    pub(crate) async fn epoch(&mut self, sink: &mut dyn Sink, writes: &[(Op, RecordBatch)]) -> Result<(), StageError> {
        let epoch = self.last.as_ref().map_or(1, |(epoch, _)| epoch + 1);
        for (op, batch) in writes {
            sink.write(batch, *op).await?;
        }
        let state = sink.prepare(epoch).await?;
        self.decide(sink, state).await
    }

    /// One run of one epoch.
    pub(crate) async fn run(&mut self, writes: &[(Op, RecordBatch)]) -> Result<(), StageError> {
        let mut sink = self.start().await?;
        self.epoch(&mut *sink, writes).await?;
        self.open = false;
        Ok(())
    }

    pub(crate) async fn store(&mut self, rows: &[Candle]) -> Result<(), StageError> {
        self.run(&[(Op::Append, Candle::batch(rows))]).await
    }

    pub(crate) async fn read(&self, filter: &Filter) -> Result<Vec<RecordBatch>, StageError> {
        let sink = self.planned().0;
        let mut stream = sink.read_back(&self.context(), filter).await?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await? {
            batches.push(batch);
        }
        Ok(batches)
    }

    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        self.disk.files().into_iter().filter(|(path, _)| !path.starts_with("state/")).collect()
    }
}
