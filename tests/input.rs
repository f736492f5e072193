//! Bad input, as the program meets it: whole pipeline files, with the plugins that are built in. The parsers that are behind walls are
//! fuzzed in their own crates, all with `contract::testkit::Fuzz`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

use std::path::PathBuf;

use pipeline::config::{Env, MAX_FILE, SourceFile, load, parse};
use pipeline::diagnostic::{render, to_json};
use pipeline::plan::{Registry, plan};
use pipeline_contract::testkit::{Draw, Fuzz};
use pipeline_contract::{Level, PlanError};

const CRYPTO: &str = include_str!("../pipelines/crypto.toml");
const MARKETS: &str = include_str!("../pipelines/markets.toml");
/// Everything that the others leave out.
const FULL: &str = r#"name = "full"
[run]
concurrency = 4
epoch_rows = 100_000
epoch_interval = "10s"
deadline = "1h 50m"
keep_runs = 10_000
[log]
file = "logs/x.log"
max_size = "10MB"
keep = 5
[trigger]
type = "cron"
schedule = "20 */2 1-15,28 jan-jun mon#2"
timezone = "Europe/Berlin"
jitter = "30s"
[source]
type = "coingecko_markets"
base_url = "https://${HOST}/v3"
api_key = "${KEY:?get one}"
top = 10
[source.http]
timeout = "30s"
retries = 4
requests_per_minute = 25
allow_insecure_key = ["a.example"]
[[transforms]]
type = "derive"
column = "spread"
expr = "CASE WHEN high_24h > low_24h THEN (high_24h - low_24h) / 2 ELSE NULL END"
[[transforms]]
type = "filter"
expr = "symbol LIKE 'b%' OR regexp_matches(name, '^[a-z]+$')"
[[transforms]]
type = "cast"
columns = { market_cap_rank = "float" }
[[transforms]]
type = "rename"
columns = { symbol = "ticker" }
[validate]
on_reject = "drop"
[validate.limits]
warn = "5.5%"
abort = 1000
[validate.columns]
ath = { required = true, min = 0, max = 1e9 }
coin_id = { regex = "^[a-z0-9-]+$", one_of = ["bitcoin", "ethereum"] }
[dedupe]
keys = ["coin_id", "fetched_at"]
on_conflict = "keep_last"
[[sink]]
type = "csv"
path = "data/{coin_id}/{fetched_at:%Y-%m-%d}.csv"
delimiter = ";"
null = "NA"
time_format = "%Y-%m-%d %H:%M:%S"
columns = ["fetched_at", { column = "ath", as = "top" }, "coin_id", "ticker"]
"#;

#[rustfmt::skip]
const WORDS: &[&str] = &[
    "[", "]", "[[", "]]", "{", "}", "=", ",", ".", "\n", "\"", "'", "\"\"\"", "'''", "#", "a.", "a.b.c = 1\n", "[a.b]\n", "x = {", "x = [", "${",
    "${KEY}", "${HOST:-", "${A:?b}", "$$", "\\u0000", "\\uD800", "\u{feff}", "\u{202e}", "\0", "\r\n", "inf", "nan", "1979-05-27T07:32:00Z",
    "0x", "1_000", "true", "(", ")", "AND ", "NOT ", "CASE WHEN ", "CAST(", "INTERVAL '1 day'", "{coin_id}", "{fetched_at:%", "../", "..", "%s",
    "{{", "1h", "999999999999y", "-1", "5%", "10MB", "* * 30 2 *", "@daily", "type = \"csv\"\n", "[sink]\n", "regex = \"(a{1000}){1000}\"", "é",
    "日本",
];

const SECRET: &str = "open-sesame-0123456789";

fn env() -> Env {
    [("HOST", "api.coingecko.com"), ("KEY", SECRET)].into_iter().collect()
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.add(pipeline_triggers::plugins());
    registry.add(pipeline_source_coingecko::plugins());
    registry.add(pipeline_source_file::plugins());
    registry.add(pipeline_sink_csv::plugins());
    registry.add(pipeline_sink_jsonl::plugins());
    registry
}

