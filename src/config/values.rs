//! Values that a pipeline file writes in a form of their own: sizes, limits, bounds.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// A number of bytes: `10485760`, `"10MB"`, `"10MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZE: &str = "a number of bytes, 1000 or more, such as 5000000, \"10MB\" or \"10MiB\"";

impl ByteSize {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes >= 1000).map(Self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl Visitor<'_> for Sizes {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SIZE)
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<ByteSize, E> {
                u64::try_from(n).ok().filter(|n| *n >= 1000).map(ByteSize).ok_or_else(|| E::invalid_value(Unexpected::Signed(n), &self))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                ByteSize::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Sizes)
    }
}

/// How many rejected rows are too many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many rows.
    Rows(u64),
    /// Such a share of the rows that were read, above 0 and up to 1.
    Share(f64),
}

const LIMIT: &str = "a number of rows such as 500, or a share of them such as \"5%\"";

impl Limit {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim_end().parse().ok()?;
                (percent > 0.0 && percent <= 100.0).then_some(Self::Share(percent / 100.0))
            }
            None => text.parse().ok().map(Self::Rows),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Limits;
        impl Visitor<'_> for Limits {
            type Value = Limit;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(LIMIT)
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Limit, E> {
                u64::try_from(n).map(Limit::Rows).map_err(|_| E::invalid_value(Unexpected::Signed(n), &self))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Limit, E> {
                Limit::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Limits)
    }
}

/// The least or the greatest that a column may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// For whole numbers, and for others.
    Integer(i64),
    /// For numbers.
    Float(f64),
    /// For instants.
    Time(DateTime<Utc>),
}

const BOUND: &str = "a number, or an instant such as \"2020-01-31T00:00:00Z\" or \"2020-01-31\"";

impl Bound {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let day = || text.parse::<NaiveDate>().ok().map(|day| day.and_time(NaiveTime::MIN).and_utc());
        DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()).or_else(day).map(Self::Time)
    }

    /// Is it greater than the other? `None` when the two cannot be compared.
    pub fn exceeds(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => Some(one > other),
            (Self::Time(one), Self::Time(other)) => Some(one > other),
            (Self::Time(_), _) | (_, Self::Time(_)) => None,
            (one, other) => Some(one.number() > other.number()),
        }
    }

    fn number(self) -> f64 {
        match self {
            Self::Integer(n) => n as f64,
            Self::Float(n) => n,
            Self::Time(_) => f64::NAN,
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounds;
        impl<'de> Visitor<'de> for Bounds {
            type Value = Bound;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(BOUND)
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Bound, E> {
                Ok(Bound::Integer(n))
            }
            fn visit_f64<E: Error>(self, n: f64) -> Result<Bound, E> {
                if n.is_finite() { Ok(Bound::Float(n)) } else { Err(E::invalid_value(Unexpected::Float(n), &self)) }
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Bound, E> {
                // A number in quotes is none, unless it came from the environment: then it is no text any more when it comes here.
                Bound::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Bound, M::Error> {
                // Dates that stand in the file without quotes come as a map.
                let at = toml::value::Datetime::deserialize(MapAccessDeserializer::new(map))
                    .map_err(|_| M::Error::invalid_type(Unexpected::Map, &self))?;
                Bound::parse(&at.to_string()).ok_or_else(|| M::Error::invalid_value(Unexpected::Map, &self))
            }
        }
        deserializer.deserialize_any(Bounds)
    }
}

/// One of the values that a column may hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// For text.
    Text(String),
    /// For whole numbers, and for others.
    Integer(i64),
    /// For numbers.
    Float(f64),
    /// True or false.
    Boolean(bool),
}

const LITERAL: &str = "text, a number, true or false";

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Literals;
        impl Visitor<'_> for Literals {
            type Value = Literal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(LITERAL)
            }
            fn visit_bool<E: Error>(self, flag: bool) -> Result<Literal, E> {
                Ok(Literal::Boolean(flag))
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Literal, E> {
                Ok(Literal::Integer(n))
            }
            fn visit_f64<E: Error>(self, n: f64) -> Result<Literal, E> {
                Ok(Literal::Float(n))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Literal, E> {
                Ok(Literal::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Literals)
    }
}

/// The schema of a value that serde reads by hand: its types, and in words what it is.
macro_rules! described {
    ($type:ty, $name:literal, $types:expr, $words:expr) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $types, "description": $words, "x-expected": $words })
            }
        }
    };
}

described!(ByteSize, "ByteSize", ["integer", "string"], SIZE);
described!(Limit, "Limit", ["integer", "string"], LIMIT);
described!(Bound, "Bound", ["number", "string"], BOUND);
described!(Literal, "Literal", ["string", "number", "boolean"], LITERAL);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("5000", Some(5000)),
            ("10MB", Some(10_000_000)),
            ("10 MiB", Some(10_485_760)),
            ("4kb", Some(4000)),
            ("2GiB", Some(2 << 30)),
            ("10M", None),
            ("MB", None),
            ("-1MB", None),
            ("999", None),
            ("99999999999GB", None),
            ("", None),
        ] {
            assert_eq!(ByteSize::parse(text).map(|size| size.0), expected, "{text}");
        }
    }

    #[test]
    fn limits_are_rows_or_shares() {
        assert_eq!(Limit::parse("5%"), Some(Limit::Share(0.05)));
        assert_eq!(Limit::parse(" 0.5 % "), Some(Limit::Share(0.005)));
        assert_eq!(Limit::parse("12"), Some(Limit::Rows(12)));
        for bad in ["0%", "101%", "-1%", "NaN%", "inf%", "%", "five", "", "-1"] {
            assert_eq!(Limit::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn bounds_compare_with_their_like() {
        let time = |text| Bound::parse(text).unwrap();
        assert_eq!(time("2020-01-31"), time("2020-01-31T01:00:00+01:00"));
        assert_eq!(time("2020-01-31").exceeds(time("2020-01-30")), Some(true));
        assert_eq!(Bound::Integer(1).exceeds(Bound::Float(0.5)), Some(true));
        assert_eq!(Bound::Integer(1).exceeds(time("2020-01-30")), None);
        assert_eq!(Bound::parse("2020-01-31T00:00:00"), None);
        assert_eq!(Bound::parse("5"), None);
    }
}
