//! What the JSON Schema of a config struct tells of its tables: which keys exist, which are required, which numbers are in range.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;
use toml::de::{DeInteger, DeTable, DeValue};

use super::expansion::Expansions;
use super::place::{Path, Step, found};
use super::{nearest, slip, unknown_key_beside};
use crate::PlanError;

/// A schema and the definitions that it refers to.
#[derive(Clone, Copy)]
pub(super) struct View<'s> {
    root: &'s Value,
}

impl<'s> View<'s> {
    pub(super) fn new(root: &'s Value) -> Self {
        Self { root }
    }

    /// The schema behind references and `Option`.
    fn resolve(self, schema: &'s Value) -> &'s Value {
        let mut schema = schema;
        // A reference may go round in circles only in a broken schema: the steps are bounded.
        for _ in 0..16 {
            let reference = schema.get("$ref").and_then(Value::as_str).and_then(|to| self.root.pointer(to.trim_start_matches('#')));
            let only = ["anyOf", "allOf"].into_iter().find_map(|word| {
                let mut some = schema.get(word)?.as_array()?.iter().filter(|one| one.get("type").and_then(Value::as_str) != Some("null"));
                some.next().filter(|_| some.next().is_none())
            });
            match reference.or(only) {
                Some(next) => schema = next,
                None => break,
            }
        }
        schema
    }

    /// The schema of what is at `path`, as far as it is told; the second has the words that stand at the field itself.
    pub(super) fn at(self, path: &Path) -> Option<(&'s Value, &'s Value)> {
        let mut field = self.root;
        for step in &path.0 {
            let schema = self.resolve(field);
            field = match step {
                Step::Key(key) => property(schema, key)?,
                Step::Index(_) => schema.get("items")?,
            };
        }
        Some((self.resolve(field), field))
    }

    /// What is expected at `path`, in words.
    pub(super) fn expected(self, path: &Path) -> Option<String> {
        let (schema, _) = self.at(path)?;
        expected(schema)
    }

    /// The JSON types that are taken at `path`.
    pub(super) fn kinds(self, path: &Path) -> Vec<&'s str> {
        self.at(path).map(|(schema, _)| types(schema)).unwrap_or_default()
    }

    /// The texts that an enum takes at `path`.
    pub(super) fn variants(self, path: &Path) -> Vec<&'s str> {
        self.at(path).map(|(schema, _)| variants(schema)).unwrap_or_default()
    }

    /// What the documentation says of the key at `path`.
    pub(super) fn describe(self, path: &Path, name: &str) -> String {
        let described = self.at(&path.key(name)).and_then(|(schema, field)| field.get("description").or_else(|| schema.get("description")));
        match described.and_then(Value::as_str) {
            Some(text) => {
                // The first sentence, whose lines are those of a doc comment.
                let words = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
                let end = words.find(". ").map_or(words.len(), |end| end + 1);
                format!("`{name}`: {}", &words[..end])
            }
            None => format!("add `{name} = ...`"),
        }
    }
}

fn property<'s>(schema: &'s Value, key: &str) -> Option<&'s Value> {
    schema.get("properties").and_then(|all| all.get(key)).or_else(|| schema.get("additionalProperties").filter(|rest| rest.is_object()))
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        _ => Vec::new(),
    }
}

fn variants(schema: &Value) -> Vec<&str> {
    if let Some(all) = schema.get("enum").and_then(Value::as_array) {
        return all.iter().filter_map(Value::as_str).collect();
    }
    let all: Vec<_> = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten().collect();
    let names: Vec<_> =
        all.iter().flat_map(|one| one.get("const").and_then(Value::as_str).map_or_else(|| variants(one), |name| vec![name])).collect();
    if all.iter().all(|one| one.get("const").is_some() || one.get("enum").is_some()) { names } else { Vec::new() }
}

