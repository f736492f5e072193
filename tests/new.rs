//! `pipeline new`: what it writes compiles, keeps the promises of its kind and runs, and nothing else in the repository changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::Room;
use support::room::nobody_listens;

const KINDS: [&str; 3] = ["source", "sink", "trigger"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn room() -> Room {
    Room::at(&nobody_listens())
}

/// Every file of the repository: its length and its time of change.
fn tree(folder: &Path, found: &mut BTreeMap<PathBuf, (u64, std::time::SystemTime)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap_or_default();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() && name != ".git" && name != "target" {
            tree(&entry.path(), found);
        } else if meta.is_file() {
            found.insert(entry.path(), (meta.len(), meta.modified().unwrap()));
        }
    }
}

/// Runs cargo in a folder with the build folder of this very test, where all dependencies are built already.
#[track_caller]
fn cargo(folder: &Path, args: &[&str]) -> String {
    // target/debug/deps/new-0123 -> target
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_path_buf();
    let output = Command::new(env!("CARGO")).args(args).current_dir(folder).env("CARGO_TARGET_DIR", target).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "cargo {args:?}:\n{text}");
    text
}

/// One workspace of all three, with the repository's own profile and versions, so that little is built anew.
fn workspace(room: &Room) -> PathBuf {
    let root = std::fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let profile = &root[root.find("[profile.dev]").unwrap()..root.find("[profile.release]").unwrap()];
    let members = KINDS.map(|kind| format!("\"my-{kind}\"")).join(", ");
    room.write("Cargo.toml", &format!("[workspace]\nresolver = \"3\"\nmembers = [{members}]\n{profile}"));
    room.write("Cargo.lock", &std::fs::read_to_string(repository().join("Cargo.lock")).unwrap());
    for kind in KINDS {
        let name = format!("my-{kind}/Cargo.toml");
        let text = room.read(&name);
        assert!(text.contains("\n[workspace]\n"), "{text}");
        room.write(&name, &text.replace("\n[workspace]\n", "\n"));
    }
    room.path("")
}

#[test]
fn what_is_written_compiles_keeps_its_promises_and_runs_and_nothing_else_is_touched() {
    let room = room();
    let mut before = BTreeMap::new();
    tree(repository(), &mut before);
    let checkout = repository().display().to_string();
    for kind in KINDS {
        let name = format!("my-{kind}");
        let made = room.pipeline(&["new", kind, &name, "--contract", &checkout]);
        made.exits(0).says("Lines touched outside the new folder: 0").says(&format!(".with(my_{kind}::plugins())")).says("src/main.rs");
    }
    let mut after = BTreeMap::new();
    tree(repository(), &mut after);
    assert_eq!(before, after, "0 lines outside the new folder");

    let folder = workspace(&room);
    cargo(&folder, &["test", "--offline", "--workspace"]);
    cargo(&folder, &["build", "--offline", "--workspace"]);
    let programs = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
    for kind in KINDS {
        let own = folder.join(format!("my-{kind}"));
        let program = |args: &[&str]| {
            let output = Command::new(programs.join(format!("my-{kind}"))).args(args).current_dir(&own).output().unwrap();
            let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "my-{kind} {args:?}: {text}");
            text
        };
        let file = format!("pipelines/my-{kind}.toml");
        program(&["check", &file, "--deny-warnings"]);
        let ran = program(&["run", &file, "--once", "--format", "json", "-qq"]);
        assert!(ran.contains("\"status\":\"ok\""), "{ran}");
        let rows = program(&["read", &file, "--format", "json"]).lines().count();
        assert_eq!(rows, if kind == "source" { 48 } else { 1 }, "{kind}");
        program(&["explain", &format!("my_{kind}")]);
    }
    let own = folder.join("my-source");
    let output = Command::new(programs.join("my-source")).args(["test", "pipelines/my-source.toml"]).current_dir(own).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 of 1 test ok"), "{output:?}");
}

