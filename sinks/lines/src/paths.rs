//! From the columns of a row to the path of its file, and back.

use std::fmt::Write as _;

use chrono::NaiveDate;
use chrono::format::{Fixed, Item, Numeric, Pad, Parsed};
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::TimestampMicrosecondType;
use pipeline_contract::arrow::{Array, RecordBatch, SchemaRef};
use pipeline_contract::{Category, ColumnType, PlanError, StageError, Suggestion, instant, listed, nearest};
use pipeline_files::Root;
use pipeline_files::name::{self, Decoded, Escape, encode};
use regex::Regex;

use crate::cell::Cell;
use crate::config::Checked;
use crate::template::Piece;
use pipeline_files::time::{DAY, civil};

/// How many bytes a name has on every file system of our time.
const NAME: usize = 255;

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    /// A text, an integer or a boolean.
    Value {
        column: usize,
        ty: ColumnType,
        /// The longest it may be.
        limit: usize,
    },
    Time {
        column: usize,
        items: Vec<Item<'static>>,
        bucket: Bucket,
    },
}

/// Instants of one bucket have the same text.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bucket {
    Year,
    Month,
    /// So many microseconds.
    Span(i64),
}

impl Bucket {
    fn of(self, micros: i64) -> i64 {
        let civil = || civil(micros.div_euclid(DAY));
        match self {
            Self::Year => civil().0,
            Self::Month => civil().0 * 12 + civil().1,
            Self::Span(span) => micros.div_euclid(span),
        }
    }
}

/// A path template that knows its columns.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    parts: Vec<Part>,
    /// `None` where it is one file: the automaton of a path takes 15 KB for as long as the process lives.
    back: Option<Regex>,
    pub(crate) root: Root,
}

