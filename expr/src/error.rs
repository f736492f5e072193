//! The two ways an expression can fail: before any data is seen, and on a value.

use std::ops::Range;

/// A fault in an expression, found before any row is seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// What is wrong, in one line without a full stop.
    pub message: String,
    /// The bytes of the expression's text it is about; empty at the end of the text when something is missing there.
    pub span: Range<usize>,
    /// What to write instead, when that is known.
    pub help: Option<String>,
    /// What to put in the place of `span`, when that mends it.
    pub replacement: Option<String>,
}

impl ExprError {
    pub(crate) fn new(message: impl Into<String>, span: Range<usize>) -> Self {
        Self { message: message.into(), span, help: None, replacement: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// "did you mean `name`?", and the edit that does it.
    pub(crate) fn meant(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.help = Some(format!("did you mean `{name}`?"));
        self.replacement = Some(name);
        self
    }
}

/// Why an expression has no value for a batch, or for one row of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// The row of the batch whose value could not be cast, counted from 0. `None` when the whole batch is at fault: it lacks a
    /// column, or has it with another type than the schema the expression was compiled for.
    pub row: Option<usize>,
    /// What is wrong; names the value, shortened.
    pub message: String,
}

impl EvalError {
    pub(crate) fn batch(message: impl Into<String>) -> Self {
        Self { row: None, message: message.into() }
    }

    /// For states the type check has ruled out: an error a test would find, rather than a panic in somebody's run.
    pub(crate) fn internal(what: &str) -> Self {
        Self::batch(format!("a fault of the expression engine, please report it: {what}"))
    }
}
