//! Pipelines that run by their trigger: ticks, stops, restarts, and who holds what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use support::{Dice, Recipe, Room, Running, Server, assert_same_hours};

const FILE: &str = "candles.toml";

/// By default a run may take nine tenths of the time between two ticks, which is little on a machine that does other things too.
fn every_second() -> Recipe {
    Recipe::new().trigger("type = \"interval\"\nevery = \"1s\"").run("concurrency = 4\ndeadline = \"30s\"")
}

fn room(server: &Server, recipe: &Recipe) -> Room {
    let room = Room::new(server);
    room.write(FILE, &recipe.toml());
    room
}

fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stops it as a service manager would; it ends well, and soon.
#[track_caller]
fn stop(running: Running) {
    running.signal("TERM");
    let asked = Instant::now();
    running.end_within(Duration::from_secs(10)).exits(0);
    assert!(asked.elapsed() < Duration::from_secs(10));
}

/// Every tick of `status --format json`, each instant for itself, with what became of it.
#[track_caller]
fn ticks(room: &Room, step: TimeDelta) -> BTreeMap<DateTime<Utc>, Value> {
    let status = room.pipeline(&["status", FILE, "--format", "json"]);
    let status = status.exits(0).json();
    let instant = |value: &Value| DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().to_utc();
    let mut ticks = BTreeMap::new();
    for tick in status["ticks"].as_array().unwrap() {
        let (mut at, until) = (instant(&tick["tick"]), instant(&tick["until"]));
        let mut count = 0;
        while at <= until {
            assert!(ticks.insert(at, tick.clone()).is_none(), "{at} is there twice: {status}");
            at += step;
            count += 1;
        }
        assert_eq!(tick["count"].as_u64(), Some(count), "{tick}");
    }
    ticks
}

/// Each tick is there once, one step after the other, and either ran or was skipped for a reason.
#[track_caller]
fn without_holes(ticks: &BTreeMap<DateTime<Utc>, Value>, step: TimeDelta) {
    for (at, next) in ticks.keys().zip(ticks.keys().skip(1)) {
        assert_eq!(*next - *at, step, "after {at} comes {next}");
    }
    for (at, tick) in ticks {
        match tick["status"].as_str() {
            Some("ran") => assert!(tick["run_id"].is_string() && tick["run_status"].is_string(), "{at}: {tick}"),
            Some("skipped") => assert!(tick["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{at}: {tick}"),
            _ => panic!("{at} neither ran nor was skipped: {tick}"),
        }
    }
}

fn ran(ticks: &BTreeMap<DateTime<Utc>, Value>) -> usize {
    ticks.values().filter(|tick| tick["status"] == "ran").count()
}

#[test]
fn every_tick_between_start_and_stop_is_told_once_over_a_restart_too() {
    let step = TimeDelta::seconds(1);
    let server = Server::start();
    let room = room(&server, &every_second());
    let began = Utc::now();
    let running = room.start(&["run", FILE]);
    std::thread::sleep(Duration::from_millis(4500));
    stop(running);

    let first = ticks(&room, step);
    without_holes(&first, step);
    assert!(first.len() >= 3 && ran(&first) >= 2, "{first:#?}");
    assert!(*first.first_key_value().unwrap().0 <= began + TimeDelta::seconds(5), "the first tick comes soon: {began} {first:#?}");

    std::thread::sleep(Duration::from_millis(2500));
    let running = room.start(&["run", FILE]);
    std::thread::sleep(Duration::from_millis(2500));
    stop(running);

    let all = ticks(&room, step);
    without_holes(&all, step);
    for (at, tick) in &first {
        let now = &all[at];
        assert_eq!(
            (&now["status"], &now["run_id"], &now["reason"]),
            (&tick["status"], &tick["run_id"], &tick["reason"]),
            "what was told once stays told"
        );
    }
    let last = *first.last_key_value().unwrap().0;
    let missed: Vec<&Value> = all.range(last + step..).map(|(_, tick)| tick).take(1).collect();
    assert_eq!(missed[0]["status"], "skipped", "of the ticks missed while down the latest alone runs: {all:#?}");
    assert!(missed[0]["reason"].as_str().unwrap().contains("down"), "{all:#?}");
    assert!(all.len() >= first.len() + 4, "{all:#?}");
    let ids: Vec<&str> = all.values().filter_map(|tick| tick["run_id"].as_str()).collect();
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len(), "no run stands for two ticks");
    for coin in ["bitcoin", "ethereum", "tether"] {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
    }
}

