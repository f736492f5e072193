//! Ticks: none twice, none forgotten, none on top of another.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pipeline_contract::rfc3339;
use tokio_util::sync::CancellationToken;

use super::world::{Step, World};
use crate::run::{CatchUp, Overrun};
use crate::state::{Store, TickStatus};

const HOUR: u64 = 3600;

/// Runs by the trigger for so long, then stops as SIGTERM would.
async fn up(world: &World, seconds: u64) {
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.cancel();
    });
    world.engine().run_scheduled(&cancel, |_| {}).await;
}

/// Every recorded tick, oldest first: hour and what became of it.
fn ticks(world: &World) -> Vec<String> {
    let name = |status| match status {
        TickStatus::Ran => "ran",
        TickStatus::Running => "running",
        TickStatus::Skipped => "skipped",
    };
    let mut ticks = world.store.ticks(usize::MAX).unwrap();
    ticks.reverse();
    ticks.iter().map(|tick| format!("{} {}", &rfc3339(tick.tick)[8..13], name(tick.status))).collect()
}

fn quick() -> World {
    World::new(vec![("a", vec![Step::Rows(vec![1])])])
}

#[tokio::test(start_paused = true)]
async fn the_first_start_runs_the_latest_tick_and_then_each() {
    let world = quick();
    up(&world, 2 * HOUR).await;
    assert_eq!(ticks(&world), ["19T15 ran", "19T16 ran", "19T17 ran"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_within_the_hour_runs_nothing_again() {
    let world = quick();
    up(&world, 10).await;
    up(&world, 10).await;
    assert_eq!(world.runs.load(Ordering::SeqCst), 1);
    assert_eq!(ticks(&world), ["19T15 ran"]);
}

#[tokio::test(start_paused = true)]
async fn ticks_missed_while_down_follow_catch_up() {
    for (catch_up, expected) in [
        (CatchUp::None, ["19T16 skipped", "19T17 skipped", "19T18 skipped"]),
        (CatchUp::Latest, ["19T16 skipped", "19T17 skipped", "19T18 ran"]),
        (CatchUp::All, ["19T16 ran", "19T17 ran", "19T18 ran"]),
    ] {
        let mut world = quick();
        world.settings.catch_up = CatchUp::Latest;
        up(&world, 10).await;
        tokio::time::sleep(Duration::from_secs(3 * HOUR)).await;
        world.settings.catch_up = catch_up;
        up(&world, 10).await;
        assert_eq!(ticks(&world)[1..], expected, "{catch_up:?}");
        let reasons: Vec<_> = world.store.ticks(10).unwrap().into_iter().filter_map(|tick| tick.reason).collect();
        assert!(reasons.iter().all(|reason| reason.contains("missed while the pipeline was down")), "{reasons:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_overruns_makes_the_next_tick_wait_or_be_skipped() {
    for (overrun, second) in [(Overrun::Skip, "19T16 skipped"), (Overrun::Wait, "19T16 ran")] {
        let mut world = World::new(vec![("a", vec![Step::Wait(Duration::from_secs(HOUR / 2)), Step::Rows(vec![1])])]);
        world.settings.overrun = overrun;
        up(&world, HOUR + 10).await;
        assert_eq!(ticks(&world)[..2], ["19T15 ran", second], "{overrun:?}");
        if overrun == Overrun::Skip {
            let tick = world.store.ticks(10).unwrap().into_iter().find(|tick| tick.status == TickStatus::Skipped).unwrap();
            assert!(tick.reason.unwrap().contains("was still going"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_absence_is_recorded_without_growing_with_it() {
    let world = quick();
    up(&world, 10).await;
    tokio::time::sleep(Duration::from_secs(5000 * HOUR)).await;
    up(&world, 10).await;
    let ticks = world.store.ticks(usize::MAX).unwrap();
    assert!(ticks.len() < 1100, "{}", ticks.len());
    assert_eq!(ticks.iter().map(|tick| tick.count).sum::<u64>(), 5001, "every tick is accounted for");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_stepped_runs_no_tick_twice() {
    let world = quick();
    let cancel = CancellationToken::new();
    let (stop, clock) = (cancel.clone(), std::sync::Arc::clone(&world.clock));
    tokio::spawn(async move {
        let step = |hours: i64| clock.stepped.fetch_add(hours * 3600, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(2 * HOUR)).await;
        step(-1);
        tokio::time::sleep(Duration::from_secs(2 * HOUR)).await;
        step(3);
        tokio::time::sleep(Duration::from_secs(HOUR)).await;
        stop.cancel();
    });
    world.engine().run_scheduled(&cancel, |_| {}).await;
    let ticks = ticks(&world);
    let mut hours: Vec<_> = ticks.iter().map(|tick| tick[..5].to_owned()).collect();
    hours.dedup();
    assert_eq!(hours.len(), ticks.len(), "{ticks:?}");
    let expected: Vec<String> = (15..23).map(|hour| format!("19T{hour}")).collect();
    assert_eq!(hours, expected, "none is forgotten: {ticks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tick_whose_run_was_killed_before_it_stored_anything_runs_again() {
    let world = World::new(vec![("a", vec![Step::Wait(Duration::from_secs(60)), Step::Rows(vec![1])])]);
    let killed = tokio::time::timeout(Duration::from_secs(30), world.engine().run_scheduled(&CancellationToken::new(), |_| {})).await;
    assert!(killed.is_err());
    assert_eq!(ticks(&world), ["19T15 running"]);
    up(&world, 100).await;
    assert_eq!(ticks(&world), ["19T15 ran"]);
    assert_eq!(world.stored(), ["a 00:01 1.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_catching_up_with_all_forgets_none() {
    let mut world = World::new(vec![("a", vec![Step::Wait(Duration::from_secs(HOUR * 3 / 4)), Step::Rows(vec![1])])]);
    world.settings.catch_up = CatchUp::All;
    world.settings.deadline = Duration::from_secs(HOUR);
    up(&world, HOUR).await;
    tokio::time::sleep(Duration::from_secs(4 * HOUR)).await;
    // Each run takes most of an hour: new ticks come while old ones wait, and the process is restarted twice meanwhile.
    up(&world, 2 * HOUR).await;
    up(&world, 2 * HOUR).await;
    up(&world, 12 * HOUR).await;
    let mut hours: Vec<_> = world.store.ticks(usize::MAX).unwrap().iter().map(|tick| rfc3339(tick.tick)).collect();
    hours.sort();
    let mut all = vec!["2026-05-19T15:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap()];
    while all.len() < hours.len() {
        all.push(*all.last().unwrap() + chrono::TimeDelta::hours(1));
    }
    assert_eq!(hours, all.into_iter().map(rfc3339).collect::<Vec<_>>(), "no hole");
    assert!(hours.len() > 15, "{hours:?}");
}

/// Runs by the trigger while the clock is stepped: after so many seconds, by so many hours; and then stops.
async fn stepped(world: &World, steps: &[(u64, i64)], seconds: u64) {
    let (clock, steps) = (std::sync::Arc::clone(&world.clock), steps.to_vec());
    tokio::spawn(async move {
        for (after, hours) in steps {
            tokio::time::sleep(Duration::from_secs(after)).await;
            clock.stepped.fetch_add(hours * 3600, Ordering::SeqCst);
        }
    });
    up(world, seconds).await;
}

#[tokio::test(start_paused = true)]
async fn ticks_that_a_clock_skipped_while_it_was_ahead_run_when_they_come() {
    let world = quick();
    // Three hours ahead for ten minutes: 16 and 17 are skipped, 18 runs.
    stepped(&world, &[(600, 3), (600, -3)], 2 * HOUR).await;
    assert_eq!(ticks(&world), ["19T15 ran", "19T16 ran", "19T17 ran", "19T18 ran"]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_years_ahead_does_not_stop_the_pipeline_for_years() {
    let world = quick();
    stepped(&world, &[(600, 20_000), (600, -20_000)], 3 * HOUR).await;
    let recorded = world.store.ticks(usize::MAX).unwrap();
    let ran = recorded.iter().filter(|tick| tick.status == TickStatus::Ran);
    let ran: Vec<_> = ran.map(|tick| rfc3339(tick.tick)[..13].to_owned()).collect();
    assert_eq!(ran, ["2028-08-29T23", "2026-05-19T18", "2026-05-19T17", "2026-05-19T16", "2026-05-19T15"]);
    assert_eq!(recorded.iter().map(|tick| tick.count).sum::<u64>(), 20_001, "each is accounted for once");
    let mut ends: Vec<_> = recorded.iter().map(|tick| (tick.tick, tick.until)).collect();
    ends.sort_unstable();
    assert!(ends.array_windows().all(|[(_, until), (next, _)]| *next == *until + chrono::TimeDelta::hours(1)), "no hole, and none twice");
}
