//! `[[test]]` tables typed against the columns of their pipeline.

use std::path::PathBuf;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pipeline_contract::arrow::{Field, Schema, SchemaRef};
use pipeline_contract::{ColumnType, Doubt, PlanError, Spanned, instant, listed, nearest, slip};

use crate::config::{CellDef, ExpectDef, RejectDef, ResponseDef, RowDef, TestDef};
use crate::stages::validate::Literal;
use crate::stages::values::read_timestamp;
use crate::testing::{Case, Cell, Expect, ExpectReject, Input, Named, Recorded, ResponseBody, batch};

/// The columns of a pipeline, as far as they can be told.
#[derive(Clone, Debug)]
pub struct Columns {
    /// Those that enter each transform, and last those that enter validation.
    pub(super) stages: Vec<SchemaRef>,
    /// It knows which rows it has stored.
    pub(super) dedupes: bool,
    /// The rules by which rows may be rejected behind the source; `None` where they are not all known.
    pub(super) rules: Option<Vec<String>>,
}

impl Columns {
    /// Those that enter validation.
    pub fn output(&self) -> Option<&SchemaRef> {
        self.stages.last()
    }
}

/// The time of a test that does not say: what such a test shows does not depend on it.
const SOME_DAY: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// The tests with which nothing is wrong, and what is wrong with the others.
pub fn cases(tests: &[TestDef], columns: &Columns) -> (Vec<Case>, Vec<PlanError>) {
    let mut typing = Typing { columns, faults: Vec::new() };
    let cases = tests.iter().filter_map(|test| typing.case(test)).collect();
    (cases, typing.faults)
}

struct Typing<'a> {
    columns: &'a Columns,
    faults: Vec<PlanError>,
}

impl Typing<'_> {
    fn case(&mut self, test: &TestDef) -> Option<Case> {
        let before = self.faults.len();
        let (first, last) = (self.columns.stages.first()?.clone(), self.columns.stages.last()?.clone());
        if let (Some(row), false) = (test.stored.first(), self.columns.dedupes) {
            let fault = row.error("E012", "`stored` has no meaning here: without `[dedupe]` a pipeline does not know what it has stored");
            self.faults.push(fault.help("leave it out"));
        }
        let stored = self.input(&test.stored, &first);
        let rows = test.rows.as_ref().map(|rows| self.input(rows, &first));
        let now = match &test.now {
            None => Some(SOME_DAY),
            Some(now) => self.now(now),
        };
        let expect = self.expect(&test.expect, &last, test.rows.is_some());
        // What is in doubt has a fault of its own, and nothing runs.
        let doubtful = self.columns.stages.iter().any(|schema| Doubt::about(schema));
        if self.faults.len() > before || doubtful {
            return None;
        }
        let made = |rows: &[Vec<Cell>]| batch(&first, rows).ok();
        let input = match (rows, &test.responses) {
            (Some(rows), _) => Input::Rows(test.split.as_ref().map_or_else(|| "test".to_owned(), |split| split.to_string()), made(&rows)?),
            (None, responses) => Input::Responses(responses.iter().flat_map(|all| all.iter()).map(|(on, response)| recorded(on, response)).collect()),
        };
        Some(Case { name: test.name.clone(), input, stored: made(&stored)?, now: now?, expect })
    }

    fn now(&mut self, now: &Spanned<Literal>) -> Option<DateTime<Utc>> {
        let at = match &**now {
            Literal::Text(text) => read_timestamp(text).and_then(instant),
            _ => None,
        };
        if at.is_none() {
            let fault = now.error("E012", format!("`now`: expected a time, found {}", **now));
            self.faults.push(fault.help("write it as \"2026-05-19T15:10:00Z\""));
        }
        at
    }

    /// Whole rows of a schema.
    fn input(&mut self, rows: &[RowDef], schema: &Schema) -> Vec<Vec<Cell>> {
        rows.iter().map(|row| self.whole(row, schema)).collect()
    }

    fn whole(&mut self, row: &RowDef, schema: &Schema) -> Vec<Cell> {
        let mut meant: Vec<String> = Vec::new();
        for name in row.keys().filter(|name| schema.field_with_name(name).is_err()) {
            meant.extend(self.unknown(name, &[schema]));
        }
        let (mut cells, mut missing) = (Vec::new(), Vec::new());
        for field in schema.fields() {
            let cell = match row.get(field.name().as_str()) {
                Some(cell) => self.typed(field, cell, true),
                None => {
                    // A misspelt column is missing under neither of its names.
                    missing.extend(Some(field.name().as_str()).filter(|name| !field.is_nullable() && !meant.iter().any(|meant| meant == name)));
                    None
                }
            };
            cells.push(cell.unwrap_or(Cell::Null));
        }
        if !missing.is_empty() {
            let fault = row.error("E011", format!("this row needs {}", listed(missing)));
            self.faults.push(fault.help("the source promises that these columns are never empty; the others may be left out"));
        }
        cells
    }

    /// E041 for a column that none of the schemas has; answers the one that was meant.
    fn unknown(&mut self, name: &Spanned<String>, schemas: &[&Schema]) -> Option<String> {
        if schemas.iter().any(|schema| Doubt::is_open(schema)) {
            return None;
        }
        let mut names: Vec<&str> = schemas.iter().flat_map(|schema| schema.fields().iter()).map(|field| field.name().as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let fault = name.error("E041", format!("there is no column `{}` at this point of the pipeline", name.as_str()));
        self.faults.push(match nearest(name, names.iter().copied()) {
            Some(near) => fault.meant(format_args!("`{near}`"), near),
            None => fault.help(format!("the columns here are {}", listed(names.iter().copied()))),
        });
        slip(name, names.iter().copied()).map(str::to_owned)
    }

    fn typed(&mut self, field: &Field, cell: &Spanned<CellDef>, input: bool) -> Option<Cell> {
        let Some(ty) = ColumnType::of(field.data_type()) else { return Some(Cell::Null) };
        let literal = match &**cell {
            CellDef::Null if input && !field.is_nullable() => {
                self.faults.push(cell.error("E012", format!("column `{}` is never empty: the source promises it", field.name())));
                return None;
            }
            CellDef::Null => return Some(Cell::Null),
            CellDef::Value(literal) => literal,
        };
        let typed = of_type(ty, literal);
        if typed.is_none() {
            let fault = cell.error("E012", format!("column `{}` is {ty}, and {literal} is not", field.name()));
            self.faults.push(match ty {
                ColumnType::Timestamp => fault.help("write it as \"2026-05-19T15:00:00Z\""),
                _ => fault,
            });
        }
        typed
    }

    /// Columns of a row that are compared.
    fn named(&mut self, row: &RowDef, schemas: &[&Schema]) -> Named {
        let mut named = Vec::new();
        for (name, cell) in row.iter() {
            let fields: Vec<&Field> = schemas.iter().filter_map(|schema| schema.field_with_name(name).ok()).collect();
            let typed = match fields.last() {
                None => {
                    self.unknown(name, schemas);
                    None
                }
                // A transform may have changed its type on the way.
                Some(last) => match fields.iter().find(|field| fits(field, cell)) {
                    Some(field) => self.typed(field, cell, false),
                    None => self.typed(last, cell, false),
                },
            };
            named.extend(typed.map(|cell| (name.to_string(), cell)));
        }
        named
    }

    fn expect(&mut self, expect: &ExpectDef, last: &Schema, is_typed: bool) -> Expect {
        let mut rows = |rows: &Option<Vec<RowDef>>| rows.as_ref().map(|rows| rows.iter().map(|row| self.named(row, &[last])).collect::<Vec<Named>>());
        let (new, replaced) = (rows(&expect.rows), rows(&expect.replaced));
        let rejects = expect.rejects.as_ref().map(|rejects| rejects.iter().map(|reject| self.reject(reject, is_typed)).collect());
        Expect {
            rows: new,
            replaced,
            rejects,
            duplicates: expect.duplicates,
            conflicts: expect.conflicts,
            filtered: expect.filtered,
            error: expect.error.clone(),
        }
    }

    fn reject(&mut self, reject: &RejectDef, is_typed: bool) -> ExpectReject {
        let columns = self.columns;
        // What a source rejects has names of its own.
        if let (true, Some(rules)) = (is_typed, &columns.rules)
            && !rules.iter().any(|rule| *rule == *reject.rule)
        {
            let names = rules.iter().map(String::as_str);
            let fault = reject.rule.error("E046", format!("no rule is called \"{}\"", reject.rule.escape_debug()));
            self.faults.push(match nearest(&reject.rule, names.clone()) {
                Some(near) => fault.meant(format_args!("\"{near}\""), format!("{near:?}")),
                None if rules.is_empty() => fault.help("this pipeline has no rule by which a row is rejected"),
                None => fault.help(format!("the rules are {}", listed(names))),
            });
        }
        let schemas: Vec<&Schema> = columns.stages.iter().map(AsRef::as_ref).collect();
        let row = match &reject.row {
            None => Vec::new(),
            Some(row) if is_typed => self.named(row, &schemas),
            // What a source rejects may have any shape.
            Some(row) => row.iter().map(|(name, cell)| (name.to_string(), as_written(cell))).collect(),
        };
        ExpectReject { rule: reject.rule.to_string(), message: reject.message.clone(), row }
    }
}

