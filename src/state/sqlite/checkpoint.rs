//! What the write-ahead log holds is moved into the file beside the run that fills it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Mutex, PoisonError};

use pipeline_files::threads;
use rusqlite::{Connection, OpenFlags};

/// The log is moved after so many bytes: a chunk is saved by several epochs in a row, and what the log holds of it twice is moved once.
const DUE_BYTES: usize = 8 << 20;

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
        let file = file.to_owned();
        let (over, wait) = mpsc::channel::<()>();
        let work = move || {
            let _over = over;
            let _ = checkpoint(&file);
        };
        match threads::several() {
            Some(runtime) => drop(runtime.spawn_blocking(work)),
            None => work(),
        }
        *moving = Some(wait);
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

/// Waits for nobody, and keeps nobody waiting.
fn checkpoint(file: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
