//! Typing a table, all its faults at once.

use std::collections::BTreeSet;
use std::ops::Range;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::place::{self, Path, found};
use super::schema::{View, Walk, any_of, untexted};
use super::{ConfigTable, nearest, unknown_key_beside};
use crate::PlanError;

/// Types a table as `T`, reporting every unknown key, every missing key and every wrong value, each where it stands.
///
/// `T` derives `Deserialize` and `JsonSchema`; the schema tells which keys exist, which are required, and (with
/// `#[schemars(range(min = 1, max = 64))]` or `length(min = 1)`) which values are in range. `what` names the table in messages, as
/// `source "coingecko_ohlc"`.
///
/// A text that is one `${NAME}` form and nothing else may stand for a number or a boolean. What came from the environment is not shown in
/// any message.
///
/// # Errors
/// All faults of the table: E010 unknown key, E011 missing key, E012 wrong type or value.
pub fn parse_config<T: DeserializeOwned + JsonSchema>(what: &str, table: &ConfigTable<'_>) -> Result<T, Vec<PlanError>> {
    let (typed, faults, whole) = parse(what, table);
    match typed {
        Some(config) if whole => Ok(config),
        // A text whose `${NAME}` is not set is reported by who replaces them: then there is no fault, but no config either.
        _ => Err(faults),
    }
}

/// As [`parse_config`], but with a config in spite of faults, where it can do without the faulty entries: for further checks, so that
/// their faults come in one go with these.
pub fn parse_partial<T: DeserializeOwned + JsonSchema>(what: &str, table: &ConfigTable<'_>) -> (Option<T>, Vec<PlanError>) {
    let (typed, faults, _) = parse(what, table);
    (typed, faults)
}

/// What could be typed, the faults, and whether nothing was left out.
fn parse<T: DeserializeOwned + JsonSchema>(what: &str, table: &ConfigTable<'_>) -> (Option<T>, Vec<PlanError>, bool) {
    let schema = schemars::schema_for!(T).to_value();
    let mut rest: DeTable<'_> = table.table.clone();
    let mut walk = Walk { view: View::new(&schema), what, expansions: &table.expansions, faults: Vec::new(), gone: BTreeSet::new() };
    walk.table(&mut rest, &table.span, &schema, &Path::default());
    let mut typing = Typing { walk, table };
    let typed = typing.run(rest);
    let mut faults = typing.walk.faults;
    let whole = faults.is_empty();
    faults.sort_by_key(|fault| fault.span.as_ref().map(|span| span.start));
    table.expansions.hide(&mut faults);
    (typed, faults, whole)
}

struct Typing<'s, 'a> {
    walk: Walk<'s>,
    table: &'s ConfigTable<'a>,
}

