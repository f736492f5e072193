//! Files that are not TOML all over: what to say of their syntax, and what not to say because of it.

use std::collections::BTreeSet;
use std::ops::Range;

use pipeline_contract::{Level, PlanError};

/// Where a file is not TOML. What the parser could not read is missing, and what it guessed may be wrong: neither is the user's fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Broken {
    /// Where the lines begin.
    starts: Vec<usize>,
    /// The lines that could not be read, from 0.
    lines: BTreeSet<usize>,
    /// The lines of headers below which such a line stands.
    headers: BTreeSet<usize>,
    /// From a header to the next, where such a line stands between them.
    regions: Vec<Range<usize>>,
}

impl Broken {
    /// `places` are the bytes at which the parser stumbled.
    pub(super) fn new(text: &str, places: &[usize]) -> Self {
        if places.is_empty() {
            return Self::default();
        }
        let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut broken = Self { starts, ..Self::default() };
        broken.lines = places.iter().map(|at| broken.line(*at)).collect();
        let headers: Vec<usize> = text.split('\n').enumerate().filter(|(_, line)| line.trim_start().starts_with('[')).map(|(n, _)| n).collect();
        for line in &broken.lines {
            let Some(header) = headers.iter().rev().find(|header| *header <= line) else { continue };
            let next = headers.iter().find(|header| *header > line);
            let start = |line: usize| broken.starts.get(line).copied().unwrap_or(text.len());
            broken.headers.insert(*header);
            broken.regions.push(start(*header)..next.map_or(text.len(), |next| start(*next)));
        }
        broken
    }

    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Does a table, told by its header, lack what could not be read?
    pub(super) fn touches(&self, header: &Range<usize>) -> bool {
        self.regions.iter().any(|region| region.contains(&header.start))
    }

    /// Drops what may follow from the syntax.
    pub(super) fn hide(&self, faults: &mut Vec<PlanError>) {
        if self.is_empty() {
            return;
        }
        faults.retain(|fault| {
            let line = fault.span.as_ref().map(|span| self.line(span.start));
            let follows = line.is_some_and(|line| self.lines.contains(&line) || self.headers.contains(&line));
            fault.code != "E011" && fault.level == Level::Error && !follows
        });
    }
}

/// E001, in words for people who did not write the parser; of several on one line the first, which the others follow from.
pub(super) fn syntax_faults(text: &str, errors: &[toml::de::Error]) -> Vec<PlanError> {
    let line = |fault: &PlanError| fault.span.as_ref().map(|span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
    let mut faults: Vec<PlanError> = errors.iter().map(|error| syntax_fault(text, error)).collect();
    faults.sort_by_key(|fault| fault.span.as_ref().map(|span| span.start));
    faults.dedup_by_key(|fault| line(fault));
    faults
}

fn syntax_fault(text: &str, error: &toml::de::Error) -> PlanError {
    let span = error.span().unwrap_or(0..0);
    let fault = |message: &str| PlanError::new("E001", message).at(span.clone());
    let covered = text.get(span.clone()).unwrap_or_default();
    match error.message() {
        message if message.starts_with("string values must be quoted") && covered.is_empty() => fault("a value is missing"),
        message if message.starts_with("string values must be quoted") => {
            let quoted = format!("\"{}\"", covered.trim().escape_debug());
            fault("text stands in quotes").help(format!("write {quoted}")).suggest(span.clone(), quoted)
        }
        message if message.starts_with("duplicate key") => fault(&format!("`{}` stands twice", covered.trim())),
        message => fault(message),
    }
}
