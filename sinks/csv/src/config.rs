//! The keys of `type = "csv"`.

use std::fmt;
use std::ops::Range;

use pipeline_contract::{Expansions, PlanError, Spanned};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::template::{self, Piece};
use pipeline_files::time::TimeFormat;

/// Rows as CSV files, one for each path that the rows name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The file of a row: text with columns in braces, `{coin_id}` for text, integer and boolean columns, `{timestamp:%Y-%m}` (strftime, in
    /// UTC) for timestamps, `{{` and `}}` for braces. Values are made safe as file names; folders are created.
    pub(crate) path: Spanned<String>,
    /// The columns to write, in this order: names, or `{ column = "volume_24h", as = "volume" }` to rename one. Default: all columns.
    pub(crate) columns: Option<Spanned<Vec<Spanned<Column>>>>,
    /// How timestamps are written: `rfc3339` (the default), `unix` (seconds), `unix_ms`, `unix_us`, or a strftime format such as
    /// `%Y-%m-%d %H:%M:%S`, in UTC. The first four keep every digit.
    pub(crate) time_format: Option<Spanned<String>>,
    /// What stands between the cells, one sign: `,` (the default), `;`, `|`, a tab (`"\t"`).
    pub(crate) delimiter: Option<Spanned<String>>,
    /// Whether a file begins with a line of column names.
    #[serde(default = "yes")]
    pub(crate) header: bool,
    /// What stands for null; nothing by default. A text that is the same is quoted, so that the two are told apart.
    pub(crate) null: Option<Spanned<String>>,
    /// Whether a text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, tab or return) gets a `'` before it.
    /// Reading back takes it away again.
    #[serde(default)]
    pub(crate) guard_formulas: bool,
    /// How lines end.
    #[serde(default)]
    pub(crate) line_ending: LineEnding,
}

fn yes() -> bool {
    true
}

/// How lines end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LineEnding {
    /// `\n`
    #[default]
    Lf,
    /// `\r\n`, as RFC 4180 has it
    Crlf,
}

/// A column to write.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) column: String,
    pub(crate) name: String,
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnVisitor;
        impl<'de> Visitor<'de> for ColumnVisitor {
            type Value = Column;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column's name, or { column = \"NAME\", as = \"NEW NAME\" }")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Column, E> {
                Ok(Column { column: name.to_owned(), name: name.to_owned() })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Column, A::Error> {
                let (mut column, mut name) = (None::<String>, None::<String>);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "column" => column = Some(map.next_value()?),
                        "as" => name = Some(map.next_value()?),
                        other => return Err(de::Error::unknown_field(other, &["column", "as"])),
                    }
                }
                let column = column.ok_or_else(|| de::Error::missing_field("column"))?;
                Ok(Column { name: name.unwrap_or_else(|| column.clone()), column })
            }
        }
        deserializer.deserialize_any(ColumnVisitor)
    }
}

impl JsonSchema for Column {
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

/// A config whose values have been looked at, as far as that goes without knowing the columns.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) config: Config,
    /// The path as it stands in the file, when a part of it came from the environment.
    path_written: Option<String>,
    pub(crate) pieces: Vec<Piece>,
    /// Whether `pieces` are the path: else it has a fault.
    is_path_known: bool,
    pub(crate) time: TimeFormat,
    pub(crate) delimiter: u8,
    pub(crate) null: Vec<u8>,
}

/// Looks at what can be judged without knowing the columns. What is faulty is as if it were not there.
pub(crate) fn check(config: Config, expansions: &Expansions) -> (Checked, Vec<PlanError>) {
    let mut faults = Vec::new();
    let mut is_path_known = true;
    let path_written = expansions.at(&config.path.span()).map(|text| text.written.clone());
    let pieces = template::parse(&config.path).unwrap_or_else(|found| {
        faults.extend(
            found.into_iter().map(|f| PlanError::new("E030", f.message).at(within(&config.path, path_written.as_deref(), f.at)).help(f.help)),
        );
        is_path_known = false;
        Vec::new()
    });
    let delimiter = match config.delimiter.as_ref().map(|text| (text, text.as_bytes())) {
        None => b',',
        Some((_, [sign])) if matches!(sign, b'\t' | b' ' | b'!'..=b'~') && !sign.is_ascii_alphanumeric() && !b"\"'.+-%:".contains(sign) => *sign,
        Some((text, _)) => {
            let error = text.error("E034", format!("`delimiter`: {:?} cannot stand between cells", **text));
            faults.push(error.help("choose one sign that is in no number or time: `,`, `;`, `|` or a tab (`\"\\t\"`)"));
            b','
        }
    };
    let null = config.null.as_ref().map(|text| text.as_bytes().to_vec()).unwrap_or_default();
    if let Some(text) = &config.null
        && null.iter().any(|sign| *sign == delimiter || matches!(sign, b'"' | b'\r' | b'\n'))
    {
        let error = text.error("E034", format!("`null`: {:?} would need quotes, and what is quoted is not null", **text));
        faults.push(error.help("choose a text without delimiter, quotes and line breaks, as `NA` or `\\N`"));
    }
    let time = match config.time_format.as_ref().map(|text| (text, TimeFormat::parse(text))) {
        None => TimeFormat::Rfc3339,
        Some((_, Ok(time))) => time,
        Some((text, Err(message))) => {
            let help = "use `rfc3339`, `unix`, `unix_ms`, `unix_us`, or a strftime format such as `%Y-%m-%d %H:%M:%S`";
            faults.push(text.error("E034", format!("`time_format`: {message}")).help(help));
            TimeFormat::Rfc3339
        }
    };
    (Checked { config, path_written, pieces, is_path_known, time, delimiter, null }, faults)
}

impl Checked {
    /// Can columns be read back from the path?
    pub(crate) fn is_path_known(&self) -> bool {
        self.is_path_known
    }

    /// The place in the pipeline file of a part of the path.
    pub(crate) fn in_path(&self, part: Range<usize>) -> Range<usize> {
        within(&self.config.path, self.path_written.as_deref(), part)
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
