//! Which ticks run: none twice, none forgotten, none on top of another.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{StageError, rfc3339};
use tokio_util::sync::CancellationToken;

use super::{CatchUp, Engine, Overrun, RunRequest};
use crate::state::{RunRecord, TickRecord, TickStatus};

/// The clock may be stepped: a long sleep is cut into slices and the wall clock read anew after each.
const SLICE: Duration = Duration::from_secs(30);
/// Of a long stretch of skipped ticks, so many of the newest are listed one by one.
const LISTED: usize = 1000;

impl Engine {
    /// Runs by the trigger until `cancel`, or until there is no further tick. `told` hears of each run that ended.
    ///
    /// # Errors
    /// `storage` when ticks cannot be read or recorded: going on would run them twice.
    pub async fn run_scheduled(&mut self, cancel: &CancellationToken, mut told: impl FnMut(&RunRecord)) -> Result<(), StageError> {
        if let Some(record) = self.resume(cancel, true).await? {
            told(&record);
        }
        let missed = self.due()?;
        let reason = format!("missed while the pipeline was down (catch_up = \"{}\")", catch_up_name(self.settings.catch_up));
        let run = match self.settings.catch_up {
            CatchUp::None => self.skip(&missed, &reason)?,
            CatchUp::Latest => self.skip_but_last(missed, &reason)?,
            CatchUp::All => missed,
        };
        self.run_ticks(run, cancel, &mut told).await?;
        while !cancel.is_cancelled() {
            let Some(tick) = self.next_tick()? else {
                tracing::info!("the trigger has no further tick");
                return Ok(());
            };
            tracing::debug!(tick = %rfc3339(tick), "waiting for the next tick");
            self.sleep_until(tick, cancel).await;
            if cancel.is_cancelled() {
                break;
            }
            // Usually one; more when the machine slept or its clock was stepped forward.
            let due = self.due()?;
            let run = match self.settings.catch_up {
                CatchUp::All => due,
                CatchUp::None | CatchUp::Latest => self.skip_but_last(due, "missed while the machine slept or its clock was stepped")?,
            };
            self.run_ticks(run, cancel, &mut told).await?;
        }
        Ok(())
    }

    /// Runs ticks one after another; those that come meanwhile are skipped or wait, as set.
    async fn run_ticks(
        &mut self,
        mut ticks: Vec<DateTime<Utc>>,
        cancel: &CancellationToken,
        told: &mut impl FnMut(&RunRecord),
    ) -> Result<(), StageError> {
        while !ticks.is_empty() && !cancel.is_cancelled() {
            let tick = ticks.remove(0);
            let start = tick + self.trigger.delay(tick, seed(&self.name));
            self.sleep_until(start, cancel).await;
            if cancel.is_cancelled() {
                break;
            }
            let record = self.run(&RunRequest { tick, scheduled: true, window: None }, cancel).await;
            told(&record);
            if cancel.is_cancelled() {
                break;
            }
            let overdue: Vec<_> = self.due()?.into_iter().filter(|due| !ticks.contains(due)).collect();
            let reason = format!(
                "the run of {} was still going (overrun = \"{}\")",
                rfc3339(tick),
                if self.settings.overrun == Overrun::Skip { "skip" } else { "wait" }
            );
            ticks.extend(match (self.settings.overrun, self.settings.catch_up) {
                (Overrun::Skip, _) => self.skip(&overdue, &reason)?,
                (Overrun::Wait, CatchUp::All) => overdue,
                (Overrun::Wait, _) => self.skip_but_last(overdue, &reason)?,
            });
        }
        Ok(())
    }

    /// Ticks up to now that are not recorded, oldest first. On the very first start that is the latest one alone.
    fn due(&self) -> Result<Vec<DateTime<Utc>>, StageError> {
        let now = self.ports.clock.now();
        let period = || self.trigger.period().and_then(|p| chrono::Duration::from_std(p).ok()).unwrap_or_default();
        // Before the first tick, or when all recorded ones lie in the future because the clock was stepped back: one period of the past counts.
        let after = self.store.last_tick(Some(now))?.unwrap_or_else(|| now - period());
        let mut due = Vec::new();
        let mut at = after;
        while let Some(tick) = self.trigger.next(at).filter(|tick| *tick <= now) {
            if self.store.tick(tick)?.is_none() {
                due.push(tick);
            }
            at = tick;
        }
        Ok(due)
    }

    /// The first tick after now that is not recorded.
    fn next_tick(&self) -> Result<Option<DateTime<Utc>>, StageError> {
        let mut at = self.ports.clock.now();
        while let Some(tick) = self.trigger.next(at) {
            if self.store.tick(tick)?.is_none() {
                return Ok(Some(tick));
            }
            at = tick;
        }
        Ok(None)
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

    fn skip_but_last(&self, mut ticks: Vec<DateTime<Utc>>, reason: &str) -> Result<Vec<DateTime<Utc>>, StageError> {
        let last = ticks.pop();
        self.skip(&ticks, reason)?;
        Ok(last.into_iter().collect())
    }

    /// Records ticks as skipped; answers none, so that it can stand where ticks to run are wanted.
    fn skip(&self, ticks: &[DateTime<Utc>], reason: &str) -> Result<Vec<DateTime<Utc>>, StageError> {
        let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else { return Ok(Vec::new()) };
        tracing::warn!(from = %rfc3339(*first), to = %rfc3339(*last), count = ticks.len(), reason, "ticks skipped");
        let (stretch, listed) = ticks.split_at(ticks.len().saturating_sub(LISTED));
        let record = |tick: DateTime<Utc>, until: DateTime<Utc>, count: usize| TickRecord {
            tick,
            until,
            count: count as u64,
            status: TickStatus::Skipped,
            reason: Some(reason.to_owned()),
            run_id: None,
        };
        let stretch = stretch.first().zip(stretch.last()).map(|(first, last)| record(*first, *last, stretch.len()));
        let records: Vec<_> = stretch.into_iter().chain(listed.iter().map(|tick| record(*tick, *tick, 1))).collect();
        self.store.skip_ticks(&records)?;
        Ok(Vec::new())
    }

    async fn sleep_until(&self, at: DateTime<Utc>, cancel: &CancellationToken) {
        while let Ok(left) = (at - self.ports.clock.now()).to_std() {
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = self.ports.clock.sleep(left.min(SLICE)) => {}
            }
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
