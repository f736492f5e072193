//! Keys, certificates, paths and cells: what `SECURITY.md` promises, shown on the binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

#[path = "secrets/far_side.rs"]
mod far_side;
mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use far_side::{Authority, Leaf, Proxy, TlsFront, old_tls};
use serde_json::{Value, json};
use support::{Answer, On, Outcome, Recipe, Reply, Room, Server, nobody_listens};

const FILE: &str = "candles.toml";

/// A key with a sign that JSON, URLs and HTML write in ways of their own.
const KEY: &str = "CG-verySecret+kqzwvXyz42";

/// What tells of a key wherever it stands: parts of it, and of it in other spellings.
fn traces(key: &str) -> Vec<String> {
    let middle = &key[3..key.len() - 2];
    let spelled = |text: &str, digit: &dyn Fn(u8) -> String| text.bytes().map(digit).collect::<String>();
    let mut traces = vec![middle[..8].to_owned(), middle[middle.len() - 8..].to_owned()];
    for part in traces.clone() {
        traces.push(spelled(&part, &|byte| format!("%{byte:02x}")));
        traces.push(spelled(&part, &|byte| format!("%{byte:02X}")));
        traces.push(spelled(&part, &|byte| format!("{byte:02x}")));
        traces.push(spelled(&part, &|byte| format!("\\u00{byte:02x}")));
        traces.push(spelled(&part, &|byte| format!("&#{byte};")));
        // Without what neighbours have a share in.
        traces.extend((0..3).map(|offset| base64(&format!("{}{part}", &"   "[..offset]))[offset + 1..offset + 9].to_owned()));
    }
    traces
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        (0..=three.len()).for_each(|n| out.push(char::from(ALPHABET[bits >> (18 - 6 * n) & 63])));
    }
    out
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "%{byte:02X}");
        out
    })
}

/// Large and small letters are one.
fn holds(bytes: &[u8], trace: &str) -> bool {
    found(bytes, &[trace.to_owned()]).is_some()
}

fn found<'t>(bytes: &[u8], traces: &'t [String]) -> Option<&'t String> {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    traces.iter().find(|trace| text.contains(&trace.to_ascii_lowercase()))
}

/// The key is in nothing that was printed, and in no file of the room but those that hold it by right, nor in a file's name.
#[track_caller]
fn nowhere(room: &Room, runs: &[Outcome], key: &str, by_right: &[&str]) {
    let traces = traces(key);
    for run in runs {
        let found = found(run.stdout.as_bytes(), &traces).or_else(|| found(run.stderr.as_bytes(), &traces));
        assert!(found.is_none(), "{found:?} of the key is shown: {run}");
    }
    let files = room.files("");
    assert!(!files.is_empty());
    for (name, bytes) in files.iter().filter(|(name, _)| !by_right.contains(&name.as_str())) {
        let found = found(name.as_bytes(), &traces).or_else(|| found(bytes, &traces));
        assert!(found.is_none(), "{found:?} of the key is in {name}: {}", String::from_utf8_lossy(bytes));
    }
}

/// Whatever can be asked about a pipeline.
fn asked_about(room: &Room, file: &str) -> Vec<Outcome> {
    let questions: &[&[&str]] = &[
        &["check", file],
        &["check", file, "--format", "json"],
        &["-vv", "run", file, "--dry-run"],
        &["plan", file],
        &["plan", file, "--format", "json"],
        &["status", file],
        &["status", file, "--format", "json"],
        &["rejects", file],
        &["rejects", file, "--format", "json"],
        &["-vv", "rejects", file, "--replay"],
        &["state", "show", file],
        &["state", "show", file, "--format", "json"],
        &["-vv", "state", "rebuild", file],
        &["read", file],
        &["read", file, "--format", "json"],
        &["read", file, "--format", "csv"],
        &["read", file, "--where", "no such column"],
        &["list"],
        &["explain", "coingecko_ohlc"],
        &["-vv", "--log-format", "json", "run", file, "--once"],
        &["run", file, "--once", "--no-such-flag"],
    ];
    questions.iter().map(|question| room.pipeline(question)).collect()
}

fn keyed(recipe: &Recipe) -> Recipe {
    recipe.clone().source(&format!("{}\napi_key = \"${{COINGECKO_API_KEY:-}}\"", recipe.source))
}

/// A log of everything, in files that are small enough to be rolled.
fn logged(mut recipe: Recipe, format: &str) -> Recipe {
    recipe.top = format!("[log]\nfile = \"logs/pipeline.log\"\nlevel = \"trace\"\nformat = \"{format}\"\nmax_size = \"8KB\"\nkeep = 50\n");
    recipe
}

