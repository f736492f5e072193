//! The state's file: how it is opened, and what its errors mean to the operator.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline_contract::{Category, Disk, RealDisk, StageError};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::SqliteStore;
use super::checkpoint::MOST_PAGES;
use super::rejects;

/// The schema that this program reads and writes, in SQLite's `user_version`.
pub(super) const SCHEMA_VERSION: i64 = 1 + MIGRATIONS.len() as i64;

/// How long a statement waits for somebody else's lock: another program may look at the file.
const PATIENCE: Duration = Duration::from_secs(10);

/// Up to this size the whole file is checked when it is opened, which takes some milliseconds; beyond it SQLite still notices damage in the
/// pages that it reads.
const CHECKED_BYTES: u64 = 2 << 20;

/// What the first version was. Rows of `run` are numbered in the order in which the runs were opened. Chunks are large, so theirs is a table with
/// row ids.
pub(super) const SCHEMA: &str = "
    CREATE TABLE fact(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE record(sink TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(sink, key)) WITHOUT ROWID;
    CREATE TABLE chunk(series BLOB NOT NULL, chunk INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY(series, chunk));
    CREATE TABLE keyed(key BLOB PRIMARY KEY, fingerprint INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE dedupe_meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE reject(hash BLOB PRIMARY KEY, replayed INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE run(seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, tick INTEGER NOT NULL, cause TEXT NOT NULL, window TEXT,
        started_at INTEGER NOT NULL, ended_at INTEGER, status TEXT NOT NULL, rows TEXT NOT NULL, error TEXT);
    CREATE TABLE split(run INTEGER NOT NULL, place INTEGER NOT NULL, id TEXT NOT NULL, data TEXT NOT NULL, status TEXT NOT NULL,
        rows TEXT NOT NULL, attempts INTEGER NOT NULL, position TEXT, error TEXT, PRIMARY KEY(run, place)) WITHOUT ROWID;
    CREATE TABLE tick(tick INTEGER PRIMARY KEY, until INTEGER NOT NULL, count INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT,
        run_id TEXT);
    PRAGMA user_version = 1;
";

/// What makes the next version of each, from the first on. A new state goes the same way, so that its tables are declared in the same words.
const MIGRATIONS: [&str; 2] = [KEY_LOG, rejects::SCHEMA];

/// The first version with a log of keys.
pub(super) const KEY_LOG_SINCE: i64 = 2;

/// Parts of the log of keys, in the order in which epochs added them.
const KEY_LOG: &str = "CREATE TABLE key_log(part INTEGER PRIMARY KEY, data BLOB NOT NULL);";

/// Why a file is not the state of this program.
enum Refusal {
    Sqlite(rusqlite::Error),
    Io(std::io::Error),
    Newer(i64),
    Damaged(String),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Refusal {
    fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlite(error) => {
                is_unreadable(error) || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            Self::Io(_) | Self::Newer(_) => false,
        }
    }

    fn at(self, file: &Path) -> OpenError {
        let unusable = self.is_damage() || matches!(self, Self::Newer(_));
        OpenError { error: self.error(file), unusable }
    }

    fn error(self, file: &Path) -> StageError {
        match self {
            Self::Sqlite(error) => fault(file, "open the state", &error),
            Self::Io(error) => StageError::operator(Category::Storage, format!("cannot open the state {}: {error}", file.display()))
                .help("check the path, its permissions and the disk, or choose another folder with --state-dir"),
            Self::Newer(version) => StageError::operator(
                Category::Storage,
                format!("{}: the state is from a newer version {version}; this program knows {SCHEMA_VERSION}", file.display()),
            )
            .help("use the newer program; or, to stay with this one, move that file away, then `pipeline state rebuild FILE`"),
            Self::Damaged(detail) => damaged(file, &detail),
        }
    }
}

/// Why a state is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct OpenError {
    /// What happened and what to do.
    pub error: StageError,
    /// The file was read and is not a state that this program can use: it is damaged, or from a newer program. Else the disk did not let us.
    pub unusable: bool,
}

impl std::ops::Deref for OpenError {
    type Target = StageError;
    fn deref(&self) -> &StageError {
        &self.error
    }
}

impl SqliteStore {
    /// The name of the state's file in a pipeline's folder.
    pub const FILE: &'static str = "state.db";

    /// Opens the state in a pipeline's folder; creates both when they do not exist.
    ///
    /// # Errors
    /// When the file cannot be written, is damaged, or is from a newer program.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let file = dir.join(Self::FILE);
        open(&file, CHECKED_BYTES).map_err(|refusal| refusal.at(&file))
    }

    /// Opens the state to read it, also while another process writes; `None` when there is none. Creates nothing.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or is from a newer program.
    pub fn open_read_only(dir: &Path) -> Result<Option<Self>, OpenError> {
        let file = dir.join(Self::FILE);
        open_read_only(&file).map_err(|refusal| refusal.at(&file))
    }

    /// Opens the state to rebuild it. A damaged one is put aside, and the answer says where; a new one takes its place.
    ///
    /// # Errors
    /// When the file cannot be written or is from a newer program.
    pub fn open_for_rebuild(dir: &Path) -> Result<(Self, Option<PathBuf>), OpenError> {
        let file = dir.join(Self::FILE);
        match open(&file, u64::MAX) {
            Ok(store) => Ok((store, None)),
            Err(refusal) if refusal.is_damage() => {
                let kept = put_aside(&file).map_err(|error| Refusal::Io(error).at(&file))?;
                let store = open(&file, 0).map_err(|refusal| refusal.at(&file))?;
                Ok((store, Some(kept)))
            }
            Err(refusal) => Err(refusal.at(&file)),
        }
    }
}

fn open(file: &Path, checked_bytes: u64) -> Result<SqliteStore, Refusal> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let made = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).count();
    fs::create_dir_all(dir)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(PATIENCE)?;
    let known = version(&connection)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.query_row(&format!("PRAGMA wal_autocheckpoint = {MOST_PAGES}"), [], |_| Ok(()))?;
    // What one epoch changes has room: pages that do not are written to the log before their time, and once more later.
    connection.pragma_update(None, "cache_size", -8000)?;
    connection.set_prepared_statement_cache_capacity(64);
    if known != Some(SCHEMA_VERSION) {
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        migrate(&change)?;
        change.commit()?;
    }
    if known.is_none() {
        // SQLite syncs the file; its name, and those of the folders just made, are ours to make durable.
        dir.ancestors().take(made + 1).try_for_each(|dir| RealDisk.sync_dir(dir))?;
    } else if checked_bytes > 0 {
        let whole = fs::metadata(file)?.len() <= checked_bytes;
        let ours = Connection::open_in_memory()?;
        migrate(&ours)?;
        if tables(&connection)? != tables(&ours)? {
            return Err(Refusal::Damaged("its tables are not those of a state".to_owned()));
        }
        // The full check also compares tables with their indexes: a key that is damaged in one of them would not be found, and its rows stored
        // again.
        if whole {
            let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(Refusal::Damaged(verdict));
            }
        }
        read_through(&connection.transaction()?, whole)?;
    }
    Ok(SqliteStore::of(file, connection))
}

