//! `derive`: columns computed from others.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline_contract::arrow::array::BooleanArray;
use pipeline_contract::arrow::{Field, RecordBatch, Schema, SchemaRef, select};
use pipeline_contract::{
    Applied, BuildContext, ConfigTable, Descriptor, Kind, PlanError, Plugin, Reject, Spanned, Stage, StageError, parse_config, row_json,
};
use pipeline_expr::{EvalError, Expr};
use schemars::JsonSchema;
use serde::Deserialize;

use super::stateless::{Planned, Step, stage};
use crate::stages::columns::{batch_of, keep};
use crate::stages::expression::{compile, unfit};

pub(super) struct Derive;

/// Either `column` and `expr`, or `columns`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The name of the new column.
    column: Option<Spanned<String>>,
    /// Its value for each row.
    expr: Option<Spanned<String>>,
    /// Several new columns: `{ name = "expression" }`. They are made in the order of the file, and each expression also sees the columns
    /// made before it.
    columns: Option<Spanned<BTreeMap<Spanned<String>, Spanned<String>>>>,
    /// Whether a column that is there already may be replaced; it keeps its place.
    #[serde(default)]
    replace: bool,
}

/// The columns to make, in order.
struct Columns {
    columns: Vec<(Spanned<String>, Spanned<String>)>,
    replace: bool,
}

impl Plugin for Derive {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Transform,
            type_name: "derive",
            summary: "Computes columns from others",
            config: schemars::schema_for!(Config),
            sample: r#"[[transforms]]
type = "derive"
columns = { spread = "high - low", share = "spread / close" }  # in this order
# column = "spread"                                            # or: a single one
# expr = "high - low"
# replace = true                                               # a column of that name may be there already
"#,
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let typed: Config = parse_config("transform \"derive\"", config)?;
        let fault = |message: &str| vec![PlanError::new("E044", format!("transform \"derive\" {message}")).at(config.span())];
        let mut columns = match (typed.column, typed.expr, typed.columns) {
            (Some(column), Some(expr), None) => vec![(column, expr)],
            (None, None, Some(columns)) if columns.is_empty() => return Err(vec![columns.error("E044", "no column is derived")]),
            (None, None, Some(columns)) => columns.into_inner().into_iter().collect(),
            (None, None, None) => return Err(fault("needs `column` and `expr`, or `columns`")),
            (Some(column), None, None) => return Err(vec![column.error("E044", "`column` needs an `expr` beside it")]),
            (None, Some(expr), None) => return Err(vec![expr.error("E044", "`expr` needs a `column` beside it, the name of what it computes")]),
            (_, _, Some(columns)) => {
                return Err(vec![columns.error("E044", "`columns` stands instead of `column` and `expr`, not beside them")]);
            }
        };
        columns.sort_by_key(|(name, _)| name.span().start);
        Ok(stage(Columns { columns, replace: typed.replace }))
    }
}

impl Planned for Columns {
    fn plan(&self, input: &SchemaRef) -> Result<(SchemaRef, Arc<dyn Step>), Vec<PlanError>> {
        let mut faults = Vec::new();
        let mut makers = Vec::new();
        let mut schema = input.clone();
        let mut missing: Vec<String> = Vec::new();
        for (name, text) in &self.columns {
            let there = schema.index_of(name).ok();
            if name.is_empty() {
                faults.push(name.error("E044", "a column needs a name"));
            }
            if there.is_some() && !self.replace {
                let fault = name.error("E042", format!("there is a column `{}` already", &**name));
                faults.push(fault.help("`replace = true` replaces it"));
            }
            match compile(text, &schema) {
                Ok(expr) => {
                    let mut fields = schema.fields().to_vec();
                    let field = Arc::new(Field::new(name.as_str(), expr.column_type().arrow(), expr.nullable()));
                    match there.and_then(|place| fields.get_mut(place)) {
                        Some(place) => *place = field,
                        None => fields.push(field),
                    }
                    schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
                    makers.push(Maker { expr, name: name.to_string(), place: there, output: schema.clone() });
                }
                Err(mut more) => {
                    // That a column is not there because its own expression is faulty is no news.
                    more.retain(|fault| !missing.iter().any(|name| fault.message.contains(name)));
                    faults.extend(more);
                    if there.is_none() {
                        missing.push(format!("`{}`", &**name));
                    }
                }
            }
        }
        if faults.is_empty() { Ok((schema, Arc::new(Derived { makers }))) } else { Err(faults) }
    }
}

struct Maker {
    expr: Expr,
    name: String,
    /// The place of the column that it replaces.
    place: Option<usize>,
    output: SchemaRef,
}

struct Derived {
    makers: Vec<Maker>,
}

impl Step for Derived {
    fn apply(&self, input: RecordBatch) -> Result<Applied, StageError> {
        let mut batch = input.clone();
        // Which row of the input each row is, once some were taken out.
        let mut origins: Option<Vec<usize>> = None;
        let mut failed: Vec<(usize, String)> = Vec::new();
        for maker in &self.makers {
            let (mut values, errors) = maker.expr.evaluate_each(&batch).map_err(|error| unfit(&error))?;
            if !errors.is_empty() {
                let good = others(&errors, batch.num_rows());
                let whence = origins.unwrap_or_else(|| (0..batch.num_rows()).collect());
                let at = |row: usize| whence.get(row).copied();
                failed.extend(errors.into_iter().filter_map(|error| Some((at(error.row?)?, format!("{}: {}", maker.name, error.message)))));
                origins = Some(whence.iter().zip(good.values()).filter(|(_, good)| *good).map(|(row, _)| *row).collect());
                batch = keep(&batch, &good)?;
                values =
                    select::filter::filter(&values, &good).map_err(|cause| StageError::developer(format!("values cannot be left out: {cause}")))?;
            }
            let mut columns = batch.columns().to_vec();
            match maker.place.and_then(|place| columns.get_mut(place)) {
                Some(place) => *place = values,
                None => columns.push(values),
            }
            batch = batch_of(&maker.output, columns, batch.num_rows())?;
        }
        failed.sort_by_key(|(row, _)| *row);
        let rejects = failed.into_iter().map(|(row, message)| Reject::of_row(row_json(&input, row), "derive", message)).collect();
        Ok(Applied { batch, rejects })
    }
}

/// Marks the rows without an error.
fn others(errors: &[EvalError], rows: usize) -> BooleanArray {
    let mut good = vec![true; rows];
    for place in errors.iter().filter_map(|error| error.row) {
        if let Some(good) = good.get_mut(place) {
            *good = false;
        }
    }
    BooleanArray::from(good)
}
