//! The client's rules, in virtual time against a scripted far side.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pipeline_contract::testkit::{Answer, TestBudget, TestClock, TestTransport, ports, run_context};
use pipeline_contract::{
    Act, Body, Budget, BudgetLimits, BudgetScope, Category, Clock, RunContext, Secret, StageError, Transport, TransportError, TransportFault,
    async_trait,
};
use pipeline_http::{ClientFault, HeaderName, HttpClient, HttpConfig};
use serde_json::Value;

const KEY: &str = "CG-top-secret-key";

struct World {
    clock: Arc<TestClock>,
    transport: Arc<TestTransport>,
    run: RunContext,
}

fn world(transport: Arc<TestTransport>) -> World {
    let clock = TestClock::new("2026-03-09T03:27:00Z".parse().unwrap());
    World { run: run_context(ports(clock.clone(), transport.clone())), clock, transport }
}

fn answers(answers: impl IntoIterator<Item = Answer>) -> World {
    world(TestTransport::in_turn(answers))
}

fn always(answer: Answer) -> World {
    world(TestTransport::new(move |_| answer.clone()))
}

fn client() -> HttpClient {
    let client = HttpClient::new("https://api.example.com/v1/", &HttpConfig::default()).unwrap();
    client.key(HeaderName::from_static("x-key"), &Secret::new(KEY)).unwrap()
}

impl World {
    async fn get(&self, client: &HttpClient) -> Result<Value, StageError> {
        client.get_json(&self.run, &["coins", "bit coin/../x", "ohlc"], &[("days", "1"), ("ids", "a,b")]).await
    }

    async fn fails(&self) -> StageError {
        self.get(&client()).await.unwrap_err()
    }

    fn elapsed(&self) -> Duration {
        self.clock.monotonic()
    }

    fn attempts(&self) -> usize {
        self.transport.asked().len()
    }
}

#[tokio::test]
async fn what_is_sent() {
    let world = answers([Answer::ok("[1]")]);
    assert_eq!(world.get(&client()).await.unwrap(), serde_json::json!([1]));
    assert_eq!(world.transport.asked(), ["/v1/coins/bit%20coin%2F..%2Fx/ohlc?days=1&ids=a%2Cb"]);
    let requests = world.transport.requests.lock().unwrap();
    let headers = requests[0].headers();
    assert_eq!(headers["x-key"], KEY);
    assert!(headers["x-key"].is_sensitive());
    assert_eq!(headers["accept"], "application/json");
    let agent = headers["user-agent"].to_str().unwrap();
    assert!(agent.starts_with("pipeline/") && agent.ends_with("(+https://github.com/pipeline-engine/pipeline)"), "{agent}");
    assert!(!format!("{:?} {:?}", requests[0], client()).contains(KEY));
}

#[tokio::test]
async fn a_path_cannot_lead_elsewhere() {
    let world = answers([]);
    for segment in ["", ".", ".."] {
        let error = client().get(&world.run, &["coins", segment], &[]).await.unwrap_err();
        assert_eq!(error.act, Act::Split, "{error}");
    }
    assert_eq!(world.attempts(), 0);
}

#[tokio::test]
async fn what_time_heals_is_tried_again() {
    let faults = [TransportFault::Connect, TransportFault::Timeout, TransportFault::Broken].map(Answer::Fault);
    let statuses = [408, 425, 429, 500, 502, 503, 504, 520].map(|status| Answer::status(status, "busy"));
    let bodies = [Answer::ok("[1"), Answer::ok(""), Answer::ok("<html>x</html>"), Answer::Cut(200, b"[1".to_vec())];
    for answer in faults.into_iter().chain(statuses).chain(bodies) {
        let world = answers([answer.clone(), answer.clone(), Answer::ok("7")]);
        assert_eq!(world.get(&client()).await.unwrap(), 7, "{answer:?}");
        assert_eq!(world.attempts(), 3);
    }
}

