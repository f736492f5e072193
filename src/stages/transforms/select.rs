//! `select`: which columns, in which order.

use std::sync::Arc;

use pipeline_contract::arrow::{RecordBatch, Schema, SchemaRef};
use pipeline_contract::{Applied, BuildContext, ConfigTable, Descriptor, Kind, PlanError, Plugin, Spanned, Stage, StageError, parse_config};
use schemars::JsonSchema;
use serde::Deserialize;

use super::stateless::{Planned, Step, all_good, stage};
use crate::stages::columns::{batch_of, column, find, repeated};

pub(super) struct Select;

/// Either `columns` or `drop`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The columns to keep, in this order.
    columns: Option<Spanned<Vec<Spanned<String>>>>,
    /// The columns to leave out; the others stay in their order.
    drop: Option<Spanned<Vec<Spanned<String>>>>,
}

enum Choice {
    Keep(Spanned<Vec<Spanned<String>>>),
    Drop(Spanned<Vec<Spanned<String>>>),
}

impl Plugin for Select {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Transform,
            type_name: "select",
            summary: "Keeps some columns, in the order you name them, or leaves some out",
            config: schemars::schema_for!(Config),
            sample: r#"[[transforms]]
type = "select"
columns = ["timestamp", "close"]  # keep these, in this order
# drop = ["volume"]               # or: leave these out
"#,
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let typed: Config = parse_config("transform \"select\"", config)?;
        let choice = match (typed.columns, typed.drop) {
            (Some(columns), None) => Choice::Keep(columns),
            (None, Some(columns)) => Choice::Drop(columns),
            (Some(_), Some(drop)) => {
                let fault = drop.error("E044", "`columns` and `drop` exclude each other");
                return Err(vec![fault.help("what is not in `columns` is left out anyway: take `drop` away")]);
            }
            (None, None) => {
                let fault = PlanError::new("E044", "transform \"select\" needs `columns` or `drop`").at(config.span());
                return Err(vec![fault.help("`columns = [\"a\", \"b\"]` keeps these, `drop = [\"c\"]` leaves these out")]);
            }
        };
        Ok(stage(choice))
    }
}

impl Planned for Choice {
    fn plan(&self, input: &SchemaRef) -> Result<(SchemaRef, Arc<dyn Step>), Vec<PlanError>> {
        let (Self::Keep(names) | Self::Drop(names)) = self;
        let mut faults = repeated(names.iter());
        let mut named = Vec::with_capacity(names.len());
        for name in names.iter() {
            match find(input, name) {
                Ok(place) => named.push(place),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let places: Vec<usize> = match self {
            Self::Keep(_) => named,
            Self::Drop(_) => (0..input.fields().len()).filter(|place| !named.contains(place)).collect(),
        };
        if places.is_empty() {
            return Err(vec![names.error("E044", "no column is left")]);
        }
        let fields: Vec<_> = places.iter().filter_map(|place| input.fields().get(*place).cloned()).collect();
        let output = Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()));
        Ok((output.clone(), Arc::new(Keep { places, output })))
    }
}

struct Keep {
    places: Vec<usize>,
    output: SchemaRef,
}

impl Step for Keep {
    fn apply(&self, batch: RecordBatch) -> Result<Applied, StageError> {
        let columns = self.places.iter().map(|place| column(&batch, *place).cloned()).collect::<Result<_, _>>()?;
        batch_of(&self.output, columns, batch.num_rows()).map(all_good)
    }
}
