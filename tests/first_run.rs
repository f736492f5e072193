//! A new user's first hours: the shipped pipelines, run as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use support::{On, Reply, Room, Server, assert_same_hours};

const CRYPTO: &str = "pipelines/crypto.toml";
const TOP_THREE: [&str; 3] = ["bitcoin", "ethereum", "tether"];

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// An object has at least these keys.
#[track_caller]
fn has(object: &Value, expected: &[&str]) {
    let there = keys(object);
    for key in expected {
        assert!(there.contains(key), "no {key:?} in {object}");
    }
}

/// The README's first command is `cargo run --release -- ...`: with more than one program in the workspace, cargo must know which.
#[test]
fn cargo_run_runs_the_engine() {
    let cargo = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let said = metadata["packages"].as_array().unwrap().iter().filter_map(|package| package["default_run"].as_str()).collect::<Vec<_>>();
    assert_eq!(said, ["pipeline"]);
}

#[test]
fn three_files_equal_the_hours_that_follow_from_the_half_hour_candles() {
    let server = Server::start();
    let room = Room::new(&server);
    room.shipped("crypto.toml").once(CRYPTO).exits(0);

    for coin in TOP_THREE {
        let expected = server.expected(coin);
        assert!((23..=24).contains(&expected.len()), "the look-alike shows a day: {} hours", expected.len());
        assert!(expected.iter().all(|hour| hour.volume.is_some()), "each close has a volume");
        assert_same_hours(coin, &room.hours(coin), &expected);
    }
    let csv_files = room.files("data").into_keys().filter(|name| !name.starts_with("data/raw/")).collect::<Vec<_>>();
    assert_eq!(csv_files, Vec::<String>::new(), "nothing else is below data/");
    let coins: BTreeSet<String> =
        room.files("data/raw").into_keys().map(|name| name.split('/').nth(2).unwrap().rsplit_once('_').unwrap().0.to_owned()).collect();
    assert_eq!(coins, TOP_THREE.map(str::to_owned).into(), "a file for each of the three biggest coins and for no other");
    assert!(server.gzipped() > 0, "answers are asked for compressed");
    assert!(server.seen().iter().all(|seen| seen.headers.get("user-agent").is_some_and(|name| name.starts_with("pipeline/"))));
}

#[test]
fn the_summary_is_one_json_object_and_stdout_holds_nothing_else() {
    let server = Server::start();
    let room = Room::new(&server);
    let run = room.shipped("crypto.toml").once(CRYPTO);
    run.exits(0);

    let summary = run.json();
    has(&summary, &["pipeline", "run_id", "status", "started_at", "ended_at", "duration_ms", "rows", "splits"]);
    assert_eq!(summary["pipeline"], "crypto");
    assert_eq!(summary["status"], "ok");
    let instant = |key: &str| chrono::DateTime::parse_from_rfc3339(summary[key].as_str().unwrap()).unwrap();
    let took = (instant("ended_at") - instant("started_at")).num_milliseconds();
    assert!(took >= 0 && (summary["duration_ms"].as_i64().unwrap() - took).abs() <= 1, "{summary}");
    let hours: usize = TOP_THREE.map(|coin| server.expected(coin).len()).iter().sum();
    for (name, count) in [("read", hours), ("written", hours), ("duplicates", 0), ("conflicts", 0), ("rejected", 0)] {
        assert_eq!(run.rows(name), count as u64, "{name}: {summary}");
    }
    let splits = summary["splits"].as_array().unwrap();
    assert_eq!(splits.iter().map(|split| split["split"].as_str().unwrap()).collect::<Vec<_>>(), TOP_THREE, "in the order in which they are stored");
    for split in splits {
        has(split, &["split", "status", "rows", "attempts", "error"]);
        has(&split["rows"], &["read", "written", "duplicates", "conflicts", "rejected"]);
        assert_eq!((split["status"].as_str(), split["attempts"].as_u64(), &split["error"]), (Some("ok"), Some(1), &Value::Null), "{split}");
    }
}

