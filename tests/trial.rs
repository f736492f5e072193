//! Before a run counts: `check --connect`, `run --dry-run`, and what `--record` keeps and `--replay` shows of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::testkit::{Answer as Far, TestTransport};
use pipeline_contract::{
    BuildContext, Category, ConfigTable, Descriptor, Kind, PlanError, Plugin, Position, Read, Reader, Row, RunContext, Source, SourceCapabilities,
    Split, Stage, StageError, TransportFault, async_trait, parse_config, rows,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use support::{Answer, On, Outcome, Recipe, Reply, Room, Server, nobody_listens};

const FILE: &str = "candles.toml";
const HALF_HOUR: i64 = 30 * 60 * 1000;
const KEY: &str = "CG-verySecret+kqzwvXyz42";

fn room(server: &Server, recipe: &Recipe) -> Room {
    let room = Room::new(server);
    room.write(FILE, &recipe.toml());
    room
}

/// A room with a recording in `kept`, made by a dry run.
fn recorded(server: &Server, recipe: &Recipe) -> (Room, Value) {
    let room = room(server, recipe);
    let run = room.pipeline(&["run", FILE, "--dry-run", "--record", "kept", "--format", "json"]).json();
    (room, run)
}

fn replay(room: &Room) -> Outcome {
    room.pipeline(&["run", FILE, "--replay", "kept", "--format", "json"])
}

/// A summary without what a replay does in its own way: it takes no time, and asks nobody.
fn essence(mut summary: Value) -> Value {
    for key in ["started_at", "ended_at", "duration_ms", "replay", "requests"] {
        summary.as_object_mut().unwrap().remove(key).unwrap();
    }
    summary
}

/// The lines of a recording's index, the head first.
fn index(room: &Room) -> Vec<Value> {
    room.read("kept/index.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write_index(room: &Room, lines: &[Value]) {
    room.write("kept/index.jsonl", &lines.iter().map(|line| format!("{line}\n")).collect::<String>());
}

/// The exchanges whose URL holds this.
fn exchanges(room: &Room, part: &str) -> Vec<Value> {
    index(room).into_iter().skip(1).filter(|line| line["url"].as_str().unwrap().contains(part)).collect()
}

fn preview(outcome: &Outcome, split: &str) -> Value {
    outcome.split(split)["preview"].clone()
}

/// Makes one candle of bitcoin impossible.
fn break_bitcoin(server: &Server) {
    let hour = server.expected("bitcoin")[2].open_time;
    server.fault(On::ohlc("bitcoin"), Reply::rows(move |rows| rows.iter_mut().find(|row| row[0] == hour + HALF_HOUR).unwrap()[2] = json!(0.5)));
}

// What a dry run shows

#[test]
fn a_dry_run_shows_samples_reasons_and_the_requests_it_spent() {
    let server = Server::start();
    break_bitcoin(&server);
    let room = room(&server, &Recipe::new().coins(&["bitcoin", "tether"]));
    let due = server.expected("bitcoin").len();
    let dry = room.pipeline(&["run", FILE, "--dry-run", "--sample", "2", "--format", "json"]);
    dry.exits(0);
    let shown = preview(&dry, "bitcoin");
    assert_eq!(shown["append"]["rows"], due - 1, "{shown}");
    assert_eq!(shown["append"]["sample"].as_array().unwrap().len(), 2, "{shown}");
    assert_eq!(shown["append"]["sample"][0]["coin_id"], "bitcoin");
    assert_eq!(shown["replace"], json!({"rows": 0, "sample": []}));
    let reject = &shown["rejects"][0];
    assert_eq!((&reject["rule"], &reject["stage"], &reject["rows"]), (&json!("coingecko:price_envelope"), &json!("source"), &json!(1)), "{reject}");
    assert_eq!(reject["examples"][0]["row"][2], 0.5, "{reject}");
    let asked = server.seen().len();
    let requests = &dry.json()["requests"][0];
    assert!(server.url().contains(requests["host"].as_str().unwrap()), "{requests}");
    assert_eq!((&requests["sent"], &requests["answered"]), (&json!(asked), &json!({"200": asked})), "{requests}");
    assert_eq!((&requests["credits"], &requests["per_month"]), (&json!(0), &Value::Null), "{requests}");

    let text = room.pipeline(&["run", FILE, "--dry-run", "--sample", "2"]);
    text.exits(0).prints("nothing was written").prints(&format!("bitcoin: {} rows would be written, the first 2:", due - 1));
    text.prints("bitcoin: 1 row would be rejected:").prints("1 row at source, by coingecko:price_envelope").prints("requests that were spent:");
    text.prints(&format!("{asked} ({asked} answered 200)"));
    assert_eq!(text.stdout.matches("│ bitcoin").count(), 2, "{text}");
    room.pipeline(&["run", FILE, "--dry-run", "--sample", "0"]).exits(0).prints("tether: ");
}

#[test]
fn a_dry_run_tells_what_is_known_from_what_is_new_and_what_would_be_replaced() {
    let server = Server::start();
    server.hold_back(2);
    let recipe = Recipe::new().coins(&["bitcoin"]);
    let room = room(&server, &recipe);
    room.once(FILE).exits(0);
    server.hold_back(0);
    let hour = server.expected("bitcoin")[5].open_time;
    server.fault(
        On::ohlc("bitcoin"),
        Reply::rows(move |rows| rows.iter_mut().filter(|row| row[0] == hour + 2 * HALF_HOUR).for_each(|row| row[2] = json!(1e9))),
    );
    let dry = room.pipeline(&["run", FILE, "--dry-run", "--format", "json"]);
    assert_eq!((dry.exits(0).rows("written"), dry.rows("conflicts")), (2, 1), "{dry}");
    let duplicates = dry.rows("duplicates");
    room.pipeline(&["run", FILE, "--dry-run"])
        .prints(&format!("bitcoin: skipped as known: {duplicates} with the values that are stored, 1 with other values"));

    room.write(FILE, &recipe.dedupe("[dedupe]\nkeys = [\"coin_id\", \"timestamp\"]\non_conflict = \"keep_last\"\n").toml());
    let replaced = preview(&room.pipeline(&["run", FILE, "--dry-run", "--format", "json"]), "bitcoin")["replace"].clone();
    assert_eq!((&replaced["rows"], &replaced["sample"][0]["high"]), (&json!(1), &json!(1e9)), "{replaced}");
}

#[test]
fn the_requests_of_a_dry_run_count_against_the_month_and_those_of_a_replay_do_not() {
    let server = Server::start();
    let recipe = Recipe::new().coins(&["bitcoin"]);
    let limited = recipe.clone().http(&format!("{}\nrequests_per_month = 4", recipe.http));
    let (room, first) = recorded(&server, &limited);
    let spent = first["requests"][0]["credits"].as_u64().unwrap();
    assert!(spent > 1 && spent == server.seen().len() as u64 && first["requests"][0]["per_month"] == 4, "{first}");
    let files: Vec<String> = room.files(".pipeline").into_keys().filter(|name| !name.contains("credits.db")).collect();
    assert!(files.is_empty(), "beside the credits there is {files:?}");
    for _ in 0..3 {
        assert_eq!(replay(&room).exits(0).json()["requests"][0]["credits"], 0);
    }
    room.pipeline(&["run", FILE, "--dry-run"]).exits(0).prints(&format!("{spent} of the month's 4 counted"));
    room.pipeline(&["run", FILE, "--dry-run"]).exits(1).says("this month's 4 requests are used up");
}

#[test]
fn a_dry_run_that_breaks_a_limit_shows_what_broke_it() {
    let server = Server::start();
    let room =
        room(&server, &Recipe::new().validate("[validate]\nlimits = { abort = 3 }\n[[validate.rules]]\nname = \"never\"\nexpr = \"open < 0\"\n"));
    let dry = room.pipeline(&["run", FILE, "--dry-run", "--format", "json"]);
    dry.exits(1).says("too many rejects");
    let rejects = &preview(&dry, "bitcoin")["rejects"][0];
    assert_eq!((&rejects["rule"], rejects["rows"].as_u64()), (&json!("never"), Some(server.expected("bitcoin").len() as u64)), "{dry}");
}

// Record and replay

#[test]
fn a_replay_without_a_network_shows_what_the_recorded_run_showed() {
    let server = Server::start();
    break_bitcoin(&server);
    let (room, first) = recorded(&server, &Recipe::new());
    assert_eq!(first["splits"].as_array().unwrap().len(), 3);
    drop(server);
    let before = room.files("");
    let again = replay(&room);
    let again = again.exits(0).json();
    assert_eq!((&first["replay"], &again["replay"]), (&json!(false), &json!(true)));
    assert_eq!(essence(again), essence(first));
    assert!(room.files("") == before, "a replay writes nothing");
    room.pipeline(&["run", FILE, "--replay", "kept"]).exits(0).prints("replay, nothing was written").prints("nothing was sent");
    // Whoever repeats it somewhere else has no key, or another one.
    let elsewhere = room.env("COINGECKO_API_KEY", "another-key");
    replay(&elsewhere).exits(0);
}

#[test]
fn a_recording_can_be_read_and_edited_by_hand() {
    let server = Server::start();
    let (room, first) = recorded(&server, &Recipe::new());
    drop(server);
    let head = &index(&room)[0];
    assert_eq!((&head["recording"], &head["pipeline"], &head["at"]), (&json!(1), &json!("candles"), &first["tick"]));
    let ohlc = exchanges(&room, "/bitcoin/ohlc")[0].clone();
    assert_eq!((&ohlc["method"], &ohlc["status"]), (&json!("GET"), &json!(200)));
    assert_eq!(ohlc["headers"]["content-type"], "application/json; charset=utf-8");
    assert!(ohlc["headers"]["content-encoding"].is_null() && ohlc["elapsed_ms"].is_u64(), "{ohlc}");
    let body = format!("kept/{}", ohlc["body"].as_str().unwrap());
    assert!(body.ends_with("-bitcoin-ohlc.json"), "{body}");
    let mut rows: Vec<Value> = serde_json::from_str(&room.read(&body)).unwrap();
    rows[9][2] = json!(0.5);
    room.write(&body, &serde_json::to_string_pretty(&rows).unwrap());
    let edited = replay(&room);
    edited.exits(0);
    assert_eq!(
        (edited.rows("rejected"), preview(&edited, "bitcoin")["rejects"][0]["rule"].as_str()),
        (1, Some("coingecko:price_envelope")),
        "{edited}"
    );
    assert_eq!(first["rows"]["rejected"], 0);
}

#[test]
fn rules_are_worked_out_on_a_recording() {
    let server = Server::start();
    let (room, first) = recorded(&server, &Recipe::new());
    let asked = server.seen().len();
    assert_eq!(first["rows"]["rejected"], 0);
    let rules = "[validate]\n[[validate.rules]]\nname = \"tether_alone\"\nexpr = \"coin_id = 'tether'\"\n";
    room.write(FILE, &Recipe::new().validate(rules).toml());
    let stricter = replay(&room);
    stricter.exits(0);
    assert_eq!(preview(&stricter, "tether")["rejects"], json!([]));
    for coin in ["bitcoin", "ethereum"] {
        let rejects = &preview(&stricter, coin)["rejects"][0];
        assert_eq!((&rejects["rule"], rejects["rows"].as_u64()), (&json!("tether_alone"), Some(server.expected(coin).len() as u64)));
        assert_eq!(rejects["examples"].as_array().unwrap().len(), 5);
    }
    assert_eq!(server.seen().len(), asked, "not one more request was sent");
}

#[test]
fn a_run_that_counts_is_recorded_as_well_and_a_window_with_it() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    let run = room.pipeline(&["run", FILE, "--once", "--record", "kept", "--format", "json"]);
    let written = run.exits(0).rows("written");
    let again = replay(&room);
    assert_eq!((again.exits(0).rows("written"), again.rows("duplicates")), (0, written), "it is stored by now: {again}");
    assert_eq!(again.json()["tick"], run.json()["tick"]);
    std::fs::remove_dir_all(room.path("kept")).unwrap();

    let hours = server.expected("tether");
    let at = |n: usize| chrono::DateTime::from_timestamp_millis(hours[n].open_time).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let (from, to) = (at(3), at(7));
    room.pipeline(&["run", FILE, "--from", &from, "--to", &to, "--dry-run", "--record", "kept"]).exits(0);
    assert_eq!((&index(&room)[0]["from"], &index(&room)[0]["to"]), (&json!(from), &json!(to)));
    drop(server);
    let window = replay(&room);
    assert_eq!((window.exits(0).split("tether")["rows"]["read"].as_u64(), &window.json()["cause"]), (Some(4), &json!("backfill")), "{window}");
}

#[test]
fn no_key_and_no_echo_of_it_is_in_a_recording() {
    let server = Server::start();
    server.require_key("x-cg-demo-api-key", KEY);
    let echo = format!("see {KEY}, {} and CG%2DverySecret%2Bkqzwv%58yz42", "Q0ctdmVyeVNlY3JldCtrcXp3dlh5ejQy");
    let answer = |status: u16| {
        let body = json!({"error": echo});
        Answer::json(status, &body).header("set-cookie", "session=verySecret").header("x-echo", format!("of {KEY}")).header("x-plain", "kept")
    };
    server.fault(On::ohlc("bitcoin"), Reply::Answer(answer(404)));
    server.fault(On::chart("ethereum"), Reply::Answer(answer(500)));
    let recipe = Recipe::new();
    let recipe = recipe.clone().source(&format!("{}\napi_key = \"${{COINGECKO_API_KEY}}\"", recipe.source));
    let room = room(&server, &recipe).env("COINGECKO_API_KEY", KEY);
    let first = room.pipeline(&["-vv", "run", FILE, "--dry-run", "--record", "kept", "--format", "json"]);
    let files = room.files("kept");
    assert!(files.len() > 5);
    for (name, bytes) in &files {
        let text = String::from_utf8_lossy(bytes);
        for trace in ["verySecret", "kqzwv", "Q0ctdmVy", "cookie"] {
            assert!(!text.contains(trace) && !name.contains(trace), "{trace} is in {name}: {text}");
        }
    }
    let refused = &exchanges(&room, "/bitcoin/ohlc")[0];
    assert_eq!((&refused["headers"]["x-echo"], &refused["headers"]["x-plain"]), (&json!("of ***"), &json!("kept")), "{refused}");
    assert!(!first.stderr.contains("kqzwv") && !first.stdout.contains("kqzwv"));
    drop(server);
    let again = replay(&room);
    assert_eq!(essence(again.json()), essence(first.json()), "the errors too are those of the recorded run");
}

#[test]
fn a_folder_that_holds_something_is_not_recorded_into() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    room.write("kept/mine.txt", "mine");
    for mode in ["--dry-run", "--once"] {
        let refused = room.pipeline(&["run", FILE, mode, "--record", "kept"]);
        refused.exits(2).complains("kept is not empty").complains("does not exist yet");
    }
    assert_eq!((room.files("kept").len(), server.seen().len()), (1, 0), "nothing was asked, nothing was written");
    room.pipeline(&["run", FILE, "--record", "new"]).exits(2).complains("add --dry-run, --once");
    room.pipeline(&["run", FILE, "--replay", "kept", "--once"]).exits(2).complains("--once");
    room.pipeline(&["run", FILE, "--replay", "nowhere"]).exits(2).complains("index.jsonl");
    room.write("kept/index.jsonl", "{\"recording\":1}\n");
    room.pipeline(&["run", FILE, "--replay", "kept"]).exits(2).complains("index.jsonl:1: ").complains("docs/trial.md");
    assert!(!room.exists("new"));
}

