//! A source on the bare ports, that can break each promise.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::arrow::{RecordBatch, SchemaRef};
use pipeline_contract::testkit::{Answer, Promise, Report, SourceKit};
use pipeline_contract::{
    Body, BudgetLimits, BudgetScope, BuildContext, Category, ConfigTable, Descriptor, Kind, PlanError, Plugin, Position, Read, Reader, Reject, Row,
    RunContext, Source, SourceCapabilities, Split, Stage, StageError, TransportError, TransportFault, async_trait, rows,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Breaks;

const SECRET: &str = "s3cret-k3y";
const PAGES: u64 = 3;

/// A sin that is one of several ways to break a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sin {
    Panics,
    TellsTheSecret,
    ForgetsTheHint,
    BlamesTheOperator,
    TakesGarbageForNothing,
    SpeaksInTwoLines,
    WaitsForNothing,
    GoesOnWhenCancelled,
    LosesTheRejects,
    BreaksHalves,
    NeverEnds,
}

pub(crate) fn check(breaks: Breaks) -> Report {
    let kit = kit(Toy { breaks, sin: None, built: Arc::default() });
    match breaks.0 {
        Some(promise) => kit.only(promise).check(),
        None => kit.check(),
    }
}

pub(crate) fn check_sin(sin: Sin) -> Report {
    kit(Toy { breaks: Breaks(None), sin: Some(sin), built: Arc::default() }).check()
}

fn at(hours: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_779_148_800, 0).unwrap() + TimeDelta::hours(hours)
}

fn kit(toy: Toy) -> SourceKit {
    // Three pages of three entries for each name; the last entry of a page is no row.
    let kit = SourceKit::new(toy, "names = [\"a\", \"b\"]\nkey = \"s3cret-k3y\"").secret(SECRET).window(at(0), at(6));
    kit.answers(|request| {
        let page: i64 = request.uri().query().unwrap_or_default().trim_start_matches("page=").parse().unwrap_or_default();
        let entry = |n: i64| json!({ "hour": page * 2 + n, "value": (n == 0).then_some(0.5) });
        Answer::ok(json!([entry(0), entry(1), "no entry"]).to_string())
    })
}

rows! {
    /// A row.
    pub(crate) struct Entry {
        /// Whose.
        pub name: String,
        /// When.
        pub at: DateTime<Utc>,
        /// How much.
        pub value: Option<f64>,
    }
}

/// The options.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Of what.
    names: Vec<String>,
    /// A key.
    #[serde(default)]
    key: String,
    /// How long a request may take, in seconds.
    #[serde(default = "ten")]
    timeout: u64,
}

fn ten() -> u64 {
    10
}

struct Toy {
    breaks: Breaks,
    sin: Option<Sin>,
    built: Arc<AtomicI64>,
}

impl Plugin for Toy {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Source,
            type_name: self.breaks.name("toy_source"),
            summary: "A toy",
            config: || schemars::schema_for!(Config),
            sample: "[source]\ntype = \"toy_source\"\nnames = [\"a\"]\nkey = \"${TOY_KEY:-}\"\n",
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let config = self.breaks.parse("source \"toy_source\"", config)?;
        let built = self.built.fetch_add(1, Ordering::SeqCst);
        Ok(Stage::Source(Box::new(ToySource(Arc::new(Inner { config, breaks: self.breaks, sin: self.sin, built })))))
    }
}

struct Inner {
    config: Config,
    breaks: Breaks,
    sin: Option<Sin>,
    built: i64,
}

struct ToySource(Arc<Inner>);

/// The first of two that is done.
async fn either<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> Result<A, B> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(a) => Poll::Ready(Ok(a)),
        Poll::Pending => other.as_mut().poll(cx).map(Err),
    })
    .await
}

impl Inner {
    fn sins(&self, sin: Sin) -> bool {
        self.sin == Some(sin)
    }

