//! Constraints on single columns.

use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use pipeline_contract::arrow::{ArrayRef, RecordBatch};
use pipeline_contract::{ColumnType, PlanError, Spanned, StageError};
use regex::{Regex, RegexBuilder};

use super::Broken;
use super::config::ColumnRule;
use super::literal::Literal;
use super::members::Members;
use crate::stages::columns::column;
use crate::stages::values::{add, shortened, show, timestamp};

/// One constraint on one column.
pub(super) struct Constraint {
    place: usize,
    column: String,
    /// `open.min`
    name: String,
    test: Test,
}

enum Test {
    Required,
    Min(Bound),
    Max(Bound),
    Matches(Regex),
    OneOf(Members, String),
    MinLength(u64),
    MaxLength(u64),
}

/// The least or greatest value, as the column's type, and as it was written.
struct Bound {
    value: Value,
    shown: String,
}

#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Value {
    /// An integer, or an instant.
    Long(i64),
    Float(f64),
}

/// The constraints of one column, in the order in which they are checked.
pub(super) fn plan(
    name: &Spanned<String>,
    place: usize,
    ty: ColumnType,
    nullable: bool,
    rule: &ColumnRule,
) -> Result<Vec<Constraint>, Vec<PlanError>> {
    let mut planner = Planner { column: name, ty, faults: Vec::new(), tests: Vec::new() };
    if let Some(wanted) = &rule.ty
        && **wanted != ty
    {
        let fault = wanted.error("E044", format!("column `{name}` is {ty}, not {}", **wanted));
        planner.faults.push(fault.help(format!("change it before with the transform `cast`: columns = {{ {name} = \"{}\" }}", **wanted)));
    }
    // Where the schema promises that there is no null, there is nothing to look for.
    if rule.required && nullable {
        planner.tests.push(("required", Test::Required));
    }
    planner.bounds(rule);
    planner.regex(rule);
    planner.one_of(rule);
    planner.lengths(rule);
    if planner.faults.is_empty() {
        let constraint = |(suffix, test)| Constraint { place, column: name.to_string(), name: format!("{name}.{suffix}"), test };
        Ok(planner.tests.into_iter().map(constraint).collect())
    } else {
        Err(planner.faults)
    }
}

struct Planner<'a> {
    column: &'a str,
    ty: ColumnType,
    faults: Vec<PlanError>,
    tests: Vec<(&'static str, Test)>,
}

