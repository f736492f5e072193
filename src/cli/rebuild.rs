//! `pipeline state rebuild`: what a pipeline remembers is derived anew from what is stored.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{Act, Filter, Ports, RealDisk, Records, SinkState, StageError, rfc3339};
use serde_json::{Value, json};

use super::files::UNFINISHED;
use super::{App, CliError, Global, exit, files, logging, output, progress};
use crate::plan::Plan;
use crate::run::{Engine, Fill, OpenSink, QUARANTINE, QuarantineFile, StoredReject, adopt_quarantine, sink_context};
use crate::stages::dedupe::{DedupePlan, Deduper, OnConflict};
use crate::state::{DedupeChanges, ModelStore, Rebuilt, SqliteStore, Store};

/// What a rebuild works with.
struct Work<'a> {
    app: &'a App,
    global: &'a Global,
    file: &'a Path,
    plan: &'a Plan,
    ports: Ports,
    store: Arc<dyn Store>,
    dir: PathBuf,
}

pub(crate) async fn main(app: &App, global: &Global, file: &Path, fill: bool) -> Result<u8, CliError> {
    let plan = files::plan_of(app, global, file)?;
    logging::init(global, &[&plan.log]);
    let name = Arc::clone(&plan.parts.name);
    let _lock = files::lock(global, &name)?;
    let dir = files::state_dir(global, &name);
    let (store, kept) = SqliteStore::open_for_rebuild(&dir)?;
    if let Some(kept) = kept {
        output::line(&format!("the state was damaged: it is kept as {}, and a new one is begun", kept.display()))?;
    }
    let work = Work { app, global, file, plan: &plan, ports: files::ports(app, global), store: Arc::new(store), dir };
    work.close_open_run().await?;
    work.rebuild(fill).await
}

