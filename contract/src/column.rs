//! The five column types of a pipeline, and batches made of them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// The type of a column. Batches hold these five and no other; a plan with another Arrow type is refused.
///
/// | name | Arrow | |
/// |---|---|---|
/// | `boolean` | `Boolean` | |
/// | `integer` | `Int64` | |
/// | `float` | `Float64` | |
/// | `text` | `Utf8` | |
/// | `timestamp` | `Timestamp(Microsecond, "UTC")` | an instant, in UTC, to the microsecond |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// True or false.
    Boolean,
    /// A 64-bit signed whole number.
    Integer,
    /// A 64-bit floating-point number.
    Float,
    /// UTF-8 text.
    Text,
    /// An instant in UTC, to the microsecond.
    Timestamp,
}

impl ColumnType {
    /// Every type, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Boolean, Self::Integer, Self::Float, Self::Text, Self::Timestamp];

    /// The name used in pipeline files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Text => "text",
            Self::Timestamp => "timestamp",
        }
    }

    /// The Arrow type that holds it.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        }
    }

    /// The column type of an Arrow type, or `None` when batches do not speak it.
    pub fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Boolean => Some(Self::Boolean),
            DataType::Int64 => Some(Self::Integer),
            DataType::Float64 => Some(Self::Float),
            DataType::Utf8 => Some(Self::Text),
            DataType::Timestamp(TimeUnit::Microsecond, Some(tz)) if &**tz == "UTC" => Some(Self::Timestamp),
            _ => None,
        }
    }
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The key of a field's metadata by which a source marks a column that must be stored, as without it rows of
/// different quality could not be told apart; the value is what it tells, as `whether a row is a candle or a sampled price`. A pipeline in which
/// such a column does not reach what every sink writes is refused (E047). The mark stays with the column when it gets another name.
pub const MUST_BE_STORED: &str = "must_be_stored";

/// A schema from (name, type, may be null) triples.
pub fn schema<'a>(columns: impl IntoIterator<Item = (&'a str, ColumnType, bool)>) -> SchemaRef {
    Arc::new(Schema::new(columns.into_iter().map(|(name, ty, nullable)| Field::new(name, ty.arrow(), nullable)).collect::<Vec<_>>()))
}

/// An instant as text: RFC 3339 in UTC with as many sub-second digits as it has (none, 3 or 6), as `2026-05-19T15:00:00Z`.
pub fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// An instant from the microseconds since 1970 that a `timestamp` column holds; `None` outside chrono's range.
pub fn instant(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
}
