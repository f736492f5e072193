//! What goes wrong while a stage works, and who must act.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Who must act before the same thing can succeed. Retries and exit codes follow from this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The operator: a wrong key, a full disk, a folder that cannot be written. Nothing is retried and no further split is started.
    Operator,
    /// Nobody: time heals it. The split is tried once more, not before `retry_after`.
    Time {
        /// What the far side asked for, if it did.
        retry_after: Option<Duration>,
    },
    /// Only this split is concerned (an unknown coin, a file that somebody changed). The others go on.
    Split,
    /// A developer: a promise of the contract was broken. This split fails, the others go on.
    Developer,
}

/// The kind of an error, as summaries and metrics count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// The far side, or our own budget, allows no more requests now.
    RateLimit,
    /// No answer: refused, reset, timed out, cut off.
    Network,
    /// The far side refused what was asked (4xx).
    ClientError,
    /// The far side failed (5xx), or answered with something else than promised.
    ServerError,
    /// Rows failed their rules and the pipeline says that this fails the split or the run.
    Validation,
    /// Our own disk, state or database.
    Storage,
    /// Anything else.
    Unexpected,
}

impl Category {
    /// The name used in summaries, as `rate_limit`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Network => "network",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Validation => "validation",
            Self::Storage => "storage",
            Self::Unexpected => "unexpected",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error of a working stage. The message says what happened and where (file, line, URL without secrets); `help` says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    /// Who must act.
    pub act: Act,
    /// What kind it is.
    pub category: Category,
    /// What happened and where, in one line.
    pub message: String,
    /// What to do about it, in one line. A command in backticks says `FILE` for the pipeline file: who shows it knows the path.
    pub help: Option<String>,
}

impl StageError {
    fn new(act: Act, category: Category, message: impl Into<String>) -> Self {
        Self { act, category, message: message.into(), help: None }
    }

    /// The operator must act.
    pub fn operator(category: Category, message: impl Into<String>) -> Self {
        Self::new(Act::Operator, category, message)
    }

    /// Time heals it.
    pub fn transient(category: Category, message: impl Into<String>) -> Self {
        Self::new(Act::Time { retry_after: None }, category, message)
    }

    /// Time heals it, but not before `after`.
    pub fn retry_after(category: Category, after: Duration, message: impl Into<String>) -> Self {
        Self::new(Act::Time { retry_after: Some(after) }, category, message)
    }

    /// Only this split is concerned.
    pub fn split(category: Category, message: impl Into<String>) -> Self {
        Self::new(Act::Split, category, message)
    }

    /// A promise of the contract was broken.
    pub fn developer(message: impl Into<String>) -> Self {
        Self::new(Act::Developer, Category::Unexpected, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Is it worth trying again later?
    pub fn is_transient(&self) -> bool {
        matches!(self.act, Act::Time { .. })
    }
}
