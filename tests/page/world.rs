//! Pipelines that are served from a folder of their own, at a time of the test's own, by a CoinGecko that answers from a script. Every run is
//! the engine's own, and so is every stored row.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline::config::{self, Env, SourceFile};
use pipeline::plan::{self, Plan, Registry};
use pipeline::run::Engine;
use pipeline::serve::{Broken, Fleet, Live, Member, routes};
use pipeline::state::{RunRecord, SqliteCredits, SqliteStore, Store};
use pipeline::watch::Expected;
use pipeline_contract::testkit::{Answer, TestTransport, ports};
use pipeline_contract::{CancellationToken, Clock, Gap, Ports, Transport, async_trait};
use serde_json::{Value, json};

/// Text that would do harm where it is not escaped.
pub const HOSTILE: &str = "<script>window.harmed=1</script><img src=x onerror=\"window.harmed=2\">'\"&";

/// A clock that stands until it is moved. Whoever waits, waits in real time.
#[derive(Debug)]
pub struct Standing {
    start: DateTime<Utc>,
    /// In milliseconds.
    passed: AtomicU64,
}

impl Standing {
    /// Puts it forward to an instant.
    pub fn set(&self, at: &str) {
        let at: DateTime<Utc> = at.parse().unwrap();
        self.passed.store(u64::try_from((at - self.start).num_milliseconds()).unwrap(), Ordering::SeqCst);
    }

