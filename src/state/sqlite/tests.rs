use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use pipeline_contract::testkit::Fuzz;
use pipeline_contract::{Act, Category, SinkState, rfc3339};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params};

use super::SqliteStore;
use crate::state::suite::{at, commit, run, store_suite};
use crate::state::{Binding, ChunkKey, DedupeChanges, EpochCommit, RunRecord, RunStatus, Store};

store_suite! {{
    let dir = tempfile::tempdir().unwrap();
    (SqliteStore::open(dir.path()).unwrap(), dir)
}}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A state with enough in it to have several pages.
fn filled(dir: &Path) {
    let store = SqliteStore::open(dir).unwrap();
    store.start_run(&run("r", "2026-05-19T15:00:00Z"), true).unwrap();
    let chunks = (0..100).map(|chunk| (ChunkKey { series: b"bitcoin".to_vec(), chunk }, vec![7; 3000])).collect();
    store.commit_epoch(&EpochCommit { dedupe: DedupeChanges { chunks, ..DedupeChanges::default() }, ..commit(1, "r") }).unwrap();
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/on/the/way");
    filled(&dir);
    let store = SqliteStore::open(&dir).unwrap();
    assert_eq!(store.last_epoch().unwrap(), Some((1, vec![])));
    assert_eq!(store.open_run().unwrap().unwrap().run_id, "r");
    assert_eq!(store.chunks(&[ChunkKey { series: b"bitcoin".to_vec(), chunk: 99 }]).unwrap(), [Some(vec![7; 3000])]);
}

/// What is in memory is told from what is read by changing the file behind SQLite's back.
#[test]
fn pages_are_kept_while_a_run_goes_on_and_let_go_when_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = SqliteStore::open(dir.path()).unwrap();
    let going_on = store.open_run().unwrap().unwrap();
    let chunk = |n| store.chunks(&[ChunkKey { series: b"bitcoin".to_vec(), chunk: n }]).unwrap().remove(0).unwrap();
    let change = |from: u8, to: u8| {
        let file = dir.path().join("state.db");
        let bytes = fs::read(&file).unwrap();
        let at = bytes.windows(3000).position(|window| window == [from; 3000]).unwrap();
        let mut file = fs::OpenOptions::new().write(true).open(file).unwrap();
        file.seek(SeekFrom::Start(u64::try_from(at).unwrap())).unwrap();
        file.write_all(&[to; 3000]).unwrap();
    };
    let which = (0..100).find(|n| {
        change(7, 8);
        let found = chunk(*n) == [8; 3000];
        change(8, 7);
        found
    });
    let which = which.unwrap();
    assert_eq!(chunk(which), [7; 3000], "outside a run nothing is kept");

    store.start_run(&going_on, true).unwrap();
    store.connection.lock().unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    assert_eq!(chunk(which), [7; 3000]);
    change(7, 9);
    assert_eq!(chunk(which), [7; 3000], "in a run it is not read twice");
    store.end_run(&RunRecord { status: RunStatus::Ok, ..going_on }).unwrap();
    assert_eq!(chunk(which), [9; 3000], "the end of the run lets go of it");
}

/// Each reader holds pages of its own, and between runs nobody would ask it again for hours.
#[test]
fn what_is_read_beside_a_write_keeps_its_connection_while_a_run_goes_on_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = SqliteStore::open(dir.path()).unwrap();
    let beside = || {
        let _saving = store.connection.lock().unwrap();
        assert_eq!(store.last_epoch().unwrap(), Some((1, vec![])));
        store.reader.lock().unwrap().is_some()
    };
    assert!(!beside());
    let going_on = store.open_run().unwrap().unwrap();
    store.start_run(&going_on, true).unwrap();
    assert!(beside());
    store.end_run(&RunRecord { status: RunStatus::Ok, ..going_on }).unwrap();
    assert!(store.reader.lock().unwrap().is_none());
    assert!(!beside(), "whoever comes while the end is saved closes it himself");
}

