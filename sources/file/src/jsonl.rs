//! Objects of JSON Lines, straight into columns.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::cell;
use crate::columns::Cells;
use crate::config::{Type, Wanted};
use crate::reader::{Batch, Fault, Step};
use pipeline_files::time::TimeFormat;

#[cfg(test)]
mod agree;
mod plain;
mod shape;

use shape::Shape;

/// Where a key leads.
enum Node {
    Column(usize),
    Object(Keys),
}

#[derive(Default)]
struct Keys(Vec<(String, Node)>);

impl Keys {
    fn add(&mut self, path: &[String], column: usize) {
        let Some((key, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            self.0.push((key.clone(), Node::Column(column)));
            return;
        }
        let place = self.0.iter().position(|(name, _)| name == key).unwrap_or(self.0.len());
        if place == self.0.len() {
            self.0.push((key.clone(), Node::Object(Self::default())));
        }
        if let Some((_, Node::Object(keys))) = self.0.get_mut(place) {
            keys.add(rest, column);
        }
    }

    /// Where a key leads; `guess` is where it stands when the keys come in their order.
    fn find(&self, key: &str, guess: usize) -> Option<usize> {
        if self.0.get(guess).is_some_and(|(name, _)| name == key) {
            return Some(guess);
        }
        self.0.iter().position(|(name, _)| name == key)
    }
}

/// Reads objects into columns.
pub(crate) struct JsonRows {
    keys: Keys,
    /// What the lines look like.
    shape: Shape,
}

impl JsonRows {
    /// `block`: as many bytes as are looked at in one go; with 0 it is done line by line.
    pub(crate) fn new(wanted: &[Wanted], block: usize) -> Self {
        let mut keys = Keys::default();
        wanted.iter().enumerate().for_each(|(column, wanted)| keys.add(&wanted.from, column));
        Self { keys, shape: Shape::new(block) }
    }

    /// Reads the line at the front.
    pub(crate) fn step(&mut self, data: &[u8], whole: bool, wanted: &[Wanted], batch: &mut Batch) -> Step {
        let (line, len, lines) = match memchr::memchr(b'\n', data) {
            Some(end) => (&data[..end], end + 1, 1),
            None if whole && !data.is_empty() => (data, data.len(), 0),
            None => return Step::More,
        };
        if line.iter().all(u8::is_ascii_whitespace) {
            return Step::Took { len, lines };
        }
        let mut row = Row { columns: &mut batch.columns, wanted, rows: batch.rows, pushed: 0, fault: None };
        let mut json = serde_json::Deserializer::from_slice(line);
        let read = Object { keys: &self.keys, row: &mut row }.deserialize(&mut json).and_then(|()| json.end());
        let fault = match read {
            Err(error) => Some(Fault::new("file:json", message(&error))),
            Ok(()) => row.finish().err(),
        };
        match fault {
            Some(fault) => Step::Reject { len, lines, fault },
            None => {
                self.shape.saw(line, &self.keys, wanted);
                Step::Row { len, lines }
            }
        }
    }
}

/// What is wrong with a line, without the number that the line has in itself.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line 1 column ") {
        // What is wrong as a whole has no column.
        Some((what, "0")) => what.to_owned(),
        Some((what, column)) => format!("{what} at column {column}"),
        None => text,
    }
}

/// A row that is being read.
struct Row<'a> {
    columns: &'a mut [Cells],
    wanted: &'a [Wanted],
    rows: usize,
    pushed: usize,
    /// The first thing that is wrong with it.
    fault: Option<Fault>,
}

impl Row<'_> {
    fn fail(&mut self, fault: impl FnOnce() -> Fault) {
        self.fault.get_or_insert_with(fault);
    }

    fn null(&mut self, column: usize) {
        let Some(wanted) = self.wanted.get(column) else { return };
        if wanted.required {
            self.fail(|| Fault::new("file:null", format!("{} is null, and it is required", wanted.name)));
        } else if let Some(cells) = self.columns.get_mut(column) {
            cells.null();
            self.pushed += 1;
        }
    }

    /// Nulls for what was not there.
    fn finish(mut self) -> Result<(), Fault> {
        if self.fault.is_none() && self.pushed < self.wanted.len() {
            for column in 0..self.wanted.len() {
                if self.columns.get(column).is_some_and(|cells| cells.len() == self.rows) {
                    self.null(column);
                }
            }
        }
        self.fault.map_or(Ok(()), Err)
    }
}

/// An object whose keys are looked up.
struct Object<'a, 'r> {
    keys: &'a Keys,
    row: &'a mut Row<'r>,
}

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut guess = 0;
        while let Some(place) = map.next_key_seed(Key { keys: self.keys, guess })? {
            match place.and_then(|place| self.keys.0.get(place)) {
                Some((_, Node::Column(column))) => map.next_value_seed(Value { column: *column, row: self.row })?,
                Some((name, Node::Object(keys))) => map.next_value_seed(Inner { name, keys, row: self.row })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
            guess = place.map_or(guess, |place| place + 1);
        }
        Ok(())
    }
}

