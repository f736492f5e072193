//! Rejects tried again, after a rule was mended.

use pipeline_contract::{Category, Split, StageError, batch_from_json};
use tokio_util::sync::CancellationToken;

use super::advice::advised;
use super::drive::error_record;
use super::epoch::{CommitError, Passed};
use super::quarantine::StoredReject;
use super::{Engine, worker};
use crate::state::{Counts, RunRecord, RunStatus, SplitRecord, SplitStatus};

/// What became of rejects that were replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Rows that pass now: stored, or known already.
    pub accepted: u64,
    /// Of those, rows that were stored.
    pub written: u64,
    /// Rows that are still rejected, with the reason they have now: row number in the quarantine, rule, message.
    pub still_rejected: Vec<(usize, String, String)>,
    /// Rows that the source could not read as rows: to be fetched again.
    pub not_replayable: u64,
}

impl Engine {
    /// Takes rejects through the pipeline again, from the stage that rejected them on, and stores those that pass in one epoch.
    ///
    /// # Errors
    /// `storage` when they cannot be stored; nothing of them is then.
    pub async fn replay(&mut self, rejects: &[StoredReject], cancel: &CancellationToken) -> Result<ReplayReport, StageError> {
        self.resume(cancel, false).await?;
        self.recover(false).await?;
        let mut report = ReplayReport::default();
        let mut record = self.replay_record(rejects);
        self.store.start_run(&record, false)?;
        self.writer.run_id.clone_from(&record.run_id);
        self.writer.split_names = record.splits.iter().map(|split| split.split.id.clone()).collect();
        let stored = self.pass_rejects(rejects, &mut record, &mut report).await;
        let stored = stored.map_err(|error| advised(&error, &self.settings.file));
        if let Err(error) = &stored {
            self.writer.abort().await;
            record.status = RunStatus::Failed;
            record.error = Some(error_record(error));
        } else {
            record.status = RunStatus::Ok;
        }
        self.finish(&mut record, true);
        stored.map(|()| report)
    }

    fn replay_record(&self, rejects: &[StoredReject]) -> RunRecord {
        let request = self.now(None);
        let mut names: Vec<&str> = Vec::new();
        for reject in rejects {
            if !names.contains(&reject.split.as_str()) {
                names.push(&reject.split);
            }
        }
        let split = |name: &&str| SplitRecord {
            split: Split::new(*name),
            status: SplitStatus::Ok,
            rows: Counts::default(),
            attempts: 1,
            position: None,
            error: None,
        };
        RunRecord {
            run_id: format!("{}@{}", self.name, pipeline_contract::rfc3339(request.tick)),
            tick: request.tick,
            cause: "replay".to_owned(),
            window: None,
            started_at: self.ports.clock.now(),
            ended_at: None,
            status: RunStatus::Open,
            rows: Counts::default(),
            error: None,
            splits: names.iter().map(split).collect(),
        }
    }

    async fn pass_rejects(&mut self, rejects: &[StoredReject], record: &mut RunRecord, report: &mut ReplayReport) -> Result<(), StageError> {
        for (number, reject) in rejects.iter().enumerate() {
            let split = record.splits.iter().position(|split| split.split.id == reject.split).unwrap_or_default();
            match self.again(reject)? {
                Again::NotReplayable => report.not_replayable += 1,
                Again::Rejected(rule, message) => report.still_rejected.push((number, rule, message)),
                Again::Passed(chunk) => {
                    let replays = Some((reject.hash(), reject.stage == "dedupe"));
                    let item = Passed { split, chunks: vec![*chunk], complete: true, replays };
                    let rows = self.writer.pass(item).await.map_err(|lost| first(lost.into_iter().map(|(_, error)| error)))?;
                    if rows.rejected == 0 {
                        report.accepted += 1;
                    } else {
                        report.still_rejected.push((
                            number,
                            "dedupe".to_owned(),
                            "other values are stored under its key, or its key is empty".to_owned(),
                        ));
                    }
                }
            }
        }
        let rows = Counts::default();
        let splits = record.splits.clone();
        let stored = |index: usize, rows: &Counts, _: Option<&pipeline_contract::Position>, _: bool| {
            let mut split = splits.get(index).cloned().unwrap_or_else(|| drive_split(index));
            split.rows.add(rows);
            split
        };
        let committed = match self.writer.commit(&rows, stored).await {
            Ok(committed) => committed,
            Err(CommitError::Dropped { error, .. } | CommitError::Undelivered(_, error)) => return Err(error),
            Err(CommitError::Apart(_)) => {
                return Err(StageError::split(Category::Storage, "a file cannot be written, and nothing was replayed")
                    .help("`pipeline run FILE --once` says which; mend that first"));
            }
        };
        for (index, counts, ..) in &committed.splits {
            record.rows.add(counts);
            if let Some(split) = record.splits.get_mut(*index) {
                split.rows.add(counts);
            }
        }
        report.written = record.rows.written;
        Ok(())
    }

    fn again(&self, reject: &StoredReject) -> Result<Again, StageError> {
        let place = match reject.stage.strip_prefix("transforms.").map(str::parse::<usize>) {
            Some(Ok(place)) => place,
            Some(Err(_)) => return Ok(Again::NotReplayable),
            None if reject.stage == "source" => return Ok(Again::NotReplayable),
            None => self.stage_inputs.len().saturating_sub(1),
        };
        let Some(schema) = self.stage_inputs.get(place) else { return Ok(Again::NotReplayable) };
        let rows = batch_from_json(schema, std::slice::from_ref(&reject.row)).map_err(|error| StageError::developer(error.to_string()))?;
        if let Some(unfit) = rows.rejects.into_iter().next() {
            return Ok(Again::Rejected(unfit.rule, unfit.message));
        }
        let chunk = worker::replay(&self.route, &Split::new(reject.split.as_str()), &reject.stage, rows.batch)?;
        Ok(match chunk.rejects.first() {
            Some(staged) => Again::Rejected(staged.reject.rule, staged.reject.message),
            None => Again::Passed(Box::new(chunk)),
        })
    }
}

enum Again {
    NotReplayable,
    Rejected(String, String),
    Passed(Box<worker::Chunk>),
}

fn first(mut errors: impl Iterator<Item = StageError>) -> StageError {
    errors.next().unwrap_or_else(|| StageError::developer("rows were lost without an error"))
}

fn drive_split(index: usize) -> SplitRecord {
    SplitRecord { split: Split::new(format!("#{index}")), status: SplitStatus::Ok, rows: Counts::default(), attempts: 0, position: None, error: None }
}