    async fn whole_body(body: &mut Box<dyn Body>) -> Result<Vec<u8>, TransportError> {
        let mut bytes = Vec::new();
        while let Some(piece) = body.chunk().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    async fn exchange(&self, path: &str, timeout: Duration, run: &RunContext) -> Result<http::Response<Vec<u8>>, TransportError> {
        let request = http::Request::get(format!("http://far.example/{path}")).header("x-key", &self.config.key).body(Bytes::new()).unwrap();
        let (head, mut body) = run.ports.transport.send(request, timeout).await?.into_parts();
        Ok(http::Response::from_parts(head, Self::whole_body(&mut body).await?))
    }

    async fn ask(&self, path: &str, run: &RunContext) -> Result<Vec<Value>, StageError> {
        let ports = &run.ports;
        if !self.breaks.it(Promise::Budget) {
            let scope = BudgetScope { host: "far.example".to_owned(), key: "keyless".to_owned() };
            ports.budget.acquire(&scope, &BudgetLimits::default(), run.time_left()).await?;
        }
        let timeout = Duration::from_secs(self.config.timeout).min(run.time_left());
        let patience = if self.breaks.it(Promise::Stops) { Duration::from_secs(3600) } else { timeout };
        let silence = |_| TransportError { fault: TransportFault::Timeout, message: "no whole answer in time".to_owned() };
        let answer = if self.sins(Sin::WaitsForNothing) {
            self.exchange(path, timeout, run).await
        } else {
            either(self.exchange(path, timeout, run), ports.clock.sleep(patience)).await.unwrap_or_else(|()| Err(silence(())))
        };
        let answer = answer.map_err(|error| StageError::transient(Category::Network, format!("GET {path}: {error}")))?;
        let said = format!("GET {path}: {}", answer.status());
        match answer.status().as_u16() {
            200 => {}
            429 => {
                let hint = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
                return Err(match hint.filter(|_| !self.sins(Sin::ForgetsTheHint)) {
                    Some(hint) => StageError::retry_after(Category::RateLimit, hint, said),
                    None => StageError::transient(Category::RateLimit, said),
                });
            }
            500 if self.sins(Sin::BlamesTheOperator) => return Err(StageError::operator(Category::ServerError, said)),
            500 if self.breaks.it(Promise::Errors) => return Ok(Vec::new()),
            500.. => return Err(StageError::transient(Category::ServerError, said)),
            401 if self.sins(Sin::TellsTheSecret) => {
                return Err(StageError::operator(Category::ClientError, String::from_utf8_lossy(answer.body())));
            }
            401 => return Err(StageError::operator(Category::ClientError, said).help("check the key")),
            404 if self.sins(Sin::SpeaksInTwoLines) => return Err(StageError::split(Category::ClientError, format!("{said}\nsorry"))),
            _ => return Err(StageError::split(Category::ClientError, said)),
        }
        let parsed = serde_json::from_slice(answer.body());
        if self.sins(Sin::Panics) {
            return Ok(parsed.unwrap());
        }
        if self.sins(Sin::TakesGarbageForNothing) {
            return Ok(parsed.unwrap_or_default());
        }
        parsed.map_err(|_| StageError::transient(Category::ServerError, format!("{said}, but no JSON")))
    }
}

#[async_trait]
impl Source for ToySource {
    fn schema(&self) -> SchemaRef {
        Entry::schema()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { windows: true, resumable: true, requests_per_run: Some(self.0.config.names.len() as u64 * PAGES) }
    }

    async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
        let twice = usize::from(self.0.breaks.it(Promise::Splits)) + 1;
        Ok(self.0.config.names.iter().flat_map(|name| std::iter::repeat_n(Split::new(name), twice)).collect())
    }

    async fn open(&self, split: &Split, resume: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        let page = resume.as_ref().and_then(|position| position.0.as_u64()).unwrap_or(0);
        let page = if self.0.breaks.it(Promise::Resume) { page.saturating_sub(1) } else { page };
        Ok(Box::new(ToyReader { inner: self.0.clone(), name: split.id.clone(), page, resumed: resume.is_some(), run: run.clone() }))
    }

    async fn probe(&self, run: &RunContext) -> Result<(), StageError> {
        if self.0.breaks.it(Promise::Probe) { Ok(()) } else { self.0.ask("a?page=0", run).await.map(drop) }
    }
}

struct ToyReader {
    inner: Arc<Inner>,
    name: String,
    page: u64,
    resumed: bool,
    run: RunContext,
}

impl ToyReader {
    fn wanted(&self, entry: &Entry) -> bool {
        let Some(window) = self.run.window else { return true };
        let late = self.inner.breaks.it(Promise::Window) && window.from.is_some_and(|from| entry.at >= from);
        // In the first half of something the last row is forgotten.
        let forgotten = self.inner.sins(Sin::BreaksHalves) && window.to == Some(at(3)) && entry.at == at(2);
        (window.contains(entry.at) || late) && !forgotten
    }

    fn batch(&self, entries: &[Entry]) -> RecordBatch {
        let batch = Entry::batch(entries);
        if !self.inner.breaks.it(Promise::Schema) {
            return batch;
        }
        let schema = pipeline_contract::schema([
            ("name", pipeline_contract::ColumnType::Text, false),
            ("when", pipeline_contract::ColumnType::Timestamp, false),
            ("value", pipeline_contract::ColumnType::Float, true),
        ]);
        RecordBatch::try_new(schema, batch.columns().to_vec()).unwrap()
    }
}

#[async_trait]
impl Reader for ToyReader {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        if self.inner.sins(Sin::NeverEnds) {
            loop {
                self.run.ports.clock.sleep(Duration::from_secs(3600)).await;
            }
        }
        if self.page >= PAGES {
            return Ok(None);
        }
        let path = format!("{}?page={}", self.name, self.page);
        if self.inner.breaks.it(Promise::CancelSafe) {
            self.page += 1;
        }
        let mut answer = self.inner.ask(&path, &self.run).await;
        let stubborn = self.inner.sins(Sin::GoesOnWhenCancelled) && self.run.deadline.is_none();
        while stubborn && answer.is_err() && self.run.ports.clock.monotonic() < Duration::from_secs(60) {
            self.run.ports.clock.sleep(Duration::from_secs(3)).await;
            answer = self.inner.ask(&path, &self.run).await;
        }
        let answer = answer?;
        if !self.inner.breaks.it(Promise::CancelSafe) {
            self.page += 1;
        }
        let (mut entries, mut rejects) = (Vec::new(), Vec::new());
        for entry in answer {
            match entry.get("hour").and_then(Value::as_i64) {
                Some(hour) => {
                    let extra = if self.inner.breaks.it(Promise::Reads) { self.inner.built as f64 } else { 0.0 };
                    let value = entry["value"].as_f64().map(|value| value + extra);
                    entries.push(Entry { name: self.name.clone(), at: at(hour), value });
                }
                None if self.inner.sins(Sin::LosesTheRejects) && self.resumed => {}
                None => rejects.push(Reject::new(entry, "toy", "this is no entry")),
            }
        }
        entries.retain(|entry| self.wanted(entry));
        Ok(Some(Read { batch: self.batch(&entries), rejects, position: Position(json!(self.page)) }))
    }
}
