//! Stored rows back, a part of them: what `pipeline read` prints and the API answers.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::select::filter::filter_record_batch;
use pipeline_contract::arrow::{RecordBatch, Schema, SchemaRef};
use pipeline_contract::{BatchStream, Filter, Ports};
use pipeline_expr::{Expr, ExprError};
use serde_json::Value;

use super::Refused;
use crate::plan::Plan;
use crate::run::sink_context;
use crate::stages::values::read_instant;
use crate::state::Store;

/// An instant as people write it: RFC 3339, or a date in UTC.
///
/// # Errors
/// How to write it.
pub fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    read_instant(text).ok_or_else(|| "write it as 2026-05-19 or 2026-05-19T15:00:00Z".to_owned())
}

/// Which rows.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// From this time on.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
    /// For which this expression is true.
    pub condition: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
    /// What stands before the names of these in messages: `--` on the command line.
    pub dashes: &'static str,
}

/// Rows of a pipeline's first sink, batch by batch, in the order in which it holds them.
pub struct StoredRows {
    schema: SchemaRef,
    stream: Box<dyn BatchStream>,
    condition: Option<Expr>,
    left: usize,
    dashes: &'static str,
}

impl StoredRows {
    /// Begins to read. `state_dir` is the pipeline's own folder.
    ///
    /// # Errors
    /// An expression that does not fit the columns, times where no column is one, or what the sink cannot read.
    pub async fn open(plan: &Plan, store: &Arc<dyn Store>, ports: &Ports, state_dir: &std::path::Path, wanted: Wanted) -> Result<Self, Refused> {
        let Wanted { from, to, condition, limit, dashes } = wanted;
        let time_column = plan.time_column();
        if time_column.is_none() && (from.is_some() || to.is_some()) {
            return Err(Refused::config(format!("{dashes}from and {dashes}to need a time column, and this pipeline stores none")));
        }
        let stored = plan.sinks.first().map(|sink| sink.plan.stored.as_slice()).unwrap_or_default();
        let fields: Vec<_> = stored.iter().filter_map(|name| plan.schema.field_with_name(name).ok().cloned()).collect();
        let schema = Arc::new(Schema::new(fields));
        let compile = |text: &String| Expr::compile_predicate(text, &schema).map_err(|faults| where_error(dashes, text, &faults));
        let condition = condition.as_ref().map(compile).transpose()?;
        let Some(part) = plan.parts.sinks.first() else { return Err(Refused::config("this pipeline has no sink")) };
        let context = sink_context(&plan.parts.name, &part.id, ports, store, state_dir);
        let stream = part.sink.read_back(&context, &Filter { time_column, from, to }).await?;
        Ok(Self { schema, stream, condition, left: limit.unwrap_or(usize::MAX), dashes })
    }

    /// The columns of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows, `None` at the end. A batch may be empty.
    ///
    /// # Errors
    /// A row that cannot be read, or for which the expression has no value.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Refused> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some(batch) = self.stream.next().await? else { return Ok(None) };
        let failed = |text: String| Refused { config: false, message: text, help: None };
        let batch = match &self.condition {
            None => batch,
            Some(condition) => {
                let keep = condition.matches(&batch).map_err(|error| failed(format!("{}where: {error}", self.dashes)))?;
                filter_record_batch(&batch, &keep).map_err(|error| failed(error.to_string()))?
            }
        };
        let batch = batch.slice(0, batch.num_rows().min(self.left));
        self.left -= batch.num_rows();
        Ok(Some(batch))
    }
}

fn where_error(dashes: &str, text: &str, faults: &[ExprError]) -> Refused {
    let mut lines = Vec::new();
    for fault in faults {
        let before = text.get(..fault.span.start).unwrap_or_default().chars().count();
        let carets = text.get(fault.span.clone()).map_or(1, |part| part.chars().count().max(1));
        lines.push(format!("{dashes}where: {}\n  {text}\n  {}{}", fault.message, " ".repeat(before), "^".repeat(carets)));
        if let Some(help) = &fault.help {
            lines.push(format!("  = help: {help}"));
        }
    }
    Refused::config(lines.join("\n"))
}

/// A cell of CSV: text as it is, null as nothing.
pub fn csv_cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
