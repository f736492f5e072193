//! What finds the gaps that are to be filled.

use std::sync::Arc;

use super::{Coverage, Expected, Held};
use crate::run::{FindMissing, Missing};

/// Why there is nothing that finds gaps.
pub const NOT_TOLD: &str = "what is missing cannot be told from what is stored";
/// What helps.
pub const HOW_TO_TELL: &str =
    "how far apart rows are says `step = \"1h\"` in [expect], or the source; the time of a row and its series must be the `keys` of [dedupe]";

/// What finds the gaps of such a pipeline; `None` when nobody said how far apart rows should be, or series and time are not the dedupe key: a
/// source knows no others.
pub fn find_missing(expected: &Expected) -> Option<FindMissing> {
    let time = expected.time.clone().filter(|_| expected.held == Held::Keys && expected.step.is_some())?;
    let nothing = Coverage::new(expected);
    Some(Arc::new(move |store| {
        let mut coverage = nothing.clone();
        coverage.load(store)?;
        Ok(Missing { time: time.clone(), gaps: coverage.found()?.gaps.unwrap_or_default() })
    }))
}
