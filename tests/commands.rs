//! The command line as a user meets it, command by command.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::coins::{DAY, HALF_HOUR, HOUR};
use support::{Hour, On, Recipe, Reply, Room, Server, assert_same_hours, oracle};

const FILE: &str = "candles.toml";
const COINS: [&str; 3] = ["bitcoin", "ethereum", "tether"];

fn room(server: &Server, recipe: &Recipe) -> Room {
    let room = Room::new(server);
    room.write(FILE, &recipe.toml());
    room
}

/// A room in which one run has stored a day of three coins.
fn filled(server: &Server) -> Room {
    let room = room(server, &Recipe::new());
    room.once(FILE).exits(0);
    room
}

fn rfc3339(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// What is in a room, but for the lock file, whose content is nobody's data.
fn contents(room: &Room) -> BTreeMap<String, Vec<u8>> {
    room.files("").into_iter().filter(|(name, _)| !name.ends_with("/lock")).collect()
}

#[track_caller]
fn stored_whole(room: &Room, server: &Server, coins: &[&str]) {
    for coin in coins {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
    }
}

// check

#[test]
fn check_of_a_sound_file_says_so_without_asking_or_writing_anything() {
    let server = Server::start();
    let room = Room::new(&server);
    room.shipped("crypto.toml").shipped("markets.toml");
    let before = contents(&room);
    room.pipeline(&["check", "pipelines/crypto.toml"]).exits(0).prints("pipelines/crypto.toml: ok");
    room.pipeline(&["check", "pipelines"]).exits(0).prints("crypto.toml: ok").prints("markets.toml: ok");
    assert!(server.seen().is_empty(), "nothing was asked");
    assert!(contents(&room) == before, "nothing was written: {:?}", contents(&room).keys());
}

#[test]
fn check_shows_a_typo_with_its_line_a_caret_and_the_nearest_name() {
    let server = Server::start();
    let toml = Recipe::new().toml().replace("interval = \"1h\"", "intervall = \"1h\"");
    let line = toml.lines().position(|line| line.starts_with("intervall")).unwrap() + 1;
    let room = Room::new(&server);
    room.write(FILE, &toml);
    let check = room.pipeline(&["check", FILE]);
    check
        .exits(2)
        .complains("E010")
        .complains("intervall")
        .complains(&format!("{FILE}:{line}:1"))
        .complains("^^^^^^^^^")
        .complains("did you mean `interval`?");
    let caret = check.stderr.lines().find(|line| line.contains('^')).unwrap();
    let shown = check.stderr.lines().find(|line| line.contains("intervall = \"1h\"")).unwrap();
    assert_eq!(caret.find('^'), shown.find("intervall"), "the caret stands under the word: {check}");

    room.pipeline(&["run", FILE, "--once"]).exits(2).complains("did you mean `interval`?");
    assert!(server.seen().is_empty() && !room.exists(".pipeline") && !room.exists("data"));
}

#[test]
fn check_reports_all_faults_in_one_go() {
    let server = Server::start();
    let recipe = Recipe::new();
    let validate = "[validate]\non_reject = \"quarantin\"\n\n[[validate.rules]]\nname = \"a\"\nexpr = \"hgih > low\"\n\n[[validate.rules]]\nname = \"b\"\nexpr = \"coin_id > 5\"\n";
    let toml = recipe
        .clone()
        .http("timeout = \"soon\"\nretrys = 3")
        .validate(validate)
        .dedupe("[dedupe]\nkeys = [\"coin\", \"timestamp\"]\n")
        .sink("[sink]\ntype = \"cvs\"\npath = \"x.csv\"\n")
        .toml()
        .replace("type = \"manual\"", "type = \"intervall\"");
    let room = Room::new(&server);
    room.write(FILE, &toml);
    let check = room.pipeline(&["check", FILE]);
    check.exits(2);
    for word in ["intervall", "soon", "retrys", "quarantin", "cvs"] {
        assert!(check.stderr.lines().any(|line| line.contains(word) && !line.contains("help")), "nothing of {word}: {check}");
    }
    let mended = toml
        .replace("retrys", "retries")
        .replace("soon", "1s")
        .replace("quarantin\"", "quarantine\"")
        .replace("cvs", "csv")
        .replace("intervall\"", "manual\"");
    room.write(FILE, &mended);
    let check = room.pipeline(&["check", FILE]);
    check.exits(2).complains("hgih").complains("did you mean `high`?").complains("coin_id").complains("`coin`");
}

#[test]
fn check_finds_what_does_not_fit_together() {
    let server = Server::start();
    let recipe = Recipe::new();
    let cases = [
        (recipe.clone().sink(&recipe.sink.replace("{coin_id}", "{coin}")), "coin"),
        (recipe.clone().sink(&recipe.sink.replace("\"open\", ", "\"opne\", ")), "opne"),
        (recipe.clone().source(&recipe.source.replace("volume_24h = true", "")), "volume_24h"),
        (recipe.clone().source("interval = \"1h\""), "coins"),
        (recipe.clone().source("coins = [\"bitcoin\"]\ntop = 3"), "top"),
        (recipe.clone().source("coins = [\"bitcoin\"]\ninterval = \"2h\""), "2h"),
        (recipe.clone().trigger("type = \"interval\"\nevery = \"1s\"\noffset = \"5s\""), "offset"),
        (recipe.clone().trigger("type = \"cron\"\nschedule = \"61 * * * *\""), "schedule"),
        (recipe.clone().transforms("[[transforms]]\ntype = \"filter\"\nexpr = \"close +\"\n"), "expr"),
        (recipe.clone().transforms("[[transforms]]\ntype = \"select\"\ncolumns = [\"open\"]\n"), "price_envelope"),
    ];
    for (recipe, word) in cases {
        let room = room(&server, &recipe);
        let check = room.pipeline(&["check", FILE]);
        check.exits(2).complains(word).complains(&format!("{FILE}:")).complains("^");
    }
}

#[test]
fn check_answers_editors_in_json() {
    let server = Server::start();
    let room = Room::new(&server);
    room.write(FILE, &Recipe::new().toml().replace("interval = \"1h\"", "intervall = \"1h\""));
    let check = room.pipeline(&["check", FILE, "--format", "json"]);
    check.exits(2);
    let faults = check.json_lines();
    assert!(faults.iter().any(|fault| fault.to_string().contains("E010") && fault.to_string().contains("intervall")), "{check}");
}

#[test]
fn a_variable_that_is_not_set_is_told_with_the_authors_words() {
    let server = Server::start();
    let room = Room::new(&server);
    room.write(FILE, &Recipe::new().toml().replace("${COINGECKO_BASE_URL}", "${MY_ROOT:?ask Ann for it}"));
    room.pipeline(&["check", FILE]).exits(2).complains("MY_ROOT").complains("ask Ann for it");
}

#[test]
fn a_file_that_is_missing_broken_or_a_folder_without_pipelines_is_told() {
    let server = Server::start();
    let room = Room::new(&server);
    room.write("broken.toml", "name = \"x\n[trigger\n").write("empty/readme.txt", "");
    room.pipeline(&["check", "nowhere.toml"]).exits(2).complains("nowhere.toml");
    room.pipeline(&["check", "broken.toml"]).exits(2).complains("broken.toml:1");
    room.pipeline(&["check", "empty"]).exits(2).complains("empty");
}

#[test]
fn two_pipelines_may_share_neither_name_nor_place() {
    let server = Server::start();
    let room = Room::new(&server);
    room.write("two/a.toml", &Recipe::new().toml()).write("two/b.toml", &Recipe::new().toml());
    room.pipeline(&["run", "two", "--once"]).exits(2).complains("E018").complains("this one has the name already");
    room.write("two/b.toml", &Recipe::new().name("other").toml());
    room.pipeline(&["run", "two", "--once"]).exits(2).complains("E016").complains("this one writes its rows there");
    assert!(server.seen().is_empty() && !room.exists("data"));
}

#[test]
fn a_folder_of_pipelines_runs_each_and_prints_a_summary_for_each() {
    let server = Server::start();
    let room = Room::new(&server);
    room.shipped("crypto.toml").shipped("markets.toml");
    let run = room.pipeline(&["run", "pipelines", "--once", "--format", "json"]);
    run.exits(0);
    let mut names: Vec<String> = run.json_lines().iter().map(|summary| summary["pipeline"].as_str().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["crypto", "markets"]);
    stored_whole(&room, &server, &COINS);
}

// read

#[test]
fn read_before_the_first_run_is_empty_and_no_error() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    let before = contents(&room);
    assert_eq!(room.pipeline(&["read", FILE, "--format", "json"]).exits(0).stdout, "");
    let csv = room.pipeline(&["read", FILE, "--format", "csv"]);
    assert_eq!(csv.exits(0).stdout.lines().count(), 1, "a header and nothing else: {csv}");
    room.pipeline(&["read", FILE]).exits(0).prints("0 rows");
    assert!(contents(&room) == before, "nothing was written: {:?}", contents(&room).keys());
}

