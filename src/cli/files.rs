//! From the files of a command line to plans, stores and the world outside.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline_contract::{Clock, Level, PlanError, Ports, RealDisk};

use super::{App, Global, exit};
use crate::config::{self, BESIDE, Env, SourceFile};
use crate::diagnostic;
use crate::plan::{self, Facts, Plan};
use crate::run::{RealClock, RealRandom, SharedBudget, advice};
use crate::state::{Binding, LockError, ModelStore, OpenError, PipelineLock, SqliteCredits, SqliteStore, Store};
use crate::testing::Case;

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

    /// Says the path of the pipeline file where the help has a command that takes it.
    pub(crate) fn about(mut self, file: &Path) -> Self {
        self.help = self.help.map(|help| advice(&help, file));
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

impl From<OpenError> for CliError {
    fn from(refused: OpenError) -> Self {
        let code = if refused.unusable { exit::CONFIG } else { exit::FAILED };
        Self::new(code, refused.error.message).help(refused.error.help)
    }
}

/// The pipeline files that the arguments name: files as they are, folders by their `*.toml`.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for path in paths {
        if let Some(pipeline) = pipeline_of(path).filter(|_| !path.is_dir()) {
            let text = format!("{} holds the tests of {}, it is no pipeline", path.display(), pipeline.display());
            return Err(CliError::config(text).help(Some(format!("name the pipeline: {}", pipeline.display()))));
        }
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|error| CliError::config(format!("{}: {error}", path.display())))?;
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "toml") && pipeline_of(p).is_none())
            .collect();
        if found.is_empty() {
            return Err(CliError::config(format!("{}: there is no pipeline file (*.toml) in this folder", path.display())));
        }
        found.sort();
        files.extend(found);
    }
    // A file that is named twice, as by itself and by its folder, is one pipeline.
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|path| seen.insert(path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect::<PathBuf>()));
    Ok(files)
}

/// The pipeline whose tests are in this file, if its name says that they are: `crypto.toml` for `crypto.test.toml`.
pub(crate) fn pipeline_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(BESIDE).filter(|name| !name.is_empty())?;
    Some(path.with_file_name(format!("{name}.toml")))
}

/// The file of tests that may be beside a pipeline.
fn beside(pipeline: &Path) -> Option<PathBuf> {
    let name = pipeline.file_name()?.to_str()?.strip_suffix(".toml")?;
    Some(pipeline.with_file_name(format!("{name}{BESIDE}"))).filter(|path| path.exists())
}

/// Tests in a file of their own.
pub(crate) struct Beside {
    pub(crate) file: Arc<SourceFile>,
    pub(crate) faults: Vec<PlanError>,
    pub(crate) cases: Vec<Case>,
}

/// A file that was read, with what was found in it.
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<SourceFile>,
    pub(crate) faults: Vec<PlanError>,
    pub(crate) plan: Option<Plan>,
    /// The tests beside it, where they were asked for.
    pub(crate) beside: Option<Beside>,
    facts: Facts,
}

impl Loaded {
    /// A file of which nothing can be told but a fault of its own.
    fn unread(path: &Path, fault: PlanError) -> Self {
        let file = Arc::new(SourceFile { path: path.to_path_buf(), text: String::new() });
        Self { path: path.to_path_buf(), file, faults: vec![fault], plan: None, beside: None, facts: Facts::default() }
    }