#[test]
fn reading_creates_nothing_and_works_while_another_writes() {
    let dir = tempfile::tempdir().unwrap();
    assert!(SqliteStore::open_read_only(&dir.path().join("none")).unwrap().is_none());
    assert_eq!(names(dir.path()), [] as [&str; 0]);
    filled(dir.path());
    let before = fs::read(dir.path().join("state.db")).unwrap();
    {
        let reader = SqliteStore::open_read_only(dir.path()).unwrap().unwrap();
        assert_eq!(reader.last_epoch().unwrap(), Some((1, vec![])));
        reader.bind(&Binding::default()).unwrap_err();
    }
    assert_eq!(names(dir.path()), ["state.db"]);
    assert_eq!(fs::read(dir.path().join("state.db")).unwrap(), before);

    let writer = SqliteStore::open(dir.path()).unwrap();
    let reader = SqliteStore::open_read_only(dir.path()).unwrap().unwrap();
    let mut held = writer.connection.lock().unwrap();
    let open = held.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    open.execute("DELETE FROM chunk", []).unwrap();
    assert_eq!(reader.dedupe_size().unwrap(), (100, 0));
    open.commit().unwrap();
    assert_eq!(reader.dedupe_size().unwrap(), (0, 0));
}

/// A folder that may not be written to stops nobody who is root, as tests often are; a link in the place of a helper file does.
#[cfg(unix)]
#[test]
fn what_may_not_be_written_to_is_read_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["plain", "odd # 100% a?b=c & é"] {
        let dir = dir.path().join(name);
        filled(&dir);
        std::os::unix::fs::symlink("nowhere", dir.join("state.db-shm")).unwrap();
        assert!(SqliteStore::open(&dir).is_err(), "SQLite cannot make its helper files");
        let reader = SqliteStore::open_read_only(&dir).unwrap().unwrap();
        assert_eq!(reader.last_epoch().unwrap(), Some((1, vec![])));
        assert_eq!(reader.dedupe_size().unwrap(), (100, 0));
        reader.bind(&Binding::default()).unwrap_err();
        drop(reader);
        assert!(names(&dir).iter().all(|name| name != "state.db-wal" || fs::metadata(dir.join(name)).unwrap().len() == 0));

        // A part of the state is in the log, where this way would not see it.
        fs::write(dir.join("state.db-wal"), "something").unwrap();
        let error = SqliteStore::open_read_only(&dir).unwrap_err();
        assert!(!error.unusable && error.error.act == Act::Operator, "{error}");
    }
}

#[test]
fn a_file_that_is_still_empty_is_no_state_to_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state.db"), "").unwrap();
    assert!(SqliteStore::open_read_only(dir.path()).unwrap().is_none());
    SqliteStore::open(dir.path()).unwrap();
    assert!(SqliteStore::open_read_only(dir.path()).unwrap().is_some());
}

#[test]
fn a_state_of_the_first_version_is_read_as_it_is_and_brought_up_to_date_when_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let file = dir.path().join("state.db");
    Connection::open(&file)
        .unwrap()
        .execute_batch("DROP TABLE key_log; DROP TABLE reject_run; DROP TABLE reject_block; DROP INDEX reject_replayed; PRAGMA user_version = 1;")
        .unwrap();
    let parts = |store: &SqliteStore| {
        let mut parts = 0;
        let read = store.each_key_part(&mut |_| {
            parts += 1;
            Ok(())
        });
        read.map(|()| parts)
    };
    let reader = SqliteStore::open_read_only(dir.path()).unwrap().unwrap();
    assert_eq!((reader.dedupe_size(), parts(&reader)), (Ok((100, 0)), Ok(0)));
    assert_eq!(Connection::open(&file).unwrap().pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap(), 1);
    let store = SqliteStore::open(dir.path()).unwrap();
    assert_eq!((store.dedupe_size(), parts(&store)), (Ok((100, 0)), Ok(0)));
    let dedupe = DedupeChanges { key_part: Some(vec![1]), ..DedupeChanges::default() };
    let (next, run) = (store.last_epoch().unwrap().unwrap().0 + 1, store.runs(1).unwrap().remove(0).run_id);
    store.commit_epoch(&EpochCommit { dedupe, ..commit(next, &run) }).unwrap();
    assert_eq!((parts(&store), parts(&reader)), (Ok(1), Ok(1)));
    drop(store);
    assert_eq!(parts(&SqliteStore::open(dir.path()).unwrap()), Ok(1), "once is enough");
}

