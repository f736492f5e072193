//! For the tests of plugins: kits that run one through everything it promises ([`SourceKit`], [`SinkKit`], [`TriggerKit`], [`TransformKit`]),
//! stand-ins for the world outside (time that passes at once, a scripted far side, a counted budget, a disk that crashes), and bad input.

mod disk;
mod fuzz;
mod kit;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use disk::{Fail, Fault, Kept, SimDisk, Survives};
pub use fuzz::{Draw, Fuzz};
pub use kit::{Broken, KitRow, Promise, Report, SinkKit, SourceKit, TransformKit, TriggerKit};

use crate::{
    Body, Budget, BudgetLimits, BudgetScope, Clock, Ports, Random, RealDisk, Records, RunContext, SinkContext, StageError, Transport, TransportError,
    TransportFault,
};

/// A clock on which sleeping passes at once, by moving the time.
#[derive(Debug)]
pub struct TestClock {
    start: DateTime<Utc>,
    elapsed: AtomicU64,
}

impl TestClock {
    /// A clock that stands at `start`.
    pub fn new(start: DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self { start, elapsed: AtomicU64::new(0) })
    }

    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        self.elapsed.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        self.start + self.monotonic()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.elapsed.load(Ordering::SeqCst))
    }
    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

/// Pseudo-random bits from a seed (SplitMix64, Steele et al. 2014).
#[derive(Debug)]
pub struct TestRandom(AtomicU64);

impl TestRandom {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(seed)))
    }
}

impl Random for TestRandom {
    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A budget that never waits, and remembers what was asked of it.
#[derive(Debug, Default)]
pub struct TestBudget {
    /// Every request, in order.
    pub requests: Mutex<Vec<(BudgetScope, BudgetLimits)>>,
    /// All credits spent.
    pub credits: AtomicU64,
}

#[async_trait]
impl Budget for TestBudget {
    async fn acquire(&self, scope: &BudgetScope, limits: &BudgetLimits, _: Duration) -> Result<(), StageError> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push((scope.clone(), *limits));
        Ok(())
    }
    fn spend(&self, _: &BudgetScope, credits: u64) -> Result<(), StageError> {
        self.credits.fetch_add(credits, Ordering::SeqCst);
        Ok(())
    }
}

/// One scripted answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Status, headers, body.
    Reply(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A body that breaks after these bytes.
    Cut(u16, Vec<u8>),
    /// No answer at all.
    Fault(TransportFault),
}

impl Answer {
    /// Status 200 and a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Reply(200, Vec::new(), body.into())
    }

    /// A status and a body.
    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Reply(status, Vec::new(), body.into())
    }

    /// Adds a header to a reply.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Reply(_, headers, _) = &mut self {
            headers.push((name, value.into()));
        }
        self
    }
}

type Script = Box<dyn FnMut(&http::Request<Bytes>) -> Answer + Send>;

/// A far side that answers as a script says, and remembers what it was asked.
pub struct TestTransport {
    script: Mutex<Script>,
    /// Every request, in order.
    pub requests: Mutex<Vec<http::Request<Bytes>>>,
}

impl TestTransport {
    /// Answers each request by a function of it.
    pub fn new(script: impl FnMut(&http::Request<Bytes>) -> Answer + Send + 'static) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(Box::new(script)), requests: Mutex::default() })
    }

    /// Answers in turn; when all are used up, as a host that refuses connections.
    pub fn in_turn(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        let mut answers: VecDeque<Answer> = answers.into_iter().collect();
        Self::new(move |_| answers.pop_front().unwrap_or(Answer::Fault(TransportFault::Connect)))
    }

    /// The paths and queries that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|r| r.uri().path_and_query().map_or_else(String::new, ToString::to_string)).collect()
    }
}

struct TestBody(VecDeque<Result<Bytes, TransportError>>);

#[async_trait]
impl Body for TestBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.0.pop_front().transpose()
    }
}

fn fault(fault: TransportFault) -> TransportError {
    TransportError { fault, message: format!("scripted fault: {fault:?}") }
}

#[async_trait]
impl Transport for TestTransport {
    async fn send(&self, request: http::Request<Bytes>, _: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        let answer = (self.script.lock().unwrap_or_else(PoisonError::into_inner))(&request);
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let (status, headers, pieces) = match answer {
            Answer::Reply(status, headers, body) => (status, headers, vec![Ok(Bytes::from(body))]),
            Answer::Cut(status, body) => (status, Vec::new(), vec![Ok(Bytes::from(body)), Err(fault(TransportFault::Broken))]),
            Answer::Fault(kind) => return Err(fault(kind)),
        };
        let body: Box<dyn Body> = Box::new(TestBody(pieces.into()));
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        response.body(body).map_err(|error| TransportError { fault: TransportFault::Request, message: error.to_string() })
    }
}

/// Ports for a test: the given clock and far side, the real disk, seeded randomness, a budget that never waits.
pub fn ports(clock: Arc<dyn Clock>, transport: Arc<dyn Transport>) -> Ports {
    Ports { clock, random: TestRandom::new(7), disk: Arc::new(RealDisk), transport, budget: Arc::new(TestBudget::default()) }
}

/// A run for a test, fired now by `ports.clock`, without window or deadline.
pub fn run_context(ports: Ports) -> RunContext {
    RunContext {
        pipeline: Arc::from("test"),
        run_id: Arc::from("test@1"),
        tick: ports.clock.now(),
        window: None,
        deadline: None,
        cancel: CancellationToken::new(),
        ports,
    }
}

/// Records that a test keeps in memory, as the engine keeps them in its state.
#[derive(Debug, Default)]
pub struct TestRecords(Mutex<std::collections::BTreeMap<String, Value>>);

impl TestRecords {
    /// Applies what an epoch changed.
    pub fn apply(&self, state: &crate::SinkState) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in &state.0 {
            if value.is_null() {
                records.remove(key)
            } else {
                records.insert(key.clone(), value.clone())
            };
        }
    }
}

impl Records for TestRecords {
    fn get(&self, key: &str) -> Result<Option<Value>, StageError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }
    fn all(&self) -> Result<Vec<(String, Value)>, StageError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

/// What a sink is given in a test.
pub fn sink_context(ports: Ports, records: Arc<dyn Records>, keep_dir: impl Into<std::path::PathBuf>) -> SinkContext {
    SinkContext { ports, records, id: "test-0".to_owned(), keep_dir: keep_dir.into() }
}
