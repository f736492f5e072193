//! Epochs that are committed while rows of the next one come.

use std::collections::BTreeSet;
use std::time::Duration;

use pipeline_contract::{Category, StageError};
use proptest::prelude::*;

use super::world::{Step, World};
use crate::stages::dedupe::OnConflict;
use crate::state::{CommitFault, RunStatus, SplitStatus, Store};

const SPLITS: [&str; 3] = ["a", "b", "c"];

/// Three splits of so many steps with two rows each; three rows make an epoch full, and each takes a second to prepare.
fn world(steps: i64) -> World {
    let step = |n: i64| Step::Rows(vec![2 * n, 2 * n + 1]);
    let mut world = World::new(SPLITS.map(|id| (id, (0..steps).map(step).collect())).to_vec());
    (world.settings.epoch_rows, world.settings.most_epoch_rows) = (3, 3);
    world.settings.epoch_interval = Duration::from_secs(1000);
    world.shelf.lock().unwrap().prepare_takes = Duration::from_secs(1);
    world
}

fn all(steps: i64) -> Vec<String> {
    let rows = SPLITS.iter().flat_map(|split| (0..2 * steps).map(move |minute| format!("{split} 00:{minute:02} {minute}.0")));
    rows.collect()
}

fn full() -> StageError {
    StageError::operator(Category::Storage, "the disk is full")
}

async fn later() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Runs again until all is well: then everything is there, once.
async fn heals(world: &World, expected: &[String]) {
    for _ in 0..3 {
        later().await;
        if world.run().await.status == RunStatus::Ok {
            break;
        }
    }
    let mut stored = world.stored();
    stored.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(stored, expected);
}

#[tokio::test(start_paused = true)]
async fn rows_are_stored_in_order_by_full_epochs() {
    let world = world(4);
    let record = world.run().await;
    assert_eq!((record.status, record.rows.written), (RunStatus::Ok, 24));
    assert_eq!(world.stored(), all(4));
    assert_eq!(world.store.last_epoch().unwrap().unwrap().0, 7, "of four rows each, and one in which the last split ends");
    assert!(record.splits.iter().all(|split| split.rows.written == 8 && split.position.is_none()));
}

#[tokio::test(start_paused = true)]
async fn the_next_epoch_goes_through_dedupe_meanwhile() {
    let world = world(4);
    let began = tokio::time::Instant::now();
    world.run().await;
    assert_eq!(began.elapsed(), Duration::from_secs(7), "reading takes no time, and no epoch is prepared beside another");
    let mut slow = self::world(1);
    slow.shelf.lock().unwrap().prepare_takes = Duration::from_secs(10);
    let wait = |minutes: Vec<i64>| vec![Step::Wait(Duration::from_secs(5)), Step::Rows(minutes)];
    slow.script.splits = vec![("a", vec![Step::Rows(vec![1, 2, 3])]), ("b", wait(vec![1])), ("c", wait(vec![1]))];
    slow.settings.concurrency = 1;
    let began = tokio::time::Instant::now();
    assert_eq!(slow.run().await.rows.written, 5);
    assert_eq!(began.elapsed(), Duration::from_secs(20), "ten seconds of reading beside the ten of the first epoch, and the last one");
}