#[test]
fn an_answer_that_was_not_recorded_is_an_error_that_names_it() {
    let server = Server::start();
    let (room, _) = recorded(&server, &Recipe::new());
    let lines = index(&room);
    write_index(
        &room,
        &lines.iter().filter(|line| !line["url"].as_str().is_some_and(|url| url.contains("/bitcoin/ohlc"))).cloned().collect::<Vec<_>>(),
    );
    let lacking = replay(&room);
    lacking.exits(3).split_failed("bitcoin", "network", &["the recording kept has no answer to GET", "/coins/bitcoin/ohlc?"]).split_ok("ethereum");
    assert!(lacking.split("bitcoin")["error"]["help"].as_str().unwrap().contains("--record DIR"), "{lacking}");

    write_index(&room, &lines);
    let body = exchanges(&room, "/tether/ohlc")[0]["body"].as_str().unwrap().to_owned();
    std::fs::remove_file(room.path(&format!("kept/{body}"))).unwrap();
    replay(&room).exits(3).split_failed("tether", "network", &[&body]);

    // No file of another folder is read, whatever the index says.
    room.write("secret.json", "[]");
    let mut lines = index(&room);
    lines[1]["body"] = json!("../secret.json");
    write_index(&room, &lines);
    replay(&room).exits(2).complains("index.jsonl:2: ").complains("no file of this folder");
}