fn error(message: impl AsRef<str>) -> Value {
    json!({"error": message.as_ref()})
}

/// What the far side may do with a key: one line each.
fn misdeeds() -> Vec<(&'static str, Reply)> {
    let says = |status: u16, body: String| Reply::status(status, body);
    let json = |status: u16, body: &Value| Reply::Answer(Answer::json(status, body));
    let header = |status: u16, name: &str, value: String| Reply::Answer(Answer::json(status, &error(format!("see {KEY}"))).header(name, value));
    let row = |edit: fn(&mut Vec<Value>)| Reply::rows(edit);
    vec![
        ("200 with an error", json(200, &error(format!("the key {KEY} is not valid")))),
        ("200 that is HTML", says(200, format!("<html><title>{KEY}</title><p class=\"{KEY}\">no {KEY}</p></html>"))),
        ("200 that is text", says(200, format!("Throttled {KEY}"))),
        ("200 that is broken", says(200, format!("[[1779120000000, \"{KEY}"))),
        ("200 of another shape", says(200, format!("{{\"{KEY}\": [\"{KEY}\"]}}"))),
        ("200 that is a text", says(200, format!("\"{KEY}\""))),
        ("204", says(204, String::new())),
        ("304", json(304, &error(KEY))),
        ("400", json(400, &error(format!("bad key {KEY}")))),
        ("400 cut in the key", json(400, &error(format!("{}{KEY}", "x".repeat(190))))),
        ("400 percent-encoded", json(400, &error(format!("/?x_cg_demo_api_key={}&a=1", KEY.replace('+', "%2B"))))),
        ("400 percent-encoded whole", json(400, &error(percent(KEY)))),
        ("400 in base64", json(400, &error(base64(KEY)))),
        ("400 in base64 after a name", json(400, &error(format!("Basic {}", base64(&format!("user:{KEY}")))))),
        ("400 in JSON in JSON", json(400, &error(error(KEY).to_string().replace('+', "\\u002B")))),
        ("400 escaped for JSON", says(400, format!("{{\"error\":\"{}\"}}", KEY.replace('+', "\\u002b").replace('-', "\\u002d")))),
        ("400 escaped for HTML", says(400, format!("<p>{}</p>", KEY.replace('+', "&#x2B;").replace('-', "&#45;")))),
        ("400 in hexadecimal", says(400, KEY.bytes().map(|byte| format!("{byte:02x}")).collect())),
        ("401", json(401, &json!({"status": {"error_code": 10002, "error_message": format!("API key {KEY} missing")}, "key": KEY}))),
        ("403", says(403, format!("<h1>Error 1020</h1> {KEY}"))),
        ("404", json(404, &error(format!("coin not found, {KEY}")))),
        ("407", header(407, "proxy-authenticate", format!("Basic realm=\"{KEY}\""))),
        ("408", says(408, KEY.into())),
        ("418", says(418, KEY.into())),
        ("422", json(422, &json!({"errors": [KEY, {"message": KEY}]}))),
        ("429", header(429, "retry-after", KEY.into())),
        ("429 with a reset", header(429, "x-ratelimit-reset", format!("2020-01-01 {KEY}"))),
        ("451", header(451, "link", format!("<https://a.example/?{KEY}>; rel=blocked-by"))),
        ("500", says(500, format!("panic at {KEY}"))),
        ("503", header(503, "retry-after", format!("0 {KEY}"))),
        ("599", says(599, KEY.into())),
        ("600", says(600, KEY.into())),
        ("a redirect within the host", header(302, "location", format!("/api/v3/none?key={KEY}"))),
        ("a redirect for ever", header(307, "location", format!("/api/v3/coins/ethereum/ohlc?vs_currency=usd&key={}", percent(KEY)))),
        ("a redirect to another host", header(302, "location", format!("http://localhost:9/?key={KEY}"))),
        ("a redirect to another port", header(308, "location", format!("http://127.0.0.1:9/{KEY}"))),
        ("a redirect with the key for a name", header(301, "location", format!("http://{}:x@127.0.0.1:9/", percent(KEY)))),
        ("a redirect to a host of that name", header(302, "location", format!("http://{KEY}.invalid/"))),
        ("a redirect to nowhere", header(302, "location", format!("http://[{KEY}"))),
        ("a redirect without a place", says(302, KEY.into())),
        ("a header", Reply::Answer(Answer::json(200, &json!([["?"]])).header("x-echo", KEY))),
        ("a reset", Reply::Reset),
        ("silence", Reply::Silence),
        ("a stall", Reply::Stall),
        ("a body cut short", Reply::Truncate),
        ("a cell", row(|rows| rows[5][2] = json!(KEY))),
        ("a cell, percent-encoded", row(|rows| rows[6][2] = json!(KEY.replace('+', "%2b")))),
        ("a cell, in base64", row(|rows| rows[7][2] = json!(base64(&format!("ab:{KEY}"))))),
        ("a row", row(|rows| rows[8] = json!({"echo": {KEY: [KEY]}}))),
        ("a stamp", row(|rows| rows[9][0] = json!(KEY))),
    ]
}

