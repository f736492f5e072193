use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::testkit::{Answer, TestClock, TestTransport, ports};
use pipeline_contract::{Clock, Secret};
use serde_json::{Value, json};

use super::*;
use crate::state::{Counts, ModelStore, Store};
use crate::watch::{Data, Gaps, Health, LastRun, Reason, Report};

fn at(hours: i64) -> DateTime<Utc> {
    "2026-05-19T15:20:00Z".parse::<DateTime<Utc>>().unwrap() + chrono::Duration::hours(hours)
}

fn target() -> Target {
    Target {
        url: Secret::new("https://hooks.example.com/services/T0/B0/s3cret"),
        host: "hooks.example.com".to_owned(),
        token: None,
        shape: Shape::Json,
        on: Event::ALL.to_vec(),
        quiet: Duration::from_secs(6 * 3600),
    }
}

fn report(run: i64, reasons: &[(&'static str, &str)]) -> Report {
    let reasons: Vec<_> = reasons
        .iter()
        .map(|(code, message)| Reason {
            code,
            health: if *code == "stale" { Health::Unhealthy } else { Health::Degraded },
            message: (*message).to_owned(),
        })
        .collect();
    let last_run = LastRun {
        run_id: format!("crypto@{run}"),
        status: "ok",
        cause: "schedule".to_owned(),
        started_at: at(run),
        ended_at: Some(at(run)),
        rows: Counts::default(),
        error: None,
    };
    Report {
        pipeline: "crypto".to_owned(),
        status: reasons.iter().map(|reason| reason.health).max().unwrap_or_default(),
        reasons,
        last_run: Some(last_run),
        last_success: None,
        consecutive_failures: 0,
        next_tick: None,
        data: Some(Data { time_column: "timestamp".to_owned(), newest: at(run - 1), age_seconds: 3600, max_age_seconds: None, stale: false }),
        gaps: Some(Gaps { count: 0, missing: 0, oldest: None, step_seconds: 3600.0 }),
    }
}

/// Looks once an hour, as one report an hour has it; answers what was told, hour by hour.
fn told(target: &Target, reports: impl IntoIterator<Item = Report>) -> Vec<(usize, String)> {
    let mut memory = Memory::default();
    let mut told = Vec::new();
    for (hour, report) in reports.into_iter().enumerate() {
        let (news, next) = decide(&report, &memory, target, at(hour as i64));
        told.extend(news.iter().map(|one| (hour, one.event.name().to_owned())));
        memory = next;
    }
    told
}

fn words(told: &[(usize, String)]) -> Vec<(usize, &str)> {
    told.iter().map(|(hour, event)| (*hour, event.as_str())).collect()
}

#[test]
fn a_failure_is_told_once_in_a_quiet_period_and_its_end_at_once() {
    let reports = (0..10).map(|hour| report(hour, if (1..9).contains(&hour) { &[("failed", "the last run failed: network: x")] } else { &[] }));
    assert_eq!(words(&told(&target(), reports)), [(1, "failed"), (7, "failed"), (9, "recovered")]);
}

#[test]
fn one_run_is_told_once_however_often_it_is_looked_at() {
    let reports = (0..20).map(|_| report(3, &[("partial", "1 of 3 splits failed")]));
    assert_eq!(words(&told(&target(), reports)), [(0, "failed")]);
}

#[test]
fn a_pipeline_that_flaps_is_told_of_once_in_a_quiet_period() {
    let reports = (0..7).map(|hour| report(hour, if hour % 2 == 0 { &[("failed", "x")] } else { &[] }));
    assert_eq!(words(&told(&target(), reports)), [(0, "failed"), (1, "recovered"), (6, "failed")]);
}

#[test]
fn stale_data_are_told_and_recover_only_when_nothing_else_is_wrong() {
    let mut reports = vec![report(0, &[])];
    reports.push(report(1, &[("stale", "the newest data are old"), ("failed", "x")]));
    reports.push(report(2, &[("stale", "the newest data are old")]));
    reports.push(report(3, &[]));
    assert_eq!(words(&told(&target(), reports)), [(1, "failed"), (1, "stale"), (3, "recovered")]);
}

#[test]
fn more_missing_rows_are_a_new_gap_and_fewer_are_not() {
    let of = |missing: u64| {
        let mut report = report(0, if missing > 0 { &[("gaps", "rows are missing")] } else { &[] });
        report.gaps = Some(Gaps { count: u64::from(missing > 0), missing, oldest: Some(at(-9)), step_seconds: 3600.0 });
        report
    };
    let often = Target { quiet: Duration::ZERO, ..target() };
    assert_eq!(words(&told(&often, [0, 3, 3, 1, 2, 0].map(of))), [(1, "gap"), (4, "gap")]);
    // What came in the quiet period is told after it.
    assert_eq!(words(&told(&target(), [1, 2, 2, 2, 2, 2, 2, 2].map(of))), [(0, "gap"), (6, "gap")]);
}

#[test]
fn only_what_is_asked_for_is_told() {
    let quiet = Target { on: vec![Event::Stale], ..target() };
    let reports = [report(0, &[("failed", "x")]), report(1, &[]), report(2, &[("stale", "old")])];
    assert_eq!(words(&told(&quiet, reports)), [(2, "stale")]);
}

#[test]
fn a_bad_edit_is_no_failure_while_the_old_version_goes_on() {
    assert_eq!(told(&target(), [report(0, &[("config", "its file has errors")])]), []);
    let mut down = report(0, &[("config", "it does not run")]);
    down.reasons[0].health = Health::Unhealthy;
    assert_eq!(words(&told(&target(), [down])), [(0, "failed")]);
}

#[test]
fn a_clock_that_was_stepped_back_silences_nobody() {
    let (_, memory) = decide(&report(9, &[("failed", "x")]), &Memory::default(), &target(), at(9));
    let (news, _) = decide(&report(1, &[("failed", "y")]), &memory, &target(), at(1));
    assert_eq!(news.len(), 1);
}

#[test]
fn the_bodies_are_as_their_webhooks_want_them() {
    let news = News { event: Event::Failed, message: "server_error: <script> @everyone & co".to_owned() };
    let report = report(1, &[("failed", "x")]);
    let slack = shape::body(Shape::Slack, &report, &news, at(1));
    assert_eq!(slack, json!({"text": "*crypto* failed\nserver_error: &lt;script&gt; @everyone &amp; co"}));
    let discord = shape::body(Shape::Discord, &report, &news, at(1));
    assert_eq!(discord, json!({"content": "**crypto** failed\nserver_error: <script> @everyone & co", "allowed_mentions": {"parse": []}}));
    let long = News { message: "é".repeat(5000), ..news.clone() };
    let content = shape::body(Shape::Discord, &report, &long, at(1))["content"].as_str().unwrap().chars().count();
    assert!(content < 2000, "{content}");
    let object = shape::body(Shape::Json, &report, &news, at(1));
    for (field, value) in
        [("event", "failed"), ("pipeline", "crypto"), ("status", "degraded"), ("run_id", "crypto@1"), ("at", "2026-05-19T16:20:00Z")]
    {
        assert_eq!(object[field], Value::from(value), "{field}");
    }
    assert_eq!(object["report"]["data"]["newest"], "2026-05-19T15:20:00Z");
}

struct World {
    clock: Arc<TestClock>,
    transport: Arc<TestTransport>,
    store: Arc<ModelStore>,
}

impl World {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { clock: TestClock::new(at(0)), transport: TestTransport::in_turn(answers), store: Arc::new(ModelStore::new()) }
    }

    /// A notifier as a process has it that starts now.
    fn notifier(&self) -> Notifier {
        let ports = ports(Arc::clone(&self.clock) as Arc<dyn Clock>, Arc::clone(&self.transport) as _);
        Notifier::new(vec![target()], Arc::clone(&self.store) as Arc<dyn Store>, ports)
    }

    fn sent(&self) -> usize {
        self.transport.asked().len()
    }
}

#[tokio::test]
async fn a_message_that_does_not_arrive_is_sent_again_and_then_never_more() {
    let world = World::new([Answer::status(500, ""), Answer::status(429, ""), Answer::status(204, "")]);
    let failed = report(1, &[("failed", "x")]);
    world.notifier().tell(&failed).await;
    assert_eq!(world.sent(), 3, "{:?}", world.transport.asked());
    // A restart: the state remembers.
    world.clock.advance(Duration::from_secs(60));
    world.notifier().tell(&failed).await;
    assert_eq!(world.sent(), 3);
}

#[tokio::test]
async fn a_webhook_that_is_gone_is_asked_once_in_five_minutes_and_the_news_are_not_lost() {
    let world = World::new([Answer::status(404, ""), Answer::status(404, ""), Answer::status(200, "ok")]);
    let (notifier, failed) = (world.notifier(), report(1, &[("failed", "x")]));
    for _ in 0..10 {
        notifier.tell(&failed).await;
        world.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(world.sent(), 2, "at 0 and at 5 minutes");
    notifier.tell(&failed).await;
    assert_eq!(world.sent(), 3);
    assert!(world.store.note(&target().note()).unwrap().is_some(), "told at last, and remembered");
}

#[tokio::test]
async fn trying_out_names_the_host_and_never_the_url() {
    let world = World::new([Answer::status(403, "invalid_token s3cret")]);
    let outcomes = world.notifier().try_out("crypto").await;
    let (host, outcome) = &outcomes[0];
    let error = outcome.as_ref().unwrap_err();
    let text = format!("{host} {error} {:?} {:?}", error.help, target());
    assert!(text.contains("hooks.example.com answered 403 (it does not know this webhook)") && !text.contains("s3cret"), "{text}");
}