/// Makes a state of this version: of none, or of an earlier version.
fn migrate(connection: &Connection) -> Result<(), Refusal> {
    let known = match version(connection)? {
        Some(known) => known,
        None => {
            connection.execute_batch(SCHEMA)?;
            1
        }
    };
    for (_, next) in (1..).zip(MIGRATIONS).skip_while(|(from, _)| *from < known) {
        connection.execute_batch(next)?;
    }
    connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    Ok(())
}

/// Has the state what came with this version? Who only reads may meet one that nobody has written to since.
pub(super) fn is_since(tx: &Transaction<'_>, version: i64) -> rusqlite::Result<bool> {
    Ok(tx.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get::<_, i64>(0))? >= version)
}

/// Tables and indexes as they were declared.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare("SELECT type || ' ' || name || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1")?;
    select.query_map([], |row| row.get(0))?.collect()
}

/// Reads what every run reads first, or all but the dedupe state, so that values that cannot be read are told before anything is done.
fn read_through(tx: &Transaction<'_>, whole: bool) -> rusqlite::Result<()> {
    super::fact::<crate::state::Binding>(tx, "binding")?;
    super::last(tx)?;
    super::history::open_run(tx)?;
    if whole {
        let mut records = tx.prepare("SELECT sink, key, value FROM record")?;
        let mut record =
            |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, super::Json<serde_json::Value>>(2)?));
        records.query_map([], &mut record)?.try_for_each(|record| record.map(|_| ()))?;
        super::history::runs(tx, usize::MAX)?;
        super::history::ticks(tx, usize::MAX)?;
    }
    Ok(())
}

/// A connection to a state that is there.
pub(super) fn connect(file: &Path) -> Result<Connection, OpenError> {
    let store = open(file, 0).map_err(|refusal| refusal.at(file))?;
    store
        .connection
        .into_inner()
        .map_err(|poisoned| OpenError { error: StageError::developer(format!("{}: {poisoned}", file.display())), unusable: false })
}

