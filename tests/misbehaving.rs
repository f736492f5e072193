//! Every misdeed that the other side is known for: right rows stored, the rest rejected or failed by name, never a panic, never a bad row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::coins::{self, HALF_HOUR, HOUR, MINUTE};
use support::oracle;
use support::{Answer, Dice, Hour, On, Outcome, Recipe, Reply, Room, Server, assert_same_hours, nobody_listens};

const FILE: &str = "candles.toml";
const COINS: [&str; 3] = ["bitcoin", "ethereum", "tether"];

fn room(server: &Server, recipe: &Recipe) -> Room {
    let room = Room::new(server);
    room.write(FILE, &recipe.toml());
    room
}

/// The hours of these coins are stored, whole.
#[track_caller]
fn stored_whole(room: &Room, server: &Server, coins: &[&str]) {
    for coin in coins {
        assert_same_hours(coin, &room.hours(coin), &server.expected(coin));
    }
}

/// Coins that each meet a reply of their own, all in one run.
fn meet(server: &Server, cases: &[(&str, Reply)], times: usize) -> Room {
    for (coin, reply) in cases {
        server.fault(On::ohlc(coin).times(times), reply.clone());
    }
    let mut coins: Vec<&str> = cases.iter().map(|(coin, _)| *coin).collect();
    coins.push("bitcoin");
    room(server, &Recipe::new().coins(&coins).run("concurrency = 32"))
}

/// Each coin meets its reply once, and the pipeline gets over it by itself.
#[track_caller]
fn each_is_got_over(cases: &[(&str, Reply)]) -> Server {
    let server = Server::start();
    let room = meet(&server, cases, 1);
    let run = room.once(FILE);
    run.exits(0);
    for (coin, _) in cases {
        run.split_ok(coin);
        stored_whole(&room, &server, &[coin]);
        assert!(server.asked("ohlc", coin).len() >= 2, "{coin} was asked for again: {run}");
    }
    stored_whole(&room, &server, &["bitcoin"]);
    server
}

/// Each coin meets its reply each time: its split fails by name and alone, and the next run heals it.
#[track_caller]
fn each_fails_alone(cases: &[(&str, Reply, &str, &[&str])]) -> Outcome {
    let server = Server::start();
    let replies: Vec<(&str, Reply)> = cases.iter().map(|(coin, reply, ..)| (*coin, reply.clone())).collect();
    let room = meet(&server, &replies, usize::MAX);
    let run = room.once(FILE);
    run.exits(3).split_ok("bitcoin");
    assert_eq!(run.json()["status"], "partial");
    for (coin, _, category, words) in cases {
        run.split_failed(coin, category, words);
        assert!(room.hours(coin).is_empty(), "nothing of a failed split is stored");
    }
    stored_whole(&room, &server, &["bitcoin"]);

    server.behave();
    room.once(FILE).exits(0);
    for (coin, ..) in cases {
        stored_whole(&room, &server, &[coin]);
    }
    run
}

/// Every coin meets `reply`, which only the operator can mend: nothing is asked twice, the run fails, and the next one heals it. Where one
/// coin alone meets it, the others are stored.
#[track_caller]
fn fails_for_the_operator(reply: Reply, words: &[&str]) {
    let server = Server::start();
    server.fault(On::ohlc("bitcoin"), reply.clone());
    let room = room(&server, &Recipe::new());
    room.once(FILE).exits(3);
    stored_whole(&room, &server, &["ethereum", "tether"]);

    let server = Server::start();
    server.fault(On::all_ohlc(), reply);
    let room = self::room(&server, &Recipe::new());
    let run = room.once(FILE);
    run.exits(1);
    assert_eq!(run.split("bitcoin")["status"], "failed", "{run}");
    let said = format!("{} {}", run.stdout, run.stderr).to_lowercase();
    for word in words {
        assert!(said.contains(&word.to_lowercase()), "nowhere {word:?}: {run}");
    }
    for coin in COINS {
        assert_eq!(server.asked("ohlc", coin).len(), 1, "what only the operator can mend is not asked again: {run}");
    }

    server.behave();
    room.once(FILE).exits(0);
    stored_whole(&room, &server, &COINS);
}

fn limited() -> Value {
    json!({"status": {"error_code": 429, "error_message": "You've exceeded the Rate Limit. Please visit https://example.invalid to subscribe"}})
}

const CLOUDFLARE: &str = "<!DOCTYPE html><html><head><title>Access denied</title></head><body>Error 1015 You are being rate limited</body></html>";
const PAGE: &str = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>";

// Too many requests.

