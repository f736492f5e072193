//! Every diagnostic as its user sees it. A case is a pipeline file in `tests/check/cases` and beside it, as `.txt`, all that `pipeline check`
//! prints of it; a folder is a case of several files, with the text in `expected.txt`.
//!
//! `PIPELINE_UPDATE_CASES=1 cargo test --test check` writes the texts anew: read the difference before you keep it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What cases may find in the environment, and nothing else of ours.
const ENVIRONMENT: [(&str, &str); 4] =
    [("CHECK_KEY", "sesame-opens-it"), ("CHECK_TOP", "many"), ("CHECK_EMPTY", ""), ("CHECK_HOST", "intranet.example")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check")
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs the binary in a folder; the answer as it is kept: what goes to stderr, what goes to stdout, the exit code.
fn run(folder: &Path, args: &[&str]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHECK_") || name == "COINGECKO_API_KEY") {
        command.env_remove(name);
    }
    let output = command.args(args).args(["--color", "never"]).envs(ENVIRONMENT).current_dir(folder).output().unwrap();
    let (err, out) = (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
    let code = output.status.code().unwrap();
    let whole = [err, out].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("----\n");
    (format!("{whole}exit {code}\n"), code)
}

/// The arguments of a case stand in its first line, where it needs other ones: `# pipeline check --deny-warnings`.
fn arguments(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let first = text.lines().next().and_then(|line| line.strip_prefix("# pipeline check "));
    first.map(|more| more.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

fn seen(cases: &Path, case: &str) -> String {
    let path = cases.join(case);
    if path.is_dir() {
        return run(&path, &["check", "."]).0;
    }
    let more = arguments(&path);
    let args: Vec<&str> = ["check", case].into_iter().chain(more.iter().map(String::as_str)).collect();
    run(cases, &args).0
}

fn kept(cases: &Path, case: &str) -> PathBuf {
    if cases.join(case).is_dir() { cases.join(case).join("expected.txt") } else { cases.join(case.replace(".toml", ".txt")) }
}

/// Spreads work over the machine's threads, in no order.
fn each(all: &[String], work: impl Fn(&str) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one);
                }
            });
        }
    });
}

fn cases() -> Vec<String> {
    let cases = root().join("cases");
    names(&cases).into_iter().filter(|name| name.ends_with(".toml") || cases.join(name).is_dir()).collect()
}

/// The codes at the head of each diagnostic of a text.
fn codes(text: &str) -> BTreeSet<String> {
    let heads = text.lines().filter_map(|line| line.strip_prefix("error[").or_else(|| line.strip_prefix("warning[")));
    heads.filter_map(|rest| rest.split(']').next()).map(str::to_owned).collect()
}

