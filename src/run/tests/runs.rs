//! Splits: order, failures, retries, limits, deadlines.

use std::time::Duration;

use pipeline_contract::{Category, StageError};

use super::world::{Step, World};
use crate::run::{QuarantineFile, RunRequest, StoredReject};
use crate::stages::dedupe::OnConflict;
use crate::stages::validate::{Limit, OnReject};
use crate::state::{RunStatus, SplitStatus, Store};
use tokio_util::sync::CancellationToken;

fn transient() -> StageError {
    StageError::transient(Category::Network, "the line is dead")
}

#[tokio::test(start_paused = true)]
async fn rows_are_stored_in_split_order_whatever_finishes_first() {
    let wait = |seconds| Step::Wait(Duration::from_secs(seconds));
    let mut world = World::new(vec![
        ("a", vec![wait(9), Step::Rows(vec![1, 2])]),
        ("b", vec![wait(1), Step::Rows(vec![1])]),
        ("c", vec![Step::Rows(vec![1]), wait(5), Step::Rows(vec![2])]),
    ]);
    let expected = ["a 00:01 1.0", "a 00:02 2.0", "b 00:01 1.0", "c 00:01 1.0", "c 00:02 2.0"];
    assert_eq!(world.run().await.status, RunStatus::Ok);
    assert_eq!(world.stored(), expected);

    let mut one = World::new(std::mem::take(&mut world.script.splits));
    one.settings.concurrency = 1;
    one.run().await;
    assert_eq!(one.stored(), expected, "the same at any concurrency");
}

#[tokio::test(start_paused = true)]
async fn a_second_run_finds_only_duplicates_and_looks_where_they_are() {
    let world = World::new(vec![("a", vec![Step::Rows(vec![1, 2, 3])])]);
    world.run().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let again = world.run().await;
    assert_eq!((again.rows.read, again.rows.written, again.rows.duplicates), (3, 0, 3));
    assert_eq!(world.stored().len(), 3);
    assert_eq!(world.shelf.lock().unwrap().looked, 3);
}

