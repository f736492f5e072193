//! What is missing is found, told, and asked for: that and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use support::coins::{DAY, HALF_HOUR, HOUR};
use support::oracle::{self, Hour};
use support::{Recipe, Room, Server, assert_same_hours};

const FILE: &str = "candles.toml";
const COINS: [&str; 2] = ["bitcoin", "solana"];
const FREE: &str = "coins = [\"bitcoin\", \"solana\"]\ninterval = \"1h\"";
const PAID: &str = "coins = [\"bitcoin\", \"solana\"]\ninterval = \"1h\"\nplan = \"pro\"\napi_key = \"${KEY}\"";
const SINK: &str = "[sink]\ntype = \"csv\"\npath = \"data/raw/{coin}.csv\"\ncolumns = [\"timestamp\", \"open\", \"high\", \"low\", \"close\"]\n";

fn rfc3339(at: i64) -> String {
    DateTime::from_timestamp_millis(at).unwrap().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Ten days of the past, stored whole; then some hours are lost, and the state is made anew from what is left.
struct Lost {
    server: Server,
    room: Room,
    /// The first hour.
    from: i64,
}

/// Which hours are lost: the first, and the first that is there again.
const HOLES: [(&str, i64, i64); 3] = [("bitcoin", 20, 23), ("bitcoin", 100, 101), ("solana", 50, 52)];

/// The series has another name than the source gives it.
fn recipe(source: &str) -> Recipe {
    let renamed = "[[transforms]]\ntype = \"rename\"\ncolumns = { coin_id = \"coin\" }\n";
    Recipe::new().source(source).transforms(renamed).dedupe("[dedupe]\nkeys = [\"coin\", \"timestamp\"]\n").sink(SINK)
}

impl Lost {
    fn new() -> Self {
        Self::of(recipe(PAID), "")
    }

    /// `tail` is what the name of a file of candles ends with.
    fn of(recipe: Recipe, tail: &str) -> Self {
        let server = Server::start();
        let room = Room::new(&server).env("KEY", "CG-paid");
        room.write(FILE, &recipe.toml());
        let now = server.now();
        let to = now - now.rem_euclid(DAY) - 3 * DAY;
        let lost = Self { server, room, from: to - 10 * DAY };
        lost.room.pipeline(&["run", FILE, "--from", &rfc3339(lost.from), "--to", &rfc3339(to)]).exits(0);
        for coin in COINS {
            let name = format!("data/raw/{coin}{tail}.csv");
            let gone: Vec<String> = HOLES.iter().filter(|hole| hole.0 == coin).flat_map(|(_, a, b)| *a..*b).map(|hour| lost.at(hour)).collect();
            let text = lost.room.read(&name);
            let left: String =
                text.lines().filter(|line| !gone.iter().any(|at| line.starts_with(at.as_str()))).map(|line| format!("{line}\n")).collect();
            assert_eq!(left.lines().count() + gone.len(), text.lines().count());
            lost.room.write(&name, &left);
        }
        lost.room.pipeline(&["state", "rebuild", FILE]).exits(0);
        lost
    }

    fn at(&self, hour: i64) -> String {
        rfc3339(self.from + hour * HOUR)
    }

    /// What the look-alike says of so many hours.
    fn expected(&self, coin: &str, hours: i64) -> Vec<Hour> {
        let halves: Vec<Value> = (1..=hours * 2).map(|half| support::coins::candle(coin, HALF_HOUR, self.from + half * HALF_HOUR)).collect();
        oracle::hours(&halves, None, self.server.now())
    }

    /// The stored hours by time; what was filled stands at the end of the file.
    fn stored(&self, coin: &str) -> Vec<Hour> {
        let text = self.room.read(&format!("data/raw/{coin}.csv"));
        let number = |record: &csv::StringRecord, place: usize| record[place].parse::<f64>().unwrap();
        let mut hours: Vec<Hour> = csv::Reader::from_reader(text.as_bytes())
            .records()
            .map(Result::unwrap)
            .map(|record| Hour {
                open_time: DateTime::parse_from_rfc3339(&record[0]).unwrap().timestamp_millis(),
                open: number(&record, 1),
                high: number(&record, 2),
                low: number(&record, 3),
                close: number(&record, 4),
                volume: None,
            })
            .collect();
        hours.sort_by_key(|hour| hour.open_time);
        hours
    }

    fn status(&self) -> Value {
        self.room.pipeline(&["status", FILE, "--format", "json"]).json()
    }

    fn missing(&self) -> Value {
        let mut missing = self.status()["missing"].clone();
        missing.as_array_mut().unwrap().sort_by_key(|gap| gap["from"].as_str().unwrap().to_owned());
        missing
    }
}

#[test]
fn hours_that_were_lost_come_back_as_they_were() {
    let lost = Lost::new();
    let gap = |coin: &str, from: i64, to: i64| json!({"series": {"coin": coin}, "from": lost.at(from), "to": lost.at(to), "missing": to - from, "not_fillable": null});
    assert_eq!(lost.missing(), json!([gap("bitcoin", 20, 23), gap("solana", 50, 52), gap("bitcoin", 100, 101)]));

    let before = lost.server.seen().len();
    let run = lost.room.pipeline(&["run", FILE, "--fill-gaps", "--format", "json"]);
    let summary = run.exits(0).json();
    assert_eq!(
        (&summary["status"], &summary["cause"], &summary["rows"]["written"], &summary["refused"]),
        (&json!("ok"), &json!("fill"), &json!(6), &json!([]))
    );
    let seconds = |text: &str| text.parse::<i64>().unwrap() * 1000;
    let mut asked: Vec<(String, String, i64, i64)> = lost.server.seen()[before..]
        .iter()
        .map(|seen| {
            let from = (seconds(&seen.query["from"]) - lost.from) / HOUR;
            (seen.endpoint.clone(), seen.coin.clone().unwrap(), from, (seconds(&seen.query["to"]) - lost.from) / HOUR)
        })
        .collect();
    asked.sort();
    // One request spans both holes of a coin.
    let spans: Vec<(&str, &str)> = asked.iter().map(|(endpoint, coin, ..)| (endpoint.as_str(), coin.as_str())).collect();
    assert_eq!(spans, [("range", "bitcoin"), ("range", "solana")], "nothing else is asked for");
    for ((.., from, to), (first, last)) in asked.iter().zip([(20, 101), (50, 52)]) {
        assert!((first - 1..=first + 1).contains(from) && (last - 1..=last + 1).contains(to), "{asked:?}");
    }
    for coin in COINS {
        assert_same_hours(coin, &lost.stored(coin), &lost.expected(coin, 240));
    }
    assert_eq!(lost.missing(), json!([]));

    let before = lost.server.seen().len();
    lost.room.pipeline(&["run", FILE, "--fill-gaps"]).exits(0).says("candles: nothing is missing");
    let summary = lost.room.pipeline(&["run", FILE, "--fill-gaps", "--format", "json"]).exits(0).json();
    assert_eq!((&summary["status"], &summary["refused"]), (&json!("ok"), &json!([])));
    assert_eq!(lost.server.seen().len(), before, "nothing was asked for");
}

#[test]
fn what_no_plan_keeps_is_refused_with_the_reason_and_status_knows_it() {
    let lost = Lost::new();
    lost.room.write(FILE, &recipe(FREE).toml());
    let before = lost.server.seen().len();
    let run = lost.room.pipeline(&["run", FILE, "--fill-gaps"]);
    run.exits(3).says("the source can fill none of 3 gaps").says(&format!(
        "not filled: coin = \"solana\", {} to {}, 2 rows: ",
        lost.at(50),
        lost.at(52)
    ));
    run.says("not fillable at this quality: CoinGecko keeps hourly candles for a day without a paid key");
    let summary = lost.room.pipeline(&["run", FILE, "--fill-gaps", "--format", "json"]).exits(3).json();
    let mut refused = summary["refused"].as_array().unwrap().clone();
    refused.sort_by_key(|refusal| refusal["from"].as_str().unwrap().to_owned());
    let first = (&refused[0]["series"], &refused[0]["from"], &refused[0]["to"], &refused[0]["missing"]);
    assert_eq!(first, (&json!({"coin": "bitcoin"}), &json!(lost.at(20)), &json!(lost.at(23)), &json!(3)));
    assert_eq!(lost.server.seen().len(), before, "nothing was asked for");
    let missing = lost.missing();
    for gap in missing.as_array().unwrap() {
        assert!(gap["not_fillable"].as_str().unwrap().contains("not fillable at this quality"), "{gap}");
    }
    // With the paid key they come, and nobody says that they cannot.
    lost.room.write(FILE, &recipe(PAID).toml());
    lost.room.pipeline(&["run", FILE, "--fill-gaps"]).exits(0);
    assert_eq!(lost.missing(), json!([]));
}

#[test]
fn samples_go_into_a_file_beside_the_candles_and_say_what_they_are() {
    let sink = "[sink]\ntype = \"csv\"\npath = \"data/raw/{coin}_{source}.csv\"\ncolumns = [\"timestamp\", \"open\", \"high\", \"low\", \"close\", \"source\"]\n";
    let with = |source: &str| recipe(&format!("{source}\nfill_from = \"samples\"")).sink(sink);
    let lost = Lost::of(with(PAID), "_candles");
    let candles = COINS.map(|coin| lost.room.read(&format!("data/raw/{coin}_candles.csv")));
    // Without a key that has a plan, and with nothing to tell samples by, it is not begun.
    lost.room.write(FILE, &recipe(&format!("{FREE}\nfill_from = \"samples\"")).toml());
    lost.room.pipeline(&["run", FILE, "--fill-gaps"]).exits(2).complains("E047");

    lost.room.write(FILE, &with(FREE).toml());
    lost.room.pipeline(&["run", FILE, "--fill-gaps"]).exits(0);
    assert_eq!(COINS.map(|coin| lost.room.read(&format!("data/raw/{coin}_candles.csv"))), candles, "candles are candles");
    for coin in COINS {
        let text = lost.room.read(&format!("data/raw/{coin}_samples.csv"));
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("timestamp,open,high,low,close,source"));
        let hours: Vec<i64> = HOLES.iter().filter(|hole| hole.0 == coin).flat_map(|(_, a, b)| *a..*b).collect();
        let rows: Vec<&str> = lines.collect();
        assert_eq!(rows.len(), hours.len(), "{text}");
        for (row, hour) in rows.iter().zip(hours) {
            let [at, "", "", "", close, "samples"] = row.split(',').collect::<Vec<_>>()[..] else { panic!("{row}") };
            assert_eq!(at, lost.at(hour));
            assert!(close.parse::<f64>().unwrap() > 0.0);
        }
    }
    assert_eq!(lost.missing(), json!([]));
    lost.room.pipeline(&["run", FILE, "--fill-gaps"]).exits(0).says("nothing is missing");
}

