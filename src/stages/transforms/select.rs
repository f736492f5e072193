//! `select`: which columns, in which order.

use std::collections::HashSet;
use std::sync::Arc;

use pipeline_contract::arrow::{Field, RecordBatch, Schema, SchemaRef};
use pipeline_contract::{
    Applied, BuildContext, ConfigTable, Descriptor, Doubt, Draft, Kind, PlanError, Plugin, Spanned, Stage, StageError, parse_partial,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::stateless::{Planned, Step, all_good, same, stage};
use crate::stages::columns::{batch_of, column, find, meant, repeated};

pub(super) struct Select;

/// Either `columns` or `drop`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
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
            config: || schemars::schema_for!(Config),
            sample: r#"[[transforms]]
type = "select"
columns = ["timestamp", "close"]  # keep these, in this order
# drop = ["volume"]               # or: leave these out
"#,
        }
    }

    fn build(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        self.draft(config, cx).whole()
    }

    fn draft(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Draft {
        let (typed, mut faults) = parse_partial::<Config>("transform \"select\"", config);
        let choice = match typed.map(|typed| (typed.columns, typed.drop)) {
            Some((Some(columns), None)) => Some(Choice::Keep(columns)),
            Some((None, Some(columns))) => Some(Choice::Drop(columns)),
            Some((Some(columns), Some(drop))) => {
                let fault = drop.error("E044", "`columns` and `drop` exclude each other");
                faults.push(fault.help("what is not in `columns` is left out anyway: take `drop` away"));
                Some(Choice::Keep(columns))
            }
            // What is there but faulty is not missing.
            Some((None, None)) if faults.is_empty() && !config.has("columns") && !config.has("drop") => {
                let fault = PlanError::new("E044", "transform \"select\" needs `columns` or `drop`").at(config.span());
                faults.push(fault.help("`columns = [\"a\", \"b\"]` keeps these, `drop = [\"c\"]` leaves these out"));
                None
            }
            _ => None,
        };
        Draft::new(choice.map(stage), faults)
    }

    fn outline(&self, config: &ConfigTable<'_>, input: Option<&SchemaRef>) -> Option<SchemaRef> {
        let (input, typed) = (input?, parse_partial::<Config>("", config).0.unwrap_or_default());
        let fields = input.fields();
        let fields: Vec<Arc<Field>> = match (typed.columns, typed.drop) {
            (Some(columns), _) => {
                let mut kept: Vec<Arc<Field>> = Vec::new();
                let mut lost = false;
                for name in columns.iter() {
                    match (input.index_of(name), meant(input, name)) {
                        (Ok(place), _) => kept.extend(fields.get(place).cloned()),
                        // Below, people write either the one or the other.
                        (_, Some(near)) => kept.extend([Doubt::column(name), near.clone()]),
                        _ => {
                            lost = true;
                            kept.push(Doubt::column(name));
                        }
                    }
                }
                if lost {
                    // Which of the others was meant nobody can tell.
                    kept.extend(fields.iter().map(|field| Doubt::column(field.name())));
                }
                kept
            }
            (None, Some(drop)) => {
                let doubtful: Vec<&str> = drop
                    .iter()
                    .filter(|name| input.index_of(name).is_err())
                    .filter_map(|name| meant(input, name))
                    .map(|f| f.name().as_str())
                    .collect();
                let stays = fields.iter().filter(|field| !drop.iter().any(|name| name.as_str() == field.name()));
                stays.map(|field| if doubtful.contains(&field.name().as_str()) { Doubt::column(field.name()) } else { field.clone() }).collect()
            }
            (None, None) => fields.iter().cloned().collect(),
        };
        let mut seen = HashSet::new();
        let fields: Vec<_> = fields.into_iter().filter(|field| seen.insert(field.name().clone())).collect();
        Some(Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())))
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
    fn origin(&self, _: &SchemaRef, column: &str) -> Option<String> {
        same(&self.output, column)
    }

    fn apply(&self, batch: RecordBatch) -> Result<Applied, StageError> {
        let columns = self.places.iter().map(|place| column(&batch, *place).cloned()).collect::<Result<_, _>>()?;
        batch_of(&self.output, columns, batch.num_rows()).map(all_good)
    }
}
