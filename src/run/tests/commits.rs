//! The order of a commit, and what its failures leave.

use std::time::Duration;

use pipeline_contract::{Category, StageError};
use tokio_util::sync::CancellationToken;

use super::world::{Step, World};
use crate::stages::dedupe::OnConflict;
use crate::state::{CommitFault, RunStatus, SplitStatus, Store};

fn full() -> StageError {
    StageError::operator(Category::Storage, "the disk is full")
}

async fn later() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_split_is_committed_by_prefixes_and_goes_on_after_the_last_one() {
    let steps =
        vec![Step::Rows(vec![1, 2]), Step::Rows(vec![3, 4]), Step::Always(StageError::split(Category::ServerError, "broken")), Step::Rows(vec![5])];
    let mut world = World::new(vec![("a", steps)]);
    (world.settings.epoch_rows, world.settings.most_epoch_rows) = (2, 2);
    let record = world.run().await;
    assert_eq!(record.splits[0].status, SplitStatus::Failed);
    assert_eq!(world.stored(), ["a 00:01 1.0", "a 00:02 2.0", "a 00:03 3.0", "a 00:04 4.0"]);
    assert_eq!(world.store.last_epoch().unwrap().unwrap().0, 2);
    assert_eq!(record.splits[0].rows.written, 4);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_waits_for_more_where_each_row_is_one_of_a_table() {
    let epochs = |world: World| async move {
        world.run().await;
        world.store.last_epoch().unwrap().unwrap().0
    };
    let scattered = || World::new(["a", "b", "c", "d", "e", "f"].map(|id| (id, vec![Step::Rows(vec![1])])).to_vec());
    for (most, expected) in [(2, 3), (4, 2), (1000, 1)] {
        let mut world = scattered();
        world.keys = ["series", "value"];
        (world.settings.epoch_rows, world.settings.most_epoch_rows) = (2, most);
        assert_eq!(epochs(world).await, expected, "{most}");
    }
    let mut chunks = scattered();
    (chunks.settings.epoch_rows, chunks.settings.most_epoch_rows) = (2, 1000);
    assert_eq!(epochs(chunks).await, 3, "what is in chunks goes into the log");
}

/// How many parts the log of keys has.
fn key_parts(world: &World) -> u32 {
    let mut parts = 0;
    let mut count = |_: &[u8]| {
        parts += 1;
        Ok(())
    };
    world.store.each_key_part(&mut count).unwrap();
    parts
}

#[tokio::test(start_paused = true)]
async fn what_is_logged_of_keys_is_in_its_place_when_the_run_is_over() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let mut world = World::new(names.map(|id| (id, vec![Step::Rows(vec![1])])).to_vec());
    (world.settings.epoch_rows, world.settings.most_epoch_rows) = (5, 5);
    world.run().await;
    assert_eq!((key_parts(&world), world.store.dedupe_size().unwrap()), (0, (10, 0)));
    // Whoever looks for gaps is told of them, though no epoch changed any.
    assert_eq!(world.changed.lock().unwrap().len(), 10);
    later().await;
    assert_eq!(world.run().await.rows.duplicates, 10);
}

#[tokio::test(start_paused = true)]
async fn what_is_logged_of_keys_is_put_in_its_place_meanwhile_where_it_is_too_much() {
    // One row for each chunk, but for those that tell how wide a chunk is.
    let scattered = |n: i64| Step::Rows((n * 20..(n + 1) * 20).map(|row| row * 1000).collect());
    let steps = [Step::Rows((0..20).collect())].into_iter().chain((1..20).map(scattered)).chain([Step::Wait(Duration::from_secs(5)), scattered(20)]);
    let mut world = World::new(vec![("a", steps.collect())]);
    (world.settings.epoch_rows, world.settings.most_epoch_rows) = (20, 20);
    let look = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        (world.store.last_epoch().unwrap().unwrap().0, key_parts(&world), world.store.dedupe_size().unwrap().0)
    };
    let (record, (epochs, parts, chunks)) = tokio::join!(world.run(), look);
    assert!((1..5).contains(&parts) && epochs >= 18 && chunks > 200, "{epochs} epochs, {parts} parts, {chunks} chunks");
    assert_eq!((record.rows.written, key_parts(&world), world.store.dedupe_size().unwrap().0), (420, 0, 401));
    later().await;
    assert_eq!(world.run().await.rows.duplicates, 420);
}

