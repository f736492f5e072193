//! `kill -9` at random moments, over and over, and SIGTERM at others; then one quiet run: the files hold exactly what the server showed.
//!
//! `PIPELINE_KILL_ROUNDS` says how often (20), `PIPELINE_KILL_SEED` which moments (1). With `--nocapture` it says how many met a process at work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may stop where it stands")]

#[path = "kill/scattered.rs"]
mod scattered;
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::coins::HALF_HOUR;
use support::oracle;
use support::{Dice, Hour, On, Recipe, Reply, Room, Server, assert_same_hours};

const FILE: &str = "candles.toml";
const COINS: [&str; 6] = ["bitcoin", "ethereum", "tether", "solana", "shiba-inu", "ripple"];

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn rounds() -> u64 {
    from_env("PIPELINE_KILL_ROUNDS", 20)
}

fn dice(of_test: u64) -> Dice {
    Dice::new(from_env("PIPELINE_KILL_SEED", 1) * 1_000 + of_test)
}

/// Each coin is an epoch of its own, so that there are many moments to be killed at.
fn recipe() -> Recipe {
    Recipe::new().coins(&COINS).run("concurrency = 3\nepoch_rows = 1")
}

fn room(server: &Server, recipe: &Recipe) -> Room {
    let room = Room::new(server);
    room.write(FILE, &recipe.toml());
    room
}

/// How often each signal was sent, and how often the process was still at work.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// How long such a process takes, as far as is known.
    takes: Duration,
    killed: u64,
    killed_at_work: u64,
    told: u64,
    told_at_work: u64,
}

impl Sent {
    fn new(takes: Duration) -> Self {
        Self { takes, killed: 0, killed_at_work: 0, told: 0, told_at_work: 0 }
    }

    fn tell(self, test: &str) {
        let Self { killed, killed_at_work, told, told_at_work, .. } = self;
        println!("{test}: {killed} SIGKILL ({killed_at_work} at work), {told} SIGTERM ({told_at_work} at work)");
        assert!((killed_at_work + told_at_work) * 5 >= killed + told, "too few were still at work: {self:?}");
    }

    /// Starts this command and ends it at some moment of the time that it takes: once in four times it is told to stop, else it is killed.
    fn end(&mut self, room: &Room, dice: &mut Dice, args: &[&str]) {
        let mut running = room.start(args);
        std::thread::sleep(self.takes.mul_f64(1.1 * dice.unit()));
        let at_work = u64::from(running.is_running());
        // Other tests make the machine slower and faster meanwhile.
        self.takes = self.takes.mul_f64(if at_work == 1 { 1.05 } else { 0.8 });
        if dice.below(4) > 0 {
            self.killed += 1;
            self.killed_at_work += at_work;
            let outcome = running.kill();
            assert!(!outcome.stderr.contains("panicked"), "{outcome}");
            return;
        }
        self.told += 1;
        self.told_at_work += at_work;
        if at_work == 1 {
            running.signal("TERM");
        }
        let outcome = running.kill_after(Duration::from_secs(20));
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        // Without a code it ended by the signal, before it listened to any; or it did not stop.
        let early = outcome.code.is_none() && outcome.took < Duration::from_secs(5);
        assert!(early || matches!(outcome.code, Some(0 | 3)), "{outcome}");
    }

    fn run(&mut self, room: &Room, dice: &mut Dice) {
        self.end(room, dice, &["run", FILE, "--once"]);
    }
}

/// How long an undisturbed run takes, measured in a room of its own.
fn takes(server: &Server, recipe: &Recipe) -> Duration {
    let room = room(server, recipe);
    (0..2).map(|_| room.once(FILE)).map(|run| run.exits(0).took).max().unwrap()
}

/// Nothing is left of what was half done but what is kept on purpose.
#[track_caller]
fn no_leftovers(room: &Room) {
    let odd: Vec<String> = room.files("data").into_keys().filter(|name| !name.ends_with(".csv") && !name.ends_with(".jsonl")).collect();
    assert_eq!(odd, Vec::<String>::new(), "temporary files stay behind");
}

