//! Files that are typed but do not fit together, and all that a person sees of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::{DataType, Field, RecordBatch, Schema};
use pipeline_contract::{
    BatchStream, BuildContext, ConfigTable, Delivery, Descriptor, Epoch, Filter, Kind, Op, Plugin, Position, Reader, Recovery, RunContext, Sink,
    SinkContext, SinkInput, SinkState, Source, SourceCapabilities, Split, Stage, StageError, Trigger, async_trait, parse_config, schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::config::Env;
use crate::diagnostic::{SourceFile, render};

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
struct Options {
    /// What is odd about the stage.
    #[serde(default)]
    odd: String,
}

struct Toy(Kind, &'static str);

impl Plugin for Toy {
    fn describe(&self) -> Descriptor {
        Descriptor { kind: self.0, type_name: self.1, summary: "a toy", config: || schemars::schema_for!(Options), sample: "" }
    }
    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let Options { odd } = parse_config(&format!("{} \"{}\"", self.0, self.1), config)?;
        Ok(match self.0 {
            Kind::Source => Stage::Source(Box::new(ToySource(odd))),
            Kind::Trigger => Stage::Trigger(Box::new(Never)),
            _ => Stage::Sink(Box::new(ToySink(odd))),
        })
    }
}

/// A plugin whose schema must not be made.
struct Untold;

impl Plugin for Untold {
    fn describe(&self) -> Descriptor {
        Descriptor { kind: Kind::Sink, type_name: "untold", summary: "", config: || panic!("nobody asked for its options"), sample: "" }
    }
    fn build(&self, _: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        Err(Vec::new())
    }
}

/// All of them took most of the time in which the program starts.
#[test]
fn plugins_are_found_without_making_their_schemas() {
    let mut registry = Registry::new();
    registry.add([Box::new(Untold) as Box<dyn Plugin>, Box::new(Toy(Kind::Sink, "toy"))]);
    assert!(registry.all().iter().any(|plugin| plugin.describe().type_name == "untold"));
    assert!(registry.find(Kind::Sink, &pipeline_contract::Spanned::new("untold".to_owned(), 0..6)).is_ok());
    assert!(registry.find(Kind::Sink, &pipeline_contract::Spanned::new("untoldd".to_owned(), 0..7)).is_err());
}

struct Never;

impl Trigger for Never {
    fn next(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
        None
    }
    fn period(&self) -> Option<Duration> {
        None
    }
}

struct ToySource(String);

#[async_trait]
impl Source for ToySource {
    fn schema(&self) -> SchemaRef {
        if self.0 == "types" {
            return Arc::new(Schema::new(vec![Field::new("small", DataType::Int32, false)]));
        }
        schema([("coin_id", ColumnType::Text, false), ("timestamp", ColumnType::Timestamp, false), ("close", ColumnType::Float, false)])
    }
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::default()
    }
    async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
        Ok(Vec::new())
    }
    async fn open(&self, _: &Split, _: Option<Position>, _: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        Err(StageError::developer("a toy"))
    }
    async fn probe(&self, _: &RunContext) -> Result<(), StageError> {
        Ok(())
    }
}

struct ToySink(String);

