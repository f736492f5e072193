//! The simulated CoinGecko.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use pipeline_contract::{Body, Transport, TransportError, TransportFault, async_trait};

use super::coins::{Coins, Half};
use super::ledger::Ledger;
use super::life::Life;
use super::weather::{Sky, Weather};
use super::witness::Witness;
use super::world::SimClock;
use super::{Dice, HALF, HOUR, MINUTE};

/// How long an answer with candles is given again, with its age.
const CACHED: i64 = 15 * MINUTE;

pub struct SimServer {
    pub clock: Arc<SimClock>,
    pub life: Arc<Life>,
    pub weather: Arc<Weather>,
    pub coins: Coins,
    pub ledger: Arc<Ledger>,
    dice: Mutex<Dice>,
    cache: Mutex<BTreeMap<String, (i64, Vec<Half>)>>,
}

/// What is delivered once the whole body is read.
#[derive(Clone, Debug)]
enum Content {
    Nothing,
    List([&'static str; 3]),
    /// The coin, its halves, the earliest that they can have been made by the asker's clock and by ours.
    Candles(String, Vec<Half>, i64),
    Volumes(String, Vec<(i64, f64)>),
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Whole,
    Breaks,
    Stalls,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    end: End,
    content: Content,
}

impl Answer {
    fn of(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), end: End::Whole, content: Content::Nothing }
    }
}

fn fault(fault: TransportFault) -> TransportError {
    TransportError { fault, message: format!("simulated: {fault:?}") }
}

impl SimServer {
    pub fn new(seed: u64, coins: Coins, witness: &Witness) -> Arc<Self> {
        let Witness { life, clock, weather, ledger, .. } = witness.clone();
        Arc::new(Self { clock, life, weather, coins, ledger, dice: Mutex::new(Dice::new(seed, "server")), cache: Mutex::default() })
    }

    fn below(&self, end: u64) -> u64 {
        self.dice.lock().unwrap().below(end)
    }

    fn pick<T: Copy>(&self, of: &[T]) -> T {
        self.dice.lock().unwrap().pick(of)
    }

    /// What goes wrong with this request; `None` when nothing does.
    fn trouble(&self) -> Option<Sky> {
        let now = self.clock.true_ms();
        let stormy = self.weather.sky(now).filter(|_| self.below(20) > 0);
        let skies = [Sky::Unreachable, Sky::Silent, Sky::Broken, Sky::Throttling, Sky::Garbled];
        stormy.or_else(|| (now < self.weather.calm && self.below(50) == 0).then(|| self.pick(&skies)))
    }

    fn throttling(&self) -> Answer {
        let now = self.clock.true_ms();
        let at = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap();
        let later = now + 1000 * (5 + self.below(300)).cast_signed();
        let body = self.pick(&[
            r#"{"status":{"error_code":429,"error_message":"You've exceeded the Rate Limit."}}"#,
            "Throttled",
            "<html><title>error code: 1015</title>You are being rate limited</html>",
            "",
        ]);
        let headers = match self.below(8) {
            0 | 1 => vec![("retry-after", self.pick(&["0", "1", "7", "30", "119", "900", "7300", "90000", "soon", "-5"]).to_owned())],
            2 => vec![("retry-after", at(later).format("%a, %d %b %Y %H:%M:%S GMT").to_string())],
            3 => vec![("retry-after", at(now - HOUR).format("%a, %d %b %Y %H:%M:%S GMT").to_string())],
            4 => vec![("x-ratelimit-reset", at(later).format("%Y-%m-%d %H:%M:%S +0000").to_string())],
            5 => vec![("x-ratelimit-reset", (later / 1000).to_string())],
            _ => Vec::new(),
        };
        let status = if self.below(6) == 0 && !body.is_empty() { 200 } else { 429 };
        Answer { headers, ..Answer::of(status, body) }
    }

