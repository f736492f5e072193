//! Which ticks run: none twice, none forgotten, none on top of another.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{Category, StageError, rfc3339};
use tokio_util::sync::CancellationToken;

use super::{CatchUp, Engine, Overrun, RunRequest};
use crate::state::{RunRecord, TickRecord, TickStatus};

/// The clock may be stepped: a long sleep is cut into slices and the wall clock read anew after each.
const SLICE: Duration = Duration::from_secs(30);
/// Of a long stretch of skipped ticks, so many of the newest are listed one by one.
const LISTED: usize = 1000;
/// The wait after the state could not be read or written: a disk that was full may not be for ever.
const PAUSE: Duration = Duration::from_secs(30);

/// Ticks that have come and are not recorded, oldest first.
#[derive(Default)]
struct Due {
    /// The oldest of a long list, as first, last and count: too many to name one by one.
    older: Option<(DateTime<Utc>, DateTime<Utc>, u64)>,
    ticks: VecDeque<DateTime<Utc>>,
}

/// Where the schedule stands.
#[derive(Default)]
struct Agenda {
    resumed: bool,
    caught_up: bool,
    /// Ticks that are to run now, one after another.
    queue: VecDeque<DateTime<Utc>>,
}

/// How a pipeline that runs by its trigger is told to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    /// At once: a run that goes on finishes its epoch and stays open.
    pub now: CancellationToken,
    /// Between two runs: one that goes on, or whose tick has come, is finished first. Cancelled with `now`.
    pub idle: CancellationToken,
}

impl Stop {
    /// A way to stop that obeys `cancel` as well.
    pub fn under(cancel: &CancellationToken) -> Self {
        Self { now: cancel.clone(), idle: cancel.child_token() }
    }
}

impl Engine {
    /// Runs by the trigger until `cancel`, or until there is no further tick. `told` hears of each run that ended.
    pub async fn run_scheduled(&mut self, cancel: &CancellationToken, told: impl FnMut(&RunRecord)) {
        self.run_until(&Stop::under(cancel), told).await;
    }