#[test]
fn the_key_is_nowhere_after_failures_of_every_kind() {
    let server = Server::start();
    server.require_key("x-cg-demo-api-key", KEY);
    // A coin for each misdeed, and a good one after it: three errors for the operator in a row would end the run.
    let mut coins = Vec::new();
    for (name, reply) in misdeeds() {
        let coin = format!("coin-{}", name.replace([' ', ','], "-"));
        server.fault(On::ohlc(&coin), reply);
        coins.extend([coin, format!("coin-good-{}", coins.len())]);
    }
    let names: Vec<&str> = coins.iter().map(String::as_str).collect();
    let recipe = Recipe::new().coins(&names).http("timeout = \"400ms\"\nretries = 0\nrequests_per_minute = 100000").run("concurrency = 16");
    let room = Room::new(&server).env("COINGECKO_API_KEY", KEY).env("RUST_BACKTRACE", "full");
    room.write(FILE, &logged(keyed(&recipe), "json").toml());

    let mut runs = vec![room.pipeline(&["-vv", "run", FILE, "--once", "--format", "json"])];
    for coin in names.iter().step_by(2) {
        assert!(!server.asked("ohlc", coin).is_empty(), "{coin} was met: {}", runs[0]);
    }
    runs[0].exits(3);
    let failed = runs[0].json()["splits"].as_array().unwrap().iter().filter(|split| split["status"] == "failed").count();
    assert!(failed >= 40, "{failed} failed: {}", runs[0]);
    let shown = runs.iter().map(|run| format!("{}{}", run.stdout, run.stderr)).collect::<String>();
    assert!(shown.matches("***").count() >= 100, "what was masked can be seen to be: {shown}");
    let rejects = room.rejects("candles");
    let masked = rejects.iter().filter(|reject| reject.to_string().contains("***")).count();
    assert!(masked >= 5, "the rejected rows are kept, without the key: {rejects:#?}");

    runs.extend(asked_about(&room, FILE));
    assert!(server.seen().iter().all(|seen| seen.headers["x-cg-demo-api-key"] == KEY), "every request has it");
    assert!(
        server.seen().iter().filter(|seen| !seen.query.contains_key("key")).all(|seen| seen.raw.matches(KEY).count() == 1),
        "in its header alone"
    );
    assert!(room.files("logs").len() > 3, "the log was rolled: {:?}", room.files("logs").keys());
    assert!(room.files(".pipeline").len() >= 2, "{:?}", room.files(".pipeline").keys());
    nowhere(&room, &runs, KEY, &[]);
}

#[test]
fn the_key_is_nowhere_when_nobody_answers() {
    let server = Server::start();
    let front = TlsFront::before(&server, Leaf::default().self_signed());
    let refused = nobody_listens();
    for (url, said) in [
        (refused.as_str(), "connection refused"),
        ("https://no-such-host.invalid/v1", "could not be resolved"),
        (front.url("localhost").as_str(), "no secure connection"),
    ] {
        let room = Room::at(url).env("COINGECKO_API_KEY", KEY);
        let recipe = keyed(&Recipe::new().http("retries = 0\nconnect_timeout = \"2s\""));
        room.write(FILE, &logged(recipe, "text").toml());
        let mut runs = vec![room.pipeline(&["-vv", "run", FILE, "--once"])];
        runs[0].exits(1).says(said);
        runs.extend([&["status", FILE][..], &["state", "show", FILE]].map(|question| room.pipeline(question)));
        nowhere(&room, &runs, KEY, &[]);
    }
}

#[test]
fn an_echo_of_the_key_in_good_data_is_stored_as_three_stars() {
    let server = Server::start();
    let rename = |rows: &mut Vec<Value>| {
        rows[0]["name"] = json!(format!("coin of {KEY}!"));
        rows[1]["symbol"] = json!(base64(KEY));
        rows[2]["image"] = json!(format!("https://a.example/?k={}", percent(KEY)));
    };
    server.fault(On::markets(), Reply::rows(rename));
    let room = Room::new(&server).env("COINGECKO_API_KEY", KEY);
    let source = Recipe::new().toml().split_once("[source]").unwrap().0.to_owned();
    let rest = "[source]\ntype = \"coingecko_markets\"\nbase_url = \"${COINGECKO_BASE_URL}\"\napi_key = \"${COINGECKO_API_KEY}\"\ntop = 3\n\
                [dedupe]\nkeys = [\"symbol\", \"name\"]\n[sink]\ntype = \"csv\"\npath = \"data/{name}_{symbol}.csv\"\n";
    room.write(FILE, &format!("{source}{rest}"));
    let mut runs = vec![room.once(FILE)];
    runs[0].exits(0);
    assert_eq!(runs[0].rows("written"), 3);
    runs.extend(asked_about(&room, FILE));
    assert!(runs.iter().any(|run| run.stdout.contains("coin of ***!")), "it can be read");
    nowhere(&room, &runs, KEY, &[]);
}

