//! A CoinGecko look-alike on 127.0.0.1: its shapes, its manners, and every misdeed that a test asks for.
//!
//! It speaks HTTP/1.1 by hand, since no server library lets a connection be reset or a body be cut in the middle.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::Dice;
use super::coins::{self, HOUR};
use super::oracle::{self, Hour};

/// Which requests.
#[derive(Clone, Debug)]
pub struct On {
    endpoint: &'static str,
    coin: Option<String>,
    skip: usize,
    times: usize,
}

impl On {
    fn new(endpoint: &'static str, coin: Option<&str>) -> Self {
        Self { endpoint, coin: coin.map(str::to_owned), skip: 0, times: usize::MAX }
    }

    pub fn everything() -> Self {
        Self::new("", None)
    }

    pub fn ping() -> Self {
        Self::new("ping", None)
    }

    pub fn markets() -> Self {
        Self::new("markets", None)
    }

    pub fn all_ohlc() -> Self {
        Self::new("ohlc", None)
    }

    pub fn ohlc(coin: &str) -> Self {
        Self::new("ohlc", Some(coin))
    }

    pub fn chart(coin: &str) -> Self {
        Self::new("market_chart", Some(coin))
    }

    /// Only so many, then it behaves again.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Only after so many went well.
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, body.to_string())
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

type Edit = Arc<dyn Fn(&mut Value) + Send + Sync>;
type Make = Arc<dyn Fn() -> Answer + Send + Sync>;

/// What it does instead of answering well.
#[derive(Clone)]
pub enum Reply {
    /// This, whole.
    Answer(Answer),
    /// The same, made at the moment of the request.
    Make(Make),
    /// The right body, changed.
    Edit(Edit),
    /// The connection is reset before a byte of the answer.
    Reset,
    /// Nothing ever comes.
    Silence,
    /// The head and half of the right body come, and then nothing.
    Stall,
    /// The head promises the right body, half of it comes, and the connection is closed.
    Truncate,
    /// The right answer, late.
    Late(Duration),
}

impl Reply {
    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Answer(Answer::new(status, body))
    }

    /// Changes the right body.
    pub fn edit(edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(edit))
    }

    /// Changes the rows of the right body.
    pub fn rows(edit: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> Self {
        Self::edit(move |body| edit(body.as_array_mut().unwrap()))
    }

    pub fn make(make: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        Self::Make(Arc::new(make))
    }
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// `ping`, `markets`, `ohlc`, `range`, `market_chart`, `market_chart_range` or empty.
    pub endpoint: String,
    pub coin: Option<String>,
    /// The request as it came.
    pub raw: String,
    /// When it came.
    pub at: Instant,
}

struct Fault {
    on: On,
    reply: Reply,
    met: usize,
}

struct Script {
    faults: Vec<Fault>,
    seen: Vec<Seen>,
    order: Vec<String>,
    latency: Option<(Dice, u64)>,
    key: Option<(String, String)>,
    open_tail: bool,
    gzipped: usize,
}

struct Shared {
    /// What the server takes for now, in milliseconds: the moment of its start, so that what it shows stands still.
    now: i64,
    held_back: AtomicI64,
    script: Mutex<Script>,
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> i64 {
        self.now - self.held_back.load(Ordering::SeqCst)
    }
}

