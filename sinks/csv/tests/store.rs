//! Epochs, replaced rows, crashes and other people's hands.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop where it stands

#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;

use common::{Candle, World, candle};
use pipeline_contract::testkit::{Fail, Fault, SimDisk, Survives};
use pipeline_contract::{Act, Delivery, Filter, Op, Row, StageError};

const YEARS: &str = "path = \"data/{coin}_{at:%Y}.csv\"\ncolumns = [\"at\", \"close\", \"note\"]";

fn noted(mut candle: Candle, note: &str) -> Candle {
    candle.note = Some(note.to_owned());
    candle
}

fn batch(rows: &[Candle]) -> pipeline_contract::arrow::RecordBatch {
    Candle::batch(rows)
}

#[test]
fn lines_are_made_though_no_thread_of_the_runtime_is_free() {
    use std::sync::mpsc::channel;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let (held, is_held) = channel();
    let (go_on, wait) = channel::<()>();
    runtime.spawn(async move {
        held.send(()).unwrap();
        wait.recv()
    });
    is_held.recv().unwrap();
    let (done, lines) = channel();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || {
        handle.block_on(async move {
            let mut world = World::new("path = \"data/all.csv\"");
            world.store(&vec![candle("a", "2026-01-01T00:00:00Z", 1.0); 1000]).await.unwrap();
            done.send(world.files()["data/all.csv"].lines().count()).unwrap();
        });
    });
    assert_eq!(lines.recv_timeout(std::time::Duration::from_secs(30)), Ok(1001));
    drop(go_on);
}

#[tokio::test]
async fn rows_are_appended_below_one_header_in_order() {
    let mut world = World::new(YEARS);
    world
        .store(&[candle("a", "2025-12-31T23:00:00Z", 1.0), candle("b", "2026-01-01T00:00:00Z", 2.0), candle("a", "2026-01-01T00:00:00Z", 3.0)])
        .await
        .unwrap();
    world.store(&[candle("a", "2026-01-01T01:00:00Z", 4.0), candle("a", "2025-12-31T22:00:00Z", 5.0)]).await.unwrap();
    world.store(&[]).await.unwrap();
    let expected = [
        ("data/a_2025.csv", "at,close,note\n2025-12-31T23:00:00Z,1.0,\n2025-12-31T22:00:00Z,5.0,\n"),
        ("data/a_2026.csv", "at,close,note\n2026-01-01T00:00:00Z,3.0,\n2026-01-01T01:00:00Z,4.0,\n"),
        ("data/b_2026.csv", "at,close,note\n2026-01-01T00:00:00Z,2.0,\n"),
    ];
    assert_eq!(world.files(), expected.map(|(path, text)| (path.to_owned(), text.to_owned())).into());
}

#[tokio::test]
async fn nothing_shows_before_the_commit() {
    let mut world = World::new(YEARS);
    let mut sink = world.start().await.unwrap();
    sink.write(&batch(&[candle("a", "2026-01-01T00:00:00Z", 1.0)]), Op::Append).await.unwrap();
    assert!(world.files().is_empty());
    let state = sink.prepare(1).await.unwrap();
    assert!(world.files().keys().all(|path| path.starts_with("data/.pipeline-")), "{:?}", world.files());
    world.decide(&mut *sink, state).await.unwrap();
    assert_eq!(world.files().keys().collect::<Vec<_>>(), ["data/a_2026.csv"]);
    assert_eq!(sink.capabilities().delivery, Delivery::ExactlyOnce);
    assert!(sink.capabilities().replace);
}

