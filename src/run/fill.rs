//! Rows that one sink lacks, copied from another that holds them, for `pipeline state rebuild --fill`.

use std::sync::Arc;

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{Category, Ports, Split, StageError};

use super::drive::error_record;
use super::epoch::{CommitError, EpochWriter, OpenSink, Passed};
use super::pending;
use super::worker::Chunk;
use crate::state::{Counts, RunRecord, RunStatus, SplitRecord, SplitStatus, Store};

/// Rows in one commit.
const EPOCH_ROWS: u64 = 100_000;

/// One sink at work alone: what it is given is not deduplicated, and committed by epochs as a run of its own.
pub struct Fill {
    writer: EpochWriter,
    record: RunRecord,
    ports: Ports,
}

impl Fill {
    /// Brings the sink to the last committed epoch and opens a run for what it will be given.
    ///
    /// # Errors
    /// `storage` when the state or the sink is not ready.
    pub async fn begin(pipeline: &str, sink: OpenSink, store: Arc<dyn Store>, ports: &Ports) -> Result<Self, StageError> {
        let now = ports.clock.now();
        let split = SplitRecord { attempts: 1, ..pending(Split::new(sink.id.as_str())) };
        let record = RunRecord {
            run_id: format!("{pipeline}@{}/{}", pipeline_contract::rfc3339(now), sink.id),
            tick: now,
            cause: "rebuild".to_owned(),
            window: None,
            started_at: now,
            ended_at: None,
            status: RunStatus::Open,
            rows: Counts::default(),
            error: None,
            splits: vec![split],
        };
        let mut writer = EpochWriter::new(store, Arc::clone(&ports.clock), None, vec![sink], None, None, false);
        writer.recover(false).await?;
        writer.store.start_run(&record, false)?;
        writer.run_id.clone_from(&record.run_id);
        writer.split_names = record.splits.iter().map(|split| split.split.id.clone()).collect();
        Ok(Self { writer, record, ports: ports.clone() })
    }

    /// Writes rows.
    ///
    /// # Errors
    /// When they cannot be stored. What was committed before stays; call [`Fill::end`] all the same.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<(), StageError> {
        let read = batch.num_rows() as u64;
        let chunk = Chunk::of(batch, read);
        let item = Passed { split: 0, chunks: vec![chunk], complete: false, replays: None };
        self.writer.pass(item).await.map_err(|lost| {
            lost.into_iter().map(|(_, error)| error).next().unwrap_or_else(|| StageError::developer("rows were lost without an error"))
        })?;
        if self.writer.rows() < EPOCH_ROWS { Ok(()) } else { self.commit().await }
    }

    async fn commit(&mut self) -> Result<(), StageError> {
        let before = self.record.splits.clone();
        let stored = |index: usize, rows: &Counts, _: Option<&pipeline_contract::Position>, _: bool| {
            let mut split = before.get(index).cloned().unwrap_or_else(|| pending(Split::new("")));
            split.rows.add(rows);
            split
        };
        let committed = match self.writer.commit(&self.record.rows, stored).await {
            Ok(committed) => committed,
            Err(CommitError::Dropped { error, .. } | CommitError::Undelivered(_, error)) => return Err(error),
            Err(CommitError::Apart(_)) => return Err(StageError::operator(Category::Storage, "the rows could not be stored together")),
        };
        for (_, rows, ..) in &committed.splits {
            self.record.rows.add(rows);
            self.record.splits.iter_mut().for_each(|split| split.rows.add(rows));
        }
        Ok(())
    }

    /// Commits what was written, unless something failed, and closes the run. Answers how many rows were stored.
    ///
    /// # Errors
    /// What failed.
    pub async fn end(mut self, written: Result<(), StageError>) -> Result<u64, StageError> {
        let ended = match written {
            Ok(()) => self.commit().await,
            Err(error) => Err(error),
        };
        self.record.status = RunStatus::Ok;
        let mut split = SplitStatus::Ok;
        if let Err(error) = &ended {
            self.writer.abort().await;
            self.record.status = RunStatus::Failed;
            self.record.error = Some(error_record(error));
            split = SplitStatus::Failed;
        }
        self.record.splits.iter_mut().for_each(|of_run| of_run.status = split);
        self.record.ended_at = Some(self.ports.clock.now());
        // What could not be taken back is taken back by the next process, which needs the run open for it.
        if !self.writer.unclean() {
            self.writer.store.end_run(&self.record)?;
        }
        ended.map(|()| self.record.rows.written)
    }
}
