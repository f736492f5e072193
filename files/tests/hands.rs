//! What somebody else does to the files is noticed, told with figures, and never touched.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop where it stands

use std::io::Write;
use std::sync::Arc;

use chrono::DateTime;
use pipeline_contract::testkit::{Fail, Fault, SimDisk, Survives, TestClock, TestRecords, TestTransport, ports, sink_context};
use pipeline_contract::{Act, Category, RealDisk, Recovery, SinkContext, SinkState, StageError};
use pipeline_files::{EditError, FileSet, FileStatus, Root, adopt, list_files, probe};

const HEADER: &[u8] = b"id,value\n";
const PATH: &str = "data/x.csv";

struct World {
    disk: SimDisk,
    records: Arc<TestRecords>,
}

impl World {
    /// `data/x.csv` with 10,009 bytes, committed by epoch 1.
    fn new() -> Self {
        let world = Self { disk: SimDisk::new(), records: Arc::default() };
        let mut files = world.files();
        files.append(PATH, HEADER, b"1,abcdefg\n".repeat(1000)).unwrap();
        world.commit(&mut files, 1);
        world
    }

    fn context(&self) -> SinkContext {
        let mut ports = ports(TestClock::new(DateTime::UNIX_EPOCH), TestTransport::in_turn([]));
        ports.disk = Arc::new(self.disk.clone());
        sink_context(ports, self.records.clone(), "state/keep")
    }

    fn files(&self) -> FileSet {
        FileSet::new(&self.context())
    }

    fn commit(&self, files: &mut FileSet, epoch: u64) -> SinkState {
        let state = files.prepare(epoch).unwrap();
        self.records.apply(&state);
        files.commit(epoch, &state).unwrap();
        state
    }

    fn content(&self) -> String {
        self.disk.files()[PATH].clone()
    }
}

fn refused(result: Result<impl std::fmt::Debug, StageError>, message: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.message, message);
    assert_eq!((error.act, error.category), (Act::Split, Category::Storage));
    assert!(error.help.unwrap().contains("pipeline state rebuild FILE"));
}

#[test]
fn every_kind_of_change_is_told() {
    let committed = World::new().content();
    let edited_end = committed.replacen("1,abcdefg\n", "1,ABCDEFG\n", 1000);
    for (content, message) in [
        (None, "data/x.csv is gone: 10,009 bytes were committed"),
        (Some(String::new()), "data/x.csv has 0 bytes, but 10,009 bytes were committed"),
        (Some(committed[..9000].to_owned()), "data/x.csv has 9,000 bytes, but 10,009 bytes were committed"),
        (Some(format!("{committed}2,b\n")), "data/x.csv has 10,013 bytes, but 10,009 bytes were committed"),
        (
            Some(committed.replacen("1,abcdefg", "1,abcdefG", 1)),
            "data/x.csv was changed after its 10,009 bytes were committed: something before the end of it differs",
        ),
        (Some(edited_end), "data/x.csv was changed after its 10,009 bytes were committed: the end of it differs"),
        (
            Some(committed.replace("id,value", "id,VALUE")),
            "data/x.csv was changed after its 10,009 bytes were committed: it begins with `id,VALUE`, but this pipeline writes `id,value`",
        ),
        (
            Some(committed.replace("id,value", "id;value;more")),
            "data/x.csv has 10,014 bytes, but 10,009 bytes were committed: it begins with `id;value;more`, but this pipeline writes `id,value`",
        ),
        (
            Some(format!("\u{feff}{}", committed.replace('\n', "\r\n"))),
            "data/x.csv has 11,013 bytes, but 10,009 bytes were committed: it begins with a byte order mark now; its line ends are CRLF now; \
             a spreadsheet program or an editor may have saved it",
        ),
    ] {
        for run_was_open in [false, true] {
            let world = World::new();
            match &content {
                Some(content) => world.disk.put(PATH, content),
                None => world.disk.delete(PATH),
            }
            let mut files = world.files();
            let longer = content.as_ref().is_some_and(|content| content.starts_with(&committed) && content.len() > committed.len());
            let before = world.disk.files();
            files.recover(&Recovery { last: None, run_was_open }, &[Root { dir: "data".into(), depth: 0 }]).unwrap();
            if longer && run_was_open {
                // The one thing a crash of ours looks like.
                assert_eq!(world.content(), committed);
                continue;
            }
            refused(files.check(PATH, HEADER), message);
            refused(files.append(PATH, HEADER, b"3,c\n"), message);
            // Other files go on.
            files.abort().unwrap();
            assert_eq!(world.disk.files(), before, "{message}");
            files.append("data/y.csv", HEADER, b"1,a\n").unwrap();
            world.commit(&mut files, 2);
        }
    }
}

