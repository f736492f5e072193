//! The commit of an epoch, and what becomes of one that cannot be committed.

use std::time::Duration;

use pipeline_contract::{Act, Epoch, Position, StageError};

use super::{CommitError, Committed, EpochWriter, Size};
use crate::run::quarantine::Quarantine;
use crate::stages::dedupe::Deduper;
use crate::state::{Counts, EpochCommit, SplitRecord};

impl EpochWriter {
    /// Commits the open epoch; the one before has landed. `records` makes the state's record of a split from what is stored of it now.
    pub(crate) async fn commit(
        &mut self,
        run_rows: &Counts,
        records: impl Fn(usize, &Counts, Option<&Position>, bool) -> SplitRecord,
    ) -> Result<Committed, CommitError> {
        let committed = self.summary();
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
            match self.outlets.prepare_and_save(&self.store, commit, self.size.rows).await {
                Ok(saved) => break saved,
                Err(error) if error.act == Act::Split && self.splits().len() > 1 => {
                    let items = std::mem::take(&mut self.passed);
                    self.forget().await;
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
        self.conclude(epoch, commit, committed, saved).await
    }

    /// Ends the commit of the open epoch, once it was saved, or may have been.
    pub(super) async fn conclude(
        &mut self,
        epoch: Epoch,
        commit: EpochCommit,
        mut committed: Committed,
        saved: Result<(), StageError>,
    ) -> Result<Committed, CommitError> {
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
        self.is_saved(epoch, &commit, &mut committed);
        self.passed.clear();
        self.outcomes.clear();
        self.size = Size::default();
        self.opened_at = None;
        match self.outlets.deliver(&*self.clock, epoch, &commit).await {
            Ok(()) => Ok(committed),
            Err(error) => {
                self.poisoned = Some(error.clone());
                Err(CommitError::Undelivered(committed, error))
            }
        }
    }

    /// From now on the epoch counts.
    pub(super) fn is_saved(&mut self, epoch: Epoch, commit: &EpochCommit, committed: &mut Committed) {
        self.epoch = epoch;
        committed.chunks = commit.dedupe.chunks.iter().map(|(key, _)| key.clone()).collect();
        if let Some(deduper) = &mut self.deduper {
            deduper.committed();
        }
    }

    /// What the state is to save of the open epoch, but for what the sinks will say.
    pub(super) fn draft(
        &mut self,
        epoch: Epoch,
        run_rows: &Counts,
        committed: &Committed,
        records: impl Fn(usize, &Counts, Option<&Position>, bool) -> SplitRecord,
    ) -> EpochCommit {
        let mut rows = *run_rows;
        rows.add(&self.outcomes.iter().map(|outcome| &outcome.rows).sum());
        EpochCommit {
            epoch,
            run_id: self.run_id.clone(),
            rows,
            splits: committed.splits.iter().map(|(i, counts, position, done)| (*i, records(*i, counts, position.as_ref(), *done))).collect(),
            sinks: Vec::new(),
            dedupe: self.deduper.as_mut().map(Deduper::to_save).unwrap_or_default(),
            rejects: self.outlets.quarantine.as_ref().map(Quarantine::added).unwrap_or_default(),
            forgotten: Vec::new(),
            replayed: self.passed.iter().zip(&self.outcomes).flat_map(|(item, outcome)| item.replayed(outcome)).collect(),
        }
    }

    pub(super) async fn drop_epoch(&mut self, error: StageError) -> CommitError {
        let splits = self.splits();
        let ended = |split: &usize| {
            let of_it = || self.passed.iter().filter(|item| item.split == *split);
            of_it().all(|item| item.chunks.iter().all(|chunk| chunk.read == 0)) && of_it().any(|item| item.complete)
        };
        let (done, lost) = splits.into_iter().partition(ended);
        self.forget().await;
        self.opened_at = None;
        CommitError::Dropped { lost, done, error }
    }

    fn splits(&self) -> Vec<usize> {
        let mut splits: Vec<usize> = self.passed.iter().map(|item| item.split).collect();
        splits.dedup();
        splits
    }

    pub(super) fn summary(&self) -> Committed {
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