/// The rows of `read --format csv`, by coin.
fn read_csv(text: &str) -> BTreeMap<String, Vec<Hour>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let mut rows: BTreeMap<String, Vec<Hour>> = BTreeMap::new();
    for record in reader.records() {
        let record = record.unwrap();
        let cell = |name: &str| &record[header.iter().position(|column| column == name).unwrap_or_else(|| panic!("no column {name} in {header:?}"))];
        let number = |name: &str| cell(name).parse::<f64>().unwrap();
        let hour = Hour {
            open_time: chrono::DateTime::parse_from_rfc3339(cell("timestamp")).unwrap().timestamp_millis(),
            open: number("open"),
            high: number("high"),
            low: number("low"),
            close: number("close"),
            volume: (!cell("volume_24h").is_empty()).then(|| number("volume_24h")),
        };
        rows.entry(cell("coin_id").to_owned()).or_default().push(hour);
    }
    rows
}

#[test]
fn read_gives_back_what_was_stored_as_csv_and_json_and_for_people() {
    let server = Server::start();
    let room = filled(&server);
    let expected: BTreeMap<String, Vec<Hour>> = COINS.iter().map(|coin| ((*coin).to_owned(), server.expected(coin))).collect();
    let count: usize = expected.values().map(Vec::len).sum();

    let csv = room.pipeline(&["read", FILE, "--format", "csv"]);
    let rows = read_csv(&csv.exits(0).stdout);
    assert_eq!(rows.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (coin, hours) in &rows {
        assert_same_hours(coin, hours, &expected[coin]);
    }

    let json = room.pipeline(&["read", FILE, "--format", "json"]);
    let objects = json.exits(0).json_lines();
    assert_eq!(objects.len(), count);
    let first = objects.iter().find(|row| row["coin_id"] == "bitcoin").unwrap();
    assert_eq!(first["timestamp"], rfc3339(expected["bitcoin"][0].open_time));
    assert_eq!(first["close"].as_f64(), Some(expected["bitcoin"][0].close));

    room.pipeline(&["read", FILE]).exits(0).prints("coin_id").prints("bitcoin").prints(&format!("{count} rows"));
    room.pipeline(&["read", FILE, "--limit", "2", "--format", "json"]).exits(0);
    assert_eq!(room.pipeline(&["read", FILE, "--limit", "2", "--format", "json"]).json_lines().len(), 2);
}

#[test]
fn read_takes_a_range_from_and_up_to_but_without() {
    let server = Server::start();
    let room = filled(&server);
    let hours = server.expected("ethereum");
    let (from, to) = (rfc3339(hours[5].open_time), rfc3339(hours[9].open_time));
    let read = room.pipeline(&["read", FILE, "--from", &from, "--to", &to, "--format", "csv"]);
    let rows = read_csv(&read.exits(0).stdout);
    assert_same_hours("ethereum", &rows["ethereum"], &hours[5..9]);
    assert_eq!(rows.len(), 3);
    assert_eq!(room.pipeline(&["read", FILE, "--from", "2100-01-01", "--format", "json"]).exits(0).stdout, "");
    assert_eq!(room.pipeline(&["read", FILE, "--to", "2000-01-01", "--format", "json"]).exits(0).stdout, "");
    room.pipeline(&["read", FILE, "--from", "yesterday"]).exits(2).complains("yesterday");
}

#[test]
fn read_takes_a_condition_and_points_at_what_is_wrong_with_it() {
    let server = Server::start();
    let room = filled(&server);
    let rising: Vec<Hour> = server.expected("bitcoin").into_iter().filter(|hour| hour.close > hour.open).collect();
    let read = room.pipeline(&["read", FILE, "--where", "coin_id = 'bitcoin' AND close > open", "--format", "csv"]);
    assert_same_hours("bitcoin", read_csv(&read.exits(0).stdout).get("bitcoin").map_or(&[], Vec::as_slice), &rising);
    let wrong = room.pipeline(&["read", FILE, "--where", "coin_id = 'bitcoin' AND clsoe > open"]);
    wrong.exits(2).complains("clsoe").complains("^^^^^").complains("did you mean `close`?");
    room.pipeline(&["read", FILE, "--where", "coin_id > 5"]).exits(2);
    room.pipeline(&["read", FILE, "--where", "close > "]).exits(2);
    room.pipeline(&["read", FILE, "--where", "close"]).exits(2);
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_ends_the_answer_quietly() {
    let server = Server::start();
    let room = filled(&server);
    for format in ["csv", "json", "table"] {
        let read = room.shell("\"$0\" \"$@\" | head -n 1", &["read", FILE, "--format", format]);
        assert_eq!((read.exits(0).stdout.lines().count(), read.stderr.as_str()), (1, ""), "{read}");
    }
}

// status

#[test]
fn status_tells_of_runs_and_of_none() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    room.pipeline(&["status", FILE]).exits(0).prints("has not run yet");
    assert!(!room.exists(".pipeline"), "looking writes nothing");
    let run = room.once(FILE);
    server.fault(On::ohlc("bitcoin"), Reply::status(404, "{\"error\": \"coin not found\"}"));
    room.once(FILE).exits(3);

    room.pipeline(&["status", FILE]).exits(3).prints("candles (candles.toml): degraded").prints("ok").prints("partial").prints("coin not found");
    let status = room.pipeline(&["status", FILE, "--format", "json"]);
    let status = status.exits(3).json();
    assert_eq!((status["pipeline"].as_str(), status["file"].as_str()), (Some("candles"), Some(FILE)));
    let runs = status["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(status["last_run"]["status"], "partial");
    assert!(runs.iter().any(|stored| stored["run_id"] == run.json()["run_id"] && stored["rows"] == run.json()["rows"]), "{status}");
}

// rejects

#[test]
fn rejects_are_listed_and_replayed_once_the_rule_is_mended() {
    let server = Server::start();
    let recipe = Recipe::new();
    let strict = recipe.clone().validate(&format!("{}\n[[validate.rules]]\nname = \"no_tether\"\nexpr = \"coin_id <> 'tether'\"\n", recipe.validate));
    let room = room(&server, &strict);
    room.pipeline(&["rejects", FILE]).exits(0).prints("no rejects");
    let run = room.once(FILE);
    let rejected = server.expected("tether").len();
    assert_eq!(run.exits(0).rows("rejected"), rejected as u64);
    assert!(room.hours("tether").is_empty());

    room.pipeline(&["rejects", FILE]).exits(0).prints("no_tether").prints(&format!("{rejected} rejects"));
    let listed = room.pipeline(&["rejects", FILE, "--format", "json"]);
    let listed = listed.exits(0).json_lines();
    assert_eq!(listed.len(), rejected);
    for reject in &listed {
        assert_eq!(
            (reject["rule"].as_str(), reject["split"].as_str(), reject["stage"].as_str()),
            (Some("no_tether"), Some("tether"), Some("validate"))
        );
        assert_eq!(reject["row"]["coin_id"], "tether");
        assert_eq!(reject["run"], run.json()["run_id"]);
    }

    let replay = room.pipeline(&["rejects", FILE, "--replay", "--format", "json"]);
    let replay = replay.exits(0).json();
    assert_eq!((replay["accepted"].as_u64(), replay["still_rejected"].as_u64()), (Some(0), Some(rejected as u64)), "the rule still stands: {replay}");
    assert!(room.hours("tether").is_empty());

    room.write(FILE, &recipe.toml());
    let replay = room.pipeline(&["rejects", FILE, "--replay", "--format", "json"]);
    let replay = replay.exits(0).json();
    assert_eq!((replay["accepted"].as_u64(), replay["written"].as_u64()), (Some(rejected as u64), Some(rejected as u64)), "{replay}");
    stored_whole(&room, &server, &COINS);

    assert_eq!(room.pipeline(&["rejects", FILE, "--format", "json"]).exits(0).stdout, "", "what was replayed is done with");
    assert_eq!(room.pipeline(&["rejects", FILE, "--all", "--format", "json"]).exits(0).json_lines().len(), rejected);
    let again = room.pipeline(&["rejects", FILE, "--replay", "--format", "json"]);
    assert_eq!(again.exits(0).json()["written"], 0);
    let run = room.once(FILE);
    assert_eq!((run.exits(0).rows("written"), run.rows("conflicts")), (0, 0), "{run}");
    stored_whole(&room, &server, &COINS);
}

#[test]
fn a_pipeline_that_keeps_no_rejects_says_so() {
    let server = Server::start();
    let recipe = Recipe::new();
    let room = room(&server, &recipe.clone().validate(&recipe.validate.replace("quarantine", "drop")));
    room.pipeline(&["rejects", FILE]).exits(2).complains("keeps no rejects");
}

// state

#[test]
fn state_shows_what_is_remembered() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    room.pipeline(&["state", "show", FILE]).exits(0).prints("nothing yet");
    assert!(!room.exists(".pipeline"), "looking writes nothing");
    room.once(FILE).exits(0);
    let bitcoin = room.files("data/raw").into_keys().find(|name| name.contains("bitcoin")).unwrap();
    room.pipeline(&["state", "show", FILE]).exits(0).prints("dedupe").prints(&bitcoin);
    let state = room.pipeline(&["state", "show", FILE, "--format", "json"]);
    let state = state.exits(0).json();
    assert_eq!((state["fits_the_file"].as_bool(), &state["open_run"]), (Some(true), &Value::Null), "{state}");
}

#[test]
fn without_its_state_a_pipeline_touches_no_file_until_the_state_is_rebuilt() {
    let server = Server::start();
    let room = filled(&server);
    let before = room.files("data");
    std::fs::remove_dir_all(room.path(".pipeline")).unwrap();

    let run = room.once(FILE);
    run.exits(1);
    for coin in COINS {
        run.split_failed(coin, "storage", &["did not write it", coin]);
    }
    run.says("pipeline state rebuild");
    assert!(room.files("data") == before, "a foreign file is not touched");

    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    assert!(room.files("data") == before, "a rebuild changes no stored row");
    let run = room.once(FILE);
    run.exits(0);
    assert_eq!((run.rows("written"), run.rows("conflicts")), (0, 0), "{run}");
    assert_eq!(run.rows("duplicates"), COINS.map(|coin| server.expected(coin).len() as u64).iter().sum::<u64>());
    assert!(room.files("data") == before);
}

#[test]
fn a_file_changed_by_hand_fails_its_coin_alone_until_the_state_is_rebuilt() {
    let server = Server::start();
    let room = filled(&server);
    let name = room.files("data/raw").into_keys().find(|name| name.contains("bitcoin")).unwrap();
    let whole = room.read(&name);
    let cut = whole.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    room.write(&name, &cut);

    let run = room.once(FILE);
    run.exits(3)
        .split_failed("bitcoin", "storage", &[&name, "were committed"])
        .split_ok("ethereum")
        .split_ok("tether")
        .says("pipeline state rebuild");
    assert_eq!(room.read(&name), cut, "somebody's change is not overwritten");

    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    let run = room.once(FILE);
    assert_eq!(run.exits(0).rows("written"), 1, "the row that was cut away is fetched again: {run}");
    assert_eq!(room.read(&name), whole);
}

#[test]
fn rows_that_somebody_added_to_a_file_count_when_the_state_is_rebuilt_and_not_before() {
    let server = Server::start();
    let room = filled(&server);
    let name = room.files("data/raw").into_keys().find(|name| name.contains("bitcoin")).unwrap();
    let last = room.read(&name).trim_end().rsplit_once('\n').unwrap().1.to_owned();
    let (_, prices) = last.split_once(',').unwrap();
    room.write(&name, &format!("{}2001-01-01T00:00:00Z,{prices}\n", room.read(&name)));
    let stored: usize = COINS.map(|coin| server.expected(coin).len()).iter().sum();

    let read = || room.pipeline(&["read", FILE, "--format", "csv"]).exits(0).stdout.clone();
    assert_eq!(read().lines().count(), 1 + stored, "what nobody committed is not read");
    room.pipeline(&["state", "rebuild", FILE]).exits(0).says(&format!("from {} stored rows", stored + 1));
    assert_eq!(read().lines().filter(|line| line.contains("2001-01-01T00:00:00Z")).count(), 1);
    assert_eq!(read().lines().count(), 2 + stored);
}

#[test]
fn a_file_that_lost_its_columns_by_hand_is_told() {
    let server = Server::start();
    let room = filled(&server);
    let name = room.files("data/raw").into_keys().find(|name| name.contains("ethereum")).unwrap();
    room.write(&name, "some,thing,else\n1,2,3\n");
    room.once(FILE).exits(3).split_failed("ethereum", "storage", &[&name]);
    let rebuild = room.pipeline(&["state", "rebuild", FILE]);
    assert_ne!(rebuild.code, Some(0), "what does not fit cannot be taken over: {rebuild}");
    rebuild.complains(&name);
    assert_eq!(room.read(&name), "some,thing,else\n1,2,3\n");
}

#[test]
fn changed_keys_or_columns_are_refused_and_nothing_is_written() {
    let server = Server::start();
    let room = filled(&server);
    let recipe = Recipe::new();
    let changed = [
        (recipe.clone().dedupe("[dedupe]\nkeys = [\"timestamp\", \"coin_id\"]\n"), "dedupe.keys"),
        (recipe.clone().dedupe("[dedupe]\nkeys = [\"coin_id\", \"timestamp\", \"open\"]\n"), "dedupe.keys"),
        (recipe.clone().sink(&recipe.sink.replace("data/raw/", "data/other/")), "path"),
        (recipe.clone().sink(&recipe.sink.replace("\"low\", ", "")), "columns"),
    ];
    for (recipe, word) in changed {
        room.write(FILE, &recipe.toml());
        let before = contents(&room);
        let asked = server.seen().len();
        for args in [vec!["run", FILE, "--once"], vec!["rejects", FILE, "--replay"]] {
            room.pipeline(&args).exits(2).complains("does not fit").complains(word).complains("pipeline state rebuild");
        }
        assert!(contents(&room) == before, "nothing was written");
        assert_eq!(server.seen().len(), asked, "nothing was asked");
    }
    room.write(FILE, &recipe.toml());
    room.once(FILE).exits(0);
}

// list, explain, help

#[test]
fn list_names_every_plugin_and_explain_tells_of_each() {
    let server = Server::start();
    let room = Room::new(&server);
    let all =
        ["coingecko_ohlc", "coingecko_markets", "file", "csv", "jsonl", "interval", "cron", "manual", "select", "rename", "cast", "derive", "filter"];
    let list = room.pipeline(&["list"]);
    for name in all {
        list.exits(0).prints(name);
        room.pipeline(&["explain", name]).exits(0).prints(name).prints("Sample");
    }
    let triggers = room.pipeline(&["list", "trigger"]);
    triggers.exits(0).prints("cron");
    assert!(!triggers.stdout.contains("csv"));
    room.pipeline(&["explain", "coingecko_ohlc"]).exits(0).prints("volume_24h").prints("http.timeout");
    room.pipeline(&["explain", "coingeko_ohlc"]).exits(2).complains("coingecko_ohlc");
    assert!(contents(&room).is_empty());
}

#[test]
fn help_and_version_are_answers() {
    let server = Server::start();
    let room = Room::new(&server);
    let help = room.pipeline(&["--help"]);
    for word in ["run", "check", "read", "status", "rejects", "state", "list", "explain", "Exit codes", "--state-dir"] {
        help.exits(0).prints(word);
    }
    room.pipeline(&["--version"]).exits(0).prints(env!("CARGO_PKG_VERSION"));
    room.pipeline(&["run", "--help"]).exits(0).prints("--dry-run").prints("--once").prints("--from");
    room.pipeline(&[]).exits(2);
    room.pipeline(&["rnu"]).exits(2).complains("rnu");
    room.pipeline(&["run"]).exits(2);
    room.pipeline(&["run", FILE, "--once", "--format", "xml"]).exits(2);
}

// run, with its options

#[test]
fn a_dry_run_shows_what_would_be_written_and_writes_nothing_at_all() {
    let server = Server::start();
    let room = Room::new(&server);
    room.shipped("crypto.toml").write(FILE, &Recipe::new().toml());
    let hour = server.expected("bitcoin")[2].open_time;
    server.fault(
        On::ohlc("bitcoin"),
        Reply::rows(move |rows| rows.iter_mut().find(|row| row[0] == hour + HALF_HOUR).unwrap()[2] = serde_json::json!(0.5)),
    );
    let before = contents(&room);
    for file in ["pipelines/crypto.toml", FILE] {
        let dry = room.pipeline(&["run", file, "--dry-run", "--format", "json"]);
        let summary = dry.exits(0).json();
        assert_eq!((summary["dry_run"].as_bool(), summary["status"].as_str()), (Some(true), Some("ok")));
        let due: usize = COINS.map(|coin| server.expected(coin).len()).iter().sum();
        assert_eq!((dry.rows("written"), dry.rows("rejected")), (due as u64 - 1, 1), "{dry}");
        room.pipeline(&["run", file, "--dry-run"])
            .exits(0)
            .prints("nothing was written")
            .prints("bitcoin")
            .prints("timestamp")
            .prints("price_envelope");
    }
    assert!(contents(&room) == before, "something was written: {:?}", contents(&room).keys());
}

#[test]
fn a_dry_run_knows_what_is_stored() {
    let server = Server::start();
    server.hold_back(2);
    let room = filled(&server);
    server.hold_back(0);
    let before = contents(&room);
    let dry = room.pipeline(&["run", FILE, "--dry-run", "--format", "json"]);
    dry.exits(0);
    assert_eq!(dry.rows("written"), 6, "two more hours of three coins: {dry}");
    assert!(contents(&room) == before, "something was written");
    assert_eq!(room.once(FILE).exits(0).rows("written"), 6);
}

#[test]
fn a_window_stores_its_hours_and_no_other() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    let hours = server.expected("tether");
    let (from, to) = (rfc3339(hours[8].open_time), rfc3339(hours[12].open_time));
    let run = room.pipeline(&["run", FILE, "--from", &from, "--to", &to, "--format", "json"]);
    run.exits(0);
    for coin in COINS {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin)[8..12]);
    }
    room.once(FILE).exits(0);
    for coin in COINS {
        let mut stored = room.hours(coin);
        stored.sort_by_key(|hour| hour.open_time);
        assert_same_hours(coin, &stored, &server.expected(coin));
    }
}