impl Paths {
    /// Binds a template to columns.
    pub(crate) fn bind(checked: &Checked, schema: &SchemaRef) -> Result<Self, Vec<PlanError>> {
        let mut parts = Vec::new();
        let mut faults = Vec::new();
        for piece in &checked.pieces {
            match piece {
                Piece::Literal(text) => parts.push(Part::Literal(collapse(text))),
                Piece::Column { name, format, at, name_at } => match part(checked, schema, name, format.as_deref()) {
                    Ok(part) => {
                        if let (Some(Part::Value { .. }), Part::Value { .. }) = (parts.last(), &part) {
                            let error = PlanError::new("E030", "two columns stand side by side, so that nobody can tell where one ends");
                            faults.push(error.at(checked.in_path(at.clone())).help("put a sign between them, as `{a}_{b}`"));
                        }
                        parts.push(part);
                    }
                    Err(fault) => {
                        let place = if fault.code == "E031" { name_at } else { at };
                        let place = checked.in_path(place.clone());
                        let edit = fault.suggestion.clone().filter(|_| place.len() == name.len());
                        let mut fault = fault.at(place.clone());
                        fault.suggestion = edit.map(|edit| Suggestion { span: place, ..edit });
                        faults.push(fault);
                    }
                },
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        limit_names(&mut parts);
        let back = match one(&parts) {
            Some(_) => None,
            None => Some(
                Regex::new(&pattern(&parts))
                    .map_err(|error| vec![checked.options.path.error("E030", format!("the path is too complex: {error}"))])?,
            ),
        };
        let root = root(&parts);
        Ok(Self { parts, back, root })
    }

    /// The columns whose values the path keeps, in the order of [`Paths::values`].
    pub(crate) fn kept(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().filter_map(|part| if let Part::Value { column, .. } = part { Some(*column) } else { None })
    }

    /// All columns that the path depends on.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Value { column, .. } | Part::Time { column, .. } => Some(*column),
            Part::Literal(_) => None,
        })
    }

    /// Is it one file, whatever the rows?
    pub(crate) fn is_one(&self) -> bool {
        self.columns().next().is_none()
    }

    /// Rows with the same signature have the same path.
    pub(crate) fn signature(&self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(_) => {}
                Part::Value { column, ty, .. } => Cell::of(batch.column(*column), *ty, row).sign(out),
                Part::Time { column, bucket, .. } => {
                    let column = batch.column(*column).as_primitive::<TimestampMicrosecondType>();
                    out.push(u8::from(column.is_valid(row)));
                    if column.is_valid(row) {
                        out.extend_from_slice(&bucket.of(column.value(row)).to_le_bytes());
                    }
                }
            }
        }
    }

    /// The path of a row's file. It is read back at once: no two rows with other values share a file by accident.
    pub(crate) fn render(&self, batch: &RecordBatch, row: usize) -> Result<String, StageError> {
        let mut path = String::new();
        for escape in [Escape::Unsafe, Escape::Signs, Escape::All] {
            path = self.write(batch, row, escape)?;
            if self.comes_back(&path, batch, row) {
                return Ok(path);
            }
        }
        let message = format!("the values of a row make the path {path}, from which they cannot be read back");
        Err(StageError::split(Category::Storage, message).help("put another sign between the columns of `path`"))
    }

    fn write(&self, batch: &RecordBatch, row: usize, escape: Escape) -> Result<String, StageError> {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => path.push_str(text),
                Part::Value { column, ty, limit } => {
                    let text = match Cell::of(batch.column(*column), *ty, row) {
                        Cell::Null => name::NULL.to_owned(),
                        Cell::Text(text) => encode(&text, *limit, escape),
                        Cell::Int(n) => encode(&n.to_string(), *limit, escape),
                        Cell::Bool(b) => b.to_string(),
                        Cell::Float(_) | Cell::Time(_) => return Err(StageError::developer("a column of this type cannot be in a path")),
                    };
                    path.push_str(&text);
                }
                Part::Time { column, items, .. } => {
                    let column = batch.column(*column).as_primitive::<TimestampMicrosecondType>();
                    let at = column.is_valid(row).then(|| instant(column.value(row)).ok_or(column.value(row))).transpose();
                    match at {
                        Ok(None) => path.push_str(name::NULL),
                        Ok(Some(at)) => write!(path, "{}", at.format_with_items(items.iter()))
                            .map_err(|_| StageError::developer("a time format cannot be written"))?,
                        Err(micros) => {
                            return Err(StageError::split(
                                Category::Storage,
                                format!("an instant {micros} microseconds from 1970 cannot be in a path"),
                            ));
                        }
                    }
                }
            }
        }
        Ok(path)
    }

    fn comes_back(&self, path: &str, batch: &RecordBatch, row: usize) -> bool {
        let Some(values) = self.values(path) else { return false };
        let mut values = values.iter();
        self.parts.iter().all(|part| {
            let Part::Value { column, ty, .. } = part else { return true };
            match (values.next(), Cell::of(batch.column(*column), *ty, row)) {
                (Some(Decoded::Null), cell) => matches!(cell, Cell::Null),
                (Some(back), Cell::Text(value)) => back.is_of(&value),
                (Some(back), Cell::Int(n)) => back.is_of(&n.to_string()),
                (Some(back), Cell::Bool(b)) => back.is_of(&b.to_string()),
                _ => false,
            }
        })
    }

    /// The values in a path, in the order of [`Paths::kept`]; `None` when it is not one of ours.
    pub(crate) fn values(&self, path: &str) -> Option<Vec<Decoded>> {
        let Some(back) = &self.back else { return (one(&self.parts)? == path).then(Vec::new) };
        let found = back.captures(path)?;
        let mut groups = found.iter().skip(1);
        let mut values = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(_) => {}
                Part::Value { ty, .. } => {
                    let value = name::decode(groups.next()??.as_str())?;
                    let fits = match (&value, ty) {
                        (Decoded::Text(text), ColumnType::Integer) => text.parse::<i64>().is_ok_and(|n| n.to_string() == *text),
                        (Decoded::Text(text), ColumnType::Boolean) => text.parse::<bool>().is_ok(),
                        _ => true,
                    };
                    values.push(fits.then_some(value)?);
                }
                Part::Time { .. } => {
                    groups.next();
                }
            }
        }
        Some(values)
    }

    /// The dates that a file can hold by its path: the first, and the first after. For years, months and days; else `None`.
    pub(crate) fn dates(&self, path: &str, time_column: usize) -> Option<(NaiveDate, NaiveDate)> {
        let found = self.back.as_ref()?.captures(path)?;
        let mut groups = found.iter().skip(1);
        for part in &self.parts {
            match part {
                Part::Literal(_) => {}
                Part::Time { column, items, .. } if *column == time_column => return dates(items, groups.next()??.as_str()),
                Part::Value { .. } | Part::Time { .. } => {
                    groups.next();
                }
            }
        }
        None
    }
}