#[test]
fn waits_of_a_recorded_run_pass_at_once() {
    let server = Server::start();
    let reply = Reply::Answer(Answer::new(429, "Throttled").header("retry-after", "1"));
    server.fault(On::ohlc("ethereum").times(1), reply);
    let (room, first) = recorded(&server, &Recipe::new());
    drop(server);
    let mut lines = index(&room);
    let throttled = lines.iter_mut().find(|line| line["status"] == 429).unwrap();
    assert_eq!(throttled["headers"]["retry-after"], "1");
    assert_eq!(essence(replay(&room).exits(0).json()), essence(first.clone()));
    // A quarter of an hour would be longer than any test may take.
    let throttled = lines.iter_mut().find(|line| line["status"] == 429).unwrap();
    throttled["headers"]["retry-after"] = json!("900");
    write_index(&room, &lines);
    assert_eq!(essence(replay(&room).exits(0).json()), essence(first.clone()));
    // Beyond the deadline nobody waits, in a replay neither.
    let throttled = lines.iter_mut().find(|line| line["status"] == 429).unwrap();
    throttled["headers"]["retry-after"] = json!("3700");
    write_index(&room, &lines);
    replay(&room).exits(3).split_failed("ethereum", "rate_limit", &["429"]).split_ok("tether");
}

