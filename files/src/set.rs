//! The files of one sink, and what the open epoch does to them.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor, Read, Write};
use std::mem;
use std::sync::Arc;

use pipeline_contract::{DiskFile, Epoch, Recovery, SinkContext, SinkState, StageError, Stamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::appended::Appended;
use crate::folder::{Folders, folder_of};
use crate::found::{self, Head};
use crate::mark::{Mark, Record};
use crate::{Root, io_error};

/// What makes new content of old: it reads the whole old content, the epoch's own appended bytes last, and writes the new.
pub type Edit = Box<dyn FnOnce(&mut (dyn Read + Send), &mut dyn Write) -> Result<(), EditError> + Send + Sync>;

/// Why an [`Edit`] stopped.
#[derive(Debug)]
pub enum EditError {
    /// Reading the old or writing the new content failed.
    Io(io::Error),
    /// The content is not what the edit needs.
    Stage(StageError),
}

impl From<io::Error> for EditError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StageError> for EditError {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

/// What is at a path that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStatus {
    /// Nothing; it will be made.
    Absent,
    /// What this sink committed, unchanged.
    Committed {
        /// Its length.
        len: u64,
    },
}

#[derive(Default)]
pub(crate) struct Change {
    pub(crate) header: Vec<u8>,
    pub(crate) appended: Appended,
    pub(crate) edit: Option<Edit>,
}

/// Something done on disk for an epoch that is not decided.
#[derive(Debug)]
pub(crate) enum Done {
    Appended { path: String, from: u64, to: u64 },
    Made { temp: String },
}

/// The files of one sink. Paths are texts with `/`, relative to the working directory or absolute; they are the keys of its records.
pub struct FileSet {
    pub(crate) cx: SinkContext,
    pub(crate) folders: Folders,
    /// What was found at each path in this epoch: each file is looked at once.
    pub(crate) looked: HashMap<String, Result<Option<Mark>, StageError>>,
    /// Files whose stamp is not the committed one and whose bytes are, with that stamp.
    read_through: HashMap<String, Stamp>,
    pub(crate) open: BTreeMap<String, Change>,
    pub(crate) prepared: Vec<Done>,
    /// What an abort could not take back yet.
    owed: Vec<Done>,
    /// A file that somebody removed begins anew.
    renews: bool,
}

impl FileSet {
    /// The files of the sink that `cx` belongs to.
    pub fn new(cx: &SinkContext) -> Self {
        Self {
            cx: cx.clone(),
            folders: Folders::default(),
            looked: HashMap::new(),
            read_through: HashMap::new(),
            open: BTreeMap::new(),
            prepared: Vec::new(),
            owed: Vec::new(),
            renews: false,
        }
    }

    /// Lets a file that somebody removed begin anew, where what it held may be tidied away (rejects, say).
    #[must_use]
    pub fn renewing(mut self) -> Self {
        self.renews = true;
        self
    }

    /// Looks at a file, once in an epoch: is it as it was committed, or not there and unknown?
    ///
    /// `header` is what the file begins with, line break included; empty when it has none.
    ///
    /// # Errors
    /// With [`Act::Split`](pipeline_contract::Act::Split) when somebody changed, removed or made the file. It is not touched.
    pub fn check(&mut self, path: &str, header: &[u8]) -> Result<FileStatus, StageError> {
        self.settle()?;
        if !self.looked.contains_key(path) {
            let found = self.look(path, header);
            self.looked.insert(path.to_owned(), found);
        }
        match self.looked.get(path) {
            Some(Ok(Some(mark))) => Ok(FileStatus::Committed { len: mark.len }),
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(FileStatus::Absent),
        }
    }

    fn look(&mut self, path: &str, header: &[u8]) -> Result<Option<Mark>, StageError> {
        let disk = &*self.cx.ports.disk;
        let meta = disk.metadata(path.as_ref()).map_err(|error| io_error("look at", path, &error))?;
        let Some(record) = self.cx.records.get(path)? else {
            return match meta {
                None => Ok(None),
                Some(meta) => Err(found::foreign(path, meta.len, meta.is_dir)),
            };
        };
        let mark = Record::from_value(path, &record)?.mark;
        if meta.is_none() && self.renews {
            return Ok(None);
        }
        let Some(meta) = meta else { return Err(found::gone(path, &mark)) };
        if meta.is_dir {
            return Err(found::a_folder(path, &mark));
        }
        let opened = disk.open(path.as_ref());
        if meta.len != mark.len {
            let mut file = opened.ok();
            return Err(found::resized(path, file.as_mut().map(|file| &mut **file as &mut dyn DiskFile), meta.len, &mark, header));
        }
        let mut file = opened.map_err(|error| io_error("open", path, &error))?;
        // A body that was read once under this stamp is not read again.
        let known = meta.stamp.is_some() && self.read_through.get(path) == meta.stamp.as_ref();
        let stamp = if known { mark.stamp } else { meta.stamp };
        let differs = mark.differs(&mut *file, stamp).map_err(|error| io_error("read", path, &error))?;
        let head = Head::of(&mut *file, header).map_err(|error| io_error("read", path, &error))?;
        match differs {
            None if head.is_other() => found::check_header(path, &mut *file, header).map(|_| None),
            None => {
                if let Some(stamp) = meta.stamp.filter(|stamp| mark.stamp.as_ref() != Some(stamp)) {
                    self.read_through.insert(path.to_owned(), stamp);
                }
                Ok(Some(mark))
            }
            Some(differs) => Err(found::edited(path, differs, &head, &meta, &mark, header)),
        }
    }

    /// Appends bytes to a file; a new one gets `header` first. They are in memory until [`FileSet::prepare`], as one piece where they are many.
    ///
    /// # Errors
    /// As [`FileSet::check`].
    pub fn append(&mut self, path: &str, header: &[u8], bytes: impl Into<Vec<u8>>) -> Result<(), StageError> {
        self.change(path, header)?.appended.push(bytes.into());
        Ok(())
    }

    /// As [`FileSet::append`], of bytes that the caller keeps as well: where they are many, they are in memory once.
    ///
    /// # Errors
    /// As [`FileSet::check`].
    pub fn append_shared(&mut self, path: &str, header: &[u8], bytes: &Arc<Vec<u8>>) -> Result<(), StageError> {
        self.change(path, header)?.appended.push_shared(bytes);
        Ok(())
    }

    /// Has [`FileSet::prepare`] rewrite a file, beside the old one: one edit a file and epoch, the last one given.
    ///
    /// # Errors
    /// As [`FileSet::check`].
    pub fn rewrite(&mut self, path: &str, header: &[u8], edit: Edit) -> Result<(), StageError> {
        self.change(path, header)?.edit = Some(edit);
        Ok(())
    }

    /// Says beforehand that a file will change, so that it is among [`FileSet::changed`]. When nothing of it comes, it is left as it is.
    ///
    /// # Errors
    /// As [`FileSet::check`].
    pub fn announce(&mut self, path: &str, header: &[u8]) -> Result<(), StageError> {
        self.change(path, header).map(drop)
    }

    /// How many files the open epoch changes.
    pub fn changed(&self) -> usize {
        self.open.len()
    }

    fn change(&mut self, path: &str, header: &[u8]) -> Result<&mut Change, StageError> {
        self.check(path, header)?;
        if !self.open.contains_key(path) {
            self.open.insert(path.to_owned(), Change { header: header.to_vec(), ..Change::default() });
        }
        self.open.get_mut(path).ok_or_else(|| StageError::developer("a change that was just made is gone"))
    }

    /// A file as the open epoch leaves it, edits apart: what was committed, then what is appended.
    ///
    /// # Errors
    /// As [`FileSet::check`].
    pub fn content(&mut self, path: &str, header: &[u8]) -> Result<Box<dyn Read + Send + '_>, StageError> {
        self.check(path, header)?;
        let stored: Box<dyn Read + Send> = match self.looked.get(path) {
            Some(Ok(Some(mark))) => Box::new(self.open_committed(path, mark)?.take(mark.len)),
            _ => Box::new(Cursor::new(header.to_vec())),
        };
        Ok(match self.open.get(path) {
            Some(change) => Box::new(stored.chain(change.appended.reader())),
            None => stored,
        })
    }

    pub(crate) fn open_committed(&self, path: &str, mark: &Mark) -> Result<Box<dyn DiskFile>, StageError> {
        let file = self.cx.ports.disk.open(path.as_ref()).map_err(|error| io_error("open", path, &error))?;
        self.expect_length(path, &*file, mark)?;
        Ok(file)
    }

    pub(crate) fn expect_length(&self, path: &str, file: &dyn DiskFile, mark: &Mark) -> Result<(), StageError> {
        let len = file.size().map_err(|error| io_error("look at", path, &error))?;
        if len == mark.len { Ok(()) } else { Err(found::other_length(path, len, mark.len)) }
    }

    /// Finishes a decided epoch: what was made is renamed to its place. Idempotent.
    ///
    /// # Errors
    /// When a rename fails or somebody's file stands in the place of a new one; call it again.
    pub fn commit(&mut self, _epoch: Epoch, state: &SinkState) -> Result<(), StageError> {
        // Decided: from here on nothing of it is taken back.
        self.prepared.clear();
        self.finish(state, true)?;
        self.open.clear();
        self.looked.clear();
        Ok(())
    }

    /// Forgets what is not committed, on disk too.
    ///
    /// # Errors
    /// When something could not be taken back. It is tried again before the next write; [`FileSet::recover`] does it after a restart.
    pub fn abort(&mut self) -> Result<(), StageError> {
        self.open.clear();
        self.looked.clear();
        self.owed.append(&mut self.prepared);
        self.settle()
    }

    /// Brings the files to the last committed epoch. `roots` are the folders in which this sink may have left temporary files.
    ///
    /// Whether or not a run was open, the last epoch's renames are finished. Only when one was open are tails behind committed lengths cut
    /// (and kept under `keep_dir`) and temporary files removed. A crash within is no harm: call it again.
    ///
    /// # Errors
    /// What stands in the way; nothing may be written then.
    pub fn recover(&mut self, recovery: &Recovery, roots: &[Root]) -> Result<(), StageError> {
        self.open.clear();
        self.looked.clear();
        self.prepared.clear();
        self.owed.clear();
        if let Some((_, state)) = &recovery.last {
            self.finish(state, false)?;
        }
        if !recovery.run_was_open {
            return Ok(());
        }
        let epoch = recovery.last.as_ref().map_or(0, |(epoch, _)| *epoch);
        for (path, record) in self.cx.records.all()? {
            self.cut(&path, &Record::from_value(&path, &record)?.mark, epoch)?;
        }
        roots.iter().try_for_each(|root| self.remove_strays(root))
    }

    pub(crate) fn settle(&mut self) -> Result<(), StageError> {
        let mut first = None;
        for done in mem::take(&mut self.owed).into_iter().rev() {
            if let Err(error) = self.take_back(&done) {
                first.get_or_insert(error);
                self.owed.push(done);
            }
        }
        self.owed.reverse();
        first.map_or(Ok(()), Err)
    }

    fn take_back(&self, done: &Done) -> Result<(), StageError> {
        let disk = &*self.cx.ports.disk;
        match done {
            Done::Appended { path, from, to } => {
                let cut = || -> io::Result<()> {
                    let Some(meta) = disk.metadata(path.as_ref())? else { return Ok(()) };
                    // Longer than what was written: somebody else writes too, and theirs is not cut.
                    if meta.len <= *from || meta.len > *to {
                        return Ok(());
                    }
                    let mut file = disk.open_write(path.as_ref())?;
                    file.set_len(*from)?;
                    file.sync()
                };
                cut().map_err(|error| io_error("take back what was written to", path, &error))
            }
            Done::Made { temp } => {
                let remove = || -> io::Result<()> {
                    if disk.metadata(temp.as_ref())?.is_none() {
                        return Ok(());
                    }
                    disk.remove(temp.as_ref())?;
                    disk.sync_dir(&folder_of(temp))
                };
                remove().map_err(|error| io_error("remove", temp, &error))
            }
        }
    }

    /// What the temporary names of this sink begin with.
    pub(crate) fn temp_prefix(cx: &SinkContext) -> String {
        format!(".pipeline-{:08x}-", xxh3_64(cx.id.as_bytes()) >> 32)
    }

    pub(crate) fn temp_name(&self, path: &str, epoch: Epoch) -> String {
        format!("{}{:016x}-{epoch}.tmp", Self::temp_prefix(&self.cx), xxh3_64(path.as_bytes()))
    }
}
