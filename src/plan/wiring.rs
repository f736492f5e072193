//! Stage by stage from the source to the sinks, going on behind every fault.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pipeline_contract::arrow::{Schema, SchemaRef};
use pipeline_contract::{
    BuildContext, ColumnType, Delivery, Doubt, Kind, Level, MUST_BE_STORED, PlanError, Plugin, Sink, SinkInput, Source, Spanned, Stage, Transform,
    Trigger, listed, nearest,
};

use super::together::{Facts, Write};
use super::{Columns, Outline, Plan, PlannedSink, Registry, binding, budget, cases, expected, odd};
use crate::config::{self, PipelineDef, StageDef};
use crate::run::{CatchUp, FindMissing, Overrun, Parts, Settings, SinkPart};
use crate::stages::dedupe::{DedupePlan, OnConflict};
use crate::stages::transforms::REJECTS;
use crate::stages::validate::{OnReject, Validator};
use crate::watch::{Expected, HOW_TO_TELL, NOT_TOLD, find_missing};

/// The longest that a run may take when the pipeline file does not say.
const LONGEST_RUN: Duration = Duration::from_secs(3600);
/// So many bytes of rows and rejects make an epoch full: 300,000 rows of ten numbers have fewer. Two epochs may be in memory at once.
const EPOCH_BYTES: usize = 32 << 20;

/// How long rejects are kept when the pipeline file does not say.
const KEEP_REJECTS: Duration = Duration::from_secs(365 * 24 * 3600);

/// All that can be told of a definition. The plan may come with errors: then it must not be used.
pub(super) fn wire(def: &PipelineDef<'_>, registry: &Registry) -> (Option<Plan>, Facts, Vec<PlanError>) {
    let mut wiring = Wiring { def, registry, faults: Vec::new(), facts: Facts::default() };
    let plan = wiring.wire();
    (plan, wiring.facts, wiring.faults)
}

struct Wiring<'a, 'b> {
    def: &'a PipelineDef<'b>,
    registry: &'a Registry,
    faults: Vec<PlanError>,
    facts: Facts,
}

/// A stage as far as its table goes.
struct Built<'a> {
    plugin: Option<&'a dyn Plugin>,
    stage: Option<Stage>,
    /// Something is wrong with it: it may be planned with, for further faults, but its plan counts for nothing.
    faulty: bool,
}

