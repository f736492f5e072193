//! `docs/write-a-source.md`: its code is this crate, it is short, and its pipeline runs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use exchange_rates::ExchangeRates;
use pipeline_contract::testkit::{Answer, SourceKit};

const TUTORIAL: &str = include_str!("../../../docs/write-a-source.md");

/// The files that the tutorial shows, put together from its blocks: a block begins with a line of three backticks, a language and a path.
fn shown() -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut lines = TUTORIAL.split_inclusive('\n');
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let block: String = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        if let Some((_, path)) = info.trim().split_once(' ') {
            let file = files.entry(path.to_owned()).or_default();
            if !file.is_empty() {
                file.push('\n');
            }
            file.push_str(&block);
        }
    }
    files
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap().replace("\r\n", "\n")
}

#[test]
fn the_tutorial_shows_this_crate_to_the_byte() {
    let shown = shown();
    let names: Vec<_> = shown.keys().map(String::as_str).collect();
    assert_eq!(names, ["Cargo.toml", "rates.toml", "sample.toml", "src/lib.rs", "src/main.rs", "tests/kit.rs", "tests/rates.json"]);
    for (path, text) in &shown {
        assert_eq!(*text, file(path), "docs/write-a-source.md and {path} differ");
    }
}

#[test]
fn what_the_kit_says_is_what_the_tutorial_says() {
    let kit = |to: &str| {
        SourceKit::new(ExchangeRates, include_str!("../sample.toml"))
            .answers(|_| Answer::ok(include_str!("rates.json")))
            .now("2026-05-19T15:00:00Z".parse().unwrap())
            .window("2026-05-11T00:00:00Z".parse().unwrap(), to.parse().unwrap())
            .check()
            .to_string()
    };
    let told = kit("2026-05-15T00:00:00Z");
    let first = told.lines().next().unwrap();
    assert!(first.starts_with("exchange_rates: every promise held in ") && TUTORIAL.contains(&format!("\n{first}\n")), "{told}");
    let told = kit("2026-05-30T00:00:00Z");
    assert!(told.contains("choose a window with rows in both halves"), "{told}");
}

#[test]
fn source_and_kit_take_at_most_80_lines_of_code() {
    let code = |path: &str| file(path).lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//")).count();
    let lines = code("src/lib.rs") + code("tests/kit.rs");
    assert!(lines <= 80, "{lines} lines");
}

/// Answers every request with the rates, on a port of this machine.
fn far_side() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head: Vec<String> = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let body = if head[0].contains(" /v1/1999-01-04..?base=") { include_str!("rates.json") } else { "{\"rates\": {}}" };
            let length = body.len();
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    port
}

fn program(dir: &Path, args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_exchange-rates")).args(args).current_dir(dir).env("NO_PROXY", "127.0.0.1").output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn its_pipeline_is_checked_run_and_read_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = file("rates.toml").replace("https://api.frankfurter.dev", &format!("http://127.0.0.1:{}", far_side()));
    std::fs::write(dir.path().join("rates.toml"), pipeline).unwrap();
    program(dir.path(), &["check", "rates.toml"]);
    let told = program(dir.path(), &["explain", "exchange_rates"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("The currencies to price"));
    for _ in 0..2 {
        program(dir.path(), &["run", "rates.toml", "--to", "2026-05-15"]);
        let stored = std::fs::read_to_string(dir.path().join("data/rates/EUR_2026.csv")).unwrap();
        assert_eq!(stored.lines().count(), 9, "a second run adds nothing: {stored}");
        assert!(stored.starts_with("base,currency,day,rate\nEUR,CHF,2026-05-11T00:00:00Z,0.9341\nEUR,JPY,"), "{stored}");
    }
    let rows = program(dir.path(), &["read", "rates.toml", "--where", "base = 'USD' AND currency = 'CHF'", "--format", "csv"]);
    assert_eq!(String::from_utf8_lossy(&rows.stdout).lines().count(), 5);
}