#[tokio::test]
async fn what_time_does_not_heal_is_not_tried_again() {
    for answer in [301, 400, 401, 403, 404, 410, 422].map(|status| Answer::status(status, "no")) {
        let world = always(answer.clone());
        assert!(!world.fails().await.is_transient(), "{answer:?}");
        assert_eq!(world.attempts(), 1, "{answer:?}");
    }
    for fault in [TransportFault::Tls, TransportFault::Request] {
        let world = always(Answer::Fault(fault));
        let error = world.fails().await;
        assert_eq!((error.act, error.category, world.attempts()), (Act::Operator, Category::Network, 1));
    }
}

#[tokio::test]
async fn it_gives_up_after_the_retries_and_says_what_happened() {
    let world = always(Answer::status(503, r#"{"error":"down for repair"}"#));
    let error = world.fails().await;
    assert_eq!((error.category, error.act), (Category::ServerError, Act::Time { retry_after: None }));
    assert_eq!(
        error.message,
        "GET https://api.example.com/v1/coins/bit%20coin%2F..%2Fx/ohlc?days=1&ids=a%2Cb: 503 Service Unavailable: down for repair (5 attempts)"
    );
    assert_eq!(world.attempts(), 5);
    assert!(world.elapsed() <= Duration::from_millis(500 + 1000 + 2000 + 4000), "{:?}", world.elapsed());

    let config = HttpConfig { retries: 0, ..HttpConfig::default() };
    let world = always(Answer::Fault(TransportFault::Connect));
    let error = world.get(&HttpClient::new("https://api.example.com", &config).unwrap()).await.unwrap_err();
    assert!(error.message.ends_with("ohlc?days=1&ids=a%2Cb: scripted fault: Connect (1 attempt)"), "{error}");
    assert_eq!((world.attempts(), world.elapsed()), (1, Duration::ZERO));
}

#[tokio::test]
async fn hints_are_waited_for() {
    let cases = [
        (Answer::status(429, "").header("Retry-After", "119"), 119),
        (Answer::status(503, "").header("Retry-After", "119"), 119),
        (Answer::status(429, "").header("Retry-After", "Mon, 09 Mar 2026 03:28:10 GMT"), 70),
        (Answer::status(429, "").header("x-ratelimit-reset", "2026-03-09 03:28:00 +0000"), 60),
        (Answer::status(429, "").header("x-ratelimit-reset", "1773026880"), 60),
        (Answer::status(429, "").header("x-ratelimit-reset", "1773026880000"), 60),
        (Answer::status(429, "").header("x-ratelimit-reset", "45"), 45),
    ];
    for (answer, seconds) in cases {
        let world = answers([answer.clone(), Answer::ok("7")]);
        world.get(&client()).await.unwrap();
        let (least, waited) = (Duration::from_secs(seconds), world.elapsed());
        assert!(waited >= least && waited <= least + Duration::from_secs(1), "{answer:?}: {waited:?}");
    }
}

#[tokio::test]
async fn garbage_hints_are_not() {
    for value in ["-5", "soon", "999999999", "Mon, 09 Mar 2099 03:28:10 GMT", "0", ""] {
        let world = answers([Answer::status(429, "").header("retry-after", value), Answer::ok("7")]);
        world.get(&client()).await.unwrap();
        let waited = world.elapsed();
        assert!(waited >= Duration::from_millis(2500) && waited <= Duration::from_secs(5), "{value:?}: {waited:?}");
    }
    let world = answers([Answer::status(500, "").header("x-ratelimit-reset", "45"), Answer::ok("7")]);
    world.get(&client()).await.unwrap();
    assert!(world.elapsed() < Duration::from_millis(500), "a quota's renewal is no hint for an internal error");
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let mut world = always(Answer::status(429, "slow down").header("retry-after", "119"));
    world.run.deadline = Some(Duration::from_secs(60));
    let error = world.fails().await;
    assert_eq!((world.attempts(), world.elapsed()), (1, Duration::ZERO));
    assert_eq!((error.category, error.act), (Category::RateLimit, Act::Time { retry_after: Some(Duration::from_secs(119)) }));
    assert!(error.message.contains("429 Too Many Requests: slow down (1 attempt; gave up, as the next could be sent in 119"), "{error}");

    let mut world = always(Answer::status(429, "").header("retry-after", "119"));
    world.run.deadline = Some(Duration::from_secs(300));
    world.fails().await;
    assert_eq!(world.attempts(), 3);

    let world = always(Answer::status(429, "").header("retry-after", "7200"));
    assert_eq!(world.fails().await.act, Act::Time { retry_after: Some(Duration::from_secs(7200)) });
    assert_eq!(world.attempts(), 1);
}

#[tokio::test]
async fn nothing_is_sent_after_the_deadline() {
    let mut world = always(Answer::ok("1"));
    world.run.deadline = Some(Duration::ZERO);
    let error = world.fails().await;
    assert!(error.message.contains("deadline") && error.is_transient(), "{error}");
    assert_eq!(world.attempts(), 0);
}

/// A far side that never answers, or whose body never ends.
struct Stalled {
    body: bool,
}

struct StalledBody(Option<Bytes>);

#[async_trait]
impl Body for StalledBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        match self.0.take() {
            Some(bytes) => Ok(Some(bytes)),
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Transport for Stalled {
    async fn send(&self, _: http::Request<Bytes>, _: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        if self.body { Ok(http::Response::new(Box::new(StalledBody(Some(Bytes::from("[1,")))))) } else { std::future::pending().await }
    }
}

#[tokio::test]
async fn one_time_covers_head_and_body() {
    for body in [false, true] {
        let clock = TestClock::new("2026-03-09T03:27:00Z".parse().unwrap());
        let mut run = run_context(ports(clock.clone(), Arc::new(Stalled { body })));
        let config = HttpConfig { retries: 1, ..HttpConfig::default() };
        let client = HttpClient::new("https://api.example.com", &config).unwrap();
        let error = client.get(&run, &["x"], &[]).await.unwrap_err();
        assert_eq!(error.message, "GET https://api.example.com/x: timed out after 30 s (2 attempts)");
        assert_eq!(error.category, Category::Network);
        assert!(clock.monotonic() >= Duration::from_secs(60) && clock.monotonic() < Duration::from_secs(61));

        run.deadline = Some(clock.monotonic() + Duration::from_secs(7));
        let error = client.get(&run, &["x"], &[]).await.unwrap_err();
        assert!(error.message.contains("timed out after 7 s"), "{error}");
        assert!(clock.monotonic() <= run.deadline.unwrap(), "no request outlives the run");
    }
}

#[tokio::test]
async fn cancelling_ends_a_wait_at_once() {
    /// A clock on which nothing ever passes.
    #[derive(Debug)]
    struct Frozen;
    #[async_trait]
    impl Clock for Frozen {
        fn now(&self) -> chrono::DateTime<chrono::Utc> {
            chrono::DateTime::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
        async fn sleep(&self, _: Duration) {
            std::future::pending().await
        }
    }
    let transports: [Arc<dyn Transport>; 3] =
        [TestTransport::new(|_| Answer::status(503, "")), Arc::new(Stalled { body: false }), Arc::new(Stalled { body: true })];
    for transport in transports {
        let run = run_context(ports(Arc::new(Frozen), transport));
        let client = client();
        let both = async {
            tokio::join!(client.get(&run, &["x"], &[]), async {
                tokio::task::yield_now().await;
                run.cancel.cancel();
            })
        };
        let (error, ()) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
        assert!(error.unwrap_err().message.contains("cancelled"));
    }
}

#[tokio::test]
async fn a_body_beyond_the_cap_is_refused() {
    let config = HttpConfig { max_body: 1024, ..HttpConfig::default() };
    let client = HttpClient::new("https://api.example.com", &config).unwrap();
    let world = always(Answer::ok(vec![b' '; 1025]));
    let error = world.get(&client).await.unwrap_err();
    assert!(error.message.contains("body larger than 1 KiB"), "{error}");
    assert_eq!((error.act, world.attempts()), (Act::Split, 1));
    let world = always(Answer::ok(format!("{:>1024}", 1)));
    assert_eq!(world.get(&client).await.unwrap(), 1);
}

#[tokio::test]
async fn the_budget_is_asked_before_each_attempt_and_pays_for_200_alone() {
    let mut world = answers([Answer::status(500, ""), Answer::Fault(TransportFault::Broken), Answer::ok("1"), Answer::status(404, "")]);
    let budget = Arc::new(TestBudget::default());
    world.run.ports.budget = budget.clone();
    let limits = BudgetLimits { per_minute: std::num::NonZeroU32::new(25), per_month: Some(10_000) };
    let config = HttpConfig { requests_per_month: Some(5), ..HttpConfig::default() };
    let keyless = HttpClient::new("https://api.example.com:8443/v1", &config).unwrap().default_limits(limits);
    let keyed = keyless.clone().key(HeaderName::from_static("x-key"), &Secret::new(KEY)).unwrap();
    world.get(&keyed).await.unwrap();
    world.get(&keyless).await.unwrap_err();

    let requests = budget.requests.lock().unwrap();
    assert_eq!(requests.len(), 4);
    assert_eq!(budget.credits.load(Ordering::SeqCst), 1);
    for (scope, asked) in requests.iter() {
        assert_eq!(scope.host, "api.example.com:8443");
        assert_eq!(*asked, BudgetLimits { per_month: Some(5), ..limits }, "the config goes before the default");
    }
    let fingerprint = &requests[0].0.key;
    assert!(fingerprint.len() == 8 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()), "{fingerprint}");
    assert_eq!(requests[3].0.key, "keyless");
}

#[tokio::test]
async fn a_used_up_budget_is_the_answer() {
    struct Empty(Mutex<Vec<Duration>>);
    #[async_trait]
    impl Budget for Empty {
        async fn acquire(&self, _: &BudgetScope, _: &BudgetLimits, patience: Duration) -> Result<(), StageError> {
            self.0.lock().unwrap().push(patience);
            Err(StageError::retry_after(Category::RateLimit, Duration::from_secs(9), "the month's quota is used up"))
        }
        fn spend(&self, _: &BudgetScope, _: u64) -> Result<(), StageError> {
            Ok(())
        }
    }
    let mut world = always(Answer::ok("1"));
    let budget = Arc::new(Empty(Mutex::default()));
    world.run.ports.budget = budget.clone();
    world.run.deadline = Some(Duration::from_secs(77));
    let error = world.fails().await;
    assert_eq!(error, StageError::retry_after(Category::RateLimit, Duration::from_secs(9), "the month's quota is used up"));
    assert_eq!((world.attempts(), budget.0.lock().unwrap().as_slice()), (0, &[Duration::from_secs(77)][..]));
}

#[tokio::test]
async fn a_hint_holds_for_everything_that_shares_the_budget() {
    #[derive(Default)]
    struct Held(Mutex<Vec<(BudgetScope, Duration)>>);
    #[async_trait]
    impl Budget for Held {
        async fn acquire(&self, _: &BudgetScope, _: &BudgetLimits, _: Duration) -> Result<(), StageError> {
            Ok(())
        }
        fn spend(&self, _: &BudgetScope, _: u64) -> Result<(), StageError> {
            Ok(())
        }
        fn hold(&self, scope: &BudgetScope, wait: Duration) {
            self.0.lock().unwrap().push((scope.clone(), wait));
        }
    }
    for (answer, held) in [
        (Answer::status(429, "").header("Retry-After", "3"), Some(3)),
        (Answer::status(503, "").header("Retry-After", "4"), Some(4)),
        (Answer::status(429, "").header("x-ratelimit-reset", "45"), Some(45)),
        (Answer::status(429, ""), None),
        (Answer::status(503, ""), None),
        (Answer::status(500, "").header("Retry-After", "3"), None),
    ] {
        let mut world = answers([answer.clone(), Answer::ok("7")]);
        let budget = Arc::new(Held::default());
        world.run.ports.budget = budget.clone();
        world.get(&client()).await.unwrap();
        let holds = budget.0.lock().unwrap();
        let waits: Vec<u64> = holds.iter().map(|(_, wait)| wait.as_secs()).collect();
        assert_eq!(waits, held.into_iter().collect::<Vec<_>>(), "{answer:?}");
        assert!(holds.iter().all(|(scope, _)| scope.host == "api.example.com" && scope.key != "keyless"));
    }
}

#[tokio::test]
async fn a_classifier_goes_before_the_status() {
    let client = client().classify(|response| {
        let body = std::str::from_utf8(&response.body).ok()?;
        match body {
            "throttled" => Some(StageError::transient(Category::RateLimit, "throttled")),
            "wrong key" => Some(StageError::operator(Category::ClientError, "wrong key").help("mend it")),
            _ => None,
        }
    });
    for status in [200, 403, 500] {
        let world = answers([Answer::status(status, "throttled").header("retry-after", "10"), Answer::ok("1")]);
        world.get(&client).await.unwrap();
        assert!(world.elapsed() >= Duration::from_secs(10));
        let world = always(Answer::status(status, "wrong key"));
        let error = world.get(&client).await.unwrap_err();
        assert_eq!((error.act, world.attempts(), error.help.as_deref()), (Act::Operator, 1, Some("mend it")));
    }
}

#[tokio::test]
async fn a_body_of_another_shape_is_asked_for_again() {
    let world = answers([Answer::ok("{}"), Answer::ok("[1]")]);
    let rows: Vec<u8> = client().get_json(&world.run, &["x"], &[]).await.unwrap();
    assert_eq!(rows, [1]);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_key_is_in_no_message_and_no_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing_subscriber::filter::LevelFilter::TRACE).with_writer(move || writer.clone());
    // For the whole process: one for this thread alone hears nothing of a place that another thread reached first.
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let echo = format!("{}your key {KEY} is {KEY}", "x".repeat(180));
    for status in [200, 400, 401, 503] {
        for body in [echo.clone(), format!(r#"{{"error":"{echo}"}}"#), format!(r#"{{"error":"bad {KEY}"}}"#), format!("<p>{KEY}</p>")] {
            let world = always(Answer::status(status, body));
            let error = client().get_json::<u8>(&world.run, &["x"], &[]).await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(KEY) && !shown.contains("CG-top-"), "{shown}");
        }
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("trying again") && log.contains("attempt=4") && log.contains("api.example.com"), "{log}");
    assert!(!log.contains(KEY) && !log.contains("CG-top-"), "{log}");
}

#[tokio::test]
async fn an_echo_of_the_key_reaches_neither_rows_nor_headers_nor_a_classifier() {
    let client = client().classify(|response| {
        assert!(!String::from_utf8_lossy(&response.body).contains(KEY) && !format!("{:?}", response.headers).contains(KEY));
        None
    });
    let body = format!(r#"{{"name":"coin {KEY}","url":"/?k=%43{}&n=1","id":7}}"#, &KEY[1..]);
    let world = always(Answer::ok(body).header("x-echo", KEY));
    let response = client.get(&world.run, &["x"], &[]).await.unwrap();
    assert_eq!(response.json::<Value>().unwrap(), serde_json::json!({"name": "coin ***", "url": "/?k=***&n=1", "id": 7}));
    assert_eq!(response.headers["x-echo"], "***");
}

#[tokio::test]
async fn a_key_that_is_no_secret_spoils_no_data() {
    let client = HttpClient::new("https://api.example.com", &HttpConfig::default()).unwrap();
    let client = client.key(HeaderName::from_static("x-key"), &Secret::new("12")).unwrap();
    let world = answers([Answer::ok(r#"[12, 112.12, "12"]"#), Answer::status(404, "no key 12 in 1212")]);
    assert_eq!(world.get(&client).await.unwrap(), serde_json::json!([12, 112.12, "12"]));
    let error = world.get(&client).await.unwrap_err();
    assert!(error.message.contains("no key *** in 1212"), "{error}");
}

#[test]
fn a_key_goes_over_plain_http_to_this_machine_or_a_named_host_alone() {
    let header = HeaderName::from_static("x-key");
    let with = |url: &str, allow: &[&str]| {
        let config = HttpConfig { allow_insecure_key: allow.iter().map(ToString::to_string).collect(), ..HttpConfig::default() };
        HttpClient::new(url, &config).unwrap().key(header.clone(), &Secret::new(KEY))
    };
    for url in [
        "https://a.example",
        "http://localhost:1",
        "http://LocalHost",
        "http://127.0.0.1:1",
        "http://127.0.0.2",
        "http://127.1",
        "http://2130706433",
        "http://[::1]:1",
    ] {
        assert!(with(url, &[]).is_ok(), "{url}");
    }
    let elsewhere = [
        "http://a.example",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://[::]",
        "http://[::ffff:127.0.0.1]",
        "http://128.0.0.1",
        "http://localhost.example",
        "http://localhost.evil.com",
        "http://localhost.",
        "http://api.localhost",
        "http://127.0.0.1.nip.io",
        "http://127.0.0.1%2eevil.com",
    ];
    for url in elsewhere {
        let fault = with(url, &["evil.com", "example", "0.0.1", ""]).unwrap_err();
        assert!(matches!(fault, ClientFault::InsecureKey { .. }), "{url}");
        assert!(fault.help().contains("allow_insecure_key"));
        let ClientFault::InsecureKey { host } = fault else { unreachable!() };
        assert!(with(url, &[&host]).is_ok(), "as the help says: {host}");
    }
    assert!(with("http://proxy.internal:3128", &["PROXY.internal"]).is_ok());
    // What stands before an `@` is a name, not a host.
    for url in ["http://127.0.0.1@evil.com", "http://localhost:80@evil.com", "http://a:b@127.0.0.1"] {
        let fault = HttpClient::new(url, &HttpConfig::default()).unwrap_err();
        assert!(matches!(fault, ClientFault::BaseUrl(_)) && fault.to_string().contains("a name or password has no place"), "{url}: {fault}");
    }
    let client = HttpClient::new("http://a.example", &HttpConfig::default()).unwrap();
    assert!(client.clone().key(header.clone(), &Secret::default()).is_ok(), "no key, no harm");
    for key in ["line\nbreak", "line\r\nX-Evil: 1", "schlüssel-geheim", "nul\0nul", "\u{7f}delete"] {
        let fault = HttpClient::new("https://a.example", &HttpConfig::default()).unwrap().key(header.clone(), &Secret::new(key)).unwrap_err();
        assert_eq!(fault, ClientFault::Key, "{key:?}");
        assert!(!format!("{fault} {fault:?} {}", fault.help()).contains(key));
    }
}

#[test]
fn options_that_make_no_sense_are_faults() {
    for url in ["", "api.example.com", "ftp://a.example", "https://", "https://u:p@a.example", "https://a.example/?key=1", "https://a.example/#x"] {
        assert!(matches!(HttpClient::new(url, &HttpConfig::default()), Err(ClientFault::BaseUrl(_))), "{url}");
    }
    let odd = [
        HttpConfig { user_agent: String::new(), ..HttpConfig::default() },
        HttpConfig { user_agent: "line\nbreak".into(), ..HttpConfig::default() },
        HttpConfig { max_body: 0, ..HttpConfig::default() },
        HttpConfig { retries: 21, ..HttpConfig::default() },
        HttpConfig { timeout: pipeline_contract::HumanDuration(Duration::ZERO), ..HttpConfig::default() },
        HttpConfig { connect_timeout: pipeline_contract::HumanDuration(Duration::ZERO), ..HttpConfig::default() },
    ];
    for config in odd {
        assert!(matches!(HttpClient::new("https://a.example", &config), Err(ClientFault::Option { .. })), "{config:?}");
    }
}