#[test]
fn a_changed_file_that_is_longer_too_is_not_cut() {
    let world = World::new();
    let content = world.content().replace("abc", "xyz") + "2,b\n";
    world.disk.put(PATH, &content);
    world.files().recover(&Recovery { last: None, run_was_open: true }, &[]).unwrap();
    assert_eq!(world.content(), content);
}

#[test]
fn a_file_that_nobody_knows_is_not_touched() {
    for content in ["", "hello"] {
        let world = World::new();
        world.disk.put("data/y.csv", content);
        let len = content.len();
        refused(
            world.files().append("data/y.csv", HEADER, b"1,a\n"),
            &format!("data/y.csv exists, but this pipeline did not write it ({len} bytes)"),
        );
        assert_eq!(world.disk.files()["data/y.csv"], content);
    }
    let world = World::new();
    world.disk.put("data/y.csv/inner", "");
    let error = world.files().check("data/y.csv", HEADER).unwrap_err();
    assert_eq!(error.message, "data/y.csv exists, but this pipeline did not write it (it is a folder)");
}

#[test]
fn a_file_that_appears_before_prepare_is_not_overwritten() {
    let world = World::new();
    let mut files = world.files();
    files.append("data/y.csv", HEADER, b"1,a\n").unwrap();
    world.disk.put("data/y.csv", "hello");
    refused(files.prepare(2), "data/y.csv exists, but this pipeline did not write it (5 bytes)");
    files.abort().unwrap();
    assert_eq!(world.disk.files()["data/y.csv"], "hello");
    assert_eq!(world.disk.files().len(), 2);
}

#[test]
fn a_file_that_grows_before_prepare_is_not_written_to() {
    for rewrite in [false, true] {
        let world = World::new();
        let mut files = world.files();
        files.append(PATH, HEADER, b"2,b\n").unwrap();
        if rewrite {
            files.rewrite(PATH, HEADER, Box::new(|old, new| Ok(std::io::copy(old, new).map(|_| ())?))).unwrap();
        }
        let content = world.content() + "somebody's\n";
        world.disk.put(PATH, &content);
        refused(files.prepare(2), "data/x.csv has 10,020 bytes, but 10,009 bytes were committed");
        files.abort().unwrap();
        assert_eq!(world.content(), content);
    }
}

