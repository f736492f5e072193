//! Others' hands: what somebody does to the files, the state or the pipeline file while we are down is noticed before anything is written,
//! said with both figures, concerns only the splits that need it, and is mended by the command that the message names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use support::{Dice, Hour, Outcome, Recipe, Room, Server, assert_same_hours};

const FILE: &str = "candles.toml";
const COINS: [&str; 3] = ["bitcoin", "ethereum", "tether"];
const HEADER: &str = "timestamp,open,high,low,close,volume\n";

fn room(server: &Server, recipe: &Recipe) -> Room {
    let room = Room::new(server);
    room.write(FILE, &recipe.toml());
    room
}

/// A room in which a run has stored all hours but the last three, which come with the next one.
fn filled(server: &Server, recipe: &Recipe) -> Room {
    let room = room(server, recipe);
    server.hold_back(3);
    room.once(FILE).exits(0);
    server.hold_back(0);
    room
}

/// What is in a room, but for the lock file, whose content is nobody's data.
fn contents(room: &Room) -> BTreeMap<String, Vec<u8>> {
    room.files("").into_iter().filter(|(name, _)| !name.ends_with("/lock")).collect()
}

fn bitcoin(room: &Room) -> String {
    room.files("data/raw").into_keys().find(|name| name.contains("bitcoin")).unwrap()
}

fn sorted(mut hours: Vec<Hour>) -> Vec<Hour> {
    hours.sort_by_key(|hour| hour.open_time);
    hours
}

/// All hours that came in both runs.
fn all(server: &Server, coin: &str) -> Vec<Hour> {
    let later = server.expected(coin);
    server.hold_back(3);
    let earlier = server.expected(coin);
    server.hold_back(0);
    support::oracle::union(&earlier, &later)
}

/// All hours are stored, each once, and a further run has nothing to do.
#[track_caller]
fn is_whole(room: &Room, server: &Server) {
    is_whole_but(room, server, None);
}

/// All hours are stored, each once; of one coin, whose file is gone, those that still come.
#[track_caller]
fn is_whole_but(room: &Room, server: &Server, lost: Option<&str>) {
    for coin in COINS {
        let due = if lost == Some(coin) { server.expected(coin) } else { all(server, coin) };
        assert_same_hours(coin, &sorted(room.hours(coin)), &due);
    }
    let before = room.files("data");
    let again = room.once(FILE);
    assert_eq!(again.exits(0).rows("written"), 0, "{again}");
    assert!(room.files("data") == before, "a run without news changed a file");
}

/// Both figures, the way out, and nothing else on the line.
#[track_caller]
fn told(run: &Outcome, split: &str, words: &[&str]) {
    run.exits(3).split_failed(split, "storage", words).says(&format!("pipeline state rebuild {FILE}"));
    for other in COINS.iter().filter(|coin| **coin != split) {
        assert_eq!(support::room::count(&run.split(other), "written"), 3, "{other} has its three hours: {run}");
        run.split_ok(other);
        // The path of the file stands in its place, in the summary and in the log.
        assert!(!run.stdout.contains("rebuild FILE") && !run.stderr.contains("rebuild FILE"), "{run}");
    }
}

/// Does this to bitcoin's file while nobody runs, and sees that it is told and not touched.
#[track_caller]
fn harmed(server: &Server, harm: impl Fn(&str) -> Option<String>, words: &[&str]) -> (Room, String) {
    let room = filled(server, &Recipe::new());
    let name = bitcoin(&room);
    match harm(&room.read(&name)) {
        Some(text) => _ = room.write(&name, &text),
        None => fs::remove_file(room.path(&name)).unwrap(),
    }
    let before = room.files("data/raw").get(&name).cloned();
    let run = room.once(FILE);
    told(&run, "bitcoin", &[&[name.as_str()], words].concat());
    assert!(room.files("data/raw").get(&name).cloned() == before, "somebody's file was touched");
    (room, name)
}

#[track_caller]
fn mended(room: &Room, server: &Server) {
    mended_but(room, server, None);
}

#[track_caller]
fn mended_but(room: &Room, server: &Server, lost: Option<&str>) {
    let before = room.files("data");
    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    assert!(room.files("data") == before, "a rebuild changes no stored row");
    room.once(FILE).exits(0);
    for (name, bytes) in before {
        assert!(room.files("data")[&name].starts_with(&bytes), "{name} lost what was there");
    }
    is_whole_but(room, server, lost);
}

fn bytes(n: usize) -> String {
    if n < 1000 { format!("{n} bytes") } else { format!("{},{:03} bytes", n / 1000, n % 1000) }
}

/// The committed length of bitcoin's file, as messages show it.
fn committed(server: &Server) -> String {
    let room = filled(server, &Recipe::new());
    bytes(room.read(&bitcoin(&room)).len())
}

// An output file

#[test]
fn a_file_that_was_cut_at_a_line() {
    let server = Server::start();
    let was = format!("but {} were committed", committed(&server));
    let (room, _) = harmed(&server, |text| Some(text.lines().take(10).map(|line| format!("{line}\n")).collect()), &[&was]);
    mended(&room, &server);
}

