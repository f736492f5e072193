//! A value in a pipeline file that is compared with a column's.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess};
use serde::{Deserialize, Deserializer};

use crate::stages::values::{float, quoted, read_timestamp};

/// A number, a text, true or false. An instant is a text in RFC 3339, or a date or date-time of TOML.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A whole number.
    Integer(i64),
    /// A number with a point.
    Float(f64),
    /// A text.
    Text(String),
    /// True or false.
    Boolean(bool),
}

impl Literal {
    /// The instant it stands for: microseconds since 1970.
    pub(super) fn timestamp(&self) -> Option<i64> {
        match self {
            Self::Text(text) => read_timestamp(text),
            _ => None,
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => n.fmt(f),
            Self::Float(x) => f.write_str(&float(*x)),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Boolean(b) => b.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Literal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text, true or false")
            }
            fn visit_bool<E: de::Error>(self, b: bool) -> Result<Literal, E> {
                Ok(Literal::Boolean(b))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Literal, E> {
                Ok(Literal::Integer(n))
            }
            fn visit_f64<E: de::Error>(self, x: f64) -> Result<Literal, E> {
                Ok(Literal::Float(x))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Literal, E> {
                Ok(Literal::Text(text.to_owned()))
            }
            // A date-time of TOML comes as a map of its own; anything else that does is no literal.
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Literal, A::Error> {
                let at = toml::value::Datetime::deserialize(MapAccessDeserializer::new(map));
                let at = at.map_err(|_| de::Error::invalid_type(de::Unexpected::Map, &self))?;
                Ok(Literal::Text(at.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Literal {
    fn schema_name() -> Cow<'static, str> {
        "Literal".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["number", "string", "boolean"], "description": "a number, a text, true or false" })
    }
}
