//! The client itself: what is sent, how often, and what became of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backon::Retryable;
use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderName, HeaderValue, StatusCode};
use pipeline_contract::{Act, BudgetLimits, BudgetScope, Category, Demand, Mask, PlanError, RunContext, Secret, StageError, is_this_machine};
use reqwest::Url;
use serde::de::DeserializeOwned;

use crate::backoff::{FullJitter, limited};
use crate::classify::{Classifier, Response, by_fault, by_status, hint_of};
use crate::config::HttpConfig;
use crate::exchange::{Failed, exchange, seconds, size};
use crate::hints::wait_hint;
use crate::transport::ConnectTimeout;

/// No run is held up longer than this by one wait, whatever the far side asks for: the run ends and the next tick tries again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Why a client cannot be made of a config.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    /// The base URL cannot be used.
    #[error("{0}")]
    BaseUrl(String),
    /// The key would go over the wire for all to read.
    #[error("the key would be sent to {host} over plain http://, for all to read")]
    InsecureKey {
        /// The host.
        host: String,
    },
    /// The key cannot be sent in a header.
    #[error("the key holds characters that no key has: a line break, a control character, or one that is not ASCII")]
    Key,
    /// Another option cannot be used.
    #[error("`http.{option}`: {message}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        message: String,
    },
}

impl ClientFault {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::BaseUrl(_) => "write it as \"https://api.example.com/v1\"".to_owned(),
            Self::InsecureKey { host } => format!("use https://, or name the host: `http.allow_insecure_key = [\"{host}\"]`"),
            Self::Key => "check where it comes from for line breaks, and for signs that came along when it was copied".to_owned(),
            Self::Option { .. } => "leave it out to have its default".to_owned(),
        }
    }

    /// The fault of a pipeline file that it is, at a byte range of the file.
    pub fn at(&self, span: std::ops::Range<usize>) -> PlanError {
        PlanError::new("E012", self.to_string()).at(span).help(self.help())
    }
}

struct Key {
    header: HeaderName,
    value: HeaderValue,
    mask: Option<Mask>,
}

/// Asks one host, politely.
///
/// Made once, when the source is built, without touching the network; used in every run. Cloning it is cheap.
#[derive(Clone)]
pub struct HttpClient {
    base: Arc<Url>,
    config: Arc<HttpConfig>,
    user_agent: HeaderValue,
    key: Option<Arc<Key>>,
    classify: Classifier,
    limits: BudgetLimits,
    scope: BudgetScope,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("base", &self.base.as_str()).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client for what lies under `base_url`.
    ///
    /// # Errors
    /// When the base URL is not `http://` or `https://` with a host and nothing after the path, or an option makes no sense.
    pub fn new(base_url: &str, config: &HttpConfig) -> Result<Self, ClientFault> {
        let base = parse_base(base_url).map_err(ClientFault::BaseUrl)?;
        let option = |option, message: &str| ClientFault::Option { option, message: message.to_owned() };
        let user_agent = HeaderValue::from_str(&config.user_agent).map_err(|_| option("user_agent", "no HTTP header may have these characters"))?;
        if config.user_agent.trim().is_empty() {
            return Err(option("user_agent", "it is empty, and many APIs refuse a client without a name"));
        }
        if config.timeout.0.is_zero() {
            return Err(option("timeout", "no request is done in no time"));
        }
        if config.connect_timeout.0.is_zero() {
            return Err(option("connect_timeout", "no connection is made in no time"));
        }
        if config.retries > 20 {
            return Err(option("retries", "more than 20 would only hammer a host that is down"));
        }
        if config.max_body == 0 {
            return Err(option("max_body", "every answer is larger than nothing"));
        }
        let scope = BudgetScope { host: authority(&base), key: "keyless".to_owned() };
        let limits = BudgetLimits { per_minute: config.requests_per_minute, per_month: config.requests_per_month };
        Ok(Self { base: Arc::new(base), config: Arc::new(config.clone()), user_agent, key: None, classify: |_| None, limits, scope })
    }

