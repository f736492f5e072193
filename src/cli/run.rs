//! `pipeline run`: by trigger until stopped, once, or without storing anything.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use pipeline_contract::{Ports, Window};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::files::{self, OpenState};
use super::{App, CliError, Format, Global, exit, logging, output, progress, signals};
use crate::plan::Plan;
use crate::run::{Engine, Preview};
use crate::state::{RunRecord, RunStatus};

/// Rows shown of each split in a dry run.
const SAMPLE: usize = 5;

#[derive(clap::Args, Debug)]
pub(crate) struct RunArgs {
    /// Pipeline files, or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// One run now; the exit code tells how it went
    #[arg(long)]
    once: bool,
    /// Fetch, transform, check and compare with what is stored; write nothing, show what would be written
    #[arg(long)]
    dry_run: bool,
    /// Ask for data from this time on (RFC 3339, or a date in UTC); one run
    #[arg(long, value_parser = instant, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Ask for data before this time (RFC 3339, or a date in UTC); one run
    #[arg(long, value_parser = instant, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
    /// How the summary of a run is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// An instant of the command line.
pub(crate) fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.with_timezone(&Utc));
    }
    match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(date) => Ok(date.and_time(NaiveTime::MIN).and_utc()),
        Err(_) => Err("write it as 2026-05-19 or 2026-05-19T15:00:00Z".to_owned()),
    }
}

pub(crate) async fn main(app: &App, global: &Global, args: &RunArgs) -> Result<u8, CliError> {
    let plans = files::plans(app, global, &args.paths)?;
    let window = (args.from.is_some() || args.to.is_some()).then_some(Window { from: args.from, to: args.to });
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(CliError::config("--from must lie before --to"));
    }
    if window.is_some()
        && let Some((path, _)) = plans.iter().find(|(_, plan)| !plan.parts.source.capabilities().windows)
    {
        return Err(CliError::config(format!("{}: its source cannot read a window of the past (--from, --to)", path.display())));
    }
    if args.dry_run {
        logging::init(global, &[]);
    } else {
        logging::init(global, &plans.iter().map(|(_, plan)| &plan.log).collect::<Vec<_>>());
    }
    let once = args.once || args.dry_run || window.is_some();
    if !once && let Some((path, _)) = plans.iter().find(|(_, plan)| plan.parts.trigger.next(Utc::now()).is_none()) {
        return Err(CliError::config(format!("{}: its trigger has no further tick", path.display())).help(Some("run it with --once".to_owned())));
    }
    let ports = files::ports(app, global);
    let mut tasks = JoinSet::new();
    let color = global.color.is_on(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    if args.dry_run {
        let cancel = signals::shutdown();
        for (_, plan) in plans {
            tasks.spawn(dry_run(plan, global.state_dir.clone(), ports.clone(), window, args.format, cancel.clone()));
        }
        return Ok(join(tasks, color).await);
    }
    // All states are opened before anything runs: a fault of one is told before any of them has written.
    let mut opened = Vec::new();
    for (path, plan) in plans {
        let state = files::open_state(global, &plan, &path)?;
        opened.push((plan, state));
    }
    let cancel = signals::shutdown();
    for (plan, state) in opened {
        let job = Job { state, ports: ports.clone(), format: args.format, quiet: global.quiet > 0, cancel: cancel.clone() };
        tasks.spawn(async move { if once { job.once(plan, window).await } else { job.scheduled(plan).await } });
    }
    Ok(join(tasks, color).await)
}

/// The worst of all exit codes: failed before configuration before partial before ok. What ends a pipeline is told when it ends.
async fn join(mut tasks: JoinSet<Result<u8, CliError>>, color: bool) -> u8 {
    let mut codes = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        codes.push(match ended {
            Ok(Ok(code)) => code,
            Ok(Err(error)) => {
                error.print(color);
                error.code
            }
            Err(_) => {
                CliError::new(exit::FAILED, "a pipeline's task ended without a word (it panicked)").print(color);
                exit::FAILED
            }
        });
    }
    [exit::FAILED, exit::CONFIG, exit::PARTIAL].into_iter().find(|code| codes.contains(code)).unwrap_or(exit::OK)
}

