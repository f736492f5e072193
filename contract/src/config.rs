//! From a table of a pipeline file to a stage's typed config, every span kept and every fault reported.

use std::fmt;
use std::ops::{Deref, Range};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};
use toml::de::{DeTable, DeValue};

use crate::PlanError;

/// A table of a pipeline file as the parser saw it: every key and value knows its byte range in the file.
pub type ConfigTable<'a> = toml::Spanned<DeTable<'a>>;

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
                humantime::parse_duration(text)
                    .map(HumanDuration)
                    .map_err(|cause| E::custom(format!("\"{text}\" is not a length of time: {cause}; write it as \"90s\", \"1h 30m\" or \"2 days\"")))
            }
        }
        deserializer.deserialize_str(Visitor)
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
            "pattern": "^[0-9]"
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

/// The nearest of `known` to `name`, when one is near enough to be a slip of the hand.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = name.chars().count().max(3) / 3;
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Types a table as `T`, reporting every unknown key, every missing key and every wrong value, each where it stands.
///
/// `T` derives `Deserialize` and `JsonSchema`; the schema tells which keys exist and which are required. `what` names the table in
/// messages, as `source "coingecko_ohlc"`.
///
/// # Errors
/// All faults of the table: E010 unknown key, E011 missing key, E012 wrong type or value.
pub fn parse_config<T: DeserializeOwned + JsonSchema>(what: &str, table: &ConfigTable<'_>) -> Result<T, Vec<PlanError>> {
    let schema = schemars::schema_for!(T);
    let mut table = table.clone();
    let mut faults = Vec::new();
    let known: Vec<&str> = schema.get("properties").and_then(|p| p.as_object()).map(|p| p.keys().map(String::as_str).collect()).unwrap_or_default();
    let unknown: Vec<_> = table.get_ref().keys().filter(|key| !known.contains(&key.get_ref().as_ref())).cloned().collect();
    for key in unknown {
        faults.push(unknown_key(what, key.get_ref(), key.span(), &known));
        table.get_mut().remove(&key);
    }
    for name in schema.get("required").and_then(|r| r.as_array()).into_iter().flatten().filter_map(|n| n.as_str()) {
        if !table.get_ref().keys().any(|key| key.get_ref() == name) {
            faults.push(PlanError::new("E011", format!("{what} needs the key `{name}`")).at(table.span()).help(describe(&schema, name)));
        }
    }
    let missing = faults.iter().any(|fault| fault.code == "E011");
    loop {
        let error = match T::deserialize(toml::Deserializer::from(table.clone())) {
            Ok(config) if faults.is_empty() => return Ok(config),
            Ok(_) => return Err(faults),
            Err(error) => error,
        };
        // Serde stops at its first fault: note it, take the faulty entry out and look for the next.
        let span = error.span().unwrap_or_else(|| table.span());
        let culprit =
            table.get_ref().iter().find(|(key, value)| inside(&span, &key.span()) || inside(&span, &value.span())).map(|(key, _)| key.clone());
        match culprit {
            Some(key) => {
                faults.push(PlanError::new("E012", format!("`{}`: {}", key.get_ref(), error.message())).at(span));
                table.get_mut().remove(&key);
                let required = schema.get("required").and_then(|r| r.as_array()).is_some_and(|r| r.iter().any(|n| n.as_str() == Some(key.get_ref())));
                if required {
                    return Err(faults);
                }
            }
            None if missing => return Err(faults),
            None => {
                faults.push(PlanError::new("E012", format!("{what}: {}", error.message())).at(span));
                return Err(faults);
            }
        }
    }
}

/// E010 for a key that nobody knows.
pub fn unknown_key(what: &str, key: &str, span: Range<usize>, known: &[&str]) -> PlanError {
    let error = PlanError::new("E010", format!("{what} has no key `{key}`")).at(span);
    match nearest(key, known.iter().copied()) {
        Some(name) => error.help(format!("did you mean `{name}`?")),
        None => error.help(format!("its keys are {}", known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", "))),
    }
}

fn describe(schema: &Schema, name: &str) -> String {
    schema
        .pointer(&format!("/properties/{name}/description"))
        .and_then(|d| d.as_str())
        .map_or_else(|| format!("add `{name} = ...`"), |d| format!("`{name}`: {d}"))
}

fn inside(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// A table from TOML text: for tests and samples.
///
/// # Errors
/// E001 when the text is not TOML.
pub fn table_from_str(text: &str) -> Result<ConfigTable<'_>, Vec<PlanError>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        Ok(table)
    } else {
        Err(errors.into_iter().map(|error| PlanError::new("E001", error.message().to_owned()).at(error.span().unwrap_or(0..0))).collect())
    }
}

/// Takes the text value of `key` out of a table, with its span.
pub fn take_text(table: &mut ConfigTable<'_>, key: &str) -> Option<Result<Spanned<String>, PlanError>> {
    let found = table.get_ref().keys().find(|k| k.get_ref() == key).cloned()?;
    let value = table.get_mut().remove(&found)?;
    let span = value.span();
    Some(match value.into_inner() {
        DeValue::String(text) => Ok(Spanned::new(text.into_owned(), span)),
        other => Err(PlanError::new("E012", format!("`{key}`: expected text, found {}", other.type_str())).at(span)),
    })
}
