//! Faults of a pipeline file as people and as programs read them.
//!
//! [`render`] draws them in rustc's look, [`to_json`] gives one object each. Neither shows a key that stands in the file.

mod hide;
mod render;
pub(crate) mod stories;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;

use pipeline_contract::{Level, PlanError};
use serde::Serialize;

pub use render::render;

/// A file that faults point into.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path as the user gave it.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl SourceFile {
    /// A span made safe to slice with: inside the text, on character boundaries, not reversed.
    fn clamp(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start.min(self.text.len()));
        let end = self.text.ceil_char_boundary(span.end.min(self.text.len()));
        start..end.max(start)
    }

    /// The line and the column of a byte, both from 1; the column in characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(at.min(self.text.len()))];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.bytes().filter(|byte| *byte == b'\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// A place in a file, as programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The path of the file.
    pub file: String,
    /// The line where it starts, from 1; none when the file as a whole is meant, and so for all six.
    pub line: Option<usize>,
    /// The column where it starts, from 1, in characters.
    pub column: Option<usize>,
    /// The line where it ends.
    pub end_line: Option<usize>,
    /// The column after its last character.
    pub end_column: Option<usize>,
    /// Its first byte in the file, from 0.
    pub start: Option<usize>,
    /// The byte after its last.
    pub end: Option<usize>,
}

impl Place {
    fn new(file: &SourceFile, span: Option<&Range<usize>>) -> Self {
        let span = span.map(|span| file.clamp(span));
        let start = span.as_ref().map(|span| file.position(span.start));
        let end = span.as_ref().map(|span| file.position(span.end));
        Self {
            file: file.path.display().to_string(),
            line: start.map(|(line, _)| line),
            column: start.map(|(_, column)| column),
            end_line: end.map(|(line, _)| line),
            end_column: end.map(|(_, column)| column),
            start: span.as_ref().map(|span| span.start),
            end: span.map(|span| span.end),
        }
    }
}

/// An edit: what is at a place makes way for other text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// What to take away.
    #[serde(flatten)]
    pub place: Place,
    /// What to write there.
    pub replacement: String,
}

/// Another place that a fault is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RelatedPlace {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What is to be said there.
    pub label: String,
}

/// A fault and its place, as programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Its stable code, as `E010`.
    pub code: &'static str,
    /// `error` or `warning`.
    pub level: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What is to be said at the place itself.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// The edit that does it, where it is known.
    pub suggestion: Option<Edit>,
    /// Other places that it is about.
    pub related: Vec<RelatedPlace>,
}

impl Diagnostic {
    /// A fault of a file; `others` are the files that it may point into besides.
    pub fn new(file: &SourceFile, others: &[&SourceFile], error: &PlanError) -> Self {
        let related = |related: &pipeline_contract::Related| {
            let other = match &related.file {
                Some(path) => others.iter().find(|other| other.path == *path)?,
                None => file,
            };
            Some(RelatedPlace { place: Place::new(other, Some(&related.span)), label: related.label.clone() })
        };
        Self {
            code: error.code,
            level: level_name(error.level),
            message: error.message.clone(),
            place: Place::new(file, error.span.as_ref()),
            label: error.label.clone(),
            help: error.help.clone(),
            suggestion: error
                .suggestion
                .as_ref()
                .map(|edit| Edit { place: Place::new(file, Some(&edit.span)), replacement: edit.replacement.clone() }),
            related: error.related.iter().filter_map(related).collect(),
        }
    }
}

/// One JSON object for each fault, in the order of the file.
pub fn to_json(file: &SourceFile, others: &[&SourceFile], errors: &[PlanError]) -> Vec<serde_json::Value> {
    if errors.is_empty() {
        return Vec::new();
    }
    // Text, numbers and nothing else: it cannot fail.
    let hidden = hide::Hidden::of(&file.text);
    in_order(errors).into_iter().filter_map(|error| serde_json::to_value(Diagnostic::new(file, others, &hidden.fault(&error))).ok()).collect()
}

/// So many faults of a file are told. Nobody reads more, and to find the line of each takes a walk through the file.
const MOST: usize = 100;

/// Leaves out what nobody would read: a file of a megabyte can hold half a million faults. Errors stay before warnings do.
pub(crate) fn limit(errors: &mut Vec<PlanError>) {
    if errors.len() > MOST {
        errors.sort_by_key(|error| error.level == Level::Warning);
        // One more than is shown tells that there are more.
        errors.truncate(MOST + 1);
    }
}

/// As much of a message as people read: it may quote a value, and a value may be as long as the file.
fn cut(text: &mut String) {
    const LONGEST: usize = 2000;
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push_str("...");
    }
}

/// By place, those of the whole file first; at one place as they were found.
fn in_order(errors: &[PlanError]) -> Vec<PlanError> {
    let mut all = errors.to_vec();
    limit(&mut all);
    let more = all.len() > MOST;
    all.truncate(MOST);
    all.sort_by_key(|error| error.span.as_ref().map(|span| span.start));
    for error in &mut all {
        [Some(&mut error.message), error.label.as_mut(), error.help.as_mut()].into_iter().flatten().for_each(cut);
    }
    if more {
        let fault = PlanError::new("E001", format!("there are more faults than the {MOST} that are shown"));
        all.push(fault.help("mend these first"));
    }
    all
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
    }
}
