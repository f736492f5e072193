//! What is legal, but odd: warnings that need more than one stage to be seen.

use pipeline_contract::{HumanDuration, PlanError, Source, Trigger};

use crate::config::{CatchUp, PipelineDef};
use crate::run::Settings;
use crate::stages::validate::{Limit, Validator};

/// Commits cost the disk two or three flushes each: fewer rows than this in one are mostly flushes.
const FEW_ROWS: u64 = 100;

/// All of them.
pub(super) fn warnings(
    def: &PipelineDef<'_>,
    trigger: Option<&dyn Trigger>,
    source: Option<&dyn Source>,
    settings: &Settings,
    validator: Option<&Validator>,
) -> Vec<PlanError> {
    let mut found = Vec::new();
    let period = trigger.and_then(Trigger::period);
    let windows = source.map(|source| source.capabilities().windows);
    if let (Some(stage), false, Some(true), Some(_)) = (&def.source, def.has_dedupe, windows, period) {
        let text = format!("each run of \"{}\" reads the latest rows again, and without [dedupe] stores them again", stage.type_name.as_str());
        found.push(PlanError::warning("W002", text).at(stage.type_name.span()).help("add [dedupe] with the `keys` that tell rows apart"));
    }
    if let Some(validate) = &def.validate
        && def.is_validate_whole
        && validate.columns.is_empty()
        && validate.rules.is_empty()
        && validate.limits.warn.is_none()
        && validate.limits.abort.is_none()
    {
        let text = "[validate] has no rule: every row that could be read is good";
        found.push(PlanError::warning("W003", text).at(def.validate_span.clone()).help("add [validate.columns] or [[validate.rules]]"));
    }
    found.extend(validator.map(Validator::warnings).unwrap_or_default());
    if let Some(rows) = def.run.epoch_rows.as_ref().filter(|rows| ***rows < FEW_ROWS) {
        let text = format!(
            "a commit for every {} is slow: each waits for the disk",
            if **rows == 1 { "row".to_owned() } else { format!("{} rows", **rows) }
        );
        let help = "leave it out; a run that is stopped commits what it has anyway";
        found.push(PlanError::warning("W006", text).at(rows.span()).help(help));
    }
    if let (Some(deadline), Some(period)) = (&def.run.deadline, period)
        && deadline.0 > period
    {
        let text = format!("a run may take {}, and ticks are {} apart", **deadline, HumanDuration(period));
        let fault = PlanError::warning("W007", text).at(deadline.span());
        let fault = match trigger.and_then(Trigger::place) {
            Some(place) => fault.related(place, "ticks that come during a run wait or are skipped: see `overrun`"),
            None => fault,
        };
        found.push(fault.help("write less than the time between two ticks, or leave it out"));
    }
    if let Some(validate) = &def.validate
        && let (Some(warn), Some(abort), Some(written)) = (validate.limits.warn(), validate.limits.abort(), &validate.limits.warn)
        && match (warn, abort) {
            (Limit::Rows(warn), Limit::Rows(abort)) => warn >= abort,
            (Limit::Share(warn), Limit::Share(abort)) => warn >= abort,
            _ => false,
        }
    {
        let fault = PlanError::warning("W008", "this limit is never warned of: the run is stopped before").at(written.span());
        let fault = match &validate.limits.abort {
            Some(abort) => fault.related(abort.span(), "here"),
            None => fault,
        };
        found.push(fault.help("write less than `abort`"));
    }
    if let (Some(catch_up), Some(false), Some(stage)) = (&def.policy.catch_up, windows, &def.source)
        && **catch_up == CatchUp::All
    {
        let text = format!("\"{}\" only knows the present: a run for each missed tick reads the same again", stage.type_name.as_str());
        found.push(PlanError::warning("W010", text).at(catch_up.span()).help("write \"latest\": one run for all ticks that were missed"));
    }
    if let Some(timeout) = source.and_then(Source::demand).and_then(|demand| demand.timeout)
        && timeout > settings.deadline
        && let Some(stage) = &def.source
    {
        let text = format!("one request may take {}, and a run ends after {}", HumanDuration(timeout), HumanDuration(settings.deadline));
        let help = "write a shorter `timeout` in [source.http], or a longer `deadline` in [run]";
        found.push(PlanError::warning("W011", text).at(stage.span.clone()).help(help));
    }
    found
}
