//! A pipeline's definition wired and type-checked: pure, no I/O. All faults at once.

mod registry;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{
    BuildContext, ColumnType, Delivery, Kind, Level, PlanError, SinkCapabilities, SinkInput, SinkPlan, Source, Stage, Transform, Trigger, nearest,
};
use serde_json::{Value, json};

use crate::config::{self, PipelineDef, StageDef};
use crate::run::{CatchUp, Overrun, Parts, QUARANTINE, Settings, SinkPart};
use crate::stages::dedupe::{DedupePlan, OnConflict};
use crate::stages::validate::{OnReject, Validator};
use crate::state::Binding;

pub use registry::Registry;

/// The longest that a run may take when the pipeline file does not say.
const LONGEST_RUN: Duration = Duration::from_secs(3600);

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

/// Wires a definition. A plan comes only without errors; warnings may come with it.
pub fn plan(def: &PipelineDef<'_>, registry: &Registry) -> (Option<Plan>, Vec<PlanError>) {
    let mut faults = Vec::new();
    let plan = Wiring { def, registry, faults: &mut faults }.wire();
    def.hide(&mut faults);
    let failed = faults.iter().any(|fault| fault.level == Level::Error);
    (plan.filter(|_| !failed), faults)
}

struct Wiring<'a, 'b> {
    def: &'a PipelineDef<'b>,
    registry: &'a Registry,
    faults: &'a mut Vec<PlanError>,
}

impl Wiring<'_, '_> {
    /// `None` once a fault hides what comes after it.
    fn wire(mut self) -> Option<Plan> {
        let def = self.def;
        let trigger = self.trigger();
        let source = self.source();
        let built: Vec<Option<Box<dyn Transform>>> = def.transforms.iter().map(|stage| self.transform(stage)).collect();
        let sinks: Vec<_> = def.sinks.iter().map(|stage| self.sink(stage)).collect();
        let settings = trigger.as_ref().map(|trigger| self.settings(trigger.as_ref()));

        let source = source?;
        let mut schema = self.known_types(source.schema(), def.source.as_ref()?)?;
        let mut stage_inputs = Vec::new();
        let mut transforms = Vec::new();
        for (stage, transform) in def.transforms.iter().zip(built) {
            stage_inputs.push(Arc::clone(&schema));
            let mut transform = transform?;
            let output = self.keep(transform.plan(&schema))?;
            schema = self.known_types(output, stage)?;
            transforms.push(transform);
        }
        stage_inputs.push(Arc::clone(&schema));
        let validator = match &def.validate {
            // Its faults hide nothing of what comes after: rules change no columns.
            Some(validate) => self.keep(Validator::new(&schema, validate, def.validate_span.clone())).map(|validator| Some(Arc::new(validator))),
            None => Some(None),
        };
        let keys = self.keys(&schema);
        let replaces = def.dedupe.as_ref().is_some_and(|dedupe| dedupe.on_conflict == OnConflict::KeepLast);
        let planned = self.plan_sinks(sinks, &SinkInput { schema: Arc::clone(&schema), keys: keys.clone(), replaces });
        let (planned, parts): (Vec<_>, Vec<_>) = planned?.into_iter().unzip();
        let dedupe = self.dedupe(&schema, &keys, planned.first().map(|sink: &PlannedSink| sink.plan.stored.as_slice()).unwrap_or_default());
        let quarantine = self.quarantine();
        let binding = binding(&keys, &schema, &planned, quarantine.as_ref());
        let parts = Parts {
            name: Arc::from(def.name.as_str()),
            settings: settings?,
            trigger: trigger?,
            source: Arc::from(source),
            transforms: transforms.into(),
            validator: validator?,
            dedupe: dedupe?,
            sinks: parts,
            quarantine: quarantine.clone(),
            stage_inputs,
        };
        let name = |stage: &Option<StageDef<'_>>| stage.as_ref().map(|stage| stage.type_name.to_string()).unwrap_or_default();
        let transforms = def.transforms.iter().map(|stage| stage.type_name.to_string()).collect();
        let outline = Outline { trigger: name(&def.trigger), source: name(&def.source), transforms };
        Some(Plan { parts, binding, sinks: planned, schema, keys, quarantine, log: def.log.clone(), outline })
    }