#[test]
fn a_limit_is_waited_out_whatever_its_hint_and_its_shape() {
    let seconds_from_now =
        |seconds: i64, format: &'static str| move || (chrono::Utc::now() + chrono::TimeDelta::seconds(seconds)).format(format).to_string();
    let date = seconds_from_now(3, "%a, %d %b %Y %H:%M:%S GMT");
    let reset = seconds_from_now(3, "%Y-%m-%d %H:%M:%S +0000");
    let server = each_is_got_over(&[
        ("coin-seconds", Reply::Answer(Answer::json(429, &limited()).header("Retry-After", "2"))),
        ("coin-date", Reply::make(move || Answer::json(429, &limited()).header("Retry-After", date()))),
        ("coin-reset", Reply::make(move || Answer::json(429, &limited()).header("x-ratelimit-reset", reset()))),
        ("coin-without-a-hint", Reply::status(429, "Throttled")),
        ("coin-throttled-under-200", Reply::status(200, "Throttled")),
        ("coin-limited-under-200", Reply::Answer(Answer::json(200, &limited()).header("Retry-After", "1"))),
        ("coin-cloudflare", Reply::Answer(Answer::new(429, CLOUDFLARE).header("Retry-After", "1"))),
        ("coin-cloudflare-under-200", Reply::Answer(Answer::new(200, CLOUDFLARE).header("Retry-After", "1"))),
    ]);
    for seen in server.seen().iter().filter(|seen| seen.endpoint == "ohlc" && seen.coin.as_deref() != Some("bitcoin")) {
        let coin = seen.coin.as_deref().unwrap();
        let asked = server.asked("ohlc", coin);
        let (waited, due) = (asked[1].at - asked[0].at, if ["coin-seconds", "coin-date", "coin-reset"].contains(&coin) { 1900 } else { 990 });
        assert!(waited >= Duration::from_millis(due), "{coin} was asked for again after {waited:?}");
    }
}

#[test]
fn a_limit_that_outlasts_the_run_fails_by_name_and_at_once() {
    let server = Server::start();
    server.fault(On::ohlc("coin-limited"), Reply::Answer(Answer::json(429, &limited()).header("Retry-After", "80000")));
    // One after the other: the hint holds for all requests that come after it.
    let room = room(&server, &Recipe::new().coins(&["bitcoin", "coin-limited"]).run("concurrency = 1"));
    let run = room.once(FILE);
    run.exits(3).split_ok("bitcoin").split_failed("coin-limited", "rate_limit", &["429", "Rate Limit"]);
    assert!(run.took < Duration::from_secs(20), "{run}");
    assert!(room.hours("coin-limited").is_empty());
    stored_whole(&room, &server, &["bitcoin"]);
    server.behave();
    room.once(FILE).exits(0);
    stored_whole(&room, &server, &["coin-limited"]);
}

// Answers that do not come, not whole, or that are something else.

#[test]
fn what_passes_is_asked_for_again() {
    each_is_got_over(&[
        ("coin-500", Reply::status(500, "<html>oops</html>")),
        ("coin-503", Reply::Answer(Answer::json(503, &json!({"error": "busy"})).header("Retry-After", "1"))),
        ("coin-408", Reply::status(408, "")),
        ("coin-reset", Reply::Reset),
        ("coin-stalled", Reply::Stall),
        ("coin-truncated", Reply::Truncate),
        ("coin-html", Reply::status(200, PAGE)),
        ("coin-broken-json", Reply::status(200, "[[1779120000000, 1.0, 2.0")),
        ("coin-of-another-shape", Reply::status(200, "{\"prices\": []}")),
    ]);
}

#[test]
fn what_stays_fails_by_name_in_bounded_time_and_leaves_no_row() {
    let run = each_fails_alone(&[
        ("coin-502", Reply::status(502, "Bad Gateway"), "server_error", &["502"]),
        (
            "coin-html-503",
            Reply::status(503, "<html><body><h1>Service Unavailable</h1></body></html>"),
            "server_error",
            &["503", "Service Unavailable"],
        ),
        ("coin-reset", Reply::Reset, "network", &["127.0.0.1"]),
        ("coin-silent", Reply::Silence, "network", &["timed out"]),
        ("coin-stalled", Reply::Stall, "network", &["timed out"]),
        ("coin-truncated", Reply::Truncate, "network", &["127.0.0.1"]),
        ("coin-html-200", Reply::status(200, PAGE), "server_error", &["HTML"]),
        ("coin-empty", Reply::status(200, ""), "server_error", &[]),
        ("coin-null", Reply::status(200, "null"), "server_error", &[]),
        ("coin-object", Reply::status(200, "{}"), "server_error", &[]),
        ("coin-number", Reply::status(200, "42"), "server_error", &[]),
        ("coin-text", Reply::status(200, "\"candles\""), "server_error", &[]),
        ("coin-numbers", Reply::status(200, "[1, 2, 3]"), "server_error", &[]),
        ("coin-chart", Reply::status(200, "{\"prices\": []}"), "server_error", &[]),
        ("coin-cut", Reply::status(200, "[[1779120000000, 1.0, 2.0"), "server_error", &[]),
        ("coin-binary", Reply::status(200, vec![0, 159, 146, 150, 255]), "server_error", &[]),
        ("coin-nested", Reply::status(200, "[".repeat(200_000)), "server_error", &[]),
        ("coin-teapot", Reply::status(418, "{}"), "client_error", &["418"]),
        ("coin-422", Reply::status(422, "{\"error\": \"Missing parameter vs_currency\"}"), "client_error", &["422", "vs_currency"]),
        ("coin-not-found-200", Reply::status(200, "{\"error\": \"coin not found\"}"), "client_error", &["coin not found"]),
        ("coin-not-found-500", Reply::status(500, "{\"error\": \"coin not found\"}"), "client_error", &["coin not found"]),
    ]);
    assert!(run.took < Duration::from_secs(40), "{run}");
    for split in run.json()["splits"].as_array().unwrap().iter().filter(|split| split["error"]["category"] == "client_error") {
        assert_eq!(split["attempts"], 1, "what is refused is not asked for again: {split}");
    }
}

