//! `pipeline state`: what a pipeline remembers, and how it is derived anew from what is stored.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{Filter, Ports, RealDisk, Records, SinkState, StageError, rfc3339};
use serde_json::{Value, json};

use super::{App, CliError, Format, Global, exit, files, logging, output, progress};
use crate::plan::Plan;
use crate::run::{Engine, QUARANTINE, QuarantineFile, StoredReject, adopt_quarantine, sink_context};
use crate::stages::dedupe::Deduper;
use crate::state::{ModelStore, Rebuilt, SqliteStore, Store};

#[derive(clap::Args, Debug)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
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
    },
}

pub(crate) async fn main(app: &App, global: &Global, args: &StateArgs) -> Result<u8, CliError> {
    match &args.command {
        StateCommand::Show { file, format } => show(app, global, file, *format),
        StateCommand::Rebuild { file } => rebuild(app, global, file).await,
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

async fn rebuild(app: &App, global: &Global, file: &Path) -> Result<u8, CliError> {
    let plan = files::plan_of(app, global, file)?;
    logging::init(global, &[&plan.log]);
    let name = Arc::clone(&plan.parts.name);
    let _lock = files::lock(global, &name)?;
    let dir = files::state_dir(global, &name);
    let (store, kept) = SqliteStore::open_for_rebuild(&dir)?;
    if let Some(kept) = kept {
        output::line(&format!("the state was damaged: it is kept as {}, and a new one is begun", kept.display()))?;
    }
    let store: Arc<dyn Store> = Arc::new(store);
    let ports = files::ports(app, global);
    let fits = store.binding()?.is_some_and(|bound| bound == plan.binding);
    if !fits && let Some(open) = store.open_run()? {
        output::line(&format!(
            "  warning: the run {} was open under the pipeline file as it was; what it had half done stays as it is",
            open.run_id
        ))?;
    }
    if fits && store.open_run()?.is_some() {
        // What a killed run left half done is no basis: it is taken back first, as a run would.
        let again = files::plan_of(app, global, file)?;
        let mut engine = Engine::new(again.parts, Arc::clone(&store), ports.clone(), dir.clone(), progress::observer(&name, true))?;
        engine.close_open_run().await?;
    }
    let mut rebuilt = Rebuilt { binding: plan.binding.clone(), ..Rebuilt::default() };
    let quarantine = plan.quarantine.clone();
    let (mut files, mut forgotten) = (0, Vec::new());
    for part in &plan.parts.sinks {
        let context = sink_context(&name, &part.id, &ports, &store, &dir);
        let state = part.sink.adopt(&context).await?;
        files += state.0.values().filter(|record| !record.is_null()).count();
        forgotten.extend(state.0.iter().filter(|(_, record)| record.is_null()).map(|(key, _)| key.clone()));
        rebuilt.sinks.push((part.id.clone(), state));
    }
    let (rows, twice) = keys(&plan, &ports, &store, &dir, &mut rebuilt).await?;
    if let Some(path) = quarantine {
        let context = sink_context(&name, QUARANTINE, &ports, &store, &dir);
        rebuilt.sinks.push((QUARANTINE.to_owned(), adopt_quarantine(&path, &context)?));
        let rejects = QuarantineFile { path: &path, disk: &RealDisk }.read()?;
        let hashes: Vec<_> = rejects.iter().map(StoredReject::hash).collect();
        let known = store.rejects(&hashes)?;
        rebuilt.rejects = hashes.into_iter().zip(known.into_iter().map(|state| state == Some(true))).collect();
    }
    store.rebuild(&rebuilt)?;
    for path in &forgotten {
        output::line(&format!("  warning: {path} is not part of the state any more: its rows are stored again when they come again"))?;
    }
    output::line(&format!("{name}: the state is derived anew from {rows} stored rows in {files} files ({})", rfc3339(ports.clock.now())))?;
    if twice > 0 {
        output::line(&format!("  warning: {twice} stored rows share their key with another; they were left as they are"))?;
    }
    Ok(exit::OK)
}

/// Fills the dedupe state from the first sink's stored rows. Answers how many there are, and how many share a key.
///
/// # Errors
/// When the sinks hold different rows: what counts as stored would then be written twice to one of them, or never to the other.
async fn keys(plan: &Plan, ports: &Ports, store: &Arc<dyn Store>, dir: &Path, rebuilt: &mut Rebuilt) -> Result<(u64, u64), CliError> {
    let Some(dedupe) = plan.parts.dedupe.clone() else { return Ok((0, 0)) };
    let deduper = || Deduper::new(dedupe.clone(), Arc::new(ModelStore::default()));
    let mut first = deduper()?;
    let (mut rows, mut unique) = (0, 0);
    for (place, part) in plan.parts.sinks.iter().enumerate() {
        let mut context = sink_context(&plan.parts.name, &part.id, ports, store, dir);
        if let Some((_, state)) = rebuilt.sinks.iter().find(|(id, _)| *id == part.id) {
            // What is adopted counts from now on, not what was committed.
            context.records = Arc::new(Adopted(state.clone()));
        }
        let mut stream = part.sink.read_back(&context, &Filter::default()).await?;
        let mut own = deduper()?;
        let (mut shared, mut alone) = (0, 0);
        while let Some(batch) = stream.next().await? {
            let batch = widened(&batch, plan)?;
            if place == 0 {
                rows += batch.num_rows() as u64;
                unique += first.apply(&batch)?.append.num_rows() as u64;
                continue;
            }
            let distinct = own.apply(&batch)?.append;
            let here_alone = first.apply(&distinct)?.append.num_rows() as u64;
            alone += here_alone;
            shared += distinct.num_rows() as u64 - here_alone;
        }
        if place == 0 {
            rebuilt.dedupe = first.changes();
        } else if alone > 0 || shared < unique {
            let text = format!(
                "the sinks hold different rows: {} lacks {alone} that {} holds, and {} of the reverse",
                plan.parts.sinks[0].id,
                part.id,
                unique - shared
            );
            return Err(CliError::config(text).help(Some(
                "put back what is missing; or move away what only one of them holds, so that it is stored in both when it comes again".to_owned(),
            )));
        }
    }
    Ok((rows, rows - unique))
}

/// A sink's records as they are derived anew.
struct Adopted(SinkState);

impl Records for Adopted {
    fn get(&self, key: &str) -> Result<Option<Value>, StageError> {
        Ok(self.0.0.get(key).filter(|record| !record.is_null()).cloned())
    }
    fn all(&self) -> Result<Vec<(String, Value)>, StageError> {
        Ok(self.0.0.iter().filter(|(_, record)| !record.is_null()).map(|(key, record)| (key.clone(), record.clone())).collect())
    }
}

/// Stored rows in the columns that reach dedupe: those that are not stored are null (and count for nothing there).
fn widened(batch: &RecordBatch, plan: &Plan) -> Result<RecordBatch, StageError> {
    use pipeline_contract::arrow::{Field, Schema, array::new_null_array};
    let mut fields = Vec::new();
    let columns = plan.schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => {
            fields.push(field.as_ref().clone().with_nullable(true));
            Arc::clone(column)
        }
        None => {
            fields.push(Field::new(field.name(), field.data_type().clone(), true));
            new_null_array(field.data_type(), batch.num_rows())
        }
    });
    let columns: Vec<_> = columns.collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| StageError::developer(format!("stored rows do not fit the schema: {error}")))
}
