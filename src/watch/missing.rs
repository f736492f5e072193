//! What finds the gaps that are to be filled.

use super::Expected;
use crate::run::FindMissing;

/// What finds the gaps of such a pipeline; `None` when nobody said how far apart rows should be, or what is stored cannot be told by the state.
pub fn find_missing(_: &Expected) -> Option<FindMissing> {
    None
}
