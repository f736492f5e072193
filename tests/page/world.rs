//! Pipelines that are served from a folder of their own, at a time of the test's own, by a CoinGecko that answers from a script. Every run is
//! the engine's own, and so is every stored row.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline::config::{self, Env, SourceFile};
use pipeline::plan::{self, Plan, Registry};
use pipeline::run::Engine;
use pipeline::serve::{Fleet, Live, Member, routes};
use pipeline::state::{RunRecord, SqliteCredits, SqliteStore, Store};
use pipeline_contract::testkit::{Answer, TestClock, TestTransport, ports};
use pipeline_contract::{CancellationToken, Clock, Gap, Ports, Transport};
use serde_json::{Value, json};

/// Text that would do harm where it is not escaped.
pub const HOSTILE: &str = "<script>window.harmed=1</script><img src=x onerror=\"window.harmed=2\">'\"&";

/// When the first run is.
pub const START: &str = "2026-05-19T12:20:00Z";

/// The time until the next tick, from `START` on.
pub const HOUR: Duration = Duration::from_secs(3600);

pub struct World {
    pub dir: tempfile::TempDir,
    pub clock: Arc<TestClock>,
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

fn coingecko(clock: Arc<TestClock>, broken: Arc<AtomicBool>) -> Arc<dyn Transport> {
    TestTransport::new(move |request| {
        if broken.load(Ordering::SeqCst) {
            return Answer::status(404, json!({ "error": HOSTILE }).to_string());
        }
        let coin = request.uri().path().split('/').rev().nth(1).unwrap_or_default().to_owned();
        let now = clock.now();
        let last = now - TimeDelta::seconds(now.timestamp() % 1800);
        let candles: Vec<Value> = (0..48).rev().map(|n| candle(&coin, last - TimeDelta::minutes(30 * n))).collect();
        Answer::ok(Value::Array(candles).to_string())
    })
}

impl World {
    /// No pipelines.
    pub fn empty() -> Self {
        let clock = TestClock::new(START.parse().unwrap());
        let broken = Arc::new(AtomicBool::new(false));
        let ports = ports(clock.clone(), coingecko(clock.clone(), Arc::clone(&broken)));
        let fleet = Arc::new(Fleet::new(ports.clone()));
        Self { dir: tempfile::tempdir().unwrap(), clock, fleet, ports, broken, end: CancellationToken::new() }
    }

    /// `crypto` (candles, four runs, one of them failed, a reject), `closes` (a line), `idle` (no run), `strange` (hostile texts, gaps).
    pub async fn full() -> Self {
        let world = Self::empty();
        let rules =
            "[validate]\non_reject = \"quarantine\"\nquarantine_path = \"DIR/rejects/{name}.jsonl\"\n[[validate.rules]]\nkind = \"price_envelope\"\n";
        world.add("crypto", &format!("[source.http]\nrequests_per_month = 10_000\n{rules}"));
        world.add("closes", "[[transforms]]\ntype = \"select\"\ncolumns = [\"coin_id\", \"timestamp\", \"close\"]\n");
        world.add("idle", "");
        world.add("strange", rules);
        for hour in 0..4 {
            world.broken.store(hour == 1, Ordering::SeqCst);
            for name in ["crypto", "closes", "strange"] {
                if name != "strange" || hour == 1 {
                    world.run(name).await;
                }
            }
            world.clock.advance(HOUR);
        }
        world.broken.store(false, Ordering::SeqCst);
        // The fourth run is of 15:20; the page is looked at at 15:40.
        world.clock.advance(Duration::from_secs(20 * 60));
        world.harm("strange");
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
        format!(
            "name = \"{name}\"\ndescription = \"Hourly {name}, as a test would have them\"\n[trigger]\ntype = \"interval\"\nevery = \"1h\"\noffset = \"20m\"\n\
             [source]\ntype = \"coingecko_ohlc\"\ncoins = [\"bitcoin\", \"ethereum\"]\n[dedupe]\nkeys = [\"coin_id\", \"timestamp\"]\n\
             [sink]\ntype = \"csv\"\npath = \"{dir}/data/{name}/{{coin_id}}_{{timestamp:%Y}}.csv\"\n{}",
            more.replace("DIR", &dir.to_string())
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
            name: Arc::clone(&plan.parts.name),
            description: plan.description.clone(),
            path: PathBuf::from(format!("pipelines/{name}.toml")),
            trigger: Arc::clone(&plan.parts.trigger),
            expected: plan.expected.clone(),
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
