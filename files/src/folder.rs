//! Folders that last.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pipeline_contract::{Disk, StageError};

use crate::io_error;

/// The folder a file is in; empty is the working directory.
pub(crate) fn folder_of(path: &str) -> PathBuf {
    Path::new(path).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The folders of this process that are known to be durable up to the root.
#[derive(Debug, Default)]
pub(crate) struct Folders(HashSet<PathBuf>);

impl Folders {
    /// Makes a folder and those above it, each durable before the next.
    ///
    /// A folder that is there may have been made by a process that died before its name was synced, so names are synced once even then.
    pub(crate) fn ensure(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), StageError> {
        let Some(parent) = dir.parent() else { return Ok(()) };
        let shown = dir.display().to_string();
        let exists = disk.metadata(dir).map_err(|error| io_error("look at", &shown, &error))?;
        match exists {
            Some(meta) if !meta.is_dir => return Err(io_error("use the folder", &shown, &ErrorKind::NotADirectory.into())),
            Some(_) if self.0.contains(dir) => return Ok(()),
            _ => {}
        }
        self.ensure(disk, parent)?;
        if exists.is_none() {
            disk.create_dir(dir).map_err(|error| io_error("create the folder", &shown, &error))?;
        }
        match disk.sync_dir(parent) {
            Ok(()) => {}
            // A folder above that was there and may not be read is somebody else's: it was made durable by them.
            Err(error) if exists.is_some() && matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => {}
            Err(error) => return Err(io_error("sync the folder", &parent.display().to_string(), &error)),
        }
        self.0.insert(dir.to_path_buf());
        Ok(())
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync(disk: &dyn Disk, dir: &Path) -> Result<(), StageError> {
    disk.sync_dir(dir).map_err(|error| io_error("sync the folder", &dir.display().to_string(), &error))
}
