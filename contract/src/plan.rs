//! Faults of a pipeline file, found before anything runs.

use std::ops::Range;

/// How grave a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The pipeline cannot run.
    Error,
    /// Legal, but odd.
    Warning,
}

/// A fault of a pipeline file: code, message, place, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct PlanError {
    /// Error or warning.
    pub level: Level,
    /// Its stable code, as `E010`.
    pub code: &'static str,
    /// What is wrong, in one line.
    pub message: String,
    /// Where: a byte range in the pipeline file. `None` is the whole file.
    pub span: Option<Range<usize>>,
    /// What to write under the caret, where it adds something to the message.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl PlanError {
    /// An error about the file as a whole; see [`PlanError::at`].
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Error, code, message: message.into(), span: None, label: None, help: None }
    }

    /// A warning about the file as a whole.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::new(code, message) }
    }

    /// Points it at a byte range of the file.
    #[must_use]
    pub fn at(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }

    /// Adds the text under the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