/// One more connection to a state that is open, to read what counts while the other one writes.
pub(super) fn reader(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn open_read_only(file: &Path) -> Result<Option<SqliteStore>, Refusal> {
    if !file.try_exists()? {
        return Ok(None);
    }
    let looked_at = |connection: rusqlite::Result<Connection>| -> Result<Option<SqliteStore>, Refusal> {
        let connection = connection?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(version(&connection)?.map(|_| SqliteStore::of(file, connection)))
    };
    // A connection that is read-only to SQLite would leave the helper files of the write-ahead log behind; this one tidies up.
    match looked_at(Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)) {
        // Where those cannot be made, on a disk that is mounted read-only, the file is read as it is, if it is all there is.
        Err(Refusal::Sqlite(error)) if needs_to_write(&error) && is_alone(file)? => {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            looked_at(Connection::open_with_flags(immutable(file)?, flags))
        }
        other => other,
    }
}

fn needs_to_write(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}

/// Is nothing of the state in the write-ahead log?
fn is_alone(file: &Path) -> std::io::Result<bool> {
    match fs::metadata(helper(file, "-wal")) {
        Ok(log) => Ok(log.len() == 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

pub(super) fn helper(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file as SQLite's URI for one that nobody changes: read without locks and helper files.
fn immutable(file: &Path) -> std::io::Result<String> {
    let path = std::path::absolute(file)?;
    let path = path.as_os_str().as_encoded_bytes();
    let mut uri = if path.starts_with(b"/") { "file://".to_owned() } else { "file:///".to_owned() };
    for byte in path {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b':' => uri.push(char::from(*byte)),
            b'\\' if cfg!(windows) => uri.push('/'),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Ok(uri)
}

/// The schema version; `None` when the file is empty.
fn version(connection: &Connection) -> Result<Option<i64>, Refusal> {
    match connection.pragma_query_value(None, "user_version", |row| row.get(0))? {
        0 => match connection.query_row("SELECT name FROM sqlite_schema LIMIT 1", [], |row| row.get::<_, String>(0)) {
            Ok(table) => Err(Refusal::Damaged(format!("it holds the table {table}, but is not a state"))),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            Err(error) => Err(error.into()),
        },
        newer if newer > SCHEMA_VERSION => Err(Refusal::Newer(newer)),
        known => Ok(Some(known)),
    }
}

/// Renames a damaged state and the helper files that belong to it.
fn put_aside(file: &Path) -> std::io::Result<PathBuf> {
    let named = |suffix: &str, helper: &str| PathBuf::from(format!("{}{suffix}{helper}", file.display()));
    let mut suffix = ".damaged".to_owned();
    let mut number = 1;
    while named(&suffix, "").try_exists()? {
        number += 1;
        suffix = format!(".damaged-{number}");
    }
    for helper in ["-wal", "-shm", ""] {
        if named("", helper).try_exists()? {
            fs::rename(named("", helper), named(&suffix, helper))?;
        }
    }
    Ok(named(&suffix, ""))
}

fn damaged(file: &Path, detail: &str) -> StageError {
    // It may quote the value that cannot be read.
    let detail: String = detail.chars().take(300).collect();
    StageError::operator(Category::Storage, format!("the state {} is damaged: {detail}", file.display()))
        .help("`pipeline state rebuild FILE` makes a new one from what is stored; the damaged one is kept beside it")
}

/// A value that is there and is not what it should be.
fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    match error {
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::InvalidColumnName(..)
        | Error::Utf8Error(..) => true,
        // Our own statements are right: a table or a column is not there.
        Error::SqlInputError { msg, .. } | Error::SqliteFailure(_, Some(msg)) => msg.starts_with("no such "),
        _ => false,
    }
}

/// What an SQLite error means to the operator.
pub(super) fn fault(file: &Path, doing: &str, error: &rusqlite::Error) -> StageError {
    let message = |what: &str| format!("cannot {doing}: {} {what} ({error})", file.display());
    let operator = |what: &str, help: &str| StageError::operator(Category::Storage, message(what)).help(help);
    if is_unreadable(error) {
        return damaged(file, &error.to_string());
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(file, &error.to_string()),
        Some(ErrorCode::DiskFull) => operator("does not fit the disk any more", "make room on the disk"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            operator("cannot be written or opened", "check the permissions of the file and its folder, or choose another with --state-dir")
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed | ErrorCode::NoLargeFileSupport) => {
            operator("cannot be read or written", "check the disk; a state on a network drive is not supported")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StageError::transient(Category::Storage, message("is held by another program")).help("end the program that has the file open")
        }
        Some(ErrorCode::OutOfMemory) => operator("needs more memory than there is", "make memory free"),
        _ => StageError::developer(message("refused a statement")),
    }
}
