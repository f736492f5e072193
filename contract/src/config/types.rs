//! The value types of config structs.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de;
use serde::{Deserialize, Deserializer};

use super::nearest;
use crate::PlanError;

/// A value of a config struct together with its byte range in the pipeline file.
///
/// Use it for fields that are checked after parsing, so that the error can point at them.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    value: T,
    span: Range<usize>,
}

impl<T> Spanned<T> {
    /// A value that stands at `span` of the file.
    pub fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }

    /// The byte range in the file.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The value alone.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// An error that points at this value.
    pub fn error(&self, code: &'static str, message: impl Into<String>) -> PlanError {
        PlanError::new(code, message).at(self.span())
    }
}

impl Spanned<String> {
    /// The byte range in the file of a part of this text: the whole of it where escapes or `${NAME}` forms make the part hard to find.
    pub fn part(&self, part: Range<usize>) -> Range<usize> {
        // A text without escapes is as long as what is between its quotes.
        if self.span.len() == self.value.len() + 2 && part.start <= part.end && part.end <= self.value.len() {
            self.span.start + 1 + part.start..self.span.start + 1 + part.end
        } else {
            self.span()
        }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: Hash> Hash for Spanned<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl<T: PartialOrd> PartialOrd for Spanned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Ord> Ord for Spanned<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}

/// Equality, order and hash are those of the value, so that a map with spanned keys is asked by text.
impl Borrow<str> for Spanned<String> {
    fn borrow(&self) -> &str {
        &self.value
    }
}

impl<T: fmt::Display> fmt::Display for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let inner = toml::Spanned::<T>::deserialize(deserializer)?;
        let span = inner.span();
        Ok(Self { value: inner.into_inner(), span })
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
    fn _schemars_private_non_optional_json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::_schemars_private_non_optional_json_schema(generator)
    }
    fn _schemars_private_is_option() -> bool {
        T::_schemars_private_is_option()
    }
}

/// A length of time as people write it: `"90s"`, `"1h 30m"`, `"2 days"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = HumanDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"90s\", \"1h 30m\" or \"2 days\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                humantime::parse_duration(text).map(HumanDuration).map_err(|cause| E::custom(duration_fault(text, &cause)))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// Says what is wrong with a length of time, and how it may have been meant.
fn duration_fault(text: &str, cause: &humantime::DurationError) -> String {
    use humantime::DurationError as Fault;
    const UNITS: [&str; 24] = [
        "ms", "msec", "millis", "s", "sec", "secs", "second", "seconds", "m", "min", "mins", "minute", "minutes", "h", "hr", "hour", "hours", "d",
        "day", "days", "w", "week", "weeks", "months",
    ];
    let shown = text.escape_debug();
    match cause {
        Fault::Empty => "an empty text is not a length of time; write it as \"90s\", \"1h 30m\" or \"2 days\"".into(),
        Fault::UnknownUnit { unit, value, .. } if unit.is_empty() => {
            format!("\"{shown}\" has no unit; write it as \"{value}s\", \"{value}m\" or \"{value}h\"")
        }
        Fault::UnknownUnit { unit, start, end, .. } => {
            match (nearest(unit, UNITS).filter(|_| unit.len() > 1 || unit == "H"), text.get(..*start), text.get(*end..)) {
                (Some(near), Some(before), Some(after)) => {
                    format!("no unit of time is called \"{unit}\"; did you mean \"{}\"?", format!("{before}{near}{after}").escape_debug())
                }
                _ => format!("no unit of time is called \"{unit}\"; units are ms, s, m, h, days, weeks"),
            }
        }
        Fault::NumberOverflow => format!("\"{shown}\" is too long or too fine a length of time"),
        _ => format!("\"{shown}\" is not a length of time; write it as \"90s\", \"1h 30m\" or \"2 days\""),
    }
}

impl JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "duration",
            "description": "a length of time such as \"90s\", \"1h 30m\" or \"2 days\"",
            "x-expected": "a length of time such as \"90s\", \"1h 30m\" or \"2 days\"",
            "pattern": "^ *([0-9]+ *[a-zA-Zµ]+ *)+$"
        })
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A text that is never shown: `Debug` and `Display` print `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"***\"" })
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string" })
    }
}
