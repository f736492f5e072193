//! From the text of a pipeline file to its definition, every span kept and every fault found in one go.
//!
//! ```text
//! load() -> SourceFile --parse(env)--> PipelineDef { StageDef { table }, ... } --StageDef::build(plugin)--> Stage
//! ```
//!
//! `${NAME}` forms are replaced here, and here alone. What came from the environment is not shown in any fault.

mod env;
mod expand;
mod schema;
mod sections;
mod tables;
#[cfg(test)]
mod tests;
mod values;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use pipeline_contract::{BuildContext, ConfigTable, Expansions, PlanError, Plugin, Spanned, Stage, nearest};

pub use crate::diagnostic::SourceFile;
pub use env::Env;
pub use schema::schema;
pub use sections::parse;
pub use tables::{CatchUp, DedupeDef, LogConfig, LogFormat, LogLevel, Overrun, RunConfig, TriggerPolicy};
pub use values::ByteSize;

use crate::stages::validate::ValidateConfig;

/// Reads a pipeline file.
///
/// # Errors
/// E004 when it cannot be read, or is not text.
pub fn load(path: &Path) -> Result<Arc<SourceFile>, PlanError> {
    let fault = |what: String| PlanError::new("E004", format!("cannot read {}: {what}", path.display()));
    let bytes = std::fs::read(path).map_err(|cause| fault(cause.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|cause| fault(format!("byte {} is not UTF-8 text", cause.utf8_error().valid_up_to())))?;
    Ok(Arc::new(SourceFile { path: path.to_owned(), text }))
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
    /// Where `[validate]` stands.
    pub validate_span: Range<usize>,
    /// Which of them are the same.
    pub dedupe: Option<DedupeDef>,
    /// Where they go. Empty only where a fault says so.
    pub sinks: Vec<StageDef<'a>>,
    expansions: Expansions,
}

impl PipelineDef<'_> {
    /// Hides what came from the environment in faults that were found later, with the help of this definition.
    pub fn hide(&self, faults: &mut Vec<PlanError>) {
        self.expansions.hide(faults);
    }
}

/// What a pipeline file declares of one stage.
#[derive(Clone, Debug)]
pub struct StageDef<'a> {
    /// The `type`.
    pub type_name: Spanned<String>,
    /// All other keys: the plugin's own.
    pub table: ConfigTable<'a>,
    /// Where the stage stands: its header.
    pub span: Range<usize>,
    /// Keys of the table that the engine has read already.
    engine_keys: &'static [&'static str],
}

impl StageDef<'_> {
    /// Builds the stage by its plugin.
    ///
    /// # Errors
    /// All faults that the plugin finds, without what came from the environment. There may be none at all: then a `${NAME}` of the table
    /// could not be replaced, which [`parse`] has reported.
    pub fn build(&self, plugin: &dyn Plugin, cx: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let mut stage = plugin.build(&self.table, cx);
        if let Err(faults) = &mut stage {
            self.suggest_engine_keys(faults);
            self.table.expansions().hide(faults);
        }
        stage
    }

    /// A plugin knows its own keys alone: the nearest to an unknown one may be the engine's.
    fn suggest_engine_keys(&self, faults: &mut [PlanError]) {
        let keys = self.table.keys();
        for fault in faults.iter_mut().filter(|fault| fault.code == "E010") {
            let key = keys.iter().find(|key| Some(key.span()) == fault.span);
            if let Some(name) = key.and_then(|key| nearest(key, self.engine_keys.iter().copied())) {
                fault.help = Some(format!("did you mean `{name}`?"));
            }
        }
    }
}