#[test]
fn a_file_that_was_cut_in_a_line() {
    let server = Server::start();
    let was = format!("has 700 bytes, but {} were committed", committed(&server));
    let (room, name) = harmed(&server, |text| Some(text[..700].to_owned()), &[&was]);
    let refused = room.pipeline(&["state", "rebuild", FILE]);
    refused.exits(2).complains(&name).complains("does not end with a line break").complains(&format!("`sed -i '$d' '{name}'`"));
    assert_eq!(room.read(&name).len(), 700);
    // The command as it is told.
    room.shell(&format!("sed -i '$d' '{name}'"), &[]).exits(0);
    mended(&room, &server);
}

#[test]
fn rows_that_somebody_added_are_kept() {
    let server = Server::start();
    let was = committed(&server);
    let theirs = "2020-01-01T00:00:00Z,1.0,2.0,0.5,1.5,3.0\n";
    let (room, name) = harmed(&server, |text| Some(format!("{text}{theirs}")), &[&format!("but {was} were committed")]);
    room.pipeline(&["state", "rebuild", FILE]).exits(0).prints("the state is derived anew from");
    let run = room.once(FILE);
    assert_eq!(run.exits(0).rows("written"), 3, "{run}");
    assert!(room.read(&name).contains(theirs));
    let text = room.read(&name).replace(theirs, "");
    assert_same_hours("bitcoin", &support::room::parse_hours(&name, text.as_bytes()), &all(&server, "bitcoin"));
    assert_eq!(room.once(FILE).exits(0).rows("written"), 0);
}

#[test]
fn a_file_that_was_deleted() {
    let server = Server::start();
    let was = format!("is gone: {} were committed", committed(&server));
    let (room, name) = harmed(&server, |_| None, &[&was]);
    room.pipeline(&["state", "rebuild", FILE]).exits(0).prints(&format!("{name} is not part of the state any more"));
    room.once(FILE).exits(0);
    is_whole_but(&room, &server, Some("bitcoin"));
}

#[test]
fn a_file_that_was_put_back_needs_no_command() {
    let server = Server::start();
    let room = filled(&server, &Recipe::new());
    let name = bitcoin(&room);
    let text = room.read(&name);
    fs::remove_file(room.path(&name)).unwrap();
    told(&room.once(FILE), "bitcoin", &[&name, "is gone"]);
    room.write(&name, &text);
    assert_eq!(room.once(FILE).exits(0).rows("written"), 3);
    is_whole(&room, &server);
}

#[test]
fn a_header_that_was_edited() {
    let server = Server::start();
    let words =
        ["were committed", "it begins with `timestamp,open,high,low,close,trades`, but this pipeline writes `timestamp,open,high,low,close,volume`"];
    let (room, name) = harmed(&server, |text| Some(text.replace("volume", "trades")), &words);
    let before = contents(&room);
    room.pipeline(&["state", "rebuild", FILE]).exits(2).complains(&name).complains("trades").complains("put it back as it was");
    assert!(contents(&room) == before);
    // Put back.
    room.write(&name, &room.read(&name).replace("trades", "volume"));
    room.once(FILE).exits(0);
    is_whole(&room, &server);
}

#[test]
fn a_price_that_was_edited() {
    let server = Server::start();
    let was = format!("was changed after its {} were committed: the end of it differs (last changed 20", committed(&server));
    let edit = |text: &str| {
        let mut text = text.to_owned();
        let at = text.rfind('.').unwrap() + 1;
        let digit = if &text[at..=at] == "1" { "2" } else { "1" };
        text.replace_range(at..=at, digit);
        Some(text)
    };
    let (room, name) = harmed(&server, edit, &[&was, "by this pipeline 20"]);
    // It is somebody's correction: it stays, and what comes again counts as a conflict.
    let theirs = room.read(&name);
    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    let run = room.once(FILE);
    assert_eq!((run.exits(0).rows("written"), run.rows("conflicts")), (3, 1), "{run}");
    assert!(room.read(&name).starts_with(&theirs));
    assert_eq!(room.once(FILE).exits(0).rows("written"), 0);
}

/// Rows so long that most of a file is neither its header nor its last 4 KiB.
#[test]
fn a_middle_that_was_edited() {
    let server = Server::start();
    let note = "x".repeat(1000);
    let recipe = Recipe::new().transforms(&format!("[[transforms]]\ntype = \"derive\"\ncolumn = \"note\"\nexpr = \"'{note}'\"\n"));
    let room = filled(&server, &recipe.sink("[sink]\ntype = \"csv\"\npath = \"data/{coin_id}.csv\"\n"));
    let text = room.read("data/bitcoin.csv");
    assert!(text.len() > 16_000);
    let edited = format!("{}y{}", &text[..8000], &text[8001..]);
    room.write("data/bitcoin.csv", &edited);
    let words = [
        "data/bitcoin.csv was changed after its",
        &format!("{} were committed", bytes(text.len())),
        "something before the end of it differs (last changed",
    ];
    told(&room.once(FILE), "bitcoin", &words);
    assert_eq!(room.read("data/bitcoin.csv"), edited);
    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    assert_eq!(room.once(FILE).exits(0).rows("written"), 3);
    assert!(room.read("data/bitcoin.csv").starts_with(&edited));

    // A copy has another time and the same bytes: no error.
    let copy = room.read("data/bitcoin.csv");
    fs::remove_file(room.path("data/bitcoin.csv")).unwrap();
    room.write("data/bitcoin.csv", &copy);
    room.once(FILE).exits(0).split_ok("bitcoin");
}