    /// Sends `key` in `header` with every request. An empty key is no key.
    ///
    /// # Errors
    /// When the key would go over plain `http://` to a host that is neither this machine nor named in `allow_insecure_key`, or cannot be a
    /// header's value.
    pub fn key(mut self, header: HeaderName, key: &Secret) -> Result<Self, ClientFault> {
        if key.is_empty() {
            return Ok(self);
        }
        let host = self.host();
        if self.base.scheme() != "https" && !is_this_machine(host) && !self.config.allow_insecure_key.iter().any(|h| h.eq_ignore_ascii_case(host)) {
            return Err(ClientFault::InsecureKey { host: host.to_owned() });
        }
        // A header may have more than visible ASCII, but a key never does: it is a sign that came along when the key was copied.
        let visible = key.expose().bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let mut value = HeaderValue::from_str(key.expose()).ok().filter(|_| visible).ok_or(ClientFault::Key)?;
        value.set_sensitive(true);
        self.scope.key = fingerprint(key);
        self.key = Some(Arc::new(Key { header, value, mask: Mask::of(key) }));
        Ok(self)
    }

    /// Looks at each answer with `classify` before its status is looked at.
    #[must_use]
    pub fn classify(mut self, classify: Classifier) -> Self {
        self.classify = classify;
        self
    }

    /// The limits of the host as far as the source knows them; what the config says goes first.
    #[must_use]
    pub fn default_limits(mut self, limits: BudgetLimits) -> Self {
        self.limits.per_minute = self.limits.per_minute.or(limits.per_minute);
        self.limits.per_month = self.limits.per_month.or(limits.per_month);
        self
    }

    /// The host of the base URL, as `api.example.com`.
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The limits in force.
    pub fn limits(&self) -> BudgetLimits {
        self.limits
    }

    /// What its requests have of the budget, for [`pipeline_contract::Source::demand`]; `place` is where the pipeline file says how much is
    /// asked for.
    pub fn demand(&self, place: Option<std::ops::Range<usize>>) -> Demand {
        let timeout = Some(self.config.timeout).filter(|timeout| *timeout != HttpConfig::default().timeout);
        Demand { scope: self.scope.clone(), limits: self.limits, timeout: timeout.map(|timeout| timeout.0), place }
    }

    /// Asks for `path` below the base URL and types the JSON that comes.
    ///
    /// Each segment of the path is percent-encoded whole, so that a name from a config cannot lead elsewhere; likewise the query's values.
    ///
    /// # Errors
    /// Whatever is left after the retries; JSON that is broken, or of another shape, is retried too.
    pub async fn get_json<T: DeserializeOwned + Send>(&self, run: &RunContext, path: &[&str], query: &[(&str, &str)]) -> Result<T, StageError> {
        self.get_with(run, path, query, Response::json).await
    }

    /// Asks for `path` below the base URL.
    ///
    /// # Errors
    /// Whatever is left after the retries.
    pub async fn get(&self, run: &RunContext, path: &[&str], query: &[(&str, &str)]) -> Result<Response, StageError> {
        self.get_with(run, path, query, |response| Ok(response.clone())).await
    }

