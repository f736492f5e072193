//! What the write-ahead log holds is moved into the file beside the run that fills it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Mutex, PoisonError};

use pipeline_files::threads;
use rusqlite::{Connection, OpenFlags};

use super::open::helper;

/// The log is moved after so many bytes: a chunk is saved by several epochs in a row, and what the log holds of it twice is moved once.
const DUE_BYTES: usize = 8 << 20;

/// A log that grew longer is cut when a run has ended.
const KEPT_BYTES: u64 = 16 << 20;

/// After so many pages (of 4 KiB) the connection that writes moves the log itself: it grows no further, however slow the disk is.
pub(super) const MOST_PAGES: u32 = 16_000;

/// Moves the log on another thread of the runtime, if there is one. A checkpoint is only ever that: what it does not do, for whatever reason,
/// the next one does, or SQLite when the state is closed.
#[derive(Default)]
pub(super) struct Checkpoints {
    saved: AtomicUsize,
    /// Hangs up when the last move is over.
    moving: Mutex<Option<Receiver<()>>>,
}

impl Checkpoints {
    /// So many bytes more were saved; moves the log when it is time and the last move is over.
    pub(super) fn saved(&self, bytes: usize, file: &Path) {
        if self.saved.fetch_add(bytes, Ordering::Relaxed) + bytes < DUE_BYTES {
            return;
        }
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        if moving.as_ref().is_some_and(|moving| moving.try_recv() == Err(TryRecvError::Empty)) {
            return;
        }
        self.saved.store(0, Ordering::Relaxed);
        *moving = Some(start(file.to_owned(), "PASSIVE", None));
    }

    /// The run is over: what is left of a long log is moved, and its place on the disk given back.
    pub(super) fn cut(&self, file: &Path) {
        if std::fs::metadata(helper(file, "-wal")).is_ok_and(|log| log.len() > KEPT_BYTES) {
            let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
            *moving = Some(start(file.to_owned(), "TRUNCATE", moving.take()));
        }
    }

    /// Waits for a move that goes on.
    pub(super) fn settle(&self) {
        if let Some(moving) = self.moving.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = moving.recv();
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Moves the log once the move before is over. What is answered hangs up then.
fn start(file: PathBuf, mode: &'static str, before: Option<Receiver<()>>) -> Receiver<()> {
    let (over, wait) = mpsc::channel::<()>();
    let work = move || {
        let _over = over;
        let _ = before.map(|before| before.recv());
        let _ = checkpoint(&file, mode);
    };
    match threads::several() {
        Some(runtime) => drop(runtime.spawn_blocking(work)),
        None => work(),
    }
    wait
}

/// Waits for nobody. `PASSIVE` keeps nobody waiting, either.
fn checkpoint(file: &Path, mode: &str) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}
