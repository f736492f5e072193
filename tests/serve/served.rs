//! The binary at work, and the answers that it gives.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Recipe, Room};

/// Longer than anything here may take, even on a machine that does other things too.
const HARD_LIMIT: Duration = Duration::from_secs(60);

/// One coin's candles into a place of their own, once now and then every hour.
pub fn recipe(name: &str, coin: &str) -> Recipe {
    Recipe::new().name(name).coins(&[coin]).trigger("type = \"interval\"\nevery = \"1h\"").sink(&format!(
        "[sink]\ntype = \"csv\"\npath = \"data/{name}/{{coin_id}}.csv\"\ncolumns = [\"timestamp\", \"open\", \"high\", \"low\", \"close\", {{ column = \"volume_24h\", as = \"volume\" }}]\n"
    ))
}

/// `pipeline serve`, until it is dropped.
pub struct Served {
    child: Child,
    log: std::path::PathBuf,
    pub address: String,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Got {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()))
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// It is a problem of this status, in the form of RFC 9457, and its detail says this.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, kind: &str, instance: &str, says: &str) {
        assert_eq!((self.status, self.header("content-type")), (status, Some("application/problem+json")), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["instance"], instance, "{problem}");
        assert!(problem["type"].as_str().unwrap().ends_with(&format!("docs/api.md#{kind}")), "{problem}");
        assert!(!problem["title"].as_str().unwrap().is_empty(), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
}

impl Served {
    /// Serves the folder `pipelines` of a room.
    #[track_caller]
    pub fn start(room: &Room) -> Self {
        Self::with(room, &[])
    }

    #[track_caller]
    pub fn with(room: &Room, more: &[&str]) -> Self {
        let log = room.path(&format!("serve-{}.log", fs::read_dir(room.path("")).unwrap().count()));
        let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--log-format", "json"];
        args.extend(more);
        let mut command = room.command(Path::new(env!("CARGO_BIN_EXE_pipeline")), &args);
        let child = command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut served = Self { child, log, address: String::new() };
        served.wait_for("it listens", |served| served.lines().iter().any(|line| line["message"] == "listening"));
        let listening = served.lines().into_iter().find(|line| line["message"] == "listening").unwrap();
        served.address = listening["address"].as_str().unwrap().to_owned();
        served
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// The log's whole lines.
    pub fn lines(&self) -> Vec<Value> {
        fs::read_to_string(&self.log).unwrap().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How many log lines say this.
    pub fn said(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line["message"].as_str().is_some_and(|message| message.contains(text))).count()
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + HARD_LIMIT;
        while !done(self) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{what}: it ended with {status}: {}", self.log());
            }
            assert!(Instant::now() < deadline, "{what}: not within {HARD_LIMIT:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait_until_ready(&mut self) {
        self.wait_for("it is ready", |served| served.get("/ready").status == 200);
    }

    /// Waits until so many runs of a pipeline are over.
    #[track_caller]
    pub fn wait_for_runs(&mut self, pipeline: &str, count: usize) {
        let path = format!("/api/v1/pipelines/{pipeline}/runs");
        let over = |got: Got| got.json()["runs"].as_array().map_or(0, |runs| runs.iter().filter(|run| run["status"] != "open").count());
        self.wait_for(&format!("{count} runs of {pipeline}"), |served| over(served.get(&path)) >= count);
    }

    /// What `/health` says of a pipeline.
    #[track_caller]
    pub fn health(&self, pipeline: &str) -> Value {
        let all = self.get("/health").json();
        let found = all["pipelines"].as_array().unwrap().iter().find(|one| one["pipeline"] == pipeline);
        found.unwrap_or_else(|| panic!("{pipeline} is not in {all}")).clone()
    }

    /// The first reason that is given for a pipeline's state.
    pub fn reason(&self, pipeline: &str) -> String {
        let all = self.get("/health").json();
        let found = all["pipelines"].as_array().unwrap().iter().find(|one| one["pipeline"] == pipeline).cloned().unwrap_or_default();
        found["reasons"][0]["message"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &[])
    }

    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Got {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.raw(format!("{head}\r\n").as_bytes())
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn raw(&self, bytes: &[u8]) -> Got {
        let mut stream = TcpStream::connect(&self.address).unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        stream.set_read_timeout(Some(HARD_LIMIT)).unwrap();
        // Who is refused early may not be listened to any more.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let got = Got { status, head: head.to_owned(), body: body.to_owned() };
        match got.header("transfer-encoding") {
            Some("chunked") => Got { body: unchunked(body), ..got },
            _ => got,
        }
    }

    /// Sends a signal by its name, as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = std::process::Command::new("/bin/sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(sent.success(), "{name} could not be sent");
    }

    /// Asks it to end, and waits for that.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + HARD_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn unchunked(body: &str) -> String {
    let (mut rest, mut out) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        out.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    out
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