#[test]
fn a_newer_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    Connection::open(dir.path().join("state.db")).unwrap().pragma_update(None, "user_version", 7).unwrap();
    for error in [
        SqliteStore::open(dir.path()).unwrap_err(),
        SqliteStore::open_read_only(dir.path()).unwrap_err(),
        SqliteStore::open_for_rebuild(dir.path()).unwrap_err(),
    ] {
        assert_eq!((error.act, error.category), (Act::Operator, Category::Storage));
        assert!(error.message.contains("the state is from a newer version 7; this program knows 3"), "{error}");
        assert!(error.message.contains("state.db"), "{error}");
        assert!(error.help.is_some());
    }
}

#[test]
fn damage_is_named_and_the_way_out_too() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("not a database", |file| fs::write(file, "a text, and long enough to be looked at as a header of a database file".repeat(100)).unwrap()),
        ("another program's database", |file| {
            fs::remove_file(file).unwrap();
            Connection::open(file).unwrap().execute("CREATE TABLE theirs(x)", []).unwrap();
        }),
        ("cut off", |file| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(20_000).unwrap()),
        ("overwritten in the middle", |file| {
            let mut bytes = fs::read(file).unwrap();
            bytes[8192..40_960].fill(0xa5);
            fs::write(file, bytes).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        damage(&dir.path().join("state.db"));
        let error = SqliteStore::open(dir.path()).expect_err(what);
        assert_eq!((error.act, error.category), (Act::Operator, Category::Storage), "{what}: {error}");
        assert!(error.message.contains("state.db is damaged"), "{what}: {error}");
        assert!(error.help.as_deref().unwrap().contains("pipeline state rebuild"), "{what}");

        let (store, kept) = SqliteStore::open_for_rebuild(dir.path()).unwrap();
        assert_eq!(store.last_epoch().unwrap(), None);
        assert!(kept.unwrap().ends_with("state.db.damaged"), "{what}");
    }
}

#[test]
fn a_sound_state_is_rebuilt_in_place_and_damaged_ones_do_not_overwrite_each_other() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (store, kept) = SqliteStore::open_for_rebuild(dir.path()).unwrap();
    assert_eq!((store.last_epoch().unwrap(), kept), (Some((1, vec![])), None));
    drop(store);
    for name in ["state.db.damaged", "state.db.damaged-2"] {
        fs::write(dir.path().join("state.db"), "no database at all, but a text of some length, so that it is read".repeat(20)).unwrap();
        let (store, kept) = SqliteStore::open_for_rebuild(dir.path()).unwrap();
        assert_eq!(kept.unwrap(), dir.path().join(name));
        drop(store);
    }
}

#[test]
fn a_value_that_cannot_be_read_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = SqliteStore::open(dir.path()).unwrap();
    store.connection.lock().unwrap().execute_batch("UPDATE split SET rows = 'x'; UPDATE fact SET value = 7.5").unwrap();
    for error in [store.open_run().unwrap_err(), store.last_epoch().unwrap_err()] {
        assert!(error.message.contains("state.db is damaged"), "{error}");
    }
}

#[test]
fn after_a_commit_that_reported_an_error_the_state_is_opened_anew_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = SqliteStore::open(dir.path()).unwrap();
    // A limit of this connection alone: whoever opens the file anew is rid of it.
    store.connection.lock().unwrap().pragma_update(None, "max_page_count", 1).unwrap();
    let chunks = vec![(ChunkKey { series: b"x".to_vec(), chunk: 0 }, vec![7; 1_000_000])];
    let large = EpochCommit { dedupe: DedupeChanges { chunks, ..DedupeChanges::default() }, ..commit(2, "r") };
    store.commit_epoch(&large).unwrap_err();
    store.reopen().unwrap();
    assert_eq!(store.last_epoch().unwrap().unwrap().0, 1, "what failed does not count");
    store.commit_epoch(&large).unwrap();
    assert_eq!(store.last_epoch().unwrap().unwrap().0, 2);
    drop(store);
    let store = SqliteStore::open(dir.path()).unwrap();
    assert_eq!((store.last_epoch().unwrap().unwrap().0, store.dedupe_size().unwrap()), (2, (101, 0)));
}

