//! The real transport against servers that misbehave.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipeline_contract::testkit::{TestClock, ports, run_context};
use pipeline_contract::{Act, Category, Clock, RunContext, Secret, StageError, Transport, TransportFault, async_trait};
use pipeline_http::{ConnectTimeout, HeaderName, HttpClient, HttpConfig, ReqwestTransport};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// The real clock, as far as these tests need it.
#[derive(Debug)]
struct RealClock(std::time::Instant);

#[async_trait]
impl Clock for RealClock {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        chrono::Utc::now()
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

fn run() -> RunContext {
    run_context(ports(Arc::new(RealClock(std::time::Instant::now())), Arc::new(ReqwestTransport::new())))
}

fn once() -> HttpConfig {
    HttpConfig { retries: 0, ..HttpConfig::default() }
}

async fn get(url: &str, config: &HttpConfig) -> Result<Value, StageError> {
    HttpClient::new(url, config).unwrap().get_json(&run(), &["x"], &[]).await
}

/// A server that reads each request's head and then does `answer`.
async fn server<F: Future<Output = ()> + Send>(answer: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            answer(socket).await;
        }
    });
    url
}

async fn says(text: impl Into<Vec<u8>>) -> String {
    let text: Vec<u8> = text.into();
    server(move |mut socket| {
        let text = text.clone();
        async move {
            // A client that has had enough hangs up.
            let _ = socket.write_all(&text).await;
        }
    })
    .await
}

fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
}

fn gzip_answer(body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

#[tokio::test]
async fn an_answer() {
    let url = says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]").await;
    assert_eq!(get(&url, &once()).await.unwrap(), serde_json::json!([1]));
}

#[tokio::test]
async fn gzip_is_asked_for_and_undone() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/x"))
        .and(header("accept-encoding", "gzip"))
        .respond_with(ResponseTemplate::new(200).insert_header("content-encoding", "gzip").set_body_bytes(gzipped(b"[1, 2]")))
        .mount(&server)
        .await;
    assert_eq!(get(&server.uri(), &once()).await.unwrap(), serde_json::json!([1, 2]));
}

#[tokio::test]
async fn the_cap_holds_for_what_a_bomb_unfolds_to() {
    let bomb = gzipped(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 100_000, "it looks harmless: {}", bomb.len());
    let url = says(gzip_answer(&bomb)).await;
    let error = get(&url, &HttpConfig { max_body: 1 << 20, ..once() }).await.unwrap_err();
    assert!(error.message.contains("body larger than 1 MiB"), "{error}");
}

