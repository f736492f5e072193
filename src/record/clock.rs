//! The two clocks of a recording. On both the wall clock stands still: what a source asks for and what it takes for closed follow from it
//! alone, so a replay asks and judges as the recorded run did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{Clock, async_trait};

/// The clock of a source while it is recorded: the wall clock stands, waits and deadlines are real.
#[derive(Debug)]
pub struct StandingClock {
    at: DateTime<Utc>,
    real: Arc<dyn Clock>,
}

impl StandingClock {
    /// A clock that shows `at` and waits as `real` does.
    pub fn new(at: DateTime<Utc>, real: Arc<dyn Clock>) -> Self {
        Self { at, real }
    }
}

#[async_trait]
impl Clock for StandingClock {
    fn now(&self) -> DateTime<Utc> {
        self.at
    }
    fn monotonic(&self) -> Duration {
        self.real.monotonic()
    }
    async fn sleep(&self, duration: Duration) {
        self.real.sleep(duration).await;
    }
}

/// The clock of a replay: the wall clock stands, a wait passes at once and moves the time that deadlines are measured by.
#[derive(Debug)]
pub struct ReplayClock {
    at: DateTime<Utc>,
    deadline: Duration,
    elapsed: AtomicU64,
}

impl ReplayClock {
    /// How often others go first: whatever is waited for beside the wait is there already, and must be seen before it.
    const YIELDS: u32 = 32;

    /// A clock that shows `at`. A wait that reaches the deadline of the run never ends: whoever watches the deadline beside the run's work
    /// would else see it pass at once.
    pub fn new(at: DateTime<Utc>, deadline: Duration) -> Self {
        Self { at, deadline, elapsed: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Clock for ReplayClock {
    fn now(&self) -> DateTime<Utc> {
        self.at
    }
    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.elapsed.load(Ordering::SeqCst))
    }
    async fn sleep(&self, duration: Duration) {
        let until = self.monotonic().saturating_add(duration);
        if until >= self.deadline {
            return std::future::pending().await;
        }
        for _ in 0..Self::YIELDS {
            tokio::task::yield_now().await;
        }
        self.elapsed.fetch_max(u64::try_from(until.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}
