//! `pipeline state`: what a pipeline remembers, and how it is derived anew from what is stored.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{App, CliError, Format, Global, exit, files, output, rebuild};
use crate::run::QUARANTINE;

#[derive(clap::Args, Debug)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

impl StateArgs {
    pub(super) fn file(&self) -> &Path {
        match &self.command {
            StateCommand::Show { file, .. } | StateCommand::Rebuild { file, .. } => file,
        }
    }
}

#[derive(clap::Subcommand, Debug)]
enum StateCommand {
    /// Show what a pipeline remembers
    Show {
        /// The pipeline file
        file: PathBuf,
        /// Text for people, or one JSON object
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Derive dedupe state and file records anew from what is stored; stored rows are not changed
    Rebuild {
        /// The pipeline file
        file: PathBuf,
        /// Where sinks hold different rows, copy to each what only another holds
        #[arg(long)]
        fill: bool,
    },
}

pub(crate) async fn main(app: &App, global: &Global, args: &StateArgs) -> Result<u8, CliError> {
    match &args.command {
        StateCommand::Show { file, format } => show(app, global, file, *format),
        StateCommand::Rebuild { file, fill } => rebuild::main(app, global, file, *fill).await,
    }
}

fn show(app: &App, global: &Global, file: &Path, format: Format) -> Result<u8, CliError> {
    let plan = files::plan_of(app, global, file)?;
    let store = files::peek_state(global, &plan.parts.name)?;
    let epoch = store.last_epoch()?.map(|(epoch, _)| epoch);
    let (chunks, keyed) = store.dedupe_size()?;
    let mut records = serde_json::Map::new();
    for id in plan.sinks.iter().map(|sink| sink.id.as_str()).chain([QUARANTINE]) {
        records.insert(id.to_owned(), store.records(id)?.into_iter().collect::<serde_json::Map<_, _>>().into());
    }
    let open = store.open_run()?.map(|run| run.run_id);
    let binding = store.binding()?;
    let fits = binding.as_ref().is_none_or(|bound| *bound == plan.binding);
    let dir = files::state_dir(global, &plan.parts.name);
    if format == Format::Json {
        let object = json!({
            "pipeline": &*plan.parts.name, "folder": dir.display().to_string(), "epoch": epoch, "fits_the_file": fits,
            "open_run": open, "dedupe": {"chunks": chunks, "keys": keyed}, "binding": binding.map(|b| b.0), "records": records,
        });
        output::line(&object.to_string())?;
        return Ok(exit::OK);
    }
    output::line(&format!("{} in {}", plan.parts.name, dir.display()))?;
    let Some(binding) = binding else {
        output::line("  it remembers nothing yet")?;
        return Ok(exit::OK);
    };
    output::line(&format!("  last epoch: {}", epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string())))?;
    output::line(&format!("  dedupe: {chunks} chunks of series, {keyed} single keys"))?;
    output::line(&format!("  open run: {}", open.as_deref().unwrap_or("none")))?;
    output::line(&format!("  it speaks of{}:", if fits { "" } else { " (and does not fit the pipeline file any more)" }))?;
    for (part, value) in &binding.0 {
        output::line(&format!("    {part}: {value}"))?;
    }
    for (sink, of_sink) in &records {
        for (key, record) in of_sink.as_object().into_iter().flatten() {
            output::line(&format!("  {sink} {key}: {record}"))?;
        }
    }
    Ok(exit::OK)
}
