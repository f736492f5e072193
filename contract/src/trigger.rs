//! Triggers: when a pipeline runs.

use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// When a pipeline runs. Pure: the engine owns the clock.
pub trait Trigger: Send + Sync {
    /// The first tick strictly after `after`; `None` when there is none.
    fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>>;

    /// How long to wait after the tick before its run starts (jitter). The same for the same tick and seed, so that a restart changes nothing.
    fn delay(&self, tick: DateTime<Utc>, seed: u64) -> Duration {
        let _ = (tick, seed);
        Duration::ZERO
    }

    /// The shortest time between two ticks, where it is known: the default deadline of a run follows from it.
    fn period(&self) -> Option<Duration>;

    /// Where the pipeline file says how often it fires: `every = "1h"`.
    fn place(&self) -> Option<Range<usize>> {
        None
    }
}