#[test]
fn a_window_that_cannot_be_had_is_told_before_anything_is_asked() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    room.pipeline(&["run", FILE, "--from", "2020-01-01", "--to", "2020-02-01"]).exits(1).says("24 hours");
    room.pipeline(&["run", FILE, "--from", "2026-02-01", "--to", "2026-01-01"]).exits(2).complains("--from");
    room.shipped("markets.toml").pipeline(&["run", "pipelines/markets.toml", "--from", "2026-01-01"]).exits(2).complains("window");
    room.pipeline(&["run", FILE, "--from", "last week"]).exits(2).complains("last week");
    assert!(server.seen().is_empty());
}

#[test]
fn a_paid_key_fills_weeks_of_the_past() {
    let server = Server::start();
    server.require_key("x-cg-pro-api-key", "CG-paid");
    let recipe = Recipe::new();
    let recipe =
        recipe.clone().source("coins = [\"bitcoin\", \"solana\"]\ninterval = \"1h\"\nvolume_24h = true\nplan = \"pro\"\napi_key = \"${KEY}\"");
    let room = room(&server, &recipe).env("KEY", "CG-paid");
    let now = server.now();
    let to = now - now.rem_euclid(DAY) - 3 * DAY;
    let from = to - 40 * DAY;
    let run = room.pipeline(&["run", FILE, "--from", &rfc3339(from), "--to", &rfc3339(to), "--format", "json"]);
    run.exits(0);
    for coin in ["bitcoin", "solana"] {
        let halves: Vec<Value> = (1..=40 * 48).map(|half| support::coins::candle(coin, HALF_HOUR, from + half * HALF_HOUR)).collect();
        let expected = oracle::hours(&halves, None, now);
        assert_eq!(expected.len() as i64, (to - from) / HOUR);
        assert_same_hours(coin, &room.hours(coin), &expected);
    }
    assert!(server.count("range") >= 4, "31 days come with one request");
    room.once(FILE).exits(0);
    for coin in ["bitcoin", "solana"] {
        let day = server.expected(coin);
        assert_same_hours(coin, &room.hours(coin)[40 * 24..], &day);
    }
}