#[tokio::test]
async fn rows_are_replaced_where_they_stand() {
    let mut world = World::new(YEARS);
    let hours: Vec<_> = (0..5).map(|h| noted(candle("a", &format!("2026-01-01T0{h}:00:00Z"), f64::from(h)), "two\n\"lines\"")).collect();
    world.store(&hours).await.unwrap();
    world.store(&[candle("b", "2026-01-01T00:00:00Z", 1.0)]).await.unwrap();
    let untouched = world.files()["data/b_2026.csv"].clone();
    let mut sink = world.start().await.unwrap();
    let writes = [
        (Op::Replace, batch(&[candle("a", "2026-01-01T01:00:00Z", 10.0), noted(candle("a", "2026-01-01T03:00:00Z", 30.0), "x,\ny")])),
        (Op::Append, batch(&[candle("a", "2026-01-01T05:00:00Z", 5.0), candle("a", "2027-01-01T00:00:00Z", 7.0)])),
        // One that is new in this epoch, in an old file and in a new one; one for the second time.
        (
            Op::Replace,
            batch(&[candle("a", "2026-01-01T05:00:00Z", 50.0), candle("a", "2027-01-01T00:00:00Z", 70.0), candle("a", "2026-01-01T01:00:00Z", 11.0)]),
        ),
        (Op::Append, batch(&[candle("a", "2026-01-01T06:00:00Z", 6.0)])),
    ];
    world.epoch(&mut *sink, &writes).await.unwrap();
    let files = world.files();
    assert_eq!(
        files["data/a_2026.csv"],
        "at,close,note\n2026-01-01T00:00:00Z,0.0,\"two\n\"\"lines\"\"\"\n2026-01-01T01:00:00Z,11.0,\n2026-01-01T02:00:00Z,2.0,\"two\n\"\"lines\"\"\"\n\
         2026-01-01T03:00:00Z,30.0,\"x,\ny\"\n2026-01-01T04:00:00Z,4.0,\"two\n\"\"lines\"\"\"\n2026-01-01T05:00:00Z,50.0,\n2026-01-01T06:00:00Z,6.0,\n"
    );
    assert_eq!(files["data/a_2027.csv"], "at,close,note\n2027-01-01T00:00:00Z,70.0,\n");
    assert_eq!(files["data/b_2026.csv"], untouched);
    // The file goes on growing.
    world.epoch(&mut *sink, &[(Op::Append, batch(&[candle("a", "2026-01-01T07:00:00Z", 8.0)]))]).await.unwrap();
    assert!(world.files()["data/a_2026.csv"].ends_with("T06:00:00Z,6.0,\n2026-01-01T07:00:00Z,8.0,\n"));
    assert_eq!(world.files().len(), 3);
}

#[tokio::test]
async fn a_row_that_is_not_there_cannot_be_replaced() {
    let mut world = World::new(YEARS);
    world.store(&[candle("a", "2026-01-01T00:00:00Z", 1.0)]).await.unwrap();
    let before = world.files();
    let mut sink = world.start().await.unwrap();
    for at in ["2026-01-01T01:00:00Z", "2028-01-01T00:00:00Z"] {
        let error = sink.write(&batch(&[candle("a", at, 2.0)]), Op::Replace).await.unwrap_err();
        assert_eq!(error.message, format!("data/a_{}.csv: 1 row that is to be replaced is not in the file, though state says so", &at[..4]));
        assert_eq!(error.act, Act::Split);
        sink.abort().await.unwrap();
    }
    assert_eq!(world.files(), before);
}

#[tokio::test]
async fn files_that_an_epoch_changes_are_counted() {
    let mut world = World::new(YEARS);
    let mut sink = world.start().await.unwrap();
    let (old, new) = (candle("a", "2025-01-01T00:00:00Z", 1.0), candle("a", "2026-01-01T00:00:00Z", 1.0));
    sink.write(&batch(&[old.clone(), new.clone()]), Op::Append).await.unwrap();
    sink.write(&batch(&[candle("a", "2025-01-01T01:00:00Z", 1.0)]), Op::Append).await.unwrap();
    assert_eq!(sink.changed_files(), 2);
    sink.abort().await.unwrap();
    assert_eq!(sink.changed_files(), 0);
    sink.write(&batch(std::slice::from_ref(&old)), Op::Append).await.unwrap();
    let state = sink.prepare(1).await.unwrap();
    world.decide(&mut *sink, state).await.unwrap();
    sink.look(&batch(std::slice::from_ref(&old))).await.unwrap();
    assert_eq!(sink.changed_files(), 0, "to look at one changes nothing");
    sink.write(&batch(&[noted(old, "other")]), Op::Replace).await.unwrap();
    assert_eq!(sink.changed_files(), 1);
}

