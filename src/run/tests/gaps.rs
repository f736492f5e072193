//! What is missing is asked for, alone, once, and ever more rarely where that does not help.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::rfc3339;
use tokio_util::sync::CancellationToken;

use super::world::{Step, World, gap, shown};
use crate::run::{Engine, Missing, refusals};
use crate::state::{RunRecord, RunStatus, Store};

const HOUR: Duration = Duration::from_secs(3600);

/// Minutes 1 and 4 of two series are stored; 2 and 3 are missing.
async fn holed() -> World {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1, 4])]), ("b", vec![Step::Rows(vec![1, 4])])]);
    world.settings.concurrency = 1;
    (world.settings.epoch_rows, world.settings.most_epoch_rows) = (1, 1);
    assert_eq!(world.run().await.status, RunStatus::Ok);
    world.script.opened.lock().unwrap().clear();
    // From here on only what is missing may be asked for.
    world.script.listing = Some(pipeline_contract::StageError::developer("the list of splits is not asked for"));
    world
}

fn missing() -> Missing {
    Missing { time: "timestamp".to_owned(), gaps: vec![gap("a", 2, 4), gap("b", 2, 4)] }
}

async fn fill(engine: &mut Engine) -> RunRecord {
    let request = engine.now_missing(missing());
    engine.run(&request, &CancellationToken::new()).await
}

fn opened(world: &World) -> Vec<String> {
    world.script.opened.lock().unwrap().iter().map(|(split, _)| split.clone()).collect()
}

/// Runs by the trigger for so long, then stops as SIGTERM would. Every run that was told of: cause, when it began, how it ended.
async fn up(world: &World, long: Duration) -> Vec<(String, DateTime<Utc>, RunStatus)> {
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(long).await;
        stop.cancel();
    });
    let mut told = Vec::new();
    world.engine().run_scheduled(&cancel, |record| told.push((record.cause.clone(), record.started_at, record.status))).await;
    told
}

#[tokio::test(start_paused = true)]
async fn a_run_of_gaps_reads_them_and_nothing_else() {
    let world = holed().await;
    let before = world.store.runs(10).unwrap();
    // At the very instant of the run before: it takes nobody's place.
    let record = fill(&mut world.engine()).await;
    assert_eq!((record.status, record.cause.as_str(), record.rows.written), (RunStatus::Ok, "fill", 4));
    assert_eq!(opened(&world), ["fill a 2..4", "fill b 2..4"]);
    assert_eq!(world.stored()[4..], ["a 00:02 2.0", "a 00:03 3.0", "b 00:02 2.0", "b 00:03 3.0"]);
    assert_eq!(world.store.runs(10).unwrap(), [vec![record], before].concat());
    assert!(world.store.ticks(10).unwrap().is_empty(), "it is no tick's run");
}

#[tokio::test(start_paused = true)]
async fn what_the_source_refuses_is_told_and_kept_until_it_is_filled() {
    let mut world = holed().await;
    world.script.filling.refuses = Some("a");
    let mut engine = world.engine();
    let record = fill(&mut engine).await;
    assert_eq!((record.status, record.rows.written), (RunStatus::Ok, 2));
    let told: Vec<_> = engine.refused().iter().map(|refusal| (shown(&refusal.gap), refusal.reason.as_str())).collect();
    assert_eq!(told, [("a 2..4".to_owned(), "too long ago for this plan")]);
    assert_eq!(refusals(&world.store).unwrap(), engine.refused());
    engine.forget_filled(&[gap("a", 3, 4)]).unwrap();
    assert_eq!(refusals(&world.store).unwrap().len(), 1, "a part of it is still missing");
    engine.forget_filled(&[gap("b", 3, 4)]).unwrap();
    assert_eq!(refusals(&world.store).unwrap(), []);

    fill(&mut engine).await;
    assert_eq!(refusals(&world.store).unwrap().len(), 1);
    tokio::time::sleep(HOUR).await;
    world.script.filling.refuses = None;
    let mut engine = world.engine();
    assert_eq!(fill(&mut engine).await.rows.written, 2);
    assert_eq!((engine.refused(), refusals(&world.store).unwrap()), (&[][..], vec![]));
}

