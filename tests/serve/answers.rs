//! The API's answers, and how it refuses.

use serde_json::{Value, json};

use crate::served::{Served, recipe};
use crate::support::{On, Reply, Room, Server};

fn three_coins() -> String {
    let all = recipe("a", "bitcoin").source("coins = [\"bitcoin\", \"ethereum\", \"tether\"]\ninterval = \"1h\"\nvolume_24h = true");
    let mut all = all.trigger("type = \"manual\"");
    all.top = "description = \"Hourly candles\"".to_owned();
    all.toml()
}

/// A room in which a pipeline has run twice by hand, the second time with a reject.
fn room(server: &Server) -> Room {
    let room = Room::new(server);
    room.write("pipelines/a.toml", &three_coins());
    assert_eq!(room.once("pipelines/a.toml").code, Some(0));
    // A candle whose high lies below its low.
    let spoil = |rows: &mut Vec<Value>| rows.iter_mut().for_each(|row| row[2] = json!(0.000_001));
    server.hold_back(-2);
    server.fault(On::ohlc("tether"), Reply::rows(spoil));
    room.once("pipelines/a.toml");
    server.behave();
    room
}

#[test]
fn rows_are_those_that_pipeline_read_prints() {
    let server = Server::start();
    let room = room(&server);
    let mut served = Served::start(&room);
    served.wait_until_ready();
    let at = |ms: i64| chrono::DateTime::from_timestamp_millis(ms).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let (from, to) = (at(server.now() - 20 * 3_600_000), at(server.now() - 5 * 3_600_000));
    let condition = "coin_id <> 'tether' AND close > open";
    let escaped = condition.replace(' ', "%20").replace('<', "%3C").replace('>', "%3E").replace('\'', "%27");
    let cases: [(String, Vec<&str>); 4] = [
        (String::new(), vec![]),
        (format!("from={from}&to={to}"), vec!["--from", &from, "--to", &to]),
        (format!("where={escaped}"), vec!["--where", condition]),
        ("limit=7".to_owned(), vec!["--limit", "7"]),
    ];
    for (query, args) in cases {
        let read = |format: &str| {
            let mut all = vec!["read", "pipelines/a.toml", "--format", format];
            all.extend(&args);
            room.pipeline(&all).stdout
        };
        let path = format!("/api/v1/pipelines/a/rows?{query}");
        let csv = served.ask("GET", &path, &[("Accept", "text/csv")]);
        assert_eq!((csv.status, csv.header("content-type")), (200, Some("text/csv; charset=utf-8")), "{csv:?}");
        assert_eq!(csv.body, read("csv"), "{path}");
        assert!(csv.body.lines().count() > 5, "{path} says something: {}", csv.body);
        assert_eq!(served.get(&format!("{path}&format=ndjson")).body, read("json"), "{path}");
        let rows: Vec<Value> = read("json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let answer = served.get(&path).json();
        assert_eq!(answer["rows"], json!(rows), "{path}");
        assert_eq!(answer["truncated"], json!(query == "limit=7"), "{path}");
    }
    let whole = served.get("/api/v1/pipelines/a/rows").json()["rows"].as_array().unwrap().len();
    let exactly = served.get(&format!("/api/v1/pipelines/a/rows?limit={whole}")).json();
    assert_eq!(exactly["truncated"], json!(false), "as many as there are is not too many");
}

#[test]
fn runs_rejects_and_gaps_are_told() {
    let server = Server::start();
    let room = room(&server);
    let mut served = Served::start(&room);
    served.wait_until_ready();
    let runs = served.get("/api/v1/pipelines/a/runs?limit=1").json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1);
    let newest = runs["runs"][0]["run_id"].as_str().unwrap();
    assert_eq!(runs["next_before"], newest);
    let older = served.get(&format!("/api/v1/pipelines/a/runs?limit=1&before={newest}")).json();
    assert_eq!((older["runs"].as_array().unwrap().len(), &older["next_before"]), (1, &json!(null)));
    assert_ne!(older["runs"][0]["run_id"], newest);
    let one = served.get(&format!("/api/v1/pipelines/a/runs/{}", newest.replace(':', "%3A"))).json();
    assert_eq!(one["splits"].as_array().unwrap().len(), 3, "{one}");
    assert_eq!(one["rows"], runs["runs"][0]["rows"]);
    assert!(one["rows"]["rejected"].as_u64().unwrap() > 1, "{one}");

    let kept = room.rejects("a");
    let rejects = served.get("/api/v1/pipelines/a/rejects").json();
    assert_eq!((rejects["total"].as_u64(), rejects["rejects"].as_array().unwrap().len()), (Some(kept.len() as u64), kept.len()));
    assert_eq!(rejects["rejects"][0]["row"], kept.last().unwrap()["row"], "the newest first");
    let some = served.get("/api/v1/pipelines/a/rejects?limit=1").json();
    assert_eq!((&some["total"], &some["rejects"][0], some["rejects"].as_array().unwrap().len()), (&rejects["total"], &rejects["rejects"][0], 1));
    assert_eq!(served.get("/api/v1/pipelines/a/gaps").json()["pipeline"], "a");

    let pipeline = served.get("/api/v1/pipelines/a").json();
    assert_eq!((&pipeline["description"], &pipeline["stages"]["source"]), (&json!("Hourly candles"), &json!("coingecko_ohlc")));
    let newest_row = served.get("/api/v1/pipelines/a/rows").json()["rows"].as_array().unwrap().iter().map(|row| row["timestamp"].to_string()).max();
    served.wait_for("the newest row is known", |served| Some(served.health("a")["data"]["newest"].to_string()) == newest_row);
}

