//! Sources for which the whole of [`Source`](crate::Source) is more than they need.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use serde_json::Value;

use crate::{Position, Read, Reader, Reject, Row, RunContext, Source, SourceCapabilities, Split, Stage, StageError};

/// A source whose splits are known from its config and come whole, each by one call: one page, one answer, one file.
///
/// [`Stage::simple`] makes a stage of it, which keeps what readers promise: a read that is dropped or fails has changed nothing, and a split
/// that was read is not read again. What comes page by page, or is too much for the memory, implements [`Source`](crate::Source).
#[async_trait]
pub trait SimpleSource: Send + Sync + 'static {
    /// Its rows; see [`rows!`](crate::rows).
    type Row: Row + Send;

    /// It minds [`RunContext::window`] (`--from`, `--to`).
    const WINDOWS: bool = false;

    /// How many requests a split costs, where that is known.
    const REQUESTS: Option<u64> = None;

    /// The splits, in the order in which their rows are stored.
    fn splits(&self) -> Vec<Split>;

    /// All rows of a split, and what could not be read as a row.
    ///
    /// # Errors
    /// Fails the split, or is retried, as [`StageError::act`] says.
    async fn read(&self, split: &Split, run: &RunContext) -> Result<(Vec<Self::Row>, Vec<Reject>), StageError>;

    /// Asks the far side whether it is there and knows us.
    ///
    /// # Errors
    /// What stands in the way.
    async fn probe(&self, run: &RunContext) -> Result<(), StageError>;
}

impl Stage {
    /// The stage of a source whose splits come whole.
    pub fn simple(source: impl SimpleSource) -> Self {
        Self::Source(Box::new(Simple(Arc::new(source))))
    }
}

struct Simple<S>(Arc<S>);

#[async_trait]
impl<S: SimpleSource> Source for Simple<S> {
    fn schema(&self) -> SchemaRef {
        S::Row::schema()
    }

    fn capabilities(&self) -> SourceCapabilities {
        let requests_per_run = S::REQUESTS.map(|requests| requests * self.0.splits().len() as u64);
        SourceCapabilities { windows: S::WINDOWS, resumable: true, requests_per_run }
    }

    async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
        Ok(self.0.splits())
    }

    async fn open(&self, split: &Split, resume: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        Ok(Box::new(SimpleReader { source: self.0.clone(), split: split.clone(), run: run.clone(), done: resume.is_some() }))
    }

    async fn probe(&self, run: &RunContext) -> Result<(), StageError> {
        self.0.probe(run).await
    }
}

struct SimpleReader<S> {
    source: Arc<S>,
    split: Split,
    run: RunContext,
    done: bool,
}

#[async_trait]
impl<S: SimpleSource> Reader for SimpleReader<S> {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        if self.done {
            return Ok(None);
        }
        let (rows, rejects) = self.source.read(&self.split, &self.run).await?;
        // Nothing is awaited from here on.
        self.done = true;
        Ok(Some(Read { batch: S::Row::batch(&rows), rejects, position: Position(Value::Bool(true)) }))
    }
}