/// `"a", "b" or "c"`.
pub(super) fn any_of(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn expected(schema: &Value) -> Option<String> {
    let names = variants(schema);
    if !names.is_empty() {
        return Some(any_of(&names));
    }
    // A type that is read by hand says itself what it wants; its description is the field's where that has one.
    if let Some(words) = schema.get("x-expected").and_then(Value::as_str) {
        return Some(words.to_owned());
    }
    match types(schema)[..] {
        ["integer"] => Some(format!("a whole number{}", range(schema))),
        ["number"] => Some(format!("a number{}", range(schema))),
        ["boolean"] => Some("true or false".into()),
        ["array"] => Some(match count(schema, "minItems") {
            Some(n) if count(schema, "maxItems") == Some(n) => format!("a list of {n}"),
            Some(1) => "a list that is not empty".into(),
            Some(n) if n > 1 => format!("a list of {n} or more"),
            _ => "a list".into(),
        }),
        ["object"] => Some("a table".into()),
        ["string"] => Some(if count(schema, "minLength").is_some_and(|n| n > 0) { "text that is not empty".into() } else { "text".into() }),
        [] if schema.get("anyOf").is_some() => {
            let each: Vec<_> = schema.get("anyOf")?.as_array()?.iter().filter_map(expected).collect();
            (!each.is_empty()).then(|| each.join(" or "))
        }
        _ => None,
    }
}

fn range(schema: &Value) -> String {
    let [least, most, above] = ["minimum", "maximum", "exclusiveMinimum"].map(|word| schema.get(word).filter(|limit| limit.is_number()));
    match (least, most, above) {
        (Some(least), Some(most), _) => format!(" from {least} to {most}"),
        (None, Some(most), None) => format!(" of {most} or less"),
        (Some(least), None, _) => format!(" of {least} or more"),
        (None, Some(most), Some(above)) => format!(" above {above}, up to {most}"),
        (None, None, Some(above)) => format!(" above {above}"),
        (None, None, None) => String::new(),
    }
}

fn count(schema: &Value, word: &str) -> Option<u64> {
    schema.get(word).and_then(Value::as_u64)
}

fn integer(number: &DeInteger<'_>) -> Option<f64> {
    i128::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n as f64)
}

/// Is a value of the right type out of the bounds that the schema sets?
fn out_of_range(value: &DeValue<'_>, schema: &Value) -> bool {
    let limit = |word| schema.get(word).and_then(Value::as_f64);
    let outside = |n: f64| {
        limit("minimum").is_some_and(|least| n < least)
            || limit("maximum").is_some_and(|most| n > most)
            || limit("exclusiveMinimum").is_some_and(|above| n <= above)
    };
    let kinds = types(schema);
    match value {
        DeValue::Integer(number) if kinds.contains(&"integer") || kinds.contains(&"number") => integer(number).is_some_and(outside),
        // NaN is in no range, if there is one.
        DeValue::Float(number) if kinds.contains(&"number") => {
            number.as_str().parse().is_ok_and(|n: f64| outside(n) || n.is_nan() && !range(schema).is_empty())
        }
        DeValue::Array(items) if kinds.contains(&"array") => count(schema, "minItems").is_some_and(|least| (items.len() as u64) < least),
        DeValue::String(text) if kinds.contains(&"string") => count(schema, "minLength").is_some_and(|least| (text.chars().count() as u64) < least),
        _ => false,
    }
}

/// What a text of the environment stands for where the schema wants no text: `"${TOP:-3}"` may be a number.
pub(super) fn untexted<'s>(expansions: &'s Expansions, span: &Range<usize>) -> Option<DeValue<'s>> {
    let one = expansions.at(span).filter(|one| one.whole && !one.faulty)?;
    let value = DeValue::parse(one.value.trim()).ok()?.into_inner();
    matches!(value, DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)).then_some(value)
}

/// One walk over a table along its schema: reports unknown keys, missing keys and numbers out of range, and takes the faulty entries out,
/// so that typing what remains finds other faults.
pub(super) struct Walk<'s> {
    pub(super) view: View<'s>,
    pub(super) what: &'s str,
    pub(super) expansions: &'s Expansions,
    pub(super) faults: Vec<PlanError>,
    /// What is missing for a reason that is reported.
    pub(super) gone: BTreeSet<Path>,
}

impl<'s> Walk<'s> {
    /// How messages name the table at `path`.
    pub(super) fn name(&self, path: &Path) -> String {
        if path.is_root() { self.what.to_owned() } else { format!("`{path}` in {}", self.what) }
    }

