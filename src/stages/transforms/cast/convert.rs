//! How the cells of a column become cells of another type.

use std::ops::Range;
use std::sync::Arc;

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, NaiveTime, Utc};
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use pipeline_contract::arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use pipeline_contract::arrow::{Array, ArrayRef};
use pipeline_contract::{ColumnType, PlanError, instant, rfc3339};

use super::target::{Target, Unit};
use crate::stages::values::{cell, read_boolean, read_float, read_timestamp};

/// A cast that is known to make sense.
#[derive(Debug)]
pub(super) struct Conversion {
    from: ColumnType,
    pub(super) to: ColumnType,
    format: Option<Format>,
    unit: Unit,
}

#[derive(Debug)]
struct Format {
    text: String,
    items: Vec<Item<'static>>,
}

impl Conversion {
    pub(super) fn plan(column: &str, from: ColumnType, target: &Target, span: Range<usize>) -> Result<Self, PlanError> {
        use ColumnType as T;
        let to = target.to;
        let never = matches!((from, to), (T::Boolean, T::Float | T::Timestamp) | (T::Float | T::Timestamp, T::Boolean));
        if never {
            let fault = PlanError::new("E043", format!("column `{column}` is {from}, which cannot be cast to {to}")).at(span);
            return Err(fault.help("`derive` computes a column with an expression of your own"));
        }
        let mut format = None;
        if let Some(text) = &target.format {
            if !matches!((from, to), (T::Text, T::Timestamp) | (T::Timestamp, T::Text)) {
                let fault = text.error("E044", format!("`format` has no meaning for {from} to {to}"));
                return Err(fault.help("it says how a timestamp is written in text"));
            }
            format = Some(Format::new(text).map_err(|why| text.error("E044", why))?);
        }
        if let Some(unit) = &target.unit
            && !matches!((from, to), (T::Integer | T::Float, T::Timestamp) | (T::Timestamp, T::Integer | T::Float))
        {
            let fault = unit.error("E044", format!("`unit` has no meaning for {from} to {to}"));
            return Err(fault.help("it says what a number of a timestamp counts"));
        }
        Ok(Self { from, to, format, unit: target.unit.as_deref().copied().unwrap_or(Unit::S) })
    }

    /// The column in its new type, and the rows that have none: they are null in it.
    pub(super) fn apply(&self, column: &ArrayRef) -> (ArrayRef, Vec<usize>) {
        use ColumnType as T;
        let mut bad = Vec::new();
        let unit = self.unit.micros();
        let made: ArrayRef = match (self.from, self.to) {
            (from, to) if from == to => column.clone(),
            (T::Text, T::Integer) => integers(texts(column, &mut bad, |text| text.parse().ok())),
            (T::Text, T::Float) => floats(texts(column, &mut bad, read_float)),
            (T::Text, T::Boolean) => booleans(texts(column, &mut bad, read_boolean)),
            (T::Text, _) => match &self.format {
                Some(format) => instants(texts(column, &mut bad, |text| format.read(text))),
                None => instants(texts(column, &mut bad, read_timestamp)),
            },
            (T::Integer, to) => {
                let values = column.as_primitive::<Int64Type>();
                let at = |row| values.value(row);
                match to {
                    T::Float => floats(cells(column, &mut bad, |row| Some(at(row) as f64))),
                    T::Boolean => booleans(cells(column, &mut bad, |row| match at(row) {
                        0 => Some(false),
                        1 => Some(true),
                        _ => None,
                    })),
                    T::Timestamp => instants(cells(column, &mut bad, |row| at(row).checked_mul(unit).filter(writable))),
                    _ => strings(cells(column, &mut bad, |row| Some(at(row).to_string()))),
                }
            }
            (T::Float, to) => {
                let values = column.as_primitive::<Float64Type>();
                let at = |row| values.value(row);
                match to {
                    T::Integer => integers(cells(column, &mut bad, |row| whole(at(row)))),
                    T::Timestamp => instants(cells(column, &mut bad, |row| whole((at(row) * unit as f64).round()).filter(writable))),
                    _ => {
                        let mut buffer = zmij::Buffer::new();
                        strings(cells(column, &mut bad, |row| Some(buffer.format(at(row)).to_owned())))
                    }
                }
            }
            (T::Boolean, T::Integer) => integers(cells(column, &mut bad, |row| Some(i64::from(column.as_boolean().value(row))))),
            (T::Boolean, _) => strings(cells(column, &mut bad, |row| Some(column.as_boolean().value(row).to_string()))),
            (T::Timestamp, to) => {
                let values = column.as_primitive::<TimestampMicrosecondType>();
                let at = |row| values.value(row);
                match (to, &self.format) {
                    (T::Integer, _) => integers(cells(column, &mut bad, |row| (at(row) % unit == 0).then(|| at(row) / unit))),
                    (T::Float, _) => floats(cells(column, &mut bad, |row| Some(at(row) as f64 / unit as f64))),
                    (_, Some(format)) => strings(cells(column, &mut bad, |row| instant(at(row)).map(|at| format.write(at)))),
                    (_, None) => strings(cells(column, &mut bad, |row| instant(at(row)).map(rfc3339))),
                }
            }
        };
        (made, bad)
    }

