//! The keys of `type = "file"`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pipeline_contract::arrow::{Field, Schema, SchemaRef};
use pipeline_contract::{ColumnType, PlanError, Spanned};
use pipeline_files::time::TimeFormat;
use schemars::{JsonSchema, Schema as JsonSchemaOf, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::find::Pattern;

/// Rows of files.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The files: a path, or a list of paths, relative to the working directory. `*`, `?` and `[a-z]` stand for signs of one name, `**` for
    /// folders at any depth. Files are read in the order of their paths.
    pub(crate) path: Spanned<Texts>,
    /// What to read, and as which type: `close = "float"`, or a table with `type`, `format` (of timestamps), `from` (another name in the file)
    /// and `required`. `pipeline new pipeline --from FILE` writes it from what is in a file.
    pub(crate) columns: Spanned<BTreeMap<Spanned<String>, Spanned<Column>>>,
    /// What is in the files. Default: what their names say (`.csv`, `.tsv`, `.jsonl`, `.ndjson`).
    pub(crate) format: Option<Spanned<Format>>,
    /// How the files are compressed. Default: what each name says (`.gz`, `.zst`).
    pub(crate) compression: Option<Compression>,
    /// CSV: what stands between the cells, one sign. Default `,`; in `.tsv` files a tab.
    pub(crate) delimiter: Option<Spanned<String>>,
    /// CSV: whether a file begins with a line of column names; columns are then found by name, in any order, and others are passed over. Without
    /// it the columns are those of the file, all of them, in its order. Default true.
    #[schemars(extend("default" = true))]
    pub(crate) header: Option<Spanned<bool>>,
    /// CSV: whether a cell in quotes may hold line breaks. Where not, large files are cut into parts that are read side by side. Default true.
    #[schemars(extend("default" = true))]
    pub(crate) quoted_newlines: Option<Spanned<bool>>,
    /// CSV: what stands for null, a text or a list of texts. Default: nothing at all. In quotes it is a text.
    pub(crate) null: Option<Spanned<Texts>>,
    /// CSV: the sign between a number and its decimals, `.` or `,`. Default `.`.
    pub(crate) decimal: Option<Spanned<String>>,
    /// Adds a column of this name with the path of the row's file.
    pub(crate) file_column: Option<Spanned<String>>,
    /// Plain files larger than this, in bytes, are cut into parts of this size, where no row can hold a line break. Default 16777216 (16 MiB).
    #[schemars(range(min = 1), extend("default" = 16_777_216))]
    pub(crate) part_size: Option<Spanned<u64>>,
}

/// The default of `part_size`.
const PART: u64 = 16 << 20;

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Cells between delimiters, a row a line
    Csv,
    /// A JSON object a line
    Jsonl,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    /// Not at all, whatever its name
    None,
    /// As gzip does, one member or several
    Gzip,
    /// As zstd does, one frame or several
    Zstd,
}

impl Compression {
    /// What the name of a file says.
    pub(crate) fn of(name: &str) -> Self {
        match name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).as_deref() {
            Some("gz" | "gzip") => Self::Gzip,
            Some("zst" | "zstd") => Self::Zstd,
            _ => Self::None,
        }
    }
}

impl Format {
    /// What the name of a file, or a pattern of names, says; and whether it is one of tabs.
    pub(crate) fn of(name: &str) -> Option<(Self, bool)> {
        let lower = name.to_ascii_lowercase();
        let plain = [".gz", ".gzip", ".zst", ".zstd"].iter().find_map(|end| lower.strip_suffix(end)).unwrap_or(&lower);
        match plain.rsplit_once('.')?.1 {
            "csv" | "txt" => Some((Self::Csv, false)),
            "tsv" | "tab" => Some((Self::Csv, true)),
            "jsonl" | "ndjson" | "json" => Some((Self::Jsonl, false)),
            _ => None,
        }
    }
}

/// A text or a list of texts.
#[derive(Clone, Debug)]
pub(crate) struct Texts(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;
        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, or a list of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(TextsVisitor)
    }
}

impl JsonSchema for Texts {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Texts".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> JsonSchemaOf {
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

/// A column to read.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) ty: ColumnType,
    pub(crate) format: Option<Spanned<String>>,
    pub(crate) from: Option<Spanned<String>>,
    pub(crate) required: bool,
}