#[test]
fn a_file_with_other_columns_in_its_place() {
    let server = Server::start();
    let other = "some,thing,else\n1,2,3\n";
    let words = [
        format!("has 22 bytes, but {} were committed", committed(&server)),
        "it begins with `some,thing,else`, but this pipeline writes `timestamp,open,high,low,close,volume`".to_owned(),
    ];
    let (room, name) = harmed(&server, |_| Some(other.to_owned()), &[&words[0], &words[1]]);
    let before = contents(&room);
    let refused = room.pipeline(&["state", "rebuild", FILE]);
    refused.exits(2).complains(&name).complains("some,thing,else").complains(&format!("move it away, then `pipeline state rebuild {FILE}`"));
    assert!(contents(&room) == before, "nothing is written by a rebuild that is refused");
    fs::rename(room.path(&name), room.path("theirs.csv")).unwrap();
    mended_but(&room, &server, Some("bitcoin"));
    assert_eq!(room.read("theirs.csv"), other);
}

#[test]
fn an_empty_file_in_its_place() {
    let server = Server::start();
    let (room, name) = harmed(&server, |_| Some(String::new()), &[&format!("has 0 bytes, but {} were committed", committed(&server))]);
    room.pipeline(&["state", "rebuild", FILE]).exits(2).complains("it is empty").complains("move it away");
    fs::remove_file(room.path(&name)).unwrap();
    mended_but(&room, &server, Some("bitcoin"));
}

#[test]
fn a_file_that_a_spreadsheet_saved() {
    let server = Server::start();
    let excel = |text: &str| Some(format!("\u{feff}{}", text.replace('\n', "\r\n")));
    let words = [
        &format!("but {} were committed", committed(&server)),
        "it begins with a byte order mark now",
        "its line ends are CRLF now",
        "a spreadsheet program or an editor may have saved it",
    ];
    let (room, name) = harmed(&server, excel, &words);
    let theirs = room.read(&name);
    room.pipeline(&["state", "rebuild", FILE]).exits(0).complains("its line ends are CRLF now").complains(&name);
    let run = room.once(FILE);
    assert_eq!((run.exits(0).rows("written"), run.rows("conflicts")), (3, 0), "{run}");
    let text = room.read(&name);
    assert!(text.starts_with(&theirs), "what they saved is kept");
    let plain = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    assert_same_hours("bitcoin", &support::room::parse_hours(&name, plain.as_bytes()), &all(&server, "bitcoin"));
    let read = room.pipeline(&["read", FILE, "--format", "json", "--where", "coin_id = 'bitcoin'"]);
    assert_eq!(read.exits(0).json_lines().len(), all(&server, "bitcoin").len());
    assert_eq!(room.once(FILE).exits(0).rows("written"), 0);
}

#[test]
fn a_file_with_other_line_ends_alone() {
    let server = Server::start();
    let (room, name) = harmed(&server, |text| Some(text.replace('\n', "\r\n")), &["its line ends are CRLF now"]);
    // Undone, nothing needs to be rebuilt.
    room.write(&name, &room.read(&name).replace("\r\n", "\n"));
    room.once(FILE).exits(0);
    is_whole(&room, &server);
}

#[test]
fn a_file_that_is_a_link_now() {
    let server = Server::start();
    let room = filled(&server, &Recipe::new());
    let name = bitcoin(&room);
    let link = || std::os::unix::fs::symlink(room.path("elsewhere.csv"), room.path(&name)).unwrap();
    let text = room.read(&name);

    // To nothing, as on a disk that is not mounted.
    fs::remove_file(room.path(&name)).unwrap();
    link();
    told(&room.once(FILE), "bitcoin", &[&name, "is gone", "were committed"]);
    // To something else.
    room.write("elsewhere.csv", HEADER);
    room.once(FILE).exits(3).split_failed("bitcoin", "storage", &[&name, &format!("has {} bytes", HEADER.len()), "were committed"]);
    assert_eq!(room.read("elsewhere.csv"), HEADER);
    // To the file itself, moved to another place: as good as the file.
    room.write("elsewhere.csv", &text);
    room.once(FILE).exits(0);
    assert!(fs::symlink_metadata(room.path(&name)).unwrap().is_symlink());
    assert!(room.read("elsewhere.csv").starts_with(&text));
    is_whole(&room, &server);
}

