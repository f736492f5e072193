//! Disks that refuse: one clear line that names the file, nothing torn, and a later run that heals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]
#![cfg(unix)]

mod support;

use std::fs;
use std::time::Duration;

use support::{Outcome, Recipe, Room, Server, assert_same_hours};

const FILE: &str = "candles.toml";
const COINS: [&str; 3] = ["bitcoin", "ethereum", "tether"];

fn room(server: &Server, recipe: &Recipe) -> Room {
    let room = Room::new(server);
    room.write(FILE, &recipe.toml());
    room
}

#[track_caller]
fn heals(room: &Room, server: &Server) {
    room.once(FILE).exits(0);
    for coin in COINS {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
    }
    let again = room.once(FILE);
    assert_eq!(again.exits(0).rows("written"), 0, "{again}");
}

/// The run failed for want of storage, and says so in one line that names the place.
#[track_caller]
fn blames(run: &Outcome, place: &str) {
    assert!(run.took < Duration::from_secs(30), "{run}");
    let summary = run.json();
    let error =
        summary["splits"].as_array().unwrap().iter().map(|split| &split["error"]).find(|error| error.is_object()).unwrap_or(&summary["error"]);
    assert_eq!(error["category"], "storage", "{run}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(place) && !message.contains('\n'), "no {place:?} in {message:?}");
    assert!(error["help"].as_str().is_some_and(|help| !help.is_empty()), "what is to be done: {run}");
}

#[test]
fn a_file_where_a_folder_is_needed() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    room.write("data/raw", "I am a file");
    let run = room.once(FILE);
    run.exits(1);
    blames(&run, "data/raw");
    assert_eq!(room.read("data/raw"), "I am a file");
    fs::remove_file(room.path("data/raw")).unwrap();
    heals(&room, &server);
}

#[test]
fn a_folder_where_a_file_is_needed_concerns_its_coin_alone() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    let year = chrono::DateTime::from_timestamp_millis(server.now()).unwrap().format("%Y");
    let name = format!("data/raw/bitcoin_{year}.csv");
    fs::create_dir_all(room.path(&name)).unwrap();
    let run = room.once(FILE);
    assert!(matches!(run.code, Some(1 | 3)), "{run}");
    blames(&run, &name);
    for coin in ["ethereum", "tether"] {
        let stored = room.hours(coin);
        assert!(stored.is_empty() || stored == server.expected(coin), "{coin}");
    }
    fs::remove_dir(room.path(&name)).unwrap();
    heals(&room, &server);
}

#[test]
fn a_folder_that_leads_in_a_circle() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    fs::create_dir_all(room.path("data")).unwrap();
    std::os::unix::fs::symlink("raw", room.path("data/raw")).unwrap();
    let run = room.once(FILE);
    run.exits(1);
    blames(&run, "data/raw");
    fs::remove_file(room.path("data/raw")).unwrap();
    heals(&room, &server);
}

#[test]
fn an_output_folder_that_may_not_be_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    server.hold_back(1);
    room.once(FILE).exits(0);
    server.hold_back(0);
    let before = room.files("data");
    let set = |name: &str, mode: u32| fs::set_permissions(room.path(name), fs::Permissions::from_mode(mode)).unwrap();
    set("data/raw", 0o555);
    for name in before.keys() {
        set(name, 0o444);
    }
    // Who may do everything (root) is not held up by a mode: then nobody runs it, who may do nothing but what is allowed to all.
    let nobody = fs::write(room.path("data/raw/probe"), "").is_ok();
    if nobody {
        fs::remove_file(room.path("data/raw/probe")).unwrap();
        room.allow_everybody(".pipeline");
    }
    match room.once_as(FILE, nobody.then_some(65_534)) {
        Some(run) => {
            run.exits(1);
            blames(&run, "data/raw");
            assert!(room.files("data") == before, "nothing torn");
        }
        None => eprintln!("nobody may not run this program; this part is skipped"),
    }
    set("data/raw", 0o755);
    for name in before.keys() {
        set(name, 0o644);
    }
    room.once(FILE).exits(0);
    for coin in COINS {
        let stored = room.hours(coin);
        let expected = server.expected(coin);
        assert_same_hours(coin, &stored[1..], &expected[expected.len() + 1 - stored.len()..]);
        assert_eq!(stored.last(), expected.last());
    }
}