impl<'s> Typing<'s, '_> {
    /// Serde stops at its first fault: note it, take the faulty entry out and look for the next.
    fn run<T: DeserializeOwned>(&mut self, mut rest: DeTable<'s>) -> Option<T> {
        loop {
            let root = toml::Spanned::new(self.table.span(), rest.clone());
            let error = match T::deserialize(toml::Deserializer::from(root)) {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let span = error.span().unwrap_or_else(|| self.table.span());
            let culprit = place::locate(&rest, &span).map(|place| (place.path, self.number(place.value, &span)));
            match culprit {
                Some((path, Some(number))) => replace(&mut rest, &path, number),
                Some((path, None)) => {
                    // Entries that were taken out have shifted the places in `rest`: names come from the table as it was.
                    let named = place::locate(&self.table.table, &span).map_or_else(|| path.clone(), |place| place.path);
                    let value = place::locate(&rest, &span).map(|place| place.value.clone());
                    self.note(&error, &span, &named, value.as_ref());
                    // A misspelt key is missing under neither of its names.
                    self.walk.gone.extend([named, path.clone()]);
                    place::remove(&mut rest, &path);
                }
                None => {
                    self.note(&error, &span, &Path::default(), None);
                    return None;
                }
            }
        }
    }

    /// The number or boolean that a text of the environment stands for, if it is one.
    fn number(&self, value: &DeValue<'_>, span: &Range<usize>) -> Option<DeValue<'s>> {
        if value.is_str() { untexted(self.walk.expansions, span) } else { None }
    }

    fn note(&mut self, error: &toml::de::Error, span: &Range<usize>, path: &Path, value: Option<&DeValue<'_>>) {
        let message = error.message();
        let name = ticked(message);
        let fault = if message.starts_with("missing field") {
            if self.walk.gone.contains(&path.key(name)) {
                return;
            }
            let message = format!("{} needs the key `{name}`", self.walk.name(path));
            PlanError::new("E011", message).help(self.walk.view.describe(path, name))
        } else if message.starts_with("unknown field") {
            let known: Vec<_> = message.split('`').skip(3).step_by(2).collect();
            // A visitor written by hand is told of at its whole table: the key is in there.
            let table = value.and_then(DeValue::as_table);
            let key = table.and_then(|table| table.keys().find(|key| key.get_ref() == name));
            let (what, place) = match key {
                Some(key) => (self.walk.name(path), key.span()),
                None => (self.walk.name(&path.parent()), span.clone()),
            };
            let present = |name: &str| table.is_some_and(|table| table.contains_key(name));
            self.walk.faults.push(unknown_key_beside(&what, name, place, &known, present));
            return;
        } else if self.walk.gone.iter().any(|gone| !path.is_root() && gone.parent() == *path) {
            // It lacks what was taken out of it.
            return;
        } else {
            self.wrong_value(message, span, path, value)
        };
        self.walk.faults.push(fault.at(span.clone()));
    }

    /// How to write a value that is right but for its form: a number in quotes, one entry of a list without brackets.
    fn otherwise_written(&self, fault: PlanError, span: &Range<usize>, path: &Path, value: &DeValue<'_>) -> PlanError {
        let kinds = self.walk.view.kinds(path);
        let plain = |text: &str| !text.is_empty() && span.len() == text.len() + 2;
        match value {
            DeValue::String(text) if kinds == ["array"] && plain(text) => {
                fault.help("a list stands in brackets").suggest(span.clone(), format!("[\"{text}\"]"))
            }
            DeValue::String(text) if kinds == ["boolean"] && ["yes", "on", "no", "off"].contains(&text.to_lowercase().as_str()) => {
                let meant = if ["yes", "on"].contains(&text.to_lowercase().as_str()) { "true" } else { "false" };
                fault.meant(format_args!("`{meant}`"), meant)
            }
            DeValue::String(text) if plain(text) && !kinds.is_empty() => {
                let meant = DeValue::parse(text).ok().map(toml::Spanned::into_inner);
                let fits = match meant {
                    Some(DeValue::Integer(_)) => kinds.contains(&"integer") || kinds.contains(&"number"),
                    Some(DeValue::Float(_)) => kinds.contains(&"number"),
                    Some(DeValue::Boolean(_)) => kinds.contains(&"boolean"),
                    _ => false,
                };
                if fits { fault.help("write it without quotes").suggest(span.clone(), text.as_ref()) } else { fault }
            }
            DeValue::Table(_) if kinds == ["array"] => match self.walk.what.strip_prefix('[').and_then(|what| what.strip_suffix(']')) {
                Some(table) if !table.starts_with('[') => fault.help(format!("each has a header of its own: write `[[{table}.{path}]]`")),
                _ => fault,
            },
            _ => fault,
        }
    }

    fn wrong_value(&self, message: &str, span: &Range<usize>, path: &Path, value: Option<&DeValue<'_>>) -> PlanError {
        let say = |text: String| {
            let place = if path.is_root() { self.walk.what.to_owned() } else { format!("`{path}`") };
            PlanError::new("E012", format!("{place}: {text}"))
        };
        let variants = match self.walk.view.variants(path) {
            names if names.is_empty() && message.starts_with("unknown variant") => message.split('`').skip(3).step_by(2).collect(),
            names => names,
        };
        let wanted = if variants.is_empty() {
            let words = message.split_once(", expected ").map(|(_, words)| in_words(words));
            // The schema knows the range of a number, serde the words of a type that is written as text.
            match self.walk.view.expected(path) {
                Some(told) if words.as_ref().is_none_or(|words| told.starts_with(words.as_str())) => Some(told),
                told => words.or(told),
            }
        } else {
            Some(any_of(&variants))
        };
        if let Some(one) = self.walk.expansions.at(span).filter(|one| !one.hidden.is_empty()) {
            // Whatever was said may quote the value, or a part of it.
            return match wanted {
                Some(wanted) => say(format!("the value of \"{}\" is not {wanted}", one.written)),
                None => say(format!("the value of \"{}\" is refused here", one.written)),
            };
        }
        let typed = ["invalid type", "invalid value", "unknown variant", "wanted string or table", "invalid length", "data did not match"];
        match (wanted, value) {
            (Some(wanted), Some(value)) if typed.iter().any(|start| message.starts_with(start)) => {
                let fault = say(format!("expected {wanted}, found {}", found(value)));
                match value.as_str().and_then(|text| nearest(text, variants.iter().copied())) {
                    Some(name) => fault.at(span.clone()).meant(format_args!("\"{name}\""), format!("\"{name}\"")),
                    None => self.otherwise_written(fault.at(span.clone()), span, path, value),
                }
            }
            _ => match message.split_once("; ") {
                Some((what, help)) => match help.strip_prefix("did you mean ").and_then(|meant| meant.strip_suffix('?')) {
                    Some(meant) if !meant.contains('\\') => say(what.to_owned()).at(span.clone()).meant(meant, meant),
                    _ => say(what.to_owned()).help(help),
                },
                None => say(message.to_owned()),
            },
        }
    }
}

/// The first name in backticks.
fn ticked(message: &str) -> &str {
    message.split('`').nth(1).unwrap_or_default()
}

/// What serde expects, in words for people who do not write Rust.
fn in_words(expected: &str) -> String {
    match expected {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a string" | "a borrowed string" | "string or table" => "text".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "a table".into(),
        other if other.starts_with("a nonzero") => "a whole number other than 0".into(),
        other if other.contains("tagged enum ") || other.starts_with("struct ") || other.starts_with("map") => "a table".into(),
        other => other.to_owned(),
    }
}

fn replace<'s>(table: &mut DeTable<'s>, path: &Path, with: DeValue<'s>) {
    use place::Step;
    let Some((Step::Key(first), rest)) = path.0.split_first() else { return };
    let mut at = table.get_mut(first.as_str());
    for step in rest {
        at = at.and_then(|value| match (value.get_mut(), step) {
            (DeValue::Table(table), Step::Key(key)) => table.get_mut(key.as_str()),
            (DeValue::Array(items), Step::Index(index)) => items.get_mut(*index),
            _ => None,
        });
    }
    if let Some(value) = at {
        *value.get_mut() = with;
    }
}