/// What may be wrong with a file that holds the key itself, or with the line on which it stands: `@` is the key.
const FAULTY: &[&str] = &[
    "api_key = \"@\"\ntopp = 3",
    "api_key = \"@\", plan = \"demo\"",
    "api_key = \"@",
    "api_key = @",
    "api_key = '@'x",
    "api_key = [\"@\"]",
    "api_key = { value = \"@\" }",
    "api_key = { \"@\" = 1 }",
    "api_key = [\"@\", ",
    "api_key = \"\"\"@\nx\"\"\"",
    "api_key = \"@\\n\"",
    "api_key = \"ü@\"",
    "api_key = \"\\q@\"",
    "api_key \"@\"",
    "api_key: \"@\"",
    "api_key = = \"@\"",
    "api_kye = \"@\"",
    "apikey = \"@\"",
    "key = \"@\"",
    "api_keys = [\"@\"]",
    "token = \"@\"",
    "Authorization = \"Bearer @\"",
    "api_key = \"@\"\napi_key = \"@\"",
    "api_key = \"${@}\"",
    "api_key = \"${NONE:-@\"",
    "api_key = \"${NONE:-@}\"\ntopp = 3",
    "api_key = \"@${NONE}\"",
    "api_key = \"${NONE:?get a key}\"",
    "api_key = \"@\"\nplan = \"keyless\"",
    "base_url = \"https://user:@@host.example/\"",
    "base_url = \"https://@@host.example/\"",
    "base_url = \"https://host.example/?x_cg_demo_api_key=@\"",
    "base_url = \"https://host.example/#key=@\"",
    "base_url = \"http://host.example/\"\napi_key = \"@\"",
    "base_url = \"ftp://u:@@host.example/\"",
    "vs_currency = \"@\"",
    "interval = \"@\"",
    "plan = \"@\"",
    "http = { api_key = \"@\" }",
    "http = { user_agent = \"\", token = '@' }",
    "\"@\" = 1",
];

#[test]
fn no_diagnostic_shows_the_key_that_stands_in_the_file() {
    let room = Room::at("https://api.example.invalid").env("COINGECKO_KEY", KEY);
    // A token as people have them; one with a `/` in it is known by the key's name alone.
    let token = "CG-verySecret42kqzwvXyz7";
    let mut files = Vec::new();
    for (n, fault) in FAULTY.iter().enumerate() {
        let name = format!("faulty/{n}.toml");
        let source = format!(
            "coins = [\"bitcoin\"]\n{}",
            fault.replace("@@", &format!("{token}@")).replace('@', token).replace(&format!("{token}{token}"), &format!("{token}@"))
        );
        let toml = Recipe::new().source(&source).toml();
        let toml = if fault.starts_with("base_url") { toml.replace("base_url = \"${COINGECKO_BASE_URL}\"\n", "") } else { toml };
        let toml = if fault.starts_with("http") {
            toml.split_once("\n[source.http]").map(|(a, b)| format!("{a}{}", b.split_once("\n\n").unwrap().1)).unwrap()
        } else {
            toml
        };
        room.write(&name, &toml);
        files.push(name);
    }
    let by_right: Vec<&str> = files.iter().map(String::as_str).collect();
    let json = room.pipeline(&["check", "faulty", "--format", "json"]);
    for (name, fault) in files.iter().zip(FAULTY) {
        let faulty = json.json_lines().iter().any(|line| line["file"].as_str() == Some(name) && line["level"] == "error");
        assert!(faulty, "nothing is wrong with {fault}: {json}");
    }
    let mut runs = vec![json, room.pipeline(&["check", "faulty"]), room.pipeline(&["--color", "always", "check", "faulty"])];
    runs.push(room.pipeline(&["-vv", "run", "faulty", "--once"]));
    for run in &runs {
        run.exits(2);
    }
    nowhere(&room, &runs, token, &by_right);
}

