//! Broken files with all that a person sees of them, and whole ones.

mod environment;
mod structure;
mod tables;
mod validate;

use std::time::Duration;

use pipeline_contract::{Descriptor, HumanDuration, Kind, Stage, parse_partial};
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::stages::dedupe::OnConflict;
use crate::stages::validate::{Limit, OnReject};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read by serde alone")]
struct Config {
    #[serde(default)]
    top: u32,
    url: Option<Spanned<String>>,
    key: Option<String>,
}

/// A plugin that only looks at its config.
struct Demo(Kind);

impl Plugin for Demo {
    fn describe(&self) -> Descriptor {
        Descriptor { kind: self.0, type_name: "demo", summary: "", config: || schemars::schema_for!(Config), sample: "" }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let (config, mut faults) = parse_partial::<Config>(&format!("{} \"demo\"", self.0), config);
        if let Some(url) = config.and_then(|config| config.url).filter(|url| !url.starts_with("http")) {
            faults.push(url.error("E030", format!("`url`: \"{}\" does not start with http", *url)).label(format!("{} is no address", *url)));
        }
        Err(faults)
    }
}

fn env() -> Env {
    [("DEMO_KEY", "open sesame"), ("TOP", "3"), ("USER", "me")].into_iter().collect()
}

fn file(text: &str) -> SourceFile {
    SourceFile { path: "crypto.toml".into(), text: text.to_owned() }
}

/// The faults of a file as a person sees them, those of its plugins among them.
fn rendered(text: &str) -> String {
    let file = file(text);
    let (def, mut faults) = parse(&file, &env());
    let cx = BuildContext { pipeline: def.name.to_string() };
    let stages = [(&def.source, Kind::Source), (&def.trigger, Kind::Trigger)];
    for (stage, kind) in stages.into_iter().filter_map(|(stage, kind)| stage.as_ref().map(|stage| (stage, kind))) {
        let mut found = stage.draft(&Demo(kind), &cx).faults;
        def.hide(&mut found);
        faults.extend(found);
    }
    crate::diagnostic::render(&file, &[], &faults, false)
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(rendered(text), expected.trim_start_matches('\n'));
}

const WHOLE: &str = r#"
name = "crypto"
description = "hourly candles"

[log]
file = "logs/crypto.log"
format = "json"
level = "debug"
max_size = "5 MiB"
keep = 3

[run]
concurrency = 2
epoch_rows = "${TOP}"
epoch_interval = "5s"
deadline = "45m"
keep_runs = 100

[trigger]
type = "interval"
every = "1h"
catch_up = "all"
overrun = "wait"

[source]
type = "demo"
top = "${TOP:-5}"
key = "${DEMO_KEY}"

[[transforms]]
type = "rename"
[[transforms]]
type = "${KIND:-select}"

[validate]
on_reject = "quarantine"
quarantine_path = "bad/{name}.jsonl"
[validate.limits]
warn = "5%"
abort = 500
[validate.columns.close]
required = true
type = "float"
min = 0
max = "${TOP}"
[validate.columns.timestamp]
min = 2020-01-31
max = "2030-01-01T00:00:00Z"
[validate.columns."coin id"]
regex = "^[a-z]+$"
one_of = ["a", 1, 2.5, true]
min_length = 1
[[validate.rules]]
name = "range"
expr = "high >= low"
message = "upside down"
[[validate.rules]]
kind = "price_envelope"
close = "last"
[[validate.rules]]
kind = "non_negative_volume"

[dedupe]
keys = ["coin_id", "timestamp"]
on_conflict = "keep_last"

[[sink]]
type = "csv"
path = "data/{coin_id}.csv"
[[sink]]
type = "jsonl"
"#;

#[test]
fn a_whole_file_is_read() {
    let file = file(WHOLE);
    let (def, faults) = parse(&file, &env());
    assert_eq!(faults, []);
    assert_eq!((def.name.as_str(), def.description.as_deref()), ("crypto", Some("hourly candles")));
    assert_eq!(def.log.file.as_ref().map(|file| file.as_str()), Some("logs/crypto.log"));
    assert_eq!((def.log.format, def.log.level, def.log.max_size, def.log.keep), (LogFormat::Json, LogLevel::Debug, ByteSize(5 << 20), 3));
    assert_eq!((def.run.concurrency, def.run.epoch_rows(), def.run.keep_runs), (2, (3, 3), 100));
    assert_eq!(def.run.epoch_interval, HumanDuration(Duration::from_secs(5)));
    assert_eq!(def.run.deadline.as_deref(), Some(&HumanDuration(Duration::from_secs(45 * 60))));
    assert_eq!((def.policy.catch_up(), def.policy.overrun), (CatchUp::All, Overrun::Wait));
    let trigger = def.trigger.as_ref().unwrap();
    assert_eq!(trigger.type_name.as_str(), "interval");
    assert_eq!(trigger.table.keys().iter().map(|key| key.as_str()).collect::<Vec<_>>(), ["every"]);
    assert_eq!(&WHOLE[trigger.span.clone()], "[trigger]");
    let types: Vec<_> = def.transforms.iter().chain(&def.sinks).map(|stage| stage.type_name.as_str()).collect();
    assert_eq!(types, ["rename", "select", "csv", "jsonl"]);
    assert_eq!(&WHOLE[def.sinks[1].span.clone()], "[[sink]]");

    let dedupe = def.dedupe.as_ref().unwrap();
    assert_eq!(dedupe.on_conflict(), OnConflict::KeepLast);
    assert_eq!(&WHOLE[dedupe.keys[1].span()], "\"timestamp\"");
    assert_eq!(&WHOLE[dedupe.span.clone()], "[dedupe]");
    assert!(!format!("{def:?}").contains("open sesame"));
}