#[test]
fn a_number_too_large_for_a_float_is_never_stored() {
    let server = Server::start();
    let rows: Vec<String> = server.half_hours("bitcoin").iter().map(|row| format!("[{}, 1e999, 1e999, 1.0, 1.0]", row[0])).collect();
    server.fault(On::ohlc("bitcoin"), Reply::status(200, format!("[{}]", rows.join(","))));
    let room = room(&server, &Recipe::new());
    let run = room.once(FILE);
    assert!(matches!(run.code, Some(0 | 3)), "{run}");
    assert!(room.hours("bitcoin").is_empty(), "{run}");
    stored_whole(&room, &server, &["ethereum", "tether"]);
}

#[test]
fn a_body_larger_than_allowed_fails_by_name() {
    let server = Server::start();
    server.fault(On::ohlc("bitcoin"), Reply::status(200, format!("[{}]", " ".repeat(300_000))));
    let recipe = Recipe::new();
    let recipe = recipe.clone().http(&format!("{}\nmax_body = 100000", recipe.http));
    let room = room(&server, &recipe);
    room.once(FILE).exits(3).split_failed("bitcoin", "server_error", &["larger"]);
    stored_whole(&room, &server, &["ethereum", "tether"]);
}

#[test]
fn an_empty_list_of_candles_is_no_error() {
    let server = Server::start();
    server.fault(On::ohlc("bitcoin"), Reply::status(200, "[]"));
    let room = room(&server, &Recipe::new());
    let run = room.once(FILE);
    run.exits(0).split_ok("bitcoin");
    assert!(room.hours("bitcoin").is_empty());
    stored_whole(&room, &server, &["ethereum", "tether"]);
}

#[test]
fn an_unknown_coin_fails_by_name_and_alone() {
    let server = Server::start();
    let room = room(&server, &Recipe::new().coins(&["bitcoin", "no-such-coin", "tether"]));
    let run = room.once(FILE);
    run.exits(3).split_failed("no-such-coin", "client_error", &["no-such-coin", "coin not found"]);
    assert_eq!(server.asked("ohlc", "no-such-coin").len(), 1, "a coin that is not there is not asked for again");
    stored_whole(&room, &server, &["bitcoin", "tether"]);
    assert!(room.hours("no-such-coin").is_empty());
}

#[test]
fn a_pipeline_of_unknown_coins_alone_fails() {
    let server = Server::start();
    let room = room(&server, &Recipe::new().coins(&["no-such-coin", "neither-this-one"]));
    let run = room.once(FILE);
    run.exits(1).split_failed("neither-this-one", "client_error", &["neither-this-one"]);
    assert_eq!(run.json()["status"], "failed");
}

#[test]
fn a_key_for_another_root_is_told_with_the_right_root() {
    let body = json!({"status": {"error_code": 10010, "error_message": "If you are using Pro API key, please change your root URL"}});
    for status in [200, 400] {
        fails_for_the_operator(Reply::Answer(Answer::json(status, &body)), &["10010", "https://pro-api.coingecko.com/api/v3"]);
    }
    let body = json!({"error": {"status": {"timestamp": "2026-05-19T15:37:20.512+00:00", "error_code": 10011, "error_message": "Demo API key"}}});
    fails_for_the_operator(Reply::Answer(Answer::json(401, &body)), &["10011", "https://api.coingecko.com/api/v3"]);
}

#[test]
fn a_missing_key_and_a_plan_that_does_not_reach_are_for_the_operator() {
    let error = |code: i64, text: &str| json!({"error": {"status": {"timestamp": "x", "error_code": code, "error_message": text}}});
    fails_for_the_operator(Reply::Answer(Answer::json(401, &error(10002, "API Key Missing"))), &["10002", "api_key"]);
    fails_for_the_operator(Reply::Answer(Answer::json(200, &error(10005, "This request is limited to PRO API subscribers"))), &["10005", "plan"]);
    fails_for_the_operator(Reply::Answer(Answer::json(401, &error(10012, "exceeds the allowed time range"))), &["10012", "365"]);
}

#[test]
fn a_server_that_wants_a_user_agent_is_told_of_as_such() {
    let body = json!({"status": {"error_code": 403, "error_message": "Please add a descriptive User-Agent to your request."}});
    fails_for_the_operator(Reply::Answer(Answer::json(403, &body)), &["User-Agent"]);
}

#[test]
fn a_client_without_a_name_is_refused_before_anything_is_sent() {
    let server = Server::start();
    let recipe = Recipe::new();
    let room = room(&server, &recipe.clone().http(&format!("{}\nuser_agent = \"\"", recipe.http)));
    room.once(FILE).exits(2).complains("user_agent");
    assert!(server.seen().is_empty());
}

#[test]
fn an_operator_is_sent_where_a_redirect_leads() {
    fails_for_the_operator(Reply::Answer(Answer::new(302, "").header("Location", "https://example.invalid/elsewhere")), &["redirects", "base URL"]);
}

// Rows that are wrong.

#[test]
fn candles_of_another_length_than_half_an_hour_are_refused_whole() {
    let reply = |coin: &'static str, days: &'static str| {
        Reply::edit(move |body| *body = json!(coins::ohlc(coin, days, chrono::Utc::now().timestamp_millis()).unwrap()))
    };
    each_fails_alone(&[
        ("coin-of-four-hours", reply("coin-of-four-hours", "7"), "server_error", &["coin-of-four-hours", "30-minute", "4-hour"]),
        ("coin-of-four-days", reply("coin-of-four-days", "90"), "server_error", &["coin-of-four-days", "30-minute", "4-day"]),
    ]);
}

