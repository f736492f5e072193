//! The pipeline files, looked at again and again: by their content, which works on every file system and says nothing wrong.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use crate::config::MAX_FILE;
use crate::workspace::{self, Refused};

/// What a file holds: a hash of its bytes, `None` where it cannot be read.
pub(super) type Look = BTreeMap<PathBuf, Option<u64>>;

/// The files that are to be served.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    paths: Vec<PathBuf>,
}

impl Folder {
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// All files as they are now. One that was named and does not exist is not among them.
    pub(super) fn look(&self) -> Result<Look, Refused> {
        if let Some(gone) = self.paths.iter().find(|path| path.extension().is_none_or(|kind| kind != "toml") && !path.exists()) {
            return Err(Refused::config(format!("{}: there is no such file or folder", gone.display())));
        }
        let files = workspace::find(&self.paths)?;
        Ok(files.into_iter().filter(|path| path.exists()).map(|path| (path.clone(), content(&path))).collect())
    }
}

/// A file that is larger than any pipeline file is told apart by its beginning.
fn content(path: &std::path::Path) -> Option<u64> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    Some(xxhash_rust::xxh3::xxh3_64(&bytes))
}