#[tokio::test(start_paused = true)]
async fn sinks_are_given_rows_as_soon_as_they_are_back() {
    let mut world = world(1);
    let wait = || Step::Wait(Duration::from_secs(5));
    let rows = |minutes: &[i64]| Step::Rows(minutes.to_vec());
    world.script.splits = vec![("a", vec![rows(&[1, 2, 3]), rows(&[1]), wait(), rows(&[2]), wait(), rows(&[4])])];
    let shelf = world.shelf.clone();
    let looked_at = async |second| {
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_secs(second)).await;
        shelf.lock().unwrap().looked
    };
    let (record, before, after) = tokio::join!(world.run(), looked_at(4), looked_at(7));
    assert_eq!((before, after), (0, 2), "the first one came while the epoch was being prepared, for a second; the second one after that");
    assert_eq!((record.rows.written, record.rows.duplicates), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn sinks_begin_with_rows_while_they_are_away() {
    let mut world = world(4);
    world.shelf.lock().unwrap().begins = true;
    world.on_conflict = OnConflict::KeepLast;
    // Some rows are there already, and one of them changed.
    let more = [Step::Other(vec![8, 6]), Step::Rows(vec![9, 7]), Step::Rows(vec![10, 9, 11, 12])];
    world.script.splits[1].1.extend(more);
    let record = world.run().await;
    let mut expected = all(4);
    expected.splice(16..16, ["b 00:08 8.5", "replace b 00:06 6.5", "b 00:09 9.0", "b 00:10 10.0", "b 00:11 11.0", "b 00:12 12.0"].map(str::to_owned));
    assert_eq!((record.status, world.stored()), (RunStatus::Ok, expected), "in order, however they came");
    assert!((10..30).contains(&world.shelf.lock().unwrap().begun), "not with those that come while it is there, nor with those that are not new");
}

#[tokio::test(start_paused = true)]
async fn what_is_being_stored_is_known() {
    let mut world = world(1);
    let rows = vec![Step::Rows(vec![1, 2, 3]), Step::Rows(vec![3, 2, 4]), Step::Other(vec![4, 1, 5]), Step::Rows(vec![6, 5, 4])];
    world.script.splits = vec![("a", rows)];
    let record = world.run().await;
    assert_eq!((record.rows.written, record.rows.duplicates, record.rows.conflicts), (6, 3, 3));
    assert_eq!(world.stored(), ["1 1.0", "2 2.0", "3 3.0", "4 4.0", "5 5.5", "6 6.0"].map(|row| format!("a 00:0{row}")));

    world.on_conflict = OnConflict::KeepLast;
    world.script.splits = vec![("b", vec![Step::Rows(vec![1, 2, 3]), Step::Other(vec![3, 4]), Step::Rows(vec![4, 3])])];
    later().await;
    world.run().await;
    let expected = ["b 00:01 1.0", "b 00:02 2.0", "b 00:03 3.0", "b 00:04 4.5", "replace b 00:03 3.5", "replace b 00:04 4.0", "replace b 00:03 3.0"];
    assert_eq!(world.stored()[6..], expected[..]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_takes_nothing_back_that_was_stored() {
    for at in 0..6 {
        let world = world(4);
        // Each epoch is tried beside the rows first, and once more by itself.
        world.shelf.lock().unwrap().prepare_takes = Duration::from_secs(1);
        world.shelf.lock().unwrap().prepares_before_fault = Some((at, 1000, full()));
        let record = world.run().await;
        let status = if at == 0 { RunStatus::Failed } else { RunStatus::Partial };
        assert!(record.status == status || record.status == RunStatus::Failed, "{at}: {record:?}");
        assert_eq!(world.stored(), all(4)[..4 * at as usize], "{at}");
        assert_eq!(record.rows.written, 4 * u64::from(at));
        world.shelf.lock().unwrap().prepares_before_fault = None;
        heals(&world, &all(4)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_prepare_that_failed_once_is_made_up_for() {
    for at in 0..6 {
        let world = world(4);
        world.shelf.lock().unwrap().prepares_before_fault = Some((at, 1, StageError::transient(Category::Storage, "the database is away")));
        let record = world.run().await;
        assert_eq!((record.status, record.rows.written), (RunStatus::Ok, 24), "{at}");
        assert_eq!(world.stored(), all(4), "{at}: in order, whatever was tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_epoch_of_which_nobody_knows_whether_it_is_saved() {
    for fault in [CommitFault::Before, CommitFault::After] {
        for runs_before in [0, 1] {
            let world = world(4);
            if runs_before > 0 {
                world.run().await;
            }
            later().await;
            world.store.fail_next_commit(fault);
            let record = world.run().await;
            let expected = if fault == CommitFault::After || runs_before > 0 { RunStatus::Ok } else { RunStatus::Failed };
            assert!(record.status == expected || runs_before > 0, "{record:?}");
            heals(&world, &all(4)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_the_sink_refuses_once_it_is_back_fail_their_split_alone() {
    for refused in ["a 00:05", "b", "b 00:07", "c 00:02"] {
        let world = world(4);
        world.shelf.lock().unwrap().refuses = Some(refused.to_owned());
        let record = world.run().await;
        assert_eq!(record.status, RunStatus::Partial, "{refused}");
        let failed: Vec<_> = record.splits.iter().filter(|split| split.status == SplitStatus::Failed).map(|split| split.split.id.as_str()).collect();
        assert_eq!(failed, [&refused[..1]], "{refused}");
        let of_others = |rows: Vec<String>| rows.into_iter().filter(|row| !row.starts_with(&refused[..1])).collect::<Vec<_>>();
        assert_eq!(of_others(world.stored()), of_others(all(4)), "{refused}");
        assert_eq!(record.rows.written, world.stored().len() as u64);
        world.shelf.lock().unwrap().refuses = None;
        heals(&world, &all(4)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_split_that_fails_meanwhile_keeps_what_was_stored_of_it() {
    let mut world = world(4);
    world.script.splits[1].1.insert(3, Step::Always(StageError::split(Category::ServerError, "broken")));
    let record = world.run().await;
    assert_eq!(record.splits[1].status, SplitStatus::Failed);
    let stored = world.stored();
    assert_eq!(record.splits[1].rows.written, stored.iter().filter(|row| row.starts_with('b')).count() as u64);
    assert!(stored.iter().filter(|row| !row.starts_with('b')).eq(all(4).iter().filter(|row| !row.starts_with('b'))));
    world.script.splits[1].1.remove(3);
    heals(&world, &all(4)).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_cannot_be_finished_is_by_the_next_run() {
    let world = world(4);
    world.shelf.lock().unwrap().commit_fails = 5;
    let record = world.run().await;
    assert_ne!(record.status, RunStatus::Ok);
    assert_eq!(record.rows.written, 4, "it counts");
    heals(&world, &all(4)).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_drops_the_open_epoch_and_not_the_one_before() {
    let mut world = world(2);
    world.script.splits[2].1 = vec![Step::Rows(vec![0, 1]), Step::Bad(3), Step::Rows(vec![2, 3])];
    world.settings.abort = Some(crate::stages::validate::Limit::Rows(2));
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Failed);
    assert_eq!(world.stored(), all(2)[..8]);
    assert_eq!(record.rows.written, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_are_many_do_the_same() {
    for fault in [None, Some(CommitFault::Before), Some(CommitFault::After)] {
        let minutes = |from: i64| Step::Rows((from..from + 1000).collect());
        let mut world = World::new(SPLITS.map(|id| (id, (0..20).map(|n| minutes(n * 1000)).collect())).to_vec());
        (world.settings.epoch_rows, world.settings.most_epoch_rows) = (3000, 3000);
        if let Some(fault) = fault {
            world.store.fail_next_commit(fault);
            world.run().await;
        }
        let record = world.run().await;
        assert_eq!((record.status, record.rows.written + record.rows.duplicates), (RunStatus::Ok, 60_000), "{fault:?}");
        let stored = world.stored();
        assert_eq!((stored.len(), stored.iter().map(|row| row[..1].to_owned()).collect::<BTreeSet<_>>().len()), (60_000, 3));
        drop(world);
    }
}

#[test]
fn a_run_that_is_given_up_waits_for_its_epoch_where_nobody_needs_the_thread() {
    // The epoch waits for time, of which the runtime's only worker tells it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (given_up, is_over) = std::sync::mpsc::channel::<()>();
    let shelf = runtime.block_on(async {
        let mut world = world(1);
        world.script.splits = vec![("a", vec![Step::Rows(vec![1, 2, 3]), Step::Wait(Duration::from_secs(1000))])];
        let shelf = world.shelf.clone();
        let run = tokio::spawn(async move {
            let _given_up = given_up;
            world.run().await;
        });
        while shelf.lock().unwrap().preparing == 0 {
            tokio::task::yield_now().await;
        }
        run.abort();
        shelf
    });
    assert_eq!(is_over.recv_timeout(Duration::from_secs(30)), Err(std::sync::mpsc::RecvTimeoutError::Disconnected), "it is over");
    assert_eq!(shelf.lock().unwrap().committed.len(), 3, "the epoch was at the disk, and is stored");
    runtime.shutdown_background();
}

#[derive(Clone, Debug)]
enum Fault {
    Prepare(u32, u32, bool),
    Commit(u32),
    State(bool),
    Refuses(usize, i64),
    Jams(usize),
    Read(usize, usize, bool),
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0..6_u32, 1..4_u32, any::<bool>()).prop_map(|(after, times, transient)| Fault::Prepare(after, times, transient)),
        (1..8_u32).prop_map(Fault::Commit),
        any::<bool>().prop_map(Fault::State),
        (0..3_usize, 0..10_i64).prop_map(|(split, minute)| Fault::Refuses(split, minute)),
        (0..3_usize).prop_map(Fault::Jams),
        (0..3_usize, 0..5_usize, any::<bool>()).prop_map(|(split, step, once)| Fault::Read(split, step, once)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    // Whatever happens, everything is stored once in the end, each split's rows in their order.
    #[test]
    fn nothing_is_lost_or_doubled_beside(
        faults in prop::collection::vec(any_fault(), 0..3),
        rows in 1..9_u64,
        takes in 0..4_u64,
        resumable in any::<bool>(),
        begins in any::<bool>(),
        waits in prop::collection::vec(0..3_u64, 15),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = world(5);
            (world.settings.epoch_rows, world.settings.most_epoch_rows) = (rows, rows);
            world.script.resumable = resumable;
            {
                let mut shelf = world.shelf.lock().unwrap();
                (shelf.prepare_takes, shelf.begins) = (Duration::from_secs(takes), begins);
            }
            let calm = world.script.splits.clone();
            for (split, waits) in world.script.splits.iter_mut().zip(waits.chunks(5)) {
                for (at, wait) in waits.iter().enumerate().rev() {
                    split.1.insert(at, Step::Wait(Duration::from_secs(*wait)));
                }
            }
            for fault in &faults {
                let mut shelf = world.shelf.lock().unwrap();
                match fault {
                    Fault::Prepare(after, times, transient) => {
                        let error = if *transient { StageError::transient(Category::Storage, "away") } else { full() };
                        shelf.prepares_before_fault = Some((*after, *times, error));
                    }
                    Fault::Commit(times) => shelf.commit_fails = *times,
                    Fault::State(before) => world.store.fail_next_commit(if *before { CommitFault::Before } else { CommitFault::After }),
                    Fault::Refuses(split, minute) => shelf.refuses = Some(format!("{} 00:{minute:02}", SPLITS[*split])),
                    Fault::Jams(split) => shelf.jams = Some(SPLITS[*split].to_owned()),
                    Fault::Read(split, step, once) => {
                        let error = StageError::transient(Category::Network, "gone");
                        world.script.splits[*split].1.insert(*step, if *once { Step::Once(error) } else { Step::Always(error) });
                    }
                }
            }
            let record = world.run().await;
            let stored = world.stored();
            // What is prepared and could not be made visible yet counts, too.
            let waiting: usize = world.shelf.lock().unwrap().prepared.values().map(Vec::len).sum();
            assert!(record.rows.written >= stored.len() as u64 && record.rows.written <= (stored.len() + waiting) as u64, "{record:?} {stored:?}");
            {
                let mut shelf = world.shelf.lock().unwrap();
                (shelf.prepares_before_fault, shelf.commit_fails, shelf.refuses, shelf.jams) = (None, 0, None, None);
            }
            world.script.splits = calm;
            heals(&world, &all(5)).await;
            for split in SPLITS {
                let of_it = |rows: &[String]| rows.iter().filter(|row| row.starts_with(split)).cloned().collect::<Vec<_>>();
                assert_eq!(of_it(&world.stored()), of_it(&all(5)), "{faults:?}");
            }
        });
    }
}
