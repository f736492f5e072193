//! A transform that keeps positive values, and can break each promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pipeline_contract::arrow::array::{Float64Array, RecordBatch};
use pipeline_contract::arrow::{Array, SchemaRef};
use pipeline_contract::testkit::{Promise, Report, TransformKit};
use pipeline_contract::{
    Applied, BuildContext, ConfigTable, Descriptor, Kind, PlanError, Plugin, Reject, Row, Split, Stage, StageError, Transform, TransformRun, rows,
};
use serde::Deserialize;

use crate::Breaks;

rows! {
    /// A row.
    pub(crate) struct Number {
        /// How much.
        pub value: f64,
    }
}

pub(crate) fn check(breaks: Breaks) -> Report {
    let input = Number::batch(&(0..20).map(|n| Number { value: f64::from(n % 7) - 2.0 }).collect::<Vec<_>>());
    TransformKit::new(Toy(breaks, Arc::default()), "least = 0.0", input).check()
}

/// The options.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The least that is kept.
    least: f64,
}

struct Toy(Breaks, Arc<AtomicUsize>);

impl Plugin for Toy {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Transform,
            type_name: self.0.name("toy_transform"),
            summary: "A toy",
            config: || schemars::schema_for!(Config),
            sample: "type = \"toy_transform\"\nleast = 1.5\n",
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let config: Config = self.0.parse("transform \"toy_transform\"", config)?;
        Ok(Stage::Transform(Box::new(Least(self.0, config, self.1.clone()))))
    }
}

struct Least(Breaks, Config, Arc<AtomicUsize>);

impl Transform for Least {
    fn plan(&mut self, input: &SchemaRef) -> Result<SchemaRef, Vec<PlanError>> {
        Ok(input.clone())
    }

    fn start(&self, _: &Split) -> Box<dyn TransformRun> {
        Box::new(Run(self.0, self.1.clone(), self.2.clone()))
    }
}

struct Run(Breaks, Config, Arc<AtomicUsize>);

impl TransformRun for Run {
    fn apply(&mut self, batch: RecordBatch) -> Result<Applied, StageError> {
        let Run(breaks, config, applied) = self;
        let values = batch.column(0).as_any().downcast_ref::<Float64Array>().unwrap();
        let (kept, rest): (Vec<f64>, Vec<f64>) = values.values().iter().partition(|value| **value >= config.least);
        let mut rows: Vec<Number> = kept.into_iter().map(|value| Number { value }).collect();
        if breaks.it(Promise::Batches) {
            rows.truncate(1);
        }
        let more = if breaks.it(Promise::Pure) { applied.fetch_add(1, Ordering::SeqCst) as f64 } else { 0.0 };
        rows.iter_mut().for_each(|row| row.value += more);
        let message = if breaks.it(Promise::Applies) { "" } else { "too little" };
        let rejects = rest.into_iter().map(|value| Reject::new(value, "least", message)).collect();
        Ok(Applied { batch: Number::batch(&rows), rejects })
    }
}
