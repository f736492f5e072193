//! Files found on disk, whoever wrote them last.

use std::io;
use std::path::{Path, PathBuf};

use pipeline_contract::{Category, Disk, SinkContext, SinkState, StageError};

use crate::found::check_header;
use crate::mark::{Mark, Record, read_part, stamp};
use crate::{FileSet, io_error};
use serde_json::Value;

/// A folder and how many folders deep below it a sink's files can be; 0 is in it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The folder, with `/`; empty is the working directory.
    pub dir: String,
    /// Levels of folders below it.
    pub depth: usize,
}

impl Root {
    /// Calls `each` with the folder and name of every file.
    pub(crate) fn walk(&self, disk: &dyn Disk, each: &mut dyn FnMut(&Path, &str) -> Result<(), StageError>) -> Result<(), StageError> {
        walk(disk, Path::new(&self.dir), self.depth, each)
    }
}

fn walk(disk: &dyn Disk, dir: &Path, depth: usize, each: &mut dyn FnMut(&Path, &str) -> Result<(), StageError>) -> Result<(), StageError> {
    let shown = || dir.display().to_string();
    for entry in disk.list(dir).map_err(|error| io_error("list", &shown(), &error))? {
        // A name that is not UTF-8 was not written by a sink.
        let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { continue };
        let path = dir.join(name);
        let meta = disk.metadata(&path).map_err(|error| io_error("look at", &path.display().to_string(), &error))?;
        match meta {
            Some(meta) if meta.is_dir && depth > 0 => walk(disk, &path, depth - 1, each)?,
            Some(meta) if !meta.is_dir => each(dir, name)?,
            _ => {}
        }
    }
    Ok(())
}

/// The paths of all files under a root, temporary ones apart, in the order of their names. A missing folder holds none.
///
/// # Errors
/// When a folder cannot be read.
pub fn list_files(disk: &dyn Disk, root: &Root) -> Result<Vec<String>, StageError> {
    let mut paths = Vec::new();
    root.walk(disk, &mut |dir, name| {
        if !(name.starts_with(".pipeline-") && name.ends_with(".tmp")) {
            let dir = dir.to_string_lossy();
            let slash = if dir.is_empty() || dir.ends_with('/') { "" } else { "/" };
            paths.push(format!("{dir}{slash}{name}"));
        }
        Ok(())
    })?;
    paths.sort();
    Ok(paths)
}

/// Records of files as they are on disk, whatever state says of them: each begins with `header` and ends with a line break. Files that are
/// in the records but not in `paths` are taken out.
///
/// # Errors
/// Naming the file that cannot be read or does not fit.
pub fn adopt(cx: &SinkContext, paths: &[String], header: &[u8]) -> Result<SinkState, StageError> {
    let mut state = SinkState(cx.records.all()?.into_iter().map(|(path, _)| (path, Value::Null)).collect());
    for path in paths {
        let mut file = cx.ports.disk.open(path.as_ref()).map_err(|error| io_error("open", path, &error))?;
        let notice = check_header(path, &mut *file, header)?.notice(header);
        if !notice.is_empty() {
            tracing::warn!(path, "taken over as it is: {notice}");
        }
        let mut read = || -> io::Result<_> {
            let len = file.size()?;
            let last = if len == 0 { None } else { read_part(&mut *file, len - 1, 1)?.pop() };
            Ok((Mark::of(&mut *file, len, header.len() as u64)?, last))
        };
        let (mut mark, last) = read().map_err(|error| io_error("read", path, &error))?;
        if last.is_some_and(|last| last != b'\n') {
            let message = format!("{path} does not end with a line break, so that nothing can be appended: its last line may be cut off");
            return Err(StageError::split(Category::Storage, message).help(format!(
                "if that line is whole, end it (`echo >> '{path}'`), if not, take it out (`sed -i '$d' '{path}'`); then the same command again"
            )));
        }
        mark.stamp = stamp(&*cx.ports.disk, path)?;
        state.0.insert(path.clone(), Record { mark, pending: None }.to_value(path)?);
    }
    Ok(state)
}

/// Can files be made in a folder, or, while it does not exist, in the nearest one above it? Leaves nothing behind.
///
/// # Errors
/// What stands in the way.
pub fn probe(cx: &SinkContext, dir: &str) -> Result<(), StageError> {
    let disk = &*cx.ports.disk;
    let mut dir = PathBuf::from(dir);
    while !dir.as_os_str().is_empty() {
        match disk.metadata(&dir).map_err(|error| io_error("look at", &dir.display().to_string(), &error))? {
            Some(meta) if meta.is_dir => break,
            Some(_) => return Err(io_error("use the folder", &dir.display().to_string(), &io::ErrorKind::NotADirectory.into())),
            None => {
                dir.pop();
            }
        }
    }
    let path = dir.join(format!("{}probe.tmp", FileSet::temp_prefix(cx)));
    let shown = path.display().to_string();
    drop(disk.create(&path).map_err(|error| io_error("create", &shown, &error))?);
    disk.remove(&path).map_err(|error| io_error("remove", &shown, &error))
}
