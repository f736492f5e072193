//! `pipeline status`: last runs, ticks, what comes next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use pipeline_contract::{Gap, HumanDuration, Refusal, rfc3339};
use serde_json::{Value, json};

use super::{App, CliError, Format, Global, exit, files, output};
use crate::plan::Plan;
use crate::run::{reason, refusals, status_name};
use crate::state::{RunRecord, TickRecord, TickStatus};
use crate::watch::{Health, Report, Subject, age, report};
use crate::workspace::{Lookout, csv_cell};

/// So many gaps are listed for people, the newest.
const SHOWN: usize = 5;

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

pub(crate) async fn main(app: &App, global: &Global, args: &StatusArgs) -> Result<u8, CliError> {
    let ports = files::ports(app, global);
    let mut worst = Health::Healthy;
    for (path, plan) in files::plans(app, global, &args.paths)? {
        let store = files::peek_state(global, &plan.parts.name)?;
        let limit = args.limit.unwrap_or(if args.format == Format::Json { usize::MAX } else { 5 });
        let (runs, ticks) = (store.runs(limit)?, store.ticks(limit)?);
        let found = Lookout::new(&plan).look_or_read(&plan, &store, &ports, &files::state_dir(global, &plan.parts.name), &[]).await?;
        let subject = Subject::of(&plan.parts.name, store.as_ref(), plan.parts.trigger.as_ref(), &plan.expected, &found);
        let seen = Seen { report: report(&subject, Utc::now())?, gaps: found.gaps.unwrap_or_default(), refused: refusals(store.as_ref())? };
        worst = worst.max(seen.report.status);
        match args.format {
            Format::Json => output::line(&as_json(&path, &plan, &seen, &runs, &ticks).to_string())?,
            Format::Text => as_text(&path, &plan, &seen, &runs, &ticks)?,
        }
    }
    Ok(match worst {
        Health::Healthy => exit::OK,
        Health::Degraded => exit::PARTIAL,
        Health::Unhealthy => exit::FAILED,
    })
}

/// What is known of a pipeline beside its runs and ticks.
struct Seen {
    report: Report,
    gaps: Vec<Gap>,
    refused: Vec<Refusal>,
}

impl Seen {
    /// Why the last try did not fill a gap.
    fn reason(&self, gap: &Gap) -> Option<&str> {
        reason(&self.refused, gap)
    }
}

fn next_tick(plan: &Plan) -> Option<String> {
    plan.parts.trigger.next(Utc::now()).map(rfc3339)
}

fn as_json(path: &Path, plan: &Plan, seen: &Seen, runs: &[RunRecord], ticks: &[TickRecord]) -> Value {
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
    let Report { status, reasons, last_success, consecutive_failures, data, gaps, .. } = &seen.report;
    let missing = seen.gaps.iter().map(|gap| {
        json!({"series": gap.series, "from": rfc3339(gap.from), "to": rfc3339(gap.to), "missing": gap.missing, "not_fillable": seen.reason(gap)})
    });
    json!({
        "status": status, "reasons": reasons, "last_success": last_success.map(rfc3339), "consecutive_failures": consecutive_failures, "data": data,
        "gaps": gaps, "missing": missing.collect::<Vec<_>>(),
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

fn as_text(path: &Path, plan: &Plan, seen: &Seen, runs: &[RunRecord], ticks: &[TickRecord]) -> Result<(), CliError> {
    let Report { status, reasons, last_success, data, gaps, .. } = &seen.report;
    output::line(&format!("{} ({}): {}", plan.parts.name, path.display(), status.name()))?;
    for reason in reasons {
        output::line(&format!("  {}: {}", reason.code, reason.message))?;
    }
    if let Some(data) = data.as_ref().filter(|data| !data.stale) {
        let limit = data.max_age_seconds.map_or_else(String::new, |limit| format!(", stale after {}", HumanDuration(Duration::from_secs(limit))));
        let age = age(Duration::from_secs(u64::try_from(data.age_seconds).unwrap_or(0)));
        output::line(&format!("  newest data: {}, {} old{limit}", rfc3339(data.newest), HumanDuration(age)))?;
    }
    if gaps.as_ref().is_some_and(|gaps| gaps.count == 0) {
        output::line("  nothing is missing between what is stored")?;
    }
    for gap in seen.gaps.iter().rev().take(SHOWN) {
        let series: Vec<String> = gap.series.values().map(csv_cell).collect();
        let rows = if gap.missing == 1 { "1 row".to_owned() } else { format!("{} rows", gap.missing) };
        let why = seen.reason(gap).map_or_else(String::new, |reason| format!("; {reason}"));
        output::line(&format!("    {} from {} to {}: {rows}{why}", series.join(" "), rfc3339(gap.from), rfc3339(gap.to)))?;
    }
    if seen.gaps.len() > SHOWN {
        output::line(&format!("    and {} earlier gaps: --format json lists them all", seen.gaps.len() - SHOWN))?;
    }
    if let Some(at) = last_success {
        output::line(&format!("  last good run: ended {}", rfc3339(*at)))?;
    }
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
