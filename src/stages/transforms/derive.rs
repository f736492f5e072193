//! `derive`: columns computed from others.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline_contract::arrow::array::BooleanArray;
use pipeline_contract::arrow::{Field, RecordBatch, Schema, SchemaRef, select};
use pipeline_contract::{
    Applied, BuildContext, ConfigTable, Descriptor, Doubt, Draft, Kind, PlanError, Plugin, Reject, Spanned, Stage, StageError, parse_partial,
    row_json, select_rows,
};
use pipeline_expr::{EvalError, Expr};
use schemars::JsonSchema;
use serde::Deserialize;

use super::stateless::{Planned, Step, same, stage};
use crate::stages::columns::batch_of;
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

/// The name of a column, and its expression.
type Named = (Spanned<String>, Spanned<String>);

/// The columns to make, in order.
struct Columns {
    columns: Vec<Named>,
    replace: bool,
}

impl Plugin for Derive {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Transform,
            type_name: "derive",
            summary: "Computes columns from others",
            config: || schemars::schema_for!(Config),
            sample: r#"[[transforms]]
type = "derive"
columns = { spread = "high - low", share = "spread / close" }  # in this order
# column = "spread"                                            # or: a single one
# expr = "high - low"
# replace = true                                               # a column of that name may be there already
"#,
        }
    }

    fn build(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        self.draft(config, cx).whole()
    }

    fn draft(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Draft {
        let (typed, mut faults) = parse_partial::<Config>("transform \"derive\"", config);
        let Some(typed) = typed else { return Draft::new(None, faults) };
        let replace = typed.replace;
        match columns(typed, config) {
            Ok(columns) => Draft::new(Some(stage(Columns { columns, replace })), faults),
            // What is there but faulty is not missing.
            Err(fault) => {
                if faults.is_empty() {
                    faults.push(fault);
                }
                Draft::new(None, faults)
            }
        }
    }

    fn outline(&self, config: &ConfigTable<'_>, input: Option<&SchemaRef>) -> Option<SchemaRef> {
        let mut schema = input?.clone();
        let typed = parse_partial::<Config>("", config).0?;
        let mut made: Vec<(String, Option<Spanned<String>>)> = Vec::new();
        made.extend(typed.column.map(|name| (name.into_inner(), typed.expr)));
        let mut columns: Vec<_> = typed.columns.map(Spanned::into_inner).unwrap_or_default().into_iter().collect();
        columns.sort_by_key(|(name, _)| name.span().start);
        made.extend(columns.into_iter().map(|(name, expr)| (name.into_inner(), Some(expr))));
        let unread: Vec<_> = config.names_in("columns").into_iter().filter(|name| !made.iter().any(|(known, _)| known == name)).collect();
        made.extend(unread.into_iter().map(|name| (name, None)));
        for (name, expr) in made {
            let there = schema.index_of(&name).ok();
            // A column that must not be replaced, and one whose expression is faulty, may have any type.
            let compiled = expr.filter(|_| there.is_none() || typed.replace).and_then(|expr| compile(&expr, &schema).ok());
            let field = match compiled {
                Some(expr) => Arc::new(Field::new(&name, expr.column_type().arrow(), expr.nullable())),
                None => Doubt::column(&name),
            };
            let mut fields = schema.fields().to_vec();
            match there.and_then(|place| fields.get_mut(place)) {
                Some(place) => *place = field,
                None => fields.push(field),
            }
            schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        }
        // Without a name that can be read any column may have been meant.
        let unnamed = !config.has("column") && !config.has("columns");
        Some(if unnamed { Doubt::open(Some(&schema)) } else { schema })
    }
}

/// The columns to make, in the order of the file.
fn columns(typed: Config, config: &ConfigTable<'_>) -> Result<Vec<Named>, PlanError> {
    let mut columns = match (typed.column, typed.expr, typed.columns) {
        (Some(column), Some(expr), None) => vec![(column, expr)],
        (None, None, Some(columns)) if columns.is_empty() => return Err(columns.error("E044", "no column is derived")),
        (None, None, Some(columns)) => columns.into_inner().into_iter().collect(),
        (None, None, None) => {
            return Err(PlanError::new("E044", "transform \"derive\" needs `column` and `expr`, or `columns`")
                .at(config.span())
                .help("as `columns = { spread = \"high - low\" }`"));
        }
        (Some(column), None, None) => {
            return Err(column.error("E044", "`column` needs an `expr` beside it").help("it says what the column is, as `expr = \"high - low\"`"));
        }
        (None, Some(expr), None) => return Err(expr.error("E044", "`expr` needs a `column` beside it, the name of what it computes")),
        (_, _, Some(columns)) => return Err(columns.error("E044", "`columns` stands instead of `column` and `expr`, not beside them")),
    };
    columns.sort_by_key(|(name, _)| name.span().start);
    Ok(columns)
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
    fn origin(&self, input: &SchemaRef, column: &str) -> Option<String> {
        same(input, column).filter(|_| self.makers.iter().all(|maker| maker.name != column))
    }

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
                batch = select_rows(&batch, &good)?;
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