/// The look-alike, running until it is dropped.
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts one that behaves. Its clock stands still at this moment, which is not one just before the turn of a half hour: what is
    /// still open would close while the test runs.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let real = || chrono::Utc::now().timestamp_millis();
        let left = coins::HALF_HOUR - real().rem_euclid(coins::HALF_HOUR);
        if left < 5_000 {
            std::thread::sleep(Duration::from_millis(left.unsigned_abs() + 5));
        }
        let now = real();
        let script = Script {
            faults: Vec::new(),
            seen: Vec::new(),
            order: coins::ALL.map(str::to_owned).to_vec(),
            latency: None,
            key: None,
            open_tail: false,
            gzipped: 0,
        };
        let shared = Arc::new(Shared { now, held_back: AtomicI64::new(0), script: Mutex::new(script) });
        let stop = CancellationToken::new();
        let (served, stopped) = (Arc::clone(&shared), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    tokio::select! {
                        () = stopped.cancelled() => return,
                        accepted = listener.accept() => {
                            if let Ok((stream, _)) = accepted {
                                tokio::spawn(serve(stream, Arc::clone(&served)));
                            }
                        }
                    }
                }
            });
        });
        Self { port, shared, stop, thread: Some(thread) }
    }

    /// The base URL, as a pipeline file would have it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v3", self.port)
    }

    /// Does this to the requests meant; what was scripted later is looked at first.
    pub fn fault(&self, on: On, reply: Reply) -> &Self {
        self.shared.script().faults.insert(0, Fault { on, reply, met: 0 });
        self
    }

    /// Behaves well again.
    pub fn behave(&self) -> &Self {
        self.shared.script().faults.clear();
        self
    }

    /// Shows what it would have shown so many hours ago.
    pub fn hold_back(&self, hours: i64) -> &Self {
        self.shared.held_back.store(hours * HOUR, Ordering::SeqCst);
        self
    }

    /// The biggest coins, in this order.
    pub fn order(&self, coins: &[&str]) -> &Self {
        self.shared.script().order = coins.iter().map(|coin| (*coin).to_owned()).collect();
        self
    }

    /// Each answer takes from nothing up to so many milliseconds.
    pub fn latency(&self, seed: u64, most_ms: u64) -> &Self {
        self.shared.script().latency = Some((Dice::new(seed), most_ms));
        self
    }

    /// Refuses whoever does not send this header.
    pub fn require_key(&self, header: &str, key: &str) -> &Self {
        self.shared.script().key = Some((header.to_owned(), key.to_owned()));
        self
    }

    /// Shows the candle too that is still open.
    pub fn open_tail(&self, on: bool) -> &Self {
        self.shared.script().open_tail = on;
        self
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.script().seen.clone()
    }

    /// How many requests there were to this endpoint.
    pub fn count(&self, endpoint: &str) -> usize {
        self.shared.script().seen.iter().filter(|seen| seen.endpoint == endpoint).count()
    }

    /// The requests to this endpoint for this coin.
    pub fn asked(&self, endpoint: &str, coin: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.endpoint == endpoint && seen.coin.as_deref() == Some(coin)).collect()
    }

    /// How many answers went out compressed.
    pub fn gzipped(&self) -> usize {
        self.shared.script().gzipped
    }

    /// The moment that the server shows.
    pub fn now(&self) -> i64 {
        self.shared.now()
    }

    /// The half-hour rows that it shows now.
    pub fn half_hours(&self, coin: &str) -> Vec<Value> {
        coins::ohlc(coin, "1", self.now()).unwrap()
    }

    /// The samples that it shows now.
    pub fn chart(&self, coin: &str) -> Value {
        coins::market_chart(coin, "1", self.now()).unwrap()
    }

    /// The hours that follow from what it shows now.
    pub fn expected(&self, coin: &str) -> Vec<Hour> {
        self.expected_of(coin, &self.half_hours(coin))
    }

    /// The hours that follow from these half-hour rows, with the volume that it shows now.
    pub fn expected_of(&self, coin: &str, rows: &[Value]) -> Vec<Hour> {
        oracle::hours(rows, Some(&self.chart(coin)), self.now())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection, request after request.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        let seen = parse(&String::from_utf8_lossy(&head));
        let (reply, wait) = {
            let mut script = shared.script();
            script.seen.push(seen.clone());
            let wait = script.latency.as_mut().map_or(0, |(dice, most)| dice.below(*most + 1));
            (script.faults.iter_mut().find_map(|fault| fault.meets(&seen)), wait)
        };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if !answer(&mut stream, &seen, reply, &shared).await {
            return;
        }
    }
}

impl Fault {
    /// The reply to this request, when it is meant.
    fn meets(&mut self, seen: &Seen) -> Option<Reply> {
        let on = &self.on;
        let meant = (on.endpoint.is_empty() || on.endpoint == seen.endpoint) && on.coin.as_ref().is_none_or(|coin| Some(coin) == seen.coin.as_ref());
        if !meant {
            return None;
        }
        self.met += 1;
        let place = self.met - 1;
        (place >= on.skip && place - on.skip < on.times).then(|| self.reply.clone())
    }
}