fn fits(field: &Field, cell: &CellDef) -> bool {
    match (cell, ColumnType::of(field.data_type())) {
        (CellDef::Value(literal), Some(ty)) => of_type(ty, literal).is_some(),
        _ => true,
    }
}

fn of_type(ty: ColumnType, literal: &Literal) -> Option<Cell> {
    match (ty, literal) {
        (ColumnType::Boolean, Literal::Boolean(b)) => Some(Cell::Boolean(*b)),
        (ColumnType::Integer, Literal::Integer(n)) => Some(Cell::Integer(*n)),
        (ColumnType::Float, Literal::Float(x)) => Some(Cell::Float(*x)),
        #[expect(clippy::cast_precision_loss, reason = "so does TOML's reader with a number that has a point")]
        (ColumnType::Float, Literal::Integer(n)) => Some(Cell::Float(*n as f64)),
        (ColumnType::Text, Literal::Text(text)) => Some(Cell::Text(text.clone())),
        (ColumnType::Timestamp, Literal::Text(text)) => read_timestamp(text).map(Cell::Timestamp),
        _ => None,
    }
}

fn as_written(cell: &CellDef) -> Cell {
    match cell {
        CellDef::Null => Cell::Null,
        CellDef::Value(Literal::Boolean(b)) => Cell::Boolean(*b),
        CellDef::Value(Literal::Integer(n)) => Cell::Integer(*n),
        CellDef::Value(Literal::Float(x)) => Cell::Float(*x),
        CellDef::Value(Literal::Text(text)) => Cell::Text(text.clone()),
    }
}

fn recorded(on: &Spanned<String>, response: &Spanned<ResponseDef>) -> Recorded {
    let body = match &response.file {
        Some(file) => ResponseBody::File(Spanned::new(PathBuf::from(file), response.span())),
        None => ResponseBody::Inline(Bytes::from(response.body.clone())),
    };
    Recorded { on: on.to_string(), status: response.status, headers: response.headers.clone(), body }
}