/// The table form of a column.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ColumnTable {
    /// Its type.
    r#type: ColumnType,
    /// How timestamps are written: `rfc3339` (the default), `unix` (seconds), `unix_ms`, `unix_us`, or a strftime format such as
    /// `%d.%m.%Y %H:%M`, in UTC unless it names an offset.
    format: Option<Spanned<String>>,
    /// Its name in the file, where it has another one. In JSON Lines `a.b` is the key `b` of the object at `a`.
    from: Option<Spanned<String>>,
    /// Whether a row in which it is null is rejected.
    #[serde(default)]
    required: bool,
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnVisitor;
        impl<'de> Visitor<'de> for ColumnVisitor {
            type Value = Column;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type, or a table with the key `type`")
            }
            fn visit_str<E: de::Error>(self, ty: &str) -> Result<Column, E> {
                let ty = ColumnType::deserialize(StrDeserializer::new(ty))?;
                Ok(Column { ty, format: None, from: None, required: false })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Column, A::Error> {
                let table = ColumnTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Column { ty: table.r#type, format: table.format, from: table.from, required: table.required })
            }
        }
        deserializer.deserialize_any(ColumnVisitor)
    }
}

impl JsonSchema for Column {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FileColumn".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> JsonSchemaOf {
        let (ty, table) = (generator.subschema_for::<ColumnType>(), generator.subschema_for::<ColumnTable>());
        schemars::json_schema!({ "anyOf": [ty, table] })
    }
}

/// What a value is read as.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    Boolean,
    Integer,
    Float,
    Text,
    Timestamp(TimeFormat),
}

impl Type {
    pub(crate) fn column(&self) -> ColumnType {
        match self {
            Self::Boolean => ColumnType::Boolean,
            Self::Integer => ColumnType::Integer,
            Self::Float => ColumnType::Float,
            Self::Text => ColumnType::Text,
            Self::Timestamp(_) => ColumnType::Timestamp,
        }
    }
}

/// A column that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) required: bool,
    /// Where it is in the file: its name, or the keys that lead to it.
    pub(crate) from: Vec<String>,
}

/// How cells of CSV are read.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    pub(crate) delimiter: u8,
    pub(crate) header: bool,
    pub(crate) quoted_newlines: bool,
    pub(crate) null: Vec<Vec<u8>>,
    pub(crate) comma: bool,
    /// As many bytes as are looked at in one go, of JSON Lines, too; with 0 it is done record by record.
    pub(crate) block: usize,
}

/// A config without faults.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) format: Format,
    pub(crate) compression: Option<Compression>,
    pub(crate) columns: Vec<Wanted>,
    pub(crate) dialect: Dialect,
    pub(crate) file_column: bool,
    pub(crate) part_size: u64,
    pub(crate) schema: SchemaRef,
}

/// Looks at every value; `None` when a fault leaves nothing to work with.
pub(crate) fn check(config: Config) -> (Option<Checked>, Vec<PlanError>) {
    let mut faults = Vec::new();
    let mut patterns = Vec::new();
    for text in &config.path.0 {
        match Pattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(why) => faults.push(config.path.error("E012", format!("`path`: {why}")).help("as `data/*.csv` or `in/**/candles-[0-9]*.csv.gz`")),
        }
    }
    if config.path.0.is_empty() {
        faults.push(config.path.error("E012", "`path` names no file").help("as `data/*.csv`"));
    }
    let named: Vec<Option<(Format, bool)>> = config.path.0.iter().map(|text| Format::of(text)).collect();
    let first = named.first().copied().flatten();
    let format = match &config.format {
        Some(format) => **format,
        None if named.iter().all(|one| one.is_some() && one.map(|one| one.0) == first.map(|first| first.0)) => first.map_or(Format::Csv, |one| one.0),
        None => {
            if faults.is_empty() {
                let error = config.path.error("E012", "`path`: the names do not say what is in the files");
                faults.push(error.help("set `format = \"csv\"` or `format = \"jsonl\"`"));
            }
            Format::Csv
        }
    };
    if format == Format::Jsonl {
        let csv_only = [
            ("delimiter", config.delimiter.as_ref().map(Spanned::span)),
            ("header", config.header.as_ref().map(Spanned::span)),
            ("quoted_newlines", config.quoted_newlines.as_ref().map(Spanned::span)),
            ("null", config.null.as_ref().map(Spanned::span)),
            ("decimal", config.decimal.as_ref().map(Spanned::span)),
        ];
        for (name, span) in csv_only {
            let error = |span| PlanError::new("E012", format!("`{name}` goes with CSV alone, and these files are JSON Lines")).at(span);
            faults.extend(span.map(|span| error(span).help("leave it out, or set `format = \"csv\"`")));
        }
    }
    let dialect = dialect(&config, first.is_some_and(|(_, tabs)| tabs), &mut faults);
    let columns = wanted(&config, format, &mut faults);
    if let Some(name) = config.file_column.as_ref().filter(|name| columns.iter().any(|column| column.name == ***name)) {
        faults.push(name.error("E012", format!("`file_column`: there is a column `{}` already", **name)).help("choose another name"));
    }
    let mut fields: Vec<_> = columns.iter().map(|column| Field::new(&column.name, column.ty.column().arrow(), !column.required)).collect();
    fields.extend(config.file_column.as_ref().map(|name| Field::new(name.as_str(), ColumnType::Text.arrow(), false)));
    let checked = Checked {
        patterns,
        format,
        compression: config.compression,
        columns,
        dialect,
        file_column: config.file_column.is_some(),
        part_size: config.part_size.as_ref().map_or(PART, |size| **size),
        schema: Arc::new(Schema::new(fields)),
    };
    (faults.is_empty().then_some(checked), faults)
}