#[tokio::test(start_paused = true)]
async fn a_split_that_fails_does_not_stop_the_others_and_leaves_no_trace() {
    let gone = StageError::split(Category::ClientError, "no such coin");
    let world =
        World::new(vec![("a", vec![Step::Rows(vec![1])]), ("b", vec![Step::Rows(vec![1]), Step::Always(gone)]), ("c", vec![Step::Rows(vec![1])])]);
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Partial);
    let statuses: Vec<_> = record.splits.iter().map(|split| split.status).collect();
    assert_eq!(statuses, [SplitStatus::Ok, SplitStatus::Failed, SplitStatus::Ok]);
    assert_eq!(record.splits[1].error.as_ref().unwrap().message, "no such coin");
    assert_eq!(record.splits[1].attempts, 1, "what time does not heal is not retried");
    assert_eq!(world.stored(), ["a 00:01 1.0", "c 00:01 1.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_transient_error_is_retried_once_after_the_last_row_that_came() {
    let world = World::new(vec![("a", vec![Step::Rows(vec![1]), Step::Once(transient()), Step::Rows(vec![2])])]);
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Ok);
    assert_eq!(record.splits[0].attempts, 2);
    assert_eq!(*world.script.opened.lock().unwrap(), [("a".to_owned(), None), ("a".to_owned(), Some(1))]);
    assert_eq!(world.stored(), ["a 00:01 1.0", "a 00:02 2.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_resume_starts_its_split_again_and_nothing_is_doubled() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1]), Step::Once(transient()), Step::Rows(vec![2])])]);
    world.script.resumable = false;
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Ok);
    assert_eq!((record.rows.read, record.rows.duplicates), (2, 0));
    assert_eq!(world.stored(), ["a 00:01 1.0", "a 00:02 2.0"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_stays_fails_the_split_after_two_attempts() {
    let world = World::new(vec![("a", vec![Step::Always(transient())])]);
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Failed);
    assert_eq!(record.splits[0].attempts, 2);
    assert_eq!(record.error.unwrap().message, "the line is dead");
}

#[tokio::test(start_paused = true)]
async fn an_error_for_the_operator_fails_its_split_and_three_in_a_row_end_the_run() {
    let refused = || Step::Always(StageError::operator(Category::ClientError, "the key is wrong"));
    let good = || vec![Step::Rows(vec![1])];
    let world = World::new(vec![("a", good()), ("b", vec![refused()]), ("c", good())]);
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Partial);
    assert_eq!(world.stored(), ["a 00:01 1.0", "c 00:01 1.0"], "one that fails does not stop the others");

    let mut splits = vec![("a", good())];
    splits.extend(["b", "c", "d"].map(|id| (id, vec![refused()])));
    splits.push(("e", vec![Step::Wait(Duration::from_secs(1)), Step::Rows(vec![1])]));
    let world = World::new(splits);
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Partial);
    assert_eq!(record.error.unwrap().message, "the key is wrong");
    assert_eq!(record.splits[4].error.as_ref().unwrap().message, "not done: the key is wrong", "what was not tried says why");
    assert_eq!(world.stored(), ["a 00:01 1.0"], "what came before is stored");
}

#[tokio::test(start_paused = true)]
async fn on_reject_fail_sees_conflicts_too() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    world.on_conflict = OnConflict::Reject;
    world.run().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.script.splits = vec![("a", vec![Step::Other(vec![1]), Step::Rows(vec![2])])];
    world.settings.on_reject = OnReject::Fail;
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Failed);
    assert!(record.splits[0].error.as_ref().unwrap().message.contains("conflict"));
    assert_eq!(world.stored(), ["a 00:01 1.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_replayed_conflict_stays_a_reject() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    world.on_conflict = OnConflict::Reject;
    let path = world.quarantine_file();
    world.run().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.script.splits = vec![("a", vec![Step::Other(vec![1])])];
    world.run().await;
    let rejects = crate::run::QuarantineFile { path: &path, disk: &pipeline_contract::RealDisk }.read().unwrap();
    assert_eq!(rejects.len(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = world.engine().replay(&rejects, &CancellationToken::new()).await.unwrap();
    assert_eq!((report.accepted, report.still_rejected.len()), (0, 1));
    let state = crate::state::Store::rejects(&world.store, &[rejects[0].hash()]).unwrap();
    assert_eq!(state, [Some(false)], "it is not settled");
}

#[tokio::test(start_paused = true)]
async fn the_list_of_splits_failing_fails_the_run() {
    let mut world = World::new(vec![]);
    world.script.listing = Some(transient());
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Failed);
    assert_eq!(record.error.unwrap().category, Category::Network);
    assert!(record.splits.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_split_that_hangs_fails_at_the_deadline_and_the_others_are_stored() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1])]), ("b", vec![Step::Wait(Duration::from_secs(1_000_000)), Step::Rows(vec![1])])]);
    world.settings.once_deadline = Duration::from_secs(60);
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Partial);
    assert!(record.splits[1].error.as_ref().unwrap().message.contains("deadline"));
    assert_eq!(world.stored(), ["a 00:01 1.0"]);
    assert!((record.ended_at.unwrap() - record.started_at).num_seconds() < 120);
}

#[tokio::test(start_paused = true)]
async fn rejects_are_kept_once_and_counted_every_time() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1]), Step::Bad(2)])]);
    let path = world.quarantine_file();
    let first = world.run().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = world.run().await;
    assert_eq!((first.rows.read, first.rows.rejected), (3, 2));
    assert_eq!(second.rows.rejected, 2);
    assert_eq!(first.status, RunStatus::Ok, "rejects alone do not change the outcome");
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("\"rule\":\"script\"") && text.contains("\"split\":\"a\"") && text.contains(&first.run_id));
}

#[tokio::test(start_paused = true)]
async fn of_rejects_that_come_together_those_that_are_kept_already_are_left_out() {
    let mut world = World::new(vec![("a", vec![Step::Bad(2)])]);
    let path = world.quarantine_file();
    world.run().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.script.splits = vec![("a", vec![Step::Bad(4), Step::Bad(5)])];
    assert_eq!(world.run().await.rows.rejected, 9);
    let kept = QuarantineFile { path: &path, disk: &pipeline_contract::RealDisk }.read().unwrap();
    assert_eq!(kept.iter().map(|reject| reject.row["n"].as_i64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let known = world.store.rejects(&kept.iter().map(StoredReject::hash).collect::<Vec<_>>()).unwrap();
    assert_eq!(known, [Some(false); 5]);
}

#[tokio::test(start_paused = true)]
async fn on_reject_fail_fails_the_split() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1]), Step::Bad(1)]), ("b", vec![Step::Rows(vec![1])])]);
    world.settings.on_reject = OnReject::Fail;
    let record = world.run().await;
    assert_eq!(record.status, RunStatus::Partial);
    assert_eq!(record.splits[0].error.as_ref().unwrap().category, Category::Validation);
    assert_eq!(world.stored(), ["b 00:01 1.0"]);
}

