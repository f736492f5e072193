//! The world of one case: time, far side, budget and disk, each watched.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::harm::{Harm, When};
use crate::testkit::{Answer, SimDisk, TestRandom};
use crate::{
    Body, Budget, BudgetLimits, BudgetScope, CancellationToken, Clock, Ports, RunContext, StageError, Transport, TransportError, TransportFault,
};

/// What a far side says to a request.
pub(super) type Answers = Arc<dyn Fn(&http::Request<Bytes>) -> Answer + Send + Sync>;

/// Pending so many times, then ready: as a far side that takes its time.
struct Stutter(usize);

impl Future for Stutter {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A clock whose time passes when everybody waits for it.
#[derive(Debug)]
pub(super) struct KitClock {
    start: DateTime<Utc>,
    stutter: usize,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    now: Duration,
    timers: BTreeSet<(Duration, u64)>,
    count: u64,
}

impl KitClock {
    pub(super) fn new(start: DateTime<Utc>, stutter: usize) -> Arc<Self> {
        Arc::new(Self { start, stutter, times: Mutex::default() })
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the time on to the next moment that somebody waits for. False when nobody does.
    pub(super) fn pass(&self) -> bool {
        let mut times = self.times();
        let Some((at, _)) = times.timers.first().copied() else { return false };
        times.now = times.now.max(at);
        true
    }

    /// Moves the time on.
    pub(super) fn advance(&self, by: Duration) {
        self.times().now += by;
    }
}

struct Sleep<'a> {
    clock: &'a KitClock,
    timer: (Duration, u64),
}

impl Future for Sleep<'_> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let mut times = self.clock.times();
        if times.now >= self.timer.0 {
            times.timers.remove(&self.timer);
            return Poll::Ready(());
        }
        times.timers.insert(self.timer);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.clock.times().timers.remove(&self.timer);
    }
}

#[async_trait]
impl Clock for KitClock {
    fn now(&self) -> DateTime<Utc> {
        self.start + self.monotonic()
    }
    fn monotonic(&self) -> Duration {
        self.times().now
    }
    async fn sleep(&self, duration: Duration) {
        Stutter(self.stutter).await;
        let timer = {
            let mut times = self.times();
            times.count += 1;
            (times.now.saturating_add(duration), times.count)
        };
        Sleep { clock: self, timer }.await;
    }
}

/// One request that reached the far side.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) uri: String,
    pub(super) at: Duration,
    /// The budget had allowed it.
    pub(super) allowed: bool,
    /// The run was cancelled before.
    pub(super) cancelled: bool,
}

#[derive(Default)]
struct Ledger {
    granted: usize,
    sent: Vec<Sent>,
    held_until: Duration,
}

/// Far side and budget.
pub(super) struct Wire {
    clock: Arc<KitClock>,
    answers: Answers,
    when: When,
    stutter: usize,
    secret: Option<String>,
    cancel: CancellationToken,
    ledger: Mutex<Ledger>,
}

impl Wire {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sent(&self) -> Vec<Sent> {
        self.ledger().sent.clone()
    }
}

struct Pieces {
    clock: Arc<KitClock>,
    rest: VecDeque<Result<Bytes, TransportError>>,
    stalls: bool,
    stutter: usize,
}

#[async_trait]
impl Body for Pieces {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        Stutter(self.stutter).await;
        if self.rest.is_empty() && self.stalls {
            // As a connection that nobody closes: only a time limit ends it.
            loop {
                self.clock.sleep(Duration::from_secs(24 * 3600)).await;
            }
        }
        let piece = self.rest.pop_front().transpose();
        Stutter(self.stutter).await;
        piece
    }
}

