//! Rows that are scattered over many series: their keys are in a log until the run is over, and whoever kills it then leaves the log behind.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::support::{Dice, Room, nobody_listens};
use crate::{Sent, dice, no_leftovers, rounds};

const FILE: &str = "scattered.toml";
const STATE: &str = ".pipeline/scattered";
const OUT: &str = "data/out.csv";
const RUN: [&str; 3] = ["run", FILE, "--once"];
const SERIES: u64 = 20_000;
/// Three full epochs and a small one.
const LINES: u64 = 50_000;

const PIPELINE: &str = "name = \"scattered\"\n[trigger]\ntype = \"manual\"\n[source]\ntype = \"file\"\npath = \"in.csv\"\n[source.columns]\n\
    id = { type = \"text\", required = true }\nat = { type = \"timestamp\", format = \"unix\", required = true }\nprice = \"float\"\n\
    [validate]\non_reject = \"quarantine\"\nquarantine_path = \"data/rejects/scattered.jsonl\"\n[[validate.rules]]\nname = \"positive\"\nexpr = \"price >= 0\"\n\
    [dedupe]\nkeys = [\"id\", \"at\"]\n[run]\nepoch_rows = 10_000\n[sink]\ntype = \"csv\"\npath = \"data/out.csv\"\ntime_format = \"unix\"\n";

/// A file, and what must become of it.
struct Work {
    text: String,
    stored: String,
    duplicates: u64,
    conflicts: u64,
    rejected: u64,
}

impl Work {
    fn draw(dice: &mut Dice) -> Self {
        let header = "id,at,price\n";
        let (mut text, mut stored) = (header.to_owned(), header.to_owned());
        let (mut duplicates, mut conflicts, mut rejected) = (0, 0, 0);
        let mut drawn: Vec<(u64, u64)> = Vec::new();
        let mut known: HashMap<(u64, u64), u64> = HashMap::new();
        for _ in 0..LINES {
            let again = (!drawn.is_empty() && dice.below(10) == 0).then(|| drawn[dice.below(drawn.len() as u64) as usize]);
            let (id, minute) = again.unwrap_or_else(|| (dice.below(SERIES), dice.below(2_000)));
            let at = 1_767_225_600 + minute * 60;
            let price = match (again, dice.below(30)) {
                (_, 0) => format!("-{}.5", dice.below(1_000)),
                (_, 1) => "much".to_owned(),
                (Some(row), 2..20) if known.contains_key(&row) => format!("{}.5", known[&row]),
                _ => format!("{}.5", dice.below(1_000)),
            };
            writeln!(text, "s{id},{at},{price}").unwrap();
            let Some(price) = price.strip_suffix(".5").and_then(|price| price.parse().ok()) else {
                rejected += 1;
                continue;
            };
            match known.get(&(id, minute)) {
                None => {
                    known.insert((id, minute), price);
                    drawn.push((id, minute));
                    writeln!(stored, "s{id},{at},{price}.5").unwrap();
                }
                Some(first) if *first == price => duplicates += 1,
                Some(_) => conflicts += 1,
            }
        }
        Self { text, stored, duplicates, conflicts, rejected }
    }

    fn room(&self) -> Room {
        let room = Room::at(&nobody_listens());
        room.write(FILE, PIPELINE).write("in.csv", &self.text);
        room
    }
}

/// What a process that was killed left in the state.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Left {
    /// Parts of the log of keys.
    parts: i64,
    chunks: i64,
    /// Splits all of whose rows are stored.
    done: i64,
}

fn read(state: &Connection) -> Left {
    // One that was killed early has not made the tables yet.
    let count = |what: &str| state.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).unwrap_or(0);
    Left { parts: count("key_log"), chunks: count("chunk"), done: count("split WHERE status = 'ok'") }
}

/// Reads a copy of the state, so that the next process finds what the last one left.
fn left(room: &Room) -> Left {
    let aside = tempfile::tempdir().unwrap();
    for name in ["state.db", "state.db-wal"] {
        let from = room.path(&format!("{STATE}/{name}"));
        if from.exists() {
            std::fs::copy(from, aside.path().join(name)).unwrap();
        }
    }
    read(&Connection::open(aside.path().join("state.db")).unwrap())
}