    /// Runs by the trigger until it is stopped, or until there is no further tick. `told` hears of each run that ended.
    ///
    /// A state that cannot be read or written is tried again after a pause: going on without it would run ticks twice, and ending would
    /// leave the pipeline down when the disk is well again.
    pub async fn run_until(&mut self, stop: &Stop, mut told: impl FnMut(&RunRecord)) {
        let mut agenda = Agenda::default();
        while !stop.idle.is_cancelled() {
            match self.step(&mut agenda, stop, &mut told).await {
                Ok(true) => {}
                Ok(false) => return tracing::info!("the trigger has no further tick"),
                Err(error) => {
                    tracing::error!(reason = %error, help = error.help.as_deref(), "the schedule stands still; tried again in 30 s");
                    tokio::select! {
                        biased;
                        () = stop.idle.cancelled() => {}
                        () = self.ports.clock.sleep(PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Runs the next tick, or waits for it. `false` when there is none any more.
    async fn step(&mut self, agenda: &mut Agenda, stop: &Stop, told: &mut impl FnMut(&RunRecord)) -> Result<bool, StageError> {
        let cancel = &stop.now;
        if !agenda.resumed {
            if let Some(record) = self.resume(cancel, true).await? {
                told(&record);
            }
            agenda.resumed = true;
            return Ok(true);
        }
        if !agenda.caught_up {
            let (missed, _) = self.due()?;
            let reason = format!("missed while the pipeline was down (catch_up = \"{}\")", catch_up_name(self.settings.catch_up));
            agenda.queue = match self.settings.catch_up {
                CatchUp::None => self.skip(&missed, &reason)?,
                CatchUp::Latest => self.skip_but_last(missed, &reason)?,
                CatchUp::All => missed.ticks,
            };
            agenda.caught_up = true;
        }
        if agenda.queue.is_empty() {
            let (mut due, now) = self.due()?;
            if due.ticks.is_empty() {
                let Some(tick) = self.next_tick(now)? else { return Ok(false) };
                tracing::debug!(tick = %rfc3339(tick), "waiting for the next tick");
                if !self.sleep_until(tick, &stop.idle).await {
                    return Ok(true);
                }
                due = self.due()?.0;
                if due.ticks.is_empty() {
                    // Skipped by a clock that was ahead, and now it has really come.
                    due.ticks.push_back(tick);
                }
            }
            // Usually one; more when the machine slept or its clock was stepped forward.
            agenda.queue = match self.settings.catch_up {
                CatchUp::All => due.ticks,
                CatchUp::None | CatchUp::Latest => self.skip_but_last(due, "missed while the machine slept or its clock was stepped")?,
            };
        }
        let Some(tick) = agenda.queue.front().copied() else { return Ok(true) };
        self.spread(tick, cancel).await;
        if cancel.is_cancelled() {
            return Ok(true);
        }
        self.part(tick)?;
        let record = self.run(&RunRequest { tick, scheduled: true, window: None }, cancel).await;
        told(&record);
        if cancel.is_cancelled() {
            return Ok(true);
        }
        if !self.has_run(tick)? {
            // Not even its beginning could be recorded: it is still due.
            let text = record.error.map_or_else(|| "the run could not be recorded".to_owned(), |error| error.message);
            return Err(StageError::operator(Category::Storage, text));
        }
        agenda.queue.pop_front();
        self.overrun(agenda, tick)?;
        Ok(true)
    }

    /// What becomes of ticks that came while one ran.
    fn overrun(&self, agenda: &mut Agenda, ran: DateTime<Utc>) -> Result<(), StageError> {
        let (mut overdue, _) = self.due()?;
        overdue.ticks.retain(|due| !agenda.queue.contains(due));
        if self.settings.catch_up == CatchUp::All && !agenda.queue.is_empty() {
            // Behind those that wait already: what is recorded must never be newer than what is not.
            agenda.queue.extend(overdue.ticks);
            return Ok(());
        }
        let policy = if self.settings.overrun == Overrun::Skip { "skip" } else { "wait" };
        let reason = format!("the run of {} was still going (overrun = \"{policy}\")", rfc3339(ran));
        let waiting = match (self.settings.overrun, self.settings.catch_up) {
            (Overrun::Skip, _) => self.skip(&overdue, &reason)?,
            (Overrun::Wait, CatchUp::All) => overdue.ticks,
            (Overrun::Wait, _) => self.skip_but_last(overdue, &reason)?,
        };
        agenda.queue.extend(waiting);
        Ok(())
    }

    /// Ticks up to now that are not recorded, and what now is. On the very first start that is the latest tick alone.
    fn due(&self) -> Result<(Due, DateTime<Utc>), StageError> {
        let now = self.ports.clock.now();
        let period = || self.trigger.period().and_then(|p| chrono::Duration::from_std(p).ok()).unwrap_or_default();
        // Before the first tick, or when all recorded ones lie in the future because the clock was stepped back: one period of the past counts.
        let mut at = self.store.last_tick(Some(now))?.unwrap_or_else(|| now.checked_sub_signed(period()).unwrap_or(now));
        let mut due = Due::default();
        // Nothing after the newest recorded tick up to now is recorded: that is what newest means.
        while let Some(tick) = self.trigger.next(at).filter(|tick| *tick <= now) {
            due.ticks.push_back(tick);
            if self.settings.catch_up != CatchUp::All
                && due.ticks.len() > LISTED + 1
                && let Some(old) = due.ticks.pop_front()
            {
                due.older = Some(due.older.map_or((old, old, 1), |(first, _, count)| (first, old, count + 1)));
            }
            at = tick;
        }
        Ok((due, now))
    }

    /// The first tick after `now` that has not run. One that is skipped and yet to come was skipped by a clock that was ahead.
    fn next_tick(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StageError> {
        let mut at = now;
        while let Some(tick) = self.trigger.next(at) {
            if !self.has_run(tick)? {
                return Ok(Some(tick));
            }
            at = tick;
        }
        Ok(None)
    }

    fn has_run(&self, tick: DateTime<Utc>) -> Result<bool, StageError> {
        Ok(self.store.tick(tick)?.is_some_and(|record| record.status != TickStatus::Skipped))
    }

    /// Takes a tick that is to run out of the stretch of skipped ones that it may be in.
    fn part(&self, tick: DateTime<Utc>) -> Result<(), StageError> {
        let Some(stretch) = self.store.tick(tick)?.filter(|record| record.count > 1) else { return Ok(()) };
        let mut at = stretch.tick;
        let (mut last_before, mut before) = (None, 0);
        while at < tick {
            (last_before, before) = (Some(at), before + 1);
            let Some(next) = self.trigger.next(at) else { break };
            at = next;
        }
        let first = last_before.map(|until| TickRecord { until, count: before, ..stretch.clone() });
        let itself = TickRecord { tick, until: tick, count: 1, ..stretch.clone() };
        let after = self.trigger.next(tick).filter(|next| *next <= stretch.until);
        let rest = after.map(|next| TickRecord { tick: next, count: stretch.count.saturating_sub(before + 1), ..stretch });
        self.store.skip_ticks(&first.into_iter().chain([itself]).chain(rest).collect::<Vec<_>>())
    }

    /// Is this interrupted run's tick the one that would be caught up with now?
    pub(super) fn latest_due(&self, open: &RunRecord) -> Result<bool, StageError> {
        let now = self.ports.clock.now();
        let newer = self.trigger.next(open.tick).is_some_and(|next| next <= now);
        Ok(match self.settings.catch_up {
            CatchUp::All => true,
            CatchUp::None | CatchUp::Latest => !newer,
        })
    }

    fn skip_but_last(&self, mut due: Due, reason: &str) -> Result<VecDeque<DateTime<Utc>>, StageError> {
        let last = due.ticks.pop_back();
        self.skip(&due, reason)?;
        Ok(last.into_iter().collect())
    }

    /// Records ticks as skipped; answers none, so that it can stand where ticks to run are wanted.
    fn skip(&self, due: &Due, reason: &str) -> Result<VecDeque<DateTime<Utc>>, StageError> {
        let record = |tick: DateTime<Utc>, until: DateTime<Utc>, count: u64| TickRecord {
            tick,
            until,
            count,
            status: TickStatus::Skipped,
            reason: Some(reason.to_owned()),
            run_id: None,
        };
        let older = due.older.iter().map(|(first, last, count)| record(*first, *last, *count));
        let records: Vec<_> = older.chain(due.ticks.iter().map(|tick| record(*tick, *tick, 1))).collect();
        if let (Some(first), Some(last)) = (records.first(), records.last()) {
            let count: u64 = records.iter().map(|record| record.count).sum();
            tracing::warn!(from = %rfc3339(first.tick), to = %rfc3339(last.until), count, reason, "ticks skipped");
            self.store.skip_ticks(&records)?;
        }
        Ok(VecDeque::new())
    }

    /// Waits until the wall clock shows `at`. False when it did not come to that: it is told to stop, or the clock was stepped back, so that
    /// another tick may be the next.
    async fn sleep_until(&self, at: DateTime<Utc>, cancel: &CancellationToken) -> bool {
        let mut now = self.ports.clock.now();
        while let Ok(left) = (at - now).to_std()
            && !left.is_zero()
        {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return false,
                () = self.ports.clock.sleep(left.min(SLICE)) => {}
            }
            let before = std::mem::replace(&mut now, self.ports.clock.now());
            if now < before {
                return false;
            }
        }
        true
    }

    /// Waits for what is left of a tick's delay.
    async fn spread(&self, tick: DateTime<Utc>, cancel: &CancellationToken) {
        let delay = self.trigger.delay(tick, seed(&self.name));
        let left = (tick + delay - self.ports.clock.now()).to_std().unwrap_or_default().min(delay);
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.ports.clock.sleep(left) => {}
        }
    }
}

/// The same for the same pipeline, so that its jitter does not change with a restart.
fn seed(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

fn catch_up_name(catch_up: CatchUp) -> &'static str {
    match catch_up {
        CatchUp::None => "none",
        CatchUp::Latest => "latest",
        CatchUp::All => "all",
    }
}
