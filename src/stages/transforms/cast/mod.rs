//! `cast`: columns of another type.

mod convert;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline_contract::arrow::array::BooleanArray;
use pipeline_contract::arrow::{ArrayRef, RecordBatch, Schema, SchemaRef, select};
use pipeline_contract::{
    Applied, BuildContext, ColumnType, ConfigTable, Descriptor, Doubt, Draft, Kind, PlanError, Plugin, Reject, Spanned, Stage, StageError,
    parse_partial, row_json,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::stateless::{Planned, Step, all_good, same, stage};
use crate::stages::columns::{batch_of, column, find_typed, meant};
use convert::Conversion;
use target::TargetForm;

pub(super) struct Cast;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// For each column to cast, its new type: `{ close = "float" }`, or a table with the type and how to read or write it:
    /// `{ time = { type = "timestamp", format = "%d/%m/%Y %H:%M" } }`.
    columns: BTreeMap<Spanned<String>, Spanned<TargetForm>>,
}

impl Plugin for Cast {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Transform,
            type_name: "cast",
            summary: "Changes the types of columns; a row with a value that does not fit is rejected",
            config: || schemars::schema_for!(Config),
            sample: r#"[[transforms]]
type = "cast"

[transforms.columns]
close = "float"                                             # boolean, integer, float, text, timestamp
opened = { type = "timestamp", unit = "ms" }                # a number of s, ms or us since 1970
closed = { type = "timestamp", format = "%d/%m/%Y %H:%M" }  # text; UTC where it names no offset
"#,
        }
    }

    fn build(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        self.draft(config, cx).whole()
    }

    fn draft(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Draft {
        let (typed, faults) = parse_partial::<Config>("transform \"cast\"", config);
        Draft::new(typed.map(stage), faults)
    }

    fn outline(&self, config: &ConfigTable<'_>, input: Option<&SchemaRef>) -> Option<SchemaRef> {
        let input = input?;
        let columns = parse_partial::<Config>("", config).0.map(|config| config.columns).unwrap_or_default();
        let mut fields = input.fields().to_vec();
        for name in config.names_in("columns") {
            // A name that is misspelt casts the column that was meant.
            let place = input.index_of(&name).ok().or_else(|| input.index_of(meant(input, &name)?.name()).ok());
            let Some(field) = place.and_then(|place| fields.get_mut(place)) else { continue };
            // Of a cast that cannot be nobody can tell what was meant.
            let possible = |target: &&Spanned<TargetForm>| {
                ColumnType::of(field.data_type()).is_some_and(|from| Conversion::plan(&name, from, &target.0, target.span()).is_ok())
            };
            *field = match columns.get(name.as_str()).filter(possible) {
                Some(target) => Arc::new(field.as_ref().clone().with_data_type(target.0.to.arrow())),
                None => Doubt::column(field.name()),
            };
        }
        Some(Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())))
    }
}

impl Planned for Config {
    fn plan(&self, input: &SchemaRef) -> Result<(SchemaRef, Arc<dyn Step>), Vec<PlanError>> {
        let mut faults = Vec::new();
        let mut casts = Vec::new();
        for (name, target) in &self.columns {
            match find_typed(input, name) {
                Err(fault) => faults.push(fault),
                Ok((place, from)) => match Conversion::plan(name, from, &target.0, target.span()) {
                    Ok(conversion) => casts.push(ColumnCast { place, name: name.to_string(), conversion }),
                    Err(fault) => faults.push(fault),
                },
            }
        }
        if !faults.is_empty() {
            faults.sort_by_key(|fault| fault.span.as_ref().map(|span| span.start));
            return Err(faults);
        }
        // A row with several bad values is told of the first.
        casts.sort_by_key(|cast| cast.place);
        let field = |(place, field): (usize, &Arc<pipeline_contract::arrow::Field>)| match casts.iter().find(|cast| cast.place == place) {
            Some(cast) => Arc::new(field.as_ref().clone().with_data_type(cast.conversion.to.arrow())),
            None => field.clone(),
        };
        let fields: Vec<_> = input.fields().iter().enumerate().map(field).collect();
        let output = Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()));
        Ok((output.clone(), Arc::new(Casts { casts, output })))
    }
}

struct ColumnCast {
    place: usize,
    name: String,
    conversion: Conversion,
}

struct Casts {
    casts: Vec<ColumnCast>,
    output: SchemaRef,
}

impl Step for Casts {
    fn origin(&self, input: &SchemaRef, column: &str) -> Option<String> {
        let before = input.field_with_name(column).ok()?;
        let changed = self.output.field_with_name(column).ok().is_none_or(|after| after.data_type() != before.data_type());
        same(input, column).filter(|_| !changed)
    }

    fn apply(&self, batch: RecordBatch) -> Result<Applied, StageError> {
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        let mut failed: BTreeMap<usize, String> = BTreeMap::new();
        for cast in &self.casts {
            let values = column(&batch, cast.place)?;
            let (made, bad) = cast.conversion.apply(values);
            for row in bad {
                failed.entry(row).or_insert_with(|| cast.conversion.refusal(&cast.name, values, row));
            }
            if let Some(place) = columns.get_mut(cast.place) {
                *place = made;
            }
        }
        if failed.is_empty() {
            return batch_of(&self.output, columns, batch.num_rows()).map(all_good);
        }
        let good: BooleanArray = (0..batch.num_rows()).map(|row| Some(!failed.contains_key(&row))).collect();
        let kept = columns.iter().map(|column| select::filter::filter(column, &good)).collect::<Result<Vec<_>, _>>();
        let kept = kept.map_err(|cause| StageError::developer(format!("values cannot be left out: {cause}")))?;
        let rows = batch.num_rows() - failed.len();
        let rejects = failed.into_iter().map(|(row, message)| Reject::of_row(row_json(&batch, row), "cast", message)).collect();
        Ok(Applied { batch: batch_of(&self.output, kept, rows)?, rejects })
    }
}
