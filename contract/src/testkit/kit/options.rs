//! How a plugin introduces itself, and what it says to a faulty table.

use std::ops::Range;

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::{Promise, Report, ensure};
use crate::{BuildContext, ConfigTable, Expansions, Kind, PlanError, Plugin, Stage, take_text};

const UNKNOWN: &str = "no_plugin_has_this_key";
/// No option is of this type.
const WRONG: &str = "[[[false]]]";

/// A plugin and the table to build it from.
pub(super) struct Subject {
    pub(super) plugin: Box<dyn Plugin>,
    pub(super) kind: Kind,
    pub(super) toml: String,
}

impl Subject {
    pub(super) fn new(plugin: Box<dyn Plugin>, kind: Kind, toml: &str) -> Self {
        Self { plugin, kind, toml: toml.to_owned() }
    }

    pub(super) fn build(&self) -> Result<Stage, String> {
        self.build_from(&self.toml)?.map_err(|faults| format!("the table does not build: {}", listed(&faults)))
    }

    /// The stage of a text, or its faults; an error when the text is no table.
    fn build_from(&self, text: &str) -> Result<Result<Stage, Vec<PlanError>>, String> {
        let mut table = table(text, self.kind)?;
        if let Some(named) = take_text(&mut table, "type") {
            let named = named.map_err(|fault| fault.message)?;
            let name = self.plugin.describe().type_name;
            ensure(*named == name, || format!("the table is of the type {:?}, the plugin of {name:?}", *named))?;
        }
        Ok(self.plugin.build(&table, &BuildContext { pipeline: "kit".to_owned() }))
    }

    pub(super) fn check(&self, report: &mut Report) {
        let said = self.plugin.describe();
        report.plugin = said.type_name.to_owned();
        report.case(Promise::Describe, || "describe".to_owned(), || self.describes());
        let sample = expanded(said.sample);
        report.case(
            Promise::Describe,
            || "the sample".to_owned(),
            || {
                let stage = self.build_from(&sample)?.map_err(|faults| format!("it does not build: {}", listed(&faults)))?;
                ensure(stage.kind() == self.kind, || format!("it builds a {}", stage.kind()))
            },
        );
        let built = report.case(Promise::Describe, || "the table of the test".to_owned(), || self.build().map(drop));
        if !built {
            return;
        }
        self.faults(report, &(said.config)().to_value());
    }

    fn describes(&self) -> Result<(), String> {
        let (said, again) = (self.plugin.describe(), self.plugin.describe());
        let name = said.type_name;
        ensure(said.kind == self.kind, || format!("it is a {}", said.kind))?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        ensure(name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain), || {
            format!("the type name {name:?} is not made of small letters, digits and `_`")
        })?;
        ensure(!said.summary.trim().is_empty() && !said.summary.contains('\n'), || format!("the summary is not one line: {:?}", said.summary))?;
        let config = (said.config)().to_value();
        ensure(again.type_name == name && (again.config)().to_value() == config, || "it describes itself otherwise the second time".to_owned())?;
        match undescribed(&config, &config, "", 0) {
            Some(option) => Err(format!("the option `{option}` has no description: write a doc comment at its field")),
            None => Ok(()),
        }
    }

    fn faults(&self, report: &mut Report, config: &Value) {
        let at = beginning(&self.toml, self.kind);
        let put = |line: &str| (format!("{}{line}\n{}", &self.toml[..at], &self.toml[at..]), at);
        report.case(
            Promise::Faults,
            || "an unknown key".to_owned(),
            || {
                let (text, at) = put(&format!("{UNKNOWN} = 1"));
                self.faulty(&text, at..at + UNKNOWN.len())
            },
        );
        let all = config.get("properties").and_then(Value::as_object);
        for (name, _) in all.into_iter().flatten().filter(|(_, schema)| is_typed(schema)) {
            let (text, place) = match place_of(&self.toml, self.kind, name) {
                Some(Some(value)) => {
                    (format!("{}{WRONG}{}", &self.toml[..value.start], &self.toml[value.end..]), value.start..value.start + WRONG.len())
                }
                Some(None) => continue,
                None => {
                    let (text, at) = put(&format!("{name} = {WRONG}"));
                    let at = at + name.len() + " = ".len();
                    (text, at..at + WRONG.len())
                }
            };
            report.case(Promise::Faults, || format!("`{name}` of another type"), || self.faulty(&text, place));
        }
    }

    /// Is there a fault at `place`?
    fn faulty(&self, text: &str, place: Range<usize>) -> Result<(), String> {
        let Err(faults) = self.build_from(text)? else { return Err("it builds all the same".to_owned()) };
        let there =
            |fault: &PlanError| fault.span.as_ref().is_some_and(|span| place.start <= span.start && span.end <= place.end && !span.is_empty());
        ensure(faults.iter().any(there), || {
            format!("no fault points at `{}` ({place:?}): {}", text.get(place.clone()).unwrap_or_default(), listed(&faults))
        })?;
        match faults.iter().find(|fault| fault.message.trim().is_empty() || fault.message.contains('\n')) {
            Some(fault) => Err(format!("a fault is not one line: {:?}", fault.message)),
            None => Ok(()),
        }
    }
}