#[async_trait]
impl Sink for ToySink {
    fn plan(&mut self, input: &SinkInput) -> Result<SinkPlan, Vec<PlanError>> {
        let stored: Vec<_> = input.schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(SinkPlan { written: stored.clone(), stored, identity: json!({"path": "toys"}), targets: vec!["toys".to_owned()], warnings: Vec::new() })
    }
    fn capabilities(&self) -> SinkCapabilities {
        let delivery = if self.0 == "twice" { Delivery::AtLeastOnce } else { Delivery::ExactlyOnce };
        SinkCapabilities { replace: false, delivery }
    }
    async fn recover(&mut self, _: &SinkContext, _: &Recovery) -> Result<(), StageError> {
        Ok(())
    }
    async fn write(&mut self, _: &RecordBatch, _: Op) -> Result<(), StageError> {
        Ok(())
    }
    async fn look(&mut self, _: &RecordBatch) -> Result<(), StageError> {
        Ok(())
    }
    async fn prepare(&mut self, _: Epoch) -> Result<SinkState, StageError> {
        Ok(SinkState::default())
    }
    async fn commit(&mut self, _: Epoch, _: &SinkState) -> Result<(), StageError> {
        Ok(())
    }
    async fn abort(&mut self) -> Result<(), StageError> {
        Ok(())
    }
    async fn read_back(&self, _: &SinkContext, _: &Filter) -> Result<Box<dyn BatchStream>, StageError> {
        Err(StageError::developer("a toy"))
    }
    async fn adopt(&self, _: &SinkContext) -> Result<SinkState, StageError> {
        Ok(SinkState::default())
    }
    async fn probe(&self, _: &SinkContext) -> Result<(), StageError> {
        Ok(())
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    let toys = [Toy(Kind::Source, "numbers"), Toy(Kind::Sink, "shelf"), Toy(Kind::Trigger, "never")];
    registry.add(toys.map(|toy| Box::new(toy) as Box<dyn Plugin>));
    registry
}

const BASE: [(&str, &str); 4] =
    [("", "name = \"toys\""), ("trigger", "type = \"never\""), ("source", "type = \"numbers\""), ("sink", "type = \"shelf\"")];

/// A good file with one table written otherwise, or one more.
fn file(table: &str, text: &str) -> SourceFile {
    let mut tables: Vec<(&str, &str)> = BASE.to_vec();
    match tables.iter_mut().find(|(name, _)| *name == table) {
        Some(found) => found.1 = text,
        None => tables.push((table, text)),
    }
    let whole = tables.iter().map(|(name, text)| if name.is_empty() { format!("{text}\n") } else { format!("[{name}]\n{text}\n") }).collect();
    SourceFile { path: PathBuf::from("toys.toml"), text: whole }
}

fn planned(file: &SourceFile) -> (Option<Plan>, String) {
    let (def, faults) = config::parse(file, &Env::default());
    assert_eq!(faults, [], "{}", file.text);
    let (plan, _, faults) = plan(&def, &registry());
    (plan, render(file, &[], &faults, false))
}

#[test]
fn a_pipeline_that_fits_together_is_planned_and_bound() {
    let (plan, faults) = planned(&file("dedupe", "keys = [\"coin_id\", \"timestamp\"]"));
    assert_eq!(faults, "");
    let plan = plan.unwrap();
    assert_eq!(plan.time_column().as_deref(), Some("timestamp"));
    assert_eq!(plan.quarantine.as_deref(), Some(std::path::Path::new("data/rejects/toys.jsonl")));
    assert_eq!(plan.parts.settings.deadline, Duration::from_secs(3600));
    let binding: Vec<String> = plan.binding.0.iter().map(|(part, value)| format!("{part} = {value}")).collect();
    assert_eq!(
        binding,
        [
            r#"dedupe.keys = ["coin_id","timestamp"]"#,
            r#"quarantine.path = "data/rejects/toys.jsonl""#,
            r#"sink.0.path = "toys""#,
            r#"sink.0.type = "shelf""#,
            r#"stored columns = ["coin_id: text","timestamp: timestamp","close: float"]"#,
        ]
    );
}

/// Each case: a table and its text; then what must be in the fault: its heading, the marked text, the help.
#[test]
fn what_does_not_fit_is_told_where_it_stands() {
    let cases = [
        ("source", "type = \"number\"", ["error[E013]: there is no source of type \"number\"", "^^^^^^^^", "did you mean \"numbers\"?"]),
        ("source", "type = \"shelf\"", ["error[E013]: there is no source of type \"shelf\"", "^^^^^^^", "\"shelf\" is a sink"]),
        ("sink", "type = \"postgres\"", ["error[E013]: there is no sink of type \"postgres\"", "^^^^^^^^^^", "the sinks are shelf"]),
        (
            "source",
            "type = \"numbers\"\nodd = \"types\"",
            ["error[E019]: \"numbers\" brings the column `small` as Int32", "^^^^^^^^^", "a fault of the plugin"],
        ),
        ("dedupe", "keys = [\"coin\", \"timestamp\"]", ["error[E014]: there is no column `coin`", "^^^^^^", "did you mean `coin_id`?"]),
        (
            "dedupe",
            "keys = [\"xyzzy\"]",
            ["error[E014]: there is no column `xyzzy`", "^^^^^^^", "the columns here are `coin_id`, `timestamp`, `close`"],
        ),
        (
            "dedupe",
            "keys = [\"coin_id\"]\non_conflict = \"keep_last\"",
            [
                "error[E015]: on_conflict = \"keep_last\" replaces stored rows, which the sink \"shelf\" cannot",
                "^^^^^^^^",
                "use \"keep_first\" or \"reject\"",
            ],
        ),
        ("sink", "type = \"shelf\"\nodd = \"twice\"", ["warning[W001]: the sink \"shelf\" stores at least once", "^^^^^^^", "W001"]),
    ];
    for (table, text, expected) in cases {
        let file = file(table, text);
        let (plan, faults) = planned(&file);
        assert_eq!(plan.is_some(), faults.starts_with("warning"), "{faults}");
        for part in expected {
            assert!(faults.contains(part), "{text}: {part:?} is not in\n{faults}");
        }
    }
}

#[test]
fn faults_of_several_stages_come_in_one_go() {
    let text = "name = \"toys\"\n[trigger]\ntype = \"ever\"\n[source]\ntype = \"numbers\"\n[[transforms]]\ntype = \"filter\"\nexpr = \"clos > 1\"\n\
                [sink]\ntype = \"shelf\"\nodd = 1\n";
    let (_, faults) = {
        let file = SourceFile { path: PathBuf::from("toys.toml"), text: text.to_owned() };
        let (def, _) = config::parse(&file, &Env::default());
        let (plan, _, faults) = plan(&def, &registry());
        assert!(plan.is_none());
        (plan, render(&file, &[], &faults, false))
    };
    for part in ["E013", "toys.toml:3:8", "E040", "did you mean `close`?", "E012", "toys.toml:11:7"] {
        assert!(faults.contains(part), "{part} is not in\n{faults}");
    }
}
