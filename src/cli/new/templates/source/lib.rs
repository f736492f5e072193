//! The source `my_plugin`.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{
    BuildContext, ConfigTable, Descriptor, Kind, PlanError, Plugin, Position, Read, Reader, Row, RunContext, Source, SourceCapabilities, Spanned,
    Split, Stage, StageError, async_trait, parse_config, rows,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

const TYPE: &str = "my_plugin";

rows! {
    /// One row: its fields are the columns, their comments are shown to users.
    pub struct MyPluginRow {
        /// Which series it belongs to.
        pub series: String,
        /// When it was measured.
        pub timestamp: DateTime<Utc>,
        /// What was measured; empty where nothing was.
        pub value: Option<f64>,
    }
}

/// The options of `my_plugin`: the comments are shown by `pipeline explain my_plugin`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The series to read: each is a split, read, retried and failed by itself.
    series: Spanned<Vec<Spanned<String>>>,
    /// How many of the last hours are read in a run.
    #[serde(default = "a_day")]
    #[schemars(range(min = 1, max = 1000))]
    hours: u32,
}

fn a_day() -> u32 {
    24
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
            kind: Kind::Source,
            type_name: TYPE,
            summary: "made-up hourly measurements, without network",
            config: || schemars::schema_for!(Config),
            sample: include_str!("../sample.toml"),
        }
    }

    fn build(&self, table: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let config = parse_config::<Config>("source \"my_plugin\"", table)?;
        // What a type cannot say is checked here, and told where it stands in the file.
        if config.series.is_empty() {
            return Err(vec![config.series.error("E012", "`series` names no series").help("as series = [\"north\", \"south\"]")]);
        }
        let mut seen = std::collections::BTreeSet::new();
        let twice: Vec<_> = config.series.iter().filter(|name| !seen.insert(name.as_str())).collect();
        if !twice.is_empty() {
            return Err(twice.into_iter().map(|name| name.error("E012", format!("\"{}\" is named twice", name.escape_debug()))).collect());
        }
        Ok(Stage::Source(Box::new(MySource { config })))
    }
}

struct MySource {
    config: Config,
}

#[async_trait]
impl Source for MySource {
    fn schema(&self) -> SchemaRef {
        MyPluginRow::schema()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { windows: false, resumable: true, requests_per_run: Some(0) }
    }

    async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
        Ok(self.config.series.iter().map(|name| Split::new(name.as_str())).collect())
    }

    async fn open(&self, split: &Split, resume: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        // The run's tick, not the clock: a run that is repeated reads the same.
        let end = run.tick.duration_trunc(TimeDelta::hours(1)).unwrap_or(run.tick);
        let start = end - TimeDelta::hours(self.config.hours.into());
        // A run that was interrupted goes on after the last row that is stored.
        let resumed = resume.and_then(|position| DateTime::from_timestamp(position.0.as_i64()?, 0));
        Ok(Box::new(MyReader { series: split.id.clone(), next: resumed.unwrap_or(start), end }))
    }

    async fn probe(&self, _: &RunContext) -> Result<(), StageError> {
        Ok(())
    }
}

struct MyReader {
    series: String,
    next: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// Rows in one batch. A batch is what is in memory at once, and where a run can go on.
const BATCH: usize = 100;

#[async_trait]
impl Reader for MyReader {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        // ---------------------------------------------------------------------------------------------------------------------------
        // HERE a request goes. With HTTP, take `pipeline-http` (an `HttpClient` in `MySource`, `NoTransport` in main.rs makes way for
        // `pipeline_http::ReqwestTransport`): it keeps to budgets, retries what time heals and knows which errors are whose.
        // Rows that cannot be read as rows go into `rejects`; an error is for what fails the whole split.
        // ---------------------------------------------------------------------------------------------------------------------------
        let mut rows = Vec::new();
        while self.next < self.end && rows.len() < BATCH {
            let hour = self.next.timestamp() / 3600;
            let value = (hour % 7 != 0).then_some(20.0 + f64::from(u8::try_from(hour % 24).unwrap_or(0)) / 8.0);
            rows.push(MyPluginRow { series: self.series.clone(), timestamp: self.next, value });
            self.next += TimeDelta::hours(1);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(Read { batch: MyPluginRow::batch(&rows), rejects: Vec::new(), position: Position(json!(self.next.timestamp())) }))
    }
}