#[test]
fn a_key_of_odd_characters_is_refused_without_being_shown() {
    for odd in [format!("{KEY}\nX-Evil: 1"), format!("{KEY}ü"), format!("\u{feff}{KEY}"), format!("{KEY}\u{7f}")] {
        let room = Room::at("https://api.example.invalid").env("COINGECKO_API_KEY", &odd);
        room.write(FILE, &keyed(&Recipe::new()).toml());
        let runs =
            [room.pipeline(&["check", FILE]), room.pipeline(&["-vv", "run", FILE, "--once"]), room.pipeline(&["check", FILE, "--format", "json"])];
        runs[0].exits(2).says("the key holds characters that no key has").says("api_key");
        nowhere(&room, &runs, KEY, &[]);
    }
    // A broken line of `.env` is named by its number.
    let room = Room::at("https://api.example.invalid");
    room.write(FILE, &keyed(&Recipe::new()).toml()).write(".env", &format!("COINGECKO_API_KEY={KEY} {KEY}\n"));
    let runs = [room.pipeline(&["check", FILE]), room.pipeline(&["run", FILE, "--once"])];
    runs[0].exits(2).says(".env, line 1");
    nowhere(&room, &runs, KEY, &[".env"]);
}

#[test]
fn a_variable_that_is_not_set_is_named_and_its_neighbours_are_not_told() {
    let room = Room::at("https://api.example.invalid").env("COINGECKO_APIKEY", KEY);
    room.write(FILE, &keyed(&Recipe::new()).toml().replace("API_KEY:-", "API_KEY:?get one at coingecko.com"));
    let runs = [room.pipeline(&["check", FILE]), room.pipeline(&["-vv", "run", FILE, "--once"])];
    runs[0].exits(2).says("the environment variable `COINGECKO_API_KEY` is not set: get one at coingecko.com");
    nowhere(&room, &runs, KEY, &[]);
}

#[cfg(target_os = "linux")]
#[test]
fn the_key_is_in_no_process_list_and_in_no_file_of_a_running_process() {
    for by_file in [false, true] {
        let server = Server::start();
        let room = Room::new(&server);
        let room = if by_file {
            room.write(".env", &format!("COINGECKO_API_KEY={KEY}\n"));
            room
        } else {
            room.env("COINGECKO_API_KEY", KEY)
        };
        room.write(FILE, &keyed(&Recipe::new().http("timeout = \"60s\"")).toml());
        room.once(FILE).exits(0);
        server.fault(On::ohlc("ethereum"), Reply::Silence);
        let asked = server.asked("ohlc", "ethereum").len();
        let mut running = room.start(&["-vv", "run", FILE, "--once"]);
        while server.asked("ohlc", "ethereum").len() == asked {
            assert!(running.is_running());
            std::thread::yield_now();
        }
        let proc = std::path::Path::new("/proc").join(running.id().to_string());
        let read = |name: &str| std::fs::read(proc.join(name)).unwrap();
        assert!(holds(&read("cmdline"), "candles.toml"));
        for name in ["cmdline", "comm", "stat", "status"] {
            assert!(!holds(&read(name), "verySecret"), "{name}");
        }
        let tasks = std::fs::read_dir(proc.join("task")).unwrap().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            assert!(children.is_empty(), "it starts no process that could be given the key: {children}");
        }
        // The environment of a process is for its own user to read, see SECURITY.md; `.env` does not even get there.
        assert_eq!(holds(&read("environ"), "verySecret"), !by_file);
        nowhere(&room, &[], KEY, &[".env"]);
        let killed = running.kill();
        nowhere(&room, &[killed], KEY, &[".env"]);
    }
}

#[test]
fn a_key_for_this_machine_does_not_go_through_a_proxy() {
    let (server, proxy) = (Server::start(), Proxy::start());
    server.require_key("x-cg-demo-api-key", KEY);
    let room = Room::new(&server).env("COINGECKO_API_KEY", KEY).env("http_proxy", &proxy.url("")).env("ALL_PROXY", &proxy.url(""));
    room.write(FILE, &keyed(&Recipe::new()).toml());
    room.once(FILE).exits(0);
    assert!(proxy.heard().is_empty(), "{}", proxy.heard());
}