#[test]
fn faults_of_the_network_are_replayed_too() {
    let server = Server::start();
    server.fault(On::ohlc("bitcoin"), Reply::Truncate);
    server.fault(On::ohlc("ethereum"), Reply::Reset);
    server.fault(On::ohlc("tether"), Reply::Stall);
    let recipe = Recipe::new().http("timeout = \"300ms\"\nconnect_timeout = \"1s\"\nretries = 0\nrequests_per_minute = 100000");
    let (room, first) = recorded(&server, &recipe);
    assert_eq!(first["status"], "failed");
    drop(server);
    let faults = |coin: &str| exchanges(&room, coin).iter().map(|line| line["fault"]["kind"].clone()).collect::<Vec<_>>();
    assert_eq!(
        (&faults("bitcoin/ohlc")[0], &faults("ethereum/ohlc")[0], &faults("tether/ohlc")[0]),
        (&json!("broken"), &json!("broken"), &json!("timeout"))
    );
    let again = replay(&room);
    again.exits(1);
    for coin in ["bitcoin", "ethereum", "tether"] {
        let error = |run: &Value| run["splits"].as_array().unwrap().iter().find(|split| split["split"] == coin).unwrap()["error"].clone();
        let (was, is) = (error(&first), error(&again.json()));
        assert_eq!((&was["category"], &is["category"]), (&json!("network"), &json!("network")), "{coin}");
        assert!(coin == "tether" || was == is, "{was} became {is}");
    }
}

