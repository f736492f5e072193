//! `[notify]`: who is told what, by the binary, to a webhook that is there or is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{On, Recipe, Reply, Room, Server};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const FILE: &str = "candles.toml";
const PATH: &str = "/services/T0/s3cret";

/// A webhook, and the thread that it lives on.
struct Webhook {
    runtime: tokio::runtime::Runtime,
    server: MockServer,
}

impl Webhook {
    fn answering(answer: ResponseTemplate) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(async {
            let server = MockServer::start().await;
            Mock::given(any()).respond_with(answer).mount(&server).await;
            server
        });
        Self { runtime, server }
    }

    /// What it was told, in order.
    fn told(&self) -> Vec<Value> {
        let requests = self.runtime.block_on(self.server.received_requests()).unwrap();
        assert!(requests.iter().all(|request| request.method.as_str() == "POST" && request.url.path() == PATH));
        requests.iter().map(|request| request.body_json().unwrap()).collect()
    }

    fn room(&self, server: &Server, recipe: &Recipe, more: &str) -> Room {
        let room = Room::new(server).env("WEBHOOK", &format!("{}{PATH}", self.server.uri()));
        room.write(FILE, &format!("{}\n[notify]\nurl = \"${{WEBHOOK:?}}\"\n{more}\n", recipe.toml()));
        room
    }
}

fn events(told: &[Value]) -> Vec<&str> {
    told.iter().map(|message| message["event"].as_str().unwrap()).collect()
}

#[test]
fn a_failure_and_its_end_are_told_once_each_over_processes() {
    let server = Server::start();
    let webhook = Webhook::answering(ResponseTemplate::new(200));
    let room = webhook.room(&server, &Recipe::new().coins(&["bitcoin"]).http("retries = 0"), "");
    room.once(FILE).exits(0);
    assert_eq!(events(&webhook.told()), [] as [&str; 0], "what is well is no news");
    server.fault(On::everything(), Reply::status(500, "out of order"));
    room.once(FILE).exits(1);
    room.once(FILE).exits(1);
    server.behave();
    room.once(FILE).exits(0);
    room.once(FILE).exits(0);
    let told = webhook.told();
    assert_eq!(events(&told), ["failed", "recovered"], "the second failure falls into the quiet period");
    let failed = &told[0];
    assert_eq!(failed["pipeline"], "candles");
    assert!(failed["message"].as_str().unwrap().contains("server_error"), "{failed}");
    assert_eq!(failed["report"]["last_run"]["status"], "failed");
    assert_eq!(failed["status"], "degraded");
}

#[test]
fn a_webhook_that_is_out_of_order_costs_a_warning_and_no_run() {
    let server = Server::start();
    let webhook = Webhook::answering(ResponseTemplate::new(404).set_body_string("no_service s3cret"));
    let room = webhook.room(&server, &Recipe::new().coins(&["bitcoin", "gone"]), "format = \"slack\"");
    let outcome = room.once(FILE);
    outcome.exits(3).complains("127.0.0.1 answered 404 (it does not know this webhook)").complains("pipeline notify");
    assert!(!outcome.stderr.contains("s3cret"), "{}", outcome.stderr);
    assert!(room.hours("bitcoin").len() > 20);
    let text = webhook.told()[0]["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("*candles* failed\n1 of 2 splits failed: client_error: "), "{text}");
}

#[test]
fn a_webhook_that_hangs_holds_up_neither_ticks_nor_the_end() {
    let server = Server::start();
    server.fault(On::everything(), Reply::status(500, "out of order"));
    let webhook = Webhook::answering(ResponseTemplate::new(200).set_delay(Duration::from_secs(60)));
    let recipe = Recipe::new().coins(&["bitcoin"]).http("retries = 0").trigger("type = \"interval\"\nevery = \"1s\"").run("deadline = \"30s\"");
    let room = webhook.room(&server, &recipe, "");
    let running = room.start(&["run", FILE]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while webhook.told().is_empty() || server.count("ohlc") < 4 {
        assert!(Instant::now() < deadline, "{} messages, {} requests", webhook.told().len(), server.count("ohlc"));
        std::thread::sleep(Duration::from_millis(20));
    }
    running.signal("TERM");
    running.end_within(Duration::from_secs(8)).exits(0);
}

#[test]
fn a_message_can_be_tried_out() {
    let server = Server::start();
    let webhook = Webhook::answering(ResponseTemplate::new(204));
    let room = webhook.room(&server, &Recipe::new(), "format = \"discord\"\non = [\"stale\"]");
    room.pipeline(&["notify", FILE]).exits(0).prints("127.0.0.1: the message arrived");
    assert!(webhook.told()[0]["content"].as_str().unwrap().contains("messages arrive"));
    let room = room.env("WEBHOOK", &format!("{}{PATH}", support::nobody_listens()));
    let outcome = room.pipeline(&["notify", FILE]);
    outcome.exits(1).complains("127.0.0.1: nobody answers there");
    assert!(!outcome.stderr.contains("s3cret"), "{}", outcome.stderr);
    room.write(FILE, &Recipe::new().toml());
    room.pipeline(&["notify", FILE]).exits(2).complains("nobody is told");
}