#[test]
fn a_proxy_is_used_and_neither_its_password_nor_the_key_is_shown() {
    const PASSWORD: &str = "px-veryHidden-wqkzPass77";
    let proxy = Proxy::start();
    let nobody = nobody_listens().replace("/api/v3", "").replace("http://", &format!("http://user:{PASSWORD}@"));
    for (url, heard) in [(proxy.url(&format!("user:{PASSWORD}@")), true), (nobody, false)] {
        let room = Room::at("https://api.example.invalid/v3").env("COINGECKO_API_KEY", KEY).env("HTTPS_PROXY", &url);
        room.write(FILE, &logged(keyed(&Recipe::new().http("retries = 0")), "json").toml());
        let mut runs = vec![room.pipeline(&["-vv", "run", FILE, "--once"])];
        runs[0].exits(1).says("network");
        runs.push(room.pipeline(&["status", FILE, "--format", "json"]));
        nowhere(&room, &runs, KEY, &[]);
        nowhere(&room, &runs, PASSWORD, &[]);
        if heard {
            let heard = proxy.heard();
            assert!(heard.contains("CONNECT api.example.invalid:443") && heard.contains(&base64(&format!("user:{PASSWORD}"))), "{heard}");
            assert!(!heard.contains("verySecret"), "the proxy sees no key: {heard}");
        }
    }
}

#[test]
fn a_key_for_a_named_host_alone_goes_over_plain_http() {
    let server = Server::start();
    let proxy = Proxy::start();
    let recipe = keyed(&Recipe::new().http("retries = 0"));
    let check = |url: &str, allow: &str| {
        let room = Room::at(url).env("COINGECKO_API_KEY", KEY).env("http_proxy", &proxy.url(""));
        let recipe = recipe.clone().http(&format!("{}\nallow_insecure_key = [{allow}]", recipe.http));
        room.write(FILE, &recipe.toml());
        let runs = [room.pipeline(&["check", FILE]), room.pipeline(&["run", FILE, "--once"])];
        nowhere(&room, &runs, KEY, &[]);
        (runs[0].clone(), runs[1].clone())
    };
    for host in ["localhost.evil.invalid", "127.0.0.1.nip.invalid", "0.0.0.0", "[::]", "10.1.2.3"] {
        let (checked, run) = check(&format!("http://{host}/v3"), "\"evil.invalid\"");
        checked.exits(2).says("plain http://").says(&format!("http.allow_insecure_key = [\"{host}\"]").replace('"', "\""));
        run.exits(2);
    }
    let (checked, _) = check("http://127.0.0.1@evil.invalid/v3", "\"evil.invalid\"");
    checked.exits(2).says("a name or password has no place in this URL");
    assert!(proxy.heard().is_empty(), "nothing was sent: {}", proxy.heard());
    let (checked, run) = check("http://named.invalid/v3", "\"named.invalid\"");
    checked.exits(0);
    run.exits(1);
    assert!(proxy.heard().contains("http://named.invalid/v3") && proxy.heard().contains(KEY), "what is allowed by name is sent: {}", proxy.heard());
    assert!(server.seen().is_empty());
}

// TLS.

#[test]
fn a_connection_is_as_good_as_its_certificate() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = Leaf::default();
    for (name, certificate, host, fault) in [
        ("a good one", ours.signs(&good), "localhost", None),
        ("a good one by address", ours.signs(&good), "127.0.0.1", None),
        ("somebody else's", theirs.signs(&good), "localhost", Some("nobody whom this machine trusts has signed")),
        ("self-signed", good.self_signed(), "localhost", Some("certificate")),
        ("expired", ours.signs(&Leaf { years: (2001, 2002), ..good }), "localhost", Some("has expired")),
        ("early", ours.signs(&Leaf { years: (2101, 2102), ..good }), "localhost", Some("is not valid yet")),
        ("for another host", ours.signs(&Leaf { host: "other.example", ..good }), "localhost", Some("is for another host")),
        ("for another address", ours.signs(&Leaf { host: "localhost", ..good }), "127.0.0.1", Some("is for another host")),
    ] {
        let server = Server::start();
        server.require_key("x-cg-demo-api-key", KEY);
        let front = TlsFront::before(&server, certificate);
        let room = Room::at(&front.url(host)).env("COINGECKO_API_KEY", KEY);
        let room = room.env("SSL_CERT_FILE", "authority.pem");
        room.write("authority.pem", &ours.pem()).write(FILE, &keyed(&Recipe::new()).toml());
        let run = room.once(FILE);
        if let Some(fault) = fault {
            run.exits(1).split_failed("bitcoin", "network", &["no secure connection", fault]);
            let text = room.pipeline(&["run", FILE, "--once"]);
            text.says("clock and certificates").says("SSL_CERT_FILE");
            assert!(server.seen().is_empty(), "{name}: nothing was asked");
            nowhere(&room, &[run, text], KEY, &[]);
        } else {
            run.exits(0);
            assert!(!server.seen().is_empty() && front.version() == "TLSv1_3", "{name}: {}", front.version());
        }
    }
}