    pub fn advance(&self, by: Duration) {
        self.passed.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Standing {
    fn now(&self) -> DateTime<Utc> {
        self.start + self.monotonic()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.passed.load(Ordering::SeqCst))
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// What nobody may see: the key of `closes`.
pub const KEY: &str = "CG-verysecretkeyofatest";

/// When the first run is.
pub const START: &str = "2026-05-19T12:20:00Z";

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(640);

/// The time until the next tick, from `START` on.
pub const HOUR: Duration = Duration::from_secs(3600);

pub struct World {
    pub dir: tempfile::TempDir,
    pub clock: Arc<Standing>,
    pub fleet: Arc<Fleet>,
    pub ports: Ports,
    /// CoinGecko answers with an error whose text is [`HOSTILE`].
    pub broken: Arc<AtomicBool>,
    /// Nobody answers any more.
    pub end: CancellationToken,
}

/// A price of a coin in the half hour that ends then.
fn candle(coin: &str, close: DateTime<Utc>) -> Value {
    let slot = close.timestamp() / 1800;
    let base = if coin == "bitcoin" { 77_000.0 } else { 2_100.0 };
    let wave = |n: i64| base * (1.0 + 0.004 * ((n as f64) * 0.7).sin() + 0.0001 * (n % 17) as f64);
    let (open, end) = ((wave(slot) * 100.0).round() / 100.0, (wave(slot + 1) * 100.0).round() / 100.0);
    let high = open.max(end) + base * 0.001;
    // One candle of ethereum breaks a rule.
    let high = if coin == "ethereum" && close.format("%H:%M").to_string() == "05:30" { open.min(end) - 1.0 } else { high };
    json!([close.timestamp_millis(), open, high, open.min(end) - base * 0.001, end])
}

fn coingecko(clock: Arc<Standing>, broken: Arc<AtomicBool>) -> Arc<dyn Transport> {
    TestTransport::new(move |request| {
        clock.advance(LATENCY);
        if broken.load(Ordering::SeqCst) {
            // It says the key back, as far sides do.
            let key = request.headers().get("x-cg-demo-api-key").map_or("none", |key| key.to_str().unwrap());
            return Answer::status(404, json!({ "error": format!("{HOSTILE} with the key {key}") }).to_string());
        }
        let coin = request.uri().path().split('/').rev().nth(1).unwrap_or_default().to_owned();
        let now = clock.now();
        let last = DateTime::from_timestamp(now.timestamp() - now.timestamp() % 1800, 0).unwrap();
        let candles: Vec<Value> = (0..48).rev().map(|n| candle(&coin, last - TimeDelta::minutes(30 * n))).collect();
        Answer::ok(Value::Array(candles).to_string())
    })
}

impl World {
    /// No pipelines.
    pub fn empty() -> Self {
        let clock = Arc::new(Standing { start: START.parse().unwrap(), passed: AtomicU64::new(0) });
        let broken = Arc::new(AtomicBool::new(false));
        let ports = ports(clock.clone(), coingecko(clock.clone(), Arc::clone(&broken)));
        let fleet = Arc::new(Fleet::new(ports.clone()));
        Self { dir: tempfile::tempdir().unwrap(), clock, fleet, ports, broken, end: CancellationToken::new() }
    }

    /// `crypto` (candles, four runs, one of them failed, a reject), `closes` (a line), `idle` (no run), `strange` (hostile texts, gaps).
    pub async fn full() -> Self {
        let world = Self::empty();
        let rules = "[[validate.rules]]\nkind = \"price_envelope\"\n";
        world.add("crypto", &format!("[source.http]\nrequests_per_month = 10_000\n{rules}"));
        world.add("closes", "[[transforms]]\ntype = \"select\"\ncolumns = [\"coin_id\", \"timestamp\", \"close\"]\n");
        world.add("idle", "");
        world.add("strange", rules);
        for hour in 0..4 {
            world.clock.set(&format!("2026-05-19T{}:20:00Z", 12 + hour));
            world.broken.store(hour == 1, Ordering::SeqCst);
            for name in ["crypto", "closes", "strange"] {
                if name != "strange" || hour == 1 {
                    world.run(name).await;
                }
            }
        }
        world.broken.store(false, Ordering::SeqCst);
        world.clock.set("2026-05-19T15:40:00Z");
        world.harm("strange");
        let fault = format!(
            "error[E001]: expected `=`\n --> pipelines/torn.toml:3:6\n  |\n3 | name {HOSTILE} and a long line of what stands in the file\n  |      ^"
        );
        world.fleet.set_broken(Broken { name: "torn".to_owned(), path: PathBuf::from("pipelines/torn.toml"), fault });
        let crypto = world.fleet.member("crypto").unwrap();
        let demand = crypto.plan.parts.source.demand().unwrap();
        SqliteCredits::new(world.dir.path().join("state/credits.db")).spend(&demand.scope, "2026-05", 1234).unwrap();
        let gap = |coin: &str, from: &str, hours: i64| {
            let from: DateTime<Utc> = from.parse().unwrap();
            let series = json!({ "coin_id": coin }).as_object().unwrap().clone();
            Gap { series, from, to: from + TimeDelta::hours(hours), missing: hours as u64 }
        };
        let mut live = crypto.live.lock().unwrap();
        live.gaps = Some(vec![gap("bitcoin", "2026-05-19T02:00:00Z", 3), gap("ethereum", "2026-05-19T07:00:00Z", 1)]);
        live.newest = Some("2026-05-19T14:00:00Z".parse().unwrap());
        drop(live);
        world
    }

    /// Everything that a far side may say is said in hostile words.
    fn harm(&self, name: &str) {
        let member = self.fleet.member(name).unwrap();
        let mut run = member.store.runs(1).unwrap().remove(0);
        run.splits[0].split.id = HOSTILE.to_owned();
        run.splits[0].error.as_mut().unwrap().help = Some(HOSTILE.to_owned());
        member.store.end_run(&run).unwrap();
        let reject =
            json!({"row": {HOSTILE: HOSTILE}, "rule": HOSTILE, "message": HOSTILE, "run": run.run_id, "split": HOSTILE, "stage": "validate"});
        std::fs::create_dir_all(self.dir.path().join("rejects")).unwrap();
        std::fs::write(self.dir.path().join(format!("rejects/{name}.jsonl")), format!("{reject}\n")).unwrap();
        let mut live = member.live.lock().unwrap();
        let (from, to) = ("2026-05-19T02:00:00Z".parse().unwrap(), "2026-05-19T05:00:00Z".parse().unwrap());
        live.gaps = Some(vec![Gap { series: json!({ "coin_id": HOSTILE }).as_object().unwrap().clone(), from, to, missing: 3 }]);
        live.fault = Some(HOSTILE.to_owned());
    }

    fn text(&self, name: &str, more: &str) -> String {
        let dir = self.dir.path().display();
        let key = if name == "closes" { format!("api_key = \"{KEY}\"\n") } else { String::new() };
        format!(
            "name = \"{name}\"\ndescription = \"Hourly {name}, as a test would have them\"\n[trigger]\ntype = \"interval\"\nevery = \"1h\"\noffset = \"20m\"\n\
             [source]\ntype = \"coingecko_ohlc\"\ncoins = [\"bitcoin\", \"ethereum\"]\n{key}[dedupe]\nkeys = [\"coin_id\", \"timestamp\"]\n\
             [sink]\ntype = \"csv\"\npath = \"{dir}/data/{name}/{{coin_id}}_{{timestamp:%Y}}.csv\"\n\
             [validate]\non_reject = \"quarantine\"\nquarantine_path = \"{dir}/rejects/{{name}}.jsonl\"\n{more}",
        )
    }

    fn plan(&self, name: &str, text: &str) -> Plan {
        let mut registry = Registry::new();
        registry.add(pipeline_triggers::plugins());
        registry.add(pipeline_source_coingecko::plugins());
        registry.add(pipeline_sink_csv::plugins());
        let file = Arc::new(SourceFile { path: PathBuf::from(format!("pipelines/{name}.toml")), text: text.to_owned() });
        let env: Env = std::iter::empty::<(&str, &str)>().collect();
        let (def, mut faults) = config::parse(&file, &env);
        let (plan, _, more) = plan::plan(&def, &registry);
        faults.extend(more);
        plan.unwrap_or_else(|| panic!("{faults:?}"))
    }

    /// Serves a pipeline from now on.
    pub fn add(&self, name: &str, more: &str) {
        let text = self.text(name, more);
        let plan = self.plan(name, &text);
        std::fs::create_dir_all(self.dir.path().join("pipelines")).unwrap();
        std::fs::write(self.dir.path().join(format!("pipelines/{name}.toml")), &text).unwrap();
        let state_dir = self.dir.path().join("state").join(name);
        let store = SqliteStore::open(&state_dir).unwrap_or_else(|refused| panic!("{}", refused.error.message));
        self.fleet.put(Arc::new(Member {
            lookout: tokio::sync::Mutex::new(pipeline::workspace::Lookout::new(&plan)),
            name: Arc::clone(&plan.parts.name),
            description: plan.description.clone(),
            path: PathBuf::from(format!("pipelines/{name}.toml")),
            trigger: Arc::clone(&plan.parts.trigger),
            expected: Expected { step: Some(HOUR), ..plan.expected.clone() },
            store: Arc::new(store),
            state_dir,
            plan,
            live: Mutex::new(Live::default()),
        }));
    }

    /// Runs a pipeline once, now, with the engine.
    pub async fn run(&self, name: &str) -> RunRecord {
        let member = self.fleet.member(name).unwrap();
        let text = std::fs::read_to_string(self.dir.path().join(format!("pipelines/{name}.toml"))).unwrap();
        let plan = self.plan(name, &text);
        let store: Arc<dyn Store> = Arc::clone(&member.store);
        let mut engine = Engine::new(plan.parts, store, self.ports.clone(), member.state_dir.clone(), Arc::new(|_| {})).unwrap();
        let request = engine.now(None);
        engine.run(&request, &CancellationToken::new()).await
    }

    /// The stored rows of a coin, as the file has them: time and columns.
    pub fn stored(&self, name: &str, coin: &str) -> BTreeMap<String, Vec<f64>> {
        let path = self.dir.path().join(format!("data/{name}/{coin}_2026.csv"));
        let mut reader = csv::Reader::from_path(path).unwrap();
        let header = reader.headers().unwrap().clone();
        let time = header.iter().position(|column| column == "timestamp").unwrap();
        let rows = reader.records().map(|record| {
            let record = record.unwrap();
            let values = record.iter().enumerate().filter(|(n, cell)| *n != time && cell.parse::<f64>().is_ok());
            (record[time].to_owned(), values.map(|(_, cell)| cell.parse().unwrap()).collect())
        });
        rows.collect()
    }

    /// Serves them all; gives the root's address.
    pub async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (routes, end) = (routes(Arc::clone(&self.fleet)), self.end.clone());
        tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(end.cancelled_owned()).into_future());
        format!("http://{address}")
    }
}