/// Are all rows stored, and the log still there? As somebody sees it who looks at the state of a process at work.
fn is_to_be_folded(room: &Room) -> bool {
    let state = Connection::open_with_flags(room.path(&format!("{STATE}/state.db")), OpenFlags::SQLITE_OPEN_READ_ONLY);
    state.is_ok_and(|state| {
        let Left { parts, done, .. } = read(&state);
        parts > 0 && done > 0
    })
}

/// The rejects that were kept, but for the run that kept them.
fn rejects(room: &Room) -> Vec<Value> {
    let mut rejects = room.rejects("scattered");
    rejects.iter_mut().for_each(|reject| drop(reject.as_object_mut().unwrap().remove("run")));
    rejects
}

/// Kills a run whose rows are all stored, while what it logged is put in its place: when that shows in the state's files, or after this time.
fn kill_at_the_end(room: &Room, limit: Duration) {
    let mut running = room.start(&RUN);
    while running.is_running() && !is_to_be_folded(room) {
        sleep(Duration::from_millis(1));
    }
    let wal = room.path(&format!("{STATE}/state.db-wal"));
    let size = || wal.metadata().map_or(0, |file| file.len());
    let (before, begun) = (size(), Instant::now());
    while running.is_running() && size() <= before && begun.elapsed() < limit {
        sleep(Duration::from_micros(200));
    }
    let outcome = running.kill();
    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
}

#[test]
fn killed_while_the_keys_of_scattered_rows_are_in_the_log() {
    let mut dice = dice(8);
    let work = Work::draw(&mut dice);
    let quiet = work.room();
    let run = quiet.once(FILE);
    let counts = ["written", "duplicates", "conflicts", "rejected"].map(|name| run.exits(0).rows(name));
    let written = work.stored.lines().count() as u64 - 1;
    assert_eq!(counts, [written, work.duplicates, work.conflicts, work.rejected]);
    assert!(quiet.read(OUT) == work.stored);
    let kept = rejects(&quiet);
    assert_eq!(kept.len() as u64, work.rejected);
    let folded = left(&quiet);
    assert_eq!((folded.parts, folded.chunks > SERIES as i64 / 2), (0, true), "{folded:?}");

    let mut sent = Sent::new(run.took.mul_f64(0.7));
    let (mut with_log, mut at_the_end) = (0, 0);
    for round in 0..rounds().div_ceil(8) {
        let room = work.room();
        let mut count = |room: &Room| {
            let left = left(room);
            with_log += i32::from(left.parts > 0);
            at_the_end += i32::from(left.parts > 0 && left.done > 0);
        };
        // The first one is sure to come to its end.
        for _ in 0..round.min(1 + dice.below(2)) {
            sent.end(&room, &mut dice, &RUN);
            count(&room);
        }
        for turn in 0..1 + dice.below(2) {
            kill_at_the_end(&room, Duration::from_millis([0, dice.below(100), 1_000][(round + turn) as usize % 3]));
            count(&room);
        }
        room.once(FILE).exits(0);
        assert!(room.read(OUT) == work.stored, "the rows of a run that was never killed");
        assert!(rejects(&room) == kept, "its rejects");
        assert_eq!(left(&room).parts, 0);
        let again = room.once(FILE);
        assert_eq!((again.exits(0).rows("written"), again.rows("duplicates")), (0, written + work.duplicates), "{again}");
        assert_eq!((again.rows("conflicts"), again.rows("rejected")), (work.conflicts, work.rejected), "{again}");
        assert!(room.read(OUT) == work.stored && rejects(&room) == kept);
        assert_eq!((left(&room).parts, left(&room).chunks), (0, folded.chunks));
        no_leftovers(&room);
    }
    sent.tell("while the keys of scattered rows are in the log");
    println!("{with_log} left a log behind, {at_the_end} of them when every row was stored");
    assert!(with_log > 0 && at_the_end > 0, "{with_log} {at_the_end}");
}
