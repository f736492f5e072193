//! What finds the gaps that are to be filled.

use std::sync::Arc;

use super::{Coverage, Expected, Held};
use crate::run::{FindMissing, Missing};

/// What finds the gaps of such a pipeline; `None` when nobody said how far apart rows should be, or what is stored cannot be told by the state.
pub fn find_missing(expected: &Expected) -> Option<FindMissing> {
    let time = expected.time.clone().filter(|_| expected.held == Held::Keys && expected.step.is_some())?;
    let expected = expected.clone();
    Some(Arc::new(move |store| {
        let mut coverage = Coverage::new(&expected);
        coverage.load(store)?;
        Ok(Missing { time: time.clone(), gaps: coverage.found()?.gaps.unwrap_or_default() })
    }))
}
