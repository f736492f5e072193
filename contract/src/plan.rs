//! Faults of a pipeline file, found before anything runs.

use std::ops::Range;
use std::path::PathBuf;

use crate::Spanned;

/// How grave a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The pipeline cannot run.
    Error,
    /// Legal, but odd.
    Warning,
}

/// An edit that may mend a fault: what stands at `span` of the file makes way for `replacement`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// A byte range in the pipeline file; an empty one where something is missing.
    pub span: Range<usize>,
    /// What to write there.
    pub replacement: String,
}

/// A part of a text whose escapes or lines make it stand otherwise in the file than it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPart {
    /// Its bytes in the text as it reads.
    pub range: Range<usize>,
    /// How many bytes the whole text has.
    pub of: usize,
    /// What to write there instead, where that is known.
    pub replacement: Option<String>,
}

/// Another place that a fault is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// The pipeline file; `None` is the one that the fault is in.
    pub file: Option<PathBuf>,
    /// A byte range in it.
    pub span: Range<usize>,
    /// What to say there.
    pub label: String,
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
    /// Which part of the text at `span` is meant, where its place can be told only by the file: who has the file points there.
    pub part: Option<Box<TextPart>>,
    /// What to write under the caret, where it adds something to the message.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// The edit that does it, where it is known.
    pub suggestion: Option<Suggestion>,
    /// Other places that it is about.
    pub related: Vec<Related>,
}

impl PlanError {
    /// An error about the file as a whole; see [`PlanError::at`].
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            code,
            message: message.into(),
            span: None,
            part: None,
            label: None,
            help: None,
            suggestion: None,
            related: Vec::new(),
        }
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

    /// Points it at a part of a text value, in bytes of the text as it reads; `replacement` is what would mend it there.
    #[must_use]
    pub fn at_part(mut self, text: &Spanned<String>, part: Range<usize>, replacement: Option<String>) -> Self {
        let place = text.part(part.clone());
        if place == text.span() && part.end <= text.len() {
            self.part = Some(Box::new(TextPart { range: part, of: text.len(), replacement }));
        } else if let Some(replacement) = replacement {
            self = self.suggest(place.clone(), replacement);
        }
        self.at(place)
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

    /// Adds the edit that mends it; it is shown below the help.
    #[must_use]
    pub fn suggest(mut self, span: Range<usize>, replacement: impl Into<String>) -> Self {
        self.suggestion = Some(Suggestion { span, replacement: replacement.into() });
        self
    }

    /// "did you mean `name`?", and the edit that puts `replacement` where the fault is.
    #[must_use]
    pub fn meant(self, name: impl std::fmt::Display, replacement: impl Into<String>) -> Self {
        let fault = self.help(format!("did you mean {name}?"));
        match fault.span.clone() {
            Some(span) => fault.suggest(span, replacement),
            None => fault,
        }
    }

    /// Adds another place of the same file.
    #[must_use]
    pub fn related(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related.push(Related { file: None, span, label: label.into() });
        self
    }

    /// Adds a place of another file.
    #[must_use]
    pub fn related_in(mut self, file: impl Into<PathBuf>, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related.push(Related { file: Some(file.into()), span, label: label.into() });
        self
    }
}
