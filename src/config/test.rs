//! `[[test]]`: rows or recorded responses, and what must become of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use pipeline_contract::{ConfigTable, PlanError, Spanned, parse_partial};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess};
use serde::{Deserialize, Deserializer};

use super::SourceFile;
use super::broken::Broken;
use crate::stages::validate::Literal;

/// The columns of a row that a test names.
pub type RowDef = Spanned<BTreeMap<Spanned<String>, Spanned<CellDef>>>;

/// One `[[test]]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestDef {
    /// What it shows, in a sentence.
    pub name: Spanned<String>,
    /// Rows as the source brings them: a column that may be empty may be left out. Either this or `responses`.
    pub rows: Option<Spanned<Vec<RowDef>>>,
    /// The split that the rows belong to; "test" if not given.
    pub split: Option<Spanned<String>>,
    /// What the far side answers: from the path of a request (its whole, its beginning or its end, or with `?query`) to a file, relative to the
    /// folder of this one, or `{ status = 200, body = "..." }`. Needs `now`.
    pub responses: Option<Spanned<BTreeMap<Spanned<String>, Spanned<ResponseDef>>>>,
    /// What time it is, as "2026-05-19T15:10:00Z".
    pub now: Option<Spanned<Literal>>,
    /// Rows, as the source brings them, that an earlier run has stored.
    #[serde(default)]
    pub stored: Vec<RowDef>,
    /// What must become of it. What is not named here is not looked at, but for an error that nobody expects.
    pub expect: Spanned<ExpectDef>,
    /// Where it stands.
    #[serde(skip)]
    pub span: Range<usize>,
}

/// What must become of the rows.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectDef {
    /// The rows that are stored, in their order; of each the columns that are named here. `[]` is an empty cell.
    pub rows: Option<Vec<RowDef>>,
    /// The rows that take the place of stored ones, in their order.
    pub replaced: Option<Vec<RowDef>>,
    /// The rows that are rejected, in the order in which they are found.
    pub rejects: Option<Vec<RejectDef>>,
    /// How many rows are stored already, with the same values.
    pub duplicates: Option<u64>,
    /// How many rows are stored already, with other values.
    pub conflicts: Option<u64>,
    /// How many rows transforms leave out.
    pub filtered: Option<u64>,
    /// A part of the message with which a split, or the run, fails.
    #[schemars(length(min = 1))]
    pub error: Option<String>,
}

/// A rejected row.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectDef {
    /// The name of the rule that it breaks.
    pub rule: Spanned<String>,
    /// A part of the message.
    pub message: Option<String>,
    /// Columns of the row, as it was where it was rejected.
    pub row: Option<RowDef>,
}

/// A cell of a row: `[]` is an empty one.
#[derive(Clone, Debug, PartialEq)]
pub enum CellDef {
    /// An empty one.
    Null,
    /// A value.
    Value(Literal),
}

const CELL: &str = "a number, a text, true or false, or [] for an empty cell";

