//! `pipeline run`: by trigger until stopped, or once; what stores nothing is in `trial`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_contract::{Ports, Refusal, Window, rfc3339};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::files::{self, OpenState};
use super::trial::{self, Trial};
use super::watcher::Watcher;
use super::{App, CliError, Format, Global, exit, logging, output, progress, signals};
use crate::plan::Plan;
use crate::record::Recorder;
use crate::run::{Engine, FindMissing, RunRequest};
use crate::state::{RunRecord, RunStatus};
use crate::watch::{HOW_TO_TELL, Held, NOT_TOLD, find_missing, refused_json};
use crate::workspace::instant;

/// So many gaps that cannot be filled are shown to people.
const SHOWN: usize = 10;

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
    /// How many rows a dry run shows of each split
    #[arg(long, value_name = "ROWS", default_value_t = 5)]
    sample: usize,
    /// Keep what the network answers in this folder, which must be empty or not exist; for --once, --dry-run, --from and --to
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// A dry run on what --record kept: no network, and the clock stands at the instant of the recording
    #[arg(long, value_name = "DIR", conflicts_with_all = ["once", "record"])]
    replay: Option<PathBuf>,
    /// Ask for data from this time on (RFC 3339, or a date in UTC); one run
    #[arg(long, value_parser = instant, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Ask for data before this time (RFC 3339, or a date in UTC); one run
    #[arg(long, value_parser = instant, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
    /// Ask for what is missing from what is stored, and for nothing else; one run
    #[arg(long, conflicts_with_all = ["once", "dry_run", "replay", "record", "from", "to"])]
    fill_gaps: bool,
    /// How the summary of a run is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
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
    let dry = args.dry_run || args.replay.is_some();
    let once = args.once || dry || window.is_some() || args.fill_gaps;
    let finders = plans.iter().map(|(path, plan)| args.fill_gaps.then(|| finder(plan).map_err(|error| error.about(path))).transpose());
    let finders: Vec<Option<FindMissing>> = finders.collect::<Result<_, _>>()?;
    if args.record.is_some() && !once {
        return Err(CliError::config("--record keeps one run").help(Some("add --dry-run, --once, or --from and --to".to_owned())));
    }
    if (args.record.is_some() || args.replay.is_some()) && plans.len() > 1 {
        return Err(CliError::config("a recording is of one pipeline: name one file with --record and --replay"));
    }
    if dry {
        logging::init(global, &[]);
    } else {
        logging::init(global, &plans.iter().map(|(_, plan)| &plan.log).collect::<Vec<_>>());
    }
    if !once && let Some((path, _)) = plans.iter().find(|(_, plan)| plan.parts.trigger.next(Utc::now()).is_none()) {
        return Err(CliError::config(format!("{}: its trigger has no further tick", path.display())).help(Some("run it with --once".to_owned())));
    }
    let ports = files::ports(app, global);
    let mut tasks = JoinSet::new();
    let color = global.color.is_on(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    if dry {
        let cancel = signals::shutdown();
        let (sample, format) = (args.sample, args.format);
        for (path, plan) in plans {
            let trial = Trial { sample, format, record: args.record.clone(), replay: args.replay.clone(), window };
            let (state_dir, ports, cancel) = (global.state_dir.clone(), ports.clone(), cancel.clone());
            tasks.spawn(async move { trial::main(plan, state_dir, ports, trial, cancel).await.map_err(|error| error.about(&path)) });
        }
        return Ok(join(tasks, color).await);
    }
    // All states are opened before anything runs: a fault of one is told before any of them has written.
    let mut opened = Vec::new();
    for ((path, plan), find) in plans.into_iter().zip(finders) {
        let state = files::open_state(global, &plan, &path).map_err(|error| error.about(&path))?;
        opened.push((path, plan, state, find));
    }
    let cancel = signals::shutdown();
    for (path, plan, state, find) in opened {
        let twin = if plan.notify.is_empty() || plan.expected.held != Held::Rows { None } else { files::twin(app, &path)? };
        let (format, quiet, record) = (args.format, global.quiet > 0, args.record.clone());
        let job = Job { state, ports: ports.clone(), format, quiet, record, cancel: cancel.clone(), twin };
        tasks.spawn(async move {
            let ended = match find {
                Some(find) => job.fill(plan, &find).await,
                None if once => job.once(plan, window).await,
                None => job.scheduled(plan).await,
            };
            ended.map_err(|error| error.about(&path))
        });
    }
    Ok(join(tasks, color).await)
}

/// What finds the gaps of a pipeline whose source can fill some.
fn finder(plan: &Plan) -> Result<FindMissing, CliError> {
    if !plan.parts.source.fills() {
        let text = format!("its source \"{}\" cannot ask for what is missing (--fill-gaps)", plan.outline.source);
        let windows = plan.parts.source.capabilities().windows;
        return Err(CliError::config(text).help(windows.then(|| "`--from` and `--to` ask for a whole window of the past".to_owned())));
    }
    find_missing(&plan.expected).ok_or_else(|| CliError::config(format!("{NOT_TOLD} (--fill-gaps)")).help(Some(HOW_TO_TELL.to_owned())))
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
    record: Option<PathBuf>,
    cancel: CancellationToken,
    /// The pipeline wired once more, where what it stored has to be read back to tell how new it is.
    twin: Option<Plan>,
}

