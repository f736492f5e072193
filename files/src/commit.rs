//! Finishing what was decided, and finding things as a crash left them.

use std::collections::BTreeSet;
use std::io::{self, SeekFrom};
use std::path::Path;

use pipeline_contract::{Category, Disk, Epoch, SinkState, StageError};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::error::bytes;
use crate::folder::{folder_of, sync};
use crate::mark::{Mark, Record, stamp};
use crate::{FileSet, Root, io_error};

impl FileSet {
    /// Does the renames of an epoch that are not done. `live` is false after a restart, when files may have been archived away since.
    pub(crate) fn finish(&self, state: &SinkState, live: bool) -> Result<(), StageError> {
        let disk = &*self.cx.ports.disk;
        let mut renamed = BTreeSet::new();
        for (path, value) in state.0.iter().filter(|(_, value)| !value.is_null()) {
            let record = Record::from_value(path, value)?;
            if let Some(pending) = &record.pending
                && rename(disk, path, &pending.temp, pending.over.as_ref(), &record.mark, live)?
            {
                renamed.insert(folder_of(path));
            }
        }
        // Also for renames of an earlier try: it may have died before this.
        renamed.iter().try_for_each(|dir| sync(disk, dir))
    }

    /// Cuts what stands behind the committed length of a file, when what stands before it is what was committed.
    pub(crate) fn cut(&mut self, path: &str, mark: &Mark, epoch: Epoch) -> Result<(), StageError> {
        let disk = self.cx.ports.disk.clone();
        let meta = disk.metadata(path.as_ref()).map_err(|error| io_error("look at", path, &error))?;
        let Some(meta) = meta.filter(|meta| !meta.is_dir && meta.len > mark.len) else { return Ok(()) };
        let mut file = disk.open_write(path.as_ref()).map_err(|error| io_error("open", path, &error))?;
        if mark.differs(&mut *file, meta.stamp).map_err(|error| io_error("read", path, &error))?.is_some() {
            return Ok(());
        }
        let mut read_tail = |out: &mut dyn io::Write| -> io::Result<()> {
            file.seek(SeekFrom::Start(mark.len))?;
            io::copy(&mut file, out).map(|_| ())
        };
        // The name holds a hash of the bytes: another tail of the same file does not take its place, the same one does.
        let mut hash = Hasher(Xxh3::with_seed(xxh3_64(path.as_bytes())));
        read_tail(&mut hash).map_err(|error| io_error("read", path, &error))?;
        let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).filter(|name| name.len() <= 150);
        let kept = format!("epoch-{epoch}-{}-at-{}-{:016x}", name.as_deref().unwrap_or("file"), mark.len, hash.0.digest());
        let keep_dir = self.cx.keep_dir.clone();
        self.folders.ensure(&*disk, &keep_dir)?;
        let kept = keep_dir.join(kept);
        let mut keep = || -> io::Result<()> {
            let mut copy = disk.create(&kept)?;
            read_tail(&mut copy)?;
            copy.sync()?;
            disk.sync_dir(&keep_dir)
        };
        keep().map_err(|error| io_error("keep what is cut in", &kept.display().to_string(), &error))?;
        let mut cut = || {
            file.set_len(mark.len)?;
            file.sync()
        };
        cut().map_err(|error| io_error("cut", path, &error))
    }

    /// Removes temporary files of this sink: with the last epoch's renames done, none is needed.
    pub(crate) fn remove_strays(&self, root: &Root) -> Result<(), StageError> {
        let disk = &*self.cx.ports.disk;
        let prefix = Self::temp_prefix(&self.cx);
        let mut emptied = BTreeSet::new();
        root.walk(disk, &mut |dir, name| {
            if !name.starts_with(&prefix) || !name.ends_with(".tmp") {
                return Ok(());
            }
            let path = dir.join(name);
            emptied.insert(dir.to_path_buf());
            disk.remove(&path).map_err(|error| io_error("remove", &path.display().to_string(), &error))
        })?;
        emptied.iter().try_for_each(|dir| sync(disk, dir))
    }
}

struct Hasher(Xxh3);

impl io::Write for Hasher {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Brings a temporary file to its place. False when there is nothing left to do or to sync.
fn rename(disk: &dyn Disk, path: &str, temp: &str, over: Option<&Mark>, mark: &Mark, live: bool) -> Result<bool, StageError> {
    let there = |path: &str| disk.metadata(path.as_ref()).map_err(|error| io_error("look at", path, &error));
    let target = there(path)?;
    if there(temp)?.is_none() {
        return match target {
            Some(_) => Ok(true),
            // Renamed long ago, and archived away since.
            None if !live => Ok(false),
            None => Err(stuck(format!("neither {path} nor {temp}, from which it was to be made, is there: {} are lost", bytes(mark.len)))),
        };
    }
    if !is(disk, temp, mark)? {
        return Err(stuck(format!("{temp} was changed before it could be renamed to {path}")));
    }
    if let Some(meta) = target {
        let ours = !meta.is_dir && (over.is_some_and(|over| over.len == meta.len) || mark.len == meta.len);
        let ours = ours && (is(disk, path, mark)? || matches!(over, Some(over) if is(disk, path, over)?));
        if !ours {
            let what = if meta.is_dir { "a folder".to_owned() } else { format!("a file of {}", bytes(meta.len)) };
            return Err(stuck(format!("{path} cannot be made from {temp} ({}): {what} that this pipeline did not write is there", bytes(mark.len))));
        }
    }
    disk.rename(temp.as_ref(), path.as_ref()).map_err(|error| io_error(&format!("rename {temp} to"), path, &error))?;
    Ok(true)
}

fn is(disk: &dyn Disk, path: &str, mark: &Mark) -> Result<bool, StageError> {
    let stamp = stamp(disk, path)?;
    let mut file = disk.open(path.as_ref()).map_err(|error| io_error("open", path, &error))?;
    mark.is(&mut *file, stamp).map_err(|error| io_error("read", path, &error))
}

fn stuck(message: String) -> StageError {
    StageError::operator(Category::Storage, message).help("the rows are safe in the temporary file: move away what is in its place, then run again")
}