struct Job {
    state: OpenState,
    ports: Ports,
    format: Format,
    quiet: bool,
    cancel: CancellationToken,
}

impl Job {
    fn engine(&self, plan: Plan) -> Result<Engine, CliError> {
        let observer = progress::observer(&plan.parts.name, self.quiet);
        Ok(Engine::new(plan.parts, Arc::clone(&self.state.store), self.ports.clone(), self.state.dir.clone(), observer)?)
    }

    async fn once(self, plan: Plan, window: Option<Window>) -> Result<u8, CliError> {
        let name = plan.parts.name.to_string();
        let mut engine = self.engine(plan)?;
        engine.resume(&self.cancel, false).await?;
        if self.cancel.is_cancelled() {
            return Ok(exit::PARTIAL);
        }
        let record = engine.run(&engine.now(window), &self.cancel).await;
        // How the run went counts, whether or not somebody reads its summary.
        if let Err(error) = print(&name, &record, self.format) {
            error.print(false);
        }
        Ok(match record.status {
            RunStatus::Ok => exit::OK,
            RunStatus::Failed => exit::FAILED,
            RunStatus::Partial | RunStatus::Interrupted | RunStatus::Open => exit::PARTIAL,
        })
    }

    async fn scheduled(self, plan: Plan) -> Result<u8, CliError> {
        let name = plan.parts.name.to_string();
        let format = self.format;
        let mut engine = self.engine(plan)?;
        let mut stdout_gone = false;
        engine
            .run_scheduled(&self.cancel, |record| {
                // For people the log line of the run says it already. Nobody reading is no reason to stop collecting.
                if format == Format::Json && !stdout_gone {
                    stdout_gone = print(&name, record, format).is_err();
                }
            })
            .await;
        Ok(exit::OK)
    }
}

fn print(name: &str, record: &RunRecord, format: Format) -> Result<(), CliError> {
    match format {
        Format::Json => output::line(&output::summary(name, record).to_string()),
        Format::Text => output::line(&output::summary_text(name, record)),
    }
}

async fn dry_run(
    plan: Plan,
    state_dir: PathBuf,
    ports: Ports,
    window: Option<Window>,
    format: Format,
    cancel: CancellationToken,
) -> Result<u8, CliError> {
    let name = plan.parts.name.to_string();
    let dir = state_dir.join(&name);
    let store = files::peek_dir(&dir)?;
    let observer = progress::observer(&name, false);
    let mut engine = Engine::dry(plan.parts, store, ports, dir, observer)?;
    let record = engine.run(&engine.now(window), &cancel).await;
    if format == Format::Json {
        let mut summary = output::summary(&name, &record);
        if let Some(object) = summary.as_object_mut() {
            object.insert("dry_run".to_owned(), true.into());
        }
        output::line(&summary.to_string())?;
    } else {
        output::line(&format!("dry run, nothing was written. {}", output::summary_text(&name, &record)))?;
        show(&record, &engine.preview())?;
    }
    Ok(match record.status {
        RunStatus::Ok => exit::OK,
        RunStatus::Failed => exit::FAILED,
        _ => exit::PARTIAL,
    })
}

fn show(record: &RunRecord, preview: &Preview) -> Result<(), CliError> {
    for (index, split) in record.splits.iter().enumerate() {
        for (what, part) in [("would be written", &preview.append), ("would replace stored rows", &preview.replace)] {
            let Some(batches) = part.get(&index) else { continue };
            let rows: usize = batches.iter().map(pipeline_contract::arrow::RecordBatch::num_rows).sum();
            let Some(table) = output::rows_table(batches, SAMPLE) else { continue };
            output::line(&format!(
                "\n{}: {rows} rows {what}{}",
                split.split.id,
                if rows > SAMPLE { format!(", the first {SAMPLE}:") } else { ":".to_owned() }
            ))?;
            output::line(&table.to_string())?;
        }
        let Some(rejects) = preview.rejects.get(&index).filter(|rejects| !rejects.is_empty()) else { continue };
        output::line(&format!("\n{}: {} rows would be rejected:", split.split.id, rejects.len()))?;
        for (stage, reject) in rejects.iter().take(SAMPLE) {
            output::line(&format!("  {stage}: {}: {}", reject.rule, reject.message))?;
        }
    }
    Ok(())
}
