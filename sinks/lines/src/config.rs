//! The keys that all sinks of lines have.

use std::fmt;
use std::ops::Range;

use pipeline_contract::{Expansions, PlanError, Spanned};
use pipeline_files::time::TimeFormat;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::template::{self, Piece};

/// A column to write.
#[derive(Clone, Debug)]
pub struct ColumnName {
    /// The column.
    pub column: String,
    /// Its name in the file.
    pub name: String,
}

impl<'de> Deserialize<'de> for ColumnName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnVisitor;
        impl<'de> Visitor<'de> for ColumnVisitor {
            type Value = ColumnName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column's name, or { column = \"NAME\", as = \"NEW NAME\" }")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<ColumnName, E> {
                Ok(ColumnName { column: name.to_owned(), name: name.to_owned() })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ColumnName, A::Error> {
                let (mut column, mut name) = (None::<String>, None::<String>);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "column" => column = Some(map.next_value()?),
                        "as" => name = Some(map.next_value()?),
                        other => return Err(de::Error::unknown_field(other, &["column", "as"])),
                    }
                }
                let column = column.ok_or_else(|| de::Error::missing_field("column"))?;
                Ok(ColumnName { name: name.unwrap_or_else(|| column.clone()), column })
            }
        }
        deserializer.deserialize_any(ColumnVisitor)
    }
}

impl JsonSchema for ColumnName {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Column".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "string" },
                {
                    "type": "object",
                    "properties": {
                        "column": { "type": "string", "description": "The column." },
                        "as": { "type": "string", "description": "Its name in the file." }
                    },
                    "required": ["column"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

/// The values of the keys that all sinks of lines have.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file of a row: text with columns in braces.
    pub path: Spanned<String>,
    /// The columns to write; all of them where there is nothing.
    pub columns: Option<Spanned<Vec<Spanned<ColumnName>>>>,
    /// How timestamps are written; RFC 3339 where there is nothing.
    pub time_format: Option<Spanned<String>>,
}

/// Options that have been looked at, as far as that goes without knowing the columns.
#[derive(Clone, Debug)]
pub struct Checked {
    pub(crate) options: Options,
    /// The path as it stands in the file, when a part of it came from the environment.
    path_written: Option<String>,
    pub(crate) pieces: Vec<Piece>,
    /// Whether `pieces` are the path: else it has a fault.
    is_path_known: bool,
    pub(crate) time: TimeFormat,
}

/// A path that is missing or faulty, which the schema reports: what else is wrong is looked for all the same.
pub fn nowhere() -> Spanned<String> {
    Spanned::new(String::new(), 0..0)
}

/// Looks at what can be judged without knowing the columns. What is faulty is as if it were not there.
pub fn check(options: Options, expansions: &Expansions) -> (Checked, Vec<PlanError>) {
    let mut faults = Vec::new();
    // A path that is missing is reported, and what else is wrong is looked for all the same.
    let mut is_path_known = options.path.span() != (0..0);
    let path_written = expansions.at(&options.path.span()).map(|text| text.written.clone());
    let parsed = if is_path_known { template::parse(&options.path) } else { Ok(Vec::new()) };
    let pieces = parsed.unwrap_or_else(|found| {
        faults.extend(
            found.into_iter().map(|f| PlanError::new("E030", f.message).at(within(&options.path, path_written.as_deref(), f.at)).help(f.help)),
        );
        is_path_known = false;
        Vec::new()
    });
    let time = match options.time_format.as_ref().map(|text| (text, TimeFormat::parse(text))) {
        None => TimeFormat::Rfc3339,
        Some((_, Ok(time))) => time,
        Some((text, Err(message))) => {
            let help = "use `rfc3339`, `unix`, `unix_ms`, `unix_us`, or a strftime format such as `%Y-%m-%d %H:%M:%S`";
            faults.push(text.error("E034", format!("`time_format`: {message}")).help(help));
            TimeFormat::Rfc3339
        }
    };
    (Checked { options, path_written, pieces, is_path_known, time }, faults)
}

impl Checked {
    /// How timestamps are written.
    pub fn time(&self) -> &TimeFormat {
        &self.time
    }

    /// Can columns be read back from the path?
    pub(crate) fn is_path_known(&self) -> bool {
        self.is_path_known
    }

    /// The place in the pipeline file of a part of the path.
    pub(crate) fn in_path(&self, part: Range<usize>) -> Range<usize> {
        within(&self.options.path, self.path_written.as_deref(), part)
    }
}

/// The place in the pipeline file of a part of a text; the whole text when escapes make that unknowable. `written` is the text as it
/// stands in the file, when a part of it came from the environment.
fn within(text: &Spanned<String>, written: Option<&str>, part: Range<usize>) -> Range<usize> {
    let span = text.span();
    let written = written.unwrap_or(text);
    // Two quotes and as many bytes between them as the text has: without escapes.
    if span.len() != written.len() + 2 {
        return span;
    }
    let at = if written == text.as_str() {
        part
    } else {
        // The environment moved it: where it stands only once, that is the place.
        let Some(needle) = text.get(part).filter(|needle| !needle.is_empty()) else { return span };
        let mut places = written.match_indices(needle);
        match (places.next(), places.next()) {
            (Some((start, _)), None) => start..start + needle.len(),
            _ => return span,
        }
    };
    span.start + 1 + at.start..span.start + 1 + at.end
}