// A source from outside, which sends its key as a parameter

rows! {
    pub(crate) struct Reading {
        pub sensor: String,
        pub value: i64,
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GaugeConfig {
    token: String,
}

struct GaugePlugin;

impl Plugin for GaugePlugin {
    fn describe(&self) -> Descriptor {
        let sample = "[source]\ntype = \"gauge\"\ntoken = \"\"\n";
        Descriptor { kind: Kind::Source, type_name: "gauge", summary: "A gauge", config: || schemars::schema_for!(GaugeConfig), sample }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        Ok(Stage::Source(Box::new(Gauge(parse_config("source \"gauge\"", config)?))))
    }
}

#[derive(Clone)]
struct Gauge(GaugeConfig);

/// Asks the transport by itself, and twice for the same.
struct GaugeReader(Gauge, RunContext, u64);

#[async_trait]
impl Source for Gauge {
    fn schema(&self) -> SchemaRef {
        Reading::schema()
    }
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::default()
    }
    async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
        Ok(vec![Split::new("only")])
    }
    async fn open(&self, _: &Split, _: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        Ok(Box::new(GaugeReader(self.clone(), run.clone(), 0)))
    }
    async fn probe(&self, _: &RunContext) -> Result<(), StageError> {
        Ok(())
    }
}

#[async_trait]
impl Reader for GaugeReader {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        if self.2 == 2 {
            return Ok(None);
        }
        self.2 += 1;
        // The hour of the run is asked for: another would not be in the recording.
        let url = format!("https://gauge.example/v1/now?at={}&token={}", self.1.ports.clock.now().timestamp_millis(), self.0.0.token);
        let request = http::Request::get(url).body(bytes::Bytes::new()).unwrap();
        let failed = |error: pipeline_contract::TransportError| {
            assert!(error.fault != TransportFault::Unrecorded || error.message.contains("token=***"), "{error}");
            StageError::split(Category::Network, error.message)
        };
        // As any source may: the answer beside a wait.
        let answer = tokio::select! {
            answer = self.1.ports.transport.send(request, Duration::from_secs(5)) => answer,
            () = self.1.ports.clock.sleep(Duration::from_secs(5)) => panic!("the wait passed before the answer that was there"),
        };
        let mut body = answer.map_err(failed)?.into_body();
        let mut text = Vec::new();
        while let Some(chunk) = body.chunk().await.map_err(failed)? {
            text.extend_from_slice(&chunk);
        }
        let value = String::from_utf8_lossy(&text).split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(-1);
        let rows = [Reading { sensor: "roof".to_owned(), value }];
        Ok(Some(Read { batch: Reading::batch(&rows), rejects: Vec::new(), position: Position(Value::Null) }))
    }
}