impl<'de> Deserialize<'de> for CellDef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = CellDef;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(CELL)
            }
            fn visit_bool<E: de::Error>(self, b: bool) -> Result<CellDef, E> {
                Ok(CellDef::Value(Literal::Boolean(b)))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<CellDef, E> {
                Ok(CellDef::Value(Literal::Integer(n)))
            }
            fn visit_f64<E: de::Error>(self, x: f64) -> Result<CellDef, E> {
                Ok(CellDef::Value(Literal::Float(x)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<CellDef, E> {
                Ok(CellDef::Value(Literal::Text(text.to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CellDef, A::Error> {
                Literal::deserialize(MapAccessDeserializer::new(map)).map(CellDef::Value)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CellDef, A::Error> {
                match seq.next_element::<de::IgnoredAny>()? {
                    None => Ok(CellDef::Null),
                    Some(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for CellDef {
    fn schema_name() -> Cow<'static, str> {
        "Cell".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["number", "string", "boolean", "array"], "maxItems": 0, "description": CELL, "x-expected": CELL })
    }
}

/// A recorded response: a file, or what it is.
#[derive(Clone, Debug)]
pub struct ResponseDef {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// The file that holds its body; else the body itself.
    pub file: Option<String>,
    /// The body.
    pub body: String,
}

const RESPONSE: &str = "a file, or { status = 200, body = \"...\" }";

impl<'de> Deserialize<'de> for ResponseDef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ResponseDef;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(RESPONSE)
            }
            fn visit_str<E: de::Error>(self, file: &str) -> Result<ResponseDef, E> {
                Ok(ResponseDef { status: 200, headers: BTreeMap::new(), file: Some(file.to_owned()), body: String::new() })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResponseDef, A::Error> {
                let (mut status, mut headers, mut file, mut body) = (200, BTreeMap::new(), None, None::<String>);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "status" => status = map.next_value()?,
                        "headers" => headers = map.next_value()?,
                        "file" => file = Some(map.next_value()?),
                        "body" => body = Some(map.next_value()?),
                        other => return Err(de::Error::unknown_field(other, &["status", "body", "file", "headers"])),
                    }
                }
                if !(200..=599).contains(&status) {
                    return Err(de::Error::custom("`status` must be from 200 to 599"));
                }
                if file.is_some() && body.is_some() {
                    return Err(de::Error::custom("`file` and `body` both say what the body is; leave one of them out"));
                }
                Ok(ResponseDef { status, headers, file, body: body.unwrap_or_default() })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ResponseDef {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Response".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "string", "description": "The file that holds the body." },
                {
                    "type": "object",
                    "properties": {
                        "status": { "type": "integer", "minimum": 200, "maximum": 599, "default": 200, "description": "The HTTP status." },
                        "body": { "type": "string", "description": "The body." },
                        "file": { "type": "string", "description": "The file that holds the body." },
                        "headers": { "type": "object", "additionalProperties": { "type": "string" }, "description": "Its headers." }
                    },
                    "additionalProperties": false
                }
            ],
            "x-expected": RESPONSE
        })
    }
}

/// The tests of a file of their own, `crypto.test.toml` beside `crypto.toml`.
#[derive(Debug)]
pub struct TestFile {
    /// In the order of the file.
    pub tests: Vec<TestDef>,
    pub(super) broken: Broken,
    pub(super) expansions: pipeline_contract::Expansions,
}

impl TestFile {
    /// Of faults that were found later: hides what came from the environment, and drops what follows from a part of the file that is no TOML.
    pub fn hide(&self, faults: &mut Vec<PlanError>) {
        self.broken.hide(faults);
        self.expansions.hide(faults);
    }
}

/// What the files beside a pipeline are called that hold its tests.
pub const BESIDE: &str = ".test.toml";

impl SourceFile {
    /// The line of a byte, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
    }
}

/// A test, if nothing is wrong with it.
pub(super) fn parse(table: &ConfigTable<'_>) -> (Option<TestDef>, Vec<PlanError>) {
    let (test, mut faults) = parse_partial::<TestDef>("[[test]]", table);
    let Some(mut test) = test.filter(|_| faults.is_empty()) else { return (None, faults) };
    test.span = table.span();
    let expect = &*test.expect;
    let says = expect.rows.is_some() || expect.replaced.is_some() || expect.rejects.is_some() || expect.error.is_some();
    if !says && [expect.duplicates, expect.conflicts, expect.filtered].iter().all(Option::is_none) {
        let fault = test.expect.error("E011", "`expect` says nothing: such a test cannot fail");
        faults.push(fault.help("as `expect.rows = [{ close = 3.0 }]`, `expect.rejects = []` or `expect.duplicates = 1`"));
    }
    match (&test.rows, &test.responses) {
        (None, None) => {
            let fault = test.name.error("E011", "this test has neither `rows` nor `responses`");
            faults.push(fault.help("`rows` are what the source would bring; `responses` are what the far side answers"));
        }
        (Some(_), Some(responses)) => {
            let fault = responses.error("E012", "`rows` and `responses` exclude each other: `rows` stand in for the source");
            faults.push(fault.help("make it two tests"));
        }
        (None, Some(responses)) => {
            if test.now.is_none() {
                let fault = responses.error("E011", "a test with `responses` needs the key `now`: recorded responses have their time");
                faults.push(fault.help("as now = \"2026-05-19T15:10:00Z\""));
            }
            if let Some(split) = &test.split {
                faults.push(split.error("E012", "`split` goes with `rows`: with `responses` the source names its splits").help("leave it out"));
            }
            for (path, _) in responses.iter().filter(|(path, _)| !path.starts_with('/')) {
                faults.push(path.error("E012", format!("a path begins with `/`; found \"{}\"", path.escape_debug())));
            }
        }
        (Some(_), None) => {}
    }
    if test.name.trim().is_empty() {
        faults.push(test.name.error("E012", "`name`: expected what the test shows, found an empty text"));
    }
    (Some(test).filter(|_| faults.is_empty()), faults)
}

/// E042 for each name that an earlier test has.
pub(super) fn twice(tests: &[TestDef]) -> Vec<PlanError> {
    let mut names = HashSet::new();
    let again = tests.iter().filter(|test| !names.insert(test.name.as_str()));
    again.map(|test| test.name.error("E042", format!("there are two tests \"{}\"", test.name.escape_debug())).help("give it another name")).collect()
}
