//! An epoch that is committed while rows of the next one go through dedupe already.
//!
//! What they would do to the sinks waits until the commit is over. Should the epoch not be stored, then nothing of the next one has been written:
//! the splits of the first are stored one by one, while everybody waits, and the rows of the next one are passed on again.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{Ahead, Begun, Epoch, Op, Position, StageError};
use pipeline_files::threads;
use tokio::task::JoinHandle;

use super::outlets::{Outlets, Saved};
use super::{CommitError, Committed, EpochWriter, Outcome, Passed};
use crate::run::rejects::Lines;
use crate::stages::selected::Selected;
use crate::state::{Counts, SplitRecord};

/// What the sinks are to do once they are back.
pub(super) enum Queued {
    /// Rows, and what each sink has begun with them.
    Write(Selected, Op, Vec<Option<Begun>>),
    Look(RecordBatch),
    Rejects(Lines),
}

/// What became of an epoch that was committed beside its follower.
pub(crate) struct Landing {
    pub(crate) committed: Result<Committed, CommitError>,
    /// Splits whose rows came meanwhile and could not be written then.
    pub(crate) lost: Vec<(usize, StageError)>,
    /// What came meanwhile and is to be passed on again, once that is settled.
    pub(crate) next: Vec<Passed>,
}

struct Landed {
    outlets: Outlets,
    saved: Result<Saved, StageError>,
    /// Whether it is visible, once it is saved.
    delivered: Result<(), StageError>,
}

pub(super) struct Flight {
    epoch: Epoch,
    pub(super) passed: Vec<Passed>,
    pub(super) outcomes: Vec<Outcome>,
    committed: Committed,
    /// For the split with this number, in order.
    pub(super) queue: Vec<(usize, Queued)>,
    /// Who begins with rows for each sink.
    ahead: Vec<Option<Arc<dyn Ahead>>>,
    task: JoinHandle<Landed>,
    /// Hangs up when the commit is over, where it is on a thread of its own.
    over: Option<Mutex<mpsc::Receiver<()>>>,
}

impl Flight {
    /// Has rows wait for the sinks, which begin with new ones at once.
    pub(super) fn write_later(&mut self, split: usize, rows: Selected, op: Op) {
        let begin = |ahead: &Arc<dyn Ahead>| ahead.begin(&rows.batch, rows.selection.as_ref());
        let begun = match op {
            Op::Append => self.ahead.iter().map(|ahead| ahead.as_ref().and_then(begin)).collect(),
            Op::Replace => Vec::new(),
        };
        self.queue.push((split, Queued::Write(rows, op, begun)));
    }
}

impl Drop for Flight {
    /// Whoever gives a run up must not find it at work on the files later.
    fn drop(&mut self) {
        if let Some(over) = &self.over {
            // What it waits for may be a task that needs this thread.
            let _ = threads::blocking(|| over.lock().unwrap_or_else(PoisonError::into_inner).recv());
        }
    }
}

impl EpochWriter {
    /// Commits the open epoch beside what is passed on from now on; the one before has landed. `records` is as for [`EpochWriter::commit`].
    pub(crate) fn launch(&mut self, run_rows: &Counts, records: impl Fn(usize, &Counts, Option<&Position>, bool) -> SplitRecord) {
        let (committed, epoch) = (self.summary(), self.epoch.saturating_add(1));
        let commit = self.draft(epoch, run_rows, &committed, records);
        if let Some(deduper) = &mut self.deduper {
            deduper.seal();
        }
        let (store, clock, mut outlets) = (self.store.clone(), self.clock.clone(), std::mem::take(&mut self.outlets));
        let rows = std::mem::take(&mut self.size).rows;
        let ahead = outlets.ahead();
        let work = async move {
            let saved = outlets.prepare_and_save(&store, commit, rows).await;
            let delivered = match &saved {
                Ok((commit, Ok(()))) => outlets.deliver(&*clock, epoch, commit).await,
                _ => Ok(()),
            };
            Landed { outlets, saved, delivered }
        };
        let (task, over) = match threads::several() {
            Some(runtime) => {
                let (end, over) = mpsc::channel::<()>();
                let inner = runtime.clone();
                let work = move || {
                    let _end = end;
                    inner.block_on(work)
                };
                (runtime.spawn_blocking(work), Some(Mutex::new(over)))
            }
            None => (tokio::spawn(work), None),
        };
        let (passed, outcomes) = (std::mem::take(&mut self.passed), std::mem::take(&mut self.outcomes));
        self.opened_at = None;
        self.flight = Some(Flight { epoch, passed, outcomes, committed, queue: Vec::new(), ahead, task, over });
    }