#[tokio::test]
async fn a_bomb_in_a_bomb_is_undone_once() {
    let inner = gzipped(&vec![b' '; 64 << 20]);
    let outer = gzipped(&inner);
    let url = says(gzip_answer(&outer)).await;
    let config = HttpConfig { max_body: inner.len() as u64, ..once() };
    let error = get(&url, &config).await.unwrap_err();
    assert!(error.message.contains("expected value at line 1 column 1"), "the inner one is a body that is no JSON: {error}");
    // However often the headers say it.
    let twice = String::from_utf8_lossy(&gzip_answer(b"")).replace("gzip", "gzip, gzip").replace("Length: 0", &format!("Length: {}", outer.len()));
    let url = says([twice.as_bytes(), &outer].concat()).await;
    let error = get(&url, &config).await.unwrap_err();
    assert!(error.message.len() < 1000, "{error}");
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    for headers in [format!("x: {}\r\n", "y".repeat(4 << 20)), "x: y\r\n".repeat(100_000)] {
        let url = says(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 3\r\n\r\n[1]")).await;
        let error = get(&url, &once()).await.unwrap_err();
        assert_eq!(error.category, Category::Network, "{error}");
        assert!(error.message.len() < 1000 && error.message.contains("message head is too large"), "{error}");
    }
}

#[tokio::test]
async fn nesting_without_end_is_a_body_that_is_no_json() {
    let body = "[".repeat(1 << 20);
    let url = says(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    let error = get(&url, &once()).await.unwrap_err();
    assert!(error.message.contains("recursion limit exceeded") && error.message.len() < 1000, "{error}");
}

#[tokio::test]
async fn a_damaged_body_is_passing() {
    let mut whole = gzipped(&(0..=255).collect::<Vec<u8>>());
    whole.truncate(60);
    let url = says(gzip_answer(&whole)).await;
    let error = get(&url, &once()).await.unwrap_err();
    assert!(error.is_transient() && error.category == Category::Network, "{error}");
}

#[tokio::test]
async fn a_body_cut_short_is_passing() {
    let url = says("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n[1,2]").await;
    let error = get(&url, &once()).await.unwrap_err();
    assert!(error.is_transient() && error.category == Category::Network, "{error}");
    assert!(error.message.contains("end of file"), "{error}");
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_is_passing() {
    let url = says("").await;
    let error = get(&url, &once()).await.unwrap_err();
    assert!(error.is_transient() && error.category == Category::Network, "{error}");
}

#[tokio::test]
async fn a_reset_is_told() {
    let url = server(|socket| async move {
        // Closing with a linger of zero sends a reset.
        socket.set_zero_linger().unwrap();
    })
    .await;
    let error = get(&url, &once()).await.unwrap_err();
    assert_eq!((error.category, error.is_transient()), (Category::Network, true));
    assert!(error.message.ends_with("/x: the connection was reset (1 attempt)"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = get(&format!("http://{address}"), &once()).await.unwrap_err();
    assert!(error.message.ends_with("/x: connection refused (1 attempt)"), "{error}");
    let error = get("http://no-such-host.invalid", &once()).await.unwrap_err();
    assert!(error.message.contains("could not be resolved") && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_stalled_head_or_body_ends_in_time() {
    for head in ["", "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n[1,"] {
        let url = server(move |mut socket| async move {
            socket.write_all(head.as_bytes()).await.unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(60)).await;
                drop(socket);
            });
        })
        .await;
        let begun = std::time::Instant::now();
        let config = HttpConfig { timeout: pipeline_contract::HumanDuration(Duration::from_millis(300)), ..once() };
        let error = get(&url, &config).await.unwrap_err();
        assert!(error.message.contains("timed out after 300 ms"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_silent_address_fails_within_the_connect_timeout() {
    // A listener whose queue is full takes no connection and refuses none.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue never fills");
    }
    let request = http::Request::get(format!("http://{address}/")).extension(ConnectTimeout(Duration::from_millis(200)));
    let answer = ReqwestTransport::new().send(request.body(Bytes::new()).unwrap(), Duration::from_secs(30)).await;
    let error = answer.err().unwrap();
    assert_eq!((error.fault, error.message.as_str()), (TransportFault::Timeout, "no connection within 200 ms"));
}

#[tokio::test]
async fn a_redirect_within_the_host_is_followed() {
    let server = MockServer::start().await;
    Mock::given(path("/x")).respond_with(ResponseTemplate::new(302).insert_header("location", "/y")).mount(&server).await;
    Mock::given(path("/y")).respond_with(ResponseTemplate::new(200).set_body_string("7")).mount(&server).await;
    assert_eq!(get(&server.uri(), &once()).await.unwrap(), 7);
}

#[tokio::test]
async fn redirects_without_end_are_not() {
    let server = MockServer::start().await;
    Mock::given(path("/x")).respond_with(ResponseTemplate::new(302).insert_header("location", "/x")).mount(&server).await;
    let error = get(&server.uri(), &HttpConfig::default()).await.unwrap_err();
    assert!(error.message.contains("for ever") && error.act == Act::Operator, "{error}");
    assert_eq!(server.received_requests().await.unwrap().len(), 6);
}

#[tokio::test]
async fn the_key_follows_no_redirect_to_another_host() {
    let (server, elsewhere) = (MockServer::start().await, MockServer::start().await);
    let target = format!("{}/y", elsewhere.uri());
    Mock::given(path("/x"))
        .and(header("x-key", "secret"))
        .respond_with(ResponseTemplate::new(302).insert_header("location", target))
        .mount(&server)
        .await;
    let client = HttpClient::new(&server.uri(), &HttpConfig::default()).unwrap();
    let client = client.key(HeaderName::from_static("x-key"), &Secret::new("secret")).unwrap();
    let error = client.get(&run(), &["x"], &[]).await.unwrap_err();
    assert_eq!(error.act, Act::Operator);
    assert!(error.message.contains(&format!("{} redirects to {}, which is another host", server.uri(), elsewhere.uri())), "{error}");
    assert_eq!(server.received_requests().await.unwrap().len(), 1, "and it is not tried again");
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

/// A client that follows redirects on the terms of the HTTP library strips `Authorization` and `Cookie`, and sends any other header on.
#[tokio::test]
async fn no_redirect_to_another_origin_is_followed_whatever_its_kind_and_place() {
    let (server, elsewhere) = (MockServer::start().await, MockServer::start().await);
    let port = server.address().port();
    let targets = [
        format!("{}/y?x-key=secret-key", elsewhere.uri()),
        format!("//{}/y", elsewhere.address()),
        format!("http://localhost:{port}/y"),
        format!("http://127.0.0.2:{port}/y"),
        format!("https://127.0.0.1:{port}/y"),
        format!("http://127.0.0.1:{port}@{}/y", elsewhere.address()),
    ];
    for (n, target) in targets.iter().enumerate() {
        for status in [301, 302, 303, 307, 308] {
            for chain in [false, true] {
                server.reset().await;
                let first = if chain { "/z" } else { target };
                Mock::given(path("/x")).respond_with(ResponseTemplate::new(status).insert_header("location", first)).mount(&server).await;
                Mock::given(path("/z")).respond_with(ResponseTemplate::new(status).insert_header("location", target.as_str())).mount(&server).await;
                // It would send the request back, whole.
                let back = ResponseTemplate::new(302).insert_header("location", format!("{}/end", server.uri()));
                Mock::given(path("/y")).respond_with(back).mount(&elsewhere).await;
                Mock::given(path("/end")).respond_with(ResponseTemplate::new(200).set_body_string("7")).mount(&server).await;

                for key in [HeaderName::from_static("x-cg-pro-api-key"), HeaderName::from_static("authorization")] {
                    let client = HttpClient::new(&server.uri(), &HttpConfig::default()).unwrap();
                    let client = client.key(key, &Secret::new("secret-key")).unwrap();
                    let error = client.get(&run(), &["x"], &[]).await.unwrap_err();
                    assert_eq!((error.act, error.category), (Act::Operator, Category::Network), "{n} {status}: {error}");
                    assert!(error.message.contains("which is another host") && !error.message.contains("secret-key"), "{error}");
                }
                assert!(elsewhere.received_requests().await.unwrap().is_empty(), "{target} was asked");
            }
        }
    }
}

#[tokio::test]
async fn a_location_that_is_no_url_is_no_way_to_leak() {
    for location in
        ["http://[", "ftp://127.0.0.1/secret-key", "javascript:alert(1)", "http://secret-key:x@127.0.0.1:1/", "http://Secret-Key.invalid/"]
    {
        let url = says(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")).await;
        let client = HttpClient::new(&url, &once()).unwrap().key(HeaderName::from_static("x-key"), &Secret::new("secret-key")).unwrap();
        let error = client.get(&run(), &["x"], &[]).await.unwrap_err();
        assert!(!error.message.contains("secret-key"), "{location}: {error}");
        assert_eq!(error.act, Act::Operator, "{location}: {error}");
    }
}

#[tokio::test]
async fn tls_that_is_none_is_for_the_operator() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    let error = get(&url, &once()).await.unwrap_err();
    assert_eq!((error.act, error.category), (Act::Operator, Category::Network), "{error}");
    assert!(error.message.contains("no secure connection"), "{error}");
}

#[tokio::test]
async fn retries_reach_the_server_again() {
    let server = MockServer::start().await;
    Mock::given(path("/x")).respond_with(ResponseTemplate::new(503)).up_to_n_times(2).with_priority(1).mount(&server).await;
    Mock::given(path("/x")).respond_with(ResponseTemplate::new(200).set_body_string("7")).mount(&server).await;
    // The network is real, the waits between attempts are not; so the timeout must be longer than any scheduling.
    let clock = TestClock::new(chrono::DateTime::UNIX_EPOCH);
    #[derive(Debug)]
    struct Quick(Arc<TestClock>);
    #[async_trait]
    impl Clock for Quick {
        fn now(&self) -> chrono::DateTime<chrono::Utc> {
            self.0.now()
        }
        fn monotonic(&self) -> Duration {
            self.0.monotonic()
        }
        async fn sleep(&self, duration: Duration) {
            if duration >= Duration::from_secs(30) { std::future::pending().await } else { self.0.sleep(duration).await }
        }
    }
    let run = run_context(ports(Arc::new(Quick(clock)), Arc::new(ReqwestTransport::new())));
    let value: Value = HttpClient::new(&server.uri(), &HttpConfig::default()).unwrap().get_json(&run, &["x"], &[]).await.unwrap();
    assert_eq!(value, 7);
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
}
