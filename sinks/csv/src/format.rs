//! Rows as records of CSV.

use std::io::Read;
use std::ops::Range;

use pipeline_contract::PlanError;
use pipeline_sink_lines::{Column, Format, Lines, OneByOne, Records, Written};
use serde_json::{Map, Value, json};

use crate::cell::Style;
use crate::lines::Columns;
use crate::scan::Scanner;

/// CSV, as the pipeline file wants it.
pub(crate) struct Csv {
    pub(crate) style: Style,
    pub(crate) header: bool,
    /// Where the path stands in the pipeline file.
    pub(crate) path: Range<usize>,
}

impl Format for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn header(&self, columns: &[Written]) -> Vec<u8> {
        let mut line = Vec::new();
        if !self.header {
            return line;
        }
        let style = Style { null: Vec::new(), ..self.style.clone() };
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                line.push(style.delimiter);
            }
            style.text(column.name.as_bytes(), &mut line);
        }
        line.extend_from_slice(style.newline);
        line
    }

    fn line(&self, _: &[Written], cells: &[Column<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), usize> {
        for (i, column) in cells.iter().enumerate() {
            if i > 0 {
                out.push(self.style.delimiter);
            }
            if !self.style.write(column, row, out) {
                return Err(i);
            }
        }
        out.extend_from_slice(self.style.newline);
        Ok(())
    }

    fn lines<'a>(&'a self, columns: &'a [Written], cells: &'a [Column<'a>]) -> Box<dyn Lines + 'a> {
        if cells.is_empty() { Box::new(OneByOne { format: self, columns, cells }) } else { Box::new(Columns::new(&self.style, cells)) }
    }

    fn records<'a>(&self, _: &[Written], input: Box<dyn Read + Send + 'a>) -> Box<dyn Records + 'a> {
        Box::new(Scanner::new(input, self.style.clone()))
    }

    /// Unless it is how a row looks.
    fn skips_blank(&self, columns: &[Written]) -> bool {
        columns.len() > 1
    }

    fn identity(&self) -> Map<String, Value> {
        let Style { delimiter, null, guard, newline, .. } = &self.style;
        let identity = json!({
            "delimiter": char::from(*delimiter).to_string(),
            "header": self.header,
            "null": String::from_utf8_lossy(null),
            "guard_formulas": guard,
            "line_ending": if newline.len() == 1 { "lf" } else { "crlf" },
        });
        identity.as_object().cloned().unwrap_or_default()
    }

    fn warnings(&self, columns: &[Written]) -> Vec<PlanError> {
        match columns {
            [column] if column.nullable && self.style.null.is_empty() => {
                let message = format!("`{}` is the only column: a null in it is an empty line, which many programs skip", column.name);
                vec![PlanError::warning("W030", message).at(self.path.clone()).help("set `null`, as `null = \"NA\"`")]
            }
            _ => Vec::new(),
        }
    }
}
