//! Rejects on their way from the stage that they failed at: as that stage made them, and as lines for the quarantine once that is all that
//! somebody wants of them.

mod json;
mod lines;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use pipeline_contract::Reject;

pub(crate) use lines::{LONGEST_LINE, Lines};

use super::quarantine::StoredReject;
use crate::stages::rejected::RejectedRows;
use lines::Writer;

/// A reject and the stage that it failed at: `source`, `transforms.N`, `validate` or `dedupe`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StagedReject {
    pub(crate) stage: String,
    pub(crate) reject: Reject,
}

/// The rejects of one chunk, in the order of the stages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rejects {
    parts: Vec<Part>,
    len: usize,
}

/// Some of them.
#[derive(Clone, Debug)]
enum Part {
    /// Each by itself.
    Single(String, Vec<Reject>),
    /// Rows of a batch.
    Rows(String, RejectedRows),
    /// What the quarantine keeps of them, and nothing else.
    Lines(Lines),
}

/// What a reject by itself takes, about: four texts and a map.
const SINGLE: usize = 1000;

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Single(_, rejects) => rejects.len(),
            Self::Rows(_, rows) => rows.len(),
            Self::Lines(lines) => lines.len(),
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Single(_, rejects) => rejects.len().saturating_mul(SINGLE),
            Self::Rows(_, rows) => rows.batch().get_array_memory_size(),
            Self::Lines(lines) => lines.memory(),
        }
    }

    fn rejects(&self) -> Box<dyn Iterator<Item = StagedReject> + '_> {
        let of = |stage: &String, reject| StagedReject { stage: stage.clone(), reject };
        match self {
            Self::Single(stage, rejects) => Box::new(rejects.iter().cloned().map(move |reject| of(stage, reject))),
            Self::Rows(stage, rows) => Box::new(rows.rejects().map(move |reject| of(stage, reject))),
            Self::Lines(lines) => Box::new(lines.iter().filter_map(|line| Some(serde_json::from_slice::<StoredReject>(line).ok()?.staged()))),
        }
    }
}

impl Rejects {
    /// Those of one stage.
    pub(crate) fn of(stage: &str, rejects: Vec<Reject>) -> Self {
        let mut new = Self::default();
        new.add(stage, rejects);
        new
    }

    /// Adds those of a later stage.
    pub(crate) fn add(&mut self, stage: &str, rejects: Vec<Reject>) {
        self.push(Part::Single(stage.to_owned(), rejects));
    }

    /// Adds rows that a later stage rejected.
    pub(crate) fn add_rows(&mut self, stage: &str, rows: RejectedRows) {
        self.push(Part::Rows(stage.to_owned(), rows));
    }

    /// Adds those of rows that came later.
    pub(crate) fn append(&mut self, others: Self) {
        others.parts.into_iter().for_each(|part| self.push(part));
    }

    fn push(&mut self, part: Part) {
        if part.len() > 0 {
            self.len += part.len();
            self.parts.push(part);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// About how many bytes of memory they take.
    pub(crate) fn memory(&self) -> usize {
        self.parts.iter().map(Part::memory).sum()
    }

    /// Each as it was made.
    pub(crate) fn iter(&self) -> impl Iterator<Item = StagedReject> {
        self.parts.iter().flat_map(Part::rejects)
    }

    pub(crate) fn first(&self) -> Option<StagedReject> {
        self.iter().next()
    }

    /// Lets go the batches that they are rows of, which take more memory than they do themselves where they are few.
    pub(crate) fn take_apart(&mut self) {
        for part in &mut self.parts {
            if let Part::Rows(stage, rows) = part {
                *part = Part::Single(std::mem::take(stage), rows.rejects().collect());
            }
        }
    }

    /// Makes lines of them: their rows are nowhere else afterwards.
    pub(crate) fn keep_lines(&mut self, run: &str, split: &str) {
        if self.len > 0 {
            let lines = self.lines(run, split).into_owned();
            self.parts = vec![Part::Lines(lines)];
        }
    }

    /// The lines that the quarantine keeps of them.
    pub(crate) fn lines(&self, run: &str, split: &str) -> Cow<'_, Lines> {
        if let [Part::Lines(lines)] = self.parts.as_slice() {
            return Cow::Borrowed(lines);
        }
        let mut writer = Writer::new(run, split, self.len);
        for part in &self.parts {
            match part {
                Part::Single(stage, rejects) => {
                    for reject in rejects {
                        writer.line(stage, &reject.rule, &reject.message, |out| json::value(&reject.row, out));
                    }
                }
                Part::Rows(stage, rows) => {
                    let columns = json::Rows::of(rows.batch());
                    for (row, rule, message) in rows.iter() {
                        writer.line(stage, rule, message, |out| columns.write(row, out));
                    }
                }
                Part::Lines(_) => {
                    for StagedReject { stage, reject } in part.rejects() {
                        writer.line(&stage, &reject.rule, &reject.message, |out| json::value(&reject.row, out));
                    }
                }
            }
        }
        Cow::Owned(writer.finish())
    }
}