/// Answers one request; `false` ends the connection.
async fn answer(stream: &mut TcpStream, seen: &Seen, reply: Option<Reply>, shared: &Shared) -> bool {
    let refused = refusal(seen, shared);
    let right = || refused.clone().unwrap_or_else(|| body(seen, shared));
    let (whole, cut) = match reply {
        None => (right(), None),
        Some(Reply::Answer(answer)) => (answer, None),
        Some(Reply::Make(make)) => (make(), None),
        Some(Reply::Edit(edit)) => {
            let mut answer = right();
            if let Ok(mut value) = serde_json::from_slice(&answer.body) {
                edit(&mut value);
                answer.body = value.to_string().into_bytes();
            }
            (answer, None)
        }
        Some(Reply::Reset) => {
            let _ = stream.set_zero_linger();
            return false;
        }
        Some(Reply::Silence) => {
            hold(stream).await;
            return false;
        }
        Some(Reply::Stall) => (right(), Some(true)),
        Some(Reply::Truncate) => (right(), Some(false)),
        Some(Reply::Late(wait)) => {
            tokio::time::sleep(wait).await;
            (right(), None)
        }
    };
    let zip = cut.is_none() && seen.headers.get("accept-encoding").is_some_and(|accepted| accepted.contains("gzip"));
    let bytes = wire(whole, zip, shared);
    let Some(stalls) = cut else { return stream.write_all(&bytes).await.is_ok() };
    let body = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let half = body + (bytes.len() - body) / 2;
    let _ = stream.write_all(&bytes[..half]).await;
    let _ = stream.flush().await;
    if stalls {
        hold(stream).await;
    }
    false
}

/// Waits until the other side has had enough.
async fn hold(stream: &mut TcpStream) {
    let mut byte = [0];
    let _ = stream.read(&mut byte).await;
}

/// Everything needs a name, and a key where one is asked for.
fn refusal(seen: &Seen, shared: &Shared) -> Option<Answer> {
    if seen.headers.get("user-agent").is_none_or(|name| name.trim().is_empty()) {
        let text = "Please add a descriptive User-Agent to your request. If you think this is a mistake, please report here: https://example.invalid";
        return Some(Answer::json(403, &json!({"status": {"error_code": 403, "error_message": text}})));
    }
    let (header, key) = shared.script().key.clone()?;
    (seen.headers.get(&header) != Some(&key))
        .then(|| Answer::json(401, &json!({"status": {"error_code": 10002, "error_message": "API Key Missing"}})))
}

/// The right answer.
fn body(seen: &Seen, shared: &Shared) -> Answer {
    let now = shared.now();
    let (order, open_tail) = {
        let script = shared.script();
        (script.order.clone(), script.open_tail)
    };
    let asked = |name: &str| seen.query.get(name).map(String::as_str);
    let not_found = || Answer::json(404, &json!({"error": "coin not found"}));
    if seen.endpoint != "ping" && asked("vs_currency").is_none() {
        return Answer::json(422, &json!({"error": "Missing parameter vs_currency"}));
    }
    let known = seen.coin.as_deref().filter(|coin| coins::is_known(coin));
    match (seen.endpoint.as_str(), known) {
        ("ping", _) => Answer::json(200, &json!({"gecko_says": "(V3) To the Moon!"})),
        ("markets", _) => {
            let size: usize = asked("per_page").map_or(Some(100), |size| size.parse().ok()).filter(|size| (1..=250).contains(size)).unwrap_or(100);
            let page: usize = asked("page").and_then(|page| page.parse().ok()).unwrap_or(1).max(1);
            let chosen: Vec<(usize, &String)> = match asked("ids").filter(|ids| !ids.is_empty()) {
                Some(ids) => order.iter().enumerate().filter(|(_, coin)| ids.split(',').any(|id| id == *coin)).collect(),
                None => order.iter().enumerate().collect(),
            };
            let total = chosen.len();
            let elements: Vec<Value> =
                chosen.into_iter().skip((page - 1) * size).take(size).map(|(rank, coin)| coins::market(coin, rank + 1, now)).collect();
            Answer::json(200, &Value::Array(elements)).header("total", total.to_string()).header("per-page", size.to_string())
        }
        ("ohlc", Some(coin)) => match coins::ohlc(coin, asked("days").unwrap_or_default(), now) {
            Some(mut rows) => {
                if open_tail && asked("days") == Some("1") {
                    rows.push(coins::open_candle(coin, now));
                }
                Answer::json(200, &Value::Array(rows))
            }
            None => Answer::json(400, &json!({"error": "Invalid days parameter"})),
        },
        ("market_chart", Some(coin)) => match asked("days").and_then(|days| coins::market_chart(coin, days, now)) {
            Some(chart) => Answer::json(200, &chart),
            None => Answer::json(400, &json!({"error": "Invalid days parameter"})),
        },
        ("range", Some(coin)) => range(coin, seen, now),
        ("market_chart_range", Some(coin)) => chart_range(coin, seen, now),
        ("ohlc" | "range" | "market_chart" | "market_chart_range", None) => not_found(),
        _ => Answer::json(404, &json!({"error": "Incorrect path. Please check https://example.invalid"})),
    }
}

