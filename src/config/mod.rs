//! From the text of a pipeline file to its definition, every span kept and every fault found in one go.
//!
//! ```text
//! load() -> SourceFile --parse(env)--> PipelineDef { StageDef { table }, ... } --StageDef::build(plugin)--> Stage
//! ```
//!
//! `${NAME}` forms are replaced here, and here alone. What came from the environment is not shown in any fault.

mod broken;
mod env;
mod expand;
mod notify;
mod schema;
mod sections;
mod tables;
mod test;
#[cfg(test)]
mod tests;
mod values;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use pipeline_contract::{BuildContext, ConfigTable, Draft, Expansions, PlanError, Plugin, Spanned, nearest};

pub use crate::diagnostic::SourceFile;
pub use env::Env;
pub use schema::schema;
pub use sections::{parse, parse_tests};
pub use tables::{CatchUp, DedupeDef, LogConfig, LogFormat, LogLevel, Overrun, RunConfig, TriggerPolicy};
pub use test::{BESIDE, CellDef, ExpectDef, RejectDef, ResponseDef, RowDef, TestDef, TestFile};
pub use values::ByteSize;

use crate::notify::Target;
use crate::stages::validate::ValidateConfig;

/// The most bytes that a pipeline file, or `.env`, may have. People write them, and the longest of theirs is a hundredth of it.
pub const MAX_FILE: u64 = 1 << 20;

/// Reads a pipeline file.
///
/// # Errors
/// E004 when it cannot be read, is larger than [`MAX_FILE`], or is not text.
pub fn load(path: &Path) -> Result<Arc<SourceFile>, PlanError> {
    let fault = |what: String| PlanError::new("E004", format!("cannot read {}: {what}", path.display()));
    let bytes = read_capped(path).map_err(|cause| fault(cause.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|cause| fault(format!("byte {} is not UTF-8 text", cause.utf8_error().valid_up_to())))?;
    Ok(Arc::new(SourceFile { path: path.to_owned(), text }))
}

/// A file that people write, whole. What never ends, as a device, is left off at the limit too.
fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} MiB, the most that is read", MAX_FILE >> 20)));
    }
    Ok(bytes)
}

/// What a pipeline file declares.
#[derive(Clone, Debug)]
pub struct PipelineDef<'a> {
    /// Its name; empty where a fault says so.
    pub name: Spanned<String>,
    /// What it is for.
    pub description: Option<String>,
    /// What is written down about runs.
    pub log: LogConfig,
    /// Who is told when something is wrong.
    pub notify: Vec<Target>,
    /// How a run works.
    pub run: RunConfig,
    /// What to do about ticks that were missed or come too soon.
    pub policy: TriggerPolicy,
    /// When it runs. `None` only where a fault says so.
    pub trigger: Option<StageDef<'a>>,
    /// Where rows come from. `None` only where a fault says so.
    pub source: Option<StageDef<'a>>,
    /// What is done to them, in order.
    pub transforms: Vec<StageDef<'a>>,
    /// Which of them are good.
    pub validate: Option<ValidateConfig>,
    /// Nothing is wrong with the table `[validate]` itself.
    pub is_validate_whole: bool,
    /// Where `[validate]` stands.
    pub validate_span: Range<usize>,
    /// Which of them are the same.
    pub dedupe: Option<DedupeDef>,
    /// Where they go. Empty only where a fault says so.
    pub sinks: Vec<StageDef<'a>>,
    /// What must become of rows, by example: those with which nothing is wrong.
    pub tests: Vec<TestDef>,
    broken: broken::Broken,
    expansions: Expansions,
}

impl PipelineDef<'_> {
    /// Is a part of the file no TOML, so that something of it may be missing here?
    pub fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Has a stage no type, which [`parse`] has reported?
    pub fn is_reported(&self, stage: &StageDef<'_>) -> bool {
        stage.type_name.is_empty() && stage.type_name.span() == stage.span
    }

    /// Does a stage lack a part that is no TOML?
    pub fn is_stage_broken(&self, stage: &StageDef<'_>) -> bool {
        self.broken.touches(&stage.span)
    }

    /// Of faults that were found later, with the help of this definition: hides what came from the environment, and drops what follows
    /// from a part of the file that is no TOML.
    pub fn hide(&self, faults: &mut Vec<PlanError>) {
        self.broken.hide(faults);
        self.expansions.hide(faults);
    }
}

/// What a pipeline file declares of one stage.
#[derive(Clone, Debug)]
pub struct StageDef<'a> {
    /// The `type`; empty where a fault says so.
    pub type_name: Spanned<String>,
    /// All other keys: the plugin's own.
    pub table: ConfigTable<'a>,
    /// Where the stage stands: its header.
    pub span: Range<usize>,
    /// Keys of the table that the engine has read already.
    engine_keys: &'static [&'static str],
}

impl StageDef<'_> {
    /// Builds the stage by its plugin, as far as its table goes.
    ///
    /// There may be no stage and no fault: then a `${NAME}` of the table could not be replaced, which [`parse`] has reported.
    pub fn draft(&self, plugin: &dyn Plugin, cx: &BuildContext) -> Draft {
        let mut draft = plugin.draft(&self.table, cx);
        crate::diagnostic::limit(&mut draft.faults);
        self.suggest_engine_keys(&mut draft.faults);
        self.table.expansions().hide(&mut draft.faults);
        draft
    }

    /// A plugin knows its own keys alone: the nearest to an unknown one may be the engine's.
    fn suggest_engine_keys(&self, faults: &mut [PlanError]) {
        let keys = self.table.keys();
        for fault in faults.iter_mut().filter(|fault| fault.code == "E010") {
            let key = keys.iter().find(|key| Some(key.span()) == fault.span);
            if let Some(name) = key.and_then(|key| nearest(key, self.engine_keys.iter().copied())) {
                *fault = fault.clone().meant(format_args!("`{name}`"), name);
            }
        }
    }
}