#[test]
fn a_source_from_outside_is_recorded_and_replayed_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let program = |transport: Arc<TestTransport>, token: &str, args: &[&str]| {
        let file = path("gauge.toml");
        let text = format!(
            "name = \"gauge\"\n[trigger]\ntype = \"manual\"\n[source]\ntype = \"gauge\"\ntoken = \"{token}\"\n\
             [validate]\non_reject = \"fail\"\n[[validate.rules]]\nname = \"in_turn\"\nexpr = \"value > 0\"\n\
             [sink]\ntype = \"csv\"\npath = \"{}\"\n",
            path("out.csv")
        );
        std::fs::write(&file, text).unwrap();
        let state = path("state");
        let mut all = vec!["gauge", "-qq", "--state-dir", &state, "run", &file];
        all.extend(args);
        pipeline::cli::App::new(transport)
            .with(pipeline_triggers::plugins())
            .with(pipeline_sink_csv::plugins())
            .with([Box::new(GaugePlugin) as Box<dyn Plugin>])
            .main_from(all.iter().map(Into::into))
    };
    let is = |code: ExitCode, due: u8| assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(due)));
    let kept = path("kept");
    let far = TestTransport::in_turn([Far::ok("7 my+Secret+token"), Far::ok("8 my%2BSecret%2Btoken")]);
    is(program(Arc::clone(&far), "my%2BSecret%2Btoken", &["--dry-run", "--record", &kept]), 0);
    assert_eq!(far.asked().len(), 2);
    let files: BTreeMap<String, String> = std::fs::read_dir(Path::new(&kept))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    assert!(files.values().all(|text| !text.contains("Secret")), "{files:?}");
    assert_eq!((files["0001-v1-now.txt"].as_str(), files["0002-v1-now.txt"].as_str()), ("7 ***", "8 ***"), "{files:?}");
    assert!(files["index.jsonl"].contains("&token=***\""), "{files:?}");

    let nobody = TestTransport::in_turn([]);
    is(program(Arc::clone(&nobody), "another", &["--replay", &kept]), 0);
    assert!(nobody.asked().is_empty(), "a replay asks nobody");
    // In turn: what comes second breaks the rule, and so the run.
    std::fs::write(Path::new(&kept).join("0002-v1-now.txt"), "-8").unwrap();
    is(program(nobody, "another", &["--replay", &kept]), 1);
    assert!(!Path::new(&path("out.csv")).exists() && !Path::new(&path("state")).exists());
}