    fn broken(&self) -> Answer {
        let body = self.pick(&["", "<html><h1>Bad gateway</h1></html>", r#"{"error":"Internal server error"}"#]);
        let status = self.pick(&[500, 502, 503, 504, 520, 408, 503]);
        let headers = if self.below(4) == 0 { vec![("retry-after", (1 + self.below(90)).to_string())] } else { Vec::new() };
        Answer { headers, ..Answer::of(status, body) }
    }

    fn garbled(&self, good: Answer) -> Answer {
        let half = good.body.len() / 2;
        match self.below(9) {
            0 => Answer::of(200, "<!DOCTYPE html><title>Just a moment...</title>"),
            1 => Answer { content: Content::Nothing, body: good.body[..half].to_owned(), ..good },
            2 => Answer { content: Content::Nothing, end: End::Breaks, ..good },
            3 | 4 => Answer { content: Content::Nothing, end: End::Stalls, ..good },
            5 => Answer::of(200, r#"{"error":{"status":{"error_code":500,"error_message":"nobody knows"}}}"#),
            6 => Answer::of(200, "null"),
            7 => Answer::of(200, ""),
            _ => Answer::of(200, r#"{"error":"Internal"}"#),
        }
    }

    fn good(&self, path: &str, asked: i64) -> Answer {
        let now = self.clock.true_ms();
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["coins", "markets"] => {
                let coins = self.coins.largest(now);
                let one = |(rank, id): (usize, &&str)| format!(r#"{{"id":"{id}","symbol":"x","market_cap_rank":{},"roi":null}}"#, rank + 1);
                let body = format!("[{}]", coins.iter().enumerate().map(one).collect::<Vec<_>>().join(","));
                Answer { content: Content::List(coins), ..Answer::of(200, body) }
            }
            ["coins", coin, _] if !self.coins.is_known(coin, now) => Answer::of(404, r#"{"error":"coin not found"}"#),
            ["coins", coin, "ohlc"] => {
                if now < self.weather.calm && self.below(400) == 0 {
                    // Candles of four hours, where half hours are due.
                    let rows: Vec<String> = (0..42).map(|n| format!("[{},1.0,1.0,1.0,1.0]", (now / HALF / 8 - n) * HALF * 8)).collect();
                    return Answer::of(200, format!("[{}]", rows.join(",")));
                }
                let mut cache = self.cache.lock().unwrap();
                let fresh = cache.get(*coin).filter(|(made, _)| now - made < CACHED);
                let (made, halves) = match fresh {
                    Some((made, halves)) => (*made, halves.clone()),
                    None => {
                        let halves = self.coins.halves(coin, now, true);
                        cache.insert((*coin).to_owned(), (now, halves.clone()));
                        (now, halves)
                    }
                };
                let date = DateTime::from_timestamp_millis(made).unwrap().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
                let mut headers = vec![("date", date)];
                if made != now {
                    headers.push(("age", ((now - made) / 1000).to_string()));
                }
                let rows: Vec<&str> = halves.iter().map(|half| half.text.as_str()).collect();
                let body = format!("[{}]", rows.join(","));
                Answer { content: Content::Candles((*coin).to_owned(), halves, made.min(asked - (now - made))), headers, ..Answer::of(200, body) }
            }
            ["coins", coin, "market_chart"] => {
                let samples = self.coins.volumes(coin, now);
                let mut body = String::with_capacity(samples.len() * 32);
                body.push_str(r#"{"prices":[],"market_caps":[],"total_volumes":["#);
                for (place, (at, volume)) in samples.iter().enumerate() {
                    let comma = if place == 0 { "" } else { "," };
                    write!(body, "{comma}[{at},{volume:?}]").unwrap();
                }
                body.push_str("]}");
                Answer { content: Content::Volumes((*coin).to_owned(), samples), ..Answer::of(200, body) }
            }
            _ => Answer::of(404, r#"{"error":"Incorrect path"}"#),
        }
    }
}

/// The way to the server.
pub struct Wire(pub Arc<SimServer>);

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: http::Request<Bytes>, _: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        self.0.answer(request).await
    }
}

impl SimServer {
    async fn answer(self: &Arc<Self>, request: http::Request<Bytes>) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        self.life.asked();
        self.ledger.asked();
        assert!(request.headers().contains_key("user-agent"), "a request without a name");
        assert_eq!(request.uri().host(), Some("coingecko.sim"));
        let path = request.uri().path().strip_prefix("/api/v3/").unwrap().to_owned();
        if let ["coins", coin, "ohlc"] = path.split('/').collect::<Vec<_>>().as_slice() {
            self.ledger.asked_for(coin);
        }
        let asked = self.clock.wall_ms();
        let slow = if self.below(300) == 0 { 24_000 } else { 900 };
        tokio::time::sleep(Duration::from_millis(20 + self.below(slow / 2))).await;
        let answer = match self.trouble() {
            None => self.good(&path, asked),
            Some(Sky::Unreachable) => return Err(fault(self.pick(&[TransportFault::Connect, TransportFault::Broken, TransportFault::Timeout]))),
            Some(Sky::Silent) => std::future::pending().await,
            Some(Sky::Broken) => self.broken(),
            Some(Sky::Throttling) => self.throttling(),
            Some(Sky::Garbled) => self.garbled(self.good(&path, asked)),
            Some(Sky::Refusing) => Answer::of(403, "<html><title>error code: 1020</title>Access denied</html>"),
        };
        tokio::time::sleep(Duration::from_millis(self.below(slow / 2))).await;
        let mut response = http::Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(*name, value);
        }
        let cut = if answer.end == End::Whole { answer.body.len() } else { answer.body.len() / 2 };
        let mut bytes = Bytes::from(answer.body);
        bytes.truncate(cut);
        let middle = bytes.len() / 3;
        let first = bytes.split_to(middle);
        let pieces = [first, bytes].into_iter().filter(|piece| !piece.is_empty()).collect();
        let body: Box<dyn Body> = Box::new(SimBody { pieces, end: answer.end, content: answer.content, server: Arc::clone(self) });
        Ok(response.body(body).unwrap())
    }
}

struct SimBody {
    pieces: VecDeque<Bytes>,
    end: End,
    content: Content,
    server: Arc<SimServer>,
}

#[async_trait]
impl Body for SimBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        if let Some(piece) = self.pieces.pop_front() {
            return Ok(Some(piece));
        }
        match self.end {
            End::Breaks => return Err(fault(TransportFault::Broken)),
            End::Stalls => std::future::pending().await,
            End::Whole => {}
        }
        let (ledger, wall) = (&self.server.ledger, self.server.clock.wall_ms());
        match std::mem::replace(&mut self.content, Content::Nothing) {
            Content::Nothing => {}
            Content::List(coins) => ledger.delivered_list(&coins),
            Content::Candles(coin, halves, asked) => ledger.delivered_candles(&coin, halves, (asked.min(wall), asked.max(wall))),
            Content::Volumes(coin, samples) => ledger.delivered_volumes(&coin, samples, wall),
        }
        Ok(None)
    }
}
