//! A source whose rows follow from the tick alone: new ones, known ones, known ones with other values, and rows that are none.

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{
    BuildContext, Category, ConfigTable, Descriptor, Kind, PlanError, Plugin, Position, Read, Reader, Reject, Row, RunContext, Source,
    SourceCapabilities, Split, Stage, StageError, async_trait, parse_config, rows,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

rows! {
    /// A value of a series.
    pub(crate) struct Sample {
        /// Which series.
        pub(crate) series: String,
        /// When.
        pub(crate) timestamp: DateTime<Utc>,
        /// How much; below zero it is rejected.
        pub(crate) value: f64,
        /// Long enough for a line to be written in several pieces.
        pub(crate) note: Option<String>,
    }
}

/// Rows that follow from the tick.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TapeConfig {}

pub(crate) struct TapePlugin;

impl Plugin for TapePlugin {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Source,
            type_name: "tape",
            summary: "rows that follow from the tick",
            config: || schemars::schema_for!(TapeConfig),
            sample: "[source]\ntype = \"tape\"\n",
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        parse_config::<TapeConfig>("source \"tape\"", config)?;
        Ok(Stage::Source(Box::new(Tape)))
    }
}

/// The last tick of a year, the first of the next, and one more.
pub(crate) fn ticks() -> [DateTime<Utc>; 3] {
    ["2025-12-31T22:00:00Z", "2026-01-01T01:00:00Z", "2026-01-01T03:00:00Z"].map(|text| text.parse().unwrap())
}

/// One batch: hours since 2025-12-31T20:00Z with a value each, and how many rows that are none.
struct Piece(&'static [(i64, f64)], usize);

/// What a split brings at a tick, and whether it breaks at its end.
fn tape(split: &str, tick: usize) -> (&'static [Piece], bool) {
    match (split, tick) {
        // Two prefixes and a rest; a broken rule, a bad row, a duplicate within.
        ("btc", 0) => (&[Piece(&[(0, 1.0), (1, 1.25)], 0), Piece(&[(1, 1.25), (2, -1.0), (2, 1.5)], 1)], false),
        ("eth", 0) => (&[Piece(&[(0, 2.0), (1, 2.25), (2, 2.5)], 0)], false),
        // A conflict within one epoch.
        ("sol", 0) => (&[Piece(&[(0, 3.0), (1, 3.25)], 1), Piece(&[(1, 3.75)], 0)], false),
        // The year's turn: known ones, one with another value in the old year's file, new ones in both.
        ("btc", 1) => (&[Piece(&[(1, 1.25), (2, 1.75)], 0), Piece(&[(3, 1.5), (4, 1.5)], 0), Piece(&[(5, 1.5), (6, -1.0)], 1)], false),
        ("eth", 1) => (&[Piece(&[(2, 2.5), (4, 2.5), (5, 2.75)], 0)], false),
        // A prefix is stored before it breaks.
        ("ltc", 1) => (&[Piece(&[(3, 5.0), (4, 5.25)], 0), Piece(&[(4, 5.5), (5, 5.5)], 0), Piece(&[(6, 5.75)], 1)], true),
        // Nothing new, not even the bad row.
        ("sol", 1) => (&[Piece(&[(0, 3.0), (1, 3.75)], 1)], false),
        // Conflicts in both years' files.
        ("eth", 2) => (&[Piece(&[(2, 9.5), (4, 9.5), (6, 2.0), (7, 2.0)], 1)], false),
        ("ltc", 2) => (&[Piece(&[(3, 5.0), (4, 5.25), (5, 5.5)], 0), Piece(&[(6, 5.75), (7, 5.75)], 1)], false),
        ("sol", 2) => (&[Piece(&[(0, 3.0)], 0)], false),
        ("btc", 2) => (&[Piece(&[(6, 1.5), (6, 1.625), (7, 1.5)], 0)], false),
        other => panic!("the tape has nothing of {other:?}"),
    }
}

fn tick_of(run: &RunContext) -> usize {
    ticks().iter().position(|tick| *tick == run.tick).unwrap()
}

struct Tape;

#[async_trait]
impl Source for Tape {
    fn schema(&self) -> SchemaRef {
        Sample::schema()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { windows: false, resumable: true, requests_per_run: None }
    }

    async fn splits(&self, run: &RunContext) -> Result<Vec<Split>, StageError> {
        let names: &[&str] = match tick_of(run) {
            0 => &["btc", "eth", "sol"],
            1 => &["btc", "eth", "ltc", "sol"],
            _ => &["eth", "ltc", "sol", "btc"],
        };
        Ok(names.iter().map(|name| Split::new(*name)).collect())
    }

    async fn open(&self, split: &Split, resume: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        let at = resume.map_or(0, |position| usize::try_from(position.0.as_u64().unwrap()).unwrap());
        Ok(Box::new(TapeReader { split: split.id.clone(), tick: tick_of(run), at }))
    }

    async fn probe(&self, _: &RunContext) -> Result<(), StageError> {
        Ok(())
    }
}

struct TapeReader {
    split: String,
    tick: usize,
    at: usize,
}

#[async_trait]
impl Reader for TapeReader {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        let (pieces, breaks) = tape(&self.split, self.tick);
        let Some(Piece(rows, bad)) = pieces.get(self.at) else {
            return if breaks { Err(StageError::split(Category::ServerError, "the tape broke").help("glue it")) } else { Ok(None) };
        };
        self.at += 1;
        let start: DateTime<Utc> = "2025-12-31T20:00:00Z".parse().unwrap();
        let sample = |(hour, value): &(i64, f64)| Sample {
            series: self.split.clone(),
            timestamp: start + TimeDelta::hours(*hour),
            value: *value,
            note: (hour % 2 == 0).then(|| format!("{}, hour {hour}, a note that is as long as the first piece of a write", self.split)),
        };
        let rows: Vec<Sample> = rows.iter().map(sample).collect();
        let rejects = (0..*bad).map(|n| Reject::new(json!({ "n": n, "at": self.at }), "tape", "noise")).collect();
        Ok(Some(Read { batch: Sample::batch(&rows), rejects, position: Position(json!(self.at)) }))
    }
}
