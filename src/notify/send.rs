//! Telling.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use pipeline_contract::{Ports, StageError, TransportFault, async_trait, rfc3339};

use tokio_util::sync::CancellationToken;

use super::{Event, Memory, News, Target, decide, shape};
use crate::state::Store;
use crate::watch::Report;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The waits between the tries of one message.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Data grow stale while nothing runs: somebody must look.
const LOOK: Duration = Duration::from_secs(60);
/// After a message that could not be sent at all, that target is left alone for so long.
const PAUSE: Duration = Duration::from_secs(300);

/// Who looks at a pipeline.
#[async_trait]
pub trait Look: Send + Sync {
    /// What is known of it now.
    ///
    /// # Errors
    /// When its state or its rows cannot be read.
    async fn look(&self) -> Result<Report, StageError>;
}

/// Who tells the news of one pipeline.
pub struct Notifier {
    targets: Vec<Target>,
    store: Arc<dyn Store>,
    ports: Ports,
    /// Until when, on the monotonic clock, a target is left alone.
    resting: Mutex<BTreeMap<usize, Duration>>,
}

impl Notifier {
    /// News go to these targets; what was told is remembered in the pipeline's state.
    pub fn new(targets: Vec<Target>, store: Arc<dyn Store>, ports: Ports) -> Self {
        Self { targets, store, ports, resting: Mutex::default() }
    }

    /// Is there nobody to tell?
    pub fn is_idle(&self) -> bool {
        self.targets.is_empty()
    }

    /// Tells what is news in this report. A target that cannot be reached is warned of in the log and tried again later: never an error of
    /// the pipeline.
    pub async fn tell(&self, report: &Report) {
        for (place, target) in self.targets.iter().enumerate() {
            let monotonic = self.ports.clock.monotonic();
            if self.resting.lock().unwrap_or_else(PoisonError::into_inner).get(&place).is_some_and(|until| *until > monotonic) {
                continue;
            }
            if let Err(error) = self.tell_one(report, target).await {
                tracing::warn!(
                    pipeline = %report.pipeline, host = %target.host, reason = %error.message, help = error.help.as_deref(),
                    "a notification could not be sent; tried again in 5 minutes"
                );
                self.resting.lock().unwrap_or_else(PoisonError::into_inner).insert(place, monotonic.saturating_add(PAUSE));
            }
        }
    }

    async fn tell_one(&self, report: &Report, target: &Target) -> Result<(), StageError> {
        let note = target.note();
        // What is there and cannot be read is of another version: what it knew is told once more.
        let memory: Memory = self.store.note(&note)?.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
        let now = self.ports.clock.now();
        let (news, next) = decide(report, &memory, target, now);
        for one in &news {
            self.send(report, target, one).await?;
            tracing::info!(pipeline = %report.pipeline, host = %target.host, event = one.event.name(), "notification sent");
        }
        if next != memory {
            self.store.set_note(&note, &serde_json::to_value(&next).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Looks and tells: now, each time that `wake` says so, once a minute, and a last time when `cancel` does.
    pub async fn watch(&self, look: &dyn Look, wake: &tokio::sync::Notify, cancel: &CancellationToken) {
        if self.targets.is_empty() {
            return;
        }
        loop {
            match look.look().await {
                Ok(report) => self.tell(&report).await,
                Err(error) => tracing::warn!(reason = %error, "what should be told of this pipeline cannot be read now; tried again in a minute"),
            }
            if cancel.is_cancelled() {
                return;
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = wake.notified() => {}
                () = self.ports.clock.sleep(LOOK) => {}
            }
        }
    }

    /// Sends a message that says that messages arrive, to every target.
    ///
    /// # Errors
    /// For each target whether it arrived.
    pub async fn try_out(&self, pipeline: &str) -> Vec<(String, Result<(), StageError>)> {
        let report = Report { pipeline: pipeline.to_owned(), ..Report::default() };
        let message = format!("a test, sent by hand at {}: messages arrive", rfc3339(self.ports.clock.now()));
        let mut outcomes = Vec::new();
        for target in &self.targets {
            let event = target.on.first().copied().unwrap_or(Event::Recovered);
            let news = News { event, message: message.clone() };
            outcomes.push((target.host.clone(), self.send(&report, target, &news).await));
        }
        outcomes
    }

    async fn send(&self, report: &Report, target: &Target, news: &News) -> Result<(), StageError> {
        let body = shape::body(target.shape, report, news, self.ports.clock.now()).to_string();
        let mut waits = WAITS.iter();
        loop {
            match (self.post(target, &body).await, waits.next()) {
                (Ok(()), _) => return Ok(()),
                (Err(error), Some(wait)) if error.is_transient() => {
                    tracing::debug!(host = %target.host, reason = %error.message, "the notification is sent once more");
                    self.ports.clock.sleep(*wait).await;
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    async fn post(&self, target: &Target, body: &str) -> Result<(), StageError> {
        use pipeline_contract::Category::{ClientError, Network, ServerError};
        let agent = concat!("pipeline/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(target.url.expose())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, agent);
        if let Some(token) = &target.token {
            let value = header::HeaderValue::try_from(format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| StageError::operator(ClientError, "the token of [notify] cannot stand in a header"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .map_err(|_| StageError::operator(ClientError, format!("{}: the URL of [notify] cannot be asked", target.host)))?;
        let answer = self.ports.transport.send(request, TIMEOUT).await.map_err(|error| {
            // The message of a fault may name the URL, which is a secret.
            let what = match error.fault {
                TransportFault::Connect => "nobody answers there",
                TransportFault::Timeout => "it took too long to answer",
                TransportFault::Broken => "the connection broke",
                TransportFault::Tls => "its certificate is not trusted",
                TransportFault::Request => "the request cannot be sent",
                TransportFault::Unrecorded => "there is no network in a replay",
            };
            StageError::transient(Network, format!("{}: {what}", target.host))
        })?;
        let status = answer.status();
        let said = |what: &str| format!("{} answered {} {what}", target.host, status.as_u16());
        match status.as_u16() {
            200..=299 => Ok(()),
            429 | 408 => Err(StageError::transient(ServerError, said("(too much at once)"))),
            500..=599 => Err(StageError::transient(ServerError, said("(an error of its own)"))),
            401 | 403 | 404 | 410 => Err(StageError::operator(ClientError, said("(it does not know this webhook)"))
                .help("make a new webhook there, and put its URL where [notify] takes it from; `pipeline notify FILE` tries it out")),
            _ => Err(StageError::operator(ClientError, said("(it does not want this message)")).help("is `format` of [notify] the right one?")),
        }
    }
}