#[test]
fn the_summary_for_people_names_what_happened() {
    let server = Server::start();
    let room = Room::new(&server);
    let run = room.shipped("crypto.toml").pipeline(&["run", CRYPTO, "--once"]);
    run.exits(0).prints("crypto").prints("bitcoin").prints("written");
}

#[test]
fn a_second_run_leaves_every_file_as_it_is_and_reports_only_duplicates() {
    let server = Server::start();
    let room = Room::new(&server);
    let first = room.shipped("crypto.toml").once(CRYPTO);
    first.exits(0);
    let before = room.files("data");

    let second = room.once(CRYPTO);
    second.exits(0);
    assert!(room.files("data") == before, "a byte was changed: {second}");
    assert_eq!(second.rows("duplicates"), first.rows("written"));
    for name in ["written", "conflicts", "rejected"] {
        assert_eq!(second.rows(name), 0, "{name}: {second}");
    }
    assert_ne!(first.json()["run_id"], second.json()["run_id"]);
}

#[test]
fn one_more_hour_on_the_server_is_one_more_row_in_each_file() {
    let server = Server::start();
    let room = Room::new(&server);
    server.hold_back(1);
    room.shipped("crypto.toml").once(CRYPTO).exits(0);
    let before = TOP_THREE.map(|coin| room.hours(coin));
    for (coin, hours) in TOP_THREE.iter().zip(&before) {
        assert_same_hours(coin, hours, &server.expected(coin));
    }

    server.hold_back(0);
    let run = room.once(CRYPTO);
    run.exits(0);
    assert_eq!((run.rows("written"), run.rows("conflicts"), run.rows("rejected")), (3, 0, 0), "{run}");
    for (coin, before) in TOP_THREE.iter().zip(before) {
        let mut expected = before;
        expected.push(*server.expected(coin).last().unwrap());
        assert_same_hours(coin, &room.hours(coin), &expected);
    }
}

#[test]
fn a_coin_that_leaves_the_top_keeps_its_file_and_the_newcomer_gets_one() {
    let server = Server::start();
    let room = Room::new(&server);
    room.shipped("crypto.toml").once(CRYPTO).exits(0);
    let tether = room.hours("tether");

    server.order(&["ethereum", "bitcoin", "solana", "tether"]);
    let run = room.once(CRYPTO);
    run.exits(0);
    run.split_ok("solana").split_ok("ethereum");
    assert_same_hours("solana", &room.hours("solana"), &server.expected("solana"));
    assert_same_hours("tether", &room.hours("tether"), &tether);
}

#[test]
fn each_run_leaves_one_line_in_the_log_file_that_parses() {
    let server = Server::start();
    let room = Room::new(&server);
    room.shipped("crypto.toml").once(CRYPTO).exits(0);
    let run = room.once(CRYPTO);
    run.exits(0);

    let log = room.read("logs/pipeline.log");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("run finished")).collect();
    assert_eq!(lines.len(), 2, "one line a run: {log}");
    let field = |name: &str| {
        let (_, rest) = lines[1].split_once(&format!(" {name}=")).unwrap_or_else(|| panic!("no {name} in {}", lines[1]));
        rest.split(' ').next().unwrap().trim_matches('"').to_owned()
    };
    let instant = |name: &str| chrono::DateTime::parse_from_rfc3339(&field(name)).unwrap_or_else(|error| panic!("{name}: {error}: {}", lines[1]));
    assert!(instant("started_at") <= instant("ended_at"));
    assert_eq!(field("status"), "ok");
    for name in ["read", "written", "duplicates", "conflicts", "rejected"] {
        assert_eq!(field(name).parse::<u64>().unwrap(), run.rows(name), "{name}: {}", lines[1]);
    }
    assert_eq!(field("splits_failed"), "0");

    server.fault(On::ohlc("ethereum"), Reply::status(404, "{\"error\": \"coin not found\"}"));
    room.once(CRYPTO).exits(3);
    let log = room.read("logs/pipeline.log");
    let line = log.lines().rfind(|line| line.contains("run finished")).unwrap();
    for part in ["status=\"partial\"", "splits_ok=2", "splits_failed=1", "errors=", "ethereum: client_error", "coin not found"] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
}