// check --connect

fn probe(outcome: &Outcome, stage: &str) -> Value {
    outcome.json_lines().into_iter().find(|line| line["probe"] == stage).unwrap_or_else(|| panic!("no probe of the {stage}: {outcome}"))
}

#[test]
fn connect_probes_everything_a_run_needs_and_leaves_nothing_behind() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    let before = room.files("");
    room.pipeline(&["check", FILE]).exits(0);
    assert_eq!(server.seen().len(), 0, "without --connect nobody is asked");
    let checked = room.pipeline(&["check", FILE, "--connect", "--format", "json"]);
    checked.exits(0);
    let probed: Vec<Value> = checked.json_lines().iter().map(|line| line["probe"].clone()).collect();
    assert_eq!(probed, ["source", "sink", "quarantine", "state"], "{checked}");
    let source = probe(&checked, "source");
    assert!(server.url().contains(source["target"].as_str().unwrap()) && source["took_ms"].is_u64(), "{source}");
    assert_eq!((&source["result"], &source["type"], &source["pipeline"]), (&json!("ok"), &json!("coingecko_ohlc"), &json!("candles")));
    let sink = probe(&checked, "sink");
    assert_eq!((&sink["type"], &sink["target"]), (&json!("csv"), &json!("data/raw/{coin_id}_{timestamp:%Y}.csv")));
    if cfg!(unix) {
        assert!(sink["free_bytes"].as_u64().is_some_and(|free| free > 0), "{sink}");
    }
    assert_eq!(server.count("ping"), 1);
    let text = room.pipeline(&["check", FILE, "--connect"]);
    text.exits(0).prints("candles.toml: ok").prints("coingecko_ohlc").prints("state").prints("free");
    assert!(room.files("") == before && !room.exists("data") && !room.exists(".pipeline"), "{:?}", room.files("").keys());
}