#[tokio::test]
async fn an_abort_forgets_everything() {
    let mut world = World::new(YEARS);
    world.store(&[candle("a", "2026-01-01T00:00:00Z", 1.0)]).await.unwrap();
    let before = world.files();
    let mut sink = world.start().await.unwrap();
    for prepare in [true, false] {
        sink.write(&batch(&[candle("a", "2026-01-01T00:00:00Z", 2.0)]), Op::Replace).await.unwrap();
        sink.write(&batch(&[candle("a", "2026-01-01T01:00:00Z", 2.0), candle("b", "2026-01-01T01:00:00Z", 2.0)]), Op::Append).await.unwrap();
        if prepare {
            sink.prepare(2).await.unwrap();
            assert_ne!(world.files(), before);
        }
        sink.abort().await.unwrap();
        assert_eq!(world.files(), before);
    }
    let state = sink.prepare(2).await.unwrap();
    assert!(state.0.is_empty());
}

#[tokio::test]
async fn another_header_is_told_with_both() {
    let mut world = World::new(YEARS);
    world.store(&[candle("a", "2026-01-01T00:00:00Z", 1.0)]).await.unwrap();
    world.config = YEARS.replace("\"note\"", "{ column = \"note\", as = \"remark\" }");
    let error = world.store(&[candle("a", "2026-01-01T01:00:00Z", 1.0)]).await.unwrap_err();
    assert_eq!(error.message, "data/a_2026.csv: it begins with `at,close,note`, but this pipeline writes `at,close,remark`");
}

#[tokio::test]
async fn a_file_is_looked_at_when_its_rows_arrive_again() {
    let mut world = World::new(YEARS);
    world.store(&[candle("a", "2025-01-01T00:00:00Z", 1.0), candle("a", "2026-01-01T00:00:00Z", 1.0)]).await.unwrap();
    world.disk.delete("data/a_2025.csv");
    // Archived away: nobody minds until its rows come.
    world.store(&[candle("a", "2026-01-01T01:00:00Z", 1.0)]).await.unwrap();
    let mut sink = world.start().await.unwrap();
    sink.look(&batch(&[candle("a", "2026-01-01T00:00:00Z", 1.0)])).await.unwrap();
    let error = sink.look(&batch(&[candle("a", "2025-01-01T00:00:00Z", 1.0)])).await.unwrap_err();
    assert_eq!((error.act, error.message.as_str()), (Act::Split, "data/a_2025.csv is gone: 40 bytes were committed"));
}

#[tokio::test]
async fn files_that_were_edited_are_adopted() {
    let mut world = World::new("path = \"data/{coin}_{at:%Y}.csv\"");
    world.store(&[candle("a", "2026-01-01T00:00:00Z", 1.0)]).await.unwrap();
    let header = "coin,at,close,trades,final_,note\n";
    // Another hand writes the same values in other ways.
    world.disk.put("data/a_2026.csv", &format!("{header}\"a\",2026-01-01T01:00:00+01:00,1,,,\r\n\na,2026-01-01T01:00:00.000Z,2e0,,,\n"));
    world.disk.put("data/b_2026.csv", &format!("{header}b,2026-01-01T00:00:00Z,5.0,,,\n"));
    world.disk.put("data/readme.txt", "not ours");
    world.disk.put("data/sub/c_2026.csv", "not ours");
    assert!(world.store(&[candle("a", "2026-01-01T02:00:00Z", 1.0)]).await.is_err());
    let before = world.files();
    let state = world.planned().0.adopt(&world.context()).await.unwrap();
    assert_eq!(world.files(), before);
    assert_eq!(state.0.keys().collect::<Vec<_>>(), ["data/a_2026.csv", "data/b_2026.csv"]);
    world.records.apply(&state);
    let back: Vec<_> = world.read(&Filter::default()).await.unwrap();
    let rows = [candle("a", "2026-01-01T00:00:00Z", 1.0), candle("a", "2026-01-01T01:00:00Z", 2.0), candle("b", "2026-01-01T00:00:00Z", 5.0)];
    assert_eq!(back, [batch(&rows)]);
    world
        .run(&[(Op::Replace, batch(&[candle("a", "2026-01-01T00:00:00Z", 9.0)])), (Op::Append, batch(&[candle("b", "2026-01-01T01:00:00Z", 6.0)]))])
        .await
        .unwrap();
    assert_eq!(world.files()["data/a_2026.csv"], format!("{header}a,2026-01-01T00:00:00Z,9.0,,,\n\na,2026-01-01T01:00:00.000Z,2e0,,,\n"));
    assert_eq!(world.files()["data/b_2026.csv"], format!("{header}b,2026-01-01T00:00:00Z,5.0,,,\nb,2026-01-01T01:00:00Z,6.0,,,\n"));
}

