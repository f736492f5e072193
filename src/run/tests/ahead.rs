//! What goes on beside what the driver does: splits that are read ahead, and commits while the far side is waited for.

use std::time::Duration;

use pipeline_contract::{Category, StageError};

use super::world::{Step, World};
use crate::stages::validate::Limit;
use crate::state::{RunStatus, Store};

/// Names for so many splits, in order.
fn names(count: usize) -> Vec<&'static str> {
    (0..count).map(|n| &*Box::leak(format!("s{n:03}").into_boxed_str())).collect()
}

fn wait(seconds: u64) -> Step {
    Step::Wait(Duration::from_secs(seconds))
}

/// A world in which the first split takes longer than the run may, and two are read at once.
fn held_up_by_the_first(others: &[Step]) -> World {
    let mut splits: Vec<_> = names(40).into_iter().map(|name| (name, others.to_vec())).collect();
    splits[0].1 = vec![wait(100)];
    let mut world = World::new(splits);
    (world.settings.concurrency, world.settings.once_deadline) = (2, Duration::from_secs(50));
    world
}

async fn opened(world: &World) -> usize {
    world.run().await;
    let opened = world.script.opened.lock().unwrap();
    assert!(opened.iter().map(|(name, _)| name.as_str()).eq(names(opened.len())), "in their order: {opened:?}");
    opened.len()
}

#[tokio::test(start_paused = true)]
async fn splits_are_read_while_one_before_them_takes_longer() {
    assert_eq!(opened(&held_up_by_the_first(&[Step::Rows(vec![1])])).await, 8, "two at once, and three more for each of them");
}

#[tokio::test(start_paused = true)]
async fn no_more_are_read_at_once_than_was_said() {
    assert_eq!(opened(&held_up_by_the_first(&[wait(30), Step::Rows(vec![1])])).await, 3, "the second one is done after 30 s, the third one is not");
}

#[tokio::test(start_paused = true)]
async fn a_split_whose_rows_take_much_memory_keeps_its_place_until_they_are_taken() {
    assert_eq!(opened(&held_up_by_the_first(&[Step::Rows((0..20_000).collect())])).await, 3, "the one behind it is next, and may take more");
    assert_eq!(opened(&held_up_by_the_first(&[Step::Bad(1001)])).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_split_that_failed_keeps_its_place_until_it_is_known_whether_to_go_on() {
    assert_eq!(opened(&held_up_by_the_first(&[Step::Always(StageError::operator(Category::ClientError, "wrong key"))])).await, 2);
}

/// 200 splits, each of which has a file of its own and is waited for.
fn many_files() -> World {
    let mut world = World::new(names(200).into_iter().map(|name| (name, vec![wait(1), Step::Rows(vec![1])])).collect());
    world.settings.epoch_interval = Duration::from_secs(1000);
    world.shelf.lock().unwrap().file_each = true;
    world
}

/// How many epochs its run takes.
async fn epochs(change: impl FnOnce(&mut World)) -> u64 {
    let mut world = many_files();
    change(&mut world);
    let record = world.run().await;
    assert_eq!((record.status, record.rows.written), (RunStatus::Ok, 200));
    assert!(world.stored().iter().map(|row| &row[..4]).eq(names(200)));
    world.store.last_epoch().unwrap().unwrap().0
}

#[tokio::test(start_paused = true)]
async fn many_files_are_committed_while_more_is_waited_for() {
    assert_eq!(epochs(|_| ()).await, 4, "of 64 splits each, and the rest");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_all_splits_share_is_committed_once() {
    assert_eq!(epochs(|world| world.shelf.lock().unwrap().file_each = false).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_already_is_not_kept_waiting_by_a_commit() {
    let all_but_the_first = |world: &mut World| {
        world.settings.concurrency = 64;
        world.script.splits.iter_mut().skip(1).for_each(|(_, steps)| drop(steps.remove(0)));
    };
    assert_eq!(epochs(all_but_the_first).await, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_early_that_a_limit_may_yet_forbid() {
    assert_eq!(epochs(|world| world.settings.abort = Some(Limit::Share(0.5))).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_committed_early_ends_the_run_and_the_next_one_heals() {
    let world = many_files();
    world.shelf.lock().unwrap().prepare_fails = Some((1, StageError::operator(Category::Storage, "the disk is full")));
    let record = world.run().await;
    assert_eq!((record.status, record.error.unwrap().message.as_str()), (RunStatus::Failed, "the disk is full"));
    assert!(world.stored().is_empty());
    assert!(world.script.opened.lock().unwrap().len() < 100, "the disk was full at the first commit, not at the end");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.run().await.rows.written, 200);
}

#[tokio::test(start_paused = true)]
async fn a_split_in_the_way_of_an_early_commit_fails_alone() {
    let world = many_files();
    world.shelf.lock().unwrap().jams = Some("s030".to_owned());
    let record = world.run().await;
    assert_eq!((record.status, record.rows.written), (RunStatus::Partial, 199));
    assert!(record.splits.iter().filter(|split| split.error.is_some()).map(|split| split.split.id.as_str()).eq(["s030"]));
    let others = names(200).into_iter().filter(|name| *name != "s030");
    assert!(world.stored().iter().map(|row| &row[..4]).eq(others), "and all others are there once, in their order");
}
