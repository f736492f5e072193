//! A source from outside: a crate of its own would hold the first half of this file, and a `main` of five lines. Nothing in the engine
//! knows of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{
    BuildContext, Category, ConfigTable, Descriptor, Kind, PlanError, Plugin, Position, Read, Reader, Reject, Row, RunContext, Source,
    SourceCapabilities, Split, Stage, StageError, async_trait, parse_config, rows,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

// The plugin.

rows! {
    /// One reading of one sensor.
    pub(crate) struct Reading {
        /// Which sensor.
        pub sensor: String,
        /// When.
        pub timestamp: DateTime<Utc>,
        /// Degrees Celsius; empty when the sensor was silent.
        pub celsius: Option<f64>,
        /// Is its battery low?
        pub battery_low: bool,
    }
}

/// Readings of a weather station that needs no network.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StationConfig {
    /// Its sensors.
    sensors: Vec<String>,
    /// How many readings each has.
    #[serde(default = "a_few")]
    readings: u32,
}

fn a_few() -> u32 {
    5
}

struct StationPlugin;

impl Plugin for StationPlugin {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Source,
            type_name: "weather_station",
            summary: "Readings of the weather station on the roof",
            config: || schemars::schema_for!(StationConfig),
            sample: "[source]\ntype = \"weather_station\"\nsensors = [\"roof\", \"cellar\"]\n",
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        Ok(Stage::Source(Box::new(Station(parse_config("source \"weather_station\"", config)?))))
    }
}

struct Station(StationConfig);

#[async_trait]
impl Source for Station {
    fn schema(&self) -> SchemaRef {
        Reading::schema()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { windows: false, resumable: true, requests_per_run: None }
    }

    async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
        Ok(self.0.sensors.iter().map(Split::new).collect())
    }

    async fn open(&self, split: &Split, resume: Option<Position>, _: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        match split.id.as_str() {
            "stolen" => Err(StageError::split(Category::ClientError, "the sensor \"stolen\" is gone").help("buy another")),
            _ => {
                let done = resume.and_then(|position| position.0.as_u64()).unwrap_or(0);
                Ok(Box::new(StationReader { sensor: split.id.clone(), done, end: self.0.readings.into() }))
            }
        }
    }

    async fn probe(&self, _: &RunContext) -> Result<(), StageError> {
        Ok(())
    }
}

struct StationReader {
    sensor: String,
    done: u64,
    end: u64,
}

#[async_trait]
impl Reader for StationReader {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        assert!(self.sensor != "cursed", "a plugin that panics harms its own split alone");
        if self.done >= self.end {
            return Ok(None);
        }
        // Two readings a batch, to have several.
        let batch: Vec<u64> = (self.done..self.end).take(2).collect();
        let reading = |n: &u64| Reading {
            sensor: self.sensor.clone(),
            timestamp: DateTime::UNIX_EPOCH + TimeDelta::hours(i64::try_from(*n).unwrap()),
            celsius: (*n % 3 != 2).then(|| 20.0 + *n as f64 / 8.0),
            battery_low: *n > 3,
        };
        let rejects =
            batch.iter().filter(|n| **n == 1 && self.sensor == "damp").map(|n| Reject::new(json!({"reading": n}), "dew", "the sensor was wet"));
        let read = Read {
            batch: Reading::batch(&batch.iter().filter(|n| **n != 1 || self.sensor != "damp").map(reading).collect::<Vec<_>>()),
            rejects: rejects.collect(),
            position: Position(json!(self.done + batch.len() as u64)),
        };
        self.done += batch.len() as u64;
        Ok(Some(read))
    }
}

// The program, and what becomes of it.

/// The `main` of an outsider's program, but for where its arguments come from.
fn program(args: &[&str]) -> ExitCode {
    pipeline::cli::App::new(Arc::new(pipeline::cli::NoTransport))
        .with(pipeline_triggers::plugins())
        .with(pipeline_sink_csv::plugins())
        .with([Box::new(StationPlugin) as Box<dyn Plugin>])
        .main_from(args.iter().map(Into::into))
}