fn refused(status: u16, code: i64, text: &str) -> Answer {
    Answer::json(status, &json!({"status": {"error_code": code, "error_message": text}}))
}

/// The window asked for, in seconds.
fn window(seen: &Seen) -> Option<(i64, i64)> {
    let seconds = |name: &str| seen.query.get(name).and_then(|text| text.parse::<i64>().ok());
    Some((seconds("from")?, seconds("to")?))
}

/// Hourly candles of a window, for paid keys.
fn range(coin: &str, seen: &Seen, now: i64) -> Answer {
    if !seen.headers.contains_key("x-cg-pro-api-key") {
        return refused(401, 10005, "This request is limited to PRO API subscribers");
    }
    let (Some((from, to)), Some("hourly")) = (window(seen), seen.query.get("interval").map(String::as_str)) else {
        return refused(400, 400, "Missing or invalid parameter");
    };
    if to * 1000 > chrono::Utc::now().timestamp_millis() {
        return refused(400, 10014, "to must not lie in the future");
    }
    if to - from > 31 * 24 * 3600 {
        return refused(400, 400, "hourly candles come for 31 days at most");
    }
    let first = (from * 1000).div_euclid(HOUR) + i64::from(from * 1000 % HOUR != 0);
    let last = (to * 1000).min(now).div_euclid(HOUR);
    Answer::json(200, &Value::Array((first..=last).map(|hour| coins::hourly(coin, hour * HOUR)).collect()))
}

/// Samples of a window: of the last 365 days without a paid key.
fn chart_range(coin: &str, seen: &Seen, now: i64) -> Answer {
    let Some((from, to)) = window(seen) else { return refused(400, 400, "Missing or invalid parameter") };
    if from * 1000 < now - 365 * coins::DAY && !seen.headers.contains_key("x-cg-pro-api-key") {
        return refused(401, 10012, "Your request exceeds the allowed time range. Public API users are limited to the past 365 days.");
    }
    Answer::json(200, &coins::market_chart_range(coin, from * 1000, to * 1000, now))
}

fn wire(answer: Answer, zip: bool, shared: &Shared) -> Vec<u8> {
    let Answer { status, headers, mut body } = answer;
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Odd");
    let kind = if body.starts_with(b"<") { "text/html; charset=UTF-8" } else { "application/json; charset=utf-8" };
    let mut head = format!("HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\n");
    if zip && body.len() > 500 {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&body).unwrap();
        body = encoder.finish().unwrap();
        head.push_str("content-encoding: gzip\r\n");
        shared.script().gzipped += 1;
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend(body);
    bytes
}

fn parse(raw: &str) -> Seen {
    let mut lines = raw.split("\r\n");
    let target = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
    let headers = lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decoded(name), decoded(value))).collect();
    let parts: Vec<String> = path.trim_start_matches("/api/v3").split('/').filter(|part| !part.is_empty()).map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (endpoint, coin) = match parts.as_slice() {
        ["ping"] => ("ping", None),
        ["coins", "markets"] => ("markets", None),
        ["coins", coin, "ohlc"] => ("ohlc", Some(*coin)),
        ["coins", coin, "ohlc", "range"] => ("range", Some(*coin)),
        ["coins", coin, "market_chart"] => ("market_chart", Some(*coin)),
        ["coins", coin, "market_chart", "range"] => ("market_chart_range", Some(*coin)),
        _ => ("", None),
    };
    Seen {
        path: path.to_owned(),
        query,
        headers,
        endpoint: endpoint.to_owned(),
        coin: coin.map(str::to_owned),
        raw: raw.to_owned(),
        at: Instant::now(),
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'%'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
