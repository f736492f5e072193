//! What stands in the files of a recording.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use pipeline_contract::{TransportError, TransportFault};
use serde::{Deserialize, Serialize};

/// The version of the format.
pub(super) const VERSION: u32 = 1;

/// The file of a recording that lists its exchanges.
pub(super) const INDEX: &str = "index.jsonl";

/// The first line of the index: the run that was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the format.
    pub recording: u32,
    /// The pipeline.
    pub pipeline: String,
    /// The run's tick, at which its clock stood.
    pub at: DateTime<Utc>,
    /// From when on the past was asked for (`--from`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
    /// Until when the past was asked for (`--to`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DateTime<Utc>>,
}

impl Head {
    /// The head of a recording that begins at `at`.
    pub fn new(pipeline: &str, at: DateTime<Utc>, window: Option<pipeline_contract::Window>) -> Self {
        let (from, to) = window.map_or((None, None), |window| (window.from, window.to));
        Self { recording: VERSION, pipeline: pipeline.to_owned(), at, from, to }
    }
}

/// One line of the index: a request, and its answer or why there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    /// In the order in which they were sent, from 1.
    pub(super) n: u64,
    pub(super) method: String,
    /// Without secrets.
    pub(super) url: String,
    /// A hash of the request's body, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request_body: Option<String>,
    /// When it was sent, in milliseconds since the recording began.
    #[serde(default)]
    pub(super) at_ms: u64,
    #[serde(default)]
    pub(super) elapsed_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
    /// The file that holds the body, or as much of it as came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
    /// Why there is no answer, or why its body ends early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<Fault>,
}

/// What kept a request from being answered whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FaultKind {
    Connect,
    Timeout,
    Broken,
    Tls,
    Request,
    /// Nobody wanted to read on: the run was stopped, or the body was too large.
    Unfinished,
}

impl Fault {
    pub(super) fn of(error: &TransportError) -> Self {
        let kind = match error.fault {
            TransportFault::Connect => FaultKind::Connect,
            TransportFault::Timeout => FaultKind::Timeout,
            TransportFault::Broken => FaultKind::Broken,
            TransportFault::Tls => FaultKind::Tls,
            TransportFault::Request | TransportFault::Unrecorded => FaultKind::Request,
        };
        Self { kind, message: error.message.clone() }
    }

    pub(super) fn error(&self) -> TransportError {
        let fault = match self.kind {
            FaultKind::Connect => TransportFault::Connect,
            FaultKind::Timeout => TransportFault::Timeout,
            FaultKind::Broken | FaultKind::Unfinished => TransportFault::Broken,
            FaultKind::Tls => TransportFault::Tls,
            FaultKind::Request => TransportFault::Request,
        };
        TransportError { fault, message: self.message.clone() }
    }
}

/// Why a recording cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Something is there already.
    #[error("{} is not empty: a recording takes the place of nothing", .0.display())]
    NotEmpty(PathBuf),
    /// The disk.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the index is not what it should be.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The index.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

impl RecordError {
    /// What to do about it, in one line.
    pub fn help(&self) -> &'static str {
        match self {
            Self::NotEmpty(_) => "name a folder that does not exist yet, or remove this one first",
            Self::Io { .. } => "name a folder as `--record` makes it, which can be read and written",
            Self::Line { .. } => "mend the line; docs/trial.md says what stands in it",
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<'_> {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
}
