//! What a pipeline should look like: what its file says, and what follows from its stages.

use pipeline_contract::arrow::Schema;
use pipeline_contract::{ColumnType, Doubt, PlanError, Source, Spanned, Trigger, listed, nearest};

use crate::config::ExpectConfig;
use crate::watch::{Expected, Held};

/// The expectations, where the trigger and the source are known. `stored` are the columns that can be read back.
pub(super) fn expected(
    config: &ExpectConfig,
    schema: &Schema,
    keys: &[String],
    stored: Option<&[String]>,
    trigger: Option<&dyn Trigger>,
    source: Option<&dyn Source>,
) -> (Option<Expected>, Vec<PlanError>) {
    let mut faults = Vec::new();
    let is_time = |name: &str| schema.field_with_name(name).is_ok_and(|field| ColumnType::of(field.data_type()) == Some(ColumnType::Timestamp));
    let mut times = keys.iter().filter(|key| is_time(key));
    let key_time = times.next().filter(|_| times.next().is_none());
    let named = config.time.iter().chain(config.series.iter().flatten());
    let mut good = true;
    for column in named {
        let fault = column_fault(column, schema, stored);
        good &= fault.is_none();
        faults.extend(fault);
    }
    if let Some(time) = config.time.as_ref().filter(|time| good && !is_time(time) && !Doubt::is_open(schema)) {
        let fault = time.error("E041", format!("`time`: `{}` is no timestamp", time.as_str()));
        let times: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).filter(|name| is_time(name)).collect();
        faults.push(if times.is_empty() { fault } else { fault.help(format!("timestamps here are {}", listed(times))) });
        good = false;
    }
    let time = config.time.as_ref().map(|time| time.to_string()).or_else(|| key_time.cloned());
    if let (None, Some(step)) = (&time, &config.step)
        && !Doubt::about(schema)
    {
        let fault = step.error("E012", "`step`: no column says of what time a row is");
        faults.push(fault.help("name it: time = \"...\""));
        good = false;
    }
    let (Some(trigger), Some(source), true) = (trigger, source, good) else { return (None, faults) };
    let others = || keys.iter().filter(|key| Some(*key) != time.as_ref()).cloned().collect::<Vec<_>>();
    let series = config.series.as_ref().map_or_else(others, |series| series.iter().map(|column| column.to_string()).collect());
    let held = match &time {
        None => Held::Unknown,
        Some(time) if Some(time) == key_time && series == others() => Held::Keys,
        Some(_) => Held::Rows,
    };
    // The source speaks of its own time and series: other columns may have another step.
    let step = config.step.as_ref().map(|step| step.0).or_else(|| source.step().filter(|_| held == Held::Keys));
    // A row is there a step after its time at the earliest, and one run that fails is no reason to wake anybody.
    let by_trigger = || {
        let period = trigger.period().filter(|_| time.is_some())?;
        Some(period.saturating_mul(if step.is_some() { 2 } else { 3 }).saturating_add(step.unwrap_or_default().saturating_mul(2)))
    };
    let max_age = config.max_age.as_ref().map(|age| age.0).or_else(by_trigger);
    let expected = Expected { time, series, step, max_age, since: config.begin, accept: config.accepted.clone(), held };
    (Some(expected), faults)
}

/// Is the column there, and stored?
fn column_fault(column: &Spanned<String>, schema: &Schema, stored: Option<&[String]>) -> Option<PlanError> {
    if schema.field_with_name(column).is_ok() {
        let stored = stored.filter(|stored| !stored.iter().any(|name| name == column.as_str()))?;
        let fault = column.error("E014", format!("`{}` is not stored: it cannot be read back", column.as_str()));
        return Some(fault.help(format!("what is stored is {}", listed(stored.iter().map(String::as_str)))));
    }
    if Doubt::is_open(schema) {
        return None;
    }
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let fault = column.error("E014", format!("there is no column `{}` at the end of the pipeline", column.as_str()));
    Some(match nearest(column, names.iter().copied()) {
        Some(near) => fault.meant(format_args!("`{near}`"), format!("\"{near}\"")),
        None => fault.help(format!("the columns here are {}", listed(names))),
    })
}
