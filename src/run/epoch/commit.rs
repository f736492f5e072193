//! The commit of an epoch, and what becomes of one that cannot be committed.

use std::time::Duration;

use pipeline_contract::{Act, Category, Epoch, Position, StageError};

use super::{COMMIT_TRIES, CommitError, Committed, EpochWriter, Size};
use crate::run::quarantine::Quarantine;
use crate::stages::dedupe::Deduper;
use crate::state::{Counts, Durable, EpochCommit, SplitRecord};
use pipeline_files::threads;

/// Fewer rows are not worth another thread.
const MANY_ROWS: u64 = 10_000;

impl EpochWriter {
    /// Commits the open epoch. `records` makes the state's record of a split from what is stored of it now.
    pub(crate) async fn commit(
        &mut self,
        run_rows: &Counts,
        records: impl Fn(usize, &Counts, Option<&Position>, bool) -> SplitRecord,
    ) -> Result<Committed, CommitError> {
        let mut committed = self.summary();
        if self.passed.is_empty() {
            return Ok(committed);
        }
        if self.preview.is_some() {
            // Nothing is stored in a dry run; the overlay goes on, so that later rows meet earlier ones.
            self.passed.clear();
            self.outcomes.clear();
            self.size = Size::default();
            return Ok(committed);
        }
        if let Some(error) = self.poisoned.clone() {
            return Err(self.drop_epoch(error).await);
        }
        let epoch = self.epoch.saturating_add(1);
        let mut again = true;
        let (commit, saved) = loop {
            let commit = self.draft(epoch, run_rows, &committed, &records);
            match self.prepare_and_save(commit).await {
                Ok(saved) => break saved,
                Err(error) if error.act == Act::Split && self.splits().len() > 1 => {
                    let items = std::mem::take(&mut self.passed);
                    self.abort().await;
                    self.opened_at = None;
                    return Err(CommitError::Apart(items));
                }
                Err(error) if again && error.is_transient() => {
                    again = false;
                    tracing::warn!(reason = %error, "the epoch is prepared once more");
                    self.clock.sleep(Duration::from_secs(1)).await;
                    if !self.write_anew(usize::MAX).await.is_empty() {
                        return Err(self.drop_epoch(error).await);
                    }
                }
                Err(error) => return Err(self.drop_epoch(error).await),
            }
        };
        if let Err(error) = saved {
            // The outcome is unknown: what a state that was opened anew says is what happened.
            match self.store.reopen().and_then(|()| self.store.last_epoch()) {
                Ok(Some((last, _))) if last == epoch => tracing::warn!(%error, epoch, "the state reported an error, but the epoch is saved"),
                Ok(_) => return Err(self.drop_epoch(error).await),
                // Not even readable: neither take back nor go on. Recovery will tell.
                Err(_) => {
                    self.unclean = true;
                    self.poisoned = Some(error.clone());
                    return Err(self.drop_epoch(error).await);
                }
            }
        }
        self.epoch = epoch;
        committed.chunks = commit.dedupe.chunks.iter().map(|(key, _)| key.clone()).collect();
        if let Some(deduper) = &mut self.deduper {
            deduper.committed();
        }
        self.passed.clear();
        self.outcomes.clear();
        self.size = Size::default();
        self.opened_at = None;
        match self.deliver(epoch, &commit).await {
            Ok(()) => Ok(committed),
            Err(error) => {
                self.poisoned = Some(error.clone());
                Err(CommitError::Undelivered(committed, error))
            }
        }
    }

    /// What the state is to save of the open epoch, but for what the sinks will say.
    fn draft(
        &self,
        epoch: Epoch,
        run_rows: &Counts,
        committed: &Committed,
        records: impl Fn(usize, &Counts, Option<&Position>, bool) -> SplitRecord,
    ) -> EpochCommit {
        let mut rows = *run_rows;
        rows.add(&self.counts());
        EpochCommit {
            epoch,
            run_id: self.run_id.clone(),
            rows,
            splits: committed.splits.iter().map(|(i, counts, position, done)| (*i, records(*i, counts, position.as_ref(), *done))).collect(),
            sinks: Vec::new(),
            dedupe: self.deduper.as_ref().map(Deduper::changes).unwrap_or_default(),
            rejects: self.quarantine.as_ref().map(Quarantine::added).unwrap_or_default(),
            forgotten: Vec::new(),
            replayed: self.passed.iter().zip(&self.outcomes).flat_map(|(item, outcome)| item.replayed(outcome)).collect(),
        }
    }

    /// Makes the epoch durable in every sink, and saves it: answers what was to be saved, and how that went. `Err` when a sink could not do its
    /// part: nothing is saved then.
    async fn prepare_and_save(&mut self, mut commit: EpochCommit) -> Result<(EpochCommit, Result<(), StageError>), StageError> {
        let epoch = commit.epoch;
        let Some(runtime) = threads::several().filter(|_| self.size.rows >= MANY_ROWS) else {
            commit.durable(self.prepare(epoch).await?);
            let saved = self.store.commit_epoch(&commit);
            return Ok((commit, saved));
        };
        // While the sinks wait for their disk, the state writes what does not depend on them.
        let (answer, wait) = std::sync::mpsc::sync_channel(1);
        let store = self.store.clone();
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

    /// Makes a decided epoch visible in every sink: tried until it succeeds, within reason.
    async fn deliver(&mut self, epoch: Epoch, commit: &EpochCommit) -> Result<(), StageError> {
        let mut last = None;
        for attempt in 0..COMMIT_TRIES {
            if attempt > 0 {
                self.clock.sleep(Duration::from_millis(200) * 2_u32.pow(attempt)).await;
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

    async fn drop_epoch(&mut self, error: StageError) -> CommitError {
        let splits = self.splits();
        let ended = |split: &usize| {
            let of_it = || self.passed.iter().filter(|item| item.split == *split);
            of_it().all(|item| item.chunks.iter().all(|chunk| chunk.read == 0)) && of_it().any(|item| item.complete)
        };
        let (done, lost) = splits.into_iter().partition(ended);
        self.abort().await;
        self.opened_at = None;
        CommitError::Dropped { lost, done, error }
    }

    fn splits(&self) -> Vec<usize> {
        let mut splits: Vec<usize> = self.passed.iter().map(|item| item.split).collect();
        splits.dedup();
        splits
    }

    fn summary(&self) -> Committed {
        let mut splits: Vec<(usize, Counts, Option<Position>, bool)> = Vec::new();
        for (item, outcome) in self.passed.iter().zip(&self.outcomes) {
            match splits.iter_mut().find(|(split, ..)| *split == item.split) {
                Some((_, rows, position, done)) => {
                    rows.add(&outcome.rows);
                    position.clone_from(&outcome.position);
                    *done |= item.complete;
                }
                None => splits.push((item.split, outcome.rows, outcome.position.clone(), item.complete)),
            }
        }
        Committed { splits, chunks: Vec::new() }
    }
}