fn listed(faults: &[PlanError]) -> String {
    let all: Vec<_> = faults.iter().map(|fault| format!("{fault} at {:?}", fault.span)).collect();
    if all.is_empty() { "no fault is told".to_owned() } else { all.join("; ") }
}

/// What the table of this kind is called in a pipeline file.
fn header(kind: Kind) -> &'static str {
    if kind == Kind::Transform { "transforms" } else { kind.name() }
}

/// The table that a text holds: the text itself, or what stands under the kind's header.
fn table_of(text: &str, kind: Kind) -> Result<toml::Spanned<DeTable<'_>>, String> {
    let root = DeTable::parse(text).map_err(|error| format!("this is not TOML: {}", error.message()))?;
    let span = root.span();
    let mut root = root.into_inner();
    let Some((key, value)) = root.remove_entry(header(kind)) else { return Ok(toml::Spanned::new(span, root)) };
    let place = value.span();
    match value.into_inner() {
        DeValue::Table(inner) => Ok(toml::Spanned::new(place, inner)),
        DeValue::Array(tables) if tables.iter().all(|one| one.get_ref().is_table()) => match tables.into_iter().next().map(toml::Spanned::into_inner)
        {
            Some(DeValue::Table(inner)) => Ok(toml::Spanned::new(place, inner)),
            _ => Ok(toml::Spanned::new(span, root)),
        },
        // An option that is called like the kind.
        other => {
            root.insert(key, toml::Spanned::new(place, other));
            Ok(toml::Spanned::new(span, root))
        }
    }
}

fn table(text: &str, kind: Kind) -> Result<ConfigTable<'_>, String> {
    Ok(ConfigTable::new(table_of(text, kind)?, Expansions::default()))
}

/// Where the value of a key stands: `None` when there is none, `Some(None)` when it is spread over the text.
fn place_of(text: &str, kind: Kind, key: &str) -> Option<Option<Range<usize>>> {
    let table = table_of(text, kind).ok()?.into_inner();
    let value = table.get(key)?;
    let span = value.span();
    let inline = !value.get_ref().is_table() || text.get(span.clone()).is_some_and(|text| text.starts_with('{'));
    Some(inline.then_some(span))
}

/// Where the first key of the table may stand.
fn beginning(text: &str, kind: Kind) -> usize {
    let header = header(kind);
    let headers = [format!("[{header}]"), format!("[[{header}]]")];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if headers.iter().any(|header| line.trim_start().starts_with(header)) {
            return at;
        }
    }
    0
}

/// A sample with the defaults of its `${NAME:-default}` forms.
fn expanded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((form, tail)) = after.split_once('}') else { break };
        out.push_str(form.split_once(":-").map_or("x", |(_, default)| default));
        rest = tail;
    }
    out + rest
}

fn behind<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    schema.get("$ref").and_then(Value::as_str).and_then(|to| root.pointer(to.trim_start_matches('#'))).unwrap_or(schema)
}

/// Does the schema refuse anything at all?
fn is_typed(schema: &Value) -> bool {
    ["type", "$ref", "anyOf", "allOf", "oneOf", "enum", "const"].iter().any(|word| schema.get(word).is_some())
}

/// The first option without a description.
fn undescribed(root: &Value, schema: &Value, path: &str, depth: usize) -> Option<String> {
    if depth > 8 {
        return None;
    }
    let inner = behind(root, schema);
    let own = inner.get("properties").and_then(Value::as_object).into_iter().flatten().find_map(|(name, field)| {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let told = |schema: &Value| schema.get("description").and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
        if told(field) || told(behind(root, field)) { undescribed(root, field, &path, depth + 1) } else { Some(path) }
    });
    let within = ["anyOf", "allOf", "oneOf"].into_iter().filter_map(|word| inner.get(word)?.as_array()).flatten();
    own.or_else(|| within.chain(inner.get("items")).find_map(|one| undescribed(root, one, path, depth + 1)))
}