#[test]
fn what_is_asked_wrongly_is_answered_with_a_problem() {
    let server = Server::start();
    let room = room(&server);
    let mut served = Served::start(&room);
    served.wait_until_ready();
    let a = "/api/v1/pipelines/a";
    let cases = [
        ("/nothing", 404, "no-such-path", "nothing is served at /nothing"),
        ("/api/v1/pipelines/x", 404, "unknown-pipeline", "no pipeline is named \"x\""),
        ("/health?pipeline=x", 404, "unknown-pipeline", "no pipeline is named \"x\""),
        ("/health?pipelin=x", 400, "bad-parameter", "unknown field `pipelin`"),
        (&format!("{a}/runs/x"), 404, "unknown-run", "remembers no run \"x\""),
        (&format!("{a}/runs?before=x"), 404, "unknown-run", "remembers no run \"x\""),
        (&format!("{a}/runs?limit=0"), 400, "bad-parameter", "limit=0: it may be from 1 to 1000"),
        (&format!("{a}/rows?limit=100001"), 400, "bad-parameter", "it may be from 1 to 100000"),
        (&format!("{a}/rows?limit=-1"), 400, "bad-parameter", "limit"),
        (&format!("{a}/rows?from=yesterday"), 400, "bad-parameter", "write it as 2026-05-19 or 2026-05-19T15:00:00Z"),
        (&format!("{a}/rows?where=clos%20%3E%201"), 400, "bad-parameter", "did you mean `close`?"),
        (&format!("{a}/rows?where={}1", "(".repeat(5000)), 400, "bad-parameter", "where: "),
        (&format!("{a}/rows?order=desc"), 400, "bad-parameter", "unknown field `order`"),
        (&format!("{a}/rows?format=xml"), 400, "bad-parameter", "unknown variant `xml`"),
        ("/api/v1/pipelines/%ff", 400, "bad-parameter", "UTF-8"),
        ("/api/v1/pipelines/..%2f..%2fetc%2fpasswd", 404, "unknown-pipeline", "no pipeline is named \"../../etc/passwd\""),
        ("/api/v1/pipelines/%00%0d%0aSet-Cookie:x", 404, "unknown-pipeline", "no pipeline is named"),
        ("/api/v1/../../etc/passwd", 404, "no-such-path", "nothing is served at"),
    ];
    for (path, status, kind, says) in cases {
        let instance = path.split('?').next().unwrap();
        served.get(path).assert_problem(status, kind, instance, says);
    }
    let refused = served.ask("POST", a, &[("Content-Length", "0")]);
    refused.assert_problem(405, "method-not-allowed", a, "read with GET");
    assert_eq!(refused.header("allow"), Some("GET,HEAD"));
    served.ask("POST", a, &[("Content-Length", "99999999")]).assert_problem(413, "body-too-large", a, "99999999 bytes");
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1", "a b"] {
        served.ask("GET", a, &[("Host", host)]).assert_problem(403, "foreign-host", a, "ask it as localhost");
    }
    for host in ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(served.ask("GET", a, &[("Host", host)]).status, 200, "{host}");
    }
    assert_eq!(served.get("/health").header("x-content-type-options"), Some("nosniff"));
    // Beyond what HTTP itself allows there is no path to speak of.
    assert_eq!(served.raw(format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000)).as_bytes()).status, 431);
    assert_eq!(served.raw(b"GET / HTTP/1.1\r\nHost: local\x00host\r\n\r\n").status, 400);
    assert_eq!(served.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n").status, 400);
    assert_eq!(served.get("/live").body, "alive\n", "and it lives on");
    assert!(served.end().success());
}

#[test]
fn web_pages_of_named_origins_alone_may_read_the_answers() {
    let server = Server::start();
    let room = Room::new(&server);
    room.write("pipelines/a.toml", &three_coins());
    let asked = [("Origin", "https://board.example")];
    let allowed = "access-control-allow-origin";
    let mut served = Served::start(&room);
    assert_eq!(served.ask("GET", "/health", &asked).header(allowed), None, "by default nobody");
    assert!(served.end().success());
    let mut served = Served::with(&room, &["--cors-origin", "https://board.example", "--allow-host", "pipes.example"]);
    let got = served.ask("GET", "/health", &asked);
    assert_eq!((got.header(allowed), got.header("vary")), (Some("https://board.example"), Some("Origin")));
    assert_eq!(served.ask("GET", "/health", &[("Origin", "https://evil.example")]).header(allowed), None);
    let first = served.ask("OPTIONS", "/health", &[asked[0], ("Access-Control-Request-Method", "GET")]);
    assert_eq!((first.status, first.header("access-control-allow-methods")), (204, Some("GET, HEAD")));
    assert_eq!(served.ask("GET", "/live", &[("Host", "pipes.example:80")]).status, 200);
    assert!(served.end().success());
    let served = Served::with(&room, &["--cors-origin", "*"]);
    assert_eq!(served.ask("GET", "/health", &asked).header(allowed), Some("*"));
}