#[tokio::test]
async fn a_run_that_goes_on_does_not_disturb_a_reader() {
    let mut world = World::new("path = \"x.csv\"\nheader = false");
    world.store(&[candle("a", "2026-01-01T00:00:00Z", 1.0)]).await.unwrap();
    let committed = world.files()["x.csv"].clone();
    for torn in ["b,2026-", "b,2026-01-01T00:00:00Z,1.0,,,\"op", "b,2026-01-01T00:00:00Z,1.0,,,"] {
        world.disk.put("x.csv", &format!("{committed}{torn}"));
        assert_eq!(world.read(&Filter::default()).await.unwrap(), [batch(&[candle("a", "2026-01-01T00:00:00Z", 1.0)])]);
    }
    // Without a record to tell otherwise, a last line without a line break is a row.
    let fresh = World::new("path = \"x.csv\"\nheader = false");
    fresh.disk.put("x.csv", committed.trim_end());
    assert_eq!(fresh.read(&Filter::default()).await.unwrap()[0].num_rows(), 1);
}

#[tokio::test]
async fn a_probe_leaves_nothing_behind() {
    let world = World::new("path = \"data/raw/{coin}.csv\"");
    let sink = world.planned().0;
    sink.probe(&world.context()).await.unwrap();
    assert!(world.disk.files().is_empty());
    world.disk.put("data/raw", "a file");
    assert!(sink.probe(&world.context()).await.unwrap_err().message.starts_with("cannot use the folder data/raw: "));
}

fn workload() -> Vec<Vec<(Op, Vec<Candle>)>> {
    use Op::{Append, Replace};
    let a = |hour: u32, close| candle("a", &format!("2026-01-01T{hour:02}:00:00Z"), close);
    vec![
        vec![(Append, vec![a(0, 0.0), a(1, 1.0), candle("b", "2026-01-01T00:00:00Z", 1.0)])],
        vec![(Append, vec![a(2, 2.0)]), (Replace, vec![noted(a(1, 10.0), "longer than\nbefore")])],
        vec![(Replace, vec![a(1, 11.0)]), (Append, vec![a(3, 3.0), candle("c", "2027-01-01T00:00:00Z", 1.0)]), (Replace, vec![a(3, 30.0)])],
        vec![(Append, vec![a(4, 4.0), candle("b", "2026-01-01T01:00:00Z", 2.0)])],
    ]
}

/// One process; `patient` tries again what failed.
async fn process(world: &mut World, patient: bool) -> Result<(), StageError> {
    let tries = if patient { 3 } else { 1 };
    let mut started = Err(StageError::developer(""));
    for _ in 0..tries {
        started = world.start().await;
        if started.is_ok() {
            break;
        }
    }
    let mut sink = started?;
    let done = usize::try_from(world.last.as_ref().map_or(0, |(epoch, _)| *epoch)).unwrap();
    for (at, writes) in workload().into_iter().enumerate().skip(done) {
        let writes: Vec<_> = writes.iter().map(|(op, rows)| (*op, batch(rows))).collect();
        let mut result = Ok(());
        for _ in 0..tries {
            result = if world.last.as_ref().map_or(0, |(epoch, _)| *epoch) == at as u64 + 1 {
                let (epoch, state) = world.last.clone().unwrap();
                sink.commit(epoch, &state).await
            } else {
                let result = world.epoch(&mut *sink, &writes).await;
                if result.is_err() && world.last.as_ref().map_or(0, |(epoch, _)| *epoch) == at as u64 {
                    let _ = sink.abort().await;
                }
                result
            };
            if result.is_ok() {
                break;
            }
        }
        result?;
    }
    world.open = false;
    Ok(())
}

