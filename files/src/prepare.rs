//! Writing an epoch's changes, so that they last and do not count yet.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Read, Write};
use std::mem;

use pipeline_contract::{DiskFile, Epoch, SinkState, StageError};

use crate::appended::Appended;
use crate::folder::{folder_of, sync};
use crate::mark::{Mark, Pending, Record, stamp};
use crate::set::{Change, Done, EditError, FileSet};
use crate::{found, io_error};

/// So many files are open at once at most: a process may not open as many as it likes.
const AT_ONCE: usize = 24;

/// A file that is written and may not last yet.
struct Written {
    path: String,
    file: Box<dyn DiskFile>,
    record: Record,
}

impl FileSet {
    /// Makes the epoch durable, not yet counted, and says what its records become.
    ///
    /// # Errors
    /// When a file cannot be written, or somebody changed it since it was looked at. [`FileSet::abort`] takes back what was done.
    pub fn prepare(&mut self, epoch: Epoch) -> Result<SinkState, StageError> {
        self.settle()?;
        if !self.prepared.is_empty() {
            return Err(StageError::developer(format!("epoch {epoch} is prepared while the one before is neither committed nor aborted")));
        }
        let mut state = SinkState::default();
        let mut named = BTreeSet::new();
        let mut written = Vec::new();
        for (path, change) in mem::take(&mut self.open) {
            let committed = match self.looked.get(&path) {
                Some(Ok(mark)) => mark.clone(),
                _ => return Err(StageError::developer(format!("{path} was not looked at before it is written"))),
            };
            written.push(match (committed, change.edit) {
                (Some(_), None) if change.appended.is_empty() => continue,
                (None, None) if change.appended.is_empty() => continue,
                (Some(mark), None) => self.extend(path, &mark, &change.appended)?,
                (over, edit) => {
                    named.insert(folder_of(&path));
                    self.make(path, epoch, over, Change { edit, ..change })?
                }
            });
            if written.len() == AT_ONCE {
                self.make_last(mem::take(&mut written), &mut state)?;
            }
        }
        self.make_last(written, &mut state)?;
        // Without this a decided epoch could lose the files it renames.
        for dir in named {
            sync(&*self.cx.ports.disk, &dir)?;
        }
        Ok(state)
    }

    fn make_last(&self, written: Vec<Written>, state: &mut SinkState) -> Result<(), StageError> {
        let disk = &*self.cx.ports.disk;
        let (mut files, written): (Vec<_>, Vec<_>) = written.into_iter().map(|written| (written.file, (written.path, written.record))).unzip();
        for ((path, mut record), synced) in written.into_iter().zip(disk.sync_files(&mut files)) {
            synced.map_err(|error| io_error("write", &path, &error))?;
            record.mark.stamp = stamp(disk, record.pending.as_ref().map_or(&path, |pending| &pending.temp))?;
            state.0.insert(path.clone(), record.to_value(&path)?);
        }
        Ok(())
    }

    fn extend(&mut self, path: String, mark: &Mark, appended: &Appended) -> Result<Written, StageError> {
        let mut file = self.cx.ports.disk.open_write(path.as_ref()).map_err(|error| io_error("open", &path, &error))?;
        self.expect_length(&path, &*file, mark)?;
        self.prepared.push(Done::Appended { path: path.clone(), from: mark.len, to: mark.len + appended.len() });
        let mark = Mark::append(&mut *file, mark, appended).map_err(|error| io_error("write", &path, &error))?;
        Ok(Written { path, file, record: Record { mark, pending: None } })
    }

    fn make(&mut self, path: String, epoch: Epoch, over: Option<Mark>, change: Change) -> Result<Written, StageError> {
        let disk = self.cx.ports.disk.clone();
        let mut old: Box<dyn Read + Send> = match &over {
            Some(mark) => Box::new(self.open_committed(&path, mark)?.take(mark.len)),
            None => {
                if let Some(meta) = disk.metadata(path.as_ref()).map_err(|error| io_error("look at", &path, &error))? {
                    return Err(found::foreign(&path, meta.len, meta.is_dir));
                }
                Box::new(&change.header[..])
            }
        };
        let dir = folder_of(&path);
        self.folders.ensure(&*disk, &dir)?;
        let temp = dir.join(self.temp_name(&path, epoch));
        let temp = temp.to_string_lossy().into_owned();
        self.prepared.push(Done::Made { temp: temp.clone() });
        let mut file = disk.create(temp.as_ref()).map_err(|error| io_error("create", &path, &error))?;
        if let Some(edit) = change.edit {
            let mut out = BufWriter::with_capacity(64 << 10, &mut *file);
            edit(&mut old.chain(change.appended.reader()), &mut out).map_err(|error| match error {
                EditError::Io(error) => io_error("rewrite", &path, &error),
                EditError::Stage(error) => error,
            })?;
            out.flush().map_err(|error| io_error("write", &path, &error))?;
        } else {
            let mut write = || {
                io::copy(&mut old, &mut file)?;
                change.appended.pieces().iter().try_for_each(|piece| file.write_all(piece))
            };
            write().map_err(|error| io_error("write", &path, &error))?;
        }
        let len = file.size().map_err(|error| io_error("write", &path, &error))?;
        let mark = Mark::of(&mut *file, len, change.header.len() as u64).map_err(|error| io_error("write", &path, &error))?;
        Ok(Written { path, file, record: Record { mark, pending: Some(Pending { temp, over }) } })
    }
}
