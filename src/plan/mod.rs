//! A pipeline's definition wired and type-checked: pure, no I/O. All faults at once.

mod budget;
mod cases;
mod drawn;
mod expected;
mod odd;
mod registry;
#[cfg(test)]
mod tests;
mod together;
mod wiring;

use std::path::PathBuf;

use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{ColumnType, Level, PlanError, SinkCapabilities, SinkPlan};
use serde_json::{Value, json};

use crate::config::{self, PipelineDef};
use crate::notify::Target;
use crate::run::{Parts, QUARANTINE};
use crate::state::Binding;
use crate::testing::Case;
use crate::watch::Expected;

pub use cases::{Columns, cases};
pub use drawn::{Drawn, drawn};
pub use registry::{Registry, Unknown};
pub use together::{Facts, together};

/// A sink as planned.
#[derive(Clone, Debug)]
pub struct PlannedSink {
    /// Its name in the state.
    pub id: String,
    /// Its `type`.
    pub type_name: String,
    /// What it makes of its input.
    pub plan: SinkPlan,
    /// What it can do.
    pub capabilities: SinkCapabilities,
}

/// What its stages are called in the pipeline file.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The trigger's `type`.
    pub trigger: String,
    /// The source's `type`.
    pub source: String,
    /// The transforms' `type`s, in order.
    pub transforms: Vec<String>,
}

/// A pipeline that fits together.
pub struct Plan {
    /// Its stages, ready to run.
    pub parts: Parts,
    /// What its state must speak of.
    pub binding: Binding,
    /// Its sinks.
    pub sinks: Vec<PlannedSink>,
    /// The columns that reach dedupe and sinks.
    pub schema: SchemaRef,
    /// The dedupe key; empty when there is none.
    pub keys: Vec<String>,
    /// Where rejects are kept.
    pub quarantine: Option<PathBuf>,
    /// Where it logs.
    pub log: config::LogConfig,
    /// What its stages are called.
    pub outline: Outline,
    /// What it should look like: how fresh, how complete.
    pub expected: Expected,
    /// Who is told when something is wrong.
    pub notify: Vec<Target>,
    /// What it is for.
    pub description: Option<String>,
    /// The tests in its file.
    pub cases: Vec<Case>,
}

impl Plan {
    /// The column that `--from` and `--to` of `pipeline read` speak of: the key's time, else the first time that is stored.
    pub fn time_column(&self) -> Option<String> {
        let is_time =
            |name: &&String| self.schema.field_with_name(name).is_ok_and(|field| ColumnType::of(field.data_type()) == Some(ColumnType::Timestamp));
        let stored = self.sinks.first().map(|sink| sink.plan.stored.as_slice()).unwrap_or_default();
        self.keys.iter().find(is_time).or_else(|| stored.iter().find(is_time)).cloned()
    }
}

/// Wires a definition. A plan comes only without errors; warnings may come with it. The facts are what can be told of a faulty pipeline as
/// well: see [`together`].
pub fn plan(def: &PipelineDef<'_>, registry: &Registry) -> (Option<Plan>, Facts, Vec<PlanError>) {
    let (plan, facts, mut faults) = wiring::wire(def, registry);
    def.hide(&mut faults);
    let failed = def.is_broken() || faults.iter().any(|fault| fault.level == Level::Error);
    (plan.filter(|_| !failed), facts, faults)
}

/// What the state of such a pipeline speaks of; see [`Binding`].
fn binding(keys: &[String], schema: &SchemaRef, sinks: &[PlannedSink], quarantine: Option<&PathBuf>) -> Binding {
    let mut binding = Binding::default();
    let mut bind = |name: String, value: Value| binding.0.insert(name, value);
    bind("dedupe.keys".to_owned(), json!(keys));
    let stored = sinks.first().map(|sink| sink.plan.stored.as_slice()).unwrap_or_default();
    let typed = |name: &String| {
        let ty = schema.field_with_name(name).ok().and_then(|field| ColumnType::of(field.data_type()));
        format!("{name}: {}", ty.map_or("?", ColumnType::name))
    };
    bind("stored columns".to_owned(), json!(stored.iter().map(typed).collect::<Vec<_>>()));
    for sink in sinks {
        bind(format!("{}.type", sink.id), json!(sink.type_name));
        match &sink.plan.identity {
            Value::Object(parts) => parts.iter().for_each(|(name, value)| {
                bind(format!("{}.{name}", sink.id), value.clone());
            }),
            other => {
                bind(sink.id.clone(), other.clone());
            }
        }
    }
    if let Some(path) = quarantine {
        bind(format!("{QUARANTINE}.path"), json!(path));
    }
    binding
}