#[test]
fn the_log_is_json_when_asked_for() {
    let server = Server::start();
    let room = Room::new(&server);
    let text = std::fs::read_to_string("pipelines/crypto.toml")
        .unwrap()
        .replace("file = \"logs/pipeline.log\"", "file = \"logs/pipeline.log\"\nformat = \"json\"");
    room.write(CRYPTO, &text);
    let run = room.pipeline(&["--log-format", "json", "run", CRYPTO, "--once", "--format", "json"]);
    run.exits(0);

    for (what, text) in [("the log file", room.read("logs/pipeline.log")), ("stderr", run.stderr.clone())] {
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{what}: {error}: {line}"))).collect();
        let finished: Vec<&Value> = lines.iter().filter(|line| line["message"] == "run finished").collect();
        assert_eq!(finished.len(), 1, "{what}: {text}");
        has(finished[0], &["started_at", "ended_at", "read", "written", "duplicates", "conflicts", "rejected", "splits_failed"]);
        assert_eq!(finished[0]["written"].as_u64(), Some(run.rows("written")), "{what}");
    }
}

#[test]
fn the_shipped_market_snapshot_stores_a_row_for_each_coin_that_has_a_price() {
    let server = Server::start();
    let room = Room::new(&server);
    let run = room.shipped("markets.toml").once("pipelines/markets.toml");
    run.exits(0);

    let files = room.files("data/markets");
    assert_eq!(files.len(), 1, "{:?}", files.keys());
    let (name, bytes) = files.first_key_value().unwrap();
    let month = name.strip_prefix("data/markets/").and_then(|rest| rest.strip_suffix(".csv")).unwrap();
    assert!(month.len() == 7 && month.contains('-'), "{name}");
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let header = reader.headers().unwrap().clone();
    assert_eq!(header.iter().take(6).collect::<Vec<_>>(), ["fetched_at", "coin_id", "symbol", "name", "market_cap_rank", "current_price"]);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let coins: Vec<&str> = rows.iter().map(|row| &row[1]).collect();
    let alive: Vec<&str> = support::coins::ALL.into_iter().filter(|coin| *coin != "zombie-coin").collect();
    assert_eq!(coins, alive, "all but the dead one, in the order of the ranks");
    for (place, row) in rows.iter().enumerate() {
        let shown = support::coins::market(coins[place], place + 1, server.now());
        let cell = |name: &str| &row[header.iter().position(|column| column == name).unwrap()];
        assert_eq!(cell("name"), shown["name"], "quotes and commas survive");
        for name in
            ["current_price", "market_cap", "total_volume", "high_24h", "low_24h", "price_change_percentage_24h", "circulating_supply", "max_supply"]
        {
            let stored = (!cell(name).is_empty()).then(|| cell(name).parse::<f64>().unwrap().to_bits());
            assert_eq!(stored, shown[name].as_f64().map(f64::to_bits), "{} of {}", name, coins[place]);
        }
    }
    assert_eq!(run.json()["rows"]["filtered"], 1, "the dead coin is left out, not rejected: {run}");
    assert_eq!(run.rows("rejected"), 0);
}

#[test]
fn the_names_of_shipped_environment_variables_come_from_a_dotenv_file_too() {
    let server = Server::start();
    let room = Room::at("http://127.0.0.1:9/api/v3").without_env("COINGECKO_BASE_URL");
    room.write(".env", &format!("COINGECKO_BASE_URL={}\n", server.url()));
    room.shipped("crypto.toml").once(CRYPTO).exits(0);
    assert_same_hours("bitcoin", &room.hours("bitcoin"), &server.expected("bitcoin"));
}
