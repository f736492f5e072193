//! The sink.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use pipeline_contract::arrow::array::BooleanArray;
use pipeline_contract::arrow::{RecordBatch, SchemaRef};
use pipeline_contract::{
    Ahead, BatchStream, Begun, Delivery, Epoch, Filter, Op, PlanError, Recovery, Sink, SinkCapabilities, SinkContext, SinkInput, SinkPlan, SinkState,
    StageError, async_trait, select_rows,
};
use pipeline_files::FileSet;

use crate::config::Checked;
use crate::format::Format;
use crate::layout::Layout;
use crate::making::{self, Batch, Making, Runs};
use crate::read::{Rows, files};
use crate::replace::{self, Lines};

/// Paths that were computed, so that a row whose path is known costs no more than a look at its columns.
#[derive(Default)]
struct Known {
    paths: Vec<String>,
    by_path: HashMap<String, usize>,
    by_signature: HashMap<Vec<u8>, usize>,
}

/// More are forgotten: a path for each minute must not fill the memory.
const KNOWN: usize = 10_000;

/// Rows as lines of files.
pub struct LinesSink {
    checked: Checked,
    format: Arc<dyn Format>,
    planned: Option<(Arc<Layout>, SchemaRef)>,
    files: Option<FileSet>,
    known: Known,
    /// Lines of the open epoch that are not yet given to `files`.
    making: Making,
    replaced: BTreeMap<String, Lines>,
}

impl LinesSink {
    /// A sink with these options, whose lines look like this.
    pub fn new(checked: Checked, format: impl Format) -> Self {
        Self {
            checked,
            format: Arc::new(format),
            planned: None,
            files: None,
            known: Known::default(),
            making: Making::default(),
            replaced: BTreeMap::new(),
        }
    }

    fn layout(&self) -> Result<Arc<Layout>, StageError> {
        self.planned.as_ref().map(|(layout, _)| layout.clone()).ok_or_else(|| self.broken("planned"))
    }

    fn broken(&self, what: &str) -> StageError {
        StageError::developer(format!("the {} sink was not {what}", self.format.name()))
    }

    fn files(&mut self) -> Result<&mut FileSet, StageError> {
        self.files.as_mut().ok_or_else(not_recovered)
    }

    /// Has lines be made of runs of rows, each for the known path with its number.
    fn make(&mut self, layout: &Arc<Layout>, batch: &RecordBatch, runs: impl Iterator<Item = (Range<usize>, usize)>) -> Result<(), StageError> {
        let files = self.files.as_mut().ok_or_else(not_recovered)?;
        // The files of these rows, and for each run the number of its file among them.
        let (mut paths, mut numbers) = (Vec::new(), vec![None; self.known.paths.len()]);
        let mut number = |path: usize| {
            *numbers[path].get_or_insert_with(|| {
                paths.push(self.known.paths[path].clone());
                paths.len() - 1
            })
        };
        let numbered = runs.map(|(rows, path)| (rows, number(path))).collect();
        // Whatever is wrong with a file is the fault of these rows.
        paths.iter().try_for_each(|path| files.announce(path, &layout.header))?;
        self.making.add(making::begin(layout, batch, numbered, paths)?);
        Ok(())
    }

    /// Gives all lines to `files` that were made.
    async fn append(&mut self) -> Result<(), StageError> {
        let layout = self.layout()?;
        let files = self.files.as_mut().ok_or_else(not_recovered)?;
        while let Some(made) = self.making.next().await {
            for (path, lines) in made? {
                files.append(&path, &layout.header, lines)?;
            }
        }
        Ok(())
    }
}

/// Makes lines of rows that are all for one file.
struct OneFile(Arc<Layout>);

/// Lines, and the file that they are for.
struct LinesAhead {
    path: String,
    lines: Batch,
}

