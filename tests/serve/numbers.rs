//! `/metrics`, read by Prometheus's own tool and compared with what happened.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::served::{Served, recipe};
use crate::support::{On, Reply, Room, Server};

/// The value of a series, written as the text has it.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn metrics_are_what_prometheus_reads_and_say_what_happened() {
    let server = Server::start();
    server.fault(On::ohlc("bitcoin").times(1), Reply::status(503, "{}"));
    let spoil = |rows: &mut Vec<Value>| rows.iter_mut().for_each(|row| row[2] = serde_json::json!(0.000_001));
    server.fault(On::ohlc("tether"), Reply::rows(spoil));
    let room = Room::new(&server);
    let http = "timeout = \"5s\"\nretries = 2\nrequests_per_minute = 100000\nrequests_per_month = 1000000";
    let one = recipe("a", "bitcoin").http(http).source("coins = [\"bitcoin\", \"ethereum\", \"tether\"]\ninterval = \"1h\"");
    let one = one.sink("[sink]\ntype = \"csv\"\npath = \"data/{coin_id}.csv\"\n");
    room.write("pipelines/a.toml", &one.toml());
    room.write("pipelines/b.toml", "name = 1");
    let mut served = Served::start(&room);
    served.wait_for_runs("a", 1);
    served.wait_for("the age is known", |served| served.get("/metrics").body.contains("pipeline_data_age_seconds{pipeline=\"a\"}"));
    let got = served.get("/metrics");
    assert_eq!(got.header("content-type"), Some("text/plain; version=0.0.4"));
    let text = got.body;
    let run = served.get("/api/v1/pipelines/a/runs").json()["runs"][0].clone();
    for (outcome, of_run) in
        [("written", "written"), ("duplicate", "duplicates"), ("conflict", "conflicts"), ("rejected", "rejected"), ("filtered", "filtered")]
    {
        let series = format!("pipeline_rows_total{{outcome=\"{outcome}\",pipeline=\"a\"}}");
        assert_eq!(value(&text, &series), run["rows"][of_run].as_f64(), "{series}");
    }
    assert!(run["rows"]["rejected"].as_u64().unwrap() > 0 && run["rows"]["written"].as_u64().unwrap() > 0, "{run}");
    let host = server.url().replace("http://", "").replace("/api/v3", "");
    let sent = server.seen().len();
    let exact = [
        (format!("pipeline_http_requests_total{{host=\"{host}\",pipeline=\"a\",status=\"200\"}}"), (sent - 1) as f64),
        (format!("pipeline_http_requests_total{{host=\"{host}\",pipeline=\"a\",status=\"503\"}}"), 1.0),
        (format!("pipeline_http_retries_total{{host=\"{host}\",pipeline=\"a\"}}"), 1.0),
        ("pipeline_runs_total{pipeline=\"a\",status=\"ok\"}".to_owned(), 1.0),
        ("pipeline_runs_total{pipeline=\"a\",status=\"failed\"}".to_owned(), 0.0),
        ("pipeline_run_duration_seconds_count{pipeline=\"a\"}".to_owned(), 1.0),
        ("pipeline_split_duration_seconds_count{pipeline=\"a\"}".to_owned(), 3.0),
        (format!("pipeline_quota_limit{{host=\"{host}\"}}"), 1e6),
        ("pipeline_health{pipeline=\"b\",status=\"unhealthy\"}".to_owned(), 1.0),
        ("pipeline_health{pipeline=\"b\",status=\"healthy\"}".to_owned(), 0.0),
        ("pipeline_consecutive_failures{pipeline=\"a\"}".to_owned(), 0.0),
    ];
    for (series, expected) in exact {
        assert_eq!(value(&text, &series), Some(expected), "{series} in\n{text}");
    }
    let left = value(&text, &format!("pipeline_quota_remaining{{host=\"{host}\"}}")).unwrap();
    assert!(left < 1e6 && left >= 1e6 - sent as f64, "{left} left after {sent} requests");
    let health = served.health("a");
    let stamp = |text: &Value| chrono::DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap().timestamp_millis() as f64 / 1e3;
    assert_eq!(value(&text, "pipeline_last_success_timestamp_seconds{pipeline=\"a\"}"), Some(stamp(&health["last_success"])));
    assert_eq!(value(&text, "pipeline_next_tick_timestamp_seconds{pipeline=\"a\"}"), Some(stamp(&health["next_tick"])));
    assert_eq!(value(&text, "pipeline_data_max_age_seconds{pipeline=\"a\"}"), health["data"]["max_age_seconds"].as_f64());
    let age = value(&text, "pipeline_data_age_seconds{pipeline=\"a\"}").unwrap();
    assert!((0.0..10_800.0).contains(&age), "{age}");
    for name in ["pipeline_state_bytes{pipeline=\"a\"}", "pipeline_budget_wait_seconds_total", "process_start_time_seconds", "pipeline_build_info{"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
    }

    let tool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut tool = tool.expect("promtool, of Debian's package `prometheus`, is there: the README says how to install what the tests need");
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let verdict = tool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&verdict.stdout), String::from_utf8_lossy(&verdict.stderr));
    assert!(verdict.status.success() && said.is_empty(), "promtool: {said}");
    assert!(served.end().success());
}