#[tokio::test(start_paused = true)]
async fn an_abort_limit_fails_the_run_and_drops_the_open_epoch() {
    for limit in [Limit::Rows(1), Limit::Share(0.3)] {
        let mut world = World::new(vec![("a", vec![Step::Rows(vec![1, 2])]), ("b", vec![Step::Bad(2)])]);
        world.settings.abort = Some(limit);
        let record = world.run().await;
        assert_eq!(record.status, RunStatus::Failed, "{limit:?}");
        assert!(record.error.as_ref().unwrap().message.contains("2 of 4 rows"), "{:?}", record.error);
        assert!(world.stored().is_empty(), "{limit:?}");
    }
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1, 2])]), ("b", vec![Step::Bad(2)])]);
    world.settings.abort = Some(Limit::Share(0.5));
    assert_eq!(world.run().await.status, RunStatus::Ok, "half is not more than half");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_stores_what_is_done_and_the_next_process_goes_on_with_it() {
    let hour = Duration::from_secs(3600);
    let world = World::new(vec![("a", vec![Step::Rows(vec![1])]), ("b", vec![Step::Wait(hour / 4), Step::Rows(vec![1])])]);
    let cancel = CancellationToken::new();
    let mut engine = world.engine();
    let stop = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stop.cancel();
    });
    let request: RunRequest = engine.now(None);
    let record = engine.run(&request, &cancel).await;
    assert_eq!(record.status, RunStatus::Interrupted);
    assert_eq!(world.stored(), ["a 00:01 1.0"]);

    world.script.opened.lock().unwrap().clear();
    let resumed = world.engine().resume(&CancellationToken::new(), true).await.unwrap().unwrap();
    assert_eq!((resumed.run_id, resumed.status), (record.run_id, RunStatus::Ok));
    assert_eq!(*world.script.opened.lock().unwrap(), [("b".to_owned(), None)], "only what was not done is read");
    assert_eq!(world.stored(), ["a 00:01 1.0", "b 00:01 1.0"]);
    assert!(world.engine().resume(&CancellationToken::new(), true).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_ages_is_no_deadline() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1])])]);
    world.settings.once_deadline = Duration::MAX;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.run().await.status, RunStatus::Ok);
}

#[tokio::test(start_paused = true)]
async fn rejects_that_were_kept_long_enough_are_let_go_and_forgotten() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut world = World::new(vec![("a", vec![Step::Bad(2)])]);
    world.settings.keep_rejects = Some(DAY * 100);
    let path = world.quarantine_file();
    let rows = |path: &std::path::Path| {
        let rejects = crate::run::QuarantineFile { path, disk: &pipeline_contract::RealDisk }.read().unwrap();
        rejects.into_iter().map(|reject| (reject.row.clone(), reject.hash())).collect::<Vec<_>>()
    };
    world.run().await;
    let first = rows(&path);
    assert_eq!(first.len(), 2);
    // Young enough, and then old, but not by so much that the file is written anew for it.
    for (days, number, left) in [(50, 3, 5), (55, 4, 6), (15, 5, 5)] {
        tokio::time::sleep(DAY * days).await;
        world.script.splits = vec![("b", vec![Step::Bad(number)])];
        world.run().await;
        assert_eq!(rows(&path).len(), left, "after {days} more days");
    }
    let known = |hashes: &[u128]| crate::state::Store::rejects(&world.store, hashes).unwrap();
    assert_eq!(known(&[first[0].1, first[1].1]), [None, None], "the state has forgotten them");
    assert!(known(&rows(&path).iter().map(|(_, hash)| *hash).collect::<Vec<_>>()).iter().all(|state| *state == Some(false)));
    // What comes again is a reject again.
    tokio::time::sleep(DAY).await;
    world.script.splits = vec![("a", vec![Step::Bad(2)])];
    world.run().await;
    assert_eq!(rows(&path).len(), 7);
}