#[test]
fn killed_over_and_over_while_the_day_goes_on() {
    let server = Server::start();
    server.latency(3, 12);
    let takes = takes(&server, &recipe());
    let rounds = rounds();
    let mut dice = dice(1);
    // A day is all that the server shows, so that no more than 20 hours may pass between quiet runs.
    server.hold_back(20);
    let room = room(&server, &recipe());
    room.once(FILE).exits(0);
    let mut shown: Vec<Vec<Hour>> = COINS.iter().map(|coin| server.expected(coin)).collect();
    let mut sent = Sent::new(takes);
    for round in 0..rounds {
        server.hold_back(20 - ((round + 1) * 20 / rounds).min(20) as i64);
        for (coin, shown) in COINS.iter().zip(&mut shown) {
            *shown = oracle::union(shown, &server.expected(coin));
        }
        sent.run(&room, &mut dice);
    }
    sent.tell("while the day goes on");

    room.once(FILE).exits(0);
    for (coin, shown) in COINS.iter().zip(&shown) {
        assert_same_hours(coin, &room.hours(coin), shown);
    }
    no_leftovers(&room);
    let before = room.files("data");
    let run = room.once(FILE);
    assert_eq!(run.exits(0).rows("written"), 0, "{run}");
    assert!(room.files("data") == before);
}

#[test]
fn killed_in_the_very_first_run() {
    let server = Server::start();
    server.latency(4, 12);
    let takes = takes(&server, &recipe());
    let mut dice = dice(2);
    let mut sent = Sent::new(takes);
    for _ in 0..rounds().div_ceil(3) {
        let room = room(&server, &recipe());
        for _ in 0..1 + dice.below(3) {
            sent.run(&room, &mut dice);
        }
        room.once(FILE).exits(0);
        for coin in COINS {
            assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
        }
        no_leftovers(&room);
    }
    sent.tell("in the very first run");
}

#[test]
fn killed_while_rows_are_replaced_and_rejected() {
    let server = Server::start();
    server.latency(5, 12);
    let recipe = recipe();
    let recipe = recipe.clone().dedupe(&recipe.dedupe.replace("keep_first", "keep_last"));
    let takes = takes(&server, &recipe);
    let room = room(&server, &recipe);
    room.once(FILE).exits(0);
    let right: Vec<Vec<Hour>> = COINS.iter().map(|coin| server.expected(coin)).collect();
    let spoiled = right[0][1].open_time + HALF_HOUR;
    let mut dice = dice(3);
    let rounds = rounds().div_ceil(2);
    let mut sent = Sent::new(takes);
    for round in 1..=rounds {
        // Every candle is revised, round by round; one row is bad.
        server.behave().fault(
            On::all_ohlc(),
            Reply::rows(move |rows: &mut Vec<Value>| {
                for row in rows {
                    for place in 1..5 {
                        row[place] = json!(row[place].as_f64().unwrap() + round as f64);
                    }
                    if row[0] == spoiled {
                        row[2] = json!(0.25);
                    }
                }
            }),
        );
        sent.run(&room, &mut dice);
    }
    sent.tell("while rows are replaced and rejected");
    let run = room.once(FILE);
    run.exits(0);
    for (coin, right) in COINS.iter().zip(&right) {
        let by = rounds as f64;
        let revised: Vec<Hour> =
            right.iter().map(|h| Hour { open: h.open + by, high: h.high + by, low: h.low + by, close: h.close + by, ..*h }).collect();
        // The hour with the bad half stays as it was when it was last whole.
        let stored = room.hours(coin);
        let bad = right[1].open_time;
        let without = |hours: &[Hour]| hours.iter().filter(|hour| hour.open_time != bad).copied().collect::<Vec<_>>();
        assert_same_hours(coin, &without(&stored), &without(&revised));
        assert_same_hours(coin, &stored[1..2], &right[1..2]);
    }
    let rejects = room.rejects("candles");
    let mut lines: Vec<String> = rejects.iter().map(|reject| format!("{} {}", reject["split"], reject["row"])).collect();
    let count = lines.len();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), count, "a reject is kept once: {rejects:#?}");
    assert!(count >= COINS.len());
    no_leftovers(&room);
}

