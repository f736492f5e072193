//! `pipeline read`: stored rows back.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::arrow::select::filter::filter_record_batch;
use pipeline_contract::{Filter, cell_json, row_json};
use pipeline_expr::Expr;

use super::run::instant;
use super::{App, CliError, Global, exit, files, output};
use crate::run::sink_context;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RowFormat {
    /// For people
    Table,
    /// RFC 4180, with a header
    Csv,
    /// One JSON object a line
    Json,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ReadArgs {
    /// The pipeline file
    pub(super) file: PathBuf,
    /// Rows from this time on (RFC 3339, or a date in UTC)
    #[arg(long, value_parser = instant, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Rows before this time (RFC 3339, or a date in UTC)
    #[arg(long, value_parser = instant, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
    /// Rows for which this expression is true, as: coin_id = 'bitcoin' AND close > open
    #[arg(long = "where", value_name = "EXPR")]
    condition: Option<String>,
    /// At most so many rows
    #[arg(long, value_name = "ROWS")]
    limit: Option<usize>,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t = RowFormat::Table)]
    format: RowFormat,
}

pub(crate) async fn main(app: &App, global: &Global, args: &ReadArgs) -> Result<u8, CliError> {
    let plan = files::plan_of(app, global, &args.file)?;
    let time_column = plan.time_column();
    if time_column.is_none() && (args.from.is_some() || args.to.is_some()) {
        return Err(CliError::config("--from and --to need a time column, and this pipeline stores none"));
    }
    let stored = plan.sinks.first().map(|sink| sink.plan.stored.clone()).unwrap_or_default();
    let fields: Vec<_> = stored.iter().filter_map(|name| plan.schema.field_with_name(name).ok().cloned()).collect();
    let schema = Arc::new(pipeline_contract::arrow::Schema::new(fields));
    let condition =
        args.condition.as_deref().map(|text| Expr::compile_predicate(text, &schema).map_err(|faults| where_error(text, &faults))).transpose()?;
    let name = Arc::clone(&plan.parts.name);
    let store = files::peek_state(global, &name)?;
    let ports = files::ports(app, global);
    let Some(part) = plan.parts.sinks.into_iter().next() else { return Ok(exit::OK) };
    let context = sink_context(&name, &part.id, &ports, &store, &files::state_dir(global, &name));
    let mut stream = part.sink.read_back(&context, &Filter { time_column, from: args.from, to: args.to }).await?;
    let mut printer = Printer::new(args.format, &schema);
    let mut left = args.limit.unwrap_or(usize::MAX);
    while let Some(batch) = stream.next().await? {
        let batch = match &condition {
            None => batch,
            Some(condition) => {
                let keep = condition.matches(&batch).map_err(|error| CliError::new(exit::FAILED, format!("--where: {error}")))?;
                filter_record_batch(&batch, &keep).map_err(|error| CliError::new(exit::FAILED, error.to_string()))?
            }
        };
        let batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
        printer.print(batch)?;
        if left == 0 {
            break;
        }
    }
    printer.end()?;
    Ok(exit::OK)
}

fn where_error(text: &str, faults: &[pipeline_expr::ExprError]) -> CliError {
    let mut lines = Vec::new();
    for fault in faults {
        let before = text.get(..fault.span.start).unwrap_or_default().chars().count();
        let carets = text.get(fault.span.clone()).map_or(1, |part| part.chars().count().max(1));
        lines.push(format!("--where: {}\n  {text}\n  {}{}", fault.message, " ".repeat(before), "^".repeat(carets)));
        if let Some(help) = &fault.help {
            lines.push(format!("  = help: {help}"));
        }
    }
    CliError::config(lines.join("\n"))
}

struct Printer {
    format: RowFormat,
    names: Vec<String>,
    held: Vec<RecordBatch>,
    csv: csv::Writer<Vec<u8>>,
    header: bool,
}

impl Printer {
    fn new(format: RowFormat, schema: &pipeline_contract::arrow::Schema) -> Self {
        let names = schema.fields().iter().map(|field| field.name().clone()).collect();
        Self { format, names, held: Vec::new(), csv: csv::Writer::from_writer(Vec::new()), header: false }
    }

    fn print(&mut self, batch: RecordBatch) -> Result<(), CliError> {
        match self.format {
            RowFormat::Table => {
                if batch.num_rows() > 0 {
                    self.held.push(batch);
                }
                Ok(())
            }
            RowFormat::Json => (0..batch.num_rows()).try_for_each(|row| output::line(&serde_json::Value::Object(row_json(&batch, row)).to_string())),
            RowFormat::Csv => {
                self.head()?;
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| output::cell_raw(&cell_json(column, row)));
                    self.csv.write_record(cells).map_err(csv_error)?;
                }
                self.flush()
            }
        }
    }

    fn head(&mut self) -> Result<(), CliError> {
        if !std::mem::replace(&mut self.header, true) {
            self.csv.write_record(&self.names).map_err(csv_error)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CliError> {
        let writer = std::mem::replace(&mut self.csv, csv::Writer::from_writer(Vec::new()));
        let bytes = writer.into_inner().map_err(|error| CliError::new(exit::FAILED, error.to_string()))?;
        let text = String::from_utf8_lossy(&bytes);
        if text.is_empty() { Ok(()) } else { output::line(text.trim_end_matches('\n')) }
    }

    /// What could only be printed at the end. No rows are an empty answer, not an error.
    fn end(mut self) -> Result<(), CliError> {
        match self.format {
            RowFormat::Json => Ok(()),
            RowFormat::Csv => {
                self.head()?;
                self.flush()
            }
            RowFormat::Table => match output::rows_table(&self.held, usize::MAX) {
                Some(table) => output::line(&format!("{table}\n{} rows", self.held.iter().map(RecordBatch::num_rows).sum::<usize>())),
                None => output::line("0 rows"),
            },
        }
    }
}

fn csv_error(error: csv::Error) -> CliError {
    CliError::new(exit::FAILED, error.to_string())
}
