//! From a table of a pipeline file to a stage's typed config, every span kept and every fault reported.

mod expansion;
mod parse;
mod place;
mod schema;
#[cfg(test)]
mod tests;
mod types;

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

pub use expansion::{Expansion, Expansions};
pub use parse::{parse_config, parse_partial};
pub use types::{HumanDuration, Secret, Spanned};

use crate::PlanError;

/// A table of a pipeline file as the parser saw it: every key and value knows its byte range in the file, and every text whether it came
/// from the environment.
#[derive(Clone)]
pub struct ConfigTable<'a> {
    table: DeTable<'a>,
    span: Range<usize>,
    expansions: Expansions,
}

impl<'a> ConfigTable<'a> {
    /// A parsed table, with what became of the `${NAME}` forms of its file.
    pub fn new(table: toml::Spanned<DeTable<'a>>, expansions: Expansions) -> Self {
        let span = table.span();
        Self { table: table.into_inner(), span, expansions }
    }

    /// Where it stands in the file: its header, or its braces.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Its keys, each with its byte range, in the order of the file.
    pub fn keys(&self) -> Vec<Spanned<String>> {
        let mut keys: Vec<_> = self.table.keys().map(|key| Spanned::new(key.get_ref().to_string(), key.span())).collect();
        keys.sort_by_key(|key| key.span().start);
        keys
    }

    /// Does it have this key?
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The keys of the table at `key`, if it is one: also of entries that cannot be typed.
    pub fn names_in(&self, key: &str) -> Vec<String> {
        let inner = self.table.get(key).and_then(|value| value.get_ref().as_table());
        inner.into_iter().flat_map(|table| table.keys()).map(|name| name.get_ref().to_string()).collect()
    }

    /// Where the text for which `is` holds stands, the first in the order of the file; texts in lists and inner tables are not looked at.
    pub fn find_text(&self, is: impl Fn(&str) -> bool) -> Option<Range<usize>> {
        let found = self.table.iter().filter(|(_, value)| value.get_ref().as_str().is_some_and(&is));
        found.map(|(_, value)| value.span()).min_by_key(|span| span.start)
    }

    /// Moves some keys into a table of their own: those that somebody else than the plugin reads.
    #[must_use]
    pub fn split_off(&mut self, names: &[&str]) -> Self {
        let mut taken = DeTable::new();
        for name in names {
            if let Some((key, value)) = self.table.remove_entry(*name) {
                taken.insert(key, value);
            }
        }
        Self { table: taken, span: self.span(), expansions: self.expansions.clone() }
    }

    /// What became of the `${NAME}` forms of its file.
    pub fn expansions(&self) -> &Expansions {
        &self.expansions
    }
}

/// The keys alone: a value may be a secret of the environment.
impl fmt::Debug for ConfigTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.table.keys().map(toml::Spanned::get_ref)).finish()
    }
}

/// The one of `known` that `name` is a slip of the hand away from.
pub fn slip<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let most = name.chars().count().max(3) / 3;
    let near = known.into_iter().map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate));
    near.filter(|(distance, _)| *distance <= most).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// The nearest of `known` to `name`, when one is near enough to be a slip of the hand, or is meant by a longer or shorter word.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let length = name.chars().count();
    let (slips, words): (Vec<_>, Vec<_>) = known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .partition(|(distance, _)| *distance <= length.max(3) / 3);
    let closest = |all: Vec<(usize, &'a str)>| all.into_iter().min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate);
    let longer = |word: &str| word.len() >= 3 && name.starts_with(word);
    let shorter = |word: &str| length >= 3 && length * 2 + 1 >= word.chars().count() && word.starts_with(&name);
    closest(slips).or_else(|| closest(words.into_iter().filter(|(_, word)| longer(&word.to_lowercase()) || shorter(&word.to_lowercase())).collect()))
}

/// Names as a message lists them: `` `a`, `b` and 7 more ``.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 | 1 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

/// E010 for a key that nobody knows.
pub fn unknown_key(what: &str, key: &str, span: Range<usize>, known: &[&str]) -> PlanError {
    let error = PlanError::new("E010", format!("{what} has no key `{key}`")).at(span);
    match nearest(key, known.iter().copied()) {
        Some(name) => error.meant(format_args!("`{name}`"), name),
        None if known.is_empty() => error.help("it has no keys at all"),
        None => error.help(format!("its keys are {}", known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))),
    }
}

/// E010 for a key that nobody knows, in a table that has the keys `present`: one that is there already is not offered in its stead.
pub fn unknown_key_beside(what: &str, key: &str, span: Range<usize>, known: &[&str], present: impl Fn(&str) -> bool) -> PlanError {
    let free: Vec<&str> = known.iter().copied().filter(|name| !present(name)).collect();
    if nearest(key, free.iter().copied()).is_some() {
        return unknown_key(what, key, span, &free);
    }
    let mut fault = unknown_key(what, key, span, known);
    if let Some(name) = nearest(key, known.iter().copied()) {
        fault.suggestion = None;
        fault = fault.help(format!("`{name}` is there already: take one of the two away"));
    }
    fault
}

/// A table from TOML text: for tests and samples.
///
/// # Errors
/// E001 when the text is not TOML.
pub fn table_from_str(text: &str) -> Result<ConfigTable<'_>, Vec<PlanError>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        Ok(ConfigTable::new(table, Expansions::default()))
    } else {
        Err(errors.into_iter().map(|error| PlanError::new("E001", error.message().to_owned()).at(error.span().unwrap_or(0..0))).collect())
    }
}

/// Takes the text value of `key` out of a table, with its span.
pub fn take_text(table: &mut ConfigTable<'_>, key: &str) -> Option<Result<Spanned<String>, PlanError>> {
    let value = table.table.remove(key)?;
    let span = value.span();
    Some(match value.into_inner() {
        DeValue::String(text) => Ok(Spanned::new(text.into_owned(), span)),
        other => Err(PlanError::new("E012", format!("`{key}`: expected text, found {}", place::found(&other))).at(span)),
    })
}
