//! The world of a test: time that passes when everybody waits, recorded responses, a disk that is only read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pipeline_contract::{
    Body, Clock, Disk, DiskFile, Metadata, Ports, Position, Random, Read, Reader, RealDisk, RunContext, Source, SourceCapabilities, Split,
    StageError, Transport, TransportError, TransportFault, async_trait,
};
use serde_json::Value;

use super::{Recorded, ResponseBody};
use crate::record::NoBudget;
use pipeline_contract::arrow::{RecordBatch, SchemaRef};

/// Everything a run of a test meets.
pub(super) fn ports(now: DateTime<Utc>, responses: Vec<Recorded>) -> Ports {
    Ports {
        clock: Arc::new(TestTime::new(now)),
        random: Arc::new(Steps::default()),
        disk: Arc::new(OnlyRead),
        transport: Arc::new(Responses(responses)),
        budget: Arc::new(NoBudget),
    }
}

/// Others get so many turns before time passes.
const TURNS: u32 = 64;
/// A sleep that is longer has no end: it is the deadline of a run.
pub(super) const FOR_EVER: Duration = Duration::from_secs(10 * 24 * 3600);

/// Time that passes when everybody waits. On a runtime of one thread, which the test has.
#[derive(Debug)]
struct TestTime {
    start: DateTime<Utc>,
    sleepers: Mutex<Sleepers>,
}

#[derive(Debug, Default)]
struct Sleepers {
    now: Duration,
    next: u64,
    due: BTreeSet<(Duration, u64)>,
}

/// One that waits; it may stop waiting at any time.
struct Sleeper<'a> {
    time: &'a TestTime,
    due: (Duration, u64),
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.time.sleepers().due.remove(&self.due);
    }
}

impl TestTime {
    fn new(start: DateTime<Utc>) -> Self {
        Self { start, sleepers: Mutex::default() }
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for TestTime {
    fn now(&self) -> DateTime<Utc> {
        self.start + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        self.sleepers().now
    }

    async fn sleep(&self, duration: Duration) {
        if duration >= FOR_EVER {
            return std::future::pending().await;
        }
        let sleeper = {
            let mut all = self.sleepers();
            let due = (all.now.saturating_add(duration), all.next);
            all.next += 1;
            all.due.insert(due);
            Sleeper { time: self, due }
        };
        let mut turns = 0;
        loop {
            {
                let mut all = self.sleepers();
                if all.now < sleeper.due.0 && all.due.first() == Some(&sleeper.due) {
                    turns += 1;
                    if turns > TURNS {
                        all.now = sleeper.due.0;
                    }
                }
                if all.now >= sleeper.due.0 {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// The same each time: jitter is no part of what a test shows.
#[derive(Debug, Default)]
struct Steps(AtomicU64);

impl Random for Steps {
    fn next(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst)
    }
}

/// The machine's disk, on which nothing is changed.
struct OnlyRead;

fn no_writing<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "a test of a pipeline writes nothing"))
}

impl Disk for OnlyRead {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        RealDisk.metadata(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(dir)
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        no_writing()
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }
    fn open_write(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        no_writing()
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        no_writing()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        no_writing()
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        no_writing()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        no_writing()
    }
}

/// A far side that knows recorded responses alone.
struct Responses(Vec<Recorded>);

/// How well a response fits a request: those with a query before those without, the longer before the shorter.
fn fit(on: &str, path: &str, query: &str) -> Option<(bool, usize)> {
    let (on_path, on_query) = on.split_once('?').map_or((on, None), |(path, query)| (path, Some(query)));
    let start = path.strip_prefix(on_path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || on_path.ends_with('/'));
    let fits = (start || path.ends_with(on_path)) && on_query.is_none_or(|wanted| wanted == query);
    fits.then_some((on_query.is_some(), on.len()))
}

struct Whole(Option<Bytes>);

#[async_trait]
impl Body for Whole {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        Ok(self.0.take())
    }
}

#[async_trait]
impl Transport for Responses {
    async fn send(&self, request: http::Request<Bytes>, _: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        let refuse = |message: String| TransportError { fault: TransportFault::Request, message };
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let best = self.0.iter().filter_map(|one| Some((fit(&one.on, path, query)?, one))).max_by_key(|(fit, _)| *fit);
        let Some((_, recorded)) = best else {
            let asked = request.uri().path_and_query().map_or(path, http::uri::PathAndQuery::as_str);
            return Err(refuse(format!("this test has no response for {} {asked}", request.method())));
        };
        let ResponseBody::Inline(body) = &recorded.body else {
            return Err(refuse(format!("the response for {} was not read", recorded.on)));
        };
        let mut response = http::Response::builder().status(recorded.status);
        for (name, value) in &recorded.headers {
            response = response.header(name, value);
        }
        let body: Box<dyn Body> = Box::new(Whole(Some(body.clone())));
        response.body(body).map_err(|error| refuse(format!("the response for {}: {error}", recorded.on)))
    }
}

/// A source that brings the rows of a test.
pub(super) struct Given {
    pub(super) split: String,
    pub(super) batch: RecordBatch,
}

#[async_trait]
impl Source for Given {
    fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::default()
    }
    async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
        Ok(vec![Split::new(&self.split)])
    }
    async fn open(&self, _: &Split, _: Option<Position>, _: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        Ok(Box::new(GivenReader(Some(self.batch.clone()))))
    }
    async fn probe(&self, _: &RunContext) -> Result<(), StageError> {
        Ok(())
    }
}

struct GivenReader(Option<RecordBatch>);

#[async_trait]
impl Reader for GivenReader {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        Ok(self.0.take().map(|batch| Read { batch, rejects: Vec::new(), position: Position(Value::Null) }))
    }
}

/// Headers of a response by their names.
pub type Headers = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_fits_the_beginning_the_end_or_the_whole_of_a_path() {
        for (on, path, query, fits) in [
            ("/coins/bitcoin/ohlc", "/api/v3/coins/bitcoin/ohlc", "days=1", true),
            ("/api/v3", "/api/v3/coins", "", true),
            ("/api/v", "/api/v3/coins", "", false),
            ("/coins?page=1", "/api/coins", "page=1", true),
            ("/coins?page=1", "/api/coins", "page=2", false),
            ("/coins/", "/coins/bitcoin", "", true),
            ("/bitcoin", "/coins/wrapped-bitcoin", "", false),
        ] {
            assert_eq!(fit(on, path, query).is_some(), fits, "{on} {path}?{query}");
        }
        assert!(fit("/a?x=1", "/a", "x=1") > fit("/a", "/a", "x=1"));
    }

    #[tokio::test]
    async fn time_passes_only_when_nobody_works_and_the_shorter_sleep_ends_first() {
        let time = TestTime::new(DateTime::UNIX_EPOCH);
        let hour = time.sleep(Duration::from_secs(3600));
        let work = async {
            time.sleep(Duration::from_secs(30)).await;
            assert_eq!(time.monotonic(), Duration::from_secs(30));
            for _ in 0..TURNS / 2 {
                tokio::task::yield_now().await;
            }
            time.monotonic()
        };
        tokio::select! {
            biased;
            () = hour => panic!("the hour was over first"),
            after = work => assert_eq!(after, Duration::from_secs(30)),
        }
    }
}