#[test]
fn a_state_that_cannot_be_opened_anew_answers_nothing_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = SqliteStore::open(dir.path()).unwrap();
    let (file, aside) = (dir.path().join("state.db"), dir.path().join("aside.db"));
    store.connection.lock().unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    fs::rename(&file, &aside).unwrap();
    fs::create_dir(&file).unwrap();
    let error = store.reopen().unwrap_err();
    assert!(error.message.contains("state.db"), "{error}");
    store.last_epoch().unwrap_err();
    store.commit_epoch(&commit(2, "r")).unwrap_err();
    fs::remove_dir(&file).unwrap();
    fs::rename(&aside, &file).unwrap();
    store.reopen().unwrap();
    assert_eq!(store.last_epoch().unwrap().unwrap().0, 1);
    store.commit_epoch(&commit(2, "r")).unwrap();
}

#[test]
fn damage_in_what_every_run_reads_first_is_found_when_it_is_opened() {
    for damage in ["UPDATE fact SET value = '{'", "UPDATE run SET rows = '['", "UPDATE split SET rows = 'x'"] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        Connection::open(dir.path().join("state.db")).unwrap().execute_batch(damage).unwrap();
        let error = SqliteStore::open(dir.path()).expect_err(damage);
        assert!(error.unusable && error.message.contains("state.db is damaged"), "{damage}: {error}");
        assert!(error.help.as_deref().unwrap().contains("pipeline state rebuild FILE"));
    }
}

#[test]
fn a_folder_that_cannot_be_made_or_a_disk_that_is_full_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = SqliteStore::open(&dir.path().join("file/below")).unwrap_err();
    assert_eq!((error.act, error.category), (Act::Operator, Category::Storage));
    assert!(error.message.contains("file/below"), "{error}");

    filled(dir.path());
    let store = SqliteStore::open(dir.path()).unwrap();
    store.connection.lock().unwrap().pragma_update(None, "max_page_count", 1).unwrap();
    let chunks = vec![(ChunkKey { series: b"x".to_vec(), chunk: 0 }, vec![7; 1_000_000])];
    let error = store.commit_epoch(&EpochCommit { dedupe: DedupeChanges { chunks, ..DedupeChanges::default() }, ..commit(2, "r") }).unwrap_err();
    assert_eq!((error.act, error.category), (Act::Operator, Category::Storage));
    assert!(error.message.contains("does not fit the disk"), "{error}");
    assert_eq!(store.last_epoch().unwrap().unwrap().0, 1);
}

/// Every cell of a state, by table and column.
const CELLS: [(&str, &[&str]); 11] = [
    ("fact", &["name", "value"]),
    ("record", &["sink", "key", "value"]),
    ("chunk", &["series", "chunk", "data"]),
    ("keyed", &["key", "fingerprint"]),
    ("dedupe_meta", &["name", "value"]),
    ("reject", &["hash", "replayed"]),
    ("reject_run", &["run", "hashes"]),
    ("reject_block", &["place", "hashes"]),
    ("run", &["run_id", "tick", "cause", "window", "started_at", "ended_at", "status", "rows", "error"]),
    ("split", &["place", "id", "data", "status", "rows", "attempts", "position", "error"]),
    ("tick", &["tick", "until", "count", "status", "reason", "run_id"]),
];

