//! What the built-in transforms share: they remember nothing from batch to batch, so one planned step serves every split.

use std::sync::Arc;

use pipeline_contract::arrow::{RecordBatch, SchemaRef};
use pipeline_contract::{Applied, PlanError, Split, Stage, StageError, Transform, TransformRun};

use crate::stages::columns::same_columns;

/// A checked config that can be wired to an input.
pub(super) trait Planned: Send + Sync + 'static {
    /// The step for this input, and the schema of what it makes.
    fn plan(&self, input: &SchemaRef) -> Result<(SchemaRef, Arc<dyn Step>), Vec<PlanError>>;
}

/// What happens to one batch.
pub(super) trait Step: Send + Sync {
    fn apply(&self, batch: RecordBatch) -> Result<Applied, StageError>;

    /// The column of the input that holds what this column of the output holds, value for value.
    fn origin(&self, input: &SchemaRef, column: &str) -> Option<String>;

    /// What is legal but odd about it.
    fn warnings(&self) -> Vec<PlanError> {
        Vec::new()
    }
}

/// A stage out of a config.
pub(super) fn stage(config: impl Planned) -> Stage {
    Stage::Transform(Box::new(Stateless { config, wired: None }))
}

struct Stateless<C> {
    config: C,
    wired: Option<Wired>,
}

#[derive(Clone)]
struct Wired {
    input: SchemaRef,
    step: Arc<dyn Step>,
}

impl<C: Planned> Transform for Stateless<C> {
    fn plan(&mut self, input: &SchemaRef) -> Result<SchemaRef, Vec<PlanError>> {
        let (output, step) = self.config.plan(input)?;
        self.wired = Some(Wired { input: input.clone(), step });
        Ok(output)
    }

    fn warnings(&self) -> Vec<PlanError> {
        self.wired.as_ref().map(|wired| wired.step.warnings()).unwrap_or_default()
    }

    fn origin(&self, column: &str) -> Option<String> {
        self.wired.as_ref().and_then(|wired| wired.step.origin(&wired.input, column))
    }

    fn start(&self, _: &Split) -> Box<dyn TransformRun> {
        Box::new(Run(self.wired.clone()))
    }
}

struct Run(Option<Wired>);

impl TransformRun for Run {
    fn apply(&mut self, batch: RecordBatch) -> Result<Applied, StageError> {
        match &self.0 {
            Some(wired) if same_columns(&wired.input, &batch.schema()) => wired.step.apply(batch),
            Some(wired) => Err(StageError::developer(format!("a transform planned for {} was given {}", wired.input, batch.schema()))),
            None => Err(StageError::developer("a transform was started before it was planned")),
        }
    }
}

/// A column that a step leaves as it is.
pub(super) fn same(input: &SchemaRef, column: &str) -> Option<String> {
    input.index_of(column).is_ok().then(|| column.to_owned())
}

/// No row failed.
pub(super) fn all_good(batch: RecordBatch) -> Applied {
    Applied { batch, rejects: Vec::new() }
}