#[test]
fn other_lengths_of_candles_are_stored_as_they_come() {
    let server = Server::start();
    for (interval, days, size) in [("30m", "1", HALF_HOUR), ("4h", "30", 4 * HOUR), ("4d", "365", 4 * DAY)] {
        let recipe = Recipe::new();
        let sink = "[sink]\ntype = \"csv\"\npath = \"data/{coin_id}.csv\"\ncolumns = [\"timestamp\", \"close\"]\ntime_format = \"unix_ms\"\n";
        let room = room(&server, &recipe.clone().source(&format!("coins = [\"ethereum\"]\ninterval = \"{interval}\"")).sink(sink));
        room.once(FILE).exits(0);
        let shown = support::coins::ohlc("ethereum", days, server.now()).unwrap();
        let expected: Vec<(i64, f64)> = shown.iter().map(|row| (row[0].as_i64().unwrap() - size, row[4].as_f64().unwrap())).collect();
        let text = room.read("data/ethereum.csv");
        let stored: Vec<(i64, f64)> = csv::Reader::from_reader(text.as_bytes())
            .records()
            .map(|record| record.map(|record| (record[0].parse().unwrap(), record[1].parse().unwrap())).unwrap())
            .collect();
        assert_eq!(stored, expected, "{interval}");
    }
}