#[track_caller]
fn exits(dir: &Path, args: &[&str], code: u8) {
    let state = dir.join("state").display().to_string();
    let mut all = vec!["weather", "-qq", "--state-dir", &state];
    all.extend(args);
    // An exit code can be compared by nothing but how it looks.
    assert_eq!(format!("{:?}", program(&all)), format!("{:?}", ExitCode::from(code)), "{args:?}");
}

fn pipeline_file(dir: &Path, sensors: &str) -> String {
    let text = format!(
        r#"
name = "weather"
[trigger]
type = "manual"
[source]
type = "weather_station"
sensors = {sensors}
[run]
epoch_rows = 3
[[transforms]]
type = "derive"
column = "fahrenheit"
expr = "celsius * 9 / 5 + 32"
[validate]
quarantine_path = "{dir}/rejects.jsonl"
[[validate.rules]]
name = "not_too_hot"
expr = "celsius < 20.5"
[dedupe]
keys = ["sensor", "timestamp"]
[sink]
type = "csv"
path = "{dir}/data/{{sensor}}.csv"
columns = ["timestamp", "celsius", "fahrenheit", "battery_low"]
"#,
        dir = dir.display()
    );
    let file = dir.join("weather.toml");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

const ROOF: &str = "\
timestamp,celsius,fahrenheit,battery_low
1970-01-01T00:00:00Z,20,68,false
1970-01-01T01:00:00Z,20.125,68.225,false
1970-01-01T02:00:00Z,,,false
1970-01-01T03:00:00Z,20.375,68.675,false
";

/// The cells of a CSV file, numbers as numbers: `20` and `20.0` are one.
fn cells(text: &str) -> Vec<Vec<String>> {
    let plain = |cell: &str| cell.parse::<f64>().map_or_else(|_| cell.to_owned(), |number| number.to_string());
    text.lines().map(|line| line.split(',').map(plain).collect()).collect()
}

#[test]
fn a_source_from_outside_is_checked_run_read_and_explained_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let file = pipeline_file(dir, r#"["roof", "damp"]"#);
    exits(dir, &["check", &file], 0);
    exits(dir, &["list", "source"], 0);
    exits(dir, &["explain", "weather_station"], 0);
    exits(dir, &["run", &file, "--once"], 0);

    let roof = std::fs::read_to_string(dir.join("data/roof.csv")).unwrap();
    assert_eq!(cells(&roof), cells(ROOF), "{roof}");
    let damp = std::fs::read_to_string(dir.join("data/damp.csv")).unwrap();
    assert_eq!(damp.lines().count(), 4, "without the wet and the hot one: {damp}");
    let rejects = std::fs::read_to_string(dir.join("rejects.jsonl")).unwrap();
    assert_eq!(rejects.lines().filter(|line| line.contains("\"dew\"")).count(), 1, "{rejects}");
    assert_eq!(rejects.lines().filter(|line| line.contains("\"not_too_hot\"")).count(), 2, "{rejects}");

    exits(dir, &["run", &file, "--once"], 0);
    assert_eq!(std::fs::read_to_string(dir.join("data/roof.csv")).unwrap(), roof, "a second run changes nothing");
    exits(dir, &["read", &file, "--where", "battery_low"], 0);
    exits(dir, &["status", &file], 0);
}

#[test]
fn its_errors_count_like_those_of_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let file = pipeline_file(dir, r#"["stolen", "roof", "cursed"]"#);
    exits(dir, &["run", &file, "--once"], 3);
    assert_eq!(cells(&std::fs::read_to_string(dir.join("data/roof.csv")).unwrap()), cells(ROOF));
    assert!(!dir.join("data/cursed.csv").exists() && !dir.join("data/stolen.csv").exists());

    let file = pipeline_file(dir, "7");
    exits(dir, &["check", &file], 2);
}

#[test]
fn what_it_does_not_bring_along_does_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let file = pipeline_file(dir, r#"["roof"]"#);
    let text = std::fs::read_to_string(&file).unwrap().replace("weather_station", "coingecko_ohlc");
    std::fs::write(&file, text).unwrap();
    exits(dir, &["check", &file], 2);
}

#[test]
fn it_keeps_every_promise_of_a_source() {
    pipeline_contract::testkit::SourceKit::new(StationPlugin, "sensors = [\"roof\", \"damp\"]\nreadings = 7").assert();
}