impl Ahead for OneFile {
    fn begin(&self, batch: &RecordBatch, selection: Option<&BooleanArray>) -> Option<Begun> {
        let layout = &self.0;
        let path = layout.paths.render(batch, 0).ok()?;
        layout.check_written(&path).ok()?;
        let runs = match selection {
            Some(selection) => selection.values().set_slices().map(|(from, to)| (from..to, 0)).collect(),
            None => vec![(0..batch.num_rows(), 0)],
        };
        let lines = making::begin(layout, batch, runs, vec![path.clone()]).ok()?;
        Some(Box::new(LinesAhead { path, lines }))
    }
}

fn not_recovered() -> StageError {
    StageError::developer("the sink was not recovered before it is used")
}

/// Runs of rows that go to one file, in order.
fn runs(layout: &Layout, known: &mut Known, batch: &RecordBatch) -> Result<Runs, StageError> {
    if known.by_signature.len() > KNOWN {
        *known = Known::default();
    }
    let mut runs = Runs::new();
    let (mut last, mut signature) = (Vec::new(), Vec::new());
    for row in 0..batch.num_rows() {
        signature.clear();
        layout.paths.signature(batch, row, &mut signature);
        match runs.last_mut() {
            Some((rows, _)) if signature == last => rows.end = row + 1,
            _ => {
                let path = match known.by_signature.get(&signature) {
                    Some(path) => *path,
                    None => {
                        let path = layout.paths.render(batch, row)?;
                        layout.check_written(&path)?;
                        // Hours of one day may have one path.
                        let place = *known.by_path.entry(path.clone()).or_insert(known.paths.len());
                        if place == known.paths.len() {
                            known.paths.push(path);
                        }
                        known.by_signature.insert(signature.clone(), place);
                        place
                    }
                };
                match runs.last_mut() {
                    Some((rows, same)) if *same == path => rows.end = row + 1,
                    _ => runs.push((row..row + 1, path)),
                }
                std::mem::swap(&mut last, &mut signature);
            }
        }
        if layout.paths.is_one() {
            runs.iter_mut().for_each(|(rows, _)| rows.end = batch.num_rows());
            break;
        }
    }
    Ok(runs)
}