#[test]
fn a_file_that_is_a_folder_now() {
    let server = Server::start();
    let room = filled(&server, &Recipe::new());
    let name = bitcoin(&room);
    fs::remove_file(room.path(&name)).unwrap();
    room.write(&format!("{name}/theirs.txt"), "theirs");
    told(&room.once(FILE), "bitcoin", &[&name, "is a folder now: a file of", "was committed"]);
    assert_eq!(room.read(&format!("{name}/theirs.txt")), "theirs");
    fs::rename(room.path(&name), room.path("theirs")).unwrap();
    mended_but(&room, &server, Some("bitcoin"));
}

#[test]
fn a_file_that_may_not_be_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    let room = filled(&server, &Recipe::new());
    let name = bitcoin(&room);
    let set = |mode: u32| fs::set_permissions(room.path(&name), fs::Permissions::from_mode(mode)).unwrap();
    set(0o444);
    // Who may do everything (root) is not held up by a mode: then nobody runs it.
    let root = fs::File::options().append(true).open(room.path(&name)).is_ok();
    if root {
        room.allow_everybody(".pipeline");
        room.allow_everybody("data");
        set(0o444);
    }
    let before = room.read(&name);
    let Some(run) = room.once_as(FILE, root.then_some(65_534)) else { return eprintln!("nobody may not run this program; this test is skipped") };
    run.exits(3).split_failed("bitcoin", "storage", &[&name, "permission denied"]).says("writable for the user that runs the pipeline");
    run.split_ok("ethereum").split_ok("tether");
    assert_eq!(room.read(&name), before);
    set(0o644);
    room.once(FILE).exits(0);
    is_whole(&room, &server);
}

// The quarantine

/// A rule that tether breaks.
fn strict() -> Recipe {
    let recipe = Recipe::new();
    recipe.clone().validate(&format!("{}\n[[validate.rules]]\nname = \"no_tether\"\nexpr = \"coin_id <> 'tether'\"\n", recipe.validate))
}

#[test]
fn a_quarantine_that_was_tidied_away_stops_nobody_and_can_be_had_again() {
    let server = Server::start();
    let room = filled(&server, &strict());
    fs::remove_file(room.path("data/rejects/candles.jsonl")).unwrap();
    room.once(FILE).exits(0);
    assert_eq!(room.rejects("candles").len(), 3, "only what is new");
    fs::remove_file(room.path("data/rejects/candles.jsonl")).unwrap();
    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    room.once(FILE).exits(0);
    assert_eq!(room.rejects("candles").len(), server.expected("tether").len(), "after a rebuild every reject is new");
    room.once(FILE).exits(0);
    assert_eq!(room.rejects("candles").len(), server.expected("tether").len());
}

#[test]
fn a_quarantine_that_was_edited_is_told_and_not_touched() {
    let server = Server::start();
    let room = filled(&server, &strict());
    let name = "data/rejects/candles.jsonl";
    let kept: String = room.read(name).lines().take(2).map(|line| format!("{line}\n")).collect();
    let was = bytes(room.read(name).len());
    room.write(name, &kept);
    told(&room.once(FILE), "tether", &[name, &format!("has {}, but {was} were committed", bytes(kept.len()))]);
    assert_eq!(room.read(name), kept);
    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    room.once(FILE).exits(0);
    assert!(room.read(name).starts_with(&kept));
    assert_eq!(room.rejects("candles").len(), server.expected("tether").len() + 2, "the two that do not come again are still there");
}

// The state

#[test]
fn a_state_that_was_deleted_or_is_empty_makes_all_files_foreign() {
    let server = Server::start();
    let harms: [fn(&Room); 2] =
        [|room| fs::remove_dir_all(room.path(".pipeline")).unwrap(), |room| fs::write(room.path(".pipeline/candles/state.db"), "").unwrap()];
    for harm in harms {
        let room = filled(&server, &Recipe::new());
        harm(&room);
        let before = room.files("data");
        let run = room.once(FILE);
        run.exits(1);
        for coin in COINS {
            let (name, content) = before.iter().find(|(name, _)| name.contains(coin)).unwrap();
            run.split_failed(coin, "storage", &[name, "exists, but this pipeline did not write it", &bytes(content.len())]);
        }
        run.says(&format!("pipeline state rebuild {FILE}"));
        assert!(room.files("data") == before);
        mended(&room, &server);
    }
}

/// Nothing is written, the state is named and so is the command.
#[track_caller]
fn refused(room: &Room, server: &Server, words: &[&str]) {
    let (before, asked) = (contents(room), server.seen().len());
    for args in [vec!["run", FILE, "--once"], vec!["rejects", FILE, "--replay"], vec!["run", FILE, "--from", "2026-01-01"]] {
        let run = room.pipeline(&args);
        run.exits(2).complains("pipeline state rebuild");
        words.iter().for_each(|word| _ = run.complains(word));
    }
    let after = contents(room);
    let names = |all: &BTreeMap<String, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
    assert!(after == before, "something was written: {:?} was, {:?} is", names(&before), names(&after));
    assert_eq!(server.seen().len(), asked, "nothing was asked");
}