/// The faults of a file, plugins and plan among them.
fn faults(file: &SourceFile, env: &Env, registry: &Registry) -> Vec<PlanError> {
    let (def, mut faults) = parse(file, env);
    faults.extend(plan(&def, registry).2);
    faults
}

fn file(text: impl Into<String>) -> SourceFile {
    SourceFile { path: PathBuf::from("fuzz.toml"), text: text.into() }
}

fn is_sound(faults: &[PlanError]) -> bool {
    faults.iter().all(|fault| fault.level == Level::Warning)
}

/// A file that is right but for its values.
fn structured(draw: &mut Draw) -> String {
    const EVERY: [&str; 12] = ["1h", "90s", "1h 30m", "0s", "1ms", "36525 days", "1y", "584542046090 years", "1", "", "1H", "1h1h"];
    const SIZES: [&str; 8] = ["\"10MB\"", "1000", "999", "\"9GiB\"", "\"18446744073709551615\"", "\"18446744073709551616\"", "-1", "\"1 kb\""];
    const LIMITS: [&str; 9] = ["\"5%\"", "\"0%\"", "\"100.0%\"", "\"101%\"", "\"nan%\"", "\"-1%\"", "0", "9223372036854775807", "\"1e1%\""];
    const PATHS: [&str; 8] = [
        "data/{coin_id}.csv",
        "{coin_id}/{timestamp:%Y}.csv",
        "x.csv",
        "../{coin_id}.csv",
        "/{coin_id}",
        "{coin_id}{coin_id}",
        "{timestamp:%D}",
        "a/../../b.csv",
    ];
    const CRONS: [&str; 10] =
        ["20 * * * *", "0 0 29 2 *", "0 0 30 2 *", "* * * * *", "@yearly", "60 * * * *", "0 0 L * *", "0 0 * * 5#5", "*/7 1-23/2 * * 0,7", ""];
    let trigger = if draw.once_in(2) {
        format!("type = \"interval\"\nevery = \"{}\"\noffset = \"{}\"", draw.of(&EVERY), draw.of(&EVERY))
    } else {
        format!("type = \"cron\"\nschedule = \"{}\"", draw.of(&CRONS))
    };
    format!(
        "name = \"x\"\n[log]\nmax_size = {}\n[trigger]\n{trigger}\n[source]\ntype = \"coingecko_ohlc\"\ncoins = [\"bitcoin\"]\ninterval = \"1h\"\n\
         [validate.limits]\nwarn = {}\nabort = {}\n[dedupe]\nkeys = [\"coin_id\", \"timestamp\"]\n[sink]\ntype = \"csv\"\npath = \"{}\"\n",
        draw.of(&SIZES),
        draw.of(&LIMITS),
        draw.of(&LIMITS),
        draw.of(&PATHS),
    )
}

#[test]
fn fuzzed_pipeline_files_are_planned_or_every_fault_is_in_the_file_and_tells_no_secret() {
    let (env, registry) = (env(), registry());
    let fuzz = Fuzz { name: "pipeline files", samples: &[CRYPTO, MARKETS, FULL], words: WORDS, cases: 60, cost: 50 };
    fuzz.run_text(structured, |text| {
        let file = file(text);
        let faults = faults(&file, &env, &registry);
        for fault in &faults {
            if let Some(span) = &fault.span {
                assert!(file.text.get(span.clone()).is_some(), "{span:?} is not in the file: {fault:?}");
            }
        }
        let shown = render(&file, &[], &faults, false);
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(!format!("{:?}", to_json(&file, &[], &faults)).contains(SECRET));
        // A line is shown once for each fault in it, cut to what fits.
        assert!(shown.len() <= faults.len() * (4 * file.text.len() + 4000), "{} bytes about {} faults", shown.len(), faults.len());
        is_sound(&faults)
    });
}