    fn keep<T>(&mut self, result: Result<T, Vec<PlanError>>) -> Option<T> {
        result.map_err(|faults| self.faults.extend(faults)).ok()
    }

    fn build(&mut self, kind: Kind, stage: &StageDef<'_>) -> Option<Stage> {
        let plugin = match self.registry.find(kind, &stage.type_name) {
            Ok(plugin) => plugin,
            Err(fault) => {
                self.faults.push(fault);
                return None;
            }
        };
        let context = BuildContext { pipeline: self.def.name.to_string() };
        let built = self.keep(stage.build(plugin, &context))?;
        if built.kind() != kind {
            let text = format!("the plugin \"{}\" calls itself a {kind} and builds a {}", stage.type_name.as_str(), built.kind());
            self.faults.push(stage.type_name.error("E019", text).help("this is a fault of the plugin: tell its author"));
            return None;
        }
        Some(built)
    }

    fn trigger(&mut self) -> Option<Box<dyn Trigger>> {
        match self.build(Kind::Trigger, self.def.trigger.as_ref()?)? {
            Stage::Trigger(trigger) => Some(trigger),
            _ => None,
        }
    }

    fn source(&mut self) -> Option<Box<dyn Source>> {
        match self.build(Kind::Source, self.def.source.as_ref()?)? {
            Stage::Source(source) => Some(source),
            _ => None,
        }
    }

    fn transform(&mut self, stage: &StageDef<'_>) -> Option<Box<dyn Transform>> {
        match self.build(Kind::Transform, stage)? {
            Stage::Transform(transform) => Some(transform),
            _ => None,
        }
    }

    fn sink(&mut self, stage: &StageDef<'_>) -> Option<Box<dyn pipeline_contract::Sink>> {
        match self.build(Kind::Sink, stage)? {
            Stage::Sink(sink) => Some(sink),
            _ => None,
        }
    }

    /// Batches speak five types; whoever brings another is told before it runs.
    fn known_types(&mut self, schema: SchemaRef, stage: &StageDef<'_>) -> Option<SchemaRef> {
        let unknown: Vec<_> = schema.fields().iter().filter(|field| ColumnType::of(field.data_type()).is_none()).collect();
        for field in &unknown {
            let text = format!("\"{}\" brings the column `{}` as {}", stage.type_name.as_str(), field.name(), field.data_type());
            let names = ColumnType::ALL.map(ColumnType::name).join(", ");
            self.faults
                .push(stage.type_name.error("E019", text).help(format!("columns are {names}: this is a fault of the plugin, tell its author")));
        }
        unknown.is_empty().then_some(schema)
    }