impl Planner<'_> {
    fn bounds(&mut self, rule: &ColumnRule) {
        let min = rule.min.as_ref().and_then(|min| self.bound("min", min));
        let max = rule.max.as_ref().and_then(|max| self.bound("max", max));
        if let (Some(least), Some(most), Some(written)) = (&min, &max, &rule.max)
            && least.value > most.value
        {
            self.faults.push(written.error("E044", format!("`{}` can have no value: min is {}, max is {}", self.column, least.shown, most.shown)));
        }
        self.tests.extend(min.map(|min| ("min", Test::Min(min))));
        self.tests.extend(max.map(|max| ("max", Test::Max(max))));
    }

    fn bound(&mut self, key: &'static str, literal: &Spanned<Literal>) -> Option<Bound> {
        match bound(self.ty, key, literal) {
            Ok(bound) => Some(bound),
            Err((why, help)) => {
                self.faults.push(literal.error("E044", format!("`{key}` of `{}`: {why}", self.column)).help(help));
                None
            }
        }
    }

    /// Only text has it.
    fn only_text<T>(&mut self, key: &'static str, given: &Spanned<T>) -> bool {
        if self.ty != ColumnType::Text {
            let fault = given.error("E044", format!("`{key}` is for text, and column `{}` is {}", self.column, self.ty));
            self.faults.push(fault.help(match (key, self.ty) {
                ("regex", _) | (_, ColumnType::Boolean) => "`one_of` lists the values that are allowed",
                _ => "`min` and `max` bound its values",
            }));
        }
        self.ty == ColumnType::Text
    }

    fn regex(&mut self, rule: &ColumnRule) {
        /// What a pattern may take compiled, in bytes: as in expressions.
        const REGEX_LIMIT: usize = 1 << 20;

        let Some(pattern) = &rule.regex else { return };
        // A faulty pattern is told of whatever the column's type.
        let regex = RegexBuilder::new(pattern)
            .size_limit(REGEX_LIMIT)
            .dfa_size_limit(REGEX_LIMIT)
            .build()
            .map_err(|error| pattern.error("E044", format!("not a regular expression: {}", reason(&error))));
        let text = self.only_text("regex", pattern);
        match regex {
            Ok(regex) if text => self.tests.push(("regex", Test::Matches(regex))),
            Ok(_) => {}
            Err(fault) => self.faults.push(fault),
        }
    }

    fn one_of(&mut self, rule: &ColumnRule) {
        let Some(list) = &rule.one_of else { return };
        match Members::plan(self.column, self.ty, list) {
            Ok(members) => {
                let shown = list.iter().take(8).map(|literal| literal.to_string()).collect::<Vec<_>>().join(", ");
                let more = if list.len() > 8 { format!(" and {} more", list.len() - 8) } else { String::new() };
                self.tests.push(("one_of", Test::OneOf(members, shown + &more)));
            }
            Err(more) => self.faults.extend(more),
        }
    }

    fn lengths(&mut self, rule: &ColumnRule) {
        if let Some(least) = &rule.min_length
            && self.only_text("min_length", least)
        {
            self.tests.push(("min_length", Test::MinLength(**least)));
        }
        if let Some(most) = &rule.max_length
            && self.only_text("max_length", most)
        {
            self.tests.push(("max_length", Test::MaxLength(**most)));
        }
        if let (Some(least), Some(most)) = (&rule.min_length, &rule.max_length)
            && **least > **most
        {
            let message = format!("`{}` can have no value: min_length is {}, max_length is {}", self.column, **least, **most);
            self.faults.push(most.error("E044", message));
        }
    }
}

/// A bound as the column's type; else what is wrong with it and what to do.
fn bound(ty: ColumnType, key: &str, literal: &Literal) -> Result<Bound, (String, &'static str)> {
    const WHOLE: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
    let shown = literal.to_string();
    let fit = || {
        (
            format!("{shown} cannot be compared with {ty}"),
            if ty == ColumnType::Timestamp { "write an instant as \"2026-05-19T15:00:00Z\"" } else { "write a number" },
        )
    };
    match (ty, literal) {
        (ColumnType::Text, _) => {
            Err(("text has no least or greatest value".to_owned(), "`min_length`, `max_length`, `regex` and `one_of` are for text"))
        }
        (ColumnType::Boolean, _) => Err(("a boolean has no least or greatest value".to_owned(), "`one_of = [true]` allows one of the two")),
        (ColumnType::Integer | ColumnType::Float, Literal::Float(x)) if !x.is_finite() => {
            Err((format!("{shown} is no bound"), "write a finite number"))
        }
        (ColumnType::Integer, Literal::Integer(n)) => Ok(Bound { value: Value::Long(*n), shown }),
        (ColumnType::Integer, Literal::Float(x)) if !WHOLE.contains(x) => Err((format!("{shown} is beyond every integer"), "leave it out")),
        (ColumnType::Integer, Literal::Float(x)) => {
            let whole = if key == "min" { x.ceil() } else { x.floor() };
            Ok(Bound { value: Value::Long(whole as i64), shown })
        }
        (ColumnType::Float, Literal::Integer(n)) => Ok(Bound { value: Value::Float(*n as f64), shown }),
        (ColumnType::Float, Literal::Float(x)) => Ok(Bound { value: Value::Float(*x), shown }),
        (ColumnType::Timestamp, _) => {
            let micros = literal.timestamp().ok_or_else(fit)?;
            Ok(Bound { value: Value::Long(micros), shown: timestamp(micros) })
        }
        (ColumnType::Integer | ColumnType::Float, Literal::Text(_) | Literal::Boolean(_)) => Err(fit()),
    }
}