/// The row of one half of an hour.
fn half(rows: &mut [Value], hour: i64, second: bool) -> &mut Value {
    let stamp = hour + if second { HOUR } else { HALF_HOUR };
    rows.iter_mut().find(|row| row[0] == stamp).unwrap()
}

#[test]
fn each_kind_of_bad_row_is_rejected_by_name_and_its_hour_is_left_out() {
    type Spoil = fn(&mut Value);
    let kinds: [(&str, Spoil); 16] = [
        ("price_envelope", |row| {
            let high = row[2].take();
            row[2] = row[3].take();
            row[3] = high;
        }),
        ("price_envelope", |row| row[4] = json!(row[2].as_f64().unwrap() * 1.5)),
        ("price_envelope", |row| row[1] = json!(row[3].as_f64().unwrap() * 0.5)),
        ("row", |row| {
            for place in 1..5 {
                row[place] = Value::Null;
            }
        }),
        ("row", |row| row[3] = Value::Null),
        ("row", |row| row[4] = json!("n/a")),
        ("row", |row| row[1] = json!({"usd": 1.0})),
        ("row", |row| {
            row.as_array_mut().unwrap().pop();
        }),
        ("row", |row| row.as_array_mut().unwrap().push(json!(1.0))),
        ("row", |row| *row = json!([])),
        ("row", |row| *row = json!({"time": row[0], "open": row[1]})),
        ("row", |row| *row = Value::Null),
        ("row", |row| row[0] = json!("yesterday")),
        ("non_positive", |row| {
            for place in 1..5 {
                row[place] = json!(0);
            }
        }),
        ("non_positive", |row| row[3] = json!(-1.0)),
        ("off_grid", |row| row[0] = json!(row[0].as_i64().unwrap() + 7 * MINUTE)),
    ];
    let server = Server::start();
    let right = server.expected("bitcoin");
    let spoiled: Vec<(i64, bool, Spoil)> =
        kinds.iter().enumerate().map(|(place, (_, spoil))| (right[place + 2].open_time, place % 2 == 0, *spoil)).collect();
    let gone: Vec<i64> = spoiled.iter().map(|(hour, ..)| *hour).collect();
    server.fault(
        On::ohlc("bitcoin"),
        Reply::rows(move |rows| {
            for (hour, second, spoil) in &spoiled {
                spoil(half(rows, *hour, *second));
            }
        }),
    );
    let room = room(&server, &Recipe::new());
    let run = room.once(FILE);
    run.exits(0).split_ok("bitcoin");

    let expected: Vec<Hour> = right.iter().filter(|hour| !gone.contains(&hour.open_time)).copied().collect();
    assert_same_hours("bitcoin", &room.hours("bitcoin"), &expected);
    stored_whole(&room, &server, &["ethereum", "tether"]);

    let rejects = room.rejects("candles");
    assert_eq!(rejects.len(), kinds.len(), "{rejects:#?}");
    assert_eq!(run.rows("rejected"), kinds.len() as u64);
    let mut due: Vec<&str> = kinds.iter().map(|(rule, _)| *rule).collect();
    for reject in &rejects {
        let rule = reject["rule"].as_str().unwrap();
        let place = due.iter().position(|due| rule.contains(due)).unwrap_or_else(|| panic!("no row was spoiled for {reject}"));
        due.remove(place);
        assert_eq!((reject["split"].as_str(), &reject["run"]), (Some("bitcoin"), &run.json()["run_id"]), "{reject}");
        assert!(reject.get("row").is_some() && !reject["message"].as_str().unwrap().is_empty(), "{reject}");
    }
    assert_eq!(due, Vec::<&str>::new(), "each kind is named");

    let again = room.once(FILE);
    again.exits(0);
    assert_eq!(again.rows("rejected"), kinds.len() as u64, "they are counted each time");
    assert_eq!(room.rejects("candles"), rejects, "and kept once");

    server.behave();
    let healed = room.once(FILE);
    healed.exits(0);
    assert_eq!(healed.rows("written"), kinds.len() as u64, "{healed}");
    let mut hours = room.hours("bitcoin");
    hours.sort_by_key(|hour| hour.open_time);
    assert_same_hours("bitcoin, healed", &hours, &right);
}

#[test]
fn numbers_written_as_text_are_never_stored_wrong() {
    let server = Server::start();
    server.fault(
        On::ohlc("bitcoin"),
        Reply::rows(|rows| {
            for cell in rows.iter_mut().flat_map(|row| row.as_array_mut().unwrap()) {
                *cell = json!(cell.to_string());
            }
        }),
    );
    let room = room(&server, &Recipe::new());
    let run = room.once(FILE);
    // Taken as numbers or rejected: both are right, another value is not.
    assert!(matches!(run.code, Some(0 | 3)), "{run}");
    let expected = server.expected("bitcoin");
    for hour in room.hours("bitcoin") {
        assert!(expected.contains(&hour), "{hour:?}");
    }
    if room.hours("bitcoin").is_empty() {
        assert!(!room.rejects("candles").is_empty(), "what is not stored is told: {run}");
    }
}

