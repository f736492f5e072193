//! A state that cannot be opened is kept, not deleted: a new one begins beside it.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::Utc;
use pipeline_contract::{Category, StageError};

use super::SqliteStore;

impl SqliteStore {
    /// Renames the database in a pipeline's folder, and what belongs to it, so that a new one can be made. Answers its new name.
    ///
    /// # Errors
    /// `storage` when it cannot be renamed.
    pub fn set_aside(dir: &Path) -> Result<PathBuf, StageError> {
        let stamp = Utc::now().format("%Y%m%dT%H%M%SZ");
        let kept = dir.join(format!("state.db.damaged-{stamp}"));
        for suffix in ["", "-wal", "-shm"] {
            let from = dir.join(format!("state.db{suffix}"));
            if from.exists() {
                let to = dir.join(format!("state.db.damaged-{stamp}{suffix}"));
                fs::rename(&from, &to)
                    .map_err(|error| StageError::operator(Category::Storage, format!("{} cannot be renamed: {error}", from.display())).help("rename it by hand"))?;
            }
        }
        Ok(kept)
    }
}