/// The last line of what `regex` says: the others draw the pattern.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl Constraint {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn broken(&self, batch: &RecordBatch) -> Result<Vec<Broken>, StageError> {
        let column = column(batch, self.place)?;
        Ok(match &self.test {
            Test::Required if column.null_count() == 0 => Vec::new(),
            Test::Required => (0..column.len()).filter(|row| column.is_null(*row)).map(Broken::row).collect(),
            Test::Min(Bound { value: Value::Long(least), .. }) => longs(column, |x| x >= *least),
            Test::Max(Bound { value: Value::Long(most), .. }) => longs(column, |x| x <= *most),
            Test::Min(Bound { value: Value::Float(least), .. }) => floats(column, |x| x >= *least),
            Test::Max(Bound { value: Value::Float(most), .. }) => floats(column, |x| x <= *most),
            Test::Matches(regex) => texts(column, |text| regex.is_match(text)),
            Test::OneOf(members, _) => unless(column, |row| members.have(column, row)),
            Test::MinLength(least) => texts(column, |text| text.chars().count() as u64 >= *least),
            Test::MaxLength(most) => texts(column, |text| text.chars().count() as u64 <= *most),
        })
    }

    pub(super) fn message(&self, batch: &RecordBatch, row: usize, out: &mut String) -> Result<(), StageError> {
        let column = column(batch, self.place)?;
        out.push_str(&self.column);
        if matches!(self.test, Test::Required) {
            out.push_str(" is null");
            return Ok(());
        }
        out.push_str(" = ");
        show(column, row, out);
        match &self.test {
            Test::Required => {}
            Test::Min(bound) | Test::Max(bound) if is_nan(column, row) => add(out, format_args!(" cannot be compared with {}", bound.shown)),
            Test::Min(bound) => add(out, format_args!(" is {} {}", if self.is_instant(column) { "before" } else { "below" }, bound.shown)),
            Test::Max(bound) => add(out, format_args!(" is {} {}", if self.is_instant(column) { "after" } else { "above" }, bound.shown)),
            Test::Matches(regex) => add(out, format_args!(" does not match {}", shortened(regex.as_str()))),
            Test::OneOf(_, shown) => add(out, format_args!(" is not one of {shown}")),
            Test::MinLength(least) => add(out, format_args!(" is shorter than {least} characters")),
            Test::MaxLength(most) => add(out, format_args!(" is longer than {most} characters")),
        }
        Ok(())
    }

    fn is_instant(&self, column: &ArrayRef) -> bool {
        ColumnType::of(column.data_type()) == Some(ColumnType::Timestamp)
    }
}

fn is_nan(column: &ArrayRef, row: usize) -> bool {
    column.as_primitive_opt::<Float64Type>().is_some_and(|column| column.value(row).is_nan())
}

fn longs(column: &ArrayRef, good: impl Fn(i64) -> bool) -> Vec<Broken> {
    let values = match column.as_primitive_opt::<Int64Type>() {
        Some(column) => column.values(),
        None => column.as_primitive::<TimestampMicrosecondType>().values(),
    };
    numbers(column, values, good)
}

fn floats(column: &ArrayRef, good: impl Fn(f64) -> bool) -> Vec<Broken> {
    numbers(column, column.as_primitive::<Float64Type>().values(), good)
}

/// One pass without branches answers for a batch that is all good; what lies under a null can only send it the long way.
fn numbers<T: Copy>(column: &ArrayRef, values: &[T], good: impl Fn(T) -> bool) -> Vec<Broken> {
    if values.iter().fold(true, |all, value| all & good(*value)) {
        return Vec::new();
    }
    let bad = values.iter().enumerate().filter(|(row, value)| !good(**value) && column.is_valid(*row));
    bad.map(|(row, _)| Broken::row(row)).collect()
}

fn texts(column: &ArrayRef, good: impl Fn(&str) -> bool) -> Vec<Broken> {
    let texts = column.as_string::<i32>();
    unless(column, |row| good(texts.value(row)))
}

/// The rows with a value that is not good.
fn unless(column: &ArrayRef, good: impl Fn(usize) -> bool) -> Vec<Broken> {
    (0..column.len()).filter(|row| column.is_valid(*row) && !good(*row)).map(Broken::row).collect()
}