#[test]
fn duplicate_rows_within_an_answer_count_once() {
    let server = Server::start();
    server.fault(
        On::ohlc("bitcoin"),
        Reply::rows(|rows| {
            let copies = rows.clone();
            rows.extend(copies);
        }),
    );
    let room = room(&server, &Recipe::new());
    let run = room.once(FILE);
    run.exits(0);
    stored_whole(&room, &server, &COINS);
    assert_eq!(run.rows("conflicts"), 0);
}

#[test]
fn rows_of_one_answer_that_contradict_each_other_are_rejected() {
    let server = Server::start();
    let right = server.expected("bitcoin");
    let hour = right[4].open_time;
    server.fault(
        On::ohlc("bitcoin"),
        Reply::rows(move |rows| {
            let mut other = half(rows, hour, true).clone();
            other[2] = json!(other[2].as_f64().unwrap() * 1.5);
            rows.push(other);
        }),
    );
    let room = room(&server, &Recipe::new());
    room.once(FILE).exits(0);
    let expected: Vec<Hour> = right.into_iter().filter(|right| right.open_time != hour).collect();
    assert_same_hours("bitcoin", &room.hours("bitcoin"), &expected);
    assert_eq!(room.rejects("candles").len(), 2);
}

#[test]
fn unsorted_rows_are_stored_in_order() {
    let server = Server::start();
    server.fault(
        On::all_ohlc(),
        Reply::rows(|rows| {
            let mut dice = Dice::new(11);
            for place in (1..rows.len()).rev() {
                rows.swap(place, dice.below(place as u64 + 1) as usize);
            }
        }),
    );
    let room = room(&server, &Recipe::new());
    room.once(FILE).exits(0);
    stored_whole(&room, &server, &COINS);
}

#[test]
fn a_candle_that_is_still_open_is_not_stored() {
    let server = Server::start();
    server.open_tail(true);
    let room = room(&server, &Recipe::new());
    let run = room.once(FILE);
    run.exits(0);
    stored_whole(&room, &server, &COINS);
    assert_eq!(run.rows("rejected"), 0, "an open candle is nobody's fault: {run}");
}

#[test]
fn an_open_candle_stamped_with_the_present_moment_is_not_stored_either() {
    let server = Server::start();
    let now = server.now();
    server.fault(
        On::all_ohlc(),
        Reply::rows(move |rows| {
            let mut open = rows.last().unwrap().clone();
            open[0] = json!(now);
            rows.push(open);
        }),
    );
    let room = room(&server, &Recipe::new());
    room.once(FILE).exits(0);
    stored_whole(&room, &server, &COINS);
}

#[test]
fn a_gap_leaves_its_hours_out_and_nothing_else() {
    let server = Server::start();
    let right = server.expected("bitcoin");
    let (from, to) = (right[6].open_time + HALF_HOUR, right[10].open_time);
    server.fault(On::ohlc("bitcoin"), Reply::rows(move |rows| rows.retain(|row| !(from..=to).contains(&(row[0].as_i64().unwrap() - HALF_HOUR)))));
    let room = room(&server, &Recipe::new());
    let run = room.once(FILE);
    run.exits(0);
    let expected: Vec<Hour> = right.into_iter().enumerate().filter(|(place, _)| !(6..=10).contains(place)).map(|(_, hour)| hour).collect();
    assert_same_hours("bitcoin", &room.hours("bitcoin"), &expected);
    assert_eq!(run.rows("rejected"), 0);
}

/// Shows all of bitcoin's candles of one hour a little higher than before.
fn revise(server: &Server, hour: i64) {
    server.fault(
        On::ohlc("bitcoin"),
        Reply::rows(move |rows| {
            for second in [false, true] {
                let row = half(rows, hour, second);
                for place in 1..5 {
                    row[place] = json!(row[place].as_f64().unwrap() + 1.0);
                }
            }
        }),
    );
}

fn revised(right: &[Hour], hour: i64) -> Vec<Hour> {
    let higher = |h: &Hour| Hour { open: h.open + 1.0, high: h.high + 1.0, low: h.low + 1.0, close: h.close + 1.0, ..*h };
    right.iter().map(|h| if h.open_time == hour { higher(h) } else { *h }).collect()
}

#[test]
fn a_revised_candle_is_counted_and_the_first_is_kept() {
    let server = Server::start();
    let room = room(&server, &Recipe::new());
    room.once(FILE).exits(0);
    let before = room.files("data");
    revise(&server, server.expected("bitcoin")[7].open_time);
    let run = room.once(FILE);
    run.exits(0);
    assert_eq!((run.rows("written"), run.rows("conflicts")), (0, 1), "{run}");
    assert!(room.files("data") == before, "the first is kept");
}

#[test]
fn a_revised_candle_takes_the_place_of_the_first_when_the_last_is_kept() {
    let server = Server::start();
    let recipe = Recipe::new();
    let room = room(&server, &recipe.clone().dedupe(&recipe.dedupe.replace("keep_first", "keep_last")));
    room.once(FILE).exits(0);
    let right = server.expected("bitcoin");
    let hour = right[7].open_time;
    revise(&server, hour);
    let run = room.once(FILE);
    run.exits(0);
    assert_eq!(run.rows("conflicts"), 1, "{run}");
    assert_same_hours("bitcoin", &room.hours("bitcoin"), &revised(&right, hour));
    stored_whole(&room, &server, &["ethereum", "tether"]);

    let again = room.once(FILE);
    again.exits(0);
    assert_eq!((again.rows("written"), again.rows("conflicts")), (0, 0), "it is known now: {again}");

    server.behave();
    room.once(FILE).exits(0);
    assert_same_hours("bitcoin, as at first", &room.hours("bitcoin"), &right);
}