impl<'a> Wiring<'a, '_> {
    fn wire(&mut self) -> Option<Plan> {
        let def = self.def;
        if !def.name.is_empty() {
            self.facts.name = Some(def.name.clone());
        }
        let trigger = self.trigger();
        let settings = self.settings(trigger.as_deref());
        let (source, mut schema) = self.source();
        let fill = self.fills(source.as_deref());
        let mut stage_inputs = Vec::new();
        let mut transforms = Vec::new();
        for stage in &def.transforms {
            stage_inputs.push(Arc::clone(&schema));
            let (transform, output) = self.transform(stage, &schema);
            if transform.is_some() {
                self.keeps_marked(stage, &schema, &output);
            }
            transforms.push(transform);
            schema = output;
        }
        stage_inputs.push(Arc::clone(&schema));
        let validator = match &def.validate {
            Some(validate) => {
                self.keep(Validator::new(&schema, validate, def.validate_span.clone()), &schema).map(|validator| Some(Arc::new(validator)))
            }
            None => Some(None),
        };
        let rules = validator.as_ref().and_then(|validator| self.rules(validator.as_deref()));
        let columns = Columns { stages: stage_inputs.clone(), dedupes: def.has_dedupe, rules };
        let (cases, faults) = cases(&def.tests, &columns);
        self.faults.extend(faults);
        self.facts.columns = Some(columns);
        let sinks: Vec<_> = def.sinks.iter().map(|stage| self.sink(stage)).collect();
        let (keys, meant) = self.keys(&schema);
        let is_key_known = meant.len() == keys.len() && def.has_dedupe == def.dedupe.is_some() && !Doubt::about(&schema);
        let replaces = def.dedupe.as_ref().is_some_and(|dedupe| dedupe.on_conflict() == OnConflict::KeepLast) && meant.len() == keys.len();
        let planned = self.plan_sinks(sinks, &SinkInput { schema: Arc::clone(&schema), keys: meant, replaces });
        let quarantine = self.quarantine();
        self.writes(&planned, quarantine.as_ref());
        if let (Some(trigger), Some(source)) = (&trigger, &source) {
            let asked = budget::Asked::of(trigger.as_ref(), source.as_ref(), def);
            if let Some(asked) = asked {
                self.faults.extend(asked.alone(settings.deadline));
                self.facts.asked = Some(asked);
            }
        }
        let stored = planned.iter().flatten().next().map(|(sink, _)| sink.plan.stored.clone());
        let (expected, faults) = expected::expected(&def.expect, &schema, &keys, stored.as_deref(), trigger.as_deref(), source.as_deref());
        self.faults.extend(faults);
        // Of a key that is in doubt there is another fault.
        let find_missing = expected.as_ref().filter(|_| is_key_known).and_then(|expected| self.find_missing(fill, expected));
        self.faults.extend(odd::warnings(def, trigger.as_deref(), source.as_deref(), &settings, validator.as_ref().and_then(|v| v.as_deref())));
        let (planned, parts): (Vec<_>, Vec<_>) = planned.into_iter().collect::<Option<Vec<_>>>()?.into_iter().unzip();
        if Doubt::about(&schema) || def.sinks.is_empty() {
            return None;
        }
        let dedupe = self.dedupe(&schema, &keys, planned.first().map(|sink: &PlannedSink| sink.plan.stored.as_slice()).unwrap_or_default());
        let binding = binding(&keys, &schema, &planned, quarantine.as_ref());
        let expected = expected?;
        let parts = Parts {
            name: Arc::from(def.name.as_str()),
            settings,
            trigger: Arc::from(trigger?),
            source: Arc::from(source?),
            transforms: transforms.into_iter().collect::<Option<Vec<_>>>()?.into(),
            validator: validator?,
            dedupe: dedupe?,
            sinks: parts,
            quarantine: quarantine.clone(),
            stage_inputs,
            find_missing,
        };
        let name = |stage: &Option<StageDef<'_>>| stage.as_ref().map(|stage| stage.type_name.to_string()).unwrap_or_default();
        let transforms = def.transforms.iter().map(|stage| stage.type_name.to_string()).collect();
        let outline = Outline { trigger: name(&def.trigger), source: name(&def.source), transforms };
        Some(Plan {
            parts,
            binding,
            sinks: planned,
            schema,
            keys,
            quarantine,
            log: def.log.clone(),
            outline,
            expected,
            notify: def.notify.clone(),
            description: def.description.clone(),
            cases,
        })
    }

    /// The result of a stage that was given `input`; of its faults those that do not follow from others.
    fn keep<T>(&mut self, result: Result<T, Vec<PlanError>>, input: &Schema) -> Option<T> {
        let note = |mut faults: Vec<PlanError>| {
            faults.retain(|fault| !follows(fault, input));
            self.faults.extend(faults);
        };
        result.map_err(note).ok()
    }

    fn build(&mut self, kind: Kind, stage: &StageDef<'_>) -> Built<'a> {
        let mut built = Built { plugin: None, stage: None, faulty: true };
        if self.def.is_reported(stage) {
            return built;
        }
        let mut misspelt = false;
        let plugin = match self.registry.find(kind, &stage.type_name) {
            Ok(plugin) => plugin,
            Err(unknown) => {
                self.faults.push(*unknown.fault);
                misspelt = true;
                let Some(meant) = unknown.meant else { return built };
                meant
            }
        };
        built.plugin = Some(plugin);
        let draft = stage.draft(plugin, &BuildContext { pipeline: self.def.name.to_string() });
        built.faulty = misspelt || draft.stage.is_none() || draft.faults.iter().any(|fault| fault.level == Level::Error);
        self.faults.extend(draft.faults);
        if let Some(other) = draft.stage.as_ref().map(Stage::kind).filter(|other| *other != kind) {
            let text = format!("the plugin \"{}\" calls itself a {kind} and builds a {other}", stage.type_name.as_str());
            self.faults.push(stage.type_name.error("E019", text).help("this is a fault of the plugin: tell its author"));
            built.faulty = true;
            return built;
        }
        built.stage = draft.stage;
        built
    }

    fn trigger(&mut self) -> Option<Box<dyn Trigger>> {
        let built = self.build(Kind::Trigger, self.def.trigger.as_ref()?);
        match built.stage {
            Some(Stage::Trigger(trigger)) if !built.faulty => Some(trigger),
            _ => None,
        }
    }

    /// The source if nothing is wrong with it, and its columns as far as they can be told.
    fn source(&mut self) -> (Option<Box<dyn Source>>, SchemaRef) {
        let Some(stage) = &self.def.source else { return (None, Doubt::open(None)) };
        let built = self.build(Kind::Source, stage);
        let broken = self.def.is_stage_broken(stage);
        match built.stage {
            Some(Stage::Source(source)) if !built.faulty && !broken => {
                let schema = self.known_types(source.schema(), stage);
                (Some(source), schema)
            }
            _ => {
                let outline = built.plugin.and_then(|plugin| plugin.outline(&stage.table, None));
                (None, outline.filter(|_| !broken).unwrap_or_else(|| Doubt::open(None)))
            }
        }
    }

    /// The transform if nothing is wrong with it, and the columns that it makes as far as they can be told.
    fn transform(&mut self, stage: &StageDef<'_>, input: &SchemaRef) -> (Option<Box<dyn Transform>>, SchemaRef) {
        let built = self.build(Kind::Transform, stage);
        let broken = self.def.is_stage_broken(stage);
        if let Some(Stage::Transform(mut transform)) = built.stage {
            let mut planned = transform.plan(input);
            if let (Err(faults), true) = (&mut planned, built.faulty) {
                // A table that lost an entry seems to lack it.
                faults.retain(|fault| fault.code != "E044");
            }
            if let Some(output) = self.keep(planned, input)
                && !built.faulty
                && !broken
            {
                self.faults.extend(transform.warnings());
                let output = if Doubt::about(input) { output } else { self.known_types(output, stage) };
                return (Some(transform), output);
            }
        }
        let outline = built.plugin.and_then(|plugin| plugin.outline(&stage.table, Some(input)));
        (None, outline.filter(|_| !broken).unwrap_or_else(|| Doubt::open(Some(input))))
    }

    fn sink(&mut self, stage: &StageDef<'_>) -> Option<(Box<dyn Sink>, bool)> {
        let built = self.build(Kind::Sink, stage);
        match built.stage {
            Some(Stage::Sink(sink)) => Some((sink, built.faulty)),
            _ => None,
        }
    }

    /// Batches speak five types; whoever brings another is told before it runs.
    fn known_types(&mut self, schema: SchemaRef, stage: &StageDef<'_>) -> SchemaRef {
        let unknown: Vec<_> = schema.fields().iter().filter(|field| ColumnType::of(field.data_type()).is_none()).collect();
        if unknown.is_empty() {
            return schema;
        }
        for field in &unknown {
            let text = format!("\"{}\" brings the column `{}` as {}", stage.type_name.as_str(), field.name(), field.data_type());
            let names = ColumnType::ALL.map(ColumnType::name).join(", ");
            self.faults
                .push(stage.type_name.error("E019", text).help(format!("columns are {names}: this is a fault of the plugin, tell its author")));
        }
        let known = |field: &Arc<pipeline_contract::arrow::Field>| match ColumnType::of(field.data_type()) {
            Some(_) => Arc::clone(field),
            None => Doubt::column(field.name()),
        };
        Arc::new(Schema::new(schema.fields().iter().map(known).collect::<Vec<_>>()))
    }

    /// The dedupe keys as they are written, and those that were meant, as far as there are such columns.
    fn keys(&mut self, schema: &SchemaRef) -> (Vec<String>, Vec<String>) {
        let Some(dedupe) = &self.def.dedupe else { return (Vec::new(), Vec::new()) };
        let mut meant = Vec::new();
        for key in &dedupe.keys {
            if let Ok(field) = schema.field_with_name(key) {
                meant.extend(Some(key.to_string()).filter(|_| !Doubt::is_in(field)));
                continue;
            }
            if Doubt::is_open(schema) {
                continue;
            }
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let fault = key.error("E014", format!("there is no column `{}` at this point of the pipeline", key.as_str()));
            self.faults.push(match nearest(key, names.iter().copied()) {
                Some(near) => {
                    meant.push(near.to_owned());
                    fault.meant(format_args!("`{near}`"), format!("\"{near}\""))
                }
                None => fault.help(format!("the columns here are {}", listed(names))),
            });
        }
        (dedupe.keys.iter().map(|key| key.to_string()).collect(), meant)
    }

    /// Each sink, where nothing is wrong with it.
    fn plan_sinks(&mut self, sinks: Vec<Option<(Box<dyn Sink>, bool)>>, input: &SinkInput) -> Vec<Option<(PlannedSink, SinkPart)>> {
        let mut all = Vec::new();
        for (place, (stage, sink)) in self.def.sinks.iter().zip(sinks).enumerate() {
            let planned = sink.and_then(|(sink, faulty)| self.plan_sink(place, stage, sink, input).filter(|_| !faulty));
            if let Some((planned, _)) = &planned {
                self.stores_marked(stage, &input.schema, &planned.plan.written);
            }
            all.push(planned);
        }
        all
    }

    fn plan_sink(&mut self, place: usize, stage: &StageDef<'_>, mut sink: Box<dyn Sink>, input: &SinkInput) -> Option<(PlannedSink, SinkPart)> {
        let capabilities = sink.capabilities();
        let conflict = self.def.dedupe.as_ref().and_then(|dedupe| dedupe.on_conflict.as_ref());
        if let Some(conflict) = conflict.filter(|conflict| ***conflict == OnConflict::KeepLast && !capabilities.replace) {
            let text = format!("on_conflict = \"keep_last\" replaces stored rows, which the sink \"{}\" cannot", stage.type_name.as_str());
            let fault = conflict.error("E015", text).related(stage.type_name.span(), "this sink only appends");
            self.faults.push(fault.help("use \"keep_first\" or \"reject\", or another sink"));
        }
        let plan = self.keep(sink.plan(input), &input.schema)?;
        self.faults.extend(plan.warnings.iter().cloned());
        if capabilities.delivery == Delivery::AtLeastOnce {
            let text = format!("the sink \"{}\" stores at least once: after a crash some rows may be there twice", stage.type_name.as_str());
            self.faults.push(PlanError::warning("W001", text).at(stage.type_name.span()));
        }
        let id = format!("sink.{place}");
        Some((PlannedSink { id: id.clone(), type_name: stage.type_name.to_string(), plan, capabilities }, SinkPart { id, sink }))
    }

    /// Of the columns that must be stored none may be dropped on the way. They may get another name.
    fn keeps_marked(&mut self, stage: &StageDef<'_>, input: &Schema, output: &Schema) {
        let (before, after) = (marked(input), marked(output));
        if after.len() >= before.len() {
            return;
        }
        for (name, told) in before.into_iter().filter(|(name, _)| !after.iter().any(|(other, _)| other == name)) {
            let text = format!("\"{}\" drops the column `{name}`, which must be stored: it tells {told}", stage.type_name.as_str());
            self.faults.push(self.must_be_stored(stage, text).help(format!("keep `{name}`")));
        }
    }

    /// Every sink must write the columns that must be stored.
    fn stores_marked(&mut self, stage: &StageDef<'_>, input: &Schema, written: &[String]) {
        for (name, told) in marked(input).into_iter().filter(|(name, _)| !written.contains(name)) {
            let text = format!("the column `{name}` must be stored, and this sink leaves it out: it tells {told}");
            let help = format!("put `{{{name}}}` into `path`, so that each has files of its own, or `{name}` among the columns");
            self.faults.push(self.must_be_stored(stage, text).help(help));
        }
    }

    fn must_be_stored(&self, stage: &StageDef<'_>, text: String) -> PlanError {
        let fault = PlanError::new("E047", text).at(stage.type_name.span());
        match &self.def.source {
            Some(source) => fault.related(source.type_name.span(), "the column comes from here"),
            None => fault,
        }
    }

    /// `None` when there was a fault, `Some(None)` when the pipeline has no dedupe.
    fn dedupe(&mut self, schema: &SchemaRef, keys: &[String], stored: &[String]) -> Option<Option<DedupePlan>> {
        let Some(dedupe) = &self.def.dedupe else { return Some(None) };
        if keys.iter().any(|key| schema.field_with_name(key).is_err()) {
            return None;
        }
        match DedupePlan::new(schema, keys, stored, dedupe.on_conflict()) {
            Ok(plan) => Some(Some(plan)),
            Err(error) => {
                let fault = PlanError::new("E014", error.message);
                self.faults.push(match dedupe.keys.first().map(Spanned::span) {
                    Some(span) => fault.at(span),
                    None => fault,
                });
                None
            }
        }
    }

    /// Should runs fill gaps? Where they should and the source cannot is a fault.
    fn fills(&mut self, source: Option<&dyn Source>) -> Option<&'a Spanned<bool>> {
        let asked = self.def.run.fill_gaps.as_ref().filter(|asked| ***asked)?;
        if source?.fills() {
            return Some(asked);
        }
        if let Some(stage) = &self.def.source {
            let text = format!("`fill_gaps`: the source \"{}\" cannot ask for what is missing", stage.type_name.as_str());
            let fault = asked.error("E012", text).related(stage.type_name.span(), "this source cannot ask for a window of one series");
            self.faults.push(fault.help("take the line away"));
        }
        None
    }

    /// What finds the gaps that are to be filled.
    fn find_missing(&mut self, fill: Option<&Spanned<bool>>, expected: &Expected) -> Option<FindMissing> {
        let fill = fill?;
        let find = find_missing(expected);
        if find.is_none() {
            self.faults.push(fill.error("E012", format!("`fill_gaps`: {NOT_TOLD}")).help(HOW_TO_TELL));
        }
        find
    }

    fn quarantine(&self) -> Option<PathBuf> {
        let validate = self.def.validate.as_ref();
        let on_reject = validate.map(|v| v.on_reject).unwrap_or_default();
        (on_reject == OnReject::Quarantine).then(|| {
            let path = validate.and_then(|v| v.quarantine_path.as_ref()).map_or("data/rejects/{name}.jsonl", |path| path.as_str());
            PathBuf::from(path.replace("{name}", &self.def.name))
        })
    }

    /// The rules by which rows may be rejected behind the source. `None` where a transform is not the engine's own, as it has names of its own,
    /// or where `[validate]` is faulty.
    fn rules(&self, validator: Option<&Validator>) -> Option<Vec<String>> {
        let def = self.def;
        if !def.is_validate_whole {
            return None;
        }
        let mut rules: Vec<String> = validator.into_iter().flat_map(Validator::rules).map(str::to_owned).collect();
        for transform in &def.transforms {
            let own = REJECTS.iter().find(|(name, _)| *name == transform.type_name.as_str())?;
            rules.extend(own.1.map(str::to_owned));
        }
        if def.has_dedupe {
            rules.extend(["null_key", "conflict"].map(str::to_owned));
        }
        Some(rules)
    }

    /// Notes every place that the pipeline writes to, and that none is written to by two of its parts.
    fn writes(&mut self, sinks: &[Option<(PlannedSink, SinkPart)>], quarantine: Option<&PathBuf>) {
        let def = self.def;
        let mut writes = Vec::new();
        for (stage, sink) in def.sinks.iter().zip(sinks) {
            for target in sink.iter().flat_map(|(sink, _)| &sink.plan.targets) {
                let text = stage.table.find_text(|text| Write::normal(text) == Write::normal(target));
                writes.push(Write::new("rows", target, text.unwrap_or_else(|| stage.span.clone())));
            }
        }
        if let Some(path) = quarantine {
            let said = def.validate.as_ref().and_then(|validate| validate.quarantine_path.as_ref());
            let table = || if def.validate.is_some() { def.validate_span.clone() } else { def.name.span() };
            writes.push(Write::new("rejects", &path.to_string_lossy(), said.map_or_else(table, Spanned::span)));
        }
        if let Some(file) = &def.log.file {
            writes.push(Write::new("log lines", file, file.span()));
        }
        for (n, write) in writes.iter().enumerate() {
            if let Some(other) = writes.iter().take(n).find(|other| other.place == write.place) {
                let text = format!("this pipeline writes {} and {} to one place, {}", other.what, write.what, write.shown);
                let text = if other.what == write.what { format!("two sinks of this pipeline write to {}", write.shown) } else { text };
                let fault = PlanError::new("E016", text).at(write.span.clone()).related(other.span.clone(), format!("{} go there", other.what));
                self.faults.push(fault.help("give each a place of its own"));
            }
        }
        self.facts.writes = writes;
    }

    fn settings(&self, trigger: Option<&dyn Trigger>) -> Settings {
        let run = &self.def.run;
        let validate = self.def.validate.as_ref();
        // Shorter than the schedule, so that a run that hangs does not eat the next tick.
        let by_schedule = trigger.and_then(Trigger::period).map_or(LONGEST_RUN, |period| (period / 10).saturating_mul(9).min(LONGEST_RUN));
        Settings {
            file: self.def.file.path.clone(),
            concurrency: run.concurrency,
            epoch_rows: run.epoch_rows().0,
            most_epoch_rows: run.epoch_rows().1,
            // Whoever says how many rows gets that many.
            epoch_bytes: if run.epoch_rows.is_some() { usize::MAX } else { EPOCH_BYTES },
            epoch_interval: run.epoch_interval.0,
            deadline: run.deadline.as_ref().map_or(by_schedule, |deadline| deadline.0),
            once_deadline: run.deadline.as_ref().map_or(LONGEST_RUN, |deadline| deadline.0),
            window_deadline: run.deadline.as_ref().map_or(Duration::from_secs(24 * 3600), |deadline| deadline.0),
            catch_up: match self.def.policy.catch_up() {
                config::CatchUp::None => CatchUp::None,
                config::CatchUp::Latest => CatchUp::Latest,
                config::CatchUp::All => CatchUp::All,
            },
            overrun: match self.def.policy.overrun {
                config::Overrun::Skip => Overrun::Skip,
                config::Overrun::Wait => Overrun::Wait,
            },
            keep_runs: usize::try_from(run.keep_runs).unwrap_or(usize::MAX),
            keep_for: run.keep_for.as_deref().map(|keep_for| keep_for.0),
            keep_rejects: Some(validate.and_then(|v| v.keep_rejects.as_deref()).map_or(KEEP_REJECTS, |keep| keep.0)),
            on_reject: validate.map(|v| v.on_reject).unwrap_or_default(),
            warn: validate.and_then(|v| v.limits.warn()),
            abort: validate.and_then(|v| v.limits.abort()),
        }
    }
}

/// The columns that their source wants stored, by name, and what each tells.
fn marked(schema: &Schema) -> Vec<(String, String)> {
    let mark = |field: &Arc<pipeline_contract::arrow::Field>| Some((field.name().clone(), field.metadata().get(MUST_BE_STORED)?.clone()));
    schema.fields().iter().filter_map(mark).collect()
}

/// Does a fault follow from what is in doubt about the columns, which has a fault of its own?
fn follows(fault: &PlanError, input: &Schema) -> bool {
    let missing = matches!(fault.code, "E014" | "E031" | "E032" | "E041") || fault.code == "E040" && fault.message.starts_with("unknown column");
    let doubtful = |name: &str| fault.message.contains(&format!("`{name}`"));
    missing && Doubt::is_open(input) || input.fields().iter().any(|field| Doubt::is_in(field) && doubtful(field.name()))
}
