//! Request budgets, one for each host and key, shared by everything in this process.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use pipeline_contract::{Budget, BudgetLimits, BudgetScope, Category, Clock, StageError, async_trait};

/// Where the month's credits are counted, over restarts and processes.
pub trait CreditStore: Send + Sync {
    /// Credits spent in a month (`2026-11`) so far.
    ///
    /// # Errors
    /// `storage` when they cannot be read.
    fn spent(&self, scope: &BudgetScope, month: &str) -> Result<u64, StageError>;
    /// Adds to them.
    ///
    /// # Errors
    /// `storage` when they cannot be saved.
    fn spend(&self, scope: &BudgetScope, month: &str, credits: u64) -> Result<(), StageError>;
}

#[derive(Clone, Debug)]
struct PortClock(Arc<dyn Clock>);

impl GovernorClock for PortClock {
    type Instant = Nanos;
    fn now(&self) -> Nanos {
        Nanos::from(self.0.monotonic())
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, PortClock, NoOpMiddleware<Nanos>>;

/// The budgets of this process: requests a minute through `governor`, credits a month in a [`CreditStore`].
pub struct SharedBudget {
    clock: Arc<dyn Clock>,
    credits: Arc<dyn CreditStore>,
    limiters: Mutex<HashMap<BudgetScope, (NonZeroU32, Arc<Limiter>)>>,
}

impl SharedBudget {
    /// Budgets on a clock and a credit store.
    pub fn new(clock: Arc<dyn Clock>, credits: Arc<dyn CreditStore>) -> Self {
        Self { clock, credits, limiters: Mutex::default() }
    }

    /// The limiter of a scope. Where two pipelines set other limits for one key, the smaller holds for both.
    fn limiter(&self, scope: &BudgetScope, per_minute: NonZeroU32) -> Arc<Limiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        match limiters.get(scope) {
            Some((limit, limiter)) if *limit <= per_minute => Arc::clone(limiter),
            _ => {
                let limiter = Arc::new(RateLimiter::direct_with_clock(quota(per_minute), PortClock(Arc::clone(&self.clock))));
                limiters.insert(scope.clone(), (per_minute, Arc::clone(&limiter)));
                limiter
            }
        }
    }
}

/// Half of the minute's requests may come at once and the other half evenly, so that no minute, wherever it starts, holds more than the
/// limit: `burst` at its start and one more after each period, the last of them just before it ends.
fn quota(per_minute: NonZeroU32) -> Quota {
    let burst = per_minute.get().div_ceil(2);
    let period = Duration::from_secs(60) / (per_minute.get() - burst + 1);
    Quota::with_period(period).unwrap_or_else(|| Quota::per_minute(NonZeroU32::MIN)).allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN))
}

#[async_trait]
impl Budget for SharedBudget {
    async fn acquire(&self, scope: &BudgetScope, limits: &BudgetLimits, patience: Duration) -> Result<(), StageError> {
        if let Some(quota) = limits.per_month {
            let now = self.clock.now();
            let spent = self.credits.spent(scope, &now.format("%Y-%m").to_string())?;
            if spent >= quota {
                return Err(StageError::operator(
                    Category::RateLimit,
                    format!("{}: this month's {quota} requests are used up ({spent} were answered)", scope.host),
                )
                .help("the count starts anew on the first of the month, UTC; or raise requests_per_month, if your plan allows more"));
            }
        }
        let Some(per_minute) = limits.per_minute else { return Ok(()) };
        let limiter = self.limiter(scope, per_minute);
        let start = self.clock.monotonic();
        loop {
            let Err(not_until) = limiter.check() else { return Ok(()) };
            let wait = not_until.wait_time_from(Nanos::from(self.clock.monotonic())).max(Duration::from_millis(1));
            if self.clock.monotonic().saturating_sub(start) + wait > patience {
                return Err(StageError::retry_after(
                    Category::RateLimit,
                    wait,
                    format!("{}: the budget of {per_minute} requests a minute does not allow another before the deadline", scope.host),
                )
                .help("ask less in one run, or raise requests_per_minute, if your plan allows more"));
            }
            tracing::debug!(host = %scope.host, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "waiting for the request budget");
            self.clock.sleep(wait).await;
        }
    }

    fn spend(&self, scope: &BudgetScope, credits: u64) -> Result<(), StageError> {
        self.credits.spend(scope, &self.clock.now().format("%Y-%m").to_string(), credits)
    }
}

impl CreditStore for crate::state::SqliteCredits {
    fn spent(&self, scope: &BudgetScope, month: &str) -> Result<u64, StageError> {
        Self::spent(self, scope, month)
    }
    fn spend(&self, scope: &BudgetScope, month: &str, credits: u64) -> Result<(), StageError> {
        Self::spend(self, scope, month, credits)
    }
}
