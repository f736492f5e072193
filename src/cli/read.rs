//! `pipeline read`: stored rows back.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{cell_json, row_json};

use super::{App, CliError, Global, exit, files, output};
use crate::workspace::{StoredRows, Wanted, csv_cell, instant};

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
    file: PathBuf,
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
    let name = Arc::clone(&plan.parts.name);
    let store = files::peek_state(global, &name)?;
    let ports = files::ports(app, global);
    let wanted = Wanted { from: args.from, to: args.to, condition: args.condition.clone(), limit: args.limit, dashes: "--" };
    let mut rows = StoredRows::open(&plan, &store, &ports, &files::state_dir(global, &name), wanted).await?;
    let mut printer = Printer::new(args.format, rows.schema());
    while let Some(batch) = rows.next().await? {
        printer.print(batch)?;
    }
    printer.end()?;
    Ok(exit::OK)
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
                    let cells = batch.columns().iter().map(|column| csv_cell(&cell_json(column, row)));
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