#[test]
fn a_file_that_appears_after_the_decision_stops_the_commit_until_it_is_moved() {
    for rewrite in [false, true] {
        let world = World::new();
        let (path, was) = if rewrite { (PATH, Some(world.content())) } else { ("data/y.csv", None) };
        let mut files = world.files();
        files.append(path, HEADER, b"1,a\n").unwrap();
        files.rewrite(path, HEADER, Box::new(|old, new| Ok(std::io::copy(old, new).map(|_| ())?))).unwrap();
        let state = files.prepare(2).unwrap();
        world.records.apply(&state);
        world.disk.put(path, "hello");
        let error = files.commit(2, &state).unwrap_err();
        assert!(error.message.contains(path) && error.message.contains(".tmp") && error.message.contains("a file of 5 bytes"), "{error}");
        assert_eq!(error.act, Act::Operator);
        // An abort after the decision takes nothing back, and a restart finds the same.
        files.abort().unwrap();
        let recovery = Recovery { last: Some((2, state.clone())), run_was_open: true };
        assert_eq!(world.files().recover(&recovery, &[]).unwrap_err(), error);
        assert_eq!(world.disk.files()[path], "hello");
        match &was {
            Some(was) => world.disk.put(path, was),
            None => world.disk.delete(path),
        }
        world.files().recover(&recovery, &[Root { dir: "data".into(), depth: 0 }]).unwrap();
        assert!(world.disk.files()[path].ends_with("1,a\n"));
        assert!(world.disk.files().keys().all(|path| !path.ends_with(".tmp")));
    }
}

#[test]
fn a_file_archived_away_after_its_commit_stops_nobody() {
    let world = World::new();
    let mut files = world.files();
    files.append("data/old.csv", HEADER, b"1,a\n").unwrap();
    let state = world.commit(&mut files, 2);
    world.disk.delete("data/old.csv");
    let mut files = world.files();
    files.recover(&Recovery { last: Some((2, state)), run_was_open: true }, &[Root { dir: "data".into(), depth: 0 }]).unwrap();
    files.append(PATH, HEADER, b"2,b\n").unwrap();
    world.commit(&mut files, 3);
    refused(files.append("data/old.csv", HEADER, b"2,b\n"), "data/old.csv is gone: 13 bytes were committed");
}

#[test]
fn a_file_that_was_only_announced_is_left_as_it_is() {
    let world = World::new();
    let mut files = world.files();
    let before = world.disk.files();
    [PATH, "data/new.csv", PATH].iter().for_each(|path| files.announce(path, HEADER).unwrap());
    assert_eq!(files.changed(), 2);
    assert!(world.commit(&mut files, 2).0.is_empty());
    assert_eq!((files.changed(), world.disk.files()), (0, before));
}

#[test]
fn a_file_is_looked_at_once_in_an_epoch() {
    let world = World::new();
    let mut files = world.files();
    assert_eq!(files.check(PATH, HEADER).unwrap(), FileStatus::Committed { len: 10_009 });
    world.disk.fail(Fail::Never);
    files.append(PATH, HEADER, b"2,b\n").unwrap();
    files.append(PATH, HEADER, b"3,c\n").unwrap();
    assert_eq!(files.check(PATH, HEADER).unwrap(), FileStatus::Committed { len: 10_009 });
    assert_eq!(world.disk.ops(), 0);
    world.commit(&mut files, 2);
    world.disk.fail(Fail::Never);
    assert_eq!(files.check(PATH, HEADER).unwrap(), FileStatus::Committed { len: 10_017 });
    assert!(world.disk.ops() > 0);
}

#[test]
fn a_fault_names_the_file_and_the_remedy() {
    let world = World::new();
    let mut files = world.files();
    files.append(PATH, HEADER, b"2,b\n").unwrap();
    world.disk.fail(Fail::From(3, Fault::Full));
    let error = files.prepare(2).unwrap_err();
    assert!(error.message.starts_with("cannot write data/x.csv: "), "{error}");
    assert_eq!((error.act, error.category), (Act::Operator, Category::Storage));
    assert!(error.help.unwrap().starts_with("the disk is full: free space"));
    let longer = world.content();
    assert!(longer.len() > 10_009);
    // The abort cannot cut either; it is made good before the next write.
    assert!(files.abort().is_err());
    world.disk.fail(Fail::Never);
    files.append(PATH, HEADER, b"2,b\n").unwrap();
    world.commit(&mut files, 2);
    assert_eq!(world.content().len(), 10_013);
}

