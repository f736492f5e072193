//! `rename`: other names for columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline_contract::arrow::{Field, RecordBatch, Schema, SchemaRef};
use pipeline_contract::{
    Applied, BuildContext, ConfigTable, Descriptor, Doubt, Draft, Kind, PlanError, Plugin, Spanned, Stage, StageError, parse_partial,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::stateless::{Planned, Step, all_good, stage};
use crate::stages::columns::{batch_of, find, meant};

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
            config: || schemars::schema_for!(Config),
            sample: r#"[[transforms]]
type = "rename"
columns = { ts = "timestamp", px_last = "close" }  # old = "new"
"#,
        }
    }

    fn build(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        self.draft(config, cx).whole()
    }

    fn draft(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Draft {
        let (typed, faults) = parse_partial::<Config>("transform \"rename\"", config);
        Draft::new(typed.map(stage), faults)
    }

    fn outline(&self, config: &ConfigTable<'_>, input: Option<&SchemaRef>) -> Option<SchemaRef> {
        let input = input?;
        let columns = parse_partial::<Config>("", config).0?.columns;
        let new_name = |old: &str| columns.get(old).map_or_else(|| old.to_owned(), |new| new.to_string());
        let mut fields: Vec<Arc<Field>> = Vec::new();
        for field in input.fields() {
            let name = new_name(field.name());
            // Of two with one name nobody can tell which was meant.
            match fields.iter_mut().find(|known| *known.name() == name) {
                Some(known) => *known = Doubt::column(&name),
                None => fields.push(Arc::new(field.as_ref().clone().with_name(name))),
            }
        }
        for (old, new) in columns.iter().filter(|(old, new)| input.index_of(old).is_err() && input.index_of(new).is_err()) {
            let field = meant(input, old).map_or_else(|| Doubt::column(new), |near| Arc::new(near.as_ref().clone().with_name(new.as_str())));
            fields.push(field);
        }
        // An entry that could not be read gives a column a name that nobody knows.
        let unread = config.names_in("columns").iter().any(|name| !columns.contains_key(name.as_str()));
        let output = Schema::new_with_metadata(fields, input.metadata().clone());
        Some(if unread { Doubt::open(Some(&output)) } else { Arc::new(output) })
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
    fn origin(&self, input: &SchemaRef, column: &str) -> Option<String> {
        self.output.index_of(column).ok().and_then(|place| input.fields().get(place)).map(|field| field.name().clone())
    }

    fn apply(&self, batch: RecordBatch) -> Result<Applied, StageError> {
        batch_of(&self.output, batch.columns().to_vec(), batch.num_rows()).map(all_good)
    }
}
