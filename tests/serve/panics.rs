//! A plugin that panics where the engine itself is at work takes its own pipeline down for a while, and no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline::config::Env;
use pipeline::plan::Registry;
use pipeline::serve::{Fleet, Supervisor};
use pipeline::watch::Health;
use pipeline::workspace;
use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{
    BuildContext, CancellationToken, ConfigTable, Descriptor, Kind, PlanError, Plugin, Position, Read, Reader, Row, RunContext, Source,
    SourceCapabilities, Split, Stage, StageError, async_trait, parse_config, rows,
};
use schemars::JsonSchema;
use serde::Deserialize;

rows! {
    /// One reading.
    pub(crate) struct Reading {
        /// Whose.
        pub name: String,
        /// When.
        pub timestamp: DateTime<Utc>,
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// How often it panics before it behaves.
    #[serde(default)]
    panics: usize,
}

/// Counts over all pipelines: one of them alone panics.
#[derive(Default)]
struct Cursed(Arc<AtomicUsize>);

impl Plugin for Cursed {
    fn describe(&self) -> Descriptor {
        let config = || schemars::schema_for!(Config);
        Descriptor { kind: Kind::Source, type_name: "cursed", summary: "Panics", config, sample: "[source]\ntype = \"cursed\"\n" }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let Config { panics } = parse_config("source \"cursed\"", config)?;
        Ok(Stage::Source(Box::new(CursedSource { panics, so_far: Arc::clone(&self.0) })))
    }
}

struct CursedSource {
    panics: usize,
    so_far: Arc<AtomicUsize>,
}

#[async_trait]
impl Source for CursedSource {
    fn schema(&self) -> SchemaRef {
        Reading::schema()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { windows: false, resumable: false, requests_per_run: None }
    }

    async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
        let panics = self.panics > 0 && self.so_far.fetch_add(1, Ordering::SeqCst) < self.panics;
        assert!(!panics, "this panic is part of the test");
        Ok(vec![Split::new("all")])
    }

    async fn open(&self, _: &Split, _: Option<Position>, _: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        Ok(Box::new(OneReading(false)))
    }

    async fn probe(&self, _: &RunContext) -> Result<(), StageError> {
        Ok(())
    }
}

struct OneReading(bool);

#[async_trait]
impl Reader for OneReading {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        if std::mem::replace(&mut self.0, true) {
            return Ok(None);
        }
        let row = Reading { name: "x".to_owned(), timestamp: DateTime::UNIX_EPOCH };
        Ok(Some(Read { batch: Reading::batch(&[row]), rejects: Vec::new(), position: Position(serde_json::json!(1)) }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_whose_task_panics_is_down_is_tried_again_and_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("pipelines");
    std::fs::create_dir(&folder).unwrap();
    for (name, panics) in [("bad", 1), ("good", 0)] {
        let path = dir.path().join(format!("{name}.csv"));
        let text = format!(
            "name = \"{name}\"\n[trigger]\ntype = \"interval\"\nevery = \"1h\"\n[source]\ntype = \"cursed\"\npanics = {panics}\n[dedupe]\nkeys = [\"name\"]\n[sink]\ntype = \"csv\"\npath = {path:?}\n"
        );
        std::fs::write(folder.join(format!("{name}.toml")), text).unwrap();
    }
    let mut registry = Registry::new();
    registry.add(pipeline_triggers::plugins());
    registry.add(pipeline_sink_csv::plugins());
    registry.add([Box::new(Cursed::default()) as Box<dyn Plugin>]);
    let states = dir.path().join("state");
    let (ports, _) = workspace::ports(Arc::new(pipeline::cli::NoTransport), &states);
    let (fleet, cancel) = (Arc::new(Fleet::new(ports)), CancellationToken::new());
    let supervisor = Supervisor::new(&registry, Env::default(), vec![folder], states, Arc::clone(&fleet), cancel.clone());
    let looks = async {
        let report = |name: &str| fleet.member(name).map(|member| fleet.report(&member));
        let mut was_down = None;
        while !["bad", "good"].iter().all(|name| report(name).is_some_and(|report| report.last_success.is_some())) {
            let down = report("bad").filter(|report| report.status == Health::Unhealthy);
            was_down = was_down.or(down.map(|report| report.reasons[0].message.clone()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(was_down.as_deref(), Some("it does not run: its task ended without a word (it panicked)"));
        assert_eq!(report("good").unwrap().status, Health::Healthy);
        cancel.cancel();
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(supervisor.run(), looks) }).await.expect("both run within a minute");
}