impl Work<'_> {
    fn name(&self) -> &str {
        &self.plan.parts.name
    }

    fn context(&self, sink: &str) -> pipeline_contract::SinkContext {
        sink_context(self.name(), sink, &self.ports, &self.store, &self.dir)
    }

    /// What a killed run left half done is no basis: it is taken back first, as a run would.
    async fn close_open_run(&self) -> Result<(), CliError> {
        let Some(open) = self.store.open_run()? else { return Ok(()) };
        let bound = self.store.binding()?.map(|mut bound| {
            bound.0.remove(UNFINISHED);
            bound
        });
        if bound.as_ref() != Some(&self.plan.binding) {
            output::line(&format!(
                "  warning: the run {} was open under the pipeline file as it was; what it had half done stays as it is",
                open.run_id
            ))?;
            return Ok(());
        }
        let again = files::plan_of(self.app, self.global, self.file)?;
        let observer = progress::observer(self.name(), true);
        let mut engine = Engine::new(again.parts, Arc::clone(&self.store), self.ports.clone(), self.dir.clone(), observer)?;
        Ok(engine.close_open_run().await?)
    }

    async fn rebuild(&self, fill: bool) -> Result<u8, CliError> {
        let mut rebuilt = Rebuilt { binding: self.plan.binding.clone(), ..Rebuilt::default() };
        for part in &self.plan.parts.sinks {
            rebuilt.sinks.push((part.id.clone(), part.sink.adopt(&self.context(&part.id)).await.map_err(unfit)?));
        }
        let mut held = self.held(&rebuilt).await?;
        let lacking: Vec<usize> = held.lacking();
        if !fill && !lacking.is_empty() {
            return Err(self.different(&held));
        }
        let fillings = lacking.iter().map(|place| Ok((*place, self.donors(*place, &held)?))).collect::<Result<Vec<_>, CliError>>()?;
        self.tell_forgotten(&rebuilt, &lacking)?;
        if let Some(path) = &self.plan.quarantine {
            rebuilt.sinks.push((QUARANTINE.to_owned(), adopt_quarantine(path, &self.context(QUARANTINE))?));
            let rejects = QuarantineFile { path, disk: &RealDisk }.read()?;
            let hashes: Vec<_> = rejects.iter().map(StoredReject::hash).collect();
            let known = self.store.rejects(&hashes)?;
            rebuilt.rejects = hashes.into_iter().zip(known.into_iter().map(|state| state == Some(true))).collect();
        }
        let files = rebuilt.sinks.iter().flat_map(|(_, state)| state.0.values()).filter(|record| !record.is_null()).count();
        rebuilt.dedupe = std::mem::take(&mut held.dedupe);
        if !fillings.is_empty() {
            // All rows count as stored from here on, though one sink still lacks some: no run may go by that before it holds them.
            rebuilt.binding.0.insert(UNFINISHED.to_owned(), json!("begun, not finished"));
        }
        self.store.rebuild(&rebuilt)?;
        for (place, donors) in &fillings {
            let rows = self.fill(*place, donors, &mut held).await?;
            output::line(&format!("{}: {rows} rows that it lacked were copied into it", self.sink(*place)))?;
        }
        if !fillings.is_empty() {
            self.store.bind(&self.plan.binding)?;
        }
        let now = rfc3339(self.ports.clock.now());
        output::line(&format!("{}: the state is derived anew from {} stored rows in {files} files ({now})", self.name(), held.rows))?;
        if held.twice > 0 {
            output::line(&format!("  warning: {} stored rows share their key with another; they were left as they are", held.twice))?;
        }
        Ok(exit::OK)
    }

    /// A sink as people know it.
    fn sink(&self, place: usize) -> String {
        self.plan.sinks.get(place).map_or_else(String::new, |sink| format!("{} ({})", sink.id, sink.plan.targets.join(", ")))
    }

    fn tell_forgotten(&self, rebuilt: &Rebuilt, filled: &[usize]) -> Result<(), CliError> {
        let sinks = rebuilt.sinks.iter().enumerate().filter(|(place, _)| !filled.contains(place));
        for (path, _) in sinks.flat_map(|(_, (_, state))| &state.0).filter(|(_, record)| record.is_null()) {
            output::line(&format!("  warning: {path} is not part of the state any more: its rows are stored again when they come again"))?;
        }
        Ok(())
    }

    fn different(&self, held: &Held) -> CliError {
        let all = held.all;
        let parts: Vec<String> = held.sinks.iter().enumerate().map(|(place, (_, rows))| format!("{} holds {rows}", self.sink(place))).collect();
        let file = self.file.display();
        CliError::config(format!("the sinks hold different rows: of {all} rows in all, {}", parts.join(", "))).help(Some(format!(
            "`pipeline state rebuild {file} --fill` copies to each what only another holds; or put back what is missing, or move away what only one \
             of them holds, so that it is stored in each when it comes again: then `pipeline state rebuild {file}`"
        )))
    }

    /// What the sinks hold, by keys.
    async fn held(&self, rebuilt: &Rebuilt) -> Result<Held, CliError> {
        let mut held = Held::default();
        let Some(dedupe) = self.plan.parts.dedupe.clone() else { return Ok(held) };
        let stored = self.plan.sinks.first().map(|sink| sink.plan.stored.as_slice()).unwrap_or_default();
        // Sinks are compared by keys alone: what the first one stored stands.
        let keys = DedupePlan::new(&self.plan.schema, &self.plan.keys, stored, OnConflict::KeepFirst)?;
        let deduper = |plan: &DedupePlan| Deduper::new(plan.clone(), Arc::new(ModelStore::default()));
        let (mut memory, mut union) = (deduper(&dedupe)?, deduper(&keys)?);
        let several = self.plan.parts.sinks.len() > 1;
        for (place, part) in self.plan.parts.sinks.iter().enumerate() {
            let mut context = self.context(&part.id);
            if let Some((_, state)) = rebuilt.sinks.iter().find(|(id, _)| *id == part.id) {
                // What is adopted counts from now on, not what was committed.
                context.records = Arc::new(Adopted(state.clone()));
            }
            let mut stream = part.sink.read_back(&context, &Filter::default()).await?;
            let (mut own, mut distinct) = (deduper(&keys)?, 0);
            while let Some(batch) = stream.next().await.map_err(unfit)? {
                let batch = widened(&batch, self.plan)?;
                if place == 0 {
                    held.rows += batch.num_rows() as u64;
                    held.twice += batch.num_rows() as u64 - memory.apply(&batch)?.append.num_rows() as u64;
                }
                if several {
                    let of_sink = own.apply(&batch)?.append;
                    distinct += of_sink.num_rows() as u64;
                    let new = union.apply(&of_sink)?.append;
                    held.all += new.num_rows() as u64;
                    if place > 0 {
                        memory.apply(&new)?;
                    }
                }
            }
            held.sinks.push((own, distinct));
        }
        held.dedupe = memory.changes();
        Ok(held)
    }

    /// The sinks from which one that lacks rows is filled: one that holds all, or all others.
    fn donors(&self, place: usize, held: &Held) -> Result<Vec<usize>, CliError> {
        let lacks = |donor: usize| -> Vec<&str> {
            let (Some(to), Some(from)) = (self.plan.sinks.get(place), self.plan.sinks.get(donor)) else { return Vec::new() };
            to.plan.written.iter().filter(|column| !from.plan.stored.contains(column)).map(String::as_str).collect()
        };
        let mut others: Vec<usize> = (0..held.sinks.len()).filter(|other| *other != place).collect();
        if let Some(whole) =
            others.iter().find(|other| held.sinks.get(**other).is_some_and(|(_, rows)| *rows == held.all) && lacks(**other).is_empty())
        {
            return Ok(vec![*whole]);
        }
        others.retain(|other| held.sinks.get(*other).is_some_and(|(_, rows)| *rows > 0));
        match others.iter().map(|other| (*other, lacks(*other))).find(|(_, columns)| !columns.is_empty()) {
            None => Ok(others),
            Some((donor, columns)) => {
                let text = format!("{} cannot be filled from {}, which does not hold {}", self.sink(place), self.sink(donor), columns.join(", "));
                Err(CliError::config(text).help(Some(format!(
                    "put back what is missing; or move away what only one of them holds, then `pipeline state rebuild {}`: those rows are stored in \
                     each when they come again",
                    self.file.display()
                ))))
            }
        }
    }

    /// Copies into one sink what it lacks.
    async fn fill(&self, place: usize, donors: &[usize], held: &mut Held) -> Result<u64, CliError> {
        let again = files::plan_of(self.app, self.global, self.file)?;
        let (Some(part), Some((own, _))) = (again.parts.sinks.into_iter().nth(place), held.sinks.get_mut(place)) else { return Ok(0) };
        let sink = OpenSink { cx: self.context(&part.id), id: part.id, sink: part.sink };
        let mut fill = Fill::begin(self.name(), sink, Arc::clone(&self.store), &self.ports).await?;
        let written = self.copy(&mut fill, donors, own).await;
        Ok(fill.end(written).await?)
    }

    async fn copy(&self, fill: &mut Fill, donors: &[usize], own: &mut Deduper) -> Result<(), StageError> {
        for part in donors.iter().filter_map(|donor| self.plan.parts.sinks.get(*donor)) {
            let mut stream = part.sink.read_back(&self.context(&part.id), &Filter::default()).await?;
            while let Some(batch) = stream.next().await? {
                let lacked = own.apply(&widened(&batch, self.plan)?)?.append;
                if lacked.num_rows() > 0 {
                    fill.write(lacked).await?;
                }
            }
        }
        Ok(())
    }
}

