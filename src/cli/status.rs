//! `pipeline status`: last runs, ticks, what comes next.

use std::path::{Path, PathBuf};

use chrono::Utc;
use pipeline_contract::rfc3339;
use serde_json::{Value, json};

use super::{App, CliError, Format, Global, exit, files, output};
use crate::plan::Plan;
use crate::run::status_name;
use crate::state::{RunRecord, TickRecord, TickStatus};

#[derive(clap::Args, Debug)]
pub(crate) struct StatusArgs {
    /// Pipeline files, or folders of them
    #[arg(value_name = "FILE|DIR", default_value = "pipelines")]
    paths: Vec<PathBuf>,
    /// Text for people, or one JSON object a pipeline, one a line, with each tick
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// How many runs and ticks are listed: by default 5 as text, all as JSON
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

pub(crate) fn main(app: &App, global: &Global, args: &StatusArgs) -> Result<u8, CliError> {
    for (path, plan) in files::plans(app, global, &args.paths)? {
        let store = files::peek_state(global, &plan.parts.name)?;
        let limit = args.limit.unwrap_or(if args.format == Format::Json { usize::MAX } else { 5 });
        let (runs, ticks) = (store.runs(limit)?, store.ticks(limit)?);
        match args.format {
            Format::Json => output::line(&as_json(&path, &plan, &runs, &ticks).to_string())?,
            Format::Text => as_text(&path, &plan, &runs, &ticks)?,
        }
    }
    Ok(exit::OK)
}

fn next_tick(plan: &Plan) -> Option<String> {
    plan.parts.trigger.next(Utc::now()).map(rfc3339)
}

fn as_json(path: &Path, plan: &Plan, runs: &[RunRecord], ticks: &[TickRecord]) -> Value {
    let name = &plan.parts.name;
    let status_of = |run_id: &Option<String>| {
        let run = runs.iter().find(|run| Some(&run.run_id) == run_id.as_ref());
        run.map_or(Value::Null, |run| status_name(run.status).into())
    };
    let ticks: Vec<Value> = ticks
        .iter()
        .map(|tick| {
            json!({
                "tick": rfc3339(tick.tick), "until": rfc3339(tick.until), "count": tick.count, "status": tick_status(tick.status),
                "reason": tick.reason, "run_id": tick.run_id, "run_status": status_of(&tick.run_id),
            })
        })
        .collect();
    json!({
        "pipeline": &**name, "file": path.display().to_string(), "next_tick": next_tick(plan),
        "last_run": runs.first().map(|run| output::summary(name, run)), "ticks": ticks,
        "runs": runs.iter().map(|run| output::summary(name, run)).collect::<Vec<_>>(),
    })
}

/// A tick whose run is under way, or was stopped half-way and goes on at the next start, ran: `run_status` (`open`) tells the rest.
fn tick_status(status: TickStatus) -> &'static str {
    match status {
        TickStatus::Running | TickStatus::Ran => "ran",
        TickStatus::Skipped => "skipped",
    }
}

fn as_text(path: &Path, plan: &Plan, runs: &[RunRecord], ticks: &[TickRecord]) -> Result<(), CliError> {
    output::line(&format!("{} ({})", plan.parts.name, path.display()))?;
    output::line(&format!("  next tick: {}", next_tick(plan).unwrap_or_else(|| "none: run it with --once".to_owned())))?;
    if runs.is_empty() {
        return output::line("  it has not run yet");
    }
    let mut table = output::table(["run", "status", "began", "took", "rows", "error"]);
    for run in runs {
        let took = run.ended_at.map_or_else(|| "-".to_owned(), |end| format!("{} ms", (end - run.started_at).num_milliseconds()));
        let error = run.error.as_ref().or_else(|| run.splits.iter().find_map(|split| split.error.as_ref()));
        let error = error.map_or_else(String::new, |e| format!("{}: {}", e.category, e.message));
        table.add_row([run.cause.clone(), status_name(run.status).to_owned(), rfc3339(run.started_at), took, output::words(&run.rows), error]);
    }
    output::line(&table.to_string())?;
    for tick in ticks.iter().filter(|tick| tick.status == TickStatus::Skipped) {
        let stretch = if tick.count > 1 { format!(" to {} ({} ticks)", rfc3339(tick.until), tick.count) } else { String::new() };
        output::line(&format!("  skipped {}{stretch}: {}", rfc3339(tick.tick), tick.reason.as_deref().unwrap_or("")))?;
    }
    Ok(())
}