#[tokio::test(start_paused = true)]
async fn when_all_is_refused_there_is_no_run_to_remember() {
    let mut world = World::new(vec![]);
    world.script.filling.refuses = Some("a");
    let mut engine = world.engine();
    let request = engine.now_missing(Missing { gaps: vec![gap("a", 2, 4), gap("a", 7, 8)], ..missing() });
    let record = engine.run(&request, &CancellationToken::new()).await;
    assert_eq!(record.status, RunStatus::Partial);
    let error = record.error.unwrap();
    assert_eq!(error.message, "the source can fill none of 2 gaps: too long ago for this plan");
    assert!(error.help.unwrap().contains("[expect] accept"));
    assert!(world.store.runs(10).unwrap().is_empty());
    assert_eq!(refusals(&world.store).unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_was_killed_before_it_stored_anything_is_closed() {
    let mut world = holed().await;
    world.script.filling.slow = Some(("a", HOUR));
    let killed = tokio::time::timeout(Duration::from_secs(60), fill(&mut world.engine())).await;
    assert!(killed.is_err());
    assert_eq!(world.store.open_run().unwrap().unwrap().cause, "fill");

    assert!(world.engine().resume(&CancellationToken::new(), true).await.unwrap().is_none());
    assert_eq!(world.store.runs(1).unwrap()[0].status, RunStatus::Interrupted);
    assert_eq!((opened(&world).len(), world.script.asked.lock().unwrap().len()), (1, 1), "nothing more was asked for");
    world.script.filling.slow = None;
    tokio::time::sleep(HOUR).await;
    assert_eq!(fill(&mut world.engine()).await.rows.written, 4);
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_was_killed_half_way_goes_on_by_its_record() {
    // Under a schedule it takes no longer than a scheduled run may.
    for (scheduled, status, written) in [(false, RunStatus::Ok, 4), (true, RunStatus::Partial, 2)] {
        let mut world = holed().await;
        world.settings.window_deadline = HOUR * 5;
        world.script.filling.slow = Some(("b", HOUR));
        let killed = tokio::time::timeout(Duration::from_secs(60), fill(&mut world.engine())).await;
        assert!(killed.is_err());
        assert_eq!(world.stored()[4..], ["a 00:02 2.0", "a 00:03 3.0"]);

        world.script.opened.lock().unwrap().clear();
        let resumed = world.engine().resume(&CancellationToken::new(), scheduled).await.unwrap().unwrap();
        assert_eq!((resumed.status, resumed.cause.as_str(), resumed.rows.written), (status, "fill", written));
        assert_eq!(opened(&world), ["fill b 2..4"]);
        assert_eq!(world.script.asked.lock().unwrap().len(), 1, "what is missing is in the record");
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_run_is_followed_by_one_of_what_is_missing() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1, 4])])]);
    world.expects = Some((vec!["a"], 4));
    let told = up(&world, HOUR * 3).await;
    let causes: Vec<_> = told.iter().map(|(cause, _, status)| (cause.as_str(), *status)).collect();
    let (schedule, ok) = ("schedule", RunStatus::Ok);
    assert_eq!(causes, [(schedule, ok), ("fill", ok), (schedule, ok), (schedule, ok), (schedule, ok)]);
    assert_eq!(world.stored(), ["a 00:01 1.0", "a 00:04 4.0", "a 00:02 2.0", "a 00:03 3.0"]);
    assert_eq!(world.store.note("fill.tries").unwrap(), Some(serde_json::json!({})), "what is filled is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_stays_is_asked_for_ever_more_rarely_through_restarts() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1, 4])]), ("b", vec![Step::Rows(vec![1, 4])])]);
    world.expects = Some((vec!["a", "b"], 4));
    world.script.filling.barren = true;
    world.script.filling.refuses = Some("b");
    let mut asked = Vec::new();
    for hour in 0..400 {
        up(&world, HOUR).await;
        asked.extend(world.script.asked.lock().unwrap().drain(..).map(|gaps| (hour, gaps.join(", "))));
    }
    let (both, a, b) = ("a 2..4, b 2..4", "a 2..4", "b 2..4");
    let at = |hour: i32, gaps: &str| (hour, gaps.to_owned());
    // The first hour has two ticks: the one before it began, and 16:00.
    assert_eq!(asked, [at(0, both), at(1, a), at(7, a), at(31, a), at(168, b), at(199, a), at(336, b), at(367, a)]);
}

#[tokio::test(start_paused = true)]
async fn no_tick_waits_for_a_fill() {
    let mut world = World::new(vec![("a", vec![Step::Rows(vec![1, 4])]), ("b", vec![Step::Rows(vec![1, 4])]), ("c", vec![Step::Rows(vec![1, 4])])]);
    (world.settings.concurrency, world.settings.epoch_rows, world.settings.most_epoch_rows) = (1, 1, 1);
    world.settings.deadline = HOUR * 5;
    world.expects = Some((vec!["a", "b", "c"], 4));
    world.script.filling.slow = Some(("b", HOUR * 9));
    let told = up(&world, HOUR * 2).await;
    let began: Vec<_> = told.iter().map(|(cause, began, status)| format!("{cause} {} {status:?}", &rfc3339(*began)[11..19])).collect();
    assert_eq!(
        began,
        [
            "schedule 15:37:20 Ok",
            "fill 15:37:20 Partial",
            "schedule 16:00:00 Ok",
            "fill 16:00:00 Failed",
            "schedule 17:00:00 Ok",
            "fill 17:00:00 Interrupted",
        ]
    );
    let asked = world.script.asked.lock().unwrap().clone();
    let (all, rest) = (vec!["a 2..4", "b 2..4", "c 2..4"], vec!["b 2..4", "c 2..4"]);
    assert_eq!(asked, [all, rest.clone(), rest], "a run that came to some of them alone counts for none");
    let ticks = world.store.ticks(10).unwrap();
    assert!(ticks.iter().all(|tick| tick.status == crate::state::TickStatus::Ran) && ticks.len() == 3, "{ticks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_failed_fills_nothing() {
    let mut world = holed().await;
    world.expects = Some((vec!["a", "b"], 4));
    let told = up(&world, HOUR).await;
    assert!(told.iter().all(|(cause, _, status)| (cause.as_str(), *status) == ("schedule", RunStatus::Failed)), "{told:?}");
    assert!(world.script.asked.lock().unwrap().is_empty());
}
