//! Same input, same bytes: at any concurrency, whatever answers first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{On, Recipe, Reply, Room, Server, assert_same_hours};

const FILE: &str = "candles.toml";
const COINS: [&str; 9] = ["bitcoin", "ethereum", "tether", "binancecoin", "solana", "ripple", "usd-coin", "dogecoin", "shiba-inu"];

/// Rejects without the run that brought them, whose id is the time.
fn rejects(room: &Room) -> Vec<Value> {
    let mut rejects = room.rejects("candles");
    for reject in &mut rejects {
        reject.as_object_mut().unwrap().remove("run");
    }
    rejects
}

fn stored(server: &Server, recipe: &Recipe, latency_seed: u64) -> (BTreeMap<String, Vec<u8>>, Vec<Value>, Value) {
    let room = Room::new(server);
    room.write(FILE, &recipe.toml());
    server.hold_back(3).latency(latency_seed, 25);
    room.once(FILE).exits(0);
    server.hold_back(0);
    let run = room.once(FILE);
    run.exits(0);
    let splits: Vec<Value> = run.json()["splits"].as_array().unwrap().iter().map(|split| json!([split["split"], split["rows"]])).collect();
    (room.files("data/all"), rejects(&room), Value::Array(splits))
}

#[test]
fn the_same_input_makes_the_same_bytes_at_any_concurrency() {
    let server = Server::start();
    // Some rows of every coin are bad, so that rejects have an order, too.
    server.fault(On::all_ohlc(), Reply::rows(|rows| rows.iter_mut().step_by(7).for_each(|row| row[3] = json!(1e12))));
    // All coins share one file: the order of the coins is the order of the rows.
    let recipe = Recipe::new().coins(&COINS).sink("[sink]\ntype = \"csv\"\npath = \"data/all/{timestamp:%Y-%m-%d}.csv\"\n");
    let first = stored(&server, &recipe.clone().run("concurrency = 1"), 1);
    assert!(!first.0.is_empty() && !first.1.is_empty());
    for (seed, run) in [(2, "concurrency = 8"), (3, "concurrency = 8\nepoch_rows = 10"), (4, "concurrency = 3\nepoch_rows = 1"), (5, "concurrency = 64")] {
        let other = stored(&server, &recipe.clone().run(run), seed);
        assert!(first.0 == other.0, "{run}: other bytes in {:?}", other.0.keys());
        assert_eq!(first.1, other.1, "{run}: other rejects");
        assert_eq!(first.2, other.2, "{run}: other counts");
    }
}

#[test]
fn a_coin_that_is_late_holds_nobody_up_for_ever_and_changes_no_byte() {
    let server = Server::start();
    let recipe = Recipe::new().coins(&COINS).sink("[sink]\ntype = \"csv\"\npath = \"data/all/hours.csv\"\n").run("concurrency = 4");
    let files = |late: &str| {
        let room = Room::new(&server);
        room.write(FILE, &recipe.toml());
        server.behave().fault(On::ohlc(late), Reply::Late(std::time::Duration::from_millis(600)));
        room.once(FILE).exits(0);
        room.files("data/all")
    };
    let first = files("bitcoin");
    assert!(first == files("shiba-inu"));
    assert!(first == files("solana"));
}

#[test]
fn hours_of_every_coin_are_those_of_the_oracle_at_high_concurrency() {
    let server = Server::start();
    server.latency(9, 40);
    let room = Room::new(&server);
    room.write(FILE, &Recipe::new().coins(&COINS).run("concurrency = 16").toml());
    room.once(FILE).exits(0);
    for coin in COINS {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
    }
}