    /// Asks for `path` below the base URL and makes something of the answer. When `parse` fails transiently the request is sent again; as
    /// for a [`Classifier`], its message is the reason alone.
    ///
    /// # Errors
    /// Whatever is left after the retries. The message names method, URL, status, reason and attempts, and never the key.
    pub async fn get_with<T, F>(&self, run: &RunContext, path: &[&str], query: &[(&str, &str)], parse: F) -> Result<T, StageError>
    where
        T: Send,
        F: Fn(&Response) -> Result<T, StageError> + Send + Sync,
    {
        let url = self.url(path, query)?;
        let (ports, attempts) = (&run.ports, AtomicU32::new(0));
        let (clock, cancel) = (ports.clock.clone(), run.cancel.clone());
        let mut given_up = None;
        let once = || -> Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + '_>> {
            attempts.fetch_add(1, Ordering::Relaxed);
            Box::pin(self.attempt(run, &url, &parse))
        };
        let retrying = once
            .retry(FullJitter::new(ports.random.clone(), self.config.retries))
            .sleep(move |wait| -> Pin<Box<dyn Future<Output = ()> + Send>> {
                let (clock, cancel) = (clock.clone(), cancel.clone());
                Box::pin(async move {
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => {}
                        () = clock.sleep(wait) => {}
                    }
                })
            })
            .when(|failure: &Failure| failure.retry && failure.error.is_transient())
            .adjust(|failure: &Failure, wait: Option<Duration>| {
                let drawn = wait?;
                let wait = match failure.hint.filter(|hint| !hint.is_zero()) {
                    // A little later than asked, and not all at the same instant.
                    Some(hint) => hint + Duration::from_secs(1).mul_f64(ports.random.unit()),
                    None if failure.error.category == Category::RateLimit => limited(&*ports.random, attempts.load(Ordering::Relaxed) - 1),
                    None => drawn,
                };
                if wait > run.time_left().min(LONGEST_WAIT) {
                    given_up = Some(wait);
                    return None;
                }
                Some(wait)
            })
            .notify(|failure: &Failure, wait: Duration| {
                let (host, path, attempt) = (self.host(), url.path(), attempts.load(Ordering::Relaxed));
                tracing::warn!(host, path, attempt, wait = seconds(wait), reason = self.reason(failure), "request failed, trying again");
            });
        // The boxes: from a caller's `async fn` the compiler cannot otherwise see that all this may move between threads.
        let retrying: Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + '_>> = Box::pin(retrying.into_future());
        let result = retrying.await;
        result.map_err(|failure| self.describe(&url, failure, attempts.into_inner(), given_up))
    }

    async fn attempt<T, F>(&self, run: &RunContext, url: &Url, parse: &F) -> Result<T, Failure>
    where
        F: Fn(&Response) -> Result<T, StageError> + Sync,
    {
        let time_left = run.time_left();
        if time_left.is_zero() {
            return Err(Failure::last(StageError::transient(Category::Network, "the run's deadline has passed")));
        }
        tokio::select! {
            biased;
            () = run.cancel.cancelled() => return Err(Failure::cancelled()),
            granted = run.ports.budget.acquire(&self.scope, &self.limits, time_left) => granted.map_err(Failure::bare)?,
        }
        let timeout = self.config.timeout.0.min(run.time_left());
        let spend = || run.ports.budget.spend(&self.scope, 1);
        let response = match exchange(run, self.request(url)?, timeout, self.config.max_body, spend).await {
            // Nothing beyond this line sees an echo of the key: not a classifier, not a row, not a message that would cut it in two.
            Ok(response) => self.without_key(response),
            Err(Failed::Cancelled) => return Err(Failure::cancelled()),
            Err(Failed::Fault(fault)) => return Err(Failure { retry: true, ..Failure::last(by_fault(fault)) }),
            Err(Failed::Stage(error)) => return Err(Failure::bare(error)),
            Err(Failed::TooLarge) => {
                let message = format!("body larger than {}", size(self.config.max_body));
                return Err(Failure::last(StageError::split(Category::ServerError, message).help("if it should be, raise `http.max_body`")));
            }
        };
        let error = match (self.classify)(&response).or_else(|| by_status(&response)) {
            Some(error) => error,
            None => match parse(&response) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            },
        };
        let limited = error.category == Category::RateLimit;
        let hint = hint_of(&error).or_else(|| wait_hint(&response.headers, limited, run.ports.clock.now()));
        if let (Some(hint), true) = (hint, limited || response.status == StatusCode::SERVICE_UNAVAILABLE) {
            // It speaks of the host and the key, not of this request alone.
            run.ports.budget.hold(&self.scope, hint);
        }
        Err(Failure { status: Some(response.status), hint, retry: true, ..Failure::last(error) })
    }

    fn request(&self, url: &Url) -> Result<http::Request<Bytes>, Failure> {
        let mut request = http::Request::get(url.as_str()).header(USER_AGENT, &self.user_agent).header(ACCEPT, "application/json");
        if let Some(key) = &self.key {
            request = request.header(&key.header, &key.value);
        }
        let request = request.extension(ConnectTimeout(self.config.connect_timeout.0)).body(Bytes::new());
        request.map_err(|cause| Failure::last(StageError::split(Category::ClientError, format!("the request cannot be sent: {cause}"))))
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, StageError> {
        let mut url = Url::clone(&self.base);
        // URLs give these a meaning that no encoding takes away.
        if let Some(odd) = path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(StageError::split(Category::ClientError, format!("\"{odd}\" cannot be a part of a URL's path")));
        }
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// What went wrong, in one line without secrets: status and reason.
    fn reason(&self, failure: &Failure) -> String {
        let reason = self.redact(&failure.error.message);
        match (failure.status, reason.is_empty()) {
            (Some(status), true) => status.to_string(),
            (Some(status), false) => format!("{status}: {reason}"),
            (None, _) => reason,
        }
    }

    fn describe(&self, url: &Url, failure: Failure, attempts: u32, given_up: Option<Duration>) -> StageError {
        /// A list of names in a query would hide the rest of the message.
        const LONGEST_URL: usize = 200;

        let mut error = failure.error.clone();
        if failure.bare {
            error.message = self.redact(&error.message);
            return error;
        }
        let shown: String = url.as_str().chars().take(LONGEST_URL).collect();
        let more = if shown.len() < url.as_str().len() { "..." } else { "" };
        let times = if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
        let gave_up = given_up.map_or_else(String::new, |wait| format!("; gave up, as the next could be sent in {} only", seconds(wait)));
        error.message = self.redact(&format!("GET {shown}{more}: {} ({times}{gave_up})", self.reason(&failure)));
        error.help = error.help.map(|help| self.redact(&help));
        if let Act::Time { retry_after } = &mut error.act {
            *retry_after = failure.hint.or(given_up).or(*retry_after);
        }
        error
    }

    /// The answer with `***` for the key.
    fn without_key(&self, mut response: Response) -> Response {
        if let Some(mask) = self.key.as_ref().and_then(|key| key.mask.as_ref()) {
            mask.headers(&mut response.headers);
            response.body = mask.body(&response.body).unwrap_or(response.body);
        }
        response
    }

    fn redact(&self, text: &str) -> String {
        self.key.as_ref().and_then(|key| key.mask.as_ref()).map_or_else(|| text.to_owned(), |mask| mask.text(text))
    }
}

/// A failed attempt.
struct Failure {
    error: StageError,
    status: Option<StatusCode>,
    hint: Option<Duration>,
    retry: bool,
    /// The message is whole: it is not about the request.
    bare: bool,
}

impl Failure {
    fn last(error: StageError) -> Self {
        Self { error, status: None, hint: None, retry: false, bare: false }
    }

    fn bare(error: StageError) -> Self {
        Self { hint: hint_of(&error), bare: true, ..Self::last(error) }
    }

    fn cancelled() -> Self {
        Self::last(StageError::transient(Category::Unexpected, "stopped, as the run was cancelled"))
    }
}

/// A fingerprint of a key, 8 hexadecimal digits: enough to tell keys apart, too little to find one.
fn fingerprint(key: &Secret) -> String {
    format!("{:08x}", xxhash_rust::xxh3::xxh3_64(key.expose().as_bytes()) >> 32)
}

fn parse_base(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|cause| format!("this is not a URL: {cause}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{}: is no scheme that is spoken here", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("this URL has no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a name or password has no place in this URL, where it would be logged".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("this URL has something after its path (`?` or `#`)".to_owned());
    }
    Ok(url)
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