/// A file that cannot be taken over as it is: nothing was written, and somebody must look at it.
fn unfit(error: StageError) -> CliError {
    let code = if error.act == Act::Split { exit::CONFIG } else { exit::FAILED };
    CliError::new(code, error.message).help(error.help)
}

/// A sink's records as they will be.
struct Adopted(SinkState);

impl Records for Adopted {
    fn get(&self, key: &str) -> Result<Option<Value>, StageError> {
        Ok(self.0.0.get(key).filter(|record| !record.is_null()).cloned())
    }
    fn all(&self) -> Result<Vec<(String, Value)>, StageError> {
        Ok(self.0.0.iter().filter(|(_, record)| !record.is_null()).map(|(key, record)| (key.clone(), record.clone())).collect())
    }
}

/// What the sinks of a pipeline hold.
#[derive(Default)]
struct Held {
    /// The dedupe state of all rows; where sinks hold other values under a key, of the first.
    dedupe: DedupeChanges,
    /// Rows in the first sink.
    rows: u64,
    /// Of these, rows that share their key with another.
    twice: u64,
    /// For each sink its keys, and how many they are; only where there are several.
    sinks: Vec<(Deduper, u64)>,
    /// Different keys in all.
    all: u64,
}

impl Held {
    fn lacking(&self) -> Vec<usize> {
        self.sinks.iter().enumerate().filter(|(_, (_, rows))| *rows < self.all).map(|(place, _)| place).collect()
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