    fn keys(&mut self, schema: &SchemaRef) -> Vec<String> {
        let Some(dedupe) = &self.def.dedupe else { return Vec::new() };
        for key in dedupe.keys.iter().filter(|key| schema.field_with_name(key).is_err()) {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let fault = key.error("E014", format!("there is no column `{}` at this point of the pipeline", key.as_str()));
            self.faults.push(match nearest(key, names.iter().copied()) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => fault.help(format!("the columns here are {}", names.join(", "))),
            });
        }
        dedupe.keys.iter().map(|key| key.to_string()).collect()
    }

    fn plan_sinks(&mut self, sinks: Vec<Option<Box<dyn pipeline_contract::Sink>>>, input: &SinkInput) -> Option<Vec<(PlannedSink, SinkPart)>> {
        let whole = sinks.iter().all(Option::is_some);
        let mut planned = Vec::new();
        for (place, (stage, sink)) in self.def.sinks.iter().zip(sinks).enumerate() {
            let Some(mut sink) = sink else { continue };
            let capabilities = sink.capabilities();
            if input.replaces
                && !capabilities.replace
                && let Some(dedupe) = &self.def.dedupe
            {
                let text = format!("on_conflict = \"keep_last\" replaces stored rows, which the sink \"{}\" cannot", stage.type_name.as_str());
                self.faults.push(PlanError::new("E015", text).at(dedupe.span.clone()).help("use \"keep_first\" or \"reject\", or another sink"));
            }
            let Some(plan) = self.keep(sink.plan(input)) else { continue };
            let other = |other: &&(PlannedSink, SinkPart)| other.0.plan.targets.iter().any(|target| plan.targets.contains(target));
            if planned.iter().find(other).is_some() {
                let text = format!("another sink of this pipeline writes to {} already", plan.targets.join(", "));
                self.faults.push(PlanError::new("E016", text).at(stage.span.clone()).help("give each sink a place of its own"));
            }
            self.faults.extend(plan.warnings.iter().cloned());
            if capabilities.delivery == Delivery::AtLeastOnce {
                let text = format!("the sink \"{}\" stores at least once: after a crash some rows may be there twice", stage.type_name.as_str());
                self.faults.push(PlanError::warning("W001", text).at(stage.type_name.span()));
            }
            let id = format!("sink.{place}");
            planned.push((PlannedSink { id: id.clone(), type_name: stage.type_name.to_string(), plan, capabilities }, SinkPart { id, sink }));
        }
        (whole && planned.len() == self.def.sinks.len()).then_some(planned)
    }

    /// `None` when there was a fault, `Some(None)` when the pipeline has no dedupe.
    fn dedupe(&mut self, schema: &SchemaRef, keys: &[String], stored: &[String]) -> Option<Option<DedupePlan>> {
        let Some(dedupe) = &self.def.dedupe else { return Some(None) };
        if keys.iter().any(|key| schema.field_with_name(key).is_err()) {
            return None;
        }
        match DedupePlan::new(schema, keys, stored, dedupe.on_conflict) {
            Ok(plan) => Some(Some(plan)),
            Err(error) => {
                let fault = PlanError::new("E014", error.message);
                let span = dedupe.keys.first().map(pipeline_contract::Spanned::span);
                self.faults.push(match span {
                    Some(span) => fault.at(span),
                    None => fault,
                });
                None
            }
        }
    }

    fn quarantine(&self) -> Option<PathBuf> {
        let validate = self.def.validate.as_ref();
        let on_reject = validate.map(|v| v.on_reject).unwrap_or_default();
        (on_reject == OnReject::Quarantine).then(|| {
            let path = validate.and_then(|v| v.quarantine_path.as_ref()).map_or("data/rejects/{name}.jsonl", |path| path.as_str());
            PathBuf::from(path.replace("{name}", &self.def.name))
        })
    }

    fn settings(&mut self, trigger: &dyn Trigger) -> Settings {
        let run = &self.def.run;
        let validate = self.def.validate.as_ref();
        // Shorter than the schedule, so that a run that hangs does not eat the next tick.
        let by_schedule = trigger.period().map_or(LONGEST_RUN, |period| (period * 9 / 10).min(LONGEST_RUN));
        Settings {
            concurrency: run.concurrency,
            epoch_rows: run.epoch_rows as u64,
            epoch_interval: run.epoch_interval.0,
            deadline: run.deadline.as_ref().map_or(by_schedule, |deadline| deadline.0),
            once_deadline: run.deadline.as_ref().map_or(LONGEST_RUN, |deadline| deadline.0),
            window_deadline: run.deadline.as_ref().map_or(Duration::from_secs(24 * 3600), |deadline| deadline.0),
            catch_up: match self.def.policy.catch_up {
                config::CatchUp::None => CatchUp::None,
                config::CatchUp::Latest => CatchUp::Latest,
                config::CatchUp::All => CatchUp::All,
            },
            overrun: match self.def.policy.overrun {
                config::Overrun::Skip => Overrun::Skip,
                config::Overrun::Wait => Overrun::Wait,
            },
            keep_runs: usize::try_from(run.keep_runs).unwrap_or(usize::MAX),
            on_reject: validate.map(|v| v.on_reject).unwrap_or_default(),
            warn: validate.and_then(|v| v.limits.warn()),
            abort: validate.and_then(|v| v.limits.abort()),
        }
    }
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
