//! `rename`: other names for columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline_contract::arrow::{RecordBatch, Schema, SchemaRef};
use pipeline_contract::{Applied, BuildContext, ConfigTable, Descriptor, Kind, PlanError, Plugin, Spanned, Stage, StageError, parse_config};
use schemars::JsonSchema;
use serde::Deserialize;

use super::stateless::{Planned, Step, all_good, stage};
use crate::stages::columns::{batch_of, find};

pub(super) struct Rename;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// For each column to rename, its new name: `{ old = "new" }`. All are renamed at once, so that two may swap names.
    columns: BTreeMap<Spanned<String>, Spanned<String>>,
}

impl Plugin for Rename {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Transform,
            type_name: "rename",
            summary: "Gives columns other names",
            config: schemars::schema_for!(Config),
            sample: r#"[[transforms]]
type = "rename"
columns = { ts = "timestamp", px_last = "close" }  # old = "new"
"#,
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let config: Config = parse_config("transform \"rename\"", config)?;
        Ok(stage(config))
    }
}

impl Planned for Config {
    fn plan(&self, input: &SchemaRef) -> Result<(SchemaRef, Arc<dyn Step>), Vec<PlanError>> {
        let mut faults: Vec<PlanError> = self.columns.keys().filter_map(|old| find(input, old).err()).collect();
        faults.extend(self.columns.values().filter(|new| new.is_empty()).map(|new| new.error("E044", "a column needs a name")));
        let new_name = |old: &str| self.columns.get(old).map_or_else(|| old.to_owned(), |new| new.to_string());
        for (place, field) in input.fields().iter().enumerate() {
            let Some(new) = self.columns.get(field.name().as_str()) else { continue };
            let clash = input.fields().iter().enumerate().find(|(other, with)| {
                // Of two that are both renamed, the later one is told.
                new_name(with.name()) == **new && (*other < place || !self.columns.contains_key(with.name().as_str()))
            });
            if let Some((_, with)) = clash {
                let whose = if with.name() == &**new { String::new() } else { format!(", the new name of `{}`", with.name()) };
                let fault = new.error("E042", format!("there is a column `{}` already{whose}", &**new));
                faults.push(fault.help("rename that one too, or leave it out with `select` before"));
            }
        }
        if !faults.is_empty() {
            faults.sort_by_key(|fault| fault.span.as_ref().map(|span| span.start));
            return Err(faults);
        }
        let fields: Vec<_> = input.fields().iter().map(|field| field.as_ref().clone().with_name(new_name(field.name()))).collect();
        let output = Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()));
        Ok((output.clone(), Arc::new(Renamed { output })))
    }
}

struct Renamed {
    output: SchemaRef,
}

impl Step for Renamed {
    fn apply(&self, batch: RecordBatch) -> Result<Applied, StageError> {
        batch_of(&self.output, batch.columns().to_vec(), batch.num_rows()).map(all_good)
    }
}
