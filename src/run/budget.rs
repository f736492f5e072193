//! Request budgets, one for each host and key, shared by everything in this process.

use std::collections::{HashMap, HashSet};
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

/// Nobody waits longer than this for the end of a hold, whatever their patience: the run ends and a later tick tries again.
const LONGEST_HOLD: Duration = Duration::from_secs(3600);

type Limiter = RateLimiter<NotKeyed, InMemoryState, PortClock, NoOpMiddleware<Nanos>>;

/// The budgets of this process: requests a minute through `governor`, credits a month in a [`CreditStore`].
pub struct SharedBudget {
    clock: Arc<dyn Clock>,
    credits: Arc<dyn CreditStore>,
    limiters: Mutex<HashMap<BudgetScope, (NonZeroU32, Arc<Limiter>)>>,
    /// Until when, on [`Clock::monotonic`], the far side wants to hear nothing.
    holds: Mutex<HashMap<BudgetScope, Duration>>,
    /// The scopes that have a monthly quota: only their credits are worth a file.
    monthly: Mutex<HashSet<BudgetScope>>,
}

impl SharedBudget {
    /// Budgets on a clock and a credit store.
    pub fn new(clock: Arc<dyn Clock>, credits: Arc<dyn CreditStore>) -> Self {
        Self { clock, credits, limiters: Mutex::default(), holds: Mutex::default(), monthly: Mutex::default() }
    }

    /// How much longer the far side wants to hear nothing.
    fn held(&self, scope: &BudgetScope) -> Option<Duration> {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let left = holds.get(scope)?.checked_sub(self.clock.monotonic()).filter(|left| !left.is_zero());
        if left.is_none() {
            holds.remove(scope);
        }
        left
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
            self.monthly.lock().unwrap_or_else(PoisonError::into_inner).insert(scope.clone());
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
        let limiter = limits.per_minute.map(|per_minute| (per_minute, self.limiter(scope, per_minute)));
        let start = self.clock.monotonic();
        loop {
            // The hold goes first: a request that is not sent must not use up the minute. After every wait both are looked at again.
            let (wait, longest, refused) = if let Some(wait) = self.held(scope) {
                let message = format!("{}: the host wants no more requests for now", scope.host);
                let help = "it said so in an answer (`Retry-After`); ask less in one run, or less often";
                (wait, LONGEST_HOLD, (message, help))
            } else {
                let Some((per_minute, limiter)) = &limiter else { return Ok(()) };
                let Err(not_until) = limiter.check() else { return Ok(()) };
                let wait = not_until.wait_time_from(Nanos::from(self.clock.monotonic())).max(Duration::from_millis(1));
                let message = format!("{}: the budget of {per_minute} requests a minute does not allow another before the deadline", scope.host);
                (wait, Duration::MAX, (message, "ask less in one run, or raise requests_per_minute, if your plan allows more"))
            };
            let left = patience.saturating_sub(self.clock.monotonic().saturating_sub(start));
            if wait > left.min(longest) {
                let (message, help) = refused;
                return Err(StageError::retry_after(Category::RateLimit, wait, message).help(help));
            }
            tracing::debug!(host = %scope.host, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "waiting for the request budget");
            self.clock.sleep(wait).await;
        }
    }

    fn hold(&self, scope: &BudgetScope, wait: Duration) {
        let until = self.clock.monotonic().saturating_add(wait);
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let held = holds.entry(scope.clone()).or_default();
        *held = until.max(*held);
    }

    fn spend(&self, scope: &BudgetScope, credits: u64) -> Result<(), StageError> {
        if !self.monthly.lock().unwrap_or_else(PoisonError::into_inner).contains(scope) {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pipeline_contract::testkit::TestClock;

    use super::*;

    #[derive(Default)]
    struct Month(Mutex<BTreeMap<String, u64>>);

    impl CreditStore for Month {
        fn spent(&self, _: &BudgetScope, month: &str) -> Result<u64, StageError> {
            Ok(self.0.lock().unwrap().get(month).copied().unwrap_or(0))
        }
        fn spend(&self, _: &BudgetScope, month: &str, credits: u64) -> Result<(), StageError> {
            *self.0.lock().unwrap().entry(month.to_owned()).or_default() += credits;
            Ok(())
        }
    }

    fn scope() -> BudgetScope {
        BudgetScope { host: "api.example.com".to_owned(), key: "keyless".to_owned() }
    }

    fn a_minute(limit: u32) -> BudgetLimits {
        BudgetLimits { per_minute: NonZeroU32::new(limit), per_month: None }
    }

    #[tokio::test]
    async fn no_minute_holds_more_than_its_requests_and_most_hold_as_many() {
        for limit in [1, 2, 3, 5, 10, 25, 300] {
            let clock = TestClock::new("2026-05-19T15:37:20Z".parse().unwrap());
            let budget = SharedBudget::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(Month::default()));
            let mut sent = Vec::new();
            for _ in 0..limit * 4 {
                budget.acquire(&scope(), &a_minute(limit), Duration::from_secs(3600)).await.unwrap();
                sent.push(clock.monotonic());
            }
            let most = sent.iter().map(|from| sent.iter().filter(|at| *at >= from && **at < *from + Duration::from_secs(60)).count()).max().unwrap();
            assert!(most <= limit as usize, "{limit} a minute, {most} sent in one");
            assert!(sent.last().unwrap().as_secs() <= 60 * 9, "{limit} a minute: {:?}", sent.last());
        }
    }

    #[tokio::test]
    async fn pipelines_with_one_key_share_the_smaller_budget() {
        let clock = TestClock::new("2026-05-19T15:37:20Z".parse().unwrap());
        let budget = SharedBudget::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(Month::default()));
        let patience = Duration::from_secs(3600);
        budget.acquire(&scope(), &a_minute(2), patience).await.unwrap();
        budget.acquire(&scope(), &a_minute(100), patience).await.unwrap();
        assert!(clock.monotonic() >= Duration::from_secs(29), "the second waited: {:?}", clock.monotonic());
        let other = BudgetScope { key: "0badcafe".to_owned(), ..scope() };
        let before = clock.monotonic();
        budget.acquire(&other, &a_minute(2), patience).await.unwrap();
        assert_eq!(clock.monotonic(), before, "another key has a budget of its own");
    }