#[test]
fn all_missed_ticks_run_when_all_are_to_be_caught_up_with_and_none_when_none_are() {
    let step = TimeDelta::seconds(1);
    let server = Server::start();
    for (catch_up, caught_up) in [("all", true), ("none", false)] {
        let room =
            room(&server, &every_second().trigger(&format!("type = \"interval\"\nevery = \"1s\"\ncatch_up = \"{catch_up}\"\noverrun = \"wait\"")));
        let running = room.start(&["run", FILE]);
        wait_for("a first run", Duration::from_secs(20), || room.exists("data/raw"));
        std::thread::sleep(Duration::from_millis(1200));
        stop(running);
        let last = *ticks(&room, step).last_key_value().unwrap().0;
        std::thread::sleep(Duration::from_millis(3200));
        let running = room.start(&["run", FILE]);
        std::thread::sleep(Duration::from_millis(2500));
        stop(running);
        let all = ticks(&room, step);
        without_holes(&all, step);
        let down: Vec<&Value> = all.range(last + step..).map(|(_, tick)| tick).take(2).collect();
        for tick in down {
            assert_eq!(tick["status"] == "ran", caught_up, "catch_up = {catch_up}: {tick}");
        }
    }
}

#[test]
fn a_run_that_overruns_skips_ticks_and_never_overlaps_itself() {
    let step = TimeDelta::seconds(1);
    let server = Server::start();
    server.latency(5, 900);
    let room = room(&server, &every_second().run("concurrency = 1\ndeadline = \"30s\""));
    let running = room.start(&["run", FILE]);
    std::thread::sleep(Duration::from_millis(6000));
    stop(running);
    let all = ticks(&room, step);
    without_holes(&all, step);
    assert!(all.values().any(|tick| tick["status"] == "skipped" && tick["reason"].as_str().unwrap().contains("still going")), "{all:#?}");
    let status = room.pipeline(&["status", FILE, "--format", "json"]).json();
    let instant = |value: &Value| DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap();
    let mut runs: Vec<_> = status["runs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|run| run["ended_at"].is_string())
        .map(|run| (instant(&run["started_at"]), instant(&run["ended_at"])))
        .collect();
    runs.sort();
    assert!(runs.windows(2).all(|two| two[0].1 <= two[1].0), "{runs:?}");
}

#[test]
fn a_stop_in_the_middle_of_a_run_keeps_what_is_whole_and_the_next_start_goes_on() {
    let server = Server::start();
    server.latency(8, 400);
    let coins = ["bitcoin", "ethereum", "tether", "solana", "ripple"];
    let recipe = Recipe::new().coins(&coins).run("concurrency = 1\nepoch_rows = 1");
    let room = room(&server, &recipe);
    let running = room.start(&["run", FILE, "--once", "--format", "json"]);
    wait_for("a first coin", Duration::from_secs(20), || !room.files("data/raw").is_empty());
    running.signal("INT");
    let stopped = running.end_within(Duration::from_secs(10));
    if stopped.code != Some(0) {
        stopped.exits(3);
        assert_eq!(stopped.json()["status"], "interrupted");
    }
    for coin in coins {
        let hours = room.hours(coin);
        assert!(hours.is_empty() || hours.len() == server.expected(coin).len(), "{coin}: {} hours", hours.len());
    }
    server.latency(8, 0);
    room.once(FILE).exits(0);
    for coin in coins {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
    }
}

#[test]
fn a_tick_that_was_stopped_half_way_is_not_at_work_any_more() {
    let step = TimeDelta::seconds(1);
    let server = Server::start();
    let room = room(&server, &every_second().http("timeout = \"60s\""));
    server.fault(support::On::ohlc("ethereum"), support::Reply::Silence);
    for signal in ["TERM", "KILL"] {
        let before = server.asked("ohlc", "ethereum").len();
        let running = room.start(&["run", FILE]);
        wait_for("a request", Duration::from_secs(20), || server.asked("ohlc", "ethereum").len() > before);
        if signal == "TERM" {
            stop(running)
        } else {
            drop(running.kill())
        }
        without_holes(&ticks(&room, step), step);
    }
    server.behave();
    let running = room.start(&["run", FILE]);
    wait_for("its hours", Duration::from_secs(20), || !room.hours("tether").is_empty());
    stop(running);
    without_holes(&ticks(&room, step), step);
}

#[test]
fn a_stop_while_the_server_is_silent_does_not_wait_for_it() {
    let server = Server::start();
    server.fault(support::On::everything(), support::Reply::Silence);
    let recipe = Recipe::new();
    let room = room(&server, &recipe.clone().http("timeout = \"60s\"\nretries = 5"));
    let running = room.start(&["run", FILE, "--once"]);
    wait_for("a request", Duration::from_secs(20), || !server.seen().is_empty());
    running.signal("TERM");
    let ended = running.end_within(Duration::from_secs(9));
    ended.exits(3);
}

#[test]
fn a_second_process_is_told_who_holds_the_pipeline() {
    let server = Server::start();
    let room = room(&server, &every_second().trigger("type = \"interval\"\nevery = \"1h\""));
    let mut running = room.start(&["run", FILE]);
    wait_for("the lock", Duration::from_secs(20), || {
        std::fs::read_to_string(room.path(".pipeline/candles/lock")).is_ok_and(|text| !text.trim().is_empty())
    });
    let holder = format!("process {}", running.id());
    let asked = server.seen().len();
    for args in [vec!["run", FILE, "--once"], vec!["run", FILE], vec!["state", "rebuild", FILE], vec!["rejects", FILE, "--replay"]] {
        room.pipeline(&args).exits(2).complains("candles").complains(&holder);
    }
    let _ = asked;
    room.pipeline(&["status", FILE]).exits(0);
    room.pipeline(&["read", FILE, "--format", "json"]).exits(0);
    assert!(running.is_running());
    stop(running);
    room.once(FILE).exits(0);
}

#[test]
fn of_two_that_start_at_once_one_works_and_the_other_is_told() {
    let server = Server::start();
    server.latency(2, 300);
    let room = room(&server, &Recipe::new());
    let (first, second) = (room.start(&["run", FILE, "--once"]), room.start(&["run", FILE, "--once"]));
    let mut codes = [first.end().code, second.end().code];
    codes.sort();
    // Where the first had ended before the second began, both worked.
    assert!(codes == [Some(0), Some(2)] || codes == [Some(0), Some(0)], "{codes:?}");
    for coin in ["bitcoin", "ethereum", "tether"] {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
    }
}

#[test]
fn a_second_signal_ends_it_at_once_and_does_no_harm() {
    let server = Server::start();
    server.latency(12, 300);
    let room = room(&server, &Recipe::new().run("concurrency = 1\nepoch_rows = 1"));
    for wait in [120, 350, 600] {
        let running = room.start(&["run", FILE, "--once"]);
        std::thread::sleep(Duration::from_millis(wait));
        running.signal("INT");
        running.signal("INT");
        let asked = Instant::now();
        let ended = running.kill_after(Duration::from_secs(5));
        assert!(asked.elapsed() < Duration::from_secs(5), "{ended}");
        assert!(!ended.stderr.contains("panicked"), "{ended}");
    }
    server.latency(12, 0);
    room.once(FILE).exits(0);
    for coin in ["bitcoin", "ethereum", "tether"] {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
    }
}

#[test]
fn a_killed_process_holds_nothing() {
    let server = Server::start();
    let room = room(&server, &every_second());
    let running = room.start(&["run", FILE]);
    wait_for("the lock", Duration::from_secs(20), || room.exists(".pipeline/candles/lock"));
    std::thread::sleep(Duration::from_millis(Dice::new(1).below(300)));
    running.kill();
    room.once(FILE).exits(0);
    assert_same_hours("bitcoin", &room.hours("bitcoin"), &server.expected("bitcoin"));
}

#[test]
fn a_pipeline_that_is_only_run_by_hand_says_so() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    room.pipeline(&["run", FILE]).exits(2).complains("--once");
    assert!(server.seen().is_empty());
}

#[test]
fn a_failing_run_does_not_end_the_schedule() {
    let server = Server::start();
    server.fault(support::On::everything().times(3), support::Reply::status(404, "{\"error\": \"coin not found\"}"));
    let room = room(&server, &every_second().coins(&["bitcoin"]).trigger("type = \"interval\"\nevery = \"1s\""));
    let running = room.start(&["run", FILE, "--format", "json"]);
    wait_for("a good run", Duration::from_secs(30), || !room.files("data/raw").is_empty());
    running.signal("TERM");
    let ended = running.end_within(Duration::from_secs(10));
    ended.exits(0);
    let summaries = ended.json_lines();
    assert_eq!(summaries[0]["status"], "failed", "{ended}");
    assert!(summaries.iter().any(|summary| summary["status"] == "ok"), "{ended}");
}