#[test]
fn a_state_that_was_damaged_is_refused_and_made_anew() {
    let server = Server::start();
    type Harm = fn(Vec<u8>) -> Vec<u8>;
    let harms: [(&str, Harm); 4] = [
        ("random", |old| {
            let mut dice = Dice::new(7);
            old.iter().map(|_| dice.bits().to_le_bytes()[0]).collect()
        }),
        ("a text", |_| b"this is no database, and never was one".repeat(500)),
        ("cut", |old| old[..old.len() / 2].to_vec()),
        ("cut in its first page", |old| old[..1000].to_vec()),
    ];
    for (what, harm) in harms {
        let room = filled(&server, &Recipe::new());
        let state = room.path(".pipeline/candles/state.db");
        let damaged = harm(fs::read(&state).unwrap());
        fs::write(&state, &damaged).unwrap();
        refused(&room, &server, &["the state .pipeline/candles/state.db is damaged", "is kept"]);
        let rebuild = room.pipeline(&["state", "rebuild", FILE]);
        rebuild.exits(0).prints("state.db.damaged");
        assert!(fs::read(room.path(".pipeline/candles/state.db.damaged")).unwrap() == damaged, "{what}: nothing is thrown away");
        mended(&room, &server);
    }
}

#[test]
fn a_value_of_the_state_that_cannot_be_read_is_damage() {
    let server = Server::start();
    let room = filled(&server, &Recipe::new());
    sql(&room, "candles", "UPDATE fact SET value = 'x' WHERE name = 'binding'");
    refused(&room, &server, &["the state .pipeline/candles/state.db is damaged"]);
    mended(&room, &server);
}

fn sql(room: &Room, name: &str, statement: &str) {
    let connection = rusqlite::Connection::open(room.path(&format!(".pipeline/{name}/state.db"))).unwrap();
    connection.execute_batch(statement).unwrap();
}