    #[tokio::test]
    async fn who_has_no_patience_is_told_when_to_come_back() {
        let clock = TestClock::new("2026-05-19T15:37:20Z".parse().unwrap());
        let budget = SharedBudget::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(Month::default()));
        budget.acquire(&scope(), &a_minute(1), Duration::from_secs(1)).await.unwrap();
        let error = budget.acquire(&scope(), &a_minute(1), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.category, Category::RateLimit);
        assert!(matches!(error.act, pipeline_contract::Act::Time { retry_after: Some(wait) } if wait.as_secs() >= 59), "{error:?}");
    }

    /// Virtual time for many tasks at once: tokio's own, paused.
    #[derive(Debug)]
    struct Paused(tokio::time::Instant);

    #[async_trait]
    impl Clock for Paused {
        fn now(&self) -> chrono::DateTime<chrono::Utc> {
            chrono::DateTime::UNIX_EPOCH + self.monotonic()
        }
        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
        async fn sleep(&self, duration: Duration) {
            tokio::time::sleep(duration).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_stops_the_whole_scope_and_no_other() {
        let clock: Arc<dyn Clock> = Arc::new(Paused(tokio::time::Instant::now()));
        let budget = Arc::new(SharedBudget::new(Arc::clone(&clock), Arc::new(Month::default())));
        let patience = Duration::from_secs(60);
        for limits in [BudgetLimits::default(), a_minute(300)] {
            budget.acquire(&scope(), &limits, patience).await.unwrap();
            let held = clock.monotonic();
            budget.hold(&scope(), Duration::from_secs(3));
            budget.hold(&scope(), Duration::from_secs(1));
            let other = BudgetScope { key: "0badcafe".to_owned(), ..scope() };
            let requests = (0..10).map(|_| {
                let (budget, clock) = (Arc::clone(&budget), Arc::clone(&clock));
                tokio::spawn(async move {
                    budget.acquire(&scope(), &limits, patience).await.unwrap();
                    clock.monotonic()
                })
            });
            let requests: Vec<_> = requests.collect();
            budget.acquire(&other, &limits, patience).await.unwrap();
            assert_eq!(clock.monotonic(), held, "another key goes on");
            for request in requests {
                let waited = request.await.unwrap() - held;
                assert!((3.0..4.0).contains(&waited.as_secs_f64()), "{limits:?}: sent {waited:?} after the hold began");
            }
        }
    }

    #[tokio::test]
    async fn a_hold_beyond_the_patience_is_told_at_once_and_uses_nothing_up() {
        let clock = TestClock::new("2026-05-19T15:37:20Z".parse().unwrap());
        let budget = SharedBudget::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(Month::default()));
        for (hold, patience) in [(30, Duration::from_secs(29)), (3601, Duration::from_secs(u64::from(u32::MAX)))] {
            budget.hold(&scope(), Duration::from_secs(hold));
            let before = clock.monotonic();
            let error = budget.acquire(&scope(), &a_minute(1), patience).await.unwrap_err();
            assert_eq!((error.category, clock.monotonic()), (Category::RateLimit, before));
            assert_eq!(error.act, pipeline_contract::Act::Time { retry_after: Some(Duration::from_secs(hold)) });
            clock.advance(Duration::from_secs(hold));
        }
        budget.acquire(&scope(), &a_minute(1), Duration::ZERO).await.unwrap();
        budget.hold(&scope(), Duration::MAX);
    }

    #[tokio::test]
    async fn a_month_that_is_used_up_is_a_matter_for_the_operator_until_the_next() {
        let clock = TestClock::new("2026-05-31T23:59:00Z".parse().unwrap());
        let month = Arc::new(Month::default());
        let budget = SharedBudget::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::clone(&month) as Arc<dyn CreditStore>);
        let limits = BudgetLimits { per_minute: None, per_month: Some(2) };
        for _ in 0..2 {
            budget.acquire(&scope(), &limits, Duration::ZERO).await.unwrap();
            budget.spend(&scope(), 1).unwrap();
        }
        let again = SharedBudget::new(Arc::clone(&clock) as Arc<dyn Clock>, month);
        let error = again.acquire(&scope(), &limits, Duration::ZERO).await.unwrap_err();
        assert!(error.message.contains("this month's 2 requests are used up"), "{error}");
        clock.advance(Duration::from_secs(120));
        again.acquire(&scope(), &limits, Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn credits_without_a_quota_are_not_written_down() {
        let clock = TestClock::new("2026-05-31T23:59:00Z".parse().unwrap());
        let month = Arc::new(Month::default());
        let budget = SharedBudget::new(clock, Arc::clone(&month) as Arc<dyn CreditStore>);
        budget.acquire(&scope(), &a_minute(5), Duration::ZERO).await.unwrap();
        budget.spend(&scope(), 1).unwrap();
        assert!(month.0.lock().unwrap().is_empty());
    }
}
