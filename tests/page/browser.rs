//! A headless Chromium, driven by WebDriver, that remembers what its pages logged and asked for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

const MISSING: &str = "the tests of the page need a browser and its driver: `bash tests/setup.sh` installs them, or on Debian \
                       `apt-get install chromium chromium-driver`";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const AXE: &str = include_str!("assets/axe.min.js");

/// The driver, which ends with its browsers.
struct Driver {
    child: Child,
    port: u16,
}

impl Driver {
    fn start() -> Self {
        let mut command = Command::new("chromedriver");
        command.args(["--port=0", "--allowed-ips="]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("chromedriver cannot be started ({error}): {MISSING}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse().ok()
        });
        // What it says later is of no interest, but it must be able to say it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port: port.unwrap_or_else(|| panic!("chromedriver did not say its port: {MISSING}")) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // `/shutdown` closes its browsers, too, however the test ended.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = write!(stream, "GET /shutdown HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of Chromium's own.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }
    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

pub struct Browser {
    pub client: Client,
    _driver: Driver,
}

impl Browser {
    pub async fn start() -> Self {
        let driver = Driver::start();
        let options = json!({
            "goog:chromeOptions": {"args": [
                "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1280,900", "--hide-scrollbars",
                // It asks nobody else by itself either.
                "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync", "--disable-extensions",
            ]},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        });
        let Value::Object(options) = options else { unreachable!() };
        let client = ClientBuilder::new(HttpConnector::new()).capabilities(options).connect(&format!("http://127.0.0.1:{}", driver.port)).await;
        Self { client: client.unwrap_or_else(|error| panic!("chromium cannot be started ({error}): {MISSING}")), _driver: driver }
    }

    async fn own(&self, path: &'static str, body: Value) -> Value {
        self.client.issue_cmd(Own { path, body }).await.unwrap()
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, params: Value) -> Value {
        self.own("goog/cdp/execute", json!({"cmd": command, "params": params})).await
    }

    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    pub async fn width(&self, width: u32) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub async fn scheme(&self, scheme: &str) {
        let features = json!({"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// What a script returns.
    pub async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The text of the first element that a selector finds.
    pub async fn text(&self, selector: &str) -> String {
        let found = self.client.execute("return document.querySelector(arguments[0])?.textContent ?? null", vec![selector.into()]).await.unwrap();
        found.as_str().unwrap_or_else(|| panic!("there is no {selector}")).to_owned()
    }

    /// Waits until a script returns something that is not null or false.
    pub async fn until(&self, script: &str) -> Value {
        let begun = Instant::now();
        loop {
            let value = self.ask(script).await;
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return value;
            }
            assert!(begun.elapsed() < PATIENCE, "it did not happen: {script}\n{}", self.client.source().await.unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Presses a key (`Tab` is `\u{e004}`).
    pub async fn press(&self, key: char) {
        let actions =
            json!({"actions": [{"type": "key", "id": "keyboard", "actions": [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]}]});
        self.own("actions", actions).await;
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        self.own("se/log", json!({"type": kind})).await.as_array().unwrap().clone()
    }

    /// Everything on the console since the last look: errors, warnings, and what a policy forbade.
    pub async fn console(&self) -> Vec<String> {
        self.log("browser").await.iter().map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }

    /// Every address that was asked for since the last look.
    pub async fn asked(&self) -> Vec<String> {
        let messages = self.log("performance").await.into_iter().filter_map(|entry| serde_json::from_str::<Value>(entry["message"].as_str()?).ok());
        let requests = messages.filter(|message| message["message"]["method"] == "Network.requestWillBeSent");
        requests.filter_map(|message| message["message"]["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
    }

    /// The grave faults of accessibility that axe finds on the page as it is.
    pub async fn faults(&self) -> Vec<String> {
        self.client.execute(AXE, Vec::new()).await.unwrap();
        let found = self.client.execute_async("axe.run(document, {resultTypes: ['violations']}).then(arguments[0])", Vec::new()).await.unwrap();
        assert!(found["passes"].as_array().is_some_and(|passes| passes.len() > 10), "axe did not look: {found}");
        let grave = found["violations"].as_array().unwrap().iter().filter(|fault| matches!(fault["impact"].as_str(), Some("serious" | "critical")));
        grave
            .map(|fault| {
                format!(
                    "{}: {} {}",
                    fault["id"],
                    fault["help"],
                    fault["nodes"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|node| format!("\n    {} {}", node["target"], node["failureSummary"]))
                        .collect::<String>()
                )
            })
            .collect()
    }

    /// Keeps a picture of the whole page, where `PIPELINE_PAGE_PICTURES` names a folder: for those who work on its look.
    pub async fn picture(&self, name: &str) {
        let Some(dir) = std::env::var_os("PIPELINE_PAGE_PICTURES") else { return };
        let height = self.ask("return document.documentElement.scrollHeight").await;
        let width = self.ask("return innerWidth").await;
        let metrics = |height: &Value| json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width.as_u64() < Some(600)});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics(&height)).await;
        let bytes = self.client.screenshot().await.unwrap();
        self.devtools("Emulation.setDeviceMetricsOverride", metrics(&json!(900))).await;
        std::fs::write(std::path::Path::new(&dir).join(format!("{name}.png")), bytes).unwrap();
    }
}
