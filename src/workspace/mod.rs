//! Pipeline files of a folder, read and checked together, and the state that belongs to each: what the command line and [`crate::serve`]
//! both stand on.

mod rows;
mod states;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline_contract::{Level, PlanError, StageError};

use crate::config::{self, BESIDE, Env, SourceFile};
use crate::diagnostic;
use crate::plan::{self, Facts, Plan, Registry};
use crate::state::OpenError;
use crate::testing::Case;

pub use rows::{StoredRows, Wanted, csv_cell, instant};
pub use states::{OpenState, UNFINISHED, bind, fits, lock, open_state, peek_dir, ports, state_dir};

/// Why something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Somebody has to change a file, an option or a state that does not fit; else it failed.
    pub config: bool,
    /// What happened and where.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Refused {
    /// Of what the operator wrote or asked for.
    pub fn config(message: impl Into<String>) -> Self {
        Self { config: true, message: message.into(), help: None }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "\n  = help: {help}"))
    }
}

impl From<OpenError> for Refused {
    fn from(refused: OpenError) -> Self {
        Self { config: refused.unusable, message: refused.error.message, help: refused.error.help }
    }
}

impl From<StageError> for Refused {
    fn from(error: StageError) -> Self {
        Self { config: false, message: error.message, help: error.help }
    }
}

/// The pipeline files that paths name: files as they are, folders by their `*.toml`. A folder without any is empty here.
///
/// # Errors
/// A path that names the tests of a pipeline, or a folder that cannot be read.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Refused> {
    let mut files = Vec::new();
    for path in paths {
        if let Some(pipeline) = pipeline_of(path).filter(|_| !path.is_dir()) {
            let text = format!("{} holds the tests of {}, it is no pipeline", path.display(), pipeline.display());
            return Err(Refused::config(text).help(Some(format!("name the pipeline: {}", pipeline.display()))));
        }
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        files.extend(in_folder(path)?);
    }
    // A file that is named twice, as by itself and by its folder, is one pipeline.
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|path| seen.insert(path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect::<PathBuf>()));
    Ok(files)
}

/// The pipeline files of a folder, by name.
///
/// # Errors
/// When it cannot be read.
pub fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Refused> {
    let entries = std::fs::read_dir(folder).map_err(|error| Refused::config(format!("{}: {error}", folder.display())))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "toml") && pipeline_of(p).is_none())
        .collect();
    found.sort();
    Ok(found)
}

/// The pipeline whose tests are in this file, if its name says that they are: `crypto.toml` for `crypto.test.toml`.
pub fn pipeline_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(BESIDE).filter(|name| !name.is_empty())?;
    Some(path.with_file_name(format!("{name}.toml")))
}

/// The file of tests that may be beside a pipeline.
fn beside(pipeline: &Path) -> Option<PathBuf> {
    let name = pipeline.file_name()?.to_str()?.strip_suffix(".toml")?;
    Some(pipeline.with_file_name(format!("{name}{BESIDE}"))).filter(|path| path.exists())
}

/// Tests in a file of their own.
pub struct Beside {
    /// The file.
    pub file: Arc<SourceFile>,
    /// What is wrong with it.
    pub faults: Vec<PlanError>,
    /// Its tests.
    pub cases: Vec<Case>,
}

/// A file that was read, with what was found in it.
pub struct Loaded {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it; empty when it could not be read.
    pub file: Arc<SourceFile>,
    /// What is wrong with it.
    pub faults: Vec<PlanError>,
    /// The pipeline, when nothing is.
    pub plan: Option<Plan>,
    /// The tests beside it, where they were asked for.
    pub beside: Option<Beside>,
    /// What matters to other files.
    pub facts: Facts,
}

impl Loaded {
    /// The pipeline file, and the one beside it, each with its faults.
    pub fn parts(&self) -> impl Iterator<Item = (&SourceFile, &[PlanError])> {
        let own = (self.file.as_ref(), self.faults.as_slice());
        std::iter::once(own).chain(self.beside.iter().map(|beside| (beside.file.as_ref(), beside.faults.as_slice())))
    }

    /// Is there an error among its faults?
    pub fn failed(&self) -> bool {
        self.parts().any(|(_, faults)| faults.iter().any(|fault| fault.level == Level::Error))
    }

    /// Reads the tests that are beside it.
    pub fn read_beside(&mut self, env: &Env) {
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

/// Reads, types and wires files, also against each other.
pub fn load_all(registry: &Registry, files: &[PathBuf], env: &Env) -> Vec<Loaded> {
    let mut loaded: Vec<Loaded> = files.iter().map(|path| load(registry, path, env)).collect();
    let facts: Vec<_> = loaded.iter().map(|file| (file.path.clone(), &file.facts)).collect();
    for (n, fault) in plan::together(&facts) {
        if let Some(file) = loaded.get_mut(n) {
            file.faults.push(fault);
            file.plan = None;
        }
    }
    loaded
}

/// Reads, types and wires one file.
pub fn load(registry: &Registry, path: &Path, env: &Env) -> Loaded {
    match config::load(path) {
        Ok(file) => wire(registry, file, env),
        Err(fault) => {
            let file = Arc::new(SourceFile { path: path.to_path_buf(), text: String::new() });
            Loaded { path: path.to_path_buf(), file, faults: vec![fault], plan: None, beside: None, facts: Facts::default() }
        }
    }
}

/// Types and wires a file that was read.
pub fn wire(registry: &Registry, file: Arc<SourceFile>, env: &Env) -> Loaded {
    let (def, mut faults) = config::parse(&file, env);
    let (plan, facts, more) = plan::plan(&def, registry);
    faults.extend(more);
    let failed = faults.iter().any(|fault| fault.level == Level::Error);
    Loaded { path: file.path.clone(), plan: plan.filter(|_| !failed), file, faults, beside: None, facts }
}

/// All files, for faults that point from one into another.
pub fn sources(loaded: &[Loaded]) -> Vec<&SourceFile> {
    loaded.iter().flat_map(Loaded::parts).map(|(file, _)| file).collect()
}

/// All faults of a file as the user sees them.
pub fn render(loaded: &Loaded, others: &[&SourceFile], color: bool) -> String {
    let texts: Vec<String> = loaded.parts().map(|(file, faults)| diagnostic::render(file, others, faults, color)).collect();
    texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}