#[test]
fn an_edit_that_fails_leaves_the_old_file() {
    let world = World::new();
    let before = world.disk.files();
    let mut files = world.files();
    let edit = |_: &mut (dyn std::io::Read + Send), new: &mut dyn Write| {
        new.write_all(b"half")?;
        Err(EditError::Stage(StageError::developer("no such row")))
    };
    files.rewrite(PATH, HEADER, Box::new(edit)).unwrap();
    assert_eq!(files.prepare(2).unwrap_err().message, "no such row");
    files.abort().unwrap();
    assert_eq!(world.disk.files(), before);
}

#[test]
fn content_is_what_the_epoch_leaves() {
    let world = World::new();
    let mut files = world.files();
    files.append(PATH, HEADER, b"2,b\n").unwrap();
    files.append("data/y.csv", HEADER, b"1,a\n").unwrap();
    let mut text = String::new();
    files.content("data/y.csv", HEADER).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "id,value\n1,a\n");
    text.clear();
    files.content(PATH, HEADER).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, world.content() + "2,b\n");
}

#[test]
fn adopted_files_go_on() {
    let world = World::new();
    world.disk.put(PATH, "id,value\n1,mended\n");
    world.disk.put("data/y.csv", "id,value\n");
    world.disk.put("data/.pipeline-0-0-1.tmp", "stray");
    world.disk.put("data/deep/z.csv", "id,value\n");
    let flat = Root { dir: "data".into(), depth: 0 };
    let paths = list_files(&world.disk, &flat).unwrap();
    assert_eq!(paths, ["data/x.csv", "data/y.csv"]);
    assert_eq!(list_files(&world.disk, &Root { depth: 1, ..flat }).unwrap(), ["data/deep/z.csv", "data/x.csv", "data/y.csv"]);
    assert_eq!(list_files(&world.disk, &Root { dir: "nowhere".into(), depth: 1 }).unwrap(), [""; 0]);
    let before = world.disk.files();
    let state = adopt(&world.context(), &paths, HEADER).unwrap();
    assert_eq!(world.disk.files(), before);
    world.records.apply(&state);
    let mut files = world.files();
    files.append(PATH, HEADER, b"2,b\n").unwrap();
    files.append("data/y.csv", HEADER, b"2,b\n").unwrap();
    world.commit(&mut files, 2);
    assert_eq!(world.content(), "id,value\n1,mended\n2,b\n");
    // What is gone from disk goes from the records.
    let state = adopt(&world.context(), &paths[1..], HEADER).unwrap();
    assert!(state.0[PATH].is_null() && !state.0["data/y.csv"].is_null());

    for (content, message) in [
        ("id,value\n1,a", "data/y.csv does not end with a line break, so that nothing can be appended: its last line may be cut off"),
        ("id,other\n1,a\n", "data/y.csv: it begins with `id,other`, but this pipeline writes `id,value`"),
        ("", "data/y.csv: it is empty, but this pipeline writes `id,value` first"),
    ] {
        world.disk.put("data/y.csv", content);
        assert_eq!(adopt(&world.context(), &paths, HEADER).unwrap_err().message, message);
    }
}

#[test]
fn probing_leaves_nothing_behind() {
    let world = World::new();
    let before = world.disk.files();
    for dir in ["", "data", "data/not/yet"] {
        probe(&world.context(), dir).unwrap();
    }
    assert_eq!(world.disk.files(), before);
    assert!(probe(&world.context(), PATH).unwrap_err().message.starts_with("cannot use the folder data/x.csv"));
    world.disk.fail(Fail::From(1, Fault::Full));
    assert!(probe(&world.context(), "data").unwrap_err().message.starts_with("cannot create data/.pipeline-"));
}