impl Job {
    fn engine(&self, plan: Plan, watcher: &Watcher) -> Result<Engine, CliError> {
        let observer = watcher.observer(progress::observer(&plan.parts.name, self.quiet));
        Ok(Engine::new(plan.parts, Arc::clone(&self.state.store), self.ports.clone(), self.state.dir.clone(), observer)?)
    }

    async fn once(mut self, plan: Plan, window: Option<Window>) -> Result<u8, CliError> {
        let name = plan.parts.name.to_string();
        let watcher = Watcher::new(&plan, self.twin.take(), &self.state, &self.ports);
        let mut engine = self.engine(plan, &watcher)?;
        engine.resume(&self.cancel, false).await?;
        if self.cancel.is_cancelled() {
            return Ok(exit::PARTIAL);
        }
        // What was resumed is another run's: it is not in the recording.
        let recording = self.record.as_deref().map(|dir| Ok((trial::record(&mut engine, &name, dir, window, &self.ports)?, dir)));
        let recording: Option<((Recorder, RunRequest), &Path)> = recording.transpose().map_err(|error: CliError| error)?;
        let request = recording.as_ref().map_or_else(|| engine.now(window), |((_, request), _)| request.clone());
        let record = engine.run(&request, &self.cancel).await;
        watcher.tell().await;
        let kept = recording.map_or(Ok(()), |((recorder, _), dir)| trial::recorded(&recorder, dir));
        // How the run went counts, whether or not somebody reads its summary.
        if let Err(error) = print(&name, &record, self.format) {
            error.print(false);
        }
        kept.map(|()| code(&record))
    }

    async fn fill(mut self, plan: Plan, find: &FindMissing) -> Result<u8, CliError> {
        let name = plan.parts.name.to_string();
        let watcher = Watcher::new(&plan, self.twin.take(), &self.state, &self.ports);
        let mut engine = self.engine(plan, &watcher)?;
        // It may fill some of them.
        engine.resume(&self.cancel, false).await?;
        if self.cancel.is_cancelled() {
            return Ok(exit::PARTIAL);
        }
        let missing = find(self.state.store.as_ref())?;
        engine.forget_filled(&missing.gaps)?;
        if missing.gaps.is_empty() {
            match self.format {
                Format::Json => output::line(
                    &json!({"pipeline": name, "run_id": null, "status": "ok", "cause": "fill", "splits": [], "refused": [], "error": null})
                        .to_string(),
                )?,
                Format::Text => output::line(&format!("{name}: nothing is missing"))?,
            }
            return Ok(exit::OK);
        }
        let request = engine.now_missing(missing);
        let record = engine.run(&request, &self.cancel).await;
        watcher.tell().await;
        let printed = match self.format {
            Format::Json => {
                let mut summary = output::summary(&name, &record);
                summary["refused"] = refused_json(engine.refused());
                output::line(&summary.to_string())
            }
            Format::Text => output::line(&format!("{}{}", output::summary_text(&name, &record), refused_text(engine.refused()))),
        };
        if let Err(error) = printed {
            error.print(false);
        }
        Ok(code(&record))
    }

    async fn scheduled(mut self, plan: Plan) -> Result<u8, CliError> {
        let name = plan.parts.name.to_string();
        let format = self.format;
        let watcher = Watcher::new(&plan, self.twin.take(), &self.state, &self.ports);
        let mut engine = self.engine(plan, &watcher)?;
        let mut stdout_gone = false;
        let (wake, over) = (Notify::new(), CancellationToken::new());
        let run = async {
            engine
                .run_scheduled(&self.cancel, |record| {
                    wake.notify_one();
                    // For people the log line of the run says it already. Nobody reading is no reason to stop collecting.
                    if format == Format::Json && !stdout_gone {
                        stdout_gone = print(&name, record, format).is_err();
                    }
                })
                .await;
            over.cancel();
        };
        // Who stops it knows that it is stopped: no webhook is waited for then.
        let tell = async {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => {}
                () = watcher.notifier.watch(&watcher, &wake, &over) => {}
            }
        };
        tokio::join!(run, tell);
        Ok(exit::OK)
    }
}

fn print(name: &str, record: &RunRecord, format: Format) -> Result<(), CliError> {
    match format {
        Format::Json => output::line(&output::summary(name, record).to_string()),
        Format::Text => output::line(&output::summary_text(name, record)),
    }
}

fn code(record: &RunRecord) -> u8 {
    match record.status {
        RunStatus::Ok => exit::OK,
        RunStatus::Failed => exit::FAILED,
        RunStatus::Partial | RunStatus::Interrupted | RunStatus::Open => exit::PARTIAL,
    }
}

/// Lines for what could not be filled.
fn refused_text(refused: &[Refusal]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for Refusal { gap, reason } in refused.iter().take(SHOWN) {
        let series: Vec<String> = gap.series.iter().map(|(column, value)| format!("{column} = {value}")).collect();
        let (from, to, series) = (rfc3339(gap.from), rfc3339(gap.to), series.join(", "));
        let _ = write!(text, "\n  not filled: {series}{}{from} to {to}, {} rows: {reason}", if series.is_empty() { "" } else { ", " }, gap.missing);
    }
    if let Some(more) = refused.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = write!(text, "\n  not filled: {more} more; --format json lists them all");
    }
    text
}
