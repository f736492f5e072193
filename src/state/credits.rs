//! Credits spent in a month, for every host and key: one small database for all pipelines of a state directory, whatever process they run in.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipeline_contract::{BudgetScope, Category, StageError};
use rusqlite::{Connection, OptionalExtension, params};

/// Credits in SQLite. The file is made when the first credit is spent.
#[derive(Debug)]
pub struct SqliteCredits {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl SqliteCredits {
    /// Credits in the given file.
    pub fn new(path: PathBuf) -> Self {
        Self { path, connection: Mutex::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(path: &Path) -> rusqlite::Result<Connection> {
        if let Some(parent) = path.parent() {
            // If this fails, opening says so.
            let _ = std::fs::create_dir_all(parent);
        }
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE IF NOT EXISTS credits (host TEXT, key TEXT, month TEXT, spent INTEGER NOT NULL, PRIMARY KEY (host, key, month)) WITHOUT ROWID;",
        )?;
        Ok(connection)
    }

    fn error(&self, error: &rusqlite::Error) -> StageError {
        StageError::operator(Category::Storage, format!("{}: the month's requests cannot be counted: {error}", self.path.display()))
            .help("make the file writable and the disk not full; when it is damaged, remove it: the month's count then starts anew")
    }

    /// Credits spent in a month (`2026-11`).
    ///
    /// # Errors
    /// `storage` when they cannot be read.
    pub fn spent(&self, scope: &BudgetScope, month: &str) -> Result<u64, StageError> {
        let mut slot = self.lock();
        if slot.is_none() && !self.path.exists() {
            return Ok(0);
        }
        let mut read = || -> rusqlite::Result<i64> {
            let connection = match slot.as_ref() {
                Some(connection) => connection,
                None => slot.insert(Self::open(&self.path)?),
            };
            let query = "SELECT spent FROM credits WHERE host = ?1 AND key = ?2 AND month = ?3";
            Ok(connection.query_row(query, params![scope.host, scope.key, month], |row| row.get(0)).optional()?.unwrap_or(0))
        };
        read().map(|spent| u64::try_from(spent).unwrap_or(0)).map_err(|error| self.error(&error))
    }

    /// Adds credits.
    ///
    /// # Errors
    /// `storage` when they cannot be saved.
    pub fn spend(&self, scope: &BudgetScope, month: &str, credits: u64) -> Result<(), StageError> {
        let mut slot = self.lock();
        let credits = i64::try_from(credits).unwrap_or(i64::MAX);
        let mut write = || -> rusqlite::Result<()> {
            let connection = match slot.as_ref() {
                Some(connection) => connection,
                None => slot.insert(Self::open(&self.path)?),
            };
            connection.execute(
                "INSERT INTO credits VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET spent = spent + excluded.spent",
                params![scope.host, scope.key, month, credits],
            )?;
            Ok(())
        };
        write().map_err(|error| self.error(&error))
    }
}
