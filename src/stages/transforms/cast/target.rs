//! What a column is cast to, as pipeline files write it: a type, or a table with a type and how to read or write it.

use std::borrow::Cow;
use std::fmt;

use pipeline_contract::{ColumnType, Spanned};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, MapAccess};
use serde::{Deserialize, Deserializer};

/// A type and how to read or write it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    /// The new type.
    #[serde(rename = "type")]
    pub(super) to: ColumnType,
    /// How a timestamp is written in text, in `strftime` form; RFC 3339 or a date where it is not given. Text without an offset is UTC.
    pub(super) format: Option<Spanned<String>>,
    /// What a number counts since 1970: `s` where it is not given.
    pub(super) unit: Option<Spanned<Unit>>,
}

/// What a number of a timestamp counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
}

impl Unit {
    /// Its microseconds.
    pub(super) const fn micros(self) -> i64 {
        match self {
            Self::S => 1_000_000,
            Self::Ms => 1_000,
            Self::Us => 1,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::S => "s",
            Self::Ms => "ms",
            Self::Us => "us",
        }
    }
}

/// [`Target`] as pipeline files write it. `serde(untagged)` would lose the spans of its fields and say nothing of what is wrong.
#[derive(Debug)]
pub(super) struct TargetForm(pub(super) Target);

impl<'de> Deserialize<'de> for TargetForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = TargetForm;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type such as \"float\", or a table such as { type = \"timestamp\", unit = \"ms\" }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<TargetForm, E> {
                let to = ColumnType::deserialize(StrDeserializer::new(text))?;
                Ok(TargetForm(Target { to, format: None, unit: None }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TargetForm, A::Error> {
                Target::deserialize(MapAccessDeserializer::new(map)).map(TargetForm)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for TargetForm {
    fn schema_name() -> Cow<'static, str> {
        "CastTarget".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<ColumnType>();
        let table = generator.subschema_for::<Target>();
        schemars::json_schema!({ "anyOf": [name, table] })
    }
}