fn dialect(config: &Config, tabs: bool, faults: &mut Vec<PlanError>) -> Dialect {
    let comma = match config.decimal.as_ref().map(|text| (text, text.as_str())) {
        None | Some((_, ".")) => false,
        Some((_, ",")) => true,
        Some((text, other)) => {
            faults.push(text.error("E012", format!("`decimal`: expected \".\" or \",\", found {other:?}")));
            false
        }
    };
    let delimiter = match config.delimiter.as_ref().map(|text| (text, text.as_bytes())) {
        None => {
            if tabs {
                b'\t'
            } else {
                b','
            }
        }
        Some((_, [sign])) if matches!(sign, b'\t' | b' ' | b'!'..=b'~') && !sign.is_ascii_alphanumeric() && *sign != b'"' => *sign,
        Some((text, _)) => {
            let error = text.error("E012", format!("`delimiter`: {:?} cannot stand between cells", **text));
            faults.push(error.help("choose one sign: `,`, `;`, `|` or a tab (`\"\\t\"`)"));
            b','
        }
    };
    if let Some(text) = config.decimal.as_ref().filter(|_| comma && delimiter == b',') {
        faults.push(text.error("E012", "`decimal`: `,` stands between the cells already").help("set `delimiter`, as `delimiter = \";\"`"));
    }
    let null = config.null.as_ref().map_or_else(|| vec![Vec::new()], |texts| texts.0.iter().map(|text| text.clone().into_bytes()).collect());
    Dialect {
        delimiter,
        header: config.header.as_ref().is_none_or(|header| **header),
        quoted_newlines: config.quoted_newlines.as_ref().is_none_or(|quoted| **quoted),
        null,
        comma,
        block: crate::csv::MOST,
    }
}

fn wanted(config: &Config, format: Format, faults: &mut Vec<PlanError>) -> Vec<Wanted> {
    if config.columns.is_empty() {
        faults.push(config.columns.error("E012", "`columns` names no column").help("as `columns = { coin_id = \"text\", close = \"float\" }`"));
    }
    // As they stand in the pipeline file.
    let mut columns: Vec<_> = config.columns.iter().collect();
    columns.sort_by_key(|(name, _)| name.span().start);
    let mut all: Vec<Wanted> = Vec::new();
    for (name, column) in columns {
        let ty = match (column.ty, &column.format) {
            (ColumnType::Timestamp, None) => Type::Timestamp(TimeFormat::Rfc3339),
            (ColumnType::Timestamp, Some(format)) => match TimeFormat::parse(format) {
                Ok(time) => Type::Timestamp(time),
                Err(why) => {
                    let help = "use `rfc3339`, `unix`, `unix_ms`, `unix_us`, or a strftime format such as `%Y-%m-%d %H:%M:%S`";
                    faults.push(format.error("E012", format!("`format`: {why}")).help(help));
                    continue;
                }
            },
            (ty, Some(format)) => {
                let error = format.error("E012", format!("`format`: `{}` is {ty}, and only a timestamp has a format", **name));
                faults.push(error.help("leave it out, or set `type = \"timestamp\"`"));
                continue;
            }
            (ColumnType::Boolean, None) => Type::Boolean,
            (ColumnType::Integer, None) => Type::Integer,
            (ColumnType::Float, None) => Type::Float,
            (ColumnType::Text, None) => Type::Text,
        };
        let from = match (&column.from, format) {
            (Some(from), Format::Jsonl) => from.split('.').map(str::to_owned).collect(),
            (Some(from), Format::Csv) => vec![from.to_string()],
            (None, _) => vec![name.to_string()],
        };
        if let Some(other) = all.iter().find(|other| other.from == from || other.from.starts_with(&from) || from.starts_with(&other.from)) {
            let place = column.from.as_ref().map_or_else(|| name.span(), Spanned::span);
            let message = format!("`{}` and `{}` are read from the same place", other.name, **name);
            faults.push(PlanError::new("E012", message).at(place).help("copy a column with the transform `derive`"));
        }
        all.push(Wanted { name: name.to_string(), ty, required: column.required, from });
    }
    all
}