#[test]
fn fuzzed_cells_of_a_state_are_read_or_the_state_is_named_as_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).unwrap();
    store.connection.lock().unwrap().pragma_update(None, "synchronous", "OFF").unwrap();
    let mut run: RunRecord = run("r", "2026-05-19T15:00:00Z");
    run.splits.truncate(1);
    store.start_run(&run, true).unwrap();
    // No binding: one row in each table, so that what is changed can be put back.
    let sinks = vec![("csv-0".to_owned(), SinkState([("data/a.csv".to_owned(), serde_json::json!({ "len": 7 }))].into()))];
    let dedupe = DedupeChanges {
        chunks: vec![(ChunkKey { series: b"a".to_vec(), chunk: 1 }, vec![7; 30])],
        keyed: vec![(b"k".to_vec(), 7)],
        meta: [("width".to_owned(), serde_json::json!(1))].into(),
        key_part: Some(vec![7]),
    };
    store.commit_epoch(&EpochCommit { sinks, dedupe, rejects: vec![5], ..commit(1, "r") }).unwrap();
    let block = "INSERT INTO reject_run VALUES(1, 1); INSERT INTO reject_block VALUES(1 << 32, zeroblob(16))";
    store.connection.lock().unwrap().execute_batch(block).unwrap();

    let samples = ["{\"read\":1,\"written\":0}", "[1,[]]", "\"open\"", "open", "1779202800000000", "{\"id\":\"x\",\"data\":null}", "ran", "r"];
    let words =
        ["{", "}", "[", "]", "\"", ":", ",", "null", "-1", "1e999", "9223372036854775807", "\0", "é", "\\ud800", "open", "running", "[[", "{\"a\":"];
    let fuzz = Fuzz { name: "state rows", samples: &samples, words: &words, cases: 300, cost: 20 };
    let mut which = 0;
    fuzz.run(
        |draw| draw.of(&["null", "0", "-9223372036854775808", "9223372036854775807", "1.5", "ok", "{}", "[]"]).as_bytes().to_vec(),
        |input| {
            which += 1;
            let (table, columns) = CELLS[which % CELLS.len()];
            let column = columns[which / CELLS.len() % columns.len()];
            let text = String::from_utf8_lossy(input).into_owned();
            let value = match (text.parse::<i64>(), text.parse::<f64>(), which % 5) {
                (Ok(number), ..) => SqlValue::Integer(number),
                (_, Ok(number), _) => SqlValue::Real(number),
                (_, _, 0) => SqlValue::Blob(input.to_vec()),
                _ if text == "null" => SqlValue::Null,
                _ => SqlValue::Text(text),
            };
            let old: SqlValue = {
                let connection = store.connection.lock().unwrap();
                let old = connection.query_row(&format!("SELECT {column} FROM {table}"), [], |row| row.get(0)).unwrap();
                // Text that is not UTF-8 can stand there too.
                let cast = if which % 7 == 0 { "CAST(CAST(?1 AS BLOB) || x'ff' AS TEXT)".to_owned() } else { "?1".to_owned() };
                if connection.execute(&format!("UPDATE OR IGNORE {table} SET {column} = {cast} WHERE {column} IS ?2"), params![value, old]).is_err() {
                    return false;
                }
                old
            };
            let keys = [ChunkKey { series: b"a".to_vec(), chunk: 1 }];
            let all = [
                store.binding().err(),
                store.last_epoch().err(),
                store.record("csv-0", "data/a.csv").err(),
                store.records("csv-0").err(),
                store.chunks(&keys).err(),
                store.keyed(&[b"k".to_vec()]).err(),
                store.dedupe_meta("width").err(),
                store.dedupe_size().err(),
                store.rejects(&[5, 0]).err(),
                store.each_reject(&mut |_| ()).err(),
                store.open_run().err(),
                store.runs(10).err(),
                store.tick(run.tick).err(),
                store.last_tick(None).err(),
                store.ticks(10).err(),
            ];
            let before = all.iter().flatten().count();
            for error in all.iter().flatten() {
                assert!(error.message.contains("state.db is damaged"), "{table}.{column}: {error:?}");
                assert_eq!((error.act, error.category), (Act::Operator, Category::Storage), "{error:?}");
                assert!(error.message.len() < 2000, "{} bytes", error.message.len());
            }
            let connection = store.connection.lock().unwrap();
            connection.execute(&format!("UPDATE {table} SET {column} = ?1"), params![old]).unwrap();
            before == 0
        },
    );
    assert!(store.open_run().unwrap().is_some(), "all is as it was");
}

