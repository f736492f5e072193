//! Rows that a stage rejected, while they are still rows of a batch.

use std::sync::Arc;

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{Reject, row_json};

/// Rows of a batch that were rejected, and why. One by one they would be four texts and a map each; so they stay in the batch until somebody
/// wants them.
#[derive(Clone, Debug)]
pub(crate) struct RejectedRows {
    batch: RecordBatch,
    rules: Arc<[String]>,
    rows: Vec<Rejected>,
    /// The messages, one behind the other.
    messages: String,
}

#[derive(Clone, Copy, Debug)]
struct Rejected {
    row: usize,
    rule: usize,
    /// Where its message ends.
    end: usize,
}

impl RejectedRows {
    /// None yet of a batch. `rules` are the names that rows may be rejected by.
    pub(crate) fn new(batch: &RecordBatch, rules: &Arc<[String]>) -> Self {
        Self { batch: batch.clone(), rules: Arc::clone(rules), rows: Vec::new(), messages: String::new() }
    }

    /// Makes room for so many rows.
    pub(crate) fn reserve(&mut self, rows: usize) {
        /// As long as a message is, about.
        const MESSAGE: usize = 96;
        self.rows.reserve(rows);
        self.messages.reserve(rows.saturating_mul(MESSAGE));
    }

    /// Rejects a row by the rule with that place among the names; `message` writes why.
    pub(crate) fn push<E>(&mut self, row: usize, rule: usize, message: impl FnOnce(&mut String) -> Result<(), E>) -> Result<(), E> {
        message(&mut self.messages)?;
        self.rows.push(Rejected { row, rule, end: self.messages.len() });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// What they are rows of.
    pub(crate) fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Row, rule and message of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let mut from = 0;
        self.rows.iter().map(move |rejected| {
            let message = self.messages.get(std::mem::replace(&mut from, rejected.end)..rejected.end).unwrap_or_default();
            (rejected.row, self.rules.get(rejected.rule).map_or("", String::as_str), message)
        })
    }

    /// Each by itself, with its row.
    pub(crate) fn rejects(&self) -> impl Iterator<Item = Reject> {
        self.iter().map(|(row, rule, message)| Reject::of_row(row_json(&self.batch, row), rule, message))
    }
}
