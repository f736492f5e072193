//! Looking up columns, and batches made of other columns.

use std::collections::HashSet;
use std::sync::Arc;

use pipeline_contract::arrow::array::RecordBatchOptions;
use pipeline_contract::arrow::{ArrayRef, Field, RecordBatch, Schema, SchemaRef};
use pipeline_contract::{ColumnType, PlanError, Spanned, StageError, listed, nearest};

/// The place of a column that a pipeline file names.
pub(crate) fn find(schema: &Schema, name: &Spanned<String>) -> Result<usize, PlanError> {
    match schema.index_of(name) {
        Ok(place) => Ok(place),
        Err(_) => {
            let known = schema.fields().iter().map(|field| field.name().as_str());
            let fault = name.error("E041", format!("there is no column `{}` here", &**name));
            Err(match nearest(name, known.clone()) {
                Some(near) => {
                    // A key of a table stands without quotes.
                    let quotes = if name.span().len() == name.len() { "" } else { "\"" };
                    fault.meant(format_args!("`{near}`"), format!("{quotes}{near}{quotes}"))
                }
                None => fault.help(format!("the columns here are {}", listed(known))),
            })
        }
    }
}

/// What `name` was meant to be, where there is no such column.
pub(crate) fn meant<'a>(schema: &'a Schema, name: &str) -> Option<&'a Arc<Field>> {
    let near = nearest(name, schema.fields().iter().map(|field| field.name().as_str()))?;
    schema.fields().iter().find(|field| field.name() == near)
}

/// The place and type of a column that a pipeline file names.
pub(crate) fn find_typed(schema: &Schema, name: &Spanned<String>) -> Result<(usize, ColumnType), PlanError> {
    let place = find(schema, name)?;
    let data_type = schema.field(place).data_type();
    match ColumnType::of(data_type) {
        Some(ty) => Ok((place, ty)),
        None => Err(name.error("E044", format!("column `{}` has the type {data_type}, which pipelines do not speak", &**name))),
    }
}

/// Names that a list gives twice: E042 at each later one.
pub(crate) fn repeated<'a>(names: impl IntoIterator<Item = &'a Spanned<String>>) -> Vec<PlanError> {
    let mut seen = HashSet::new();
    names
        .into_iter()
        .filter(|name| !seen.insert(name.as_str()))
        .map(|name| name.error("E042", format!("column `{}` is named twice", &**name)))
        .collect()
}

/// A batch of these columns; that they fit the schema was seen to at plan time.
pub(crate) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, StageError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|cause| StageError::developer(format!("a stage made rows that do not fit the schema it planned: {cause}")))
}

/// The column at a place that was found in the same schema.
pub(crate) fn column(batch: &RecordBatch, place: usize) -> Result<&ArrayRef, StageError> {
    batch.columns().get(place).ok_or_else(|| StageError::developer(format!("a batch lacks column {place} of its planned schema")))
}

/// Do columns stand where they were planned? Stages find them by their place.
pub(crate) fn same_columns(planned: &SchemaRef, given: &SchemaRef) -> bool {
    Arc::ptr_eq(planned, given)
        || planned.fields().len() == given.fields().len()
            && planned.fields().iter().zip(given.fields()).all(|(p, g)| p.name() == g.name() && p.data_type() == g.data_type())
}
