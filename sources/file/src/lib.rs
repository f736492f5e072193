//! CSV and JSON Lines files as a pipeline source.
//!
//! `type = "file"` reads plain, gzip and zstd files whose columns the pipeline file declares. Bytes become columns without a step between
//! them; a line that is no row becomes a reject with its file, its line number and its text, and the lines after it are read.

#[cfg(test)]
mod agree;
mod cell;
mod columns;
mod config;
mod counted;
mod csv;
mod digits;
mod find;
mod infer;
mod input;
mod jsonl;
mod lines;
mod reader;
mod source;

use pipeline_contract::arrow::{Field, Schema, SchemaRef};
use pipeline_contract::{BuildContext, ConfigTable, Descriptor, Disk, Doubt, Draft, Kind, PlanError, Plugin, Stage, StageError, parse_partial};
use std::sync::Arc;

const TYPE: &str = "file";

/// The plugin `file`.
#[derive(Clone, Copy, Debug, Default)]
pub struct File;

/// The plugins of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(File)]
}

impl Plugin for File {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Source,
            type_name: TYPE,
            summary: "Rows of CSV and JSON Lines files, plain or compressed; one split for each file",
            config: || schemars::schema_for!(config::Config),
            sample: include_str!("../sample.toml"),
        }
    }

    fn build(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        self.draft(config, cx).whole()
    }

    fn draft(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Draft {
        let (typed, mut faults) = parse_partial("source \"file\"", config);
        let stage = typed.and_then(|typed| {
            let (checked, more) = config::check(typed);
            faults.extend(more);
            checked.map(|checked| Stage::Source(Box::new(source::FileSource::new(checked))))
        });
        // Who left a column out because of its fault must not be told that it is missing.
        let stage = stage.filter(|_| faults.is_empty());
        Draft::new(stage, faults)
    }

    fn sample_from(&self, place: &str, disk: &dyn Disk) -> Option<Result<String, StageError>> {
        Some(infer::table(disk, place))
    }

    fn outline(&self, config: &ConfigTable<'_>, _: Option<&SchemaRef>) -> Option<SchemaRef> {
        let typed: Option<config::Config> = parse_partial(TYPE, config).0;
        let columns = typed.as_ref().map(|typed| &*typed.columns);
        let mut fields: Vec<Arc<Field>> = Vec::new();
        for name in config.names_in("columns") {
            fields.push(match columns.and_then(|columns| columns.get(name.as_str())) {
                Some(column) => Arc::new(Field::new(&name, column.ty.arrow(), !column.required)),
                None => Doubt::column(&name),
            });
        }
        // One that is there already has a fault of its own.
        let file = typed.and_then(|typed| typed.file_column).filter(|name| !fields.iter().any(|field| field.name() == name.as_str()));
        if let Some(name) = file {
            fields.push(Arc::new(Field::new(&*name, pipeline_contract::ColumnType::Text.arrow(), false)));
        }
        (!fields.is_empty()).then(|| Arc::new(Schema::new(fields)))
    }
}
