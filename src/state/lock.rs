//! One process at a time works on a pipeline.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use pipeline_contract::rfc3339;

/// The right to work on a pipeline. It ends when this is dropped and when the process dies, in whatever way.
#[derive(Debug)]
pub struct PipelineLock {
    file: File,
}

/// Why a pipeline cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works on it.
    #[error("{} is held by {}", path.display(), holder.as_deref().unwrap_or("another process"))]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// Who holds it, as `process 1234 on lab since 2026-05-19T15:00:00Z`, where that can be read.
        holder: Option<String>,
    },
    /// The lock's file cannot be made, written or locked.
    #[error("cannot lock {}: {source}", path.display())]
    Unusable {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LockError {
    /// What to do about it, in one line.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Held { .. } => "wait for it or stop it; `pipeline status` and `pipeline read` work meanwhile",
            Self::Unusable { .. } => "check the folder's permissions and the disk, or choose another folder with --state-dir",
        }
    }
}

impl PipelineLock {
    /// Locks the pipeline whose folder this is; `now` is what others are told.
    ///
    /// # Errors
    /// When another process, or another lock in this one, holds it, or it cannot be locked at all.
    pub fn acquire(dir: &Path, now: DateTime<Utc>) -> Result<Self, LockError> {
        let path = dir.join("lock");
        match lock(dir, &path, now) {
            Ok(file) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
                Err(LockError::Held { path, holder })
            }
            Err(TryLockError::Error(source)) => Err(LockError::Unusable { path, source }),
        }
    }
}

impl Drop for PipelineLock {
    fn drop(&mut self) {
        // Nobody is told of a holder that is gone. The system unlocks when the file closes.
        let _ = self.file.set_len(0);
    }
}

fn lock(dir: &Path, path: &Path, now: DateTime<Utc>) -> Result<File, TryLockError> {
    fs::create_dir_all(dir).map_err(TryLockError::Error)?;
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(TryLockError::Error)?;
    file.try_lock()?;
    write_holder(&mut file, now).map_err(TryLockError::Error)?;
    Ok(file)
}

fn write_holder(file: &mut File, now: DateTime<Utc>) -> io::Result<()> {
    let host = host().map_or_else(String::new, |host| format!(" on {host}"));
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("process {}{host} since {}\n", std::process::id(), rfc3339(now)).as_bytes())
}

/// This machine's name, where the system tells it without a call that the standard library lacks.
fn host() -> Option<String> {
    let from_file = ["/proc/sys/kernel/hostname", "/etc/hostname"].iter().find_map(|path| {
        let mut text = String::new();
        File::open(path).ok()?.take(256).read_to_string(&mut text).ok()?;
        Some(text)
    });
    let from_env = || ["HOSTNAME", "COMPUTERNAME"].iter().find_map(|name| std::env::var(name).ok());
    let host = from_file.or_else(from_env)?.trim().to_owned();
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it_and_gets_it_when_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made/on/the/way");
        let now = "2026-05-19T15:00:00Z".parse().unwrap();
        let first = PipelineLock::acquire(&dir, now).unwrap();
        let error = PipelineLock::acquire(&dir, now).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, LockError::Held { .. }), "{text}");
        assert!(text.contains(&format!("held by process {}", std::process::id())), "{text}");
        assert!(text.ends_with("since 2026-05-19T15:00:00Z"), "{text}");
        drop(first);
        PipelineLock::acquire(&dir, now).unwrap();
    }

    #[test]
    fn what_a_dead_process_left_does_not_hold() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lock"), "process 1 since 1999-01-01T00:00:00Z and a long tail of bytes that must not stay").unwrap();
        let _lock = PipelineLock::acquire(dir.path(), "2026-05-19T15:00:00Z".parse().unwrap()).unwrap();
        let text = fs::read_to_string(dir.path().join("lock")).unwrap();
        assert!(text.ends_with("since 2026-05-19T15:00:00Z\n"), "{text}");
    }

    #[test]
    fn a_place_that_cannot_be_locked_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = PipelineLock::acquire(&file, Utc::now()).unwrap_err();
        assert!(matches!(error, LockError::Unusable { .. }), "{error}");
    }
}