    /// Is the commit of an epoch over, so that nobody would wait for it?
    pub(crate) fn may_land(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.task.is_finished())
    }

    /// Waits for the epoch that is being committed, if there is one, and gives the sinks what came meanwhile. What became of it is in `landing`.
    pub(crate) async fn land(&mut self) {
        let Some(mut flight) = self.flight.take() else { return };
        let Landed { outlets, saved, delivered } = match (&mut flight.task).await {
            Ok(landed) => landed,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime shuts down: the sinks are gone, and recovery will tell.
                Err(ended) => {
                    let error = StageError::developer(format!("the epoch was not committed: {ended}"));
                    (self.unclean, self.poisoned) = (true, Some(error.clone()));
                    self.passed.splice(..0, std::mem::take(&mut flight.passed));
                    self.landing = Some(Landing { committed: Err(self.drop_epoch(error).await), lost: Vec::new(), next: Vec::new() });
                    return;
                }
            },
        };
        self.outlets = outlets;
        let (mut lost, mut next) = (Vec::new(), Vec::new());
        let committed = match saved {
            Ok((commit, Ok(()))) => {
                let mut committed = std::mem::take(&mut flight.committed);
                self.is_saved(flight.epoch, &commit, &mut committed);
                match delivered {
                    Ok(()) => {
                        lost = self.hand_over(std::mem::take(&mut flight.queue)).await;
                        Ok(committed)
                    }
                    Err(error) => {
                        self.poisoned = Some(error.clone());
                        Err(CommitError::Undelivered(committed, error))
                    }
                }
            }
            // Nothing of it is stored.
            Err(error) => {
                tracing::warn!(reason = %error, "the epoch could not be made durable; its splits are stored one by one");
                next = std::mem::take(&mut self.passed);
                self.clear().await;
                self.opened_at = None;
                Err(CommitError::Apart(std::mem::take(&mut flight.passed)))
            }
            // Nobody knows whether it is.
            Ok((commit, Err(error))) => {
                let open = (std::mem::take(&mut self.passed), std::mem::take(&mut self.outcomes), std::mem::take(&mut self.size), self.opened_at);
                (self.passed, self.outcomes) = (std::mem::take(&mut flight.passed), std::mem::take(&mut flight.outcomes));
                let mut done = self.conclude(flight.epoch, commit, std::mem::take(&mut flight.committed), Err(error)).await;
                if let Err(CommitError::Dropped { lost, .. }) = &mut done {
                    // What followed is lost with it: nothing can be saved.
                    lost.extend(open.0.iter().map(|item| item.split).filter(|split| !lost.contains(split)).collect::<BTreeSet<_>>());
                } else {
                    (self.passed, self.outcomes, self.size, self.opened_at) = open;
                }
                if done.is_ok() {
                    lost = self.hand_over(std::mem::take(&mut flight.queue)).await;
                }
                done
            }
        };
        self.landing = Some(Landing { committed, lost, next });
    }

    /// Has the sinks do what waited for them. Answers the splits whose rows could not be written, which are gone.
    async fn hand_over(&mut self, queue: Vec<(usize, Queued)>) -> Vec<(usize, StageError)> {
        for (split, queued) in queue {
            let done = match queued {
                Queued::Write(rows, op, begun) => self.outlets.write(&rows, op, begun).await,
                Queued::Look(batch) => self.outlets.look(&batch).await,
                Queued::Rejects(lines) => self.outlets.keep(|| Cow::Owned(lines)),
            };
            if let Err(error) = done {
                let mut lost = vec![(split, error)];
                lost.extend(self.write_anew(split).await);
                return lost;
            }
        }
        self.size.files = self.outlets.changed_files();
        Vec::new()
    }
}
