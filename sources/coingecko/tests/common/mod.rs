//! What the tests share: a source from TOML, a scripted CoinGecko, and everything a source brings.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

use std::sync::Arc;

use bytes::Bytes;
use pipeline_contract::testkit::{Answer, TestClock, TestTransport, ports, run_context};
use pipeline_contract::{BuildContext, PlanError, Plugin, Reject, RunContext, Source, Split, Stage, StageError, row_json, table_from_str};
use serde_json::Value;

/// The clock of the fixtures.
pub const NOW: &str = "2026-05-19T15:37:20Z";
pub const KEY: &str = "CG-very-secret-key";

pub fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

pub fn json(name: &str) -> Value {
    serde_json::from_slice(&fixture(name)).unwrap()
}

pub fn build(plugin: &dyn Plugin, toml: &str) -> Result<Box<dyn Source>, Vec<PlanError>> {
    match plugin.build(&table_from_str(toml).unwrap(), &BuildContext { pipeline: "test".into() })? {
        Stage::Source(source) => Ok(source),
        other => panic!("a {}", other.kind()),
    }
}

pub struct World {
    pub clock: Arc<TestClock>,
    pub transport: Arc<TestTransport>,
    pub run: RunContext,
}

pub fn world(script: impl FnMut(&http::Request<Bytes>) -> Answer + Send + 'static) -> World {
    let transport = TestTransport::new(script);
    let clock = TestClock::new(NOW.parse().unwrap());
    World { run: run_context(ports(clock.clone(), transport.clone())), clock, transport }
}

/// A CoinGecko that says the same to everything.
pub fn always(answer: Answer) -> World {
    world(move |_| answer.clone())
}

/// The rows of one split, its rejects, and the positions.
#[derive(Debug, Default)]
pub struct Brought {
    pub rows: Vec<Value>,
    pub rejects: Vec<Reject>,
    pub positions: Vec<pipeline_contract::Position>,
}

impl Brought {
    pub fn rules(&self) -> Vec<&str> {
        self.rejects.iter().map(|reject| reject.rule.as_str()).collect()
    }
}

pub async fn read_split(source: &dyn Source, split: &Split, run: &RunContext) -> Result<Brought, StageError> {
    let mut brought = Brought::default();
    let mut reader = source.open(split, None, run).await?;
    while let Some(read) = reader.read().await? {
        assert_eq!(read.batch.schema(), source.schema());
        brought.rows.extend((0..read.batch.num_rows()).map(|row| Value::Object(row_json(&read.batch, row))));
        brought.rejects.extend(read.rejects);
        brought.positions.push(read.position);
    }
    assert!(reader.read().await?.is_none(), "a reader that is done stays done");
    Ok(brought)
}

/// All of a source's splits by id.
pub async fn read_all(source: &dyn Source, run: &RunContext) -> Result<Vec<(String, Brought)>, StageError> {
    let mut all = Vec::new();
    for split in source.splits(run).await? {
        let brought = read_split(source, &split, run).await?;
        all.push((split.id, brought));
    }
    Ok(all)
}
