//! From the files of a command line to plans, stores and the world outside.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline_contract::Ports;

use super::{App, Global, exit};
use crate::config::Env;
use crate::plan::Plan;
use crate::state::{OpenError, PipelineLock, Store};
use crate::workspace::{self, Refused};

pub(crate) use crate::workspace::{Loaded, OpenState, UNFINISHED, peek_dir, pipeline_of, render, sources};

/// Why a command ends without doing what was asked.
#[derive(Debug)]
pub struct CliError {
    pub(crate) code: u8,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// Rendered already, with its own heading.
    pub(crate) rendered: bool,
}

impl CliError {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, rendered: false }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(exit::CONFIG, message)
    }

    /// Nobody reads what is printed any more.
    pub(crate) fn reader_gone() -> Self {
        Self { code: exit::OK, message: String::new(), help: None, rendered: true }
    }

    pub(crate) fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    pub(crate) fn print(&self, color: bool) {
        if self.message.is_empty() {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        let (red, plain) = if color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        // Where stderr is gone there is nobody to tell.
        let _ = if self.rendered { writeln!(stderr, "{}", self.message.trim_end()) } else { writeln!(stderr, "{red}error{plain}: {}", self.message) };
        if let Some(help) = &self.help {
            let _ = writeln!(stderr, "  = help: {help}");
        }
    }
}

impl From<Refused> for CliError {
    fn from(refused: Refused) -> Self {
        let code = if refused.config { exit::CONFIG } else { exit::FAILED };
        Self::new(code, refused.message).help(refused.help)
    }
}

impl From<OpenError> for CliError {
    fn from(refused: OpenError) -> Self {
        Refused::from(refused).into()
    }
}

/// The pipeline files that the arguments name: files as they are, folders by their `*.toml`, of which each must have one.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    for folder in paths.iter().filter(|path| path.is_dir()) {
        if workspace::in_folder(folder)?.is_empty() {
            return Err(CliError::config(format!("{}: there is no pipeline file (*.toml) in this folder", folder.display())));
        }
    }
    Ok(workspace::find(paths)?)
}

/// As [`load_all`], with the tests beside each file. A test file may be named in the place of its pipeline.
pub(crate) fn load_with_tests(app: &App, paths: &[PathBuf]) -> Result<Vec<Loaded>, CliError> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| pipeline_of(path).filter(|_| !path.is_dir()).unwrap_or_else(|| path.clone())).collect();
    let mut loaded = load_all(app, &paths)?;
    let env = environment()?;
    loaded.iter_mut().for_each(|one| one.read_beside(&env));
    Ok(loaded)
}

/// Reads, types and wires files, also against each other.
pub(crate) fn load_all(app: &App, paths: &[PathBuf]) -> Result<Vec<Loaded>, CliError> {
    let env = environment()?;
    Ok(workspace::load_all(&app.registry, &find(paths)?, &env))
}

/// The plans of all files, or all of their faults.
pub(crate) fn plans(app: &App, global: &Global, paths: &[PathBuf]) -> Result<Vec<(PathBuf, Plan)>, CliError> {
    let loaded = load_all(app, paths)?;
    let others = sources(&loaded);
    let color = global.color.is_on(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let text: String = loaded.iter().map(|file| render(file, &others, color)).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    if loaded.iter().any(|file| file.plan.is_none()) {
        return Err(CliError { code: exit::CONFIG, message: text, help: None, rendered: true });
    }
    if !text.is_empty() {
        let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
    }
    Ok(loaded.into_iter().filter_map(|file| file.plan.map(|plan| (file.path, plan))).collect())
}

/// The plan of one file.
pub(crate) fn plan_of(app: &App, global: &Global, path: &Path) -> Result<Plan, CliError> {
    let mut plans = plans(app, global, &[path.to_path_buf()])?;
    match (plans.pop(), plans.is_empty()) {
        (Some((_, plan)), true) => Ok(plan),
        _ => Err(CliError::config(format!("{}: this command takes one pipeline file, not a folder of several", path.display()))),
    }
}

/// The process's environment and `.env`.
pub(crate) fn environment() -> Result<Env, CliError> {
    Env::load(Path::new(".")).map_err(|fault| CliError::config(fault.message).help(fault.help))
}

/// The folder of one pipeline under the state directory.
pub(crate) fn state_dir(global: &Global, name: &str) -> PathBuf {
    workspace::state_dir(&global.state_dir, name)
}

/// The world outside.
pub(crate) fn ports(app: &App, global: &Global) -> Ports {
    workspace::ports(Arc::clone(&app.transport), &global.state_dir).0
}

/// Takes the lock of a pipeline, or says who has it.
pub(crate) fn lock(global: &Global, name: &str) -> Result<PipelineLock, CliError> {
    Ok(workspace::lock(&global.state_dir, name)?)
}

/// Opens the state of a planned pipeline for writing.
///
/// # Errors
/// Exit 2 when another process has it, or when it does not fit the pipeline file; nothing was written then.
pub(crate) fn open_state(global: &Global, plan: &Plan, path: &Path) -> Result<OpenState, CliError> {
    Ok(workspace::open_state(&global.state_dir, &plan.parts.name, &plan.binding, path)?)
}

/// A pipeline's state for looking only; an empty one when there is none.
pub(crate) fn peek_state(global: &Global, name: &str) -> Result<Arc<dyn Store>, CliError> {
    Ok(peek_dir(&state_dir(global, name))?)
}
