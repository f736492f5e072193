//! Answers from a recording.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipeline_contract::{Body, Budget, BudgetLimits, BudgetScope, Ports, StageError, Transport, TransportError, TransportFault, Window, async_trait};

use super::clock::ReplayClock;
use super::format::{Exchange, Fault, FaultKind, Head, INDEX, RecordError, VERSION};
use super::recorder::request_body;
use super::secrets;

/// The longest line of an index, in bytes: headers are not long.
const LONGEST_LINE: u64 = 1 << 20;

/// What a request is known by; the key that it carries does not count.
type Known = (String, String, Option<String>);

/// A recording that was read.
pub struct Recording {
    dir: PathBuf,
    head: Head,
    answers: HashMap<Known, VecDeque<Exchange>>,
}

impl Recording {
    /// Reads the index of a recording. Bodies are read when they are asked for.
    ///
    /// # Errors
    /// When it cannot be read, or a line of it is not what it should be.
    pub fn open(dir: &Path) -> Result<Self, RecordError> {
        let path = dir.join(INDEX);
        let mut reader = BufReader::new(fs::File::open(&path).map_err(RecordError::io(&path))?);
        let mut head: Option<Head> = None;
        let mut exchanges: Vec<Exchange> = Vec::new();
        for line in 1.. {
            let fault = |message: String| RecordError::Line { path: path.clone(), line, message };
            let mut text = Vec::new();
            if (&mut reader).take(LONGEST_LINE + 1).read_until(b'\n', &mut text).map_err(RecordError::io(&path))? == 0 {
                break;
            }
            if text.len() as u64 > LONGEST_LINE {
                return Err(fault(format!("the line is longer than {LONGEST_LINE} bytes")));
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            if head.is_none() {
                let first: Head = serde_json::from_slice(&text).map_err(|error| fault(format!("this is not the head of a recording: {error}")))?;
                if first.recording != VERSION {
                    return Err(fault(format!("this recording is of version {}; {VERSION} is what is read here", first.recording)));
                }
                head = Some(first);
                continue;
            }
            let exchange: Exchange = serde_json::from_slice(&text).map_err(|error| fault(error.to_string()))?;
            if let Some(odd) = exchange.body.as_deref().filter(|name| !is_plain(name)) {
                return Err(fault(format!("`body` is {odd:?}, which is no file of this folder")));
            }
            exchanges.push(exchange);
        }
        let Some(head) = head else { return Err(RecordError::Line { path, line: 1, message: "the recording is empty".to_owned() }) };
        exchanges.sort_by_key(|exchange| exchange.n);
        let mut answers: HashMap<Known, VecDeque<Exchange>> = HashMap::new();
        for exchange in exchanges {
            let known = (exchange.method.clone(), exchange.url.clone(), exchange.request_body.clone());
            answers.entry(known).or_default().push_back(exchange);
        }
        Ok(Self { dir: dir.to_path_buf(), head, answers })
    }

    /// The run that was recorded.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The window that it asked for.
    pub fn window(&self) -> Option<Window> {
        let Head { from, to, .. } = self.head;
        (from.is_some() || to.is_some()).then_some(Window { from, to })
    }

    /// A world that answers from the recording. A run in it may take `deadline`, as the recorded one might.
    pub fn ports(self, ports: &Ports, deadline: Duration) -> Ports {
        let clock = Arc::new(ReplayClock::new(self.head.at, deadline));
        let totals = self.answers.iter().map(|(known, all)| (known.clone(), all.len())).collect();
        let replayer = Replayer { dir: self.dir, totals, left: Mutex::new(self.answers) };
        Ports { clock, transport: Arc::new(replayer), budget: Arc::new(NoBudget), ..ports.clone() }
    }
}

/// The name of a file beside the index, and no way to another folder.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

struct Replayer {
    dir: PathBuf,
    totals: HashMap<Known, usize>,
    left: Mutex<HashMap<Known, VecDeque<Exchange>>>,
}

#[async_trait]
impl Transport for Replayer {
    async fn send(&self, request: http::Request<Bytes>, _: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        let (url, found) = secrets::url(request.uri());
        let url = secrets::text(&secrets::Masks::default().of(&found), &url);
        let known = (request.method().to_string(), url, request_body(request.body()));
        let next = self.left.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&known).and_then(VecDeque::pop_front);
        let Some(exchange) = next else {
            let (method, url, _) = &known;
            let dir = self.dir.display();
            let message = match self.totals.get(&known) {
                None => format!("the recording {dir} has no answer to {method} {url}"),
                Some(n) => format!("the recording {dir} has {n} answer{} to {method} {url}, and all are used", if *n == 1 { "" } else { "s" }),
            };
            return Err(TransportError { fault: TransportFault::Unrecorded, message });
        };
        let Some(status) = exchange.status else {
            let none = || Fault { kind: FaultKind::Broken, message: "the recording has neither a status nor a fault here".to_owned() };
            return Err(exchange.fault.clone().unwrap_or_else(none).error());
        };
        let path = exchange.body.as_ref().map(|name| self.dir.join(name));
        let file = path.map(|path| fs::File::open(&path).map(|file| (file, path.clone())).map_err(|error| unreadable(&path, &error))).transpose()?;
        let mut response = http::Response::builder().status(status);
        for (name, value) in &exchange.headers {
            response = response.header(name, value);
        }
        let body: Box<dyn Body> = Box::new(KeptBody { file, end: exchange.fault.map(|fault| fault.error()) });
        response.body(body).map_err(|error| TransportError {
            fault: TransportFault::Unrecorded,
            message: format!("the recording {}, exchange {}: {error}", self.dir.display(), exchange.n),
        })
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> TransportError {
    TransportError { fault: TransportFault::Unrecorded, message: format!("{}: {error}", path.display()) }
}

/// Read piece by piece, so that whoever limits a body limits this one, too.
struct KeptBody {
    file: Option<(fs::File, PathBuf)>,
    end: Option<TransportError>,
}

#[async_trait]
impl Body for KeptBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        const PIECE: u64 = 64 << 10;
        if let Some((file, path)) = &mut self.file {
            let mut piece = Vec::new();
            file.take(PIECE).read_to_end(&mut piece).map_err(|error| unreadable(path, &error))?;
            if !piece.is_empty() {
                return Ok(Some(Bytes::from(piece)));
            }
            self.file = None;
        }
        self.end.take().map_or(Ok(None), Err)
    }
}

/// Nothing is sent, so nothing is spent and nothing waits.
pub(crate) struct NoBudget;

#[async_trait]
impl Budget for NoBudget {
    async fn acquire(&self, _: &BudgetScope, _: &BudgetLimits, _: Duration) -> Result<(), StageError> {
        Ok(())
    }
    fn spend(&self, _: &BudgetScope, _: u64) -> Result<(), StageError> {
        Ok(())
    }
}