/// The path, where it is one, whatever the rows.
fn one(parts: &[Part]) -> Option<String> {
    parts.iter().map(|part| if let Part::Literal(text) = part { Some(text.as_str()) } else { None }).collect()
}

fn dates(items: &[Item<'static>], text: &str) -> Option<(NaiveDate, NaiveDate)> {
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, text, items.iter()).ok()?;
    let year = parsed.year()?;
    let first = match (parsed.month(), parsed.day()) {
        (Some(month), Some(day)) => {
            let first = NaiveDate::from_ymd_opt(year, month, day)?;
            return Some((first, first.succ_opt()?));
        }
        (Some(month), None) => NaiveDate::from_ymd_opt(year, month, 1)?,
        _ => return Some((NaiveDate::from_ymd_opt(year, 1, 1)?, NaiveDate::from_ymd_opt(year.checked_add(1)?, 1, 1)?)),
    };
    Some((first, first.checked_add_months(chrono::Months::new(1))?))
}

fn part(checked: &Checked, schema: &SchemaRef, name: &str, format: Option<&[Item<'static>]>) -> Result<Part, PlanError> {
    let Ok(column) = schema.index_of(name) else {
        let names = || schema.fields().iter().map(|field| field.name().as_str());
        let error = PlanError::new("E031", format!("there is no column `{name}`"));
        return Err(match nearest(name, names()) {
            Some(near) => error.at(0..0).meant(format_args!("`{near}`"), near),
            None => error.help(format!("the columns are {}", listed(names()))),
        });
    };
    let data_type = schema.field(column).data_type();
    match (ColumnType::of(data_type), format) {
        (Some(ColumnType::Timestamp), Some(items)) => Ok(Part::Time { column, items: items.to_vec(), bucket: bucket(items) }),
        (Some(ColumnType::Timestamp), None) => {
            Err(PlanError::new("E030", format!("`{name}` is a timestamp and needs a format, or every row gets its own file"))
                .help(format!("write `{{{name}:%Y}}` for a file a year, `{{{name}:%Y-%m}}` for a month, `{{{name}:%Y-%m-%d}}` for a day")))
        }
        (Some(ty @ (ColumnType::Text | ColumnType::Integer | ColumnType::Boolean)), None) => Ok(Part::Value { column, ty, limit: NAME }),
        (Some(ColumnType::Float), _) => {
            Err(PlanError::new("E030", format!("`{name}` is a float, which names no file")).help("use a text, integer, boolean or timestamp column"))
        }
        (Some(ty), Some(_)) => {
            Err(PlanError::new("E030", format!("`{name}` is {ty}; only a timestamp has a format")).help(format!("write `{{{name}}}`")))
        }
        (None, _) => Err(checked.options.path.error("E030", format!("`{name}` has the type {data_type}, which pipelines do not speak"))),
    }
}

/// `a//b` is `a/b`: one file has one path.
fn collapse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !(c == '/' && out.ends_with('/')) {
            out.push(c);
        }
    }
    out
}

/// The finest part of a time that a format shows.
fn bucket(items: &[Item<'static>]) -> Bucket {
    use Numeric::{Day, Hour, Hour12, Minute, Month, Ordinal, Second, Timestamp, Year, YearDiv100, YearMod100};
    const SECOND: i64 = 1_000_000;
    let span = |item: &Item<'_>| match item {
        Item::Literal(_) | Item::OwnedLiteral(_) | Item::Space(_) | Item::OwnedSpace(_) => None,
        Item::Numeric(Year | YearDiv100 | YearMod100, _) => Some(366 * DAY),
        Item::Numeric(Month, _) | Item::Fixed(Fixed::ShortMonthName | Fixed::LongMonthName) => Some(31 * DAY),
        Item::Numeric(Hour | Hour12, _) | Item::Fixed(Fixed::LowerAmPm | Fixed::UpperAmPm) => Some(3600 * SECOND),
        Item::Numeric(Minute, _) => Some(60 * SECOND),
        Item::Numeric(Second | Timestamp, _) => Some(SECOND),
        Item::Numeric(Day | Ordinal, _) | Item::Fixed(Fixed::ShortWeekdayName | Fixed::LongWeekdayName) => Some(DAY),
        // Weeks and years of weeks change at midnight too.
        Item::Numeric(kind, _) if !matches!(kind, Numeric::Nanosecond) => Some(DAY),
        _ => Some(1),
    };
    match items.iter().filter_map(span).min() {
        Some(span) if span == 366 * DAY => Bucket::Year,
        Some(span) if span == 31 * DAY => Bucket::Month,
        span => Bucket::Span(span.unwrap_or(1)),
    }
}

