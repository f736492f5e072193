//! What editors and shells get: the JSON Schema of pipeline files, completions, and a pipeline drawn.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::Value;
use support::room::nobody_listens;
use support::{Recipe, Room};

const SCHEMA: &str = "docs/pipeline.schema.json";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn room() -> Room {
    Room::at(&nobody_listens())
}

fn schema() -> Value {
    serde_json::from_str(&room().pipeline(&["schema"]).exits(0).stdout).unwrap()
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

/// A pipeline file as an editor's validator sees it.
fn json(text: &str) -> Value {
    let table: toml::Table = text.parse().unwrap();
    serde_json::to_value(table).unwrap()
}

fn faults(text: &str) -> Vec<String> {
    validator().iter_errors(&json(text)).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_beside_the_docs_is_the_one_that_is_printed() {
    let printed = room().pipeline(&["schema"]).exits(0).stdout.clone();
    let path = repository().join(SCHEMA);
    if std::env::var_os("PIPELINE_UPDATE_CASES").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == printed, "{SCHEMA} is not what `pipeline schema` prints: PIPELINE_UPDATE_CASES=1 cargo test --test editors");
}

#[test]
fn every_shipped_pipeline_names_the_schema_and_keeps_to_it() {
    let mut files = 0;
    for entry in std::fs::read_dir(repository().join("pipelines")).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#:schema ../docs/pipeline.schema.json\n"), "{}", path.display());
        assert_eq!(faults(&text), Vec::<String>::new(), "{}", path.display());
        files += 1;
    }
    assert!(files >= 4, "two pipelines, and the tests of each");
    assert_eq!(faults(&Recipe::new().toml()), Vec::<String>::new());
}

/// Every plugin: its kind and its type.
fn types() -> Vec<(String, String)> {
    let listed = room().pipeline(&["list"]).exits(0).stdout.clone();
    let types: Vec<(String, String)> = listed
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || c == '\u{2502}').filter(|word| !word.is_empty()).collect();
            ["source", "transform", "sink", "trigger"].contains(words.first()?).then(|| (words[0].to_owned(), words[1].to_owned()))
        })
        .collect();
    assert!(types.len() >= 10, "{listed}");
    types
}

#[test]
fn every_sample_of_a_plugin_keeps_to_the_schema() {
    for (kind, name) in types() {
        let explained = room().pipeline(&["explain", &name]).exits(0).stdout.clone();
        let (_, sample) = explained.split_once("Sample:").unwrap();
        let sample: toml::Table = sample.parse().unwrap();
        let recipe: toml::Table = Recipe::new().toml().parse().unwrap();
        let mut file = recipe;
        let key = if kind == "transform" { "transforms" } else { &kind };
        file.insert(key.to_owned(), sample[key].clone());
        let found: Vec<String> = validator().iter_errors(&serde_json::to_value(file).unwrap()).map(|error| error.to_string()).collect();
        assert_eq!(found, Vec::<String>::new(), "the sample of {name}");
    }
}

#[test]
fn what_is_broken_in_its_structure_breaks_the_schema() {
    let good = Recipe::new().toml();
    for (what, with) in [
        ("[run]\nconcurrency = 4", "[run]\nconcurrency = 0"),
        ("[run]\nconcurrency = 4", "[run]\nconcurency = 4"),
        ("[run]\nconcurrency = 4", "[run]\nconcurrency = \"four\""),
        ("interval = \"1h\"", "interval = \"2h\""),
        ("interval = \"1h\"", "intervall = \"1h\""),
        ("type = \"coingecko_ohlc\"", "type = \"coingecko_olhc\""),
        ("type = \"coingecko_ohlc\"", ""),
        ("type = \"manual\"", "type = \"interval\""),
        ("type = \"manual\"", "type = \"interval\"\nevery = \"an hour\""),
        ("name = \"candles\"", ""),
        ("keys = [\"coin_id\", \"timestamp\"]", "keys = \"coin_id\""),
        ("on_conflict = \"keep_first\"", "on_conflict = \"first\""),
        ("retries = 1", "retries = 1.5"),
        ("volume_24h = true", "volume_24h = 1"),
        ("[sink]", "[sinks]"),
        ("[sink]", "[[test]]\nname = \"no expectation\"\n[sink]"),
        ("[sink]", "[[test]]\nname = \"misspelt\"\nrow = []\nexpect.rows = []\n[sink]"),
        ("[sink]", "[[test]]\nname = \"a row is a table\"\nrows = [1]\nexpect.rows = []\n[sink]"),
    ] {
        assert!(good.contains(what), "{what}");
        assert_ne!(faults(&good.replacen(what, with, 1)), Vec::<String>::new(), "{what} -> {with}");
    }
    // What comes from the environment is typed when it is known.
    for (what, with) in [
        ("concurrency = 4", "concurrency = \"${N:-4}\""),
        ("volume_24h = true", "volume_24h = \"${VOLUME}\""),
        ("interval = \"1h\"", "interval = \"${I:-1h}\""),
    ] {
        assert_eq!(faults(&good.replacen(what, with, 1)), Vec::<String>::new(), "{what} -> {with}");
    }
}