fn fault(fault: TransportFault) -> TransportError {
    TransportError { fault, message: format!("the far side is away ({fault:?})") }
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: http::Request<Bytes>, timeout: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        Stutter(self.stutter).await;
        let number = {
            let mut ledger = self.ledger();
            let sent = Sent {
                uri: request.uri().to_string(),
                at: self.clock.monotonic(),
                allowed: ledger.granted > ledger.sent.len(),
                cancelled: self.cancel.is_cancelled(),
            };
            ledger.sent.push(sent);
            ledger.sent.len() - 1
        };
        let genuine = (self.answers)(&request);
        let harm = self.when.at(number);
        if harm == Some(Harm::Silence) {
            self.clock.sleep(timeout).await;
            return Err(fault(TransportFault::Timeout));
        }
        let answer = harm.map_or(genuine.clone(), |harm| harm.of(&genuine, self.secret.as_deref()));
        Stutter(self.stutter).await;
        let (status, headers, body, broken) = match answer {
            Answer::Reply(status, headers, body) => (status, headers, body, false),
            Answer::Cut(status, body) => (status, Vec::new(), body, true),
            Answer::Fault(kind) => return Err(fault(kind)),
        };
        let mut rest: VecDeque<_> = body.chunks(body.len().div_ceil(3).max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        if broken {
            rest.push_back(Err(fault(TransportFault::Broken)));
        }
        let body: Box<dyn Body> = Box::new(Pieces { clock: self.clock.clone(), rest, stalls: harm == Some(Harm::Stall), stutter: self.stutter });
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        response.body(body).map_err(|error| TransportError { fault: TransportFault::Request, message: error.to_string() })
    }
}

#[async_trait]
impl Budget for Wire {
    async fn acquire(&self, _: &BudgetScope, _: &BudgetLimits, patience: Duration) -> Result<(), StageError> {
        Stutter(self.stutter).await;
        loop {
            let wait = self.ledger().held_until.saturating_sub(self.clock.monotonic());
            if wait.is_zero() {
                break;
            }
            if wait > patience {
                return Err(StageError::retry_after(
                    crate::Category::RateLimit,
                    wait,
                    "the far side asked to be left alone for longer than may be waited",
                ));
            }
            self.clock.sleep(wait).await;
        }
        self.ledger().granted += 1;
        Ok(())
    }
    fn spend(&self, _: &BudgetScope, _: u64) -> Result<(), StageError> {
        Ok(())
    }
    fn hold(&self, _: &BudgetScope, wait: Duration) {
        let mut ledger = self.ledger();
        ledger.held_until = ledger.held_until.max(self.clock.monotonic() + wait);
    }
}

/// How a world differs from the best of all.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) now: DateTime<Utc>,
    pub(super) answers: Answers,
    pub(super) disk: SimDisk,
    pub(super) secret: Option<String>,
    pub(super) when: When,
    /// How often each call of a port is pending, before it acts and after.
    pub(super) stutter: usize,
    pub(super) window: Option<crate::Window>,
    pub(super) deadline: Option<Duration>,
}

impl Setting {
    pub(super) fn new(now: DateTime<Utc>) -> Self {
        Self {
            now,
            answers: Arc::new(|_| Answer::Fault(TransportFault::Connect)),
            disk: SimDisk::new(),
            secret: None,
            when: When::Never,
            stutter: 0,
            window: None,
            deadline: None,
        }
    }
}

/// Time, far side, budget, disk, and the run in it.
pub(super) struct World {
    pub(super) clock: Arc<KitClock>,
    pub(super) wire: Arc<Wire>,
    pub(super) run: RunContext,
}

impl World {
    pub(super) fn new(setting: &Setting) -> Self {
        let clock = KitClock::new(setting.now, setting.stutter);
        let cancel = CancellationToken::new();
        let wire = Arc::new(Wire {
            clock: clock.clone(),
            answers: setting.answers.clone(),
            when: setting.when,
            stutter: setting.stutter,
            secret: setting.secret.clone(),
            cancel: cancel.clone(),
            ledger: Mutex::default(),
        });
        let ports = Ports {
            clock: clock.clone(),
            random: TestRandom::new(7),
            disk: Arc::new(setting.disk.clone()),
            transport: wire.clone(),
            budget: wire.clone(),
        };
        let run = RunContext {
            pipeline: Arc::from("kit"),
            run_id: Arc::from("kit@1"),
            tick: setting.now,
            window: setting.window,
            deadline: setting.deadline,
            cancel,
            ports,
        };
        Self { clock, wire, run }
    }
}