#[test]
fn the_samples_are_sound() {
    for text in [CRYPTO, MARKETS, FULL] {
        let file = file(text);
        let faults = faults(&file, &env(), &registry());
        assert!(is_sound(&faults), "{}", render(&file, &[], &faults, false));
    }
}

#[test]
fn nesting_without_end_is_a_fault_and_no_crash() {
    let (env, registry) = (env(), registry());
    let many = 100_000;
    for (what, text) in [
        ("a dotted key", format!("{}a = 1", "a.".repeat(many))),
        ("a dotted header", format!("[{}a]", "a.".repeat(many))),
        ("a list", format!("x = {}", "[".repeat(many))),
        ("a list that is closed", format!("x = {}{}", "[".repeat(many), "]".repeat(many))),
        ("tables", format!("x = {}", "{a=".repeat(many))),
        ("tables that are closed", format!("x = {}1{}", "{a=".repeat(many), "}".repeat(many))),
        ("tables in lists", format!("[source]\nx = {}1{}", "[{a=".repeat(many), "}]".repeat(many))),
        ("tables of dotted keys", format!("x = {}1{}", "{a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a=".repeat(many / 10), "}".repeat(many / 10))),
    ] {
        let file = file(text);
        let faults = faults(&file, &env, &registry);
        let caps = ["lists and tables nest deeper than 80 levels, the most that are read", "a key has more than 8 parts, the most that are read"];
        assert!(faults.iter().any(|fault| fault.code == "E001" && caps.contains(&fault.message.as_str())), "{what}: {:?}", faults.first());
        assert!(render(&file, &[], &faults[..1], false).len() < 10_000, "{what}: {}", render(&file, &[], &faults[..1], false).len());
    }
}

#[test]
fn the_deepest_file_that_is_read_crashes_nothing() {
    let (env, registry) = (env(), registry());
    let key = |parts: usize| vec!["a"; parts].join(".");
    for parts in [8, 9, 80] {
        let text = format!("[{}]\n{} = {}1{}\n", key(parts), key(parts), format!("{{{} = ", key(parts)).repeat(78), "}".repeat(78));
        let file = file(text);
        let faults = faults(&file, &env, &registry);
        assert!(!is_sound(&faults));
        assert_eq!(faults[0].message.contains("more than 8 parts"), parts > 8, "{faults:?}");
        render(&file, &[], &faults, false);
    }
}

#[test]
fn a_file_is_read_up_to_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.toml");
    let whole = format!("#{}", "x".repeat(usize::try_from(MAX_FILE).unwrap() - 1));
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(load(&path).unwrap().text.len(), whole.len());
    std::fs::write(&path, whole + "x").unwrap();
    let fault = load(&path).unwrap_err();
    assert_eq!((fault.code, fault.message), ("E004", format!("cannot read {}: it is larger than 1 MiB, the most that is read", path.display())));
}

#[test]
fn a_file_of_nothing_but_faults_is_told_in_few() {
    let (env, registry) = (env(), registry());
    let most = usize::try_from(MAX_FILE).unwrap() / 32;
    let columns = format!("name = \"x\"\n[sink]\ntype = \"csv\"\npath = \"x\"\ncolumns = [{}]\n", "\"x\",".repeat(most / 5));
    for (what, text) in [
        ("lines that are not TOML", "=\n".repeat(most / 2)),
        ("brackets", "[".repeat(most)),
        ("keys that are unknown", (0..most / 12).map(|n| format!("key{n:06}=1\n")).collect()),
        ("tables that are unknown", (0..most / 12).map(|n| format!("[key{n:06}]\n")).collect()),
        ("forms that are not closed", format!("x = \"{}\"", "${".repeat(most / 2 - 4))),
        ("sinks that are nothing", "[[sink]]\n".repeat(most / 9)),
        ("columns that are not there", format!("{}\n{columns}", FULL.split("[[sink]]").next().unwrap().replacen("name", "description", 1))),
    ] {
        let file = file(text);
        let faults = faults(&file, &env, &registry);
        assert!(!is_sound(&faults), "{what}");
        let shown = render(&file, &[], &faults, false);
        assert!(shown.len() < 100_000, "{what}: {} bytes about {} faults", shown.len(), faults.len());
        assert!(to_json(&file, &[], &faults).len() <= 101, "{what}");
    }
}

