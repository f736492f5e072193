//! Transforms: what changes rows between source and sink.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::{PlanError, Reject, Split, StageError};

/// What one `apply` brings.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Rows in the planned output schema.
    pub batch: RecordBatch,
    /// Rows that could not be changed.
    pub rejects: Vec<Reject>,
}

/// What changes rows between source and sink.
pub trait Transform: Send + Sync {
    /// Fixes the input schema and answers the output schema. Called once, before `start`.
    ///
    /// # Errors
    /// All faults, each with its span.
    fn plan(&mut self, input: &SchemaRef) -> Result<SchemaRef, Vec<PlanError>>;

    /// What is legal but odd about it, once it is planned.
    fn warnings(&self) -> Vec<PlanError> {
        Vec::new()
    }

    /// The column of its input that holds what `column` of its output holds, value for value, once it is planned; `None` where there is none, or
    /// where nobody can tell. By this, what is missing from the stored rows is asked for in the source's words.
    fn origin(&self, _column: &str) -> Option<String> {
        None
    }

    /// The transform of one split: its memory, if it has any, lives as long as the split.
    fn start(&self, split: &Split) -> Box<dyn TransformRun>;
}

/// A transform at work on one split.
pub trait TransformRun: Send {
    /// Changes one batch.
    ///
    /// # Errors
    /// Fails the split. A row that cannot be changed is a reject, not an error.
    fn apply(&mut self, batch: RecordBatch) -> Result<Applied, StageError>;

    /// What is still held when the split is done; most transforms hold nothing.
    ///
    /// # Errors
    /// Fails the split.
    fn finish(&mut self) -> Result<Option<Applied>, StageError> {
        Ok(None)
    }
}