    /// Why a cell has no value in the new type.
    pub(super) fn refusal(&self, name: &str, column: &ArrayRef, row: usize) -> String {
        use ColumnType as T;
        let how = match (self.from, self.to, &self.format) {
            (_, _, Some(format)) => format!(" with the format {:?}", format.text),
            (T::Float, T::Integer, _) => " without loss".to_owned(),
            (T::Timestamp, T::Integer, _) | (T::Integer | T::Float, T::Timestamp, _) => format!(" with the unit {}", self.unit.name()),
            _ => String::new(),
        };
        format!("{name} = {} cannot be cast to {}{how}", cell(column, row), self.to)
    }
}

impl Format {
    fn new(text: &str) -> Result<Self, String> {
        let items = StrftimeItems::new(text).parse_to_owned().map_err(|_| format!("{text:?} is not a strftime format"))?;
        if text.contains("%Z") {
            // chrono reads any word there and learns nothing from it.
            return Err("`%Z` does not tell the offset; `%z` reads +0100 and `%:z` reads +01:00".to_owned());
        }
        let format = Self { text: text.to_owned(), items };
        // 2001-11-22T13:14:15Z: no part of it can be taken for another.
        match DateTime::from_timestamp(1_006_434_855, 0).map(|at| format.write(at)) {
            Some(sample) if format.read(&sample).is_some() => Ok(format),
            _ => Err(format!("{text:?} does not say year, month and day")),
        }
    }

    /// The microseconds since 1970; UTC where the text has no offset, midnight where it has no time.
    fn read(&self, text: &str) -> Option<i64> {
        let mut parsed = Parsed::new();
        parse(&mut parsed, text, self.items.iter()).ok()?;
        let at = match parsed.offset() {
            Some(_) => parsed.to_datetime().ok()?.to_utc(),
            None => match parsed.to_naive_datetime_with_offset(0) {
                Ok(at) => at.and_utc(),
                Err(_) if has_time(&parsed) => return None,
                Err(_) => parsed.to_naive_date().ok()?.and_time(NaiveTime::MIN).and_utc(),
            },
        };
        Some(at.timestamp_micros())
    }

    fn write(&self, at: DateTime<Utc>) -> String {
        at.format_with_items(self.items.iter()).to_string()
    }
}

fn has_time(parsed: &Parsed) -> bool {
    parsed.hour_mod_12().is_some() || parsed.hour_div_12().is_some() || parsed.minute().is_some() || parsed.second().is_some()
}

/// Only instants that can be written are let in.
fn writable(micros: &i64) -> bool {
    instant(*micros).is_some()
}

/// The integer that a float is, if it is one.
fn whole(x: f64) -> Option<i64> {
    // 2^63 is a float and no integer; every whole float below it is one.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (x.fract() == 0.0 && (-LIMIT..LIMIT).contains(&x)).then_some(x as i64)
}

/// Reads the cells that are not null, and notes the rows that have no value.
fn cells<T>(column: &ArrayRef, bad: &mut Vec<usize>, mut read: impl FnMut(usize) -> Option<T>) -> impl Iterator<Item = Option<T>> {
    (0..column.len()).map(move |row| {
        if column.is_null(row) {
            return None;
        }
        let value = read(row);
        if value.is_none() {
            bad.push(row);
        }
        value
    })
}

fn texts<T>(column: &ArrayRef, bad: &mut Vec<usize>, read: impl Fn(&str) -> Option<T>) -> impl Iterator<Item = Option<T>> {
    let texts = column.as_string::<i32>();
    cells(column, bad, move |row| read(texts.value(row)))
}

fn integers(cells: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(cells.collect::<Int64Array>())
}

fn floats(cells: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(cells.collect::<Float64Array>())
}

fn booleans(cells: impl Iterator<Item = Option<bool>>) -> ArrayRef {
    Arc::new(cells.collect::<BooleanArray>())
}

fn strings(cells: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(cells.collect::<StringArray>())
}

fn instants(cells: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(cells.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}
