//! `pipeline run`: by trigger until stopped, or once; what stores nothing is in `trial`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_contract::{Clock, Ports, StageError, Trigger, Window};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::files::{self, OpenState};
use super::trial::{self, Trial};
use super::{App, CliError, Format, Global, exit, logging, output, progress, signals};
use crate::notify::Notifier;
use crate::plan::Plan;
use crate::record::Recorder;
use crate::run::{Engine, RunRequest};
use crate::state::{RunRecord, RunStatus, Store};
use crate::watch::{Expected, Report, Subject, report};
use crate::workspace::instant;

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
    let once = args.once || dry || window.is_some();
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
        for (_, plan) in plans {
            let trial = Trial { sample, format, record: args.record.clone(), replay: args.replay.clone(), window };
            tasks.spawn(trial::main(plan, global.state_dir.clone(), ports.clone(), trial, cancel.clone()));
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
        let job =
            Job { state, ports: ports.clone(), format: args.format, quiet: global.quiet > 0, record: args.record.clone(), cancel: cancel.clone() };
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
    record: Option<PathBuf>,
    cancel: CancellationToken,
}

impl Job {
    fn engine(&self, plan: Plan) -> Result<Engine, CliError> {
        let observer = progress::observer(&plan.parts.name, self.quiet);
        Ok(Engine::new(plan.parts, Arc::clone(&self.state.store), self.ports.clone(), self.state.dir.clone(), observer)?)
    }

    async fn once(self, plan: Plan, window: Option<Window>) -> Result<u8, CliError> {
        let name = plan.parts.name.to_string();
        let watcher = Watcher::new(&plan, &self);
        let mut engine = self.engine(plan)?;
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
        let code = match record.status {
            RunStatus::Ok => exit::OK,
            RunStatus::Failed => exit::FAILED,
            RunStatus::Partial | RunStatus::Interrupted | RunStatus::Open => exit::PARTIAL,
        };
        kept.map(|()| code)
    }

    async fn scheduled(self, plan: Plan) -> Result<u8, CliError> {
        let name = plan.parts.name.to_string();
        let format = self.format;
        let watcher = Watcher::new(&plan, &self);
        let mut engine = self.engine(plan)?;
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
                () = watcher.notifier.watch(|| watcher.look(), &wake, &over) => {}
            }
        };
        tokio::join!(run, tell);
        Ok(exit::OK)
    }
}

/// Looks at a pipeline from beside it, and tells its webhooks.
struct Watcher {
    name: Arc<str>,
    notifier: Notifier,
    store: Arc<dyn Store>,
    trigger: Arc<dyn Trigger>,
    expected: Expected,
    clock: Arc<dyn Clock>,
}

impl Watcher {
    fn new(plan: &Plan, job: &Job) -> Self {
        Self {
            name: Arc::clone(&plan.parts.name),
            notifier: Notifier::new(plan.notify.clone(), Arc::clone(&job.state.store), job.ports.clone()),
            store: Arc::clone(&job.state.store),
            trigger: Arc::clone(&plan.parts.trigger),
            expected: plan.expected.clone(),
            clock: Arc::clone(&job.ports.clock),
        }
    }

    fn look(&self) -> Result<Report, StageError> {
        let subject = Subject {
            name: &self.name,
            store: self.store.as_ref(),
            trigger: self.trigger.as_ref(),
            expected: &self.expected,
            newest: None,
            gaps: None,
            fault: None,
            down: false,
        };
        report(&subject, self.clock.now())
    }

    /// Tells once, of a run that was asked for by hand or by cron.
    async fn tell(&self) {
        let over = CancellationToken::new();
        over.cancel();
        self.notifier.watch(|| self.look(), &Notify::new(), &over).await;
    }
}

fn print(name: &str, record: &RunRecord, format: Format) -> Result<(), CliError> {
    match format {
        Format::Json => output::line(&output::summary(name, record).to_string()),
        Format::Text => output::line(&output::summary_text(name, record)),
    }
}