/// Rows of some twenty kilobytes, so that files soon meet a limit that the state does not.
fn large_rows() -> Recipe {
    let text = "x".repeat(20_000);
    Recipe::new()
        .transforms(&format!("[[transforms]]\ntype = \"derive\"\ncolumn = \"note\"\nexpr = \"'{text}'\"\n"))
        .sink("[sink]\ntype = \"csv\"\npath = \"data/{coin_id}.csv\"\n")
}

/// The lines of a file of large rows, each whole.
#[track_caller]
fn whole_lines(room: &Room, name: &str) -> usize {
    let text = if room.exists(name) { room.read(name) } else { return 0 };
    assert!(text.ends_with('\n'), "{name} ends in the middle of a line");
    let records: Vec<csv::StringRecord> = csv::Reader::from_reader(text.as_bytes()).records().map(Result::unwrap).collect();
    let note = csv::Reader::from_reader(text.as_bytes()).headers().unwrap().iter().position(|column| column == "note").unwrap();
    assert!(records.iter().all(|record| record[note].len() == 20_000), "{name} holds a torn row");
    records.len()
}

#[test]
fn a_disk_that_takes_no_more_bytes() {
    let server = Server::start();
    let room = room(&server, &large_rows());
    server.hold_back(12);
    room.once(FILE).exits(0);
    let before = room.files("data");
    let day = server.expected("bitcoin").len();
    server.hold_back(0);

    // Blocks of 512 bytes: the files hold nearly 500 kB already, the state far less.
    let run = room.pipeline_after("trap '' XFSZ; ulimit -f 1200", &["run", FILE, "--once", "--format", "json"]);
    run.exits(1);
    blames(&run, "data/");
    for (name, bytes) in room.files("data") {
        let was = before.get(&name).unwrap_or_else(|| panic!("{name} is left behind"));
        assert!(bytes.starts_with(was), "{name} lost what was committed");
    }
    let state = room.pipeline(&["state", "show", FILE, "--format", "json"]);
    state.exits(0);

    let run = room.once(FILE);
    assert_eq!(run.exits(0).rows("written"), 36, "{run}");
    for coin in COINS {
        assert_eq!(whole_lines(&room, &format!("data/{coin}.csv")), day + 12, "{coin}");
    }
}

#[test]
fn a_disk_that_takes_no_byte_of_a_new_file() {
    let server = Server::start();
    let room = room(&server, &large_rows());
    let run = room.pipeline_after("trap '' XFSZ; ulimit -f 600", &["run", FILE, "--once", "--format", "json"]);
    run.exits(1);
    blames(&run, "data/");
    for coin in COINS {
        assert_eq!(whole_lines(&room, &format!("data/{coin}.csv")), 0, "an epoch is stored whole or not at all");
    }
    let run = room.once(FILE);
    run.exits(0);
    for coin in COINS {
        assert_eq!(whole_lines(&room, &format!("data/{coin}.csv")), server.expected(coin).len());
    }
}

const NO_DISK: &str = "this machine lets nobody have a disk of his own; this test is skipped";

#[test]
fn a_full_disk_drops_the_epoch_whole() {
    let server = Server::start();
    let room = room(&server, &large_rows());
    let Some(run) = room.pipeline_on_small_disk("data", 700, &["run", FILE, "--once", "--format", "json"]) else { return eprintln!("{NO_DISK}") };
    run.exits(1);
    blames(&run, "data/");
    run.says("the disk is full");
    for coin in COINS {
        assert_eq!(whole_lines(&room, &format!("data/{coin}.csv")), 0, "an epoch is stored whole or not at all");
    }
    room.once(FILE).exits(0);
    for coin in COINS {
        assert_eq!(whole_lines(&room, &format!("data/{coin}.csv")), server.expected(coin).len());
    }
}

#[test]
fn a_disk_that_fills_up_keeps_the_epochs_before() {
    let server = Server::start();
    let room = room(&server, &large_rows().run("concurrency = 2\nepoch_rows = 1"));
    let Some(run) = room.pipeline_on_small_disk("data", 700, &["run", FILE, "--once", "--format", "json"]) else { return eprintln!("{NO_DISK}") };
    run.exits(3).split_ok("bitcoin").split_failed("ethereum", "storage", &["data/"]);
    assert_eq!(whole_lines(&room, "data/bitcoin.csv"), server.expected("bitcoin").len());
    assert_eq!(whole_lines(&room, "data/ethereum.csv"), 0);
    let run = room.once(FILE);
    assert_eq!(run.exits(0).rows("duplicates"), server.expected("bitcoin").len() as u64, "{run}");
    for coin in COINS {
        assert_eq!(whole_lines(&room, &format!("data/{coin}.csv")), server.expected(coin).len());
    }
}