#[test]
fn transforms_change_what_is_stored() {
    let server = Server::start();
    let transforms = r#"
[[transforms]]
type = "filter"
expr = "close >= open"
[[transforms]]
type = "derive"
column = "spread"
expr = "high - low"
[[transforms]]
type = "rename"
columns = { coin_id = "coin" }
[[transforms]]
type = "cast"
columns = { volume_24h = "text" }
[[transforms]]
type = "select"
columns = ["timestamp", "coin", "spread", "volume_24h"]
"#;
    let recipe = Recipe::new().transforms(transforms).validate("").dedupe("[dedupe]\nkeys = [\"coin\", \"timestamp\"]\n");
    let room = room(&server, &recipe.sink("[sink]\ntype = \"csv\"\npath = \"data/all.csv\"\n"));
    let run = room.once(FILE);
    run.exits(0);
    let text = room.read("data/all.csv");
    assert_eq!(text.lines().next(), Some("timestamp,coin,spread,volume_24h"));
    let stored: Vec<Vec<String>> =
        csv::Reader::from_reader(text.as_bytes()).records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    let kept = COINS.iter().flat_map(|coin| server.expected(coin).into_iter().filter(|hour| hour.close >= hour.open).map(move |hour| (coin, hour)));
    let mut count = 0;
    for (row, (coin, hour)) in stored.iter().zip(kept.clone()) {
        assert_eq!(row[..2], [rfc3339(hour.open_time), (*coin).to_owned()]);
        assert_eq!(row[2].parse::<f64>().unwrap().to_bits(), (hour.high - hour.low).to_bits());
        assert_eq!(row[3].parse::<f64>().ok().map(f64::to_bits), hour.volume.map(f64::to_bits));
        count += 1;
    }
    assert_eq!((stored.len(), kept.count()), (count, count));
    assert_eq!(run.json()["rows"]["filtered"].as_u64(), Some(run.rows("read") - count as u64));
}

#[test]
fn the_state_directory_can_be_chosen() {
    let server = Server::start();
    let room = room(&server, &Recipe::new()).env("PIPELINE_STATE_DIR", "from-env");
    room.once(FILE).exits(0);
    assert!(room.exists("from-env/candles") && !room.exists(".pipeline"));
    std::fs::remove_dir_all(room.path("data")).unwrap();
    room.pipeline(&["--state-dir", "from-arg", "run", FILE, "--once"]).exits(0);
    assert!(room.exists("from-arg/candles") && !room.exists(".pipeline"));
}
