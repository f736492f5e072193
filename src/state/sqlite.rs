//! The state in an SQLite file.

mod checkpoint;
mod history;
mod open;
mod rejects;
#[cfg(test)]
mod tests;
mod value;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use chrono::{DateTime, Utc};
use pipeline_contract::{SinkState, StageError};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde_json::Value;

use self::checkpoint::Checkpoints;
use self::value::{Json, Name, from_signed, to_signed};
use super::{
    Binding, ChunkKey, DedupeChanges, Durable, EachChunk, EachPart, EpochCommit, LastEpoch, Rebuilt, RejectHash, RunRecord, Store, TickRecord,
    UntilDurable,
};

pub use open::OpenError;

/// The state in an SQLite file, `state.db` in the pipeline's folder. Every commit is on the disk when it returns.
pub struct SqliteStore {
    file: PathBuf,
    // Ends before the connection does: the last one to close tidies up.
    checkpoints: Checkpoints,
    connection: Mutex<Connection>,
    /// For what is read while an epoch is being saved.
    reader: Mutex<Option<Connection>>,
    /// A run goes on: pages that were read will be wanted again.
    runs: AtomicBool,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Why a transaction was not made: SQLite's reason, or ours.
enum Fault {
    Sqlite(rusqlite::Error),
    Ours(StageError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl SqliteStore {
    fn of(file: &Path, connection: Connection) -> Self {
        Self {
            file: file.to_owned(),
            checkpoints: Checkpoints::default(),
            connection: Mutex::new(connection),
            reader: Mutex::default(),
            runs: AtomicBool::new(false),
        }
    }

    fn transact<T>(
        &self,
        behavior: TransactionBehavior,
        doing: &str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StageError> {
        let made = match (behavior, self.connection.try_lock()) {
            // An epoch is being saved, perhaps on the word of whoever asks: what counts until then is read beside it.
            (TransactionBehavior::Deferred, Err(TryLockError::WouldBlock)) => self.beside(work),
            (_, Ok(connection)) => self.make(connection, behavior, work),
            _ => self.make(self.connection.lock().unwrap_or_else(PoisonError::into_inner), behavior, work),
        };
        made.map_err(|fault| match fault {
            Fault::Sqlite(error) => open::fault(&self.file, doing, &error),
            Fault::Ours(error) => error,
        })
    }

    // A thread that panicked has left no transaction open: they roll back when dropped.
    fn make<T>(
        &self,
        mut connection: MutexGuard<'_, Connection>,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let made = made(&mut connection, behavior, work);
        // Between runs nobody asks for hours: neither pages nor statements are kept for that long. What fails here fails where it is needed.
        if !self.runs.load(Ordering::Relaxed) {
            connection.flush_prepared_statement_cache();
            let _ = connection.release_memory();
        }
        made
    }

    fn beside<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match &mut *reader {
            Some(connection) => connection,
            none => none.insert(open::reader(&self.file)?),
        };
        let made = made(connection, TransactionBehavior::Deferred, work);
        // The end of a run closes it; whoever comes later, while that end is being saved, does so himself.
        if !self.runs.load(Ordering::Relaxed) {
            *reader = None;
        }
        made
    }

    /// Saves an epoch, whose sinks and forgotten rejects are those of the answer.
    fn save(&self, commit: &EpochCommit, durable: &mut UntilDurable<'_>) -> Result<Durable, StageError> {
        self.runs.store(true, Ordering::Relaxed);
        // The log begins anew once all of it was moved: else it would only grow.
        self.checkpoints.settle();
        let durable = self.write(|tx| {
            super::check_next(last(tx)?.map(|(epoch, _)| epoch), commit.epoch).map_err(Fault::Ours)?;
            history::save_progress(tx, commit)?;
            save_dedupe(tx, &commit.dedupe)?;
            rejects::save(tx, &commit.rejects, &commit.replayed)?;
            let durable = durable().map_err(Fault::Ours)?;
            rejects::forget(tx, &durable.forgotten, commit)?;
            set_fact(tx, "epoch", (commit.epoch, &durable.sinks))?;
            save_records(tx, &durable.sinks)?;
            Ok(durable)
        })?;
        let chunks = commit.dedupe.chunks.iter().map(|(key, data)| key.series.len() + data.len()).sum::<usize>();
        let keys = commit.dedupe.keyed.iter().map(|(key, _)| key.len() + size_of::<u64>()).sum::<usize>();
        let part = commit.dedupe.key_part.as_ref().map_or(0, Vec::len);
        self.checkpoints.saved(chunks + keys + part, &self.file);
        Ok(durable)
    }

    fn close_reader(&self) {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Reads in one snapshot.
    fn read<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StageError> {
        self.transact(TransactionBehavior::Deferred, "read the state", |tx| work(tx).map_err(Fault::Sqlite))
    }

    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, StageError> {
        self.transact(TransactionBehavior::Immediate, "save the state", work)
    }
}

fn made<T>(connection: &mut Connection, behavior: TransactionBehavior, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
    let transaction = connection.transaction_with_behavior(behavior)?;
    let made = work(&transaction)?;
    transaction.commit()?;
    Ok(made)
}

fn set_fact(tx: &Transaction<'_>, name: &str, value: impl serde::Serialize) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO fact(name, value) VALUES(?1, ?2)")?.execute(params![name, Json(value)])?;
    Ok(())
}

fn fact<T: serde::de::DeserializeOwned>(tx: &Transaction<'_>, name: &str) -> rusqlite::Result<Option<T>> {
    let found: Option<Json<T>> = tx.prepare_cached("SELECT value FROM fact WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?;
    Ok(found.map(|Json(value)| value))
}

fn last(tx: &Transaction<'_>) -> rusqlite::Result<Option<LastEpoch>> {
    fact(tx, "epoch")
}

fn save_records(tx: &Transaction<'_>, sinks: &[(String, SinkState)]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT OR REPLACE INTO record(sink, key, value) VALUES(?1, ?2, ?3)")?;
    let mut remove = tx.prepare_cached("DELETE FROM record WHERE sink = ?1 AND key = ?2")?;
    for (sink, SinkState(changes)) in sinks {
        for (key, value) in changes {
            if value.is_null() {
                remove.execute(params![sink, key])?
            } else {
                insert.execute(params![sink, key, Json(value)])?
            };
        }
    }
    Ok(())
}

const SAVE_CHUNK: &str = "INSERT INTO chunk(series, chunk, data) VALUES(?1, ?2, ?3) ON CONFLICT(series, chunk) DO UPDATE SET data = excluded.data";

fn save_dedupe(tx: &Transaction<'_>, changes: &DedupeChanges) -> rusqlite::Result<()> {
    let mut chunk = tx.prepare_cached(SAVE_CHUNK)?;
    for (key, data) in &changes.chunks {
        chunk.execute(params![key.series, key.chunk, data])?;
    }
    if let Some(part) = &changes.key_part {
        tx.prepare_cached("INSERT INTO key_log(data) VALUES(?1)")?.execute([part])?;
    }
    let mut keyed = tx.prepare_cached("INSERT OR REPLACE INTO keyed(key, fingerprint) VALUES(?1, ?2)")?;
    for (key, fingerprint) in &changes.keyed {
        keyed.execute(params![key, to_signed(*fingerprint)])?;
    }
    let mut meta = tx.prepare_cached("INSERT OR REPLACE INTO dedupe_meta(name, value) VALUES(?1, ?2)")?;
    for (name, value) in &changes.meta {
        meta.execute(params![name, Json(value)])?;
    }
    Ok(())
}

impl Store for SqliteStore {
    fn binding(&self) -> Result<Option<Binding>, StageError> {
        self.read(|tx| fact(tx, "binding"))
    }

    fn bind(&self, binding: &Binding) -> Result<(), StageError> {
        self.write(|tx| Ok(set_fact(tx, "binding", binding)?))
    }

    fn last_epoch(&self) -> Result<Option<LastEpoch>, StageError> {
        self.read(last)
    }

    fn reopen(&self) -> Result<(), StageError> {
        self.checkpoints.settle();
        self.close_reader();
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // The old one is closed before the new one opens: only then is the write-ahead log gone over again.
        let nothing = Connection::open_in_memory().map_err(|error| open::fault(&self.file, "open the state anew", &error))?;
        drop(std::mem::replace(&mut *connection, nothing));
        *connection = open::connect(&self.file).map_err(|refused| refused.error)?;
        Ok(())
    }

    fn commit_epoch(&self, commit: &EpochCommit) -> Result<(), StageError> {
        self.save(commit, &mut || Ok(Durable { sinks: commit.sinks.clone(), forgotten: commit.forgotten.clone() })).map(drop)
    }

    fn commit_epoch_with(&self, commit: &mut EpochCommit, durable: &mut UntilDurable<'_>) -> Result<(), StageError> {
        let durable = self.save(commit, durable)?;
        commit.durable(durable);
        Ok(())
    }

    fn record(&self, sink: &str, key: &str) -> Result<Option<Value>, StageError> {
        self.read(|tx| {
            let mut select = tx.prepare_cached("SELECT value FROM record WHERE sink = ?1 AND key = ?2")?;
            Ok(select.query_row([sink, key], |row| row.get(0)).optional()?.map(|Json(value)| value))
        })
    }

    fn records(&self, sink: &str) -> Result<Vec<(String, Value)>, StageError> {
        self.read(|tx| {
            let mut select = tx.prepare_cached("SELECT key, value FROM record WHERE sink = ?1 ORDER BY key")?;
            select.query_map([sink], |row| Ok((row.get(0)?, row.get::<_, Json<Value>>(1)?.0)))?.collect()
        })
    }

    fn chunks(&self, keys: &[ChunkKey]) -> Result<Vec<Option<Vec<u8>>>, StageError> {
        self.read(|tx| {
            let mut select = tx.prepare_cached("SELECT data FROM chunk WHERE series = ?1 AND chunk = ?2")?;
            keys.iter().map(|key| select.query_row(params![key.series, key.chunk], |row| row.get(0)).optional()).collect()
        })
    }

    fn keyed(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<u64>>, StageError> {
        self.read(|tx| {
            let mut select = tx.prepare_cached("SELECT fingerprint FROM keyed WHERE key = ?1")?;
            keys.iter().map(|key| Ok(select.query_row([key], |row| row.get(0)).optional()?.map(from_signed))).collect()
        })
    }

    fn dedupe_meta(&self, name: &str) -> Result<Option<Value>, StageError> {
        self.read(|tx| {
            let mut select = tx.prepare_cached("SELECT value FROM dedupe_meta WHERE name = ?1")?;
            Ok(select.query_row([name], |row| row.get(0)).optional()?.map(|Json(value)| value))
        })
    }

    fn each_chunk(&self, each: &mut EachChunk<'_>) -> Result<(), StageError> {
        self.transact(TransactionBehavior::Deferred, "read the state", |tx| {
            let mut select = tx.prepare_cached("SELECT series, chunk, data FROM chunk ORDER BY series, chunk")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let key = ChunkKey { series: row.get(0)?, chunk: row.get(1)? };
                let data = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
                each(key, data).map_err(Fault::Ours)?;
            }
            Ok(())
        })
    }

    fn each_key_part(&self, each: &mut EachPart<'_>) -> Result<(), StageError> {
        self.transact(TransactionBehavior::Deferred, "read the state", |tx| {
            if !open::is_since(tx, open::KEY_LOG_SINCE)? {
                return Ok(());
            }
            let mut select = tx.prepare_cached("SELECT data FROM key_log ORDER BY part")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                each(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?).map_err(Fault::Ours)?;
            }
            Ok(())
        })
    }

    fn fold_keys(&self, chunks: &mut dyn Iterator<Item = (ChunkKey, Vec<u8>)>) -> Result<(), StageError> {
        let mut bytes = 0;
        self.write(|tx| {
            // Its pages are there for the chunks then: the file does not grow by both.
            tx.prepare_cached("DELETE FROM key_log")?.execute([])?;
            let mut chunk = tx.prepare_cached(SAVE_CHUNK)?;
            for (key, data) in chunks {
                chunk.execute(params![key.series, key.chunk, data])?;
                bytes += key.series.len() + data.len();
            }
            Ok(())
        })?;
        self.checkpoints.saved(bytes, &self.file);
        Ok(())
    }

    fn dedupe_size(&self) -> Result<(u64, u64), StageError> {
        self.read(|tx| {
            let count = |sql: &str| tx.prepare_cached(sql)?.query_row([], |row| row.get(0)).map(from_signed);
            Ok((count("SELECT count(*) FROM chunk")?, count("SELECT count(*) FROM keyed")?))
        })
    }

    fn each_reject(&self, each: &mut dyn FnMut(RejectHash)) -> Result<(), StageError> {
        self.read(|tx| rejects::each(tx, each))
    }

    fn rejects(&self, hashes: &[RejectHash]) -> Result<Vec<Option<bool>>, StageError> {
        self.read(|tx| rejects::known(tx, hashes))
    }

    fn open_run(&self) -> Result<Option<RunRecord>, StageError> {
        self.read(history::open_run)
    }

    fn start_run(&self, run: &RunRecord, scheduled: bool) -> Result<(), StageError> {
        self.runs.store(true, Ordering::Relaxed);
        self.write(|tx| Ok(history::start_run(tx, run, scheduled)?))
    }

    fn end_run(&self, run: &RunRecord) -> Result<(), StageError> {
        self.runs.store(false, Ordering::Relaxed);
        self.close_reader();
        self.write(|tx| Ok(history::end_run(tx, run)?))
    }

    fn runs(&self, limit: usize) -> Result<Vec<RunRecord>, StageError> {
        self.read(|tx| history::runs(tx, limit))
    }

    fn runs_before(&self, run_id: &str, limit: usize) -> Result<Option<Vec<RunRecord>>, StageError> {
        self.read(|tx| history::runs_before(tx, run_id, limit))
    }

    fn tick(&self, tick: DateTime<Utc>) -> Result<Option<TickRecord>, StageError> {
        self.read(|tx| history::tick(tx, tick))
    }

    fn last_tick(&self, limit: Option<DateTime<Utc>>) -> Result<Option<DateTime<Utc>>, StageError> {
        self.read(|tx| history::last_tick(tx, limit))
    }

    fn skip_ticks(&self, ticks: &[TickRecord]) -> Result<(), StageError> {
        self.write(|tx| Ok(ticks.iter().try_for_each(|tick| history::save_tick(tx, tick))?))
    }

    fn ticks(&self, limit: usize) -> Result<Vec<TickRecord>, StageError> {
        self.read(|tx| history::ticks(tx, limit))
    }

    fn run(&self, run_id: &str) -> Result<Option<RunRecord>, StageError> {
        self.read(|tx| history::run(tx, run_id))
    }

    fn note(&self, name: &str) -> Result<Option<Value>, StageError> {
        self.read(|tx| fact(tx, &format!("note.{name}")))
    }

    fn set_note(&self, name: &str, value: &Value) -> Result<(), StageError> {
        self.write(|tx| Ok(set_fact(tx, &format!("note.{name}"), value)?))
    }

    fn size(&self) -> Result<u64, StageError> {
        let pages = |tx: &Transaction<'_>, name: &str| tx.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(from_signed);
        self.read(|tx| Ok(pages(tx, "page_count")?.saturating_mul(pages(tx, "page_size")?)))
    }

    fn prune(&self, keep: usize, before: Option<DateTime<Utc>>) -> Result<(), StageError> {
        let pruned = self.write(|tx| Ok(history::prune(tx, keep, before)?));
        self.checkpoints.cut(&self.file);
        pruned
    }

    fn rebuild(&self, rebuilt: &Rebuilt) -> Result<(), StageError> {
        self.write(|tx| {
            tx.execute_batch("DELETE FROM record; DELETE FROM chunk; DELETE FROM key_log; DELETE FROM keyed; DELETE FROM dedupe_meta;")?;
            set_fact(tx, "binding", &rebuilt.binding)?;
            // What the last epoch changed is part of what was read back; only its number goes on.
            if let Some((epoch, _)) = last(tx)? {
                set_fact(tx, "epoch", (epoch, &[(); 0]))?;
            }
            save_records(tx, &rebuilt.sinks)?;
            save_dedupe(tx, &rebuilt.dedupe)?;
            rejects::replace(tx, &rebuilt.rejects)?;
            Ok(())
        })
    }
}