#[test]
fn without_a_checkout_it_depends_on_the_repository_and_says_so() {
    let room = room();
    room.pipeline(&["new", "source", "wind"]).exits(0).says("by git, on https://");
    let text = room.read("wind/Cargo.toml");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("pipeline")).collect();
    assert!(lines.len() == 5 && lines.iter().all(|line| line.contains("git = \"https://")), "{text}");
    assert!(room.read("wind/src/lib.rs").contains("pub struct WindPlugin;"));
    // Within a checkout, on that, so that it goes where the checkout goes.
    room.write("contract/Cargo.toml", "[package]\nname = \"pipeline-contract\"\n");
    room.pipeline(&["new", "sink", "lines", "--dir", "mine"]).exits(0).says("by path, on the checkout in ../..");
    assert!(room.read("mine/lines/Cargo.toml").contains("pipeline-files = { path = \"../../files\" }"));
    room.pipeline(&["new", "sink", "other", "--contract", "mine"]).exits(2).complains("mine is no checkout of pipeline");
}

#[test]
fn nothing_is_written_over_and_names_that_cannot_be_are_refused() {
    let room = room();
    room.write("rain/kept.txt", "mine");
    let before = room.files("");
    room.pipeline(&["new", "source", "rain"]).exits(2).complains("./rain is there already, and is not written over");
    room.pipeline(&["new", "trigger", "My Trigger"]).exits(2).complains("did you mean \"my-trigger\"?");
    room.pipeline(&["new", "sink", "csv"]).exits(2).complains("there is a sink of type \"csv\" in this program");
    room.pipeline(&["new", "source", "match"]).exits(2).complains("is taken");
    room.pipeline(&["new", "pipeline", "p", "--source", "coingecko_ohlc", "--sink", "csv", "--out", "rain/kept.txt"])
        .exits(2)
        .complains("is there already");
    room.pipeline(&["new", "pipeline", "p", "--source", "coingecko_olhc", "--sink", "csv"]).exits(2).complains("did you mean \"coingecko_ohlc\"?");
    room.pipeline(&["new", "pipeline", "P 1", "--source", "coingecko_ohlc", "--sink", "csv"]).exits(2).complains("did you mean \"p-1\"?");
    room.pipeline(&["new", "pipeline", "p", "--source", "coingecko_ohlc", "--sink", "csv", "--every", "often"]).exits(2).complains("write it as 1h");
    room.pipeline(&["new", "pipeline", "p"]).exits(2).complains("stdin has ended").complains("--source TYPE");
    assert_eq!(room.files(""), before);
}

#[test]
fn a_new_pipeline_of_every_source_passes_the_check_without_a_warning() {
    let room = room();
    for source in ["coingecko_ohlc", "coingecko_markets"] {
        let made = room.pipeline(&["new", "pipeline", source, "--source", source, "--sink", "csv", "--every", "2h"]);
        let file = format!("pipelines/{source}.toml");
        made.exits(0).says(&format!("pipeline check {file}"));
        room.pipeline(&["check", &file, "--deny-warnings"]).exits(0);
        let text = room.read(&file);
        assert!(text.contains("every = \"2h\"") && text.contains("# Its columns:\n#   ") && text.contains("keys = [\"coin_id\", "), "{text}");
    }
    room.pipeline(&["check", "pipelines", "--deny-warnings"]).exits(0);
}

#[test]
fn what_is_not_given_is_asked_until_the_answer_will_do() {
    let room = room();
    let mut asked = Command::new(env!("CARGO_BIN_EXE_pipeline"))
        .args(["new", "pipeline", "--color", "never"])
        .current_dir(room.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    asked.stdin.take().unwrap().write_all(b"Mein Name\nmine\ncoingecko_markts\ncoingecko_ohlc\n\nsoon\n30m\n").unwrap();
    let output = asked.wait_with_output().unwrap();
    let asked = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{asked}");
    for text in [
        "The name of the pipeline [my-pipeline]: ",
        "did you mean \"mein-name\"?",
        "Its source, one of coingecko_markets, coingecko_ohlc, file [coingecko_markets]: ",
        "did you mean \"coingecko_markets\"?",
        "Its sink, one of csv, jsonl [csv]: ",
        "\"soon\" is not a length of time",
    ] {
        assert!(asked.contains(text), "{text}: {asked}");
    }
    assert!(room.read("pipelines/mine.toml").contains("every = \"30m\""));
    room.pipeline(&["check", "pipelines/mine.toml", "--deny-warnings"]).exits(0);
}
