//! The machine's own clock and randomness.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, Utc};
use pipeline_contract::{Clock, Random, async_trait};

/// The machine's clock.
#[derive(Debug)]
pub struct RealClock(Instant);

impl Default for RealClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

#[async_trait]
impl Clock for RealClock {
    fn now(&self) -> DateTime<Utc> {
        // Milliseconds are what people read and what states keep.
        Utc::now().trunc_subsecs(3)
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Random bits from the keys that the standard library draws for each process: good enough to spread requests.
#[derive(Debug, Default)]
pub struct RealRandom {
    state: RandomState,
    count: AtomicU64,
}

impl Random for RealRandom {
    fn next(&self) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u64(self.count.fetch_add(1, Ordering::Relaxed));
        hasher.finish()
    }
}