/// Codes of faults in a file's structure: a key that is unknown or missing, a type of plugin that there is not.
const STRUCTURE: [&str; 3] = ["E010", "E011", "E013"];

#[test]
fn the_schema_refuses_every_case_that_is_broken_in_its_structure_and_takes_every_sound_one() {
    let (mut broken, mut sound) = (0, 0);
    let validator = validator();
    for entry in std::fs::read_dir(repository().join("tests/check/cases")).unwrap() {
        let path = entry.unwrap().path();
        let told = path.with_extension("txt");
        if path.extension().is_none_or(|extension| extension != "toml") || !told.exists() {
            continue;
        }
        let (text, told) = (std::fs::read(&path).unwrap(), std::fs::read_to_string(&told).unwrap());
        let Ok(text) = String::from_utf8(text) else { continue };
        let Ok(table) = text.parse::<toml::Table>() else { continue };
        let valid = validator.is_valid(&serde_json::to_value(table).unwrap());
        let name = path.file_name().unwrap().display();
        if STRUCTURE.iter().any(|code| told.contains(&format!("error[{code}]")) || told.contains(&format!("\"code\":\"{code}\""))) {
            assert!(!valid, "{name} is broken, and the schema takes it:\n{told}");
            broken += 1;
        } else if told.trim_end().ends_with("exit 0") {
            assert!(valid, "{name} is sound, and the schema refuses it: {:?}", faults(&text));
            sound += 1;
        }
    }
    assert!(broken >= 15 && sound >= 5, "{broken} broken, {sound} sound");
}

/// Where each plugin's options stand in the documentation.
const READMES: [&str; 6] =
    ["sources/coingecko/README.md", "sources/file/README.md", "sinks/csv/README.md", "sinks/jsonl/README.md", "triggers/README.md", "docs/stages.md"];

#[test]
fn the_options_in_the_readmes_are_those_of_the_types() {
    let mut told = Vec::new();
    for name in READMES {
        let path = repository().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut made = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("<!-- pipeline explain ") {
            let (ty, after) = after.split_once(" -->\n").unwrap();
            let end = format!("<!-- end of {ty} -->");
            let (_, after) = after.split_once(&end).unwrap_or_else(|| panic!("{name}: {end} is missing"));
            let explained = room().pipeline(&["explain", ty, "--format", "markdown"]);
            made.push_str(&format!("{before}<!-- pipeline explain {ty} -->\n{}{end}", explained.exits(0).stdout));
            told.push(ty.to_owned());
            rest = after;
        }
        made.push_str(rest);
        if std::env::var_os("PIPELINE_UPDATE_CASES").is_some() {
            std::fs::write(&path, &made).unwrap();
            continue;
        }
        assert!(made == text, "{name} does not tell the options as they are: PIPELINE_UPDATE_CASES=1 cargo test --test editors");
    }
    told.sort();
    let mut types: Vec<String> = types().into_iter().map(|(_, ty)| ty).collect();
    types.sort();
    assert_eq!(told, types, "each plugin's options stand in one of {READMES:?}");
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = room().pipeline(&["completions", shell]).exits(0).stdout.clone();
        for command in ["run", "check", "plan", "rebuild", "dry-run", "completions"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    room().pipeline(&["completions", "cmd"]).exits(2).complains("possible values");
}

#[test]
fn a_plan_draws_each_stage_with_the_columns_that_leave_it() {
    let room = room();
    let transforms = "[[transforms]]\ntype = \"derive\"\ncolumn = \"spread\"\nexpr = \"high - low\"\n\n[[transforms]]\ntype = \"select\"\ncolumns = [\"coin_id\", \"timestamp\", \"close\", \"spread\"]\n";
    let sink = "[sink]\ntype = \"csv\"\npath = \"data/{coin_id}.csv\"\n";
    room.write("p.toml", &Recipe::new().transforms(transforms).validate("").sink(sink).toml());
    let drawn = room.pipeline(&["plan", "p.toml"]);
    drawn.exits(0);
    let lines: Vec<&str> = drawn.stdout.lines().map(|line| line.trim_start_matches(['\u{2502}', '\u{251c}', '\u{2514}', ' '])).collect();
    for line in [
        "source coingecko_ohlc",
        "transform derive",
        "+ spread      float",
        "transform select",
        "- open        float",
        "dedupe coin_id, timestamp",
        "into data/{coin_id}.csv",
    ] {
        assert!(lines.contains(&line), "{line:?} is not in {}", drawn.stdout);
    }
    let plan = room.pipeline(&["plan", "p.toml", "--format", "json"]).exits(0).json();
    let select = plan["stages"].as_array().unwrap().iter().find(|stage| stage["what"] == "select").unwrap();
    let names: Vec<&str> = select["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["coin_id", "timestamp", "close", "spread"]);
    room.write("bad.toml", "name = 1");
    room.pipeline(&["plan", "bad.toml"]).exits(2).complains("E012");
}