#[test]
fn a_revised_candle_is_kept_among_the_rejects_when_conflicts_are_rejected() {
    let server = Server::start();
    let recipe = Recipe::new();
    let room = room(&server, &recipe.clone().dedupe(&recipe.dedupe.replace("keep_first", "reject")));
    room.once(FILE).exits(0);
    let right = server.expected("bitcoin");
    revise(&server, right[7].open_time);
    for _ in 0..2 {
        let run = room.once(FILE);
        run.exits(0);
        assert_eq!((run.rows("written"), run.rows("conflicts")), (0, 1), "{run}");
    }
    assert_same_hours("bitcoin", &room.hours("bitcoin"), &right);
    let rejects = room.rejects("candles");
    assert_eq!(rejects.len(), 1, "kept once: {rejects:?}");
    assert_eq!(rejects[0]["split"], "bitcoin");
}

#[test]
fn a_close_without_a_volume_sample_has_an_empty_cell() {
    let server = Server::start();
    let right = server.expected("bitcoin");
    let close = right[9].open_time + HOUR;
    server.fault(
        On::chart("bitcoin"),
        Reply::edit(move |chart| {
            chart["total_volumes"].as_array_mut().unwrap().retain(|sample| !(close - 11 * MINUTE..=close).contains(&sample[0].as_i64().unwrap()))
        }),
    );
    let room = room(&server, &Recipe::new());
    let run = room.once(FILE);
    run.exits(0);
    let expected: Vec<Hour> =
        right.into_iter().map(|hour| if hour.open_time + HOUR == close { Hour { volume: None, ..hour } } else { hour }).collect();
    assert_same_hours("bitcoin", &room.hours("bitcoin"), &expected);
    assert_eq!(run.rows("rejected"), 0);
}

#[test]
fn a_chart_that_cannot_be_had_fails_its_coin_alone() {
    let server = Server::start();
    server.fault(On::chart("bitcoin"), Reply::status(500, "no"));
    let room = room(&server, &Recipe::new());
    let run = room.once(FILE);
    run.exits(3).split_failed("bitcoin", "server_error", &["market_chart", "500"]);
    stored_whole(&room, &server, &["ethereum", "tether"]);
}

// The list of coins itself.