#[test]
fn a_full_disk_under_the_state_is_told_and_heals() {
    let server = Server::start();
    let room = room(&server, &Recipe::new().run("concurrency = 2\nepoch_rows = 1"));
    for kilobytes in [16, 64, 128, 192] {
        let Some(run) = room.pipeline_on_small_disk(".pipeline", kilobytes, &["run", FILE, "--once"]) else { return eprintln!("{NO_DISK}") };
        assert!(run.code != Some(2), "a full disk is no matter of configuration: {run}");
        if run.code != Some(0) {
            assert!(run.stderr.contains(".pipeline") || run.stdout.contains(".pipeline"), "the place is named: {run}");
        }
        for coin in COINS {
            let hours = room.hours(coin);
            assert!(hours.is_empty() || hours == server.expected(coin), "{coin} on {kilobytes} kB: {} hours", hours.len());
        }
    }
    heals(&room, &server);
}

#[test]
fn a_disk_on_which_not_even_the_state_fits() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    let run = room.pipeline_after("trap '' XFSZ; ulimit -f 4", &["run", FILE, "--once"]);
    run.exits(1);
    assert!(run.stderr.contains(".pipeline") || run.stdout.contains(".pipeline"), "the place is named: {run}");
    heals(&room, &server);
}

#[test]
fn few_open_files_are_enough_for_many() {
    let server = Server::start();
    let recipe = Recipe::new();
    let room =
        room(&server, &recipe.clone().sink(&recipe.sink.replace("{coin_id}_{timestamp:%Y}", "{timestamp:%Y-%m-%d-%H}/{coin_id}_{timestamp:%Y}")));
    let run = room.pipeline_after("ulimit -n 64", &["run", FILE, "--once", "--format", "json"]);
    run.exits(0);
    assert_eq!(room.files("data").len() as u64, run.rows("written"), "a file for each hour");
    let run = room.once(FILE);
    assert_eq!(run.exits(0).rows("written"), 0);
}

#[test]
fn too_few_open_files_are_told_as_such_and_do_no_harm() {
    let server = Server::start();
    let room = room(&server, &Recipe::new().coins(&["bitcoin", "ethereum", "tether", "solana", "ripple", "tron", "dogecoin"]));
    for files in [12, 16, 20, 24] {
        let run = room.pipeline_after(&format!("ulimit -n {files}"), &["run", FILE, "--once"]);
        assert!(run.code != Some(2) && (run.code == Some(0) || !run.stderr.is_empty()), "{run}");
    }
    heals(&room, &server);
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told_before_anything_is_asked() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    room.write(".pipeline", "I am a file");
    let run = room.pipeline(&["run", FILE, "--once"]);
    run.exits(1).complains(".pipeline");
    assert!(server.seen().is_empty() && !room.exists("data"));
    fs::remove_file(room.path(".pipeline")).unwrap();
    heals(&room, &server);
}

#[test]
fn a_broken_state_is_told_and_can_be_rebuilt() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    room.once(FILE).exits(0);
    let before = room.files("data");
    for name in room.files(".pipeline/candles").into_keys().filter(|name| name.contains(".db") || name.contains(".sqlite")) {
        fs::write(room.path(&name), "this is no database, and never was one".repeat(500)).unwrap();
    }
    room.pipeline(&["run", FILE, "--once"]).exits(2).complains(".pipeline");
    assert!(room.files("data") == before);
    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    let run = room.once(FILE);
    assert_eq!((run.exits(0).rows("written"), run.rows("conflicts")), (0, 0), "{run}");
    assert!(room.files("data") == before);
}

#[test]
fn a_log_file_that_cannot_be_written_stops_nothing() {
    let server = Server::start();
    let mut recipe = Recipe::new();
    recipe.top = "[log]\nfile = \"logs/pipeline.log\"\n".into();
    let room = room(&server, &recipe);
    room.write("logs", "I am a file");
    let run = room.once(FILE);
    run.exits(0).complains("logs/pipeline.log");
    for coin in COINS {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
    }
}

#[test]
fn a_quarantine_that_cannot_be_written_fails_by_name() {
    let server = Server::start();
    let recipe = Recipe::new();
    let room = room(&server, &recipe.clone().validate(&format!("{}\n[[validate.rules]]\nname = \"none\"\nexpr = \"open < 0\"\n", recipe.validate)));
    room.write("data/rejects", "I am a file");
    let run = room.once(FILE);
    run.exits(1);
    blames(&run, "data/rejects");
}