#[test]
fn every_case_prints_exactly_what_is_kept_beside_it() {
    let folder = root().join("cases");
    let update = std::env::var_os("PIPELINE_UPDATE_CASES").is_some();
    let wrong = Mutex::new(BTreeMap::new());
    let all = cases();
    assert!(all.len() >= 60, "there are {} cases", all.len());
    each(&all, |case| {
        let (now, file) = (seen(&folder, case), kept(&folder, case));
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        if update && now != before {
            std::fs::write(&file, &now).unwrap();
        } else if now != before {
            wrong.lock().unwrap().insert(case.to_owned(), format!("== {case}: expected\n{before}== but it prints\n{now}"));
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} cases differ\n{}", wrong.len(), wrong.into_values().collect::<Vec<_>>().join("\n"));
}

#[test]
fn no_text_is_kept_without_its_case() {
    let folder = root().join("cases");
    let texts: BTreeSet<String> = cases().iter().map(|case| kept(&folder, case).file_name().unwrap().to_string_lossy().into_owned()).collect();
    let strays: Vec<String> = names(&folder).into_iter().filter(|name| name.ends_with(".txt") && !texts.contains(name)).collect();
    assert_eq!(strays, Vec::<String>::new());
}

/// All codes that the program can raise stand in its source as text: a code that none can find is raised by nobody.
fn raised() -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() && !["tests", "target", "docs", "testkit"].contains(&name.as_str()) && !name.starts_with('.') {
                walk(&path, found);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                for piece in text.split('"').filter(|piece| piece.len() == 4 && piece.starts_with(['E', 'W'])) {
                    if piece[1..].bytes().all(|digit| digit.is_ascii_digit()) {
                        found.insert(piece.to_owned());
                    }
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    for room in ["src", "contract", "expr", "files", "http", "sources", "sinks", "triggers"] {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(room), &mut found);
    }
    found
}

/// Faults that no pipeline file can make with the built-in plugins. Those have tests beside the code.
const NOT_FROM_FILES: [&str; 3] = ["E015", "E019", "W001"];

#[test]
fn every_code_has_a_case() {
    let folder = root().join("cases");
    let seen: BTreeSet<String> = cases().iter().flat_map(|case| codes(&std::fs::read_to_string(kept(&folder, case)).unwrap_or_default())).collect();
    let mut wanted = raised();
    wanted.retain(|code| !NOT_FROM_FILES.contains(&code.as_str()));
    assert!(wanted.len() > 20, "{wanted:?}");
    assert_eq!(wanted.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new(), "codes without a case");
}

/// A good pipeline, table by table.
const BASE: [(&str, &str); 6] = [
    ("", "name = \"example\"\n"),
    ("trigger", "[trigger]\ntype = \"interval\"\nevery = \"1h\"\n"),
    ("source", "[source]\ntype = \"coingecko_ohlc\"\ntop = 3\n"),
    ("validate", ""),
    ("dedupe", "[dedupe]\nkeys = [\"coin_id\", \"timestamp\"]\n"),
    ("sink", "[sink]\ntype = \"csv\"\npath = \"data/{coin_id}.csv\"\n"),
];

/// An example of a story as a whole file: the tables that it does not show are those of a good pipeline.
fn whole(example: &str) -> String {
    let head: String = example.split_inclusive('\n').take_while(|line| !line.starts_with('[')).collect();
    let shows = |table: &str| {
        let opens = |line: &str| line.trim_start_matches('[').split([']', '.', ' ', '\n']).next() == Some(table);
        // A line `# no [dedupe]` says that the example is about its absence.
        example.lines().any(|line| line.starts_with('[') && opens(line) || line.strip_prefix("# no [").is_some_and(opens))
    };
    let named = head.lines().any(|line| line.starts_with("name"));
    let top = if named { head.clone() } else { format!("{}{head}", BASE[0].1) };
    let rest: String = BASE[1..].iter().filter(|(table, _)| !shows(table)).map(|(_, text)| *text).collect();
    format!("{top}{rest}{}", &example[head.len()..])
}

fn examples(story: &str, mark: &str) -> Vec<String> {
    let fence = format!("```toml {mark}\n");
    let parts = story.split(fence.as_str()).skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_code_has_a_story_whose_bad_example_raises_it_and_whose_good_one_does_not() {
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
    let told: BTreeSet<String> = names(&stories).into_iter().filter_map(|name| name.strip_suffix(".md").map(str::to_owned)).collect();
    assert_eq!(told, raised(), "stories (left) and codes that can be raised (right)");
    let wrong = Mutex::new(Vec::new());
    each(&told.into_iter().collect::<Vec<_>>(), |code| {
        let story = std::fs::read_to_string(stories.join(format!("{code}.md"))).unwrap();
        let title = story.lines().next().unwrap();
        assert!(title.starts_with(&format!("# {code}: ")), "{title}");
        let room = tempfile::tempdir().unwrap();
        let (bad, good) = (examples(&story, "bad"), examples(&story, "good"));
        let check = |files: &[String]| {
            let room = tempfile::tempdir_in(room.path()).unwrap();
            for (n, text) in files.iter().enumerate() {
                std::fs::write(room.path().join(format!("{n}.toml")), whole(text)).unwrap();
            }
            run(room.path(), &["check", "."])
        };
        // Two of a kind are two files that are checked together. Of a file that cannot be read, and of `.env`, there is nothing to show.
        if !NOT_FROM_FILES.contains(&code) && !["E004", "E005"].contains(&code) {
            let (said, _) = check(&bad);
            if codes(&said) != BTreeSet::from([code.to_owned()]) {
                wrong.lock().unwrap().push(format!("{code}: the bad example says\n{said}"));
            }
            let (said, exit) = check(&good);
            if good.is_empty() || exit != 0 || !codes(&said).is_empty() {
                wrong.lock().unwrap().push(format!("{code}: the good example says\n{said}"));
            }
        }
        let (said, exit) = run(room.path(), &["explain", code]);
        assert!(exit == 0 && said.contains(title.trim_start_matches("# ")), "{said}");
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_edits_that_are_suggested_mend_what_they_are_suggested_for() {
    let folder = root().join("cases");
    let parsed = |said: &str| -> Vec<serde_json::Value> {
        said.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all: Vec<String> = cases().into_iter().filter(|case| case.ends_with(".toml")).collect();
    let args: Vec<&str> = ["check", "--format", "json"].into_iter().chain(all.iter().map(String::as_str)).collect();
    let room = tempfile::tempdir().unwrap();
    // One file for each edit: what they say of each other does not matter.
    let mut edits = Vec::new();
    for fault in parsed(&run(&folder, &args).0) {
        let Some(edit) = fault.get("suggestion").filter(|edit| !edit.is_null()) else { continue };
        let text = std::fs::read_to_string(folder.join(fault["file"].as_str().unwrap())).unwrap();
        let at = |key: &str| edit[key].as_u64().unwrap() as usize;
        let mended = format!("{}{}{}", &text[..at("start")], edit["replacement"].as_str().unwrap(), &text[at("end")..]);
        let name = format!("{}.toml", edits.len());
        std::fs::write(room.path().join(&name), mended).unwrap();
        edits.push((name, fault));
    }
    assert!(edits.len() > 30, "{}", edits.len());
    let args: Vec<&str> = ["check", "--format", "json"].into_iter().chain(edits.iter().map(|(name, _)| name.as_str())).collect();
    let after = parsed(&run(room.path(), &args).0);
    for (name, fault) in &edits {
        // What is said elsewhere of the same key is another fault.
        let same =
            after.iter().find(|other| other["file"] == name.as_str() && other["message"] == fault["message"] && other["start"] == fault["start"]);
        assert_eq!(same, None, "the edit of {fault} leaves it");
    }
}

#[test]
fn a_file_that_is_named_twice_is_one_pipeline() {
    let room = tempfile::tempdir().unwrap();
    std::fs::write(room.path().join("a.toml"), whole("")).unwrap();
    assert_eq!(run(room.path(), &["check", "a.toml", ".", "./a.toml"]).0, "a.toml: ok\nexit 0\n");
}

#[test]
fn a_file_that_is_missing_hides_no_fault_of_the_others() {
    let room = tempfile::tempdir().unwrap();
    std::fs::write(room.path().join("a.toml"), whole("nam = \"x\"\n")).unwrap();
    let (said, exit) = run(room.path(), &["check", "none.toml", "a.toml"]);
    assert_eq!((codes(&said), exit), (BTreeSet::from(["E004".to_owned(), "E010".to_owned()]), 2), "{said}");
}

#[test]
fn checking_asks_nobody_and_writes_nothing() {
    let room = tempfile::tempdir().unwrap();
    std::fs::write(room.path().join("a.toml"), whole("")).unwrap();
    let (said, exit) = run(room.path(), &["check", "a.toml"]);
    assert_eq!((said.as_str(), exit), ("a.toml: ok\nexit 0\n", 0));
    assert_eq!(names(room.path()), BTreeSet::from(["a.toml".to_owned()]));
}