/// Wherever it is: it is noticed, or it does no harm. `PIPELINE_FLIPS` is how many bits are flipped, one at a time.
#[test]
fn a_bit_that_flips_in_the_state_harms_no_row() {
    let flips: usize = std::env::var("PIPELINE_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let server = Server::start();
    let room = filled(&server, &Recipe::new());
    let state = room.path(".pipeline/candles/state.db");
    let (sound, files) = (fs::read(&state).unwrap(), room.files("data"));
    // Room that is not used is zeros, which say nothing when they change.
    let used: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
    let mut dice = Dice::new(20_260_519);
    let mut noticed = 0;
    for _ in 0..flips {
        for (name, content) in &files {
            fs::write(room.path(name), content).unwrap();
        }
        let (at, bit) = (used[usize::try_from(dice.below(used.len() as u64)).unwrap()], dice.below(8));
        let mut flipped = sound.clone();
        flipped[at] ^= 1 << bit;
        fs::write(&state, &flipped).unwrap();
        let run = room.once(FILE);
        let what = format!("bit {bit} of byte {at}: {run}");
        for (name, content) in &files {
            assert!(room.files("data")[name].starts_with(content), "{what}");
        }
        if run.code == Some(2) {
            run.complains("the state").complains("pipeline state rebuild");
            assert!(room.files("data") == files, "{what}");
        }
        if run.code != Some(0) {
            noticed += 1;
            if run.stderr.contains("from a newer version") {
                fs::remove_file(&state).unwrap();
            }
            let rebuild = room.pipeline(&["state", "rebuild", FILE]);
            assert_eq!(rebuild.code, Some(0), "{what}\n{rebuild}");
            let run = room.once(FILE);
            assert_eq!(run.code, Some(0), "{what}\n{run}");
        }
        for coin in COINS {
            let hours = sorted(room.hours(coin));
            let due = all(&server, coin);
            assert!(hours == due, "{coin}: {} hours, {} expected; {what}", hours.len(), due.len());
        }
    }
    println!("{noticed} of {flips} were noticed");
    assert!(noticed > 0 || flips == 0);
}

#[test]
fn a_state_of_a_newer_version_is_refused_and_left_alone() {
    let server = Server::start();
    let room = filled(&server, &Recipe::new());
    sql(&room, "candles", "PRAGMA user_version = 7");
    refused(
        &room,
        &server,
        &[".pipeline/candles/state.db: the state is from a newer version 7; this program knows 3", "use the newer program", "move that file away"],
    );
    let before = contents(&room);
    room.pipeline(&["state", "rebuild", FILE]).exits(2).complains("newer version 7");
    assert!(contents(&room) == before, "what a newer program remembers is not thrown away");
    fs::rename(room.path(".pipeline/candles/state.db"), room.path("aside.db")).unwrap();
    mended(&room, &server);
}

// The pipeline file

#[test]
fn a_pipeline_file_with_another_path_other_columns_or_keys() {
    let server = Server::start();
    let recipe = Recipe::new();
    let room = filled(&server, &recipe);
    let path = |text: &str| recipe.clone().sink(&recipe.sink.replace("data/raw/{coin_id}_{timestamp:%Y}.csv", text));
    let changed = [
        (path("data/other/{coin_id}.csv"), "sink.0.path: was \"data/raw/{coin_id}_{timestamp:%Y}.csv\", is \"data/other/{coin_id}.csv\""),
        (recipe.clone().sink(&recipe.sink.replace("\"low\", ", "")), "sink.0.columns: was "),
        (recipe.clone().dedupe("[dedupe]\nkeys = [\"coin_id\", \"timestamp\", \"open\"]\n"), "dedupe.keys: was [\"coin_id\",\"timestamp\"], is "),
    ];
    for (recipe, words) in changed {
        room.write(FILE, &recipe.toml());
        refused(&room, &server, &["the state of pipeline \"candles\" does not fit candles.toml any more", words, "put the file back as it was"]);
    }
    // Other keys fit the files that are there: the one command is enough.
    mended(&room, &server);
    // Back to the old ones: again.
    room.write(FILE, &recipe.toml());
    refused(&room, &server, &["dedupe.keys: was "]);
    mended(&room, &server);
    // Another path: the files are moved to where they belong now.
    room.write(FILE, &path("data/raw/coins/{coin_id}_{timestamp:%Y}.csv").toml());
    fs::create_dir(room.path("data/raw/coins")).unwrap();
    for name in room.files("data/raw").into_keys() {
        fs::rename(room.path(&name), room.path(&name.replace("raw/", "raw/coins/"))).unwrap();
    }
    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    let run = room.once(FILE);
    assert_eq!((run.exits(0).rows("written"), run.rows("conflicts")), (0, 0), "{run}");
}

#[test]
fn a_pipeline_with_another_name_finds_its_files_foreign_until_it_takes_them_over() {
    let server = Server::start();
    let room = filled(&server, &Recipe::new());
    room.write(FILE, &Recipe::new().name("coins").toml());
    let before = room.files("data");
    let run = room.once(FILE);
    run.exits(1).says(&format!("pipeline state rebuild {FILE}"));
    for coin in COINS {
        run.split_failed(coin, "storage", &[coin, "exists, but this pipeline did not write it"]);
    }
    assert!(room.files("data") == before);
    mended(&room, &server);
    assert!(room.exists(".pipeline/candles/state.db"), "the old state is nobody's to remove");
}

// Two processes

/// A process that waits for its next tick, an hour or so away, and holds the pipeline meanwhile.
fn waiting(room: &Room) -> support::Running {
    room.write(FILE, &Recipe::new().trigger("type = \"interval\"\nevery = \"1d\"\ncatch_up = \"none\"").toml());
    let mut running = room.start(&["run", FILE]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(room.path(".pipeline/candles/lock")).is_ok_and(|text| text.contains(&format!("process {}", running.id()))) {
        assert!(running.is_running() && Instant::now() < deadline, "it does not take its lock");
        std::thread::sleep(Duration::from_millis(5));
    }
    running
}

#[test]
fn a_second_process_is_told_who_has_the_pipeline() {
    let server = Server::start();
    let room = filled(&server, &Recipe::new());
    let running = waiting(&room);
    let data = room.files("data");
    for args in [vec!["run", FILE, "--once"], vec!["run", FILE], vec!["state", "rebuild", FILE], vec!["rejects", FILE, "--replay"]] {
        let second = room.pipeline(&args);
        second
            .exits(2)
            .complains("pipeline \"candles\": .pipeline/candles/lock is held by process")
            .complains(&format!("process {}", running.id()))
            .complains("since 20")
            .complains("wait for it or stop it");
    }
    assert!(room.files("data") == data);
    room.pipeline(&["status", FILE]).exits(0);
    room.pipeline(&["read", FILE]).exits(0);
    running.signal("TERM");
    running.end().exits(0);
    room.write(FILE, &Recipe::new().toml());
    room.once(FILE).exits(0);
    is_whole(&room, &server);
}

// Two sinks

const COPY: &str = "data/copy/bitcoin.csv";

fn two_sinks() -> Recipe {
    let recipe = Recipe::new();
    let first = recipe.sink.replace("[sink]", "[[sink]]");
    recipe.sink(&format!("{first}\n[[sink]]\ntype = \"csv\"\npath = \"data/copy/{{coin_id}}.csv\"\n"))
}

/// Both sinks hold all hours once.
#[track_caller]
fn both_whole(room: &Room, server: &Server) {
    for coin in COINS {
        let text = room.read(&format!("data/copy/{coin}.csv"));
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let place = |name: &str| text.lines().next().unwrap().split(',').position(|column| column == name).unwrap();
        let (time, close) = (place("timestamp"), place("close"));
        let mut rows: Vec<(i64, f64)> = reader
            .records()
            .map(|row| {
                row.map(|row| (chrono::DateTime::parse_from_rfc3339(&row[time]).unwrap().timestamp_millis(), row[close].parse().unwrap())).unwrap()
            })
            .collect();
        rows.sort_by_key(|(time, _)| *time);
        assert_eq!(rows, all(server, coin).iter().map(|hour| (hour.open_time, hour.close)).collect::<Vec<_>>(), "{coin}");
    }
    is_whole(room, server);
}

#[test]
fn a_file_of_one_of_two_sinks_that_was_cut_is_filled_from_the_other() {
    let server = Server::start();
    let room = filled(&server, &two_sinks());
    let whole = room.read(COPY);
    let cut: String = whole.lines().take(6).map(|line| format!("{line}\n")).collect();
    room.write(COPY, &cut);
    let first = room.read(&bitcoin(&room));
    let run = room.once(FILE);
    told(&run, "bitcoin", &[COPY, &format!("has {}, but {} were committed", bytes(cut.len()), bytes(whole.len()))]);
    assert_eq!((room.read(COPY), room.read(&bitcoin(&room))), (cut, first), "neither sink has the rows of a split that failed");

    let hours: usize = COINS.map(|coin| all(&server, coin).len()).iter().sum::<usize>() - 3;
    let lacks = whole.lines().count() - 6;
    let before = contents(&room);
    let refused = room.pipeline(&["state", "rebuild", FILE]);
    refused
        .exits(2)
        .complains(&format!(
            "the sinks hold different rows: of {hours} rows in all, sink.0 (data/raw/{{coin_id}}_{{timestamp:%Y}}.csv) holds {hours}"
        ))
        .complains(&format!("sink.1 (data/copy/{{coin_id}}.csv) holds {}", hours - lacks))
        .complains(&format!("`pipeline state rebuild {FILE} --fill`"));
    assert!(contents(&room) == before, "nothing is written by a rebuild that is refused");
    let fill = room.pipeline(&["state", "rebuild", FILE, "--fill"]);
    fill.exits(0).prints(&format!("sink.1 (data/copy/{{coin_id}}.csv): {lacks} rows that it lacked were copied into it"));
    assert_eq!(room.read(COPY), whole, "in the same order, too");
    assert_eq!(room.once(FILE).exits(0).rows("written"), 3);
    both_whole(&room, &server);
    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    room.pipeline(&["status", FILE]).exits(0).prints("rebuild");
}

#[test]
fn two_sinks_of_which_each_lacks_something_are_filled_from_each_other() {
    let server = Server::start();
    let recipe = two_sinks();
    // The first holds all columns, too.
    let recipe = recipe.clone().sink(
        &recipe
            .sink
            .replacen("columns = [\"timestamp\", \"open\", \"high\", \"low\", \"close\", { column = \"volume_24h\", as = \"volume\" }]\n", "", 1)
            .replace("data/raw", "data/whole"),
    );
    let room = filled(&server, &recipe);
    let (copy, first) = (room.read(COPY), room.files("data/whole").into_keys().find(|name| name.contains("tether")).unwrap());
    let tether = room.read(&first);
    fs::remove_file(room.path(COPY)).unwrap();
    fs::remove_file(room.path(&first)).unwrap();
    let run = room.once(FILE);
    run.exits(3).split_failed("bitcoin", "storage", &[COPY, "is gone"]).split_failed("tether", "storage", &[&first, "is gone"]).split_ok("ethereum");
    room.pipeline(&["state", "rebuild", FILE]).exits(2).complains("--fill");
    let fill = room.pipeline(&["state", "rebuild", FILE, "--fill"]);
    fill.exits(0);
    assert!(!fill.stdout.contains("stored again when they come again"), "nothing is forgotten: {fill}");
    assert_eq!((room.read(COPY), room.read(&first)), (copy, tether));
    let run = room.once(FILE);
    assert_eq!((run.exits(0).rows("written"), run.rows("conflicts")), (6, 0), "{run}");
    assert_eq!(room.once(FILE).exits(0).rows("written"), 0);
}

#[test]
fn a_sink_that_no_other_can_fill_is_told_with_the_columns_and_the_way_out() {
    let server = Server::start();
    let columns = "columns = [\"timestamp\", \"open\", \"high\", \"low\", \"close\", { column = \"volume_24h\", as = \"volume\" }]";
    let recipe = two_sinks();
    let room = filled(&server, &recipe.clone().sink(&recipe.sink.replace(columns, "columns = [\"timestamp\", \"close\"]")));
    let first = bitcoin(&room);
    fs::remove_file(room.path(COPY)).unwrap();
    room.once(FILE).exits(3).split_failed("bitcoin", "storage", &[COPY, "is gone"]);
    let before = contents(&room);
    let fill = room.pipeline(&["state", "rebuild", FILE, "--fill"]);
    fill.exits(2)
        .complains("sink.1 (data/copy/{coin_id}.csv) cannot be filled from sink.0 (data/raw/{coin_id}_{timestamp:%Y}.csv), which does not hold")
        .complains("open, high, low")
        .complains("move away what only one of them holds");
    assert!(contents(&room) == before);
    let held = room.read(&first);
    fs::rename(room.path(&first), room.path("aside.csv")).unwrap();
    room.pipeline(&["state", "rebuild", FILE]).exits(0);
    let run = room.once(FILE);
    assert_eq!(run.exits(0).rows("written") as usize, server.expected("bitcoin").len(), "{run}");
    assert_eq!(room.read(COPY).lines().count(), room.read(&first).lines().count());
    assert_eq!((room.read("aside.csv"), room.once(FILE).exits(0).rows("written")), (held, 0));
}

#[test]
fn a_fill_that_was_not_finished_lets_nothing_run() {
    let server = Server::start();
    let room = filled(&server, &two_sinks());
    let whole = room.read(COPY);
    let header: String = whole.lines().take(1).map(|line| format!("{line}\n")).collect();
    room.write(COPY, &header);
    // What a process that died in the middle leaves: all rows count as stored, one sink lacks some.
    sql(&room, "candles", "UPDATE fact SET value = json_set(value, '$.\"state rebuild\"', 'begun, not finished') WHERE name = 'binding'");
    refused(&room, &server, &["was begun and not finished: a sink still lacks rows", "--fill` goes on with it"]);
    room.pipeline(&["state", "rebuild", FILE, "--fill"]).exits(0);
    assert_eq!(room.read(COPY), whole);
    room.once(FILE).exits(0);
    both_whole(&room, &server);
}

// Several pipelines

/// A pipeline whose last epoch cannot be finished: its new file is there under its temporary name, and something else is in its place.
#[test]
fn one_of_several_pipelines_that_dies_is_told_and_the_others_go_on() {
    let server = Server::start();
    let room = Room::new(&server);
    room.write("two/a.toml", &Recipe::new().name("a").coins(&["bitcoin"]).sink("[sink]\ntype = \"csv\"\npath = \"data/a/{coin_id}.csv\"\n").toml());
    room.write("two/b.toml", &Recipe::new().name("b").coins(&["tether"]).sink("[sink]\ntype = \"csv\"\npath = \"data/b/{coin_id}.csv\"\n").toml());
    room.pipeline(&["run", "two/a.toml", "--once"]).exits(0);
    let state = room.pipeline(&["state", "show", "two/a.toml", "--format", "json"]).json();
    let temp = state["records"]["sink.0"]["data/a/bitcoin.csv"]["pending"]["temp"].as_str().unwrap().to_owned();
    fs::rename(room.path("data/a/bitcoin.csv"), room.path(&temp)).unwrap();
    room.write("data/a/bitcoin.csv", "theirs");
    sql(&room, "a", "UPDATE run SET status = 'open', ended_at = NULL");

    let run = room.pipeline(&["run", "two", "--once", "--format", "json"]);
    run.exits(1)
        .complains("data/a/bitcoin.csv cannot be made from")
        .complains("a file of 6 bytes that this pipeline did not write")
        .complains("move away");
    assert_eq!((run.json()["pipeline"].as_str(), run.json()["status"].as_str()), (Some("b"), Some("ok")), "the other goes on: {run}");
    assert_eq!(room.read("data/a/bitcoin.csv"), "theirs");

    // By the trigger, too: told at once, while the other runs on.
    for name in ["a", "b"] {
        let file = format!("two/{name}.toml");
        room.write(&file, &room.read(&file).replace("type = \"manual\"", "type = \"interval\"\nevery = \"1s\""));
    }
    let asked = server.asked("ohlc", "tether").len();
    let mut running = room.start(&["run", "two"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.asked("ohlc", "tether").len() < asked + 2 {
        assert!(running.is_running() && Instant::now() < deadline, "the other stands still");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal("TERM");
    let run = running.end();
    let place = |text: &str| run.stderr.find(text).unwrap_or_else(|| panic!("no {text:?}: {run}"));
    let last = run.stderr.rfind("run finished").unwrap();
    assert!(place("data/a/bitcoin.csv cannot be made from") < last, "{run}");

    fs::rename(room.path("data/a/bitcoin.csv"), room.path("theirs.csv")).unwrap();
    room.pipeline(&["run", "two", "--once"]).exits(0);
    assert_eq!(room.read("theirs.csv"), "theirs");
    assert_eq!(room.read("data/a/bitcoin.csv").lines().count(), server.expected("bitcoin").len() + 1);
}

/// All states are opened before anything runs.
#[test]
fn a_pipeline_that_does_not_open_stops_all_before_anything_is_written() {
    let server = Server::start();
    let room = Room::new(&server);
    room.write("two/a.toml", &Recipe::new().name("a").coins(&["bitcoin"]).sink("[sink]\ntype = \"csv\"\npath = \"data/a/{coin_id}.csv\"\n").toml());
    room.write("two/b.toml", &Recipe::new().name("b").coins(&["tether"]).sink("[sink]\ntype = \"csv\"\npath = \"data/b/{coin_id}.csv\"\n").toml());
    room.pipeline(&["run", "two", "--once"]).exits(0);
    fs::write(room.path(".pipeline/b/state.db"), "no state".repeat(1000)).unwrap();
    let (before, asked) = (contents(&room), server.seen().len());
    room.pipeline(&["run", "two", "--once"]).exits(2).complains(".pipeline/b/state.db is damaged");
    assert!(contents(&room) == before);
    assert_eq!(server.seen().len(), asked);
}