#[test]
fn the_rules_of_a_whole_file_are_read() {
    let file = file(WHOLE);
    let def = parse(&file, &env()).0;
    let validate = def.validate.unwrap();
    assert_eq!(&WHOLE[def.validate_span], "[validate]");
    assert_eq!(validate.on_reject, OnReject::Quarantine);
    assert_eq!(validate.quarantine_path.as_deref().map(String::as_str), Some("bad/crypto.jsonl"));
    assert_eq!((validate.limits.warn(), validate.limits.abort()), (Some(Limit::Share(0.05)), Some(Limit::Rows(500))));
    let (key, _) = validate.columns.get_key_value("coin id").unwrap();
    assert_eq!(&WHOLE[key.span()], "\"coin id\"");
    assert_eq!(validate.rules.len(), 3);
}

#[test]
fn the_least_file_has_defaults() {
    let file = file("name = \"a\"\n[trigger]\ntype = \"manual\"\n[source]\ntype = \"demo\"\n[sink]\ntype = \"csv\"\n[validate]\n");
    let (def, faults) = parse(&file, &env());
    assert_eq!(faults, []);
    assert_eq!((def.run.concurrency, def.run.epoch_rows(), def.run.keep_runs), (4, (300_000, 1_000_000), 10_000));
    assert_eq!((def.policy.catch_up(), def.policy.overrun), (CatchUp::Latest, Overrun::Skip));
    assert_eq!((def.log.format, def.log.level, def.log.max_size, def.log.keep), (LogFormat::Text, LogLevel::Info, ByteSize(10_000_000), 5));
    assert!(def.run.deadline.is_none() && def.dedupe.is_none() && def.transforms.is_empty());
    let validate = def.validate.unwrap();
    assert_eq!((validate.on_reject, validate.quarantine_path.is_none()), (OnReject::Quarantine, true));
}

#[test]
fn a_file_is_loaded_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.toml");
    assert!(load(&path).unwrap_err().message.ends_with("p.toml: No such file or directory (os error 2)"));
    std::fs::write(&path, b"a = \"\xff\"").unwrap();
    assert!(load(&path).unwrap_err().message.ends_with("p.toml: byte 5 is not UTF-8 text"));
    std::fs::write(&path, "a = 1").unwrap();
    assert_eq!(load(&path).unwrap().text, "a = 1");
}

#[test]
fn later_faults_hide_the_environment_too() {
    let file = file("name = \"a\"\n[source]\ntype = \"${DEMO_KEY}\"");
    let (def, _) = parse(&file, &env());
    let source = def.source.as_ref().unwrap();
    let mut faults = vec![source.type_name.error("E040", format!("no source is called \"{}\"", *source.type_name))];
    def.hide(&mut faults);
    assert_eq!(faults[0].message, "no source is called \"${DEMO_KEY}\"");
}

proptest! {
    /// Whatever is cut out of a good file or put into it: no panic, every place in the file, no secret shown.
    #[test]
    fn nothing_makes_it_panic(
        at in 0..WHOLE.len(),
        cut in 0usize..40,
        put in prop::sample::select(vec!["", "[", "[[", "= ", "\"", "'''", "{", "${", ".", "1", "\n", "ü", "-", "abc", "\\", "\u{feff}", "\r\n", "{a=[{b=1}]}"]),
    ) {
        let end = (at + cut).min(WHOLE.len());
        let text = format!("{}{put}{}", &WHOLE[..at], &WHOLE[end..]);
        let file = file(&text);
        let (_, faults) = parse(&file, &env());
        for fault in &faults {
            let span = fault.span.clone().unwrap_or_default();
            prop_assert!(text.get(span).is_some(), "{fault:?}");
        }
        prop_assert!(!rendered(&text).contains("sesame"));
    }
}
