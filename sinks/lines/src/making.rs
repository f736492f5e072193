//! Rows on their way to lines: made beside whoever writes them, since it needs nothing but the rows.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{ColumnType, StageError};
use pipeline_files::threads;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::format::LONGEST;
use crate::layout::Layout;

/// Fewer rows are not worth another thread.
const FEW: usize = 256;

/// Instants that every format can write: the years 1 to 9999, in microseconds since 1970.
const WRITABLE: Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// Lines and the file that they are for.
pub(crate) type Made = Vec<(String, Vec<u8>)>;

/// Batches whose lines are being made, in the order in which they came.
#[derive(Default)]
pub(crate) struct Making(VecDeque<Batch>);

/// Runs of rows, each for the file with its number among others.
pub(crate) type Runs = Vec<(Range<usize>, usize)>;

/// The lines of one batch.
pub(crate) enum Batch {
    Made(Made),
    Coming(Coming),
}

/// Lines that are made by a task of the runtime, or by who waits for them, whichever comes first: whoever waits may hold what each thread of the
/// runtime waits for.
pub(crate) struct Coming {
    work: Arc<Mutex<Option<Work>>>,
    made: oneshot::Receiver<Result<Made, StageError>>,
}

/// Lines that nobody makes yet.
struct Work {
    layout: Arc<Layout>,
    batch: RecordBatch,
    runs: Runs,
    paths: Vec<String>,
}

fn claim(work: &Mutex<Option<Work>>) -> Option<Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Work {
    fn make(self) -> Result<Made, StageError> {
        make(&self.layout, &self.batch, self.runs, self.paths)
    }

    fn begin(self, runtime: &Handle) -> Coming {
        let (answer, made) = oneshot::channel();
        let work = Arc::new(Mutex::new(Some(self)));
        let its = Arc::clone(&work);
        // As a task, not on a thread of its own: dozens would sleep and wake for half a millisecond of work each.
        runtime.spawn(async move {
            if let Some(work) = claim(&its) {
                // Nobody listens when the rows were taken back.
                let _ = answer.send(work.make());
            }
        });
        Coming { work, made }
    }
}

impl Coming {
    async fn lines(&mut self) -> Result<Made, StageError> {
        match claim(&self.work) {
            Some(work) => work.make(),
            // It is being made, or was.
            None => (&mut self.made).await.unwrap_or_else(|_| Err(StageError::developer("the task that made lines panicked"))),
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        claim(&self.work);
    }
}

impl Making {
    /// Lines that come behind all others.
    pub(crate) fn add(&mut self, batch: Batch) {
        self.0.push_back(batch);
    }

    /// The lines of the next batch, once they are made.
    pub(crate) async fn next(&mut self) -> Option<Result<Made, StageError>> {
        Some(match self.0.pop_front()? {
            Batch::Made(made) => Ok(made),
            Batch::Coming(mut coming) => coming.lines().await,
        })
    }
}

/// Begins to make the lines of rows, each run of which is for the file with its number among `paths`.
///
/// # Errors
/// When a row cannot be written.
pub(crate) fn begin(layout: &Arc<Layout>, batch: &RecordBatch, runs: Runs, paths: Vec<String>) -> Result<Batch, StageError> {
    match threads::several() {
        // What may fail is done at once, so that whoever brought the rows hears of it.
        Some(runtime) if batch.num_rows() >= FEW && cannot_fail(layout, batch) => {
            let work = Work { layout: layout.clone(), batch: batch.clone(), runs, paths };
            Ok(Batch::Coming(work.begin(&runtime)))
        }
        _ => Ok(Batch::Made(make(layout, batch, runs, paths)?)),
    }
}

/// Can every row be written, as far as can be told at a glance?
fn cannot_fail(layout: &Layout, batch: &RecordBatch) -> bool {
    // No byte of a text becomes more than six.
    if batch.get_array_memory_size() > LONGEST / 8 {
        return false;
    }
    let writable = |values: &[i64]| values.iter().fold(true, |all, micros| all & WRITABLE.contains(micros));
    layout.columns.iter().filter(|column| column.ty == ColumnType::Timestamp).all(|column| writable(layout.instants(batch, column)))
}

fn make(layout: &Layout, batch: &RecordBatch, runs: Runs, paths: Vec<String>) -> Result<Made, StageError> {
    let sources = layout.sources(batch);
    let mut lines = layout.lines(&sources);
    let mut made: Made = paths.into_iter().map(|path| (path, Vec::new())).collect();
    // The rows that are still to come for each file.
    let mut rest = vec![0; made.len()];
    runs.iter().for_each(|(rows, path)| rest[*path] += rows.len());
    // How long a line was, where lines were longest; and of how many rows how many bytes were not looked at yet.
    let (mut expected, mut some, mut bytes) = (0, 0, 0);
    for (mut rows, path) in runs {
        let Some((_, out)) = made.get_mut(path) else { continue };
        while !rows.is_empty() {
            let piece = rows.start..rows.end.min(rows.start + FEW);
            // As much as all rows of the file will need.
            if out.capacity() - out.len() < expected * piece.len() {
                out.reserve_exact(expected * rest[path]);
            }
            let from = out.len();
            lines.write(piece.clone(), out).map_err(|why| layout.refuse(why))?;
            (some, bytes) = (some + piece.len(), bytes + out.len() - from);
            // Of few rows one may be longer than most.
            if some >= FEW {
                expected = expected.max(bytes.div_ceil(some));
                (some, bytes) = (0, 0);
            }
            rest[path] -= piece.len();
            rows.start = piece.end;
        }
    }
    // They are in memory until the commit.
    made.iter_mut().filter(|(_, lines)| lines.capacity() - lines.len() > lines.len() / 8).for_each(|(_, lines)| lines.shrink_to_fit());
    Ok(made)
}