#[test]
fn connect_says_what_is_wrong_and_what_to_do_of_each_by_itself() {
    let server = Server::start();
    server.require_key("x-cg-demo-api-key", KEY);
    let recipe = Recipe::new();
    let recipe = recipe.clone().source(&format!("{}\napi_key = \"${{COINGECKO_API_KEY}}\"", recipe.source));
    let room = room(&server, &recipe).env("COINGECKO_API_KEY", "CG-wrong-key-of-mine");
    room.write("data/raw", "a file where the folder should be");
    let checked = room.pipeline(&["check", FILE, "--connect", "--format", "json"]);
    checked.exits(1);
    let source = probe(&checked, "source");
    assert_eq!((&source["result"], &source["category"]), (&json!("failed"), &json!("client_error")), "{source}");
    assert!(source["message"].as_str().unwrap().contains("401") && source["help"].as_str().unwrap().contains("key"), "{source}");
    let sink = probe(&checked, "sink");
    assert!(sink["result"] == "failed" && sink["message"].as_str().unwrap().contains("data/raw"), "{sink}");
    assert_eq!(probe(&checked, "state")["result"], "ok");
    let text = room.pipeline(&["check", FILE, "--connect"]);
    text.exits(1).prints("failed").prints("candles, source: client_error: ").prints("= help: ").prints("candles, sink: storage: ");
    for run in [&checked, &text] {
        assert!(!run.stdout.contains("wrong-key") && !run.stderr.contains("wrong-key"), "{run}");
    }
    room.pipeline(&["check", FILE]).exits(0);
}

#[test]
fn connect_asks_for_files_that_can_run_and_for_no_other() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    room.write("faulty.toml", &Recipe::new().name("faulty").trigger("type = \"maunal\"").toml());
    let down = Recipe::new().name("down").toml().replace("${COINGECKO_BASE_URL}", &nobody_listens()).replace("data/raw", "data/down");
    let checked = room.pipeline(&["check", FILE, "faulty.toml", "--connect", "--format", "json"]);
    checked.exits(2);
    assert!(checked.json_lines().iter().all(|line| line["pipeline"] != "faulty"), "{checked}");
    assert_eq!((&probe(&checked, "source")["result"], server.count("ping")), (&json!("ok"), 1));

    room.write("down.toml", &down);
    let checked = room.pipeline(&["check", FILE, "down.toml", "--connect"]);
    checked.exits(1).prints("down, source: network: ").prints("connection refused").prints("candles");

    // Somebody who listens and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v3", mute.local_addr().unwrap());
    let silent = Recipe::new().name("down").http("timeout = \"100ms\"\nretries = 0").toml().replace("${COINGECKO_BASE_URL}", &url);
    room.write("down.toml", &silent.replace("data/raw", "data/down"));
    room.pipeline(&["check", "down.toml", "--connect"]).exits(1).prints("timed out after 100 ms");
}

#[test]
fn connect_tells_of_a_state_that_a_run_would_refuse() {
    let server = Server::start();
    let recipe = Recipe::new().coins(&["bitcoin"]);
    let room = room(&server, &recipe);
    room.once(FILE).exits(0);
    room.pipeline(&["check", FILE, "--connect"]).exits(0);
    room.write(FILE, &recipe.toml().replace("data/raw/", "data/other/"));
    room.pipeline(&["check", FILE, "--connect"]).exits(1).prints("candles, state: storage: the state does not fit");
}

#[cfg(target_os = "linux")]
#[test]
fn connect_warns_where_there_is_little_room() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    let Some(checked) = room.pipeline_on_small_disk("data", 64, &["check", FILE, "--connect"]) else { return };
    checked.exits(0).prints("little room").prints("64 KiB are free").prints("less than 100 MiB");
    let Some(denied) = room.pipeline_on_small_disk("data", 64, &["check", FILE, "--connect", "--deny-warnings", "--format", "json"]) else { return };
    denied.exits(1);
    assert_eq!(probe(&denied, "sink")["result"], "little_room");
}
