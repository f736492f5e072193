//! Keeps what the network answers.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipeline_contract::{Body, Clock, Mask, Ports, Transport, TransportError, async_trait};

use super::clock::StandingClock;
use super::format::{Exchange, Fault, FaultKind, Head, INDEX, RecordError};
use super::secrets::{self, Masks};

/// A transport that keeps every exchange of another in a folder. Cloning it is cheap.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    head: Head,
    inner: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    began: Duration,
    sent: AtomicU64,
    index: Mutex<File>,
    masks: Masks,
    failed: Mutex<Option<RecordError>>,
}

impl Recorder {
    /// Begins a recording in a folder that is empty, or is made; the rest of its path is made as well.
    ///
    /// # Errors
    /// When something is in it, or it cannot be written.
    pub fn begin(dir: &Path, head: Head, ports: &Ports) -> Result<Self, RecordError> {
        fs::create_dir_all(dir).map_err(RecordError::io(dir))?;
        if fs::read_dir(dir).map_err(RecordError::io(dir))?.next().is_some() {
            return Err(RecordError::NotEmpty(dir.to_path_buf()));
        }
        let path = dir.join(INDEX);
        let mut index = OpenOptions::new().create_new(true).write(true).open(&path).map_err(RecordError::io(&path))?;
        let line = serde_json::to_string(&head).map_err(|error| RecordError::io(&path)(error.into()))?;
        writeln!(index, "{line}").map_err(RecordError::io(&path))?;
        Ok(Self(Arc::new(Shared {
            dir: dir.to_path_buf(),
            head,
            inner: Arc::clone(&ports.transport),
            clock: Arc::clone(&ports.clock),
            began: ports.clock.monotonic(),
            sent: AtomicU64::new(0),
            index: Mutex::new(index),
            masks: Masks::default(),
            failed: Mutex::default(),
        })))
    }

    /// The world for the stages of the run that is recorded: exchanges are kept, and the wall clock stands at the run's tick.
    pub fn ports(&self, ports: &Ports) -> Ports {
        let clock = Arc::new(StandingClock::new(self.0.head.at, Arc::clone(&ports.clock)));
        Ports { clock, transport: Arc::new(self.clone()), ..ports.clone() }
    }

    /// How many exchanges were kept; call it when the run is over.
    ///
    /// # Errors
    /// What kept an exchange from being kept: the recording is not whole then.
    pub fn finish(&self) -> Result<u64, RecordError> {
        match self.0.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(self.0.sent.load(Ordering::SeqCst)),
        }
    }
}

#[async_trait]
impl Transport for Recorder {
    async fn send(&self, request: http::Request<Bytes>, timeout: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        let shared = &self.0;
        let (url, mut found) = secrets::url(request.uri());
        found.extend(secrets::headers(request.headers()));
        let since = shared.clock.monotonic();
        let masks = shared.masks.of(&found);
        let exchange = Exchange {
            n: shared.sent.fetch_add(1, Ordering::SeqCst) + 1,
            method: request.method().to_string(),
            url: secrets::text(&masks, &url),
            request_body: request_body(request.body()),
            at_ms: millis(since.saturating_sub(shared.began)),
            ..Exchange::default()
        };
        // From here on it is kept whatever happens, also when whoever asked waits no longer.
        let mut kept = Kept { shared: Arc::clone(shared), exchange, masks, since, timeout, body: Vec::new(), ended: false };
        match shared.inner.send(request, timeout).await {
            Ok(response) => {
                let (head, inner) = response.into_parts();
                kept.head(&head);
                let body: Box<dyn Body> = Box::new(KeptBody { inner, kept });
                Ok(http::Response::from_parts(head, body))
            }
            Err(error) => {
                kept.fault(&error);
                Err(error)
            }
        }
    }
}

/// What tells requests of one method and URL apart.
pub(super) fn request_body(body: &Bytes) -> Option<String> {
    (!body.is_empty()).then(|| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(body)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An exchange under way, which is kept when it ends in whatever way.
struct Kept {
    shared: Arc<Shared>,
    exchange: Exchange,
    masks: Vec<Mask>,
    since: Duration,
    timeout: Duration,
    body: Vec<u8>,
    ended: bool,
}

impl Kept {
    fn head(&mut self, head: &http::response::Parts) {
        self.exchange.status = Some(head.status.as_u16());
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in head.headers.iter().filter(|(name, _)| secrets::keeps(name.as_str())) {
            let value = secrets::text(&self.masks, &String::from_utf8_lossy(value.as_bytes()));
            headers.entry(name.to_string()).and_modify(|all| *all = format!("{all}, {value}")).or_insert(value);
        }
        self.exchange.headers = headers;
    }

    fn fault(&mut self, error: &TransportError) {
        let Fault { kind, message } = Fault::of(error);
        self.exchange.fault = Some(Fault { kind, message: secrets::text(&self.masks, &message) });
        self.ended = true;
    }

    fn save(&mut self) -> Result<(), RecordError> {
        let elapsed = self.shared.clock.monotonic().saturating_sub(self.since);
        self.exchange.elapsed_ms = millis(elapsed);
        if !self.ended {
            // Who asked went away. Its own timeout is the usual reason; a timer may ring a little early.
            let timed_out = elapsed + Duration::from_millis(10) >= self.timeout;
            self.exchange.fault = Some(if timed_out {
                Fault { kind: FaultKind::Timeout, message: format!("timed out after {} s", self.timeout.as_secs_f64()) }
            } else {
                Fault { kind: FaultKind::Unfinished, message: "the recording ends here: nobody read the answer any further".to_owned() }
            });
        }
        if self.exchange.status.is_some() {
            let body = secrets::body(&self.masks, std::mem::take(&mut self.body));
            let name = file_name(&self.exchange, &body);
            let path = self.shared.dir.join(&name);
            fs::write(&path, &body).map_err(RecordError::io(&path))?;
            self.exchange.body = Some(name);
        }
        let path = self.shared.dir.join(INDEX);
        let mut line = serde_json::to_string(&self.exchange).map_err(|error| RecordError::io(&path)(error.into()))?;
        line.push('\n');
        let mut index = self.shared.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.write_all(line.as_bytes()).map_err(RecordError::io(&path))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = self.save() {
            // The run goes on without its recording; the command says so at its end.
            self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

/// `0007-bitcoin-ohlc.json`: in the order of the requests, after the end of their paths.
fn file_name(exchange: &Exchange, body: &[u8]) -> String {
    const LONGEST: usize = 60;
    let path = exchange.url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let named = parts.get(parts.len().saturating_sub(2)..).unwrap_or_default().join("-");
    let named: String = named.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(LONGEST).collect();
    let kind = exchange.headers.get("content-type").map_or("", String::as_str);
    let ending = match body.trim_ascii_start().first() {
        _ if kind.contains("json") => "json",
        _ if kind.contains("csv") => "csv",
        _ if kind.contains("html") => "html",
        _ if kind.contains("xml") => "xml",
        Some(b'{' | b'[') => "json",
        Some(b'<') => "html",
        _ if std::str::from_utf8(body).is_ok() => "txt",
        _ => "bin",
    };
    format!("{:04}-{named}.{ending}", exchange.n)
}

struct KeptBody {
    inner: Box<dyn Body>,
    kept: Kept,
}

#[async_trait]
impl Body for KeptBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        let chunk = self.inner.chunk().await;
        match &chunk {
            Ok(Some(bytes)) => self.kept.body.extend_from_slice(bytes),
            Ok(None) => self.kept.ended = true,
            Err(error) => self.kept.fault(error),
        }
        chunk
    }
}
