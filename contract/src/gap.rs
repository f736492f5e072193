//! Gaps: rows that should be stored and are not.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Split;

/// A stretch of time in which rows of one series are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The series: its key columns but the time, by name, in the types of `row_json`.
    pub series: Map<String, Value>,
    /// The time of the first row that is missing.
    pub from: DateTime<Utc>,
    /// The time of the first row that is there again.
    pub to: DateTime<Utc>,
    /// How many rows are missing: steps from `from` up to, but without, `to`.
    pub missing: u64,
}

/// A gap, or a part of one, that a source cannot fill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The stretch.
    pub gap: Gap,
    /// Why not, and what would help, in one line.
    pub reason: String,
}

/// What a source does about gaps.
#[derive(Clone, Debug, Default)]
pub struct Filling {
    /// Splits that bring rows of exactly these stretches. Their [`Split::data`] says which, so that they are opened again after a restart.
    pub splits: Vec<Split>,
    /// What it cannot fill.
    pub refused: Vec<Refusal>,
}

impl Filling {
    /// Nothing can be filled, for one reason.
    pub fn refuse(gaps: &[Gap], reason: &str) -> Self {
        let refused = gaps.iter().map(|gap| Refusal { gap: gap.clone(), reason: reason.to_owned() }).collect();
        Self { splits: Vec::new(), refused }
    }
}