    /// The pipeline file, and the one beside it, each with its faults.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&SourceFile, &[PlanError])> {
        let own = (self.file.as_ref(), self.faults.as_slice());
        std::iter::once(own).chain(self.beside.iter().map(|beside| (beside.file.as_ref(), beside.faults.as_slice())))
    }

    /// Is there an error among its faults?
    pub(crate) fn failed(&self) -> bool {
        self.parts().any(|(_, faults)| faults.iter().any(|fault| fault.level == Level::Error))
    }

    /// Reads the tests that are beside it.
    fn read_beside(&mut self, env: &Env) {
        let Some(path) = beside(&self.path) else { return };
        let file = match config::load(&path) {
            Ok(file) => file,
            Err(fault) => {
                let file = Arc::new(SourceFile { path, text: String::new() });
                self.beside = Some(Beside { file, faults: vec![fault], cases: Vec::new() });
                return;
            }
        };
        let (tests, mut faults) = config::parse_tests(&file, env);
        let (cases, mut more) = self.facts.columns().map(|columns| plan::cases(&tests.tests, columns)).unwrap_or_default();
        tests.hide(&mut more);
        faults.extend(more);
        self.beside = Some(Beside { file, faults, cases });
    }
}

/// As [`load_all`], with the tests beside each file. A test file may be named in the place of its pipeline.
pub(crate) fn load_with_tests(app: &App, paths: &[PathBuf]) -> Result<Vec<Loaded>, CliError> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| pipeline_of(path).filter(|_| !path.is_dir()).unwrap_or_else(|| path.clone())).collect();
    let mut loaded = load_all(app, &paths)?;
    let env = Env::load(Path::new("")).unwrap_or_else(|_| Env::partial());
    loaded.iter_mut().for_each(|one| one.read_beside(&env));
    Ok(loaded)
}

/// Reads, types and wires files, also against each other.
pub(crate) fn load_all(app: &App, paths: &[PathBuf]) -> Result<Vec<Loaded>, CliError> {
    let (env, fault) = match Env::load(Path::new("")) {
        Ok(env) => (env, None),
        Err(fault) => (Env::partial(), Some(fault)),
    };
    let mut loaded: Vec<Loaded> = find(paths)?.iter().map(|path| load(app, path, &env)).collect();
    let facts: Vec<_> = loaded.iter().map(|file| (file.path.clone(), &file.facts)).collect();
    for (n, fault) in plan::together(&facts) {
        if let Some(file) = loaded.get_mut(n) {
            file.faults.push(fault);
            file.plan = None;
        }
    }
    if let Some(fault) = fault {
        loaded.iter_mut().for_each(|file| file.plan = None);
        loaded.insert(0, Loaded::unread(Path::new(Env::FILE), fault));
    }
    Ok(loaded)
}

/// All files, for faults that point from one into another.
pub(crate) fn sources(loaded: &[Loaded]) -> Vec<&SourceFile> {
    loaded.iter().flat_map(Loaded::parts).map(|(file, _)| file).collect()
}

/// Reads, types and wires one file.
fn load(app: &App, path: &Path, env: &Env) -> Loaded {
    let file = match config::load(path) {
        Ok(file) => file,
        Err(fault) => {
            return Loaded::unread(path, fault);
        }
    };
    let (def, mut faults) = config::parse(&file, env);
    let (plan, facts, more) = plan::plan(&def, &app.registry);
    faults.extend(more);
    let failed = faults.iter().any(|fault| fault.level == Level::Error);
    Loaded { path: path.to_path_buf(), plan: plan.filter(|_| !failed), file, faults, beside: None, facts }
}

/// All faults of a file as the user sees them.
pub(crate) fn render(loaded: &Loaded, others: &[&SourceFile], color: bool) -> String {
    let texts: Vec<String> = loaded.parts().map(|(file, faults)| diagnostic::render(file, others, faults, color)).collect();
    texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
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
    Env::load(Path::new("")).map_err(|fault| {
        let file = SourceFile { path: Env::FILE.into(), text: String::new() };
        let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
        CliError { code: exit::CONFIG, message: diagnostic::render(&file, &[], &[fault], color), help: None, rendered: true }
    })
}

/// The folder of one pipeline under the state directory.
pub(crate) fn state_dir(global: &Global, name: &str) -> PathBuf {
    global.state_dir.join(name)
}