/// A file of 40 kB on the machine's own disk, grown in several epochs.
fn grown(dir: &std::path::Path) -> (String, SinkContext) {
    let path = format!("{}/x.csv", dir.display());
    let mut ports = ports(TestClock::new(DateTime::UNIX_EPOCH), TestTransport::in_turn([]));
    ports.disk = Arc::new(RealDisk);
    let records = Arc::new(TestRecords::default());
    let cx = sink_context(ports, records.clone(), dir.join("keep"));
    let mut files = FileSet::new(&cx);
    for (epoch, rows) in [(1, 10), (2, 3000), (3, 1), (4, 990)] {
        files.append(&path, HEADER, b"1,abcdefg\n".repeat(rows)).unwrap();
        let state = files.prepare(epoch).unwrap();
        records.apply(&state);
        files.commit(epoch, &state).unwrap();
    }
    (path, cx)
}

#[test]
fn a_copy_that_was_put_back_is_as_good_and_a_changed_middle_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (path, cx) = grown(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    let dated = |year: u64| {
        let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs((year - 1970) * 31_557_600);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    };
    // Another file with another time, and the same bytes: all blocks were counted right while it grew.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    dated(2001);
    let mut files = FileSet::new(&cx);
    assert_eq!(files.check(&path, HEADER).unwrap(), FileStatus::Committed { len: 40_019 });
    for at in [50, 20_000, 35_000] {
        let mut edited = bytes.clone();
        edited[at] ^= 1;
        std::fs::write(&path, edited).unwrap();
        dated(2030);
        files.abort().unwrap();
        let error = files.check(&path, HEADER).unwrap_err();
        assert!(error.message.contains("was changed after its 40,019 bytes were committed: something before the end of it differs"), "{error}");
        assert!(error.message.contains("(last changed 20") && error.message.contains("by this pipeline 20"), "{error}");
    }
}

#[test]
fn what_a_spreadsheet_saved_goes_on_once_it_is_taken_over() {
    let world = World::new();
    world.disk.put(PATH, "\u{feff}id,value\r\n1,a\r\n");
    world.records.apply(&adopt(&world.context(), &[PATH.to_owned()], HEADER).unwrap());
    let mut files = world.files();
    files.append(PATH, HEADER, b"2,b\n").unwrap();
    world.commit(&mut files, 2);
    assert_eq!(world.content(), "\u{feff}id,value\r\n1,a\r\n2,b\n");
}

#[test]
fn a_folder_in_the_place_of_a_file_is_told() {
    let world = World::new();
    world.disk.delete(PATH);
    world.disk.put("data/x.csv/inner", "");
    refused(world.files().check(PATH, HEADER), "data/x.csv is a folder now: a file of 10,009 bytes was committed");
}

#[test]
fn on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = format!("{}/a/b/x.csv", dir.path().display());
    let records = Arc::new(TestRecords::default());
    let mut ports = ports(TestClock::new(DateTime::UNIX_EPOCH), TestTransport::in_turn([]));
    ports.disk = Arc::new(RealDisk);
    let cx = sink_context(ports, records.clone(), dir.path().join("keep"));
    let mut files = FileSet::new(&cx);
    for epoch in 1..4 {
        files.append(&path, HEADER, format!("{epoch},x\n").as_bytes()).unwrap();
        if epoch == 3 {
            files.rewrite(&path, HEADER, Box::new(|old, new| Ok(std::io::copy(old, new).map(|_| ())?))).unwrap();
        }
        let state = files.prepare(epoch).unwrap();
        records.apply(&state);
        files.commit(epoch, &state).unwrap();
    }
    files.append(&path, HEADER, b"torn").unwrap();
    files.prepare(4).unwrap();
    let mut files = FileSet::new(&cx);
    files.recover(&Recovery { last: None, run_was_open: true }, &[Root { dir: dir.path().display().to_string(), depth: 2 }]).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "id,value\n1,x\n2,x\n3,x\n");
    assert_eq!(std::fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(dir.path().join("keep")).unwrap().count(), 1);
}

#[test]
fn a_power_cut_after_a_commit_loses_nothing() {
    let world = World::new();
    let before = world.disk.files();
    assert_eq!(world.disk.crash(Survives::SYNCED).files(), before);
}
