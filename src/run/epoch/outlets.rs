//! Where rows end up, and how an epoch becomes durable and visible there.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{Ahead, Begun, Category, Clock, Epoch, Op, StageError};
use pipeline_files::threads;

use super::OpenSink;
use crate::run::quarantine::Quarantine;
use crate::run::rejects::Lines;
use crate::stages::selected::Selected;
use crate::state::{Durable, EpochCommit, Store};

/// How often a decided commit is tried in one run before the run gives up; the next run goes on with it.
const COMMIT_TRIES: u32 = 5;

/// Fewer rows are not worth another thread.
const MANY_ROWS: u64 = 10_000;

/// What was to be saved, and how that went.
pub(super) type Saved = (EpochCommit, Result<(), StageError>);

/// The sinks of a pipeline, and where it keeps rejects.
#[derive(Default)]
pub(crate) struct Outlets {
    pub(crate) sinks: Vec<OpenSink>,
    pub(crate) quarantine: Option<Quarantine>,
}

impl Outlets {
    /// Who begins with rows while the sinks are elsewhere.
    pub(super) fn ahead(&self) -> Vec<Option<Arc<dyn Ahead>>> {
        self.sinks.iter().map(|open| open.sink.ahead()).collect()
    }

    /// Writes rows, with which sinks may have begun.
    pub(super) async fn write(&mut self, rows: &Selected, op: Op, begun: Vec<Option<Begun>>) -> Result<(), StageError> {
        let mut begun = begun.into_iter();
        for OpenSink { sink, .. } in &mut self.sinks {
            match (begun.next().flatten(), &rows.selection) {
                (Some(begun), _) => sink.write_begun(begun).await?,
                (None, Some(selection)) => sink.write_selected(&rows.batch, selection, op).await?,
                (None, None) => sink.write(&rows.batch, op).await?,
            }
        }
        Ok(())
    }

    pub(super) async fn look(&mut self, stored: &RecordBatch) -> Result<(), StageError> {
        for open in &mut self.sinks {
            open.sink.look(stored).await?;
        }
        Ok(())
    }

    /// Keeps rejects, where any are kept.
    pub(super) fn keep<'a>(&mut self, lines: impl FnOnce() -> Cow<'a, Lines>) -> Result<(), StageError> {
        match &mut self.quarantine {
            Some(quarantine) => quarantine.add(&lines()),
            None => Ok(()),
        }
    }

    /// The files that the open epoch changes, in all sinks.
    pub(super) fn changed_files(&self) -> usize {
        self.sinks.iter().map(|open| open.sink.changed_files()).sum()
    }

    /// Takes back what was written since the last commit. False when something could not be.
    pub(super) async fn abort(&mut self) -> bool {
        let mut clean = true;
        for open in &mut self.sinks {
            if let Err(error) = open.sink.abort().await {
                tracing::warn!(sink = %open.id, %error, "what was written could not be taken back now; the next run will");
                clean = false;
            }
        }
        if let Some(quarantine) = &mut self.quarantine
            && let Err(error) = quarantine.abort()
        {
            tracing::warn!(%error, "what was written to the rejects could not be taken back now; the next run will");
            clean = false;
        }
        clean
    }

    /// Makes an epoch of so many rows durable everywhere, and saves it: answers what was to be saved, and how that went. `Err` when a sink could
    /// not do its part: nothing is saved then.
    pub(super) async fn prepare_and_save(&mut self, store: &Arc<dyn Store>, mut commit: EpochCommit, rows: u64) -> Result<Saved, StageError> {
        let epoch = commit.epoch;
        let Some(runtime) = threads::several().filter(|_| rows >= MANY_ROWS) else {
            commit.durable(self.prepare(epoch).await?);
            let saved = store.commit_epoch(&commit);
            return Ok((commit, saved));
        };
        // While the sinks wait for their disk, the state writes what does not depend on them.
        let (answer, wait) = std::sync::mpsc::sync_channel(1);
        let store = Arc::clone(store);
        let saving = runtime.spawn_blocking(move || {
            let saved = store.commit_epoch_with(&mut commit, &mut || wait.recv().map_err(|_| StageError::developer("the sinks gave up")));
            (commit, saved)
        });
        let prepared = self.prepare(epoch).await;
        let failed = prepared.and_then(|durable| answer.send(durable).or(Ok(()))).err();
        // Without an answer nothing is saved.
        drop(answer);
        match (saving.await, failed) {
            (Ok(_), Some(error)) => Err(error),
            (Ok(saved), None) => Ok(saved),
            (Err(ended), _) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(ended) => Err(StageError::developer(format!("the epoch was not saved: {ended}"))),
            },
        }
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Durable, StageError> {
        let mut durable = Durable::default();
        for open in &mut self.sinks {
            durable.sinks.push((open.id.clone(), open.sink.prepare(epoch).await?));
        }
        if let Some(quarantine) = &mut self.quarantine {
            durable.sinks.push((quarantine.id().to_owned(), quarantine.prepare(epoch)?));
            durable.forgotten = quarantine.forgotten();
        }
        Ok(durable)
    }

    /// Makes a decided epoch visible everywhere: tried until it succeeds, within reason.
    pub(super) async fn deliver(&mut self, clock: &dyn Clock, epoch: Epoch, commit: &EpochCommit) -> Result<(), StageError> {
        let mut last = None;
        for attempt in 0..COMMIT_TRIES {
            if attempt > 0 {
                clock.sleep(Duration::from_millis(200) * 2_u32.pow(attempt)).await;
            }
            match self.deliver_once(epoch, commit).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, epoch, attempt, "a sink could not finish its commit");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| StageError::operator(Category::Storage, "a sink could not finish its commit")))
    }

    async fn deliver_once(&mut self, epoch: Epoch, commit: &EpochCommit) -> Result<(), StageError> {
        for open in &mut self.sinks {
            if let Some((_, state)) = commit.sinks.iter().find(|(id, _)| *id == open.id) {
                open.sink.commit(epoch, state).await?;
            }
        }
        if let Some(quarantine) = &mut self.quarantine
            && let Some((_, state)) = commit.sinks.iter().find(|(id, _)| id == quarantine.id())
        {
            quarantine.commit(epoch, state)?;
        }
        Ok(())
    }
}
