//! CSV files as a pipeline sink.
//!
//! `type = "csv"` writes rows to files whose paths the rows name (`data/{coin_id}_{timestamp:%Y}.csv`), each row once, whatever crashes.
//! [`pipeline_sink_lines`] knows which files and when; this crate makes rows lines and lines rows again.

mod cell;
mod config;
mod format;
mod lines;
mod scan;

use pipeline_contract::{BuildContext, ConfigTable, Descriptor, Draft, Kind, PlanError, Plugin, Stage, parse_partial};
use pipeline_sink_lines::LinesSink;

/// The plugin `csv`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Csv;

/// The plugins of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(Csv)]
}

impl Plugin for Csv {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Sink,
            type_name: "csv",
            summary: "Appends rows to CSV files, one for each path that the rows name; every row once",
            config: || schemars::schema_for!(config::Config),
            sample: include_str!("../sample.toml"),
        }
    }

    fn build(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        self.draft(config, cx).whole()
    }

    fn draft(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Draft {
        let (typed, mut faults) = parse_partial("sink \"csv\"", config);
        let stage = typed.map(|typed| {
            let (checked, format, more) = config::check(typed, config.expansions());
            faults.extend(more);
            Stage::Sink(Box::new(LinesSink::new(checked, format)))
        });
        Draft::new(stage, faults)
    }
}
