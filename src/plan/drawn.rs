//! A pipeline drawn: each stage with the columns and types that leave it, for `pipeline plan` and the page.

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::{Field, SchemaRef};
use pipeline_contract::{ColumnType, Delivery, rfc3339};

use super::Plan;
use crate::stages::dedupe::OnConflict;
use crate::stages::validate::OnReject;

/// A stage as it is drawn.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// `trigger`, `source`, `transform`, `validate`, `dedupe` or `sink`.
    pub kind: &'static str,
    /// Its `type`, or what it works by.
    pub what: String,
    /// What there is to know of it, a line each.
    pub notes: Vec<String>,
    /// The columns that leave it, each with a mark: `+` is new, `~` has another type, `-` does not leave it any more.
    pub columns: Vec<(char, String, &'static str)>,
}

fn type_name(field: &Field) -> &'static str {
    ColumnType::of(field.data_type()).map_or("?", ColumnType::name)
}

/// The columns of `after`, marked by what they were in `before`.
fn marked(before: Option<&SchemaRef>, after: &SchemaRef) -> Vec<(char, String, &'static str)> {
    let was = |field: &Field| before.and_then(|before| before.field_with_name(field.name()).ok().map(|was| was.data_type() == field.data_type()));
    let mark = |field: &Field| match (before, was(field)) {
        (None, _) | (_, Some(true)) => ' ',
        (_, Some(false)) => '~',
        (_, None) => '+',
    };
    let leave = after.fields().iter().map(|field| (mark(field), field.name().clone(), type_name(field)));
    let gone = before.into_iter().flat_map(|before| before.fields().iter()).filter(|field| after.field_with_name(field.name()).is_err());
    leave.chain(gone.map(|field| ('-', field.name().clone(), type_name(field)))).collect()
}

/// The stages of a pipeline in the order in which rows pass them, as of `now`.
pub fn drawn(plan: &Plan, now: DateTime<Utc>) -> Vec<Drawn> {
    let parts = &plan.parts;
    let stage = |kind, what: &str, notes, columns| Drawn { kind, what: what.to_owned(), notes, columns };
    let next = parts.trigger.next(now).map_or_else(|| "never by itself: run it with --once".to_owned(), |tick| format!("next at {}", rfc3339(tick)));
    let source_costs = parts.source.capabilities().requests_per_run.map(|n| format!("about {n} request{} a run", if n == 1 { "" } else { "s" }));
    let source_columns = parts.stage_inputs.first().map(|schema| marked(None, schema)).unwrap_or_default();
    let mut drawn = vec![
        stage("trigger", &plan.outline.trigger, vec![next], Vec::new()),
        stage("source", &plan.outline.source, source_costs.into_iter().collect(), source_columns),
    ];
    for (name, [before, after]) in plan.outline.transforms.iter().zip(parts.stage_inputs.array_windows()) {
        drawn.push(stage("transform", name, Vec::new(), marked(Some(before), after)));
    }
    if let Some(validator) = &parts.validator {
        let rules: Vec<&str> = validator.rules().collect();
        let rejects = match (parts.settings.on_reject, &plan.quarantine) {
            (OnReject::Quarantine, Some(path)) => format!("rejects are kept in {}", path.display()),
            (OnReject::Fail, _) => "a reject fails its split".to_owned(),
            _ => "rejects are counted and left out".to_owned(),
        };
        drawn.push(stage("validate", &format!("{} rules", rules.len()), vec![rules.join(", "), rejects], Vec::new()));
    }
    if let Some(dedupe) = &parts.dedupe {
        let conflict = match dedupe.on_conflict() {
            OnConflict::KeepFirst => "of two rows with one key the first is kept",
            OnConflict::KeepLast => "of two rows with one key the last is kept",
            OnConflict::Reject => "a row whose key is stored with other values is rejected",
        };
        let layout = if dedupe.is_series_time() { "kept as times of series" } else { "kept key by key" };
        drawn.push(stage("dedupe", &plan.keys.join(", "), vec![conflict.to_owned(), layout.to_owned()], Vec::new()));
    }
    for sink in &plan.sinks {
        let promise = match sink.capabilities.delivery {
            Delivery::ExactlyOnce => "every row once, over crashes",
            Delivery::AtLeastOnce => "at least once: after a crash some rows may be there twice",
        };
        let notes = [format!("into {}", sink.plan.targets.join(", ")), promise.to_owned()];
        let stored = sink.plan.stored.iter().filter_map(|name| plan.schema.field_with_name(name).ok());
        let columns = stored.map(|field| (' ', field.name().clone(), type_name(field))).collect();
        drawn.push(stage("sink", &sink.type_name, notes.into(), columns));
    }
    drawn
}