#[test]
fn without_the_list_of_the_biggest_coins_the_run_fails() {
    let unusable = [
        Reply::status(500, "no"),
        Reply::status(200, "[]"),
        Reply::status(200, "<html>busy</html>"),
        Reply::status(200, "{\"error\": \"Incorrect path\"}"),
        Reply::Reset,
        Reply::Truncate,
    ];
    let recipe = Recipe::new().source("top = 3\nvolume_24h = true").http("timeout = \"5s\"\nretries = 0");
    for reply in unusable {
        let server = Server::start();
        server.fault(On::markets(), reply);
        let room = room(&server, &recipe);
        let run = room.once(FILE);
        run.exits(1);
        let summary = run.json();
        assert_eq!(summary["status"], "failed");
        assert!(summary["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "it says why: {run}");
        assert_eq!(server.count("ohlc"), 0);
        assert!(room.files("data").is_empty());
    }
}

#[test]
fn dead_coins_and_odd_elements_in_the_list_do_no_harm() {
    let server = Server::start();
    server.order(&["bitcoin", "zombie-coin", "tether", "ethereum"]);
    server.fault(
        On::markets(),
        Reply::rows(|elements| {
            elements.insert(1, Value::Null);
            elements.insert(2, json!({"symbol": "xyz"}));
        }),
    );
    let room = room(&server, &Recipe::new().source("top = 3\ninterval = \"1h\"\nvolume_24h = true"));
    let run = room.once(FILE);
    assert!(matches!(run.code, Some(0 | 1 | 3)), "{run}");
    for coin in ["bitcoin", "zombie-coin", "tether", "ethereum"] {
        let expected = server.expected(coin);
        assert!(room.hours(coin).iter().all(|hour| expected.contains(hour)));
    }
}

// Nobody there.

#[test]
fn a_server_that_is_down_ends_the_run_in_bounded_time_with_one_clear_line() {
    let url = nobody_listens();
    let address = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    for (source, blamed) in [("top = 3\nvolume_24h = true", 1), ("coins = [\"bitcoin\", \"ethereum\"]\nvolume_24h = true", 2)] {
        let room = Room::at(&url);
        room.write(FILE, &Recipe::new().source(source).toml());
        let run = room.pipeline(&["-qq", "run", FILE, "--once"]);
        run.exits(1);
        assert!(run.took < Duration::from_secs(30), "{run}");
        let lines: Vec<&str> = run.stdout.lines().filter(|line| line.contains(&address)).collect();
        assert_eq!(lines.len(), blamed, "one line for each that failed, with the address: {run}");
        assert!(lines.iter().all(|line| line.contains("network")), "{run}");
        assert!(room.files("data").is_empty());
    }
}

#[test]
fn a_server_that_is_down_is_one_json_object_all_the_same() {
    let room = Room::at(&nobody_listens());
    room.write(FILE, &Recipe::new().toml());
    let run = room.once(FILE);
    run.exits(1).split_failed("bitcoin", "network", &[]).split_failed("tether", "network", &[]);
    assert_eq!(run.json()["status"], "failed");
    assert_eq!(run.json()["error"]["category"], "network");
}

// Budgets and deadlines of our own.

#[test]
fn a_monthly_quota_survives_restarts_and_is_told_by_name() {
    let server = Server::start();
    let recipe = Recipe::new();
    let room = room(&server, &recipe.clone().http(&format!("{}\nrequests_per_month = 8", recipe.http)).run("concurrency = 1"));
    room.once(FILE).exits(0);
    assert_eq!(server.seen().len(), 6, "two for each coin");
    let run = room.once(FILE);
    assert!(matches!(run.code, Some(1 | 3)), "{run}");
    assert_eq!(server.seen().len(), 8, "not one more than allowed: {run}");
    let run = room.once(FILE);
    run.exits(1).split_failed("bitcoin", "rate_limit", &["month", "8"]);
    assert_eq!(server.seen().len(), 8);
    stored_whole(&room, &server, &COINS);
}

#[test]
fn a_budget_that_outlasts_the_deadline_fails_by_name_in_bounded_time() {
    let server = Server::start();
    let recipe = Recipe::new();
    let recipe = recipe.clone().http(&recipe.http.replace("100000", "6")).run("concurrency = 1\ndeadline = \"4s\"");
    let room = room(&server, &recipe);
    let run = room.once(FILE);
    run.exits(3).split_ok("bitcoin").split_failed("tether", "rate_limit", &["6", "minute"]);
    assert!(run.took < Duration::from_secs(20), "{run}");
    stored_whole(&room, &server, &["bitcoin"]);
}

#[test]
fn a_deadline_ends_the_run_and_what_was_done_is_stored() {
    let server = Server::start();
    server.fault(On::ohlc("ethereum"), Reply::Silence);
    let room = room(&server, &Recipe::new().http("timeout = \"60s\"\nretries = 5").run("concurrency = 4\ndeadline = \"2s\""));
    let run = room.once(FILE);
    assert!(run.took < Duration::from_secs(20), "{run}");
    run.exits(3).split_ok("bitcoin").split_failed("ethereum", "network", &[]);
    stored_whole(&room, &server, &["bitcoin"]);
    server.behave();
    room.once(FILE).exits(0);
    stored_whole(&room, &server, &COINS);
}

// Limits and verdicts.

#[test]
fn a_pipeline_may_fail_on_the_first_bad_row() {
    let server = Server::start();
    let hour = server.expected("bitcoin")[3].open_time;
    server.fault(On::ohlc("bitcoin"), Reply::rows(move |rows| half(rows, hour, false)[2] = json!(0.5)));
    let recipe = Recipe::new();
    let room = room(&server, &recipe.clone().validate(&recipe.validate.replace("quarantine", "fail")));
    room.once(FILE).exits(3).split_failed("bitcoin", "validation", &["price_envelope"]);
    assert!(room.hours("bitcoin").is_empty());
    stored_whole(&room, &server, &["ethereum", "tether"]);
}

#[test]
fn too_many_rejects_abort_the_run_and_nothing_is_stored() {
    for limit in ["10", "\"20%\""] {
        let server = Server::start();
        server.fault(
            On::ohlc("ethereum"),
            Reply::rows(|rows| {
                for row in rows {
                    row[3] = json!(row[2].as_f64().unwrap() * 2.0);
                }
            }),
        );
        let recipe = Recipe::new();
        let validate =
            recipe.validate.replace("on_reject = \"quarantine\"\n", &format!("on_reject = \"quarantine\"\n\n[validate.limits]\nabort = {limit}\n"));
        let room = room(&server, &recipe.clone().validate(&validate));
        let run = room.once(FILE);
        run.exits(1);
        assert_eq!(run.json()["error"]["category"], "validation", "{run}");
        assert!(room.files("data").is_empty(), "the open epoch is dropped: {:?}", room.files("data").keys());

        server.behave();
        room.once(FILE).exits(0);
        stored_whole(&room, &server, &COINS);
    }
}

// The key.

/// The key is in no file of the room but those that hold it by right, and in nothing that was printed.
#[track_caller]
fn key_is_nowhere(room: &Room, runs: &[&Outcome], key: &str) {
    for run in runs {
        assert!(!run.stdout.contains(key) && !run.stderr.contains(key), "the key is shown: {run}");
    }
    for (name, bytes) in room.files("") {
        let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!found || name == ".env", "the key is in {name}");
    }
}

#[test]
fn the_key_goes_into_its_header_and_nowhere_else() {
    let key = "CG-verySecret0123456789";
    for (plan, header) in [("", "x-cg-demo-api-key"), ("plan = \"pro\"", "x-cg-pro-api-key")] {
        let server = Server::start();
        server.require_key(header, key);
        let recipe = Recipe::new();
        let mut recipe = recipe.clone().source(&format!("{}\napi_key = \"${{COINGECKO_API_KEY:-}}\"\n{plan}", recipe.source));
        recipe.top = "[log]\nfile = \"logs/pipeline.log\"\nlevel = \"trace\"\n".into();
        let room = room(&server, &recipe).env("COINGECKO_API_KEY", key);
        let good = room.pipeline(&["-vv", "run", FILE, "--once", "--format", "json"]);
        good.exits(0);
        assert!(server.seen().iter().all(|seen| seen.headers.get(header).is_some_and(|sent| sent == key)));
        assert!(server.seen().iter().all(|seen| seen.raw.matches(key).count() == 1), "in no URL");
        assert!(room.exists("logs/pipeline.log"));

        // Servers that echo what they were sent.
        let echo = Answer::json(401, &json!({"error": format!("the key {key} is not valid"), "key": key}));
        server.fault(On::ohlc("ethereum"), Reply::Answer(echo));
        let refused = room.pipeline(&["-vv", "run", FILE, "--once", "--format", "json"]);
        assert_ne!(refused.code, Some(0), "{refused}");
        server.behave().fault(On::ohlc("ethereum"), Reply::rows(|rows| rows[5] = json!("?")));
        let rejected = room.pipeline(&["-vv", "run", FILE, "--once"]);
        rejected.exits(0);
        assert!(!room.rejects("candles").is_empty());
        let status = room.pipeline(&["status", FILE, "--format", "json"]);
        let state = room.pipeline(&["state", "show", FILE, "--format", "json"]);
        let check = room.pipeline(&["check", FILE]);
        key_is_nowhere(&room, &[&good, &refused, &rejected, &status, &state, &check], key);
    }
}

#[test]
fn a_key_from_the_environment_or_a_dotenv_file_is_never_written() {
    let key = "CG-anotherSecret9876543210";
    let server = Server::start();
    server.require_key("x-cg-demo-api-key", key);
    let room = Room::new(&server);
    room.shipped("crypto.toml").write(".env", &format!("COINGECKO_API_KEY={key}\n"));
    let good = room.pipeline(&["-vv", "run", "pipelines/crypto.toml", "--once"]);
    good.exits(0);
    stored_whole(&room, &server, &COINS);

    server.fault(
        On::everything(),
        Reply::Answer(Answer::json(401, &json!({"status": {"error_code": 10002, "error_message": format!("bad key {key}")}}))),
    );
    let refused = room.pipeline(&["-vv", "run", "pipelines/crypto.toml", "--once"]);
    refused.exits(1).says("10002");
    server.behave().fault(On::everything(), Reply::Reset);
    let reset = room.pipeline(&["-vv", "run", "pipelines/crypto.toml", "--once"]);
    reset.exits(1);
    key_is_nowhere(&room, &[&good, &refused, &reset], key);
}

#[test]
fn a_key_does_not_go_over_plain_http_to_another_machine() {
    let room = Room::at("http://coingecko.example.invalid/api/v3");
    let recipe = Recipe::new();
    room.write(FILE, &recipe.clone().source(&format!("{}\napi_key = \"CG-plain\"", recipe.source)).toml());
    let check = room.pipeline(&["check", FILE]);
    check.exits(2).says("plain http://");
    assert!(!check.stdout.contains("CG-plain\"\n") || check.stderr.contains("api_key"), "{check}");
}

// Everything at once.

#[test]
fn a_day_of_all_faults_stores_no_bad_row_and_ends_well() {
    let coins = ["bitcoin", "ethereum", "tether", "solana", "shiba-inu"];
    let server = Server::start();
    let room = room(&server, &Recipe::new().coins(&coins));
    let mut dice = Dice::new(2026);
    let mut shown: Vec<Vec<Hour>> = vec![Vec::new(); coins.len()];
    for back in (0..8).rev() {
        server.behave().hold_back(back);
        for (coin, shown) in coins.iter().zip(&mut shown) {
            *shown = oracle::union(shown, &server.expected(coin));
        }
        for coin in coins {
            let reply = match dice.below(12) {
                0 => Reply::Reset,
                1 => Reply::Truncate,
                2 => Reply::status(500, "no"),
                3 => Reply::status(200, "<html>busy</html>"),
                4 => Reply::Answer(Answer::json(200, &json!({"error": "coin not found"}))),
                5 => Reply::rows(|rows| rows.reverse()),
                6 => Reply::rows(|rows| rows.iter_mut().step_by(3).for_each(|row| row[3] = json!(1e12))),
                7 => Reply::rows(|rows| rows.iter_mut().step_by(5).for_each(|row| *row = json!(["?"]))),
                8 => Reply::rows(|rows| rows.truncate(7)),
                _ => continue,
            };
            let times = 1 + dice.below(4) as usize;
            server.fault(On::ohlc(coin).times(times), reply);
        }
        let run = room.once(FILE);
        assert!(matches!(run.code, Some(0 | 1 | 3)), "{run}");
        for (coin, shown) in coins.iter().zip(&shown) {
            for hour in room.hours(coin) {
                assert!(shown.contains(&hour), "{coin}: a row that was never shown: {hour:?}");
            }
        }
    }
    server.behave();
    room.once(FILE).exits(0);
    for coin in coins {
        let mut hours = room.hours(coin);
        hours.sort_by_key(|hour| hour.open_time);
        let last_day = server.expected(coin);
        hours.retain(|hour| hour.open_time >= last_day[0].open_time);
        assert_same_hours(coin, &hours, &last_day);
    }
}
