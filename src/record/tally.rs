//! Counts what a run asks of the network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipeline_contract::{Body, Budget, BudgetLimits, BudgetScope, Ports, StageError, Transport, TransportError, async_trait};

/// What was asked of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Requests that were sent, repetitions too.
    pub sent: u64,
    /// Answers, by status.
    pub answered: BTreeMap<u16, u64>,
    /// Credits that were counted against the month; always 0 where there is no monthly budget.
    pub credits: u64,
    /// The month's budget.
    pub per_month: Option<u64>,
}

impl Asked {
    /// Requests that nobody answered.
    pub fn unanswered(&self) -> u64 {
        self.sent.saturating_sub(self.answered.values().sum())
    }
}

/// Counts requests and credits, host by host. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<String, Asked>>>);

impl Tally {
    /// The same world, counted.
    pub fn ports(&self, ports: &Ports) -> Ports {
        let transport = Arc::new(Counted { tally: self.clone(), inner: Arc::clone(&ports.transport) });
        let budget = Arc::new(CountedBudget { tally: self.clone(), inner: Arc::clone(&ports.budget) });
        Ports { transport, budget, ..ports.clone() }
    }

    /// What was asked so far, by host.
    pub fn hosts(&self) -> BTreeMap<String, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, host: &str, note: impl FnOnce(&mut Asked)) {
        note(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(host.to_owned()).or_default());
    }
}

/// The host of a request, with its port where one is named and without who asks.
pub(crate) fn host_of<T>(request: &http::Request<T>) -> String {
    let authority = request.uri().authority().map_or("", http::uri::Authority::as_str);
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

struct Counted {
    tally: Tally,
    inner: Arc<dyn Transport>,
}

#[async_trait]
impl Transport for Counted {
    async fn send(&self, request: http::Request<Bytes>, timeout: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        let host = host_of(&request);
        self.tally.note(&host, |asked| asked.sent += 1);
        let answer = self.inner.send(request, timeout).await;
        if let Ok(answer) = &answer {
            self.tally.note(&host, |asked| *asked.answered.entry(answer.status().as_u16()).or_default() += 1);
        }
        answer
    }
}

struct CountedBudget {
    tally: Tally,
    inner: Arc<dyn Budget>,
}

#[async_trait]
impl Budget for CountedBudget {
    async fn acquire(&self, scope: &BudgetScope, limits: &BudgetLimits, patience: Duration) -> Result<(), StageError> {
        if limits.per_month.is_some() {
            self.tally.note(&scope.host, |asked| asked.per_month = limits.per_month);
        }
        self.inner.acquire(scope, limits, patience).await
    }

    fn spend(&self, scope: &BudgetScope, credits: u64) -> Result<(), StageError> {
        self.inner.spend(scope, credits)?;
        // As the engine's budget does: without a month there is nothing to count against.
        self.tally.note(&scope.host, |asked| asked.credits += asked.per_month.map_or(0, |_| credits));
        Ok(())
    }

    fn hold(&self, scope: &BudgetScope, wait: Duration) {
        self.inner.hold(scope, wait);
    }
}
