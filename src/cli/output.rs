//! What commands print on stdout: tables, JSON, CSV.

use std::io::Write;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{ColumnType, row_json};
use serde_json::Value;

use super::CliError;
use crate::run::alike::{alike, named, together};
use crate::run::status_name;
use crate::state::{Counts, RunRecord};

pub(crate) use crate::watch::{split_status, summary};

/// Prints a line on stdout.
///
/// # Errors
/// [`CliError::reader_gone`] when nobody reads any more (`| head`): quiet, and no failure of a command that only shows.
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(CliError::reader_gone()),
        Err(error) => Err(CliError::new(super::exit::FAILED, format!("stdout cannot be written: {error}"))),
    }
}

/// A table with a header.
pub(crate) fn table<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

/// A cell for people: text as it is, null as nothing.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        other => other.to_string(),
    }
}

/// Rows as a table, numbers to the right.
pub(crate) fn rows_table(batches: &[RecordBatch], limit: usize) -> Option<Table> {
    let schema = batches.first()?.schema();
    let mut table = table(schema.fields().iter().map(|field| field.name().as_str()));
    for (place, field) in schema.fields().iter().enumerate() {
        if matches!(ColumnType::of(field.data_type()), Some(ColumnType::Integer | ColumnType::Float))
            && let Some(column) = table.column_mut(place)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| row_json(batch, row)));
    for row in rows.take(limit) {
        table.add_row(schema.fields().iter().map(|field| cell(row.get(field.name()).unwrap_or(&Value::Null))));
    }
    Some(table)
}

/// A run's summary for people.
pub(crate) fn summary_text(pipeline: &str, run: &RunRecord) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let took = run.ended_at.map(|end| (end - run.started_at).num_milliseconds().max(0)).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a run fit 53 bits")]
    let seconds = took as f64 / 1000.0;
    let _ = writeln!(text, "{pipeline}: {} in {seconds:.1} s, {}", status_name(run.status), words(&run.rows));
    let groups: Vec<_> = alike(&run.splits).map(|group| (group, named(group))).collect();
    let width = groups.iter().map(|(_, name)| name.chars().count()).max().unwrap_or_default();
    for (group, name) in groups {
        let Some(split) = group.first() else { continue };
        let name = format!("{name:width$}");
        let tries = if split.attempts > 1 { format!(" (opened {} times)", split.attempts) } else { String::new() };
        match &split.error {
            None => {
                let _ = writeln!(text, "  {name}  {}  {}{tries}", split_status(split.status), words(&together(group)));
            }
            Some(error) => {
                let _ = writeln!(text, "  {name}  {}  {}: {}{tries}", split_status(split.status), error.category, error.message);
                if let Some(help) = &error.help {
                    let _ = writeln!(text, "  {:width$}  = help: {help}", "");
                }
            }
        }
    }
    if let Some(error) = run.error.as_ref().filter(|error| run.splits.iter().all(|split| split.error.as_ref() != Some(error))) {
        let _ = writeln!(text, "  {}: {}", error.category, error.message);
        if let Some(help) = &error.help {
            let _ = writeln!(text, "  = help: {help}");
        }
    }
    text.trim_end().to_owned()
}

/// Counts in words, those that are zero left out.
pub(crate) fn words(rows: &Counts) -> String {
    let parts = [
        (rows.written, "written"),
        (rows.duplicates, "duplicates"),
        (rows.conflicts, "conflicts"),
        (rows.rejected, "rejected"),
        (rows.filtered, "filtered"),
    ];
    let named: Vec<String> = parts.iter().filter(|(n, name)| *n > 0 || *name == "written").map(|(n, name)| format!("{n} {name}")).collect();
    format!("{} read: {}", rows.read, named.join(", "))
}
