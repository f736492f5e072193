//! `pipeline test`: the tests that pipeline files have, as their owners run them; and those that are shipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::path::Path;

use support::Room;
use support::room::nobody_listens;

const PIPELINE: &str = r#"
name = "candles"
[trigger]
type = "manual"
[source]
type = "coingecko_ohlc"
base_url = "${COINGECKO_BASE_URL}"
coins = ["bitcoin"]
[[transforms]]
type = "filter"
expr = "close > 0"
[[transforms]]
type = "derive"
column = "spread"
expr = "high - low"
[validate]
limits.abort = "1%"
[[validate.rules]]
kind = "price_envelope"
[dedupe]
keys = ["coin_id", "timestamp"]
on_conflict = "CONFLICT"
[sink]
type = "csv"
path = "data/{coin_id}.csv"
columns = ["timestamp", "close", "spread"]
"#;

fn pipeline(tests: &str) -> String {
    format!("{}{tests}", PIPELINE.replace("CONFLICT", "keep_first"))
}

fn room(tests: &str) -> Room {
    let room = Room::at(&nobody_listens());
    room.write("candles.toml", &pipeline(tests));
    room
}

/// A candle of an hour of a day, with a close; high and low fit.
fn candle(hour: u32, close: &str) -> String {
    format!(r#"{{ coin_id = "bitcoin", timestamp = "2026-05-19T{hour:02}:00:00Z", open = 2.0, high = 8.0, low = 0.5, close = {close} }}"#)
}

#[test]
fn the_shipped_tests_pass_and_write_nothing() {
    let room = Room::at(&nobody_listens());
    for name in ["crypto.toml", "crypto.test.toml", "markets.toml", "markets.test.toml", "fixtures/bitcoin_ohlc.json"] {
        room.shipped(name);
    }
    let before = room.files("");
    let tested = room.pipeline(&["test", "pipelines"]);
    tested.exits(0).says("ok      crypto: two half hours make an hour").says("ok      markets: ").says("8 of 8 tests ok");
    assert_eq!(room.files(""), before);
    room.pipeline(&["check", "pipelines"]).exits(0);
}

#[test]
fn every_shipped_rule_has_a_test_that_fails_without_it() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/crypto.toml")).unwrap();
    for (what, with, fails) in [
        ("kind = \"price_envelope\"", "kind = \"non_negative_volume\"\nname = \"price_envelope\"\nvolume = \"close\"", "high is below its close"),
        ("volume_24h >= 0", "volume_24h >= -9", "a negative one does not"),
        ("keep_first", "reject", "the first value stays"),
        ("interval = \"1h\"", "interval = \"30m\"", "two half hours make an hour"),
    ] {
        assert!(text.contains(what), "{what}");
        let room = Room::at(&nobody_listens());
        room.shipped("crypto.test.toml").shipped("fixtures/bitcoin_ohlc.json");
        room.write("pipelines/crypto.toml", &text.replacen(what, with, 1));
        let tested = room.pipeline(&["test", "pipelines/crypto.toml"]);
        tested.exits(1);
        assert!(tested.stdout.lines().any(|line| line.starts_with("FAILED") && line.contains(fails)), "{what}: {}", tested.stdout);
    }
}

#[test]
fn rows_go_through_every_stage_and_only_named_columns_are_compared() {
    let room = room(&format!(
        r#"
[[test]]
name = "every stage"
rows = [{}, {}, {}]
stored = [{}, {}]
[test.expect]
rows = [{{ timestamp = 2026-05-19T03:00:00Z, close = 4, spread = 7.5 }}]
rejects = []
filtered = 1
duplicates = 1
conflicts = 0
"#,
        candle(1, "3.0"),
        candle(2, "-1.0"),
        candle(3, "4.0"),
        candle(0, "3.0"),
        candle(1, "3.0"),
    ));
    let tested = room.pipeline(&["test", "candles.toml"]);
    tested.exits(0).says("ok      candles: every stage").says("1 of 1 test ok");
    assert_eq!(room.files("").len(), 1, "no state, no rows, no rejects: {:?}", room.files("").keys());
}