async fn undisturbed() -> (usize, BTreeMap<String, String>) {
    let mut world = World::new(YEARS);
    world.disk.fail(Fail::Never);
    process(&mut world, false).await.unwrap();
    (world.disk.ops(), world.files())
}

#[tokio::test]
async fn a_crash_at_every_operation() {
    let (ops, expected) = undisturbed().await;
    assert!(ops > 100 && expected["data/a_2026.csv"].contains("T03:00:00Z,30.0"), "{ops} {expected:?}");
    for k in 0..ops {
        for survives in Survives::variants().skip(k % 4).step_by(4) {
            let mut world = World::new(YEARS);
            world.disk.fail(Fail::From(k, Fault::Crash));
            process(&mut world, false).await.unwrap_err();
            world.disk = world.disk.crash(survives);
            process(&mut world, false).await.unwrap_or_else(|error| panic!("crash at {k}, {survives:?}: {error}"));
            assert_eq!(world.files(), expected, "crash at {k}, {survives:?}");
        }
    }
}

#[tokio::test]
async fn a_fault_at_every_operation() {
    let (ops, expected) = undisturbed().await;
    for k in 0..ops {
        let mut world = World::new(YEARS);
        world.disk.fail(Fail::Once(k, Fault::Full));
        process(&mut world, true).await.unwrap_or_else(|error| panic!("fault at {k}: {error}"));
        assert_eq!(world.files(), expected, "fault at {k}");
        let cut: SimDisk = world.disk.crash(Survives::SYNCED);
        world.disk = cut;
        assert_eq!(world.files(), expected, "power cut after fault at {k}");
    }
}

/// The files after batches of many rows for several files, a row that is replaced in the same epoch, and a batch with a row that cannot be written.
async fn many_rows() -> BTreeMap<String, String> {
    let mut world = World::new(YEARS);
    let mut sink = world.start().await.unwrap();
    for part in 0..6 {
        let row = |n: i64| {
            let at = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(part * 1000 + n / 3);
            Candle { at, ..candle(["a", "b", "c"][usize::try_from(n % 3).unwrap()], "2026-01-01T00:00:00Z", n as f64) }
        };
        sink.write(&batch(&(0..3000).map(row).collect::<Vec<_>>()), Op::Append).await.unwrap();
        if part == 3 {
            sink.write(&batch(&[noted(row(2999), "new")]), Op::Replace).await.unwrap();
        }
    }
    let far = Candle {
        at: chrono::DateTime::from_timestamp_micros(i64::MAX / 2).unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC),
        ..candle("a", "2026-01-01T00:00:00Z", 1.0)
    };
    sink.write(&batch(&vec![far; 300]), Op::Append).await.unwrap();
    let state = sink.prepare(1).await.unwrap();
    world.decide(&mut *sink, state).await.unwrap();
    sink.write(
        &batch(&(0..400).map(|h| candle("d", &format!("2026-01-{:02}T{:02}:00:00Z", 1 + h / 24, h % 24), 1.0)).collect::<Vec<_>>()),
        Op::Append,
    )
    .await
    .unwrap();
    sink.abort().await.unwrap();
    let state = sink.prepare(2).await.unwrap();
    assert!(state.0.is_empty(), "what was being made is forgotten");
    world.files()
}

#[test]
fn lines_that_are_made_on_other_threads_are_the_same_in_the_same_order() {
    let one = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(many_rows());
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    assert_eq!(one.values().map(|text| text.lines().count()).sum::<usize>(), 18_300 + one.len());
    let of_b: Vec<&str> = one["data/b_1970.csv"].lines().skip(1).collect();
    assert!(of_b.len() == 6000 && of_b.is_sorted(), "in the order in which they came, which is that of time");
    assert_eq!(many.block_on(many_rows()), one);
}