#[async_trait]
impl Sink for LinesSink {
    fn plan(&mut self, input: &SinkInput) -> Result<SinkPlan, Vec<PlanError>> {
        let (layout, plan) = Layout::plan(&self.checked, &self.format, input)?;
        self.planned = Some((Arc::new(layout), input.schema.clone()));
        Ok(plan)
    }

    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities { replace: true, delivery: Delivery::ExactlyOnce }
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.layout().map(|layout| vec![PathBuf::from(&layout.paths.root.dir)]).unwrap_or_default()
    }

    async fn recover(&mut self, cx: &SinkContext, recovery: &Recovery) -> Result<(), StageError> {
        let root = self.layout()?.paths.root.clone();
        self.replaced.clear();
        self.making = Making::default();
        self.known = Known::default();
        self.files.insert(FileSet::new(cx)).recover(recovery, &[root])
    }

    async fn write(&mut self, batch: &RecordBatch, op: Op) -> Result<(), StageError> {
        let layout = self.layout()?;
        layout.check_keys(batch)?;
        let runs = runs(&layout, &mut self.known, batch)?;
        if op == Op::Append {
            return self.make(&layout, batch, runs.into_iter());
        }
        self.append().await?;
        let files = self.files.as_mut().ok_or_else(not_recovered)?;
        let sources = layout.sources(batch);
        let mut made = layout.lines(&sources);
        let mut new: BTreeMap<&str, Lines> = BTreeMap::new();
        for (rows, path) in runs {
            let lines = new.entry(&self.known.paths[path]).or_default();
            for row in rows {
                let (mut key, mut line) = (Vec::new(), Vec::new());
                layout.key_of_row(batch, row, &mut key);
                made.write(row..row + 1, &mut line).map_err(|why| layout.refuse(why))?;
                lines.insert(key, line);
            }
        }
        for (path, lines) in new {
            let earlier = self.replaced.get(path);
            let mut keys: HashSet<Vec<u8>> = lines.keys().filter(|key| !earlier.is_some_and(|lines| lines.contains_key(*key))).cloned().collect();
            if !keys.is_empty() {
                replace::locate(&layout, path, files.content(path, &layout.header)?, &mut keys)?;
            }
            if !keys.is_empty() {
                return Err(replace::missing(path, keys.len()));
            }
            files.announce(path, &layout.header)?;
            self.replaced.entry(path.to_owned()).or_default().extend(lines);
        }
        Ok(())
    }

    async fn write_selected(&mut self, batch: &RecordBatch, selection: &BooleanArray, op: Op) -> Result<(), StageError> {
        let layout = self.layout()?;
        if op == Op::Append && layout.takes_all_alike() {
            // Lines are made of runs of rows in any case.
            let runs = runs(&layout, &mut self.known, batch)?;
            let selected = runs.first().into_iter().flat_map(|(_, path)| selection.values().set_slices().map(|(from, to)| (from..to, *path)));
            return self.make(&layout, batch, selected);
        }
        // Which file a row is for, and whether its key can be stored, is asked of each.
        self.write(&select_rows(batch, selection)?, op).await
    }

    fn ahead(&self) -> Option<Arc<dyn Ahead>> {
        // Else each row is asked which file it is for, and whether its key can be stored.
        let layout = self.layout().ok().filter(|layout| layout.takes_all_alike())?;
        Some(Arc::new(OneFile(layout)))
    }

    async fn write_begun(&mut self, begun: Begun) -> Result<(), StageError> {
        let layout = self.layout()?;
        let LinesAhead { path, lines } = *begun.downcast().map_err(|_| self.broken("given what it began"))?;
        self.files()?.announce(&path, &layout.header)?;
        self.making.add(lines);
        Ok(())
    }

    fn changed_files(&self) -> usize {
        self.files.as_ref().map_or(0, FileSet::changed)
    }

    async fn look(&mut self, stored: &RecordBatch) -> Result<(), StageError> {
        let layout = self.layout()?;
        let runs = runs(&layout, &mut self.known, stored)?;
        let files = self.files.as_mut().ok_or_else(not_recovered)?;
        runs.iter().try_for_each(|(_, path)| files.check(&self.known.paths[*path], &layout.header).map(|_| ()))
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<SinkState, StageError> {
        self.append().await?;
        let layout = self.layout()?;
        let replaced = std::mem::take(&mut self.replaced);
        let files = self.files()?;
        for (path, lines) in replaced {
            files.rewrite(&path, &layout.header, replace::edit(layout.clone(), path.clone(), lines))?;
        }
        files.prepare(epoch)
    }

    async fn commit(&mut self, epoch: Epoch, state: &SinkState) -> Result<(), StageError> {
        self.files()?.commit(epoch, state)
    }

    async fn abort(&mut self) -> Result<(), StageError> {
        self.replaced.clear();
        self.making = Making::default();
        self.files.as_mut().map_or(Ok(()), FileSet::abort)
    }

    async fn read_back(&self, cx: &SinkContext, filter: &Filter) -> Result<Box<dyn BatchStream>, StageError> {
        let (layout, schema) = self.planned.as_ref().ok_or_else(|| self.broken("planned"))?;
        Ok(Box::new(Rows::new(layout, cx, filter, |name| schema.index_of(name).ok())?))
    }

    async fn adopt(&self, cx: &SinkContext) -> Result<SinkState, StageError> {
        let layout = self.layout()?;
        let files = files(&layout, cx)?;
        files.iter().try_for_each(|path| layout.check_whole(path))?;
        pipeline_files::adopt(cx, &files, &layout.header)
    }

    async fn probe(&self, cx: &SinkContext) -> Result<(), StageError> {
        pipeline_files::probe(cx, &self.layout()?.paths.root.dir)
    }
}