#[test]
fn a_difference_is_shown_row_by_row_in_columns() {
    let room = room(&format!(
        r#"
[[test]]
name = "wrong on purpose"
rows = [{}, {}, {{ coin_id = "bitcoin", timestamp = "2026-05-19T05:00:00Z", open = 2.0, high = 1.0, low = 0.5, close = 3.0 }}]
[test.expect]
rows = [{{ timestamp = "2026-05-19T01:00:00Z", close = 3.0 }}, {{ timestamp = "2026-05-19T02:00:00Z", close = 4.5 }}]
rejects = [{{ rule = "conflict" }}]
duplicates = 2
"#,
        candle(1, "3.0"),
        candle(2, "4.25"),
    ));
    let tested = room.pipeline(&["test", "candles.toml"]);
    tested.exits(1);
    let expected = "\
FAILED  candles: wrong on purpose
        candles.toml:29
    rows: expected 2 rows, found 2 rows (- expected, + found)
        timestamp             close
        2026-05-19T01:00:00Z  3
      - 2026-05-19T02:00:00Z  4.5
      + 2026-05-19T02:00:00Z  4.25
    rejects: expected 1 reject, found 1 reject (- expected, + found)
";
    assert!(tested.stdout.starts_with(expected), "{}", tested.stdout);
    for line in ["      - conflict\n", "      + price_envelope  high >= greatest", "    duplicates: expected 2, found 0\n", "0 of 1 test ok\n"] {
        tested.says(line);
    }
    let object = room.pipeline(&["test", "candles.toml", "--format", "json"]).exits(1).json();
    assert_eq!(
        (object["ok"].as_bool(), object["line"].as_u64(), object["failures"][2]["what"].as_str()),
        (Some(false), Some(29), Some("duplicates"))
    );
    assert_eq!(object["failures"][0]["lines"][2], "- 2026-05-19T02:00:00Z  4.5");
}

#[test]
fn a_row_that_replaces_a_stored_one_and_a_rejected_conflict_are_told_apart() {
    let tests = |expect: &str| {
        format!("\n[[test]]\nname = \"a conflict\"\nstored = [{}]\nrows = [{}]\nexpect = {expect}\n", candle(1, "3.0"), candle(1, "4.0"))
    };
    for (conflict, expect) in [
        ("keep_first", "{ rows = [], replaced = [], conflicts = 1 }"),
        ("keep_last", "{ rows = [], replaced = [{ close = 4.0 }], conflicts = 1 }"),
        ("reject", "{ rows = [], rejects = [{ rule = \"conflict\", row = { close = 4.0, timestamp = \"2026-05-19T01:00:00Z\" } }] }"),
    ] {
        let room = Room::at(&nobody_listens());
        room.write("candles.toml", &format!("{}{}", PIPELINE.replace("CONFLICT", conflict), tests(expect)));
        room.pipeline(&["test", "candles.toml"]).exits(0);
        let other = expect.replace("4.0", "4.5").replace("conflicts = 1", "conflicts = 2");
        room.write("candles.toml", &format!("{}{}", PIPELINE.replace("CONFLICT", conflict), tests(&other)));
        room.pipeline(&["test", "candles.toml"]).exits(1);
    }
}

const HOURS: &str = "[[1779201000000,1,4,0.5,3],[1779202800000,3,5,2,4]]"; // half hours that end at 14:30 and 15:00 on 2026-05-19

#[test]
fn recorded_responses_go_through_the_real_source_without_network() {
    let tests = |on: &str| {
        format!(
            "\n[[test]]\nname = \"from what was recorded\"\nnow = \"2026-05-19T16:10:00Z\"\nexpect.rows = [{{ coin_id = \"bitcoin\", spread = 4.5 }}]\n[test.responses]\n\"{on}\" = \"recorded/ohlc.json\"\n"
        )
    };
    let room = room("");
    room.write("at/candles.toml", &pipeline(&tests("/coins/bitcoin/ohlc"))).write("at/recorded/ohlc.json", HOURS);
    let tested = room.pipeline(&["test", "at/candles.toml"]);
    tested.exits(0);
    // What is not recorded is named; what is to be read and is not there has its place in the file.
    room.write("at/candles.toml", &pipeline(&tests("/coins/ethereum/ohlc")));
    room.pipeline(&["test", "at/candles.toml"]).exits(1).says("this test has no response for GET /api/v3/coins/bitcoin/ohlc?");
    room.write("at/candles.toml", &pipeline(&tests("/ohlc").replace("ohlc.json", "gone.json")));
    let missing = room.pipeline(&["test", "at/candles.toml"]);
    missing.exits(2).complains("error[E004]: the recorded response at/recorded/gone.json cannot be read").complains("\"recorded/gone.json\"");
}

