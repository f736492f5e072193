//! How many rejects are too many.

use std::borrow::Cow;
use std::fmt;

use pipeline_contract::{PlanError, Spanned};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de;
use serde::{Deserialize, Deserializer};

use super::config::Limits;
use crate::stages::values::read_float;

/// A limit as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimitConfig {
    /// So many rows.
    Rows(i64),
    /// So many of a hundred rows.
    Percent(f64),
}

/// A limit that can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// More than this many rows are too many.
    Rows(u64),
    /// More than this share (0 to 1) of the rows read is too many.
    Share(f64),
}

impl LimitConfig {
    fn limit(self) -> Option<Limit> {
        match self {
            Self::Rows(rows) => u64::try_from(rows).ok().map(Limit::Rows),
            Self::Percent(percent) => (0.0..=100.0).contains(&percent).then_some(Limit::Share(percent / 100.0)),
        }
    }
}

impl Limits {
    /// The limit to warn at.
    pub fn warn(&self) -> Option<Limit> {
        self.warn.as_ref().and_then(|limit| limit.limit())
    }

    /// The limit to stop at.
    pub fn abort(&self) -> Option<Limit> {
        self.abort.as_ref().and_then(|limit| limit.limit())
    }
}

/// As it is written.
impl fmt::Display for LimitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(1) => f.write_str("1 row"),
            Self::Rows(rows) => write!(f, "{rows} rows"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// E045 for what is below nothing or above everything.
pub(super) fn check(limits: &Limits) -> Vec<PlanError> {
    let check = |limit: &Spanned<LimitConfig>| {
        let fault = || limit.error("E045", format!("a limit of {} cannot be", **limit));
        limit.limit().is_none().then(|| fault().help("write a number of rows from 0 on, or a share from \"0%\" to \"100%\""))
    };
    limits.warn.iter().chain(&limits.abort).filter_map(check).collect()
}

impl<'de> Deserialize<'de> for LimitConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = LimitConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of rows, or a share of them such as \"5%\"")
            }
            fn visit_i64<E: de::Error>(self, rows: i64) -> Result<LimitConfig, E> {
                Ok(LimitConfig::Rows(rows))
            }
            fn visit_u64<E: de::Error>(self, rows: u64) -> Result<LimitConfig, E> {
                Ok(LimitConfig::Rows(i64::try_from(rows).unwrap_or(i64::MAX)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<LimitConfig, E> {
                let percent = text.trim().strip_suffix('%').and_then(|number| read_float(number.trim_end()));
                percent.map(LimitConfig::Percent).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for LimitConfig {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": ["integer", "string"],
            "pattern": "^\\s*[0-9.]+\\s*%\\s*$",
            "description": "a number of rows, or a share of them such as \"5%\""
        })
    }
}