#[test]
fn a_table_that_is_gone_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    Connection::open(dir.path().join("state.db")).unwrap().execute_batch("DROP TABLE split; ALTER TABLE tick RENAME COLUMN until TO later").unwrap();
    let refused = SqliteStore::open(dir.path()).err().unwrap();
    assert!(refused.unusable && refused.message.contains("state.db is damaged"), "{refused}");
    // Lost while it is open, the first statement that needs it tells.
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = SqliteStore::open(dir.path()).unwrap();
    store.connection.lock().unwrap().execute_batch("DROP TABLE split; ALTER TABLE tick RENAME COLUMN until TO later").unwrap();
    for error in [store.open_run().unwrap_err(), store.ticks(1).unwrap_err(), store.last_tick(None).unwrap_err()] {
        assert!(error.message.contains("state.db is damaged"), "{error}");
        assert_eq!(error.act, Act::Operator);
    }
}

#[test]
fn the_file_does_not_grow_with_runs_that_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).unwrap();
    let size = || {
        store.connection.lock().unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        fs::metadata(dir.path().join("state.db")).unwrap().len()
    };
    let mut after = Vec::new();
    for n in 0..400_u64 {
        let tick = rfc3339(at("2026-05-19T15:00:00Z") + chrono::TimeDelta::hours(n.cast_signed()));
        let run = run(&format!("crypto@{tick}"), &tick);
        store.start_run(&run, true).unwrap();
        store.commit_epoch(&commit(n + 1, &run.run_id)).unwrap();
        store.end_run(&RunRecord { status: RunStatus::Ok, ..run }).unwrap();
        store.prune(50, None).unwrap();
        if n % 100 == 99 {
            after.push(size());
        }
    }
    assert_eq!((store.runs(1000).unwrap().len(), store.ticks(1000).unwrap().len()), (50, 50));
    assert!(after[3] <= after[1], "bytes after each hundred runs: {after:?}");
}

#[test]
fn a_log_that_grew_is_moved_into_the_file_while_the_state_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).unwrap();
    store.start_run(&run("r", "2026-05-19T15:00:00Z"), false).unwrap();
    let len = || fs::metadata(dir.path().join("state.db")).unwrap().len();
    for epoch in 1..=3 {
        let chunks = (0..600).map(|n| (ChunkKey { series: b"a".to_vec(), chunk: n }, vec![7; 5000])).collect();
        store.commit_epoch(&EpochCommit { dedupe: DedupeChanges { chunks, ..DedupeChanges::default() }, ..commit(epoch, "r") }).unwrap();
        store.checkpoints.settle();
        assert_eq!(len() > 3_000_000, epoch == 3, "after epoch {epoch}: {} bytes", len());
    }
    assert_eq!(store.dedupe_size().unwrap(), (600, 0));
}

#[test]
fn a_log_that_is_long_when_a_run_has_ended_gives_its_place_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).unwrap();
    let log = || fs::metadata(dir.path().join("state.db-wal")).unwrap().len();
    for (epoch, many, is_cut) in [(1, 1000, false), (2, 4000, true)] {
        let run = run(&format!("r{epoch}"), &format!("2026-05-19T1{epoch}:00:00Z"));
        store.start_run(&run, true).unwrap();
        let chunks = (0..many).map(|n| (ChunkKey { series: b"a".to_vec(), chunk: n }, vec![7; 5000])).collect();
        store.commit_epoch(&EpochCommit { dedupe: DedupeChanges { chunks, ..DedupeChanges::default() }, ..commit(epoch, &run.run_id) }).unwrap();
        store.end_run(&RunRecord { status: RunStatus::Ok, ..run }).unwrap();
        let before = log();
        store.prune(50, None).unwrap();
        store.checkpoints.settle();
        assert_eq!((before > 16 << 20, log() == 0), (is_cut, is_cut), "{before} bytes, then {}", log());
    }
    assert_eq!(store.dedupe_size().unwrap(), (4000, 0));
}
