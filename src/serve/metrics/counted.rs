//! Ports that count what a pipeline asks of the network.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipeline_contract::{Body, Budget, BudgetLimits, BudgetScope, Clock, Ports, StageError, Transport, TransportError, TransportFault, async_trait};
use prometheus::{CounterVec, IntCounterVec};

use super::{AskedBefore, Metrics};
use crate::record::host_of;

pub(super) fn ports(metrics: &Metrics, pipeline: &Arc<str>, ports: &Ports) -> (Ports, AskedBefore) {
    let asked = AskedBefore::default();
    let transport = Arc::new(Counted {
        pipeline: Arc::clone(pipeline),
        requests: metrics.requests.clone(),
        retries: metrics.retries.clone(),
        asked: Arc::clone(&asked),
        hasher: RandomState::new(),
        inner: Arc::clone(&ports.transport),
    });
    let budget = Arc::new(Waited { wait: metrics.budget_wait.clone(), clock: Arc::clone(&ports.clock), inner: Arc::clone(&ports.budget) });
    (Ports { transport, budget, ..ports.clone() }, asked)
}

struct Counted {
    pipeline: Arc<str>,
    requests: IntCounterVec,
    retries: IntCounterVec,
    /// Hashes of the URLs that this run has asked for.
    asked: AskedBefore,
    hasher: RandomState,
    inner: Arc<dyn Transport>,
}

#[async_trait]
impl Transport for Counted {
    async fn send(&self, request: http::Request<Bytes>, timeout: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        let host = host_of(&request);
        let url = self.hasher.hash_one((request.method(), request.uri()));
        if !self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(url) {
            self.retries.with_label_values(&[&*self.pipeline, &host]).inc();
        }
        let answer = self.inner.send(request, timeout).await;
        let status = match &answer {
            Ok(answer) => answer.status().as_str().to_owned(),
            Err(error) => fault_name(error.fault).to_owned(),
        };
        self.requests.with_label_values(&[&*self.pipeline, &host, &status]).inc();
        answer
    }
}

fn fault_name(fault: TransportFault) -> &'static str {
    match fault {
        TransportFault::Connect => "connect",
        TransportFault::Timeout => "timeout",
        TransportFault::Broken => "broken",
        TransportFault::Tls => "tls",
        TransportFault::Request => "request",
        TransportFault::Unrecorded => "unrecorded",
    }
}

struct Waited {
    wait: CounterVec,
    clock: Arc<dyn Clock>,
    inner: Arc<dyn Budget>,
}

#[async_trait]
impl Budget for Waited {
    async fn acquire(&self, scope: &BudgetScope, limits: &BudgetLimits, patience: Duration) -> Result<(), StageError> {
        let began = self.clock.monotonic();
        let granted = self.inner.acquire(scope, limits, patience).await;
        let waited = self.clock.monotonic().saturating_sub(began);
        self.wait.with_label_values(&[&scope.host]).inc_by(waited.as_secs_f64());
        granted
    }

    fn spend(&self, scope: &BudgetScope, credits: u64) -> Result<(), StageError> {
        self.inner.spend(scope, credits)
    }

    fn hold(&self, scope: &BudgetScope, wait: Duration) {
        self.inner.hold(scope, wait);
    }
}