#[test]
fn every_cap_of_a_file_says_what_it_is() {
    let (env, registry) = (env(), registry());
    let all = |old: &str, new: String| {
        let text = FULL.replacen(old, &new, 1);
        assert_ne!(text, FULL, "{old}");
        let file = file(text);
        let faults = faults(&file, &env, &registry);
        let told: Vec<String> = to_json(&file, &[], &faults).iter().map(|fault| fault["message"].as_str().unwrap().to_owned()).collect();
        assert!(told.iter().all(|message| message.len() <= 2003));
        told.join("\n")
    };
    let regex = |pattern: String| all("^[a-z0-9-]+$", pattern);
    let filter = |expr: String| all("symbol LIKE 'b%' OR regexp_matches(name, '^[a-z]+$')", expr);
    for (told, cap) in [
        (regex("(a{1000}){1000}".into()), "size limit of 1048576 bytes"),
        (regex(format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000))), "maximum number of nested parentheses/brackets (250)"),
        (regex("[".repeat(100_000)), "not a regular expression"),
        (filter("regexp_matches(name, '(a{1000}){1000}')".into()), "it compiles to more than 1 MiB"),
        (filter(format!("{}TRUE{}", "(".repeat(20_000), ")".repeat(20_000))), "the expression nests deeper than 50 levels"),
        (filter(format!("{}TRUE", "NOT ".repeat(9_000))), "the expression nests deeper than 50 levels"),
        (filter(format!("ath > {}", "9".repeat(70_000))), "the expression has 70006 bytes; the limit is 65536"),
        (filter(format!("ath > 1{}", " OR ath > 1".repeat(5_800))), "operators and keywords; the limit is 10000"),
        (filter(format!("ath > {}", "9".repeat(60_000))), "999..."),
        (all("data/{coin_id}/", "x".repeat(5000)), "the path has 5025 bytes, and 4096 are the most that a system takes"),
        (all("1h 50m", format!("{}h", "9".repeat(100_000))), "`deadline`: \"999"),
        (all("1h 50m", "9999999999999999999999h".into()), "is too long or too fine a length of time"),
        (all("10MB", format!("{}MB", "9".repeat(100_000))), "a number of bytes, 1000 or more"),
        (all("name = \"full\"", format!("name = \"{}\"", "x".repeat(100_000))), "expected 1 to 64 small letters"),
        (all("retries = 4", format!("retries = {}", "9".repeat(100_000))), "number"),
        (all("top = 10", format!("top = {}", i64::MAX)), "top"),
    ] {
        assert!(told.contains(cap), "{cap}: {}", told.chars().take(300).collect::<String>());
    }
}

#[test]
fn lengths_of_time_of_ages_are_planned() {
    let every = "type = \"interval\"\nevery = \"584542046090 years\"\n";
    let text = CRYPTO.replacen("type = \"interval\"\nevery = \"1h\"\n", every, 1).replacen(
        "[trigger]",
        "[run]\ndeadline = \"584542046090 years\"\n[trigger]",
        1,
    );
    let file = file(text.replacen("catch_up = ", "jitter = \"5000000 years\"\ncatch_up = ", 1));
    assert!(file.text.contains(every));
    let faults = faults(&file, &env(), &registry());
    assert!(is_sound(&faults), "{}", render(&file, &[], &faults, false));
}