/// A key, as the number of where it leads.
struct Key<'a> {
    keys: &'a Keys,
    guess: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.keys.find(key, self.guess))
    }
}

/// An object in an object; null is as if it were not there.
struct Inner<'a, 'r> {
    name: &'a str,
    keys: &'a Keys,
    row: &'a mut Row<'r>,
}

impl<'de> DeserializeSeed<'de> for Inner<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Inner<'_, '_> {
    fn fail(self) {
        let name = self.name;
        self.row.fail(|| Fault::new("file:value", format!("{name} is not an object")));
    }
}

macro_rules! no_objects {
    ($($visit:ident($ty:ty))*) => {$(
        fn $visit<E: de::Error>(self, _: $ty) -> Result<(), E> {
            self.fail();
            Ok(())
        }
    )*};
}

impl<'de> Visitor<'de> for Inner<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Object { keys: self.keys, row: self.row }.visit_map(map)
    }
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
    no_objects! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.fail();
        Ok(())
    }
}

/// A value that goes into a column. One that does not fit is a fault of the row and not of the JSON, so that the rest is read.
struct Value<'a, 'r> {
    column: usize,
    row: &'a mut Row<'r>,
}

impl Value<'_, '_> {
    /// Puts a value into its column. `put` says whether it fits; `shown` is the value for people.
    #[inline]
    fn put(self, put: impl FnOnce(&mut Cells, &Type) -> bool, shown: impl FnOnce() -> String) {
        let (Some(cells), Some(wanted)) = (self.row.columns.get_mut(self.column), self.row.wanted.get(self.column)) else { return };
        if cells.len() > self.row.rows {
            self.row.fail(|| Fault::new("file:json", format!("the key of {} comes twice", wanted.name)));
        } else if put(cells, &wanted.ty) {
            self.row.pushed += 1;
        } else {
            self.row.fail(|| Fault::value(wanted, &shown()));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();
    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A number of the unit of a time format as microseconds.
fn instant(time: &TimeFormat, number: f64) -> Option<i64> {
    let unit = match time {
        TimeFormat::Unix => 1e6,
        TimeFormat::UnixMs => 1e3,
        TimeFormat::UnixUs => 1.0,
        TimeFormat::Rfc3339 | TimeFormat::Custom { .. } => return None,
    };
    let micros = (number * unit).round();
    // A float tells microseconds apart up to the year 2255; beyond it says something else than what was written.
    #[expect(clippy::cast_possible_truncation, reason = "it is within the range")]
    (micros.abs() < 9_007_199_254_740_992.0).then_some(micros as i64)
}

/// A whole number of the unit of a time format as microseconds.
fn whole_instant(time: &TimeFormat, number: i64) -> Option<i64> {
    match time {
        TimeFormat::Unix => number.checked_mul(1_000_000),
        TimeFormat::UnixMs => number.checked_mul(1000),
        TimeFormat::UnixUs => Some(number),
        TimeFormat::Rfc3339 | TimeFormat::Custom { .. } => None,
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        let put = |cells: &mut Cells, ty: &Type| {
            cells.boolean(value);
            *ty == Type::Boolean
        };
        self.put(put, || value.to_string());
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        let put = |cells: &mut Cells, ty: &Type| match ty {
            Type::Integer => {
                cells.integer(value);
                true
            }
            #[expect(clippy::cast_precision_loss, reason = "the nearest float is what the number means in a float column")]
            Type::Float => {
                cells.float(value as f64);
                true
            }
            Type::Timestamp(time) => whole_instant(time, value).map(|micros| cells.integer(micros)).is_some(),
            Type::Boolean | Type::Text => false,
        };
        self.put(put, || value.to_string());
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        if let Ok(value) = i64::try_from(value) {
            return self.visit_i64(value);
        }
        let put = |cells: &mut Cells, ty: &Type| {
            #[expect(clippy::cast_precision_loss, reason = "the nearest float is what the number means in a float column")]
            cells.float(value as f64);
            *ty == Type::Float
        };
        self.put(put, || value.to_string());
        Ok(())
    }

    #[inline]
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        let put = |cells: &mut Cells, ty: &Type| match ty {
            Type::Float => {
                cells.float(value);
                true
            }
            Type::Timestamp(time) => instant(time, value).map(|micros| cells.integer(micros)).is_some(),
            _ => false,
        };
        self.put(put, || value.to_string());
        Ok(())
    }

    #[inline]
    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        let put = |cells: &mut Cells, ty: &Type| match ty {
            Type::Text => {
                cells.text(value.as_bytes());
                true
            }
            Type::Timestamp(time) => time.read(value.as_bytes()).map(|micros| cells.integer(micros)).is_some(),
            _ => false,
        };
        self.put(put, || format!("\"{}\"", cell::shown(value.as_bytes(), 100)));
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        let is_there = self.row.columns.get(self.column).is_some_and(|cells| cells.len() > self.row.rows);
        if is_there {
            self.put(|_, _| false, String::new);
        } else {
            self.row.null(self.column);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.put(|_, _| false, || "a list".to_owned());
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.put(|_, _| false, || "an object".to_owned());
        Ok(())
    }
}