#[test]
fn a_series_that_a_transform_makes_cannot_be_asked_for() {
    let lost = Lost::new();
    let made = "[[transforms]]\ntype = \"rename\"\ncolumns = { coin_id = \"coin\" }\n\n\
                [[transforms]]\ntype = \"derive\"\ncolumn = \"coin\"\nexpr = \"lower(coin)\"\nreplace = true\n";
    lost.room.write(FILE, &recipe(PAID).transforms(made).toml());
    let before = lost.server.seen().len();
    let run = lost.room.pipeline(&["run", FILE, "--fill-gaps"]);
    run.exits(3).says("transform 2 of the pipeline makes the column `coin`, so that the source cannot be asked for certain of its values");
    assert_eq!((lost.server.seen().len(), lost.missing().as_array().unwrap().len()), (before, 3));
}

#[test]
fn a_schedule_fills_by_itself_where_the_file_says_so() {
    let lost = Lost::new();
    let hourly = recipe(PAID).trigger("type = \"interval\"\nevery = \"1h\"").run("concurrency = 4\nfill_gaps = true");
    lost.room.write(FILE, &hourly.toml());
    let running = lost.room.start(&["run", FILE]);
    let deadline = Instant::now() + Duration::from_secs(60);
    // The run of the latest tick brings the last day; between it and the ten days is one more hole.
    while lost.stored("solana").len() < 12 * 24 || lost.missing() != json!([]) {
        assert!(Instant::now() < deadline, "not filled: {}", lost.status());
        std::thread::sleep(Duration::from_millis(100));
    }
    running.signal("TERM");
    running.end().exits(0);
    for coin in COINS {
        let stored = lost.stored(coin);
        assert_same_hours(coin, &stored, &lost.expected(coin, stored.len() as i64));
    }
    let causes: Vec<Value> = lost.status()["runs"].as_array().unwrap().iter().map(|run| run["cause"].clone()).collect();
    assert_eq!(causes[..2], [json!("fill"), json!("schedule")], "newest first");
}

#[test]
fn a_source_that_cannot_fill_is_told_before_anything_runs() {
    let server = Server::start();
    let room = Room::new(&server);
    room.shipped("markets.toml");
    let run = room.pipeline(&["run", "pipelines/markets.toml", "--fill-gaps"]);
    run.exits(2).complains("its source \"coingecko_markets\" cannot ask for what is missing (--fill-gaps)");
    room.write(FILE, &recipe(FREE).dedupe("").toml());
    let run = room.pipeline(&["run", FILE, "--fill-gaps"]);
    run.exits(2).complains("what is missing cannot be told from what is stored (--fill-gaps)").complains("the `keys` of [dedupe]");
    for other in [&["--once"][..], &["--dry-run"], &["--from", "2026-05-19"], &["--to", "2026-05-19"], &["--replay", "x"], &["--record", "x"]] {
        let run = room.pipeline(&[&["run", FILE, "--fill-gaps"], other].concat());
        run.exits(2).complains("cannot be used with");
    }
    assert!(server.seen().is_empty());
}
