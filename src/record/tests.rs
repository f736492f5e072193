use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::Request;
use pipeline_contract::testkit::{Answer, TestClock, TestTransport, ports};
use pipeline_contract::{Clock, Ports, Transport, TransportError, TransportFault, Window};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn at() -> DateTime<Utc> {
    "2026-05-19T15:37:20Z".parse().unwrap()
}

fn world(answers: impl IntoIterator<Item = Answer>) -> (Ports, Arc<TestTransport>) {
    let far = TestTransport::in_turn(answers);
    (ports(TestClock::new(at()), Arc::clone(&far) as Arc<dyn Transport>), far)
}

fn begin(dir: &TempDir, ports: &Ports) -> Recorder {
    Recorder::begin(dir.path(), Head::new("p", at(), None), ports).unwrap()
}

fn replayed(dir: &TempDir, ports: &Ports) -> Ports {
    Recording::open(dir.path()).unwrap().ports(ports, Duration::from_secs(3600))
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

/// Status and body, and what ended it early.
async fn ask(ports: &Ports, request: Request<Bytes>) -> Result<(u16, String, Option<TransportError>), TransportError> {
    let answer = ports.transport.send(request, Duration::from_secs(5)).await?;
    let (status, mut body, mut text) = (answer.status().as_u16(), answer.into_body(), Vec::new());
    let end = loop {
        match body.chunk().await {
            Ok(Some(piece)) => text.extend_from_slice(&piece),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    Ok((status, String::from_utf8(text).unwrap(), end))
}

const URL: &str = "https://a.example/v1/x?ids=a";

#[tokio::test]
async fn answers_come_back_in_turn_as_they_were_with_their_faults() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world([
        Answer::ok("one").header("link", "<a>").header("link", "<b>").header("content-length", "3"),
        Answer::Cut(200, b"tw".to_vec()),
        Answer::Fault(TransportFault::Tls),
        Answer::status(204, ""),
    ]);
    let recorder = begin(&dir, &world);
    let kept = recorder.ports(&world);
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(ask(&kept, get(URL)).await);
    }
    assert_eq!(recorder.finish().unwrap(), 4);
    let again = replayed(&dir, &world);
    for was in first {
        assert_eq!(ask(&again, get(URL)).await, was);
    }
    let over = ask(&again, get(URL)).await.unwrap_err();
    assert!(over.fault == TransportFault::Unrecorded && over.message.contains("has 4 answers to GET https://a.example/v1/x?ids=a"), "{over}");
    let index = std::fs::read_to_string(dir.path().join("index.jsonl")).unwrap();
    assert!(index.contains(r#""link":"<a>, <b>""#) && !index.contains("content-length"), "{index}");
}

#[tokio::test]
async fn an_answer_that_nobody_read_to_its_end_is_kept_as_far_as_it_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world([Answer::ok("half"), Answer::ok("late")]);
    let recorder = begin(&dir, &world);
    let kept = recorder.ports(&world);
    let mut body = kept.transport.send(get(URL), Duration::from_secs(5)).await.unwrap().into_body();
    body.chunk().await.unwrap();
    drop(body);
    let late = kept.transport.send(get(URL), Duration::from_secs(5)).await.unwrap();
    world.clock.sleep(Duration::from_secs(5)).await;
    drop(late);
    let again = replayed(&dir, &world);
    let (_, text, end) = ask(&again, get(URL)).await.unwrap();
    assert_eq!((text.as_str(), end.unwrap().fault), ("half", TransportFault::Broken));
    let (_, text, end) = ask(&again, get(URL)).await.unwrap();
    let end = end.unwrap();
    assert_eq!((text.as_str(), end.fault, end.message.as_str()), ("", TransportFault::Timeout, "timed out after 5 s"));
}

#[tokio::test]
async fn requests_that_differ_in_their_body_are_told_apart_and_those_that_differ_in_their_key_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world([Answer::ok("1"), Answer::ok("2"), Answer::ok("3")]);
    let kept = begin(&dir, &world).ports(&world);
    let post = |body: &'static str| Request::post(URL).body(Bytes::from_static(body.as_bytes())).unwrap();
    for request in [post("a"), post("b"), get("https://a.example/?key=first-key&x=1")] {
        ask(&kept, request).await.unwrap();
    }
    let again = replayed(&dir, &world);
    assert_eq!(ask(&again, post("b")).await.unwrap().1, "2");
    assert_eq!(ask(&again, get("https://a.example/?key=other&x=1")).await.unwrap().1, "3");
    assert_eq!(ask(&again, get("https://a.example/?key=other&x=2")).await.unwrap_err().fault, TransportFault::Unrecorded);
    assert_eq!(ask(&again, post("a")).await.unwrap().1, "1");
}

#[tokio::test]
async fn a_recording_that_cannot_be_kept_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world([Answer::ok("1")]);
    let recorder = begin(&dir, &world);
    std::fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(ask(&recorder.ports(&world), get(URL)).await.unwrap().1, "1", "the run itself goes on");
    assert!(recorder.finish().unwrap_err().to_string().contains("0001-v1-x.txt"));
}

#[tokio::test]
async fn the_clock_of_a_replay_stands_and_its_waits_pass_at_once_but_for_the_deadline() {
    let clock = Arc::new(ReplayClock::new(at(), Duration::from_secs(60)));
    // Waits that begin together end together.
    tokio::join!(clock.sleep(Duration::from_secs(20)), clock.sleep(Duration::from_secs(30)));
    assert_eq!((clock.now(), clock.monotonic()), (at(), Duration::from_secs(30)));
    tokio::select! {
        () = clock.sleep(Duration::from_secs(30)) => panic!("the deadline passed while there was something to do"),
        () = async { for _ in 0..1000 { tokio::task::yield_now().await } } => {}
    }
    assert_eq!(clock.monotonic(), Duration::from_secs(30));
}

#[test]
fn a_head_keeps_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world([]);
    let window = Window { from: Some(at()), to: None };
    Recorder::begin(dir.path(), Head::new("p", at(), Some(window)), &world).unwrap();
    let recording = Recording::open(dir.path()).unwrap();
    assert_eq!((recording.head().at, recording.window()), (at(), Some(window)));
    assert!(matches!(Recorder::begin(dir.path(), Head::new("p", at(), None), &world), Err(RecordError::NotEmpty(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_stands_in_an_index_is_an_answer_or_an_error(
        garbage in prop::collection::vec(any::<u8>(), 0..80),
        status in any::<u16>(),
        name in "[ -~é]{0,12}",
        value in any::<String>(),
        body in "[a-z./\\\\]{0,8}",
    ) {
        let dir = tempfile::tempdir().unwrap();
        let head = serde_json::to_string(&Head::new("p", at(), None)).unwrap();
        let line = serde_json::json!({"n": 1, "method": "GET", "url": URL, "status": status, "headers": {name: value}, "body": body});
        let garbled = [head.as_bytes(), b"\n", &garbage].concat();
        for index in [garbage.clone(), garbled, format!("{head}\n{line}\n").into_bytes()] {
            std::fs::write(dir.path().join("index.jsonl"), index).unwrap();
            let Ok(recording) = Recording::open(dir.path()) else { continue };
            let (world, far) = world([]);
            let answer = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = answer.block_on(ask(&recording.ports(&world, Duration::MAX), get(URL)));
            prop_assert!(far.asked().is_empty());
        }
    }
}