#[test]
fn tls_of_yesterday_is_refused() {
    for version in [[3, 1], [3, 2]] {
        let url = old_tls(version);
        let room = Room::at(&url).env("COINGECKO_API_KEY", KEY).env("SSL_CERT_FILE", "authority.pem");
        room.write("authority.pem", &Authority::new("ours").pem()).write(FILE, &keyed(&Recipe::new()).toml());
        room.once(FILE).exits(1).split_failed("bitcoin", "network", &["no secure connection", "does not speak TLS 1.2 or 1.3"]);
    }
}

#[test]
fn a_machine_without_certificates_trusts_nobody_and_can_speak_with_itself() {
    let server = Server::start();
    let front = TlsFront::before(&server, Leaf::default().self_signed());
    for (url, code) in [(server.url(), 0), (front.url("localhost"), 1)] {
        let room = Room::at(&url).env("SSL_CERT_FILE", "none.pem").env("SSL_CERT_DIR", "none");
        room.write(FILE, &Recipe::new().toml());
        let run = room.once(FILE);
        run.exits(code);
        if code == 1 {
            run.split_failed("bitcoin", "network", &["no secure connection", "No CA certificates"]);
        }
    }
}

// Paths.

/// A pipeline of one row for each coin, whose file is named after the coin.
fn one_file_a_coin(path: &str, more: &str) -> String {
    let head = Recipe::new().toml().split_once("[source]").unwrap().0.to_owned();
    format!(
        "{head}[source]\ntype = \"coingecko_markets\"\nbase_url = \"${{COINGECKO_BASE_URL}}\"\ntop = 250\n\
         [dedupe]\nkeys = [\"coin_id\"]\n[sink]\ntype = \"csv\"\npath = \"{path}\"\n{more}"
    )
}

fn coins_named(server: &Server, ids: &[String]) {
    let ids = ids.to_vec();
    server.fault(
        On::markets(),
        Reply::rows(move |rows| {
            let like = rows[0].clone();
            *rows = ids
                .iter()
                .map(|id| {
                    let mut row = like.clone();
                    row["id"] = json!(id);
                    row
                })
                .collect();
        }),
    );
}

fn hostile() -> Vec<String> {
    let mut ids: Vec<String> = [
        "../../etc/passwd",
        "/etc/x",
        "..",
        ".",
        "...",
        "a/b",
        "a\\b",
        "a/../b",
        "C:\\x",
        "nul\0nul",
        "CON",
        "con.txt",
        "com1",
        "LPT9.csv",
        "trailing.",
        "trailing ",
        "trailing. .",
        " leading",
        "-rf",
        "~",
        "~root",
        "$HOME",
        "`id`",
        "%2e%2e%2f",
        "%N",
        "%",
        "a\nb",
        "a\rb",
        "\u{1b}[31m",
        "full\u{ff0f}width",
        "\u{ff0e}\u{ff0e}",
        "\u{2215}\u{2044}",
        "\u{202e}fdp",
        "\u{200f}",
        "\u{feff}",
        "e\u{301}",
        "é",
        "BTC",
        "btc",
        "a*b?",
        "a:b",
        "a|b",
        "<a>",
        "\"a\"",
        "'a'",
        "x.csv",
        "x.csv/y",
        "null",
        "日本",
    ]
    .map(str::to_owned)
    .to_vec();
    ids.extend(["x".repeat(5000), format!("{}y", "x".repeat(5000)), "/".repeat(300), "../".repeat(300), "é".repeat(400)]);
    ids
}