/// The world outside.
pub(crate) fn ports(app: &App, global: &Global) -> Ports {
    let clock: Arc<dyn Clock> = Arc::new(RealClock::default());
    let credits = Arc::new(SqliteCredits::new(global.state_dir.join("credits.db")));
    Ports {
        budget: Arc::new(SharedBudget::new(Arc::clone(&clock), credits)),
        clock,
        random: Arc::new(RealRandom::default()),
        disk: Arc::new(RealDisk),
        transport: Arc::clone(&app.transport),
    }
}

/// A part of the binding while `state rebuild --fill` copies rows: it fits no pipeline file, so that nothing runs before it is done.
pub(crate) const UNFINISHED: &str = "state rebuild";

/// A pipeline's state, opened for writing: nobody else has it.
pub(crate) struct OpenState {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) dir: PathBuf,
    _lock: PipelineLock,
}

/// Takes the lock of a pipeline, or says who has it.
pub(crate) fn lock(global: &Global, name: &str) -> Result<PipelineLock, CliError> {
    PipelineLock::acquire(&state_dir(global, name), chrono::Utc::now()).map_err(|error| {
        // A disk that does not let us is no fault of the configuration.
        let code = if matches!(error, LockError::Held { .. }) { exit::CONFIG } else { exit::FAILED };
        CliError::new(code, format!("pipeline \"{name}\": {error}")).help(Some(error.help().to_owned()))
    })
}

/// Opens the state of a planned pipeline for writing.
///
/// # Errors
/// Exit 2 when another process has it, or when it does not fit the pipeline file; nothing was written then.
pub(crate) fn open_state(global: &Global, plan: &Plan, path: &Path) -> Result<OpenState, CliError> {
    let name = &plan.parts.name;
    let lock = lock(global, name)?;
    let dir = state_dir(global, name);
    let store = SqliteStore::open(&dir)?;
    match store.binding()? {
        None => store.bind(&plan.binding)?,
        Some(bound) if bound == plan.binding => {}
        Some(bound) if bound.0.contains_key(UNFINISHED) => {
            let text = format!("`state rebuild --fill` of pipeline \"{name}\" was begun and not finished: a sink still lacks rows");
            return Err(CliError::config(text).help(Some(format!("`pipeline state rebuild {} --fill` goes on with it", path.display()))));
        }
        // Nothing was stored under the old one: there is nothing that would not fit.
        Some(_) if store.last_epoch()?.is_none() => store.bind(&plan.binding)?,
        Some(bound) => return Err(misfit(path, name, &bound, &plan.binding)),
    }
    Ok(OpenState { store: Arc::new(store), dir, _lock: lock })
}

fn misfit(path: &Path, name: &str, bound: &Binding, planned: &Binding) -> CliError {
    let mut changes = Vec::new();
    let parts: std::collections::BTreeSet<&String> = bound.0.keys().chain(planned.0.keys()).collect();
    for part in parts {
        let (was, is) = (bound.0.get(part), planned.0.get(part));
        if was != is {
            let show = |value: Option<&serde_json::Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            changes.push(format!("\n  {part}: was {}, is {}", show(was), show(is)));
        }
    }
    let file = path.display();
    CliError::config(format!("the state of pipeline \"{name}\" does not fit {file} any more:{}", changes.concat())).help(Some(format!(
        "put the file back as it was; or, when the stored files have been moved or rewritten to fit it, `pipeline state rebuild {file}`; or give the pipeline a new name"
    )))
}

/// A pipeline's state for looking only; an empty one when there is none.
pub(crate) fn peek_state(global: &Global, name: &str) -> Result<Arc<dyn Store>, CliError> {
    peek_dir(&state_dir(global, name))
}

/// The state in a pipeline's own folder, for looking only.
pub(crate) fn peek_dir(dir: &Path) -> Result<Arc<dyn Store>, CliError> {
    Ok(match SqliteStore::open_read_only(dir)? {
        Some(store) => Arc::new(store),
        None => Arc::new(ModelStore::default()),
    })
}