#[tokio::test(start_paused = true)]
async fn rows_that_take_much_memory_fill_an_epoch_though_they_are_few() {
    let epochs = |bytes: usize, rejects: usize| async move {
        let steps = (0..5).flat_map(|n| [Step::Rows(vec![n]), Step::Bad(rejects)]).collect();
        let mut world = World::new(vec![("a", steps)]);
        world.settings.epoch_bytes = bytes;
        world.run().await;
        world.store.last_epoch().unwrap().unwrap().0
    };
    assert_eq!(epochs(usize::MAX, 1).await, 1);
    assert!((9..=11).contains(&epochs(1, 1).await), "each read is one");
    assert!((2..=5).contains(&epochs(60_000, 20).await), "rejects count");
    assert_eq!(epochs(60_000, 1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_written_anew_are_counted_once() {
    let gone = StageError::split(Category::ClientError, "no such coin");
    let mut world = World::new(vec![
        ("a", vec![Step::Rows(vec![1, 2, 3])]),
        ("b", vec![Step::Rows(vec![1]), Step::Always(gone)]),
        ("c", vec![Step::Rows(vec![1])]),
    ]);
    (world.settings.epoch_rows, world.settings.most_epoch_rows) = (5, 5);
    world.run().await;
    assert_eq!(world.store.last_epoch().unwrap().unwrap().0, 1, "four rows do not fill it");
}

#[tokio::test(start_paused = true)]
async fn rows_the_sink_refuses_fail_their_split_alone() {
    let world = World::new(vec![("a", vec![Step::Rows(vec![1])]), ("b", vec![Step::Rows(vec![1])]), ("c", vec![Step::Rows(vec![1])])]);
    world.shelf.lock().unwrap().refuses = Some("b".to_owned());
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Partial);
    assert_eq!(world.stored(), ["a 00:01 1.0", "c 00:01 1.0"]);
    assert_eq!(record.rows.written, 2);

    world.shelf.lock().unwrap().refuses = None;
    later().await;
    let healed = world.run().await;
    assert_eq!((healed.rows.written, healed.rows.duplicates), (1, 2), "the refused rows were not remembered as stored");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_fails_the_run_and_the_next_one_heals() {
    let world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    world.shelf.lock().unwrap().prepare_fails = Some((1, full()));
    let record = world.run().await;
    assert_eq!((record.status, record.error.unwrap().message.as_str()), (RunStatus::Failed, "the disk is full"));
    assert!(world.stored().is_empty());
    later().await;
    assert_eq!(world.run().await.rows.written, 1);
    assert_eq!(world.stored(), ["a 00:01 1.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_are_saved_beside_the_sinks_or_not_at_all() {
    let world = World::new(vec![("a", vec![Step::Rows((0..10_000).collect())])]);
    let nothing = || assert!(world.stored().is_empty() && world.store.last_epoch().unwrap().is_none());
    // Beside the rows that follow, and once more by itself.
    world.shelf.lock().unwrap().prepare_fails = Some((2, full()));
    let record = world.run().await;
    assert_eq!((record.status, record.error.unwrap().message.as_str()), (RunStatus::Failed, "the disk is full"));
    nothing();
    world.store.fail_next_commit(CommitFault::Before);
    assert_eq!(world.run().await.status, RunStatus::Failed);
    nothing();
    world.store.fail_next_commit(CommitFault::After);
    let record = world.run().await;
    assert_eq!((record.status, record.rows.written), (RunStatus::Ok, 10_000));
    assert_eq!(world.stored().len(), 10_000);
    assert_eq!(world.run().await.rows.duplicates, 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_prepare_that_time_heals_is_tried_once_more() {
    let world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    world.shelf.lock().unwrap().prepare_fails = Some((1, StageError::transient(Category::Storage, "the database is away")));
    assert_eq!(world.run().await.status, RunStatus::Ok);
    assert_eq!(world.stored(), ["a 00:01 1.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_did_not_commit_leaves_nothing() {
    let world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    world.store.fail_next_commit(CommitFault::Before);
    assert_eq!(world.run().await.status, RunStatus::Failed);
    assert!(world.stored().is_empty());
    later().await;
    assert_eq!(world.run().await.rows.written, 1);
    assert_eq!(world.stored(), ["a 00:01 1.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_committed_and_said_it_did_not_counts_as_committed() {
    let world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    world.store.fail_next_commit(CommitFault::After);
    assert_eq!(world.run().await.status, RunStatus::Ok);
    assert_eq!(world.stored(), ["a 00:01 1.0"]);
    later().await;
    assert_eq!(world.run().await.rows.duplicates, 1);
}

#[tokio::test(start_paused = true)]
async fn a_decided_commit_is_tried_until_it_succeeds() {
    let world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    world.shelf.lock().unwrap().commit_fails = 3;
    assert_eq!(world.run().await.status, RunStatus::Ok);
    assert_eq!(world.stored(), ["a 00:01 1.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_does_not_succeed_is_finished_by_the_next_run_before_it_writes() {
    let world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    world.shelf.lock().unwrap().commit_fails = 1000;
    let record = world.run().await;
    assert_eq!(record.rows.written, 1, "it is decided");
    assert_eq!((record.status, record.error.unwrap().message.as_str()), (RunStatus::Partial, "the shelf is stuck"), "nobody sees it yet");
    assert!(world.stored().is_empty());
    world.shelf.lock().unwrap().commit_fails = 0;
    later().await;
    assert_eq!(world.run().await.rows.duplicates, 1);
    assert_eq!(world.stored(), ["a 00:01 1.0"]);
    assert_eq!(world.shelf.lock().unwrap().recovered.last().unwrap().0, Some(1));
}

#[tokio::test(start_paused = true)]
async fn conflicts_follow_the_setting() {
    let steps = |step| vec![("a", vec![step])];
    for (on_conflict, expected) in [
        (OnConflict::KeepFirst, vec!["a 00:01 1.0"]),
        (OnConflict::KeepLast, vec!["a 00:01 1.0", "replace a 00:01 1.5"]),
        (OnConflict::Reject, vec!["a 00:01 1.0"]),
    ] {
        let mut world = World::new(steps(Step::Rows(vec![1])));
        world.on_conflict = on_conflict;
        world.run().await;
        later().await;
        world.script.splits = steps(Step::Other(vec![1]));
        let record = world.run().await;
        assert_eq!(record.rows.conflicts, 1, "{on_conflict:?}");
        assert_eq!(record.rows.rejected, u64::from(on_conflict == OnConflict::Reject));
        assert_eq!(world.stored(), expected, "{on_conflict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_run_with_a_stored_prefix_goes_on_after_it() {
    let hour = Duration::from_secs(3600);
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1, 2]), Step::Wait(hour / 4), Step::Rows(vec![3])])]);
    (world.settings.epoch_rows, world.settings.most_epoch_rows) = (2, 2);
    let mut engine = world.engine();
    let request = engine.now(None);
    // Killed: the future is dropped where it stands.
    let never = CancellationToken::new();
    let killed = tokio::time::timeout(Duration::from_secs(5), engine.run(&request, &never)).await;
    assert!(killed.is_err());
    drop(engine);
    assert_eq!(world.stored(), ["a 00:01 1.0", "a 00:02 2.0"]);

    let record = world.engine().resume(&CancellationToken::new(), false).await.unwrap().unwrap();
    assert_eq!(record.status, RunStatus::Ok);
    assert_eq!(*world.script.opened.lock().unwrap(), [("a".to_owned(), None), ("a".to_owned(), Some(1))]);
    assert_eq!(world.stored(), ["a 00:01 1.0", "a 00:02 2.0", "a 00:03 3.0"]);
    assert!(world.shelf.lock().unwrap().recovered.last().unwrap().1, "the sink is told that a run was open");
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_split_waits_for_the_rest_and_others_do_not_wait_for_it() {
    for gone in [None, Some(StageError::split(Category::ClientError, "no such coin"))] {
        let mut script = vec![Step::Rows(vec![1]), Step::Wait(Duration::from_secs(20)), Step::Rows(vec![2])];
        script.extend(gone.clone().map(Step::Always));
        let world = World::new(vec![("a", vec![Step::Rows(vec![1])]), ("b", script), ("c", vec![Step::Rows(vec![1])])]);
        let mut engine = world.engine();
        let (request, never) = (engine.now(None), CancellationToken::new());
        let run = engine.run(&request, &never);
        tokio::pin!(run);
        assert!(tokio::time::timeout(Duration::from_secs(15), &mut run).await.is_err());
        assert_eq!(world.stored(), ["a 00:01 1.0"], "after the 10 s of an epoch");
        let record = run.await;
        if gone.is_some() {
            assert_eq!((record.status, record.rows.written), (RunStatus::Partial, 2));
            assert_eq!(world.stored(), ["a 00:01 1.0", "c 00:01 1.0"]);
        } else {
            assert_eq!((record.status, record.rows.written, record.rows.duplicates), (RunStatus::Ok, 4, 0));
            assert_eq!(world.stored(), ["a 00:01 1.0", "b 00:01 1.0", "b 00:02 2.0", "c 00:01 1.0"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_split_is_dropped_at_the_deadline_and_gone_on_with_after_a_cancel() {
    let splits = || {
        let b = vec![Step::Rows(vec![1]), Step::Wait(Duration::from_secs(900)), Step::Rows(vec![2])];
        vec![("a", vec![Step::Rows(vec![1])]), ("b", b)]
    };
    let mut world = World::new(splits());
    world.settings.once_deadline = Duration::from_secs(60);
    let record = world.run().await;
    assert_eq!((record.status, world.stored()), (RunStatus::Partial, vec!["a 00:01 1.0".to_owned()]));

    let world = World::new(splits());
    let (mut engine, cancel) = (world.engine(), CancellationToken::new());
    let (request, stop) = (engine.now(None), cancel.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stop.cancel();
    });
    assert_eq!(engine.run(&request, &cancel).await.status, RunStatus::Interrupted);
    assert_eq!(world.stored(), ["a 00:01 1.0", "b 00:01 1.0"]);
    world.script.opened.lock().unwrap().clear();
    let resumed = world.engine().resume(&CancellationToken::new(), true).await.unwrap().unwrap();
    assert_eq!((resumed.status, resumed.rows.duplicates), (RunStatus::Ok, 0));
    assert_eq!(*world.script.opened.lock().unwrap(), [("b".to_owned(), Some(1))], "what is stored is not read again");
    assert_eq!(world.stored(), ["a 00:01 1.0", "b 00:01 1.0", "b 00:02 2.0"]);
}

#[tokio::test(start_paused = true)]
async fn rows_that_cannot_be_made_durable_fail_their_split_alone() {
    let world = World::new(["a", "b", "c"].map(|id| (id, vec![Step::Rows(vec![1])])).to_vec());
    world.shelf.lock().unwrap().jams = Some("b".to_owned());
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Partial);
    assert_eq!(record.splits[1].error.as_ref().unwrap().message, "b 00:01 1.0 is jammed");
    assert_eq!(world.stored(), ["a 00:01 1.0", "c 00:01 1.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_prefix_that_could_not_be_stored_is_not_followed_by_the_rest() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1, 2]), Step::Rows(vec![3])])]);
    (world.settings.epoch_rows, world.settings.most_epoch_rows) = (2, 2);
    // Beside the rows that follow, and once more by itself.
    world.shelf.lock().unwrap().prepare_fails = Some((2, StageError::split(Category::Storage, "this file is locked")));
    let record = world.run().await;
    assert_eq!(record.splits[0].status, SplitStatus::Failed);
    assert!(world.stored().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_split_that_was_stored_is_not_failed_by_its_neighbour() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1, 2])]), ("b", vec![Step::Rows(vec![1])])]);
    (world.settings.epoch_rows, world.settings.most_epoch_rows) = (2, 2);
    let mut engine = world.engine();
    let request = engine.now(None);
    let shelf = std::sync::Arc::clone(&world.shelf);
    world.shelf.lock().unwrap().prepare_fails = None;
    let fill = async move {
        while shelf.lock().unwrap().committed.is_empty() {
            tokio::task::yield_now().await;
        }
        shelf.lock().unwrap().prepare_fails = Some((1, full()));
    };
    let token = CancellationToken::new();
    let (record, ()) = tokio::join!(engine.run(&request, &token), fill);
    let statuses: Vec<_> = record.splits.iter().map(|split| split.status).collect();
    // The disk may have filled before or after the neighbour: but never is the first split blamed.
    assert_eq!(statuses[0], SplitStatus::Ok, "{record:?}");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_taken_back_is_taken_back_before_the_next_run() {
    let world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    let mut engine = world.engine();
    world.store.fail_next_commit(CommitFault::Before);
    world.shelf.lock().unwrap().abort_fails = 1;
    let token = CancellationToken::new();
    let request = engine.now(None);
    let record = engine.run(&request, &token).await;
    assert_eq!(record.status, RunStatus::Failed);
    assert_eq!(world.store.open_run().unwrap().unwrap().run_id, record.run_id, "it stays open: only that allows the next process to cut");
    later().await;
    let request = engine.now(None);
    let next = engine.run(&request, &token).await;
    assert_eq!((next.status, next.rows.written), (RunStatus::Ok, 1), "{:?}", next.error);
    assert_eq!(world.stored(), ["a 00:01 1.0"]);
    assert!(world.store.open_run().unwrap().is_none(), "both runs are closed");
    assert_eq!(world.store.runs(10).unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_decided_is_not_taken_back_when_a_sink_does_not_finish_it() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    let path = world.quarantine_file();
    world.on_conflict = OnConflict::Reject;
    world.run().await;
    later().await;
    world.script.splits = vec![("a", vec![Step::Other(vec![1])])];
    assert_eq!(world.run().await.rows.rejected, 1);

    later().await;
    world.on_conflict = OnConflict::KeepLast;
    let rejects = crate::run::QuarantineFile { path: &path, disk: &pipeline_contract::RealDisk }.read().unwrap();
    world.shelf.lock().unwrap().commit_fails = 1000;
    world.engine().replay(&rejects, &CancellationToken::new()).await.unwrap_err();
    world.shelf.lock().unwrap().commit_fails = 0;
    later().await;
    assert_eq!(world.run().await.rows.duplicates, 1, "the state holds it");
    assert_eq!(world.stored(), ["a 00:01 1.0", "replace a 00:01 1.5"]);
}

#[tokio::test(start_paused = true)]
async fn rows_that_break_a_rule_stay_out_also_when_they_are_passed_on_again() {
    let splits = ["a", "b", "c"].map(|name| (name, vec![Step::Rows(vec![5, 1, 9, 2, 1])]));
    let mut world = World::new(splits.into());
    world.most = Some(4);
    world.shelf.lock().unwrap().refuses = Some("b".to_owned());
    let record = world.run().await;
    assert_eq!(world.stored(), ["a 00:01 1.0", "a 00:02 2.0", "c 00:01 1.0", "c 00:02 2.0"]);
    let rows = record.rows;
    assert_eq!((rows.read, rows.rejected, rows.written, rows.duplicates), (10, 4, 4, 2));
    // What was left out is not known either.
    world.most = None;
    world.shelf.lock().unwrap().refuses = None;
    later().await;
    assert_eq!(world.run().await.rows.written, 8);
}
