//! The command line: one file a command.

mod check;
mod completions;
mod connect;
mod explain;
mod files;
mod list;
mod logging;
mod new;
mod notify;
mod options;
mod output;
mod plan;
mod progress;
mod read;
mod rebuild;
mod rejects;
mod rolling;
mod run;
mod schema;
mod serve;
mod signals;
mod state;
mod status;
mod test;
mod transport;
mod trial;
mod watcher;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};
use pipeline_contract::{Plugin, StageError, Transport};

use crate::plan::Registry;

pub use files::CliError;
pub use transport::NoTransport;

/// Exit codes; see `pipeline --help`.
pub mod exit {
    /// All good.
    pub const OK: u8 = 0;
    /// The run failed.
    pub const FAILED: u8 = 1;
    /// Configuration, usage, a held lock, or a state that does not fit: nothing was written.
    pub const CONFIG: u8 = 2;
    /// Partial or interrupted: what succeeded is stored.
    pub const PARTIAL: u8 = 3;
}

/// The program: plugins, the network, and the command line over them.
///
/// ```no_run
/// # fn transport() -> std::sync::Arc<dyn pipeline_contract::Transport> { unimplemented!() }
/// # fn my_plugins() -> Vec<Box<dyn pipeline_contract::Plugin>> { unimplemented!() }
/// fn main() -> std::process::ExitCode {
///     pipeline::cli::App::new(transport()).with(my_plugins()).main()
/// }
/// ```
pub struct App {
    registry: Registry,
    transport: Arc<dyn Transport>,
    on_thread: fn(),
}

impl App {
    /// A program that has no plugins but the transforms everybody needs.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { registry: Registry::new(), transport, on_thread: || {} }
    }

    /// Adds plugins. Of two with one kind and type name, the later counts.
    #[must_use]
    pub fn with(mut self, plugins: impl IntoIterator<Item = Box<dyn Plugin>>) -> Self {
        self.registry.add(plugins);
        self
    }

    /// Calls this at the start of each thread that it makes: an allocator may have settings for each.
    #[must_use]
    pub fn on_thread(mut self, begin: fn()) -> Self {
        self.on_thread = begin;
        self
    }

    /// Runs the command line of this process.
    pub fn main(self) -> ExitCode {
        self.main_from(std::env::args_os())
    }

    /// Runs a given command line.
    pub fn main_from(self, args: impl IntoIterator<Item = OsString>) -> ExitCode {
        let args = match Args::try_parse_from(args) {
            Ok(args) => args,
            Err(error) => {
                // Help and version are answers, not errors.
                let code = if error.use_stderr() { exit::CONFIG } else { exit::OK };
                let _ = error.print();
                return ExitCode::from(code);
            }
        };
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        // Threads that wrote files take memory while they wait for more to do, and the next tick may be an hour away.
        builder.enable_all().on_thread_start(self.on_thread).thread_keep_alive(std::time::Duration::from_secs(1));
        let runtime = match builder.build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "error: the program cannot start its threads: {error}");
                return ExitCode::from(exit::FAILED);
            }
        };
        let color = args.global.color.is_on(std::io::stderr().is_terminal());
        let code = match runtime.block_on(dispatch(&self, &args)) {
            Ok(code) => code,
            Err(error) => {
                error.print(color);
                error.code
            }
        };
        // What still runs (a request under way) is of no interest any more.
        runtime.shutdown_background();
        ExitCode::from(code)
    }
}

async fn dispatch(app: &App, args: &Args) -> Result<u8, CliError> {
    match &args.command {
        Command::Run(run) => run::main(app, &args.global, run).await,
        Command::Serve(serve) => serve::main(app, &args.global, serve).await,
        Command::New(new) => new::main(app, new),
        Command::Check(check) => check::main(app, &args.global, check).await,
        Command::Test(test) => test::main(app, &args.global, test),
        Command::Read(read) => read::main(app, &args.global, read).await.map_err(|error| error.about(&read.file)),
        Command::Status(status) => status::main(app, &args.global, status).await,
        Command::Rejects(rejects) => rejects::main(app, &args.global, rejects).await.map_err(|error| error.about(&rejects.file)),
        Command::Notify(notify) => notify::main(app, &args.global, notify).await.map_err(|error| error.about(&notify.file)),
        Command::State(state) => state::main(app, &args.global, state).await.map_err(|error| error.about(state.file())),
        Command::List(list) => list::main(app, list),
        Command::Explain(explain) => explain::main(app, explain),
        Command::Plan(plan) => plan::main(app, &args.global, plan),
        Command::Schema => schema::main(app),
        Command::Completions(completions) => completions::main(completions),
    }
}

/// Collects data on a schedule, checks it, and stores it without losing or doubling a row.
///
/// Pipelines are TOML files: a trigger, a source, transforms, validation, dedupe and sinks.
#[derive(Parser, Debug)]
#[command(name = "pipeline", version, after_long_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  all good (rejected rows alone do not change that)
  1  the run failed: an abort limit, every split, or the list of splits; or a probe of `check --connect` did
  2  configuration, usage, a held lock, or a state that does not fit the file: nothing was written
  3  partial or interrupted: what succeeded is stored

Relative paths in a pipeline file are relative to the working directory.";

/// Options of every command.
#[derive(clap::Args, Debug)]
pub(crate) struct Global {
    /// The folder in which pipelines remember what they stored
    #[arg(long, global = true, env = "PIPELINE_STATE_DIR", default_value = ".pipeline", value_name = "DIR")]
    pub(crate) state_dir: PathBuf,
    /// How log lines on stderr look
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Say more: -v for debug, -vv for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say less: warnings and errors alone; -qq for errors alone
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "verbose")]
    pub(crate) quiet: u8,
    /// Colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// When there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// `NO_COLOR` (no-color.org) turns `auto` off.
    pub(crate) fn is_on(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run pipelines by their triggers until stopped, or once
    Run(run::RunArgs),
    /// Run every pipeline of a folder by its trigger, follow changes of the files, and answer over HTTP
    Serve(serve::ServeArgs),
    /// Check pipeline files: nothing is written, and without --connect nothing is asked of the network
    Check(check::CheckArgs),
    /// Run the tests of pipeline files: no network, nothing is written
    Test(test::TestArgs),
    /// Write a plugin's crate, or a pipeline file, to begin with
    New(new::NewArgs),
    /// Print stored rows
    Read(read::ReadArgs),
    /// Show last runs, ticks and what comes next
    Status(status::StatusArgs),
    /// List rejected rows, or try them again
    Rejects(rejects::RejectsArgs),
    /// Show what a pipeline remembers, or derive it anew from what is stored
    State(state::StateArgs),
    /// Send a message to the webhooks of a pipeline, to see that it arrives
    Notify(notify::NotifyArgs),
    /// List the plugins
    List(list::ListArgs),
    /// Show a plugin's options and a sample
    Explain(explain::ExplainArgs),
    /// Draw a pipeline: each stage with the columns that leave it
    Plan(plan::PlanArgs),
    /// Print the JSON Schema of pipeline files, for editors
    Schema,
    /// Print the completions of a shell
    Completions(completions::CompletionsArgs),
}

/// How a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

impl From<StageError> for CliError {
    fn from(error: StageError) -> Self {
        Self::new(exit::FAILED, error.message).help(error.help)
    }
}