#[test]
fn killed_while_two_sinks_are_written() {
    let server = Server::start();
    server.latency(7, 12);
    let columns = "columns = [\"timestamp\", \"open\", \"high\", \"low\", \"close\", { column = \"volume_24h\", as = \"volume\" }]";
    // One has a file for each coin, the other one for all, to which each epoch is appended.
    let sinks = format!(
        "[[sink]]\ntype = \"csv\"\npath = \"data/raw/{{coin_id}}_{{timestamp:%Y}}.csv\"\n{columns}\n\n[[sink]]\ntype = \"csv\"\npath = \"data/all.csv\"\n"
    );
    let recipe = recipe().sink(&sinks);
    let takes = takes(&server, &recipe);
    let mut dice = dice(5);
    let room = room(&server, &recipe);
    server.hold_back(20);
    room.once(FILE).exits(0);
    let mut shown: Vec<Vec<Hour>> = COINS.iter().map(|coin| server.expected(coin)).collect();
    let rounds = rounds().div_ceil(2);
    let mut sent = Sent::new(takes);
    for round in 0..=rounds {
        server.hold_back(20 - (round * 20 / rounds) as i64);
        for (coin, shown) in COINS.iter().zip(&mut shown) {
            *shown = oracle::union(shown, &server.expected(coin));
        }
        if round < rounds {
            sent.run(&room, &mut dice);
        }
    }
    sent.tell("while two sinks are written");
    room.once(FILE).exits(0);
    let all = room.read("data/all.csv");
    let mut reader = csv::Reader::from_reader(all.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    for (coin, shown) in COINS.iter().zip(&shown) {
        assert_same_hours(coin, &room.hours(coin), shown);
        let times: Vec<i64> =
            rows.iter().filter(|row| &row[0] == *coin).map(|row| chrono::DateTime::parse_from_rfc3339(&row[1]).unwrap().timestamp_millis()).collect();
        assert_eq!(times, shown.iter().map(|hour| hour.open_time).collect::<Vec<_>>(), "{coin} in the file of all");
    }
    assert_eq!(rows.len(), shown.iter().map(Vec::len).sum::<usize>());
    no_leftovers(&room);
}

#[test]
fn killed_while_it_runs_by_its_trigger() {
    let server = Server::start();
    server.latency(6, 12);
    let room = room(&server, &recipe().trigger("type = \"interval\"\nevery = \"300ms\"").run("concurrency = 3\nepoch_rows = 1\ndeadline = \"30s\""));
    let mut dice = dice(4);
    let mut sent = Sent::new(Duration::from_millis(900));
    for _ in 0..rounds().div_ceil(4) {
        sent.end(&room, &mut dice, &["run", FILE]);
    }
    sent.tell("while it runs by its trigger");
    room.once(FILE).exits(0);
    for coin in COINS {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
    }
    let status = room.pipeline(&["status", FILE, "--format", "json"]).json();
    let mut ticks: Vec<String> = status["ticks"].as_array().unwrap().iter().map(|tick| tick["tick"].to_string()).collect();
    let count = ticks.len();
    ticks.sort();
    ticks.dedup();
    assert_eq!(ticks.len(), count, "each tick is told once: {status}");
    assert!(status["ticks"].as_array().unwrap().iter().all(|tick| tick["status"] != "running"), "nothing is at work any more: {status}");
}

#[test]
fn killed_while_rejects_are_replayed_and_the_state_is_rebuilt() {
    let server = Server::start();
    let mended = recipe();
    let strict = mended.clone().validate(&format!("{}\n[[validate.rules]]\nname = \"none\"\nexpr = \"coin_id = 'dogecoin'\"\n", mended.validate));
    let mut dice = dice(6);
    let mut sent = Sent::new(Duration::ZERO);
    for _ in 0..rounds().div_ceil(10) {
        let room = room(&server, &strict);
        room.once(FILE).exits(0);
        room.write(FILE, &mended.toml());
        for (command, times) in [(["rejects", FILE, "--replay"].as_slice(), 3), (&["state", "rebuild", FILE], 3)] {
            sent.takes = {
                let other = self::room(&server, &strict);
                other.once(FILE).exits(0);
                other.write(FILE, &mended.toml());
                other.pipeline(command).exits(0).took
            };
            for _ in 0..times {
                sent.end(&room, &mut dice, command);
            }
            room.pipeline(command).exits(0);
            for coin in COINS {
                assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
            }
        }
        let before = room.files("data");
        let run = room.once(FILE);
        assert_eq!((run.exits(0).rows("written"), run.rows("conflicts")), (0, 0), "{run}");
        assert!(room.files("data") == before);
        no_leftovers(&room);
    }
    sent.tell("while rejects are replayed and the state is rebuilt");
}