/// Gives each value its share of what a name can hold.
fn limit_names(parts: &mut [Part]) {
    let mut start = 0;
    while start < parts.len() {
        // One component: up to a literal with a slash.
        let (mut end, mut fixed, mut values) = (start, 0, 0);
        while end < parts.len() {
            match &parts[end] {
                Part::Literal(text) if end > start && text.contains('/') => break,
                Part::Literal(text) => fixed += text.rsplit('/').next().unwrap_or_default().len(),
                Part::Value { ty: ColumnType::Text, .. } => values += 1,
                Part::Value { .. } | Part::Time { .. } => fixed += 24,
            }
            end += 1;
        }
        if let Some(Part::Literal(text)) = parts.get(end) {
            fixed += text.split('/').next().unwrap_or_default().len();
        }
        for part in &mut parts[start..end] {
            if let Part::Value { limit, .. } = part {
                *limit = NAME.saturating_sub(fixed) / values.max(1);
            }
        }
        start = end;
    }
}

/// The folder before the first column, and how deep the rest goes.
fn root(parts: &[Part]) -> Root {
    let first = match parts.first() {
        Some(Part::Literal(text)) => text.as_str(),
        _ => "",
    };
    let dir = match first.rfind('/') {
        Some(0) => "/",
        Some(at) => &first[..at],
        None => "",
    };
    let slashes = |text: &str| text.matches('/').count();
    let all: usize = parts
        .iter()
        .map(|part| match part {
            Part::Literal(text) => slashes(text),
            Part::Value { .. } => 0,
            Part::Time { items, .. } => items
                .iter()
                .map(|item| match item {
                    Item::Literal(text) => slashes(text),
                    Item::OwnedLiteral(text) => slashes(text),
                    _ => 0,
                })
                .sum(),
        })
        .sum();
    Root { dir: dir.to_owned(), depth: all - slashes(first) }
}

/// A pattern that takes paths apart: a group for each column.
fn pattern(parts: &[Part]) -> String {
    let mut pattern = "^".to_owned();
    for part in parts {
        match part {
            Part::Literal(text) => pattern.push_str(&regex::escape(text)),
            Part::Value { ty: ColumnType::Integer, .. } => pattern.push_str("((?:-|%2D)?(?:[0-9]|%3[0-9])+|%N)"),
            Part::Value { ty: ColumnType::Boolean, .. } => pattern.push_str("(true|false|%N)"),
            // What `encode` makes, and nothing else: so a `%` between two values is not mistaken for one of theirs.
            Part::Value { .. } => pattern.push_str("((?:[^/%]|%[0-9A-F]{2})+(?:%~[0-9a-f]{16})?|%~[0-9a-f]{16}|%N|%)"),
            Part::Time { items, .. } => {
                pattern.push('(');
                items.iter().for_each(|item| pattern.push_str(&item_pattern(item)));
                pattern.push_str("|%N)");
            }
        }
    }
    pattern.push('$');
    pattern
}

fn item_pattern(item: &Item<'_>) -> String {
    match item {
        Item::Literal(text) | Item::Space(text) => regex::escape(text),
        Item::OwnedLiteral(text) | Item::OwnedSpace(text) => regex::escape(text),
        Item::Numeric(Numeric::Year | Numeric::IsoYear, Pad::Zero) => "(?:[0-9]{4}|[+-][0-9]{4,})".to_owned(),
        Item::Numeric(Numeric::Ordinal, Pad::Zero) => "[0-9]{3}".to_owned(),
        Item::Numeric(
            Numeric::Month
            | Numeric::Day
            | Numeric::Hour
            | Numeric::Hour12
            | Numeric::Minute
            | Numeric::Second
            | Numeric::IsoWeek
            | Numeric::YearMod100,
            Pad::Zero,
        ) => "[0-9]{2}".to_owned(),
        Item::Numeric(..) => "[ +-]?[0-9]+".to_owned(),
        _ => "[^/]+?".to_owned(),
    }
}