#[test]
fn a_far_side_that_fails_is_waited_for_in_no_time_and_its_error_can_be_expected() {
    let tests = |error: &str| {
        format!(
            "\n[[test]]\nname = \"busy\"\nnow = \"2026-05-19T16:10:00Z\"\n{error}\nexpect.rows = []\n[test.responses]\n\"/ohlc\" = {{ status = 503, headers = {{ retry-after = \"60\" }}, body = \"\" }}\n"
        )
    };
    let room = room(&tests("expect.error = \"503 Service Unavailable\""));
    room.pipeline(&["test", "candles.toml"]).exits(0);
    room.write("candles.toml", &pipeline(&tests("")));
    room.pipeline(&["test", "candles.toml"]).exits(1).says("nothing may fail, but: bitcoin: server_error: ").says("503 Service Unavailable");
}

#[test]
fn what_cannot_have_been_stored_fails_the_test_that_says_so() {
    let room =
        room(&format!("\n[[test]]\nname = \"never stored\"\nstored = [{}, {}]\nrows = []\nexpect.rows = []\n", candle(1, "99.0"), candle(2, "3.0")));
    room.pipeline(&["test", "candles.toml"]).exits(1).says("stored: of 2 rows in `stored` the pipeline stores 1: 1 rejected");
}

#[test]
fn tests_are_picked_by_name_and_none_at_all_is_an_error() {
    let test = |name: &str| format!("\n[[test]]\nname = \"{name}\"\nrows = []\nexpect.rows = []\n");
    let room = room(&(test("one") + &test("two")));
    let picked = room.pipeline(&["test", "candles.toml", "--filter", "tw"]);
    picked.exits(0).says("ok      candles: two").says("1 of 1 test ok");
    room.pipeline(&["test", "candles.toml", "--filter", "three"]).exits(2).complains("no test has \"three\" in its name");
    room.write("bare.toml", &pipeline(""));
    room.pipeline(&["test", "bare.toml"]).exits(2).complains("bare.toml: there are no tests").complains("[[test]]");
}

#[test]
fn a_fault_in_a_test_is_a_fault_of_its_file_and_one_beside_stops_no_run() {
    let faulty = format!("[[test]]\nname = \"typo\"\nrows = [{}]\nexpect.rows = [{{ clos = 3.0 }}]\n", candle(1, "3.0"));
    let room = room(&faulty);
    for command in ["check", "test", "run"] {
        room.pipeline(&[command, "candles.toml"]).exits(2).complains("error[E041]: there is no column `clos`").complains("did you mean `close`?");
    }
    room.write("candles.toml", &pipeline("")).write("candles.test.toml", &faulty);
    for file in ["candles.toml", "candles.test.toml", "."] {
        room.pipeline(&["check", file]).exits(2).complains("candles.test.toml:4:18").says("1 file checked: 1 error");
    }
    // No network: the run fails, and not because of the tests.
    room.pipeline(&["run", "candles.toml", "--once", "--dry-run"]).exits(1);
    room.pipeline(&["run", "candles.test.toml", "--once"]).exits(2).complains("candles.test.toml holds the tests of candles.toml");
    // The test file is no pipeline of the folder.
    room.write("candles.test.toml", "source = 1\n");
    room.pipeline(&["check", "."]).exits(2).complains("a file of tests has no key `source`").complains("`[[test]]` tables alone");
    room.pipeline(&["status", "candles.toml"]).exits(0);
}