#[test]
fn no_value_leaves_the_output_folder_and_no_two_share_a_file() {
    let ids = hostile();
    for (path, depth) in [("out/{coin_id}.csv", 2), ("out/{coin_id}/{name}.csv", 3), ("./out/a_{coin_id}", 2)] {
        let server = Server::start();
        coins_named(&server, &ids);
        let room = Room::new(&server);
        room.write(FILE, &one_file_a_coin(path, ""));
        let run = room.once(FILE);
        run.exits(0);
        assert_eq!(run.rows("written"), ids.len() as u64);
        let files = room.files("");
        let outside: BTreeSet<&str> = files.keys().map(String::as_str).filter(|name| !name.starts_with("out/")).collect();
        assert!(outside.iter().all(|name| *name == FILE || name.starts_with(".pipeline/")), "{outside:?}");
        let inside: Vec<&String> = files.keys().filter(|name| name.starts_with("out/")).collect();
        assert_eq!(inside.len(), ids.len(), "a file for each: {inside:?}");
        assert!(inside.iter().all(|name| name.split('/').count() == depth && name.chars().all(|c| !c.is_control())), "{inside:?}");
        let read: BTreeSet<String> =
            room.pipeline(&["read", FILE, "--format", "json"]).json_lines().iter().map(|row| row["coin_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(read, ids.iter().cloned().collect(), "and each comes back");
        // Nothing of it beside the room either.
        assert!(!room.path("../etc").exists() && !room.path("../b.csv").exists());
    }
}

#[cfg(unix)]
#[test]
fn a_link_in_the_output_folder_is_not_written_through() {
    use std::os::unix::fs::symlink;
    let server = Server::start();
    coins_named(&server, &["bitcoin".to_owned()]);
    for dangling in [false, true] {
        let room = Room::new(&server);
        room.write(FILE, &one_file_a_coin("out/{coin_id}.csv", ""));
        room.write("out/.keep", "");
        if !dangling {
            room.write("elsewhere/victim", "mine\n");
        }
        symlink(room.path("elsewhere/victim"), room.path("out/bitcoin.csv")).unwrap();
        let run = room.once(FILE);
        if dangling {
            assert!(!room.exists("elsewhere/victim"), "nothing was made where it leads: {run}");
        } else {
            run.exits(1).says("this pipeline did not write it");
            assert_eq!(room.read("elsewhere/victim"), "mine\n");
        }
    }
}

#[cfg(unix)]
#[test]
fn files_are_as_private_as_the_umask_says() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    server.fault(On::ohlc("ethereum"), Reply::rows(|rows| rows[5] = json!("?")));
    let room = Room::new(&server);
    room.write(FILE, &logged(Recipe::new(), "text").toml());
    room.pipeline_after("umask 077", &["run", FILE, "--once"]).exits(0);
    let mut seen = 0;
    for name in room.files("").keys().filter(|name| *name != FILE) {
        let mut path = room.path(name);
        while path != room.path("") && path.file_name().is_some() && path.starts_with(room.path("")) {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} has the mode {mode:o}", path.display());
            path.pop();
            seen += 1;
        }
    }
    assert!(seen > 10);
}

// Cells.

#[test]
fn no_cell_is_a_formula_when_they_are_guarded_and_all_come_back() {
    let names = ["=HYPERLINK(\"http://evil.example\")", "=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "\u{ff1d}1", "plain", "a=b"];
    let server = Server::start();
    server.fault(
        On::markets(),
        Reply::rows(move |rows| {
            let like = rows[0].clone();
            let named = |(n, name): (usize, &&str)| {
                let mut row = like.clone();
                (row["id"], row["name"], row["price_change_24h"]) = (json!(format!("={n}")), json!(name), json!(-1.5));
                row
            };
            *rows = names.iter().enumerate().map(named).collect();
        }),
    );
    let columns = "columns = [\"coin_id\", { column = \"name\", as = \"=name\" }, \"price_change_24h\"]\n";
    for guard in [true, false] {
        let room = Room::new(&server);
        room.write(FILE, &one_file_a_coin("out/all.csv", &format!("{columns}guard_formulas = {guard}\n")));
        room.once(FILE).exits(0);
        let file = room.read("out/all.csv");
        let records: Vec<csv::StringRecord> =
            csv::ReaderBuilder::new().has_headers(false).from_reader(file.as_bytes()).records().map(Result::unwrap).collect();
        assert_eq!(records.len(), names.len() + 1);
        let runs = |text: &str| text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}']);
        let texts = records.iter().flat_map(|record| [&record[0], &record[1]]);
        assert_eq!(texts.filter(|text| runs(text)).count(), if guard { 0 } else { 1 + names.len() + 9 }, "{file}");
        assert!(records.iter().skip(1).all(|record| &record[2] == "-1.5"), "numbers are none: {file}");
        let rows = room.pipeline(&["read", FILE, "--format", "json"]).json_lines();
        let back: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(back, names);
        assert!(rows.iter().enumerate().all(|(n, row)| row["coin_id"] == format!("={n}")));
        room.pipeline(&["state", "rebuild", FILE]).exits(0);
        let again = room.once(FILE);
        again.exits(0);
        assert_eq!(again.rows("written"), 0, "known as they were: {again}");
    }
}

#[test]
fn every_test_that_the_promises_name_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let promised = text.split("## What is not").next().unwrap();
    let tests: String =
        ["tests/secrets.rs", "tests/trial.rs", "http/tests/network.rs", "tests/notify.rs", "tests/page/main.rs", "tests/serve/answers.rs"]
            .iter()
            .map(|name| std::fs::read_to_string(root.join(name)).unwrap())
            .collect();
    let quoted: Vec<&str> = promised.split('`').skip(1).step_by(2).collect();
    let names: Vec<&&str> =
        quoted.iter().filter(|name| name.matches('_').count() >= 3 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect();
    assert!(names.len() >= 14, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("fn {name}()")), "no test is called {name}");
    }
    for path in quoted.iter().filter(|name| name.ends_with(".rs")) {
        assert!(root.join(path).exists(), "{path}");
    }
}
