//! The world outside, behind traits: clock, randomness, disk, network, request budget. A year can be simulated on them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::{Disk, StageError};

/// Time.
#[async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock. It may be stepped back and forward.
    fn now(&self) -> DateTime<Utc>;

    /// Time since some fixed moment; it never goes back. For deadlines and rates.
    fn monotonic(&self) -> Duration;

    /// Waits.
    async fn sleep(&self, duration: Duration);
}

/// Randomness, for jitter alone.
pub trait Random: Send + Sync + std::fmt::Debug {
    /// 64 random bits.
    fn next(&self) -> u64;

    /// A number from 0 up to, but without, 1.
    fn unit(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a float exactly")]
        let bits = (self.next() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }
}

/// What kept a request from being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportFault {
    /// The name could not be resolved or nobody listens there.
    Connect,
    /// It took too long.
    Timeout,
    /// The connection broke, before or within the body.
    Broken,
    /// TLS: a certificate that is not trusted, say.
    Tls,
    /// The request itself cannot be sent.
    Request,
    /// There is no network: answers come from a recording, and it has none to this request.
    Unrecorded,
}

/// Why a request was not answered. The message names no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TransportError {
    /// What kind.
    pub fault: TransportFault,
    /// In one line.
    pub message: String,
}

/// The body of an answer, already decompressed.
#[async_trait]
pub trait Body: Send {
    /// The next piece, `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks, or the body ends before its announced length.
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError>;
}

/// One HTTP exchange. Neither retries, nor follows redirects to another host, nor limits.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends a request; the answer's body is read from [`Body`].
    ///
    /// # Errors
    /// When no answer's head arrived within `timeout`.
    async fn send(&self, request: http::Request<Bytes>, timeout: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError>;
}

/// Who shares a budget: a host and a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BudgetScope {
    /// The host, as `api.example.com`.
    pub host: String,
    /// A fingerprint of the key, never the key; `"keyless"` when there is none.
    pub key: String,
}

/// How much may be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Requests in any minute.
    pub per_minute: Option<NonZeroU32>,
    /// Credits in a calendar month (UTC).
    pub per_month: Option<u64>,
}

/// The request budgets of this process, shared by everything that uses one host and key. The monthly count survives restarts.
#[async_trait]
pub trait Budget: Send + Sync {
    /// Waits until one more request may be sent, also for the end of a [`Budget::hold`], `patience` at most.
    ///
    /// # Errors
    /// `rate_limit` when it would take longer, or the month's quota is used up.
    async fn acquire(&self, scope: &BudgetScope, limits: &BudgetLimits, patience: Duration) -> Result<(), StageError>;

    /// Counts credits against the month.
    ///
    /// # Errors
    /// `storage` when they cannot be saved.
    fn spend(&self, scope: &BudgetScope, credits: u64) -> Result<(), StageError>;

    /// The far side said to come back after `wait`: until then nothing of this scope is sent, by whomever. A hold never shortens another.
    fn hold(&self, _scope: &BudgetScope, _wait: Duration) {}
}

/// The world outside.
#[derive(Clone)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// HTTP.
    pub transport: Arc<dyn Transport>,
    /// Request budgets.
    pub budget: Arc<dyn Budget>,
}

/// From and up to, but without, an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first instant in it; `None` is as early as there is data.
    pub from: Option<DateTime<Utc>>,
    /// The first instant after it; `None` is now.
    pub to: Option<DateTime<Utc>>,
}

impl Window {
    /// Is `at` in it?
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }
}

/// What a stage knows of the run it works for.
#[derive(Clone)]
pub struct RunContext {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// The run's id.
    pub run_id: Arc<str>,
    /// The instant that fired it.
    pub tick: DateTime<Utc>,
    /// What part of the past is asked for; `None` is what the source brings by itself.
    pub window: Option<Window>,
    /// When, on [`Clock::monotonic`], the run must be over.
    pub deadline: Option<Duration>,
    /// Cancelled when the run must stop.
    pub cancel: CancellationToken,
    /// The world outside.
    pub ports: Ports,
}

impl RunContext {
    /// How much of the deadline is left; a long time when there is none.
    pub fn time_left(&self) -> Duration {
        const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        self.deadline.map_or(FOR_EVER, |deadline| deadline.saturating_sub(self.ports.clock.monotonic()))
    }
}