    pub(super) fn table(&mut self, table: &mut DeTable<'s>, span: &Range<usize>, schema: &'s Value, path: &Path) {
        let schema = self.view.resolve(schema);
        let rest = schema.get("additionalProperties");
        let open = rest.is_some_and(|rest| rest.is_object() || rest == &Value::Bool(true))
            || ["oneOf", "anyOf", "allOf"].iter().any(|word| schema.get(word).is_some());
        let closed = rest == Some(&Value::Bool(false)) || path.is_root();
        if !open && closed {
            self.unknown_keys(table, schema, path);
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(name) {
                let message = format!("{} needs the key `{name}`", self.name(path));
                self.faults.push(PlanError::new("E011", message).at(span.clone()).help(self.view.describe(path, name)));
                self.gone.insert(path.key(name));
            }
        }
        let mut faulty = Vec::new();
        for (key, value) in table.iter_mut() {
            let path = path.key(key.get_ref());
            if let Some(field) = property(schema, key.get_ref())
                && self.value(value, field, &path)
            {
                faulty.push(path);
            }
        }
        for path in faulty {
            if let Some(Step::Key(key)) = path.0.last() {
                table.remove(key.as_str());
            }
            self.gone.insert(path);
        }
    }

    fn unknown_keys(&mut self, table: &mut DeTable<'_>, schema: &Value, path: &Path) {
        let known: Vec<&str> =
            schema.get("properties").and_then(Value::as_object).map(|all| all.keys().map(String::as_str).collect()).unwrap_or_default();
        let mut unknown: Vec<_> = table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())).cloned().collect();
        unknown.sort_by_key(|key| key.span().start);
        for key in unknown {
            // What stands there already is not what was meant.
            let free: Vec<&str> = known.iter().copied().filter(|name| !table.contains_key(*name)).collect();
            let meant = slip(key.get_ref(), free.iter().copied()).filter(|name| nearest(key.get_ref(), free.iter().copied()) == Some(name));
            self.faults.push(unknown_key_beside(&self.name(path), key.get_ref(), key.span(), &known, |name| table.contains_key(name)));
            // Its value is looked at as that of the key that was meant, which is not missing then.
            if let (Some((key, value)), Some(meant)) = (table.remove_entry(key.get_ref().as_ref()), meant) {
                table.insert(toml::Spanned::new(key.span(), meant.to_owned().into()), value);
            }
        }
    }

    /// Is this value out of range, and reported as such?
    fn value(&mut self, value: &mut toml::Spanned<DeValue<'s>>, field: &'s Value, path: &Path) -> bool {
        let schema = self.view.resolve(field);
        let span = value.span();
        let kinds = types(schema);
        if value.get_ref().is_str()
            && !kinds.is_empty()
            && !kinds.contains(&"string")
            && let Some(other) = untexted(self.expansions, &span)
        {
            *value.get_mut() = other;
        }
        if out_of_range(value.get_ref(), schema) {
            let wanted = expected(schema).unwrap_or_else(|| format!("a value{}", range(schema)));
            let message = match self.expansions.at(&span).filter(|one| !one.hidden.is_empty()) {
                Some(one) => format!("`{path}`: the value of \"{}\" is not {wanted}", one.written),
                None if value.get_ref().is_array() => format!("`{path}`: expected {wanted}"),
                None => format!("`{path}`: expected {wanted}, found {}", found(value.get_ref())),
            };
            self.faults.push(PlanError::new("E012", message).at(span));
            return true;
        }
        match value.get_mut() {
            DeValue::Table(table) => self.table(table, &span, schema, path),
            DeValue::Array(items) => {
                if let Some(field) = schema.get("items") {
                    let mut faulty = BTreeSet::new();
                    for (n, item) in items.iter_mut().enumerate() {
                        if self.value(item, field, &path.join(Step::Index(n))) {
                            faulty.insert(n);
                            self.gone.insert(path.join(Step::Index(n)));
                        }
                    }
                    let all = std::mem::replace(items, toml::de::DeArray::new());
                    *items = all.into_iter().enumerate().filter(|(n, _)| !faulty.contains(n)).map(|(_, item)| item).collect();
                }
            }
            _ => {}
        }
        false
    }
}
