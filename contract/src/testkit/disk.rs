//! A disk in memory on which only what was synced survives a crash, and whose every operation can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Disk, DiskFile, Metadata};

/// A write that succeeds takes so many bytes at most, so that long ones can end in the middle.
const WRITE: usize = 100;

/// What goes wrong at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies: of a write half has reached the file, of everything else nothing. Nothing succeeds afterwards; see [`SimDisk::crash`].
    Crash,
    /// No space is left (ENOSPC). Of a write half has reached the file.
    Full,
    /// The medium fails (EIO). Of a write half has reached the file.
    Medium,
    /// It is not allowed (EACCES).
    Denied,
    /// Too many files are open (EMFILE).
    TooManyFiles,
    /// No error: a read or a write takes half of what it could. Other operations are as always.
    Short,
}

impl Fault {
    /// All that are errors and not the end of the process.
    pub const ERRORS: [Self; 4] = [Self::Full, Self::Medium, Self::Denied, Self::TooManyFiles];

    /// As the system reports it.
    fn error(self) -> io::Error {
        let (code, kind) = match self {
            Self::Full => (28, io::ErrorKind::StorageFull),
            Self::Denied => (13, io::ErrorKind::PermissionDenied),
            Self::TooManyFiles => (24, io::ErrorKind::Other),
            Self::Crash | Self::Medium | Self::Short => (5, io::ErrorKind::Other),
        };
        if cfg!(unix) { io::Error::from_raw_os_error(code) } else { kind.into() }
    }
}

/// Which operations fail. They are counted from 0 since [`SimDisk::fail`] was called last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fail {
    /// None.
    #[default]
    Never,
    /// The one with this number.
    Once(usize, Fault),
    /// That one and all that follow.
    From(usize, Fault),
}

/// How much a crash leaves of what was not synced, which is always the first part of it: of the bytes written to a file, or of the changes of
/// names in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// The first half.
    Half,
    /// Everything.
    Everything,
    /// Of a file its length, with zeros where bytes were written; of a folder everything.
    Zeros,
    /// Some of it, for each file and folder another part, by a seed.
    Some(u64),
}

impl Kept {
    fn part(self, all: usize, salt: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Half => all / 2,
            Self::Everything | Self::Zeros => all,
            Self::Some(seed) => {
                // SplitMix64's finalizer: any seed gives every file and folder another part.
                let mut z = seed ^ (salt as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                usize::try_from((z ^ (z >> 31)) % (all as u64 + 1)).unwrap_or(all)
            }
        }
    }
}

/// What is left after a crash, besides what was synced. Names and contents are independent of each other: a file can be renamed and yet be
/// empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survives {
    /// Of the names in each folder.
    pub names: Kept,
    /// Of the contents of each file.
    pub contents: Kept,
}

impl Survives {
    /// What was synced and nothing else.
    pub const SYNCED: Self = Self { names: Kept::Nothing, contents: Kept::Nothing };

    /// The corners and the middle.
    pub fn variants() -> impl Iterator<Item = Self> {
        let contents = [Kept::Nothing, Kept::Half, Kept::Everything, Kept::Zeros];
        [Kept::Nothing, Kept::Half, Kept::Everything].into_iter().flat_map(move |names| contents.map(|contents| Self { names, contents }))
    }

    /// Another part of every folder and every file, by a seed.
    pub fn seeded(seed: u64) -> Self {
        Self { names: Kept::Some(seed), contents: Kept::Some(!seed) }
    }
}

/// A change of a file's contents.
#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Change {
    /// Its size, when parts of it are counted.
    fn size(&self) -> usize {
        if let Self::Write { bytes, .. } = self { bytes.len() } else { 1 }
    }

    /// Makes the first `part` of it to `content`.
    fn apply(&self, content: &mut Vec<u8>, part: usize, zeros: bool) {
        match self {
            Self::Length(len) if part > 0 => content.resize(*len, 0),
            Self::Length(_) => {}
            Self::Write { at, bytes } => {
                let bytes = bytes.get(..part).unwrap_or(bytes);
                content.resize(content.len().max(at + bytes.len()), 0);
                for (old, new) in content.iter_mut().skip(*at).zip(bytes) {
                    *old = if zeros { 0 } else { *new };
                }
            }
        }
    }
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What a sync makes durable, in order.
    pending: Vec<Change>,
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now, change.size(), false);
        self.pending.push(change);
    }

    fn survivor(&self, kept: Kept, salt: usize) -> Vec<u8> {
        let mut content = self.durable.clone();
        let mut rest = kept.part(self.pending.iter().map(Change::size).sum(), salt);
        for change in &self.pending {
            let part = rest.min(change.size());
            if part == 0 {
                break;
            }
            change.apply(&mut content, part, kept == Kept::Zeros);
            rest -= part;
        }
        content
    }
}

/// A change of the names in a folder.
#[derive(Clone)]
enum Naming {
    File(PathBuf, usize),
    Folder(PathBuf),
    Renamed(PathBuf, PathBuf, usize),
    Gone(PathBuf),
}

impl Naming {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::File(path, _) | Self::Folder(path) | Self::Renamed(_, path, _) | Self::Gone(path) => path.parent(),
        }
    }
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
}

impl Names {
    fn apply(&mut self, naming: &Naming) {
        match naming {
            Naming::File(path, inode) => {
                self.files.insert(path.clone(), *inode);
            }
            Naming::Folder(path) => {
                self.dirs.insert(path.clone());
            }
            Naming::Renamed(from, to, inode) => {
                self.files.remove(from);
                self.files.insert(to.clone(), *inode);
            }
            Naming::Gone(path) => {
                self.files.remove(path);
            }
        }
    }
}

#[derive(Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    now: Names,
    durable: Names,
    /// What syncs of folders make durable, in order.
    pending: Vec<Naming>,
    ops: usize,
    fail: Fail,
    /// What was done, when that is wanted.
    history: Option<Vec<String>>,
}

/// A disk in memory for tests. Its clones are the same disk.
///
/// - Only what was synced survives [`SimDisk::crash`]: [`DiskFile::sync`] for contents, [`Disk::sync_dir`] for names. Of the rest any first
///   part may survive, of each file and each folder by itself; what stands in a folder that did not survive is gone.
/// - Every operation is counted and can fail, once or from one on, as [`SimDisk::fail`] says.
/// - A sync of contents that fails has lost what it was to make durable, though reads still see it and a later sync may succeed: so it is on
///   Linux. Who goes on must write again.
/// - A write that succeeds takes 100 bytes at most.
///
/// The empty path is the folder that relative paths begin in; it is always there.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which operations fail, and counts them from 0 again.
    pub fn fail(&self, fail: Fail) {
        let mut state = self.state();
        state.fail = fail;
        state.ops = 0;
    }

    /// How many operations there were since [`SimDisk::fail`].
    pub fn ops(&self) -> usize {
        self.state().ops
    }

    /// Has the process died?
    pub fn is_dead(&self) -> bool {
        let state = self.state();
        matches!(state.fail, Fail::Once(k, Fault::Crash) | Fail::From(k, Fault::Crash) if state.ops > k)
    }

    /// Keeps a list of all operations from now on, for messages of tests.
    pub fn record(&self) {
        self.state().history.get_or_insert_default();
    }

    /// The operations since [`SimDisk::record`].
    pub fn history(&self) -> Vec<String> {
        self.state().history.clone().unwrap_or_default()
    }

    /// Counts a step of something that is no file but lives and dies with the same process, as a transaction of the state.
    ///
    /// # Errors
    /// Where one is due at this operation; the step is not taken then.
    pub fn step(&self, what: &str) -> io::Result<()> {
        self.op(|| what.to_owned()).map(drop)
    }

    /// The disk as the next process finds it, without faults.
    #[must_use]
    pub fn crash(&self, survives: Survives) -> Self {
        let mut state = self.state().clone();
        let pending = std::mem::take(&mut state.pending);
        let folders: BTreeSet<&Path> = pending.iter().filter_map(Naming::folder).collect();
        for (salt, folder) in folders.into_iter().enumerate() {
            let within: Vec<_> = pending.iter().filter(|naming| naming.folder() == Some(folder)).collect();
            within.iter().take(survives.names.part(within.len(), salt)).for_each(|naming| state.durable.apply(naming));
        }
        state.now = state.durable.clone();
        // What is in a folder that is not there is not there.
        let dirs = state.now.dirs.clone();
        let rooted = |path: &Path| path.ancestors().skip(1).all(|dir| dir.as_os_str().is_empty() || dirs.contains(dir));
        state.now.dirs.retain(|dir| rooted(dir));
        state.now.files.retain(|path, _| rooted(path));
        state.durable = state.now.clone();
        for (salt, inode) in state.inodes.iter_mut().enumerate() {
            let kept = inode.survivor(survives.contents, salt);
            *inode = Inode { now: kept.clone(), durable: kept, pending: Vec::new() };
        }
        state.fail = Fail::Never;
        state.ops = 0;
        Self(Arc::new(Mutex::new(state)))
    }

    /// All files as they are now, as text, by path.
    pub fn files(&self) -> BTreeMap<String, String> {
        let state = self.state();
        let text = |inode: &usize| state.inodes.get(*inode).map(|inode| String::from_utf8_lossy(&inode.now).into_owned()).unwrap_or_default();
        state.now.files.iter().map(|(path, inode)| (path.display().to_string(), text(inode))).collect()
    }

    /// What somebody else does: a file with this content, durable at once, and the folders above it.
    pub fn put(&self, path: &str, content: &str) {
        let mut state = self.state();
        for dir in Path::new(path).ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()) {
            state.now.dirs.insert(dir.into());
            state.durable.dirs.insert(dir.into());
        }
        state.inodes.push(Inode { now: content.into(), durable: content.into(), pending: Vec::new() });
        let inode = state.inodes.len() - 1;
        state.now.files.insert(path.into(), inode);
        state.durable.files.insert(path.into(), inode);
    }

    /// What somebody else does: a file is gone, durably at once.
    pub fn delete(&self, path: &str) {
        let mut state = self.state();
        state.now.files.remove(Path::new(path));
        state.durable.files.remove(Path::new(path));
        state.pending.retain(|naming| !matches!(naming, Naming::File(p, _) | Naming::Renamed(_, p, _) if p == Path::new(path)));
    }

    /// Counts an operation.
    fn op(&self, what: impl FnOnce() -> String) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match state.fault(what) {
            None | Some(Fault::Short) => Ok(state),
            Some(fault) => Err(fault.error()),
        }
    }

    fn file(&self, path: &Path, inode: usize, writable: bool) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), path: path.to_owned(), inode, at: 0, writable })
    }
}

impl State {
    /// The fault that is due at the next operation, which is counted.
    fn fault(&mut self, what: impl FnOnce() -> String) -> Option<Fault> {
        let op = self.ops;
        self.ops += 1;
        if let Some(history) = &mut self.history {
            history.push(what());
        }
        match self.fail {
            Fail::Once(k, Fault::Crash) | Fail::From(k, Fault::Crash) if op >= k => Some(Fault::Crash),
            Fail::Once(k, fault) if op == k => Some(fault),
            Fail::From(k, fault) if op >= k => Some(fault),
            _ => None,
        }
    }

    /// Is this the operation at which the process dies, and not one after it?
    fn dies_now(&self) -> bool {
        matches!(self.fail, Fail::Once(k, Fault::Crash) | Fail::From(k, Fault::Crash) if self.ops == k + 1)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.now.files.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn inode(&mut self, inode: usize) -> io::Result<&mut Inode> {
        self.inodes.get_mut(inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn has_dir(&self, dir: Option<&Path>) -> io::Result<()> {
        if dir.is_none_or(|dir| dir.as_os_str().is_empty() || self.now.dirs.contains(dir)) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn name(&mut self, naming: Naming) {
        self.now.apply(&naming);
        self.pending.push(naming);
    }
}

impl Disk for SimDisk {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let state = self.op(|| format!("look at {}", path.display()))?;
        let inode = state.now.files.get(path).and_then(|inode| state.inodes.get(*inode));
        let file = inode.map(|inode| Metadata { len: inode.now.len() as u64, is_dir: false, stamp: None });
        Ok(file.or_else(|| state.now.dirs.contains(path).then_some(Metadata { len: 0, is_dir: true, stamp: None })))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.op(|| format!("list {}", dir.display()))?;
        let names = state.now.files.keys().chain(&state.now.dirs);
        let mut names: Vec<_> = names.filter(|path| path.parent() == Some(dir)).cloned().collect();
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.op(|| format!("create the folder {}", dir.display()))?;
        state.has_dir(dir.parent())?;
        if !state.now.dirs.contains(dir) {
            state.name(Naming::Folder(dir.into()));
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.op(|| format!("open {}", path.display()))?.find(path)?;
        Ok(self.file(path, inode, false))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.op(|| format!("open {} for writing", path.display()))?.find(path)?;
        Ok(self.file(path, inode, true))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.op(|| format!("create {}", path.display()))?;
        state.has_dir(path.parent())?;
        let inode = match state.find(path) {
            Ok(inode) => {
                state.inode(inode)?.change(Change::Length(0));
                inode
            }
            Err(_) => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.name(Naming::File(path.into(), inode));
                inode
            }
        };
        drop(state);
        Ok(self.file(path, inode, true))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.op(|| format!("rename {} to {}", from.display(), to.display()))?;
        let inode = state.find(from)?;
        state.has_dir(to.parent())?;
        if from.parent() == to.parent() {
            state.name(Naming::Renamed(from.into(), to.into(), inode));
        } else {
            state.name(Naming::File(to.into(), inode));
            state.name(Naming::Gone(from.into()));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.op(|| format!("remove {}", path.display()))?;
        state.find(path)?;
        state.name(Naming::Gone(path.into()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.op(|| format!("sync the folder {}", dir.display()))?;
        state.has_dir(Some(dir))?;
        let pending = std::mem::take(&mut state.pending);
        let (synced, rest) = pending.into_iter().partition::<Vec<_>, _>(|naming| naming.folder() == Some(dir));
        synced.iter().for_each(|naming| state.durable.apply(naming));
        state.pending = rest;
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    inode: usize,
    at: usize,
    writable: bool,
}

impl SimFile {
    fn writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::new(io::ErrorKind::PermissionDenied, "it was opened for reading")) }
    }

    fn what<'a>(&'a self, doing: &'a str) -> impl FnOnce() -> String + use<'a> {
        move || format!("{doing} {}", self.path.display())
    }
}

impl Read for SimFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let fault = state.fault(self.what("read"));
        let content = &state.inode(self.inode)?.now;
        let rest = content.get(self.at..).unwrap_or_default();
        let n = match fault {
            None => rest.len().min(buf.len()),
            Some(Fault::Short) => rest.len().min(buf.len()).div_ceil(2),
            Some(fault) => return Err(fault.error()),
        };
        buf[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }
}

impl Write for SimFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writable()?;
        let mut state = self.disk.state();
        let fault = state.fault(self.what("write"));
        let n = match fault {
            None => buf.len().min(WRITE),
            Some(Fault::Short) => buf.len().min(WRITE).div_ceil(2),
            Some(Fault::Crash) if !state.dies_now() => 0,
            Some(Fault::Crash | Fault::Full | Fault::Medium) => buf.len() / 2,
            Some(Fault::Denied | Fault::TooManyFiles) => 0,
        };
        state.inode(self.inode)?.change(Change::Write { at: self.at, bytes: buf[..n].to_vec() });
        self.at += n;
        match fault {
            None | Some(Fault::Short) => Ok(n),
            Some(fault) => Err(fault.error()),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SimFile {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        let len = self.disk.state().inode(self.inode)?.now.len() as u64;
        let at = match pos {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => len.checked_add_signed(by),
            SeekFrom::Current(by) => (self.at as u64).checked_add_signed(by),
        };
        let at = at.ok_or(io::ErrorKind::InvalidInput)?;
        self.at = usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(at)
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.op(self.what("look at the length of"))?;
        Ok(state.inode(self.inode)?.now.len() as u64)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.writable()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut state = self.disk.op(self.what("set the length of"))?;
        state.inode(self.inode)?.change(Change::Length(len));
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.fault(self.what("sync"));
        let inode = state.inode(self.inode)?;
        match fault {
            None | Some(Fault::Short) => {
                let Inode { durable, pending, .. } = inode;
                pending.drain(..).for_each(|change| change.apply(durable, change.size(), false));
                Ok(())
            }
            Some(Fault::Crash) => Err(Fault::Crash.error()),
            Some(fault) => {
                inode.pending.clear();
                Err(fault.error())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use super::*;

    fn write(disk: &SimDisk, path: &str, content: &str) -> Box<dyn DiskFile> {
        let mut file = disk.create(Path::new(path)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn read(disk: &SimDisk, path: &str) -> Option<String> {
        disk.files().remove(path)
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_first_part_of_the_rest() {
        let disk = SimDisk::new();
        let mut file = write(&disk, "x", "0123456789");
        file.sync().unwrap();
        assert_eq!(read(&disk.crash(Survives::SYNCED), "x"), None, "its name was not synced");
        disk.sync_dir(Path::new("")).unwrap();
        assert_eq!(read(&disk.crash(Survives::SYNCED), "x").unwrap(), "0123456789");
        file.write_all(b"abcdef").unwrap();
        for (contents, expected) in [
            (Kept::Nothing, "0123456789"),
            (Kept::Half, "0123456789abc"),
            (Kept::Everything, "0123456789abcdef"),
            (Kept::Zeros, "0123456789\0\0\0\0\0\0"),
        ] {
            assert_eq!(read(&disk.crash(Survives { names: Kept::Nothing, contents }), "x").unwrap(), expected);
        }
        file.set_len(4).unwrap();
        assert_eq!(read(&disk, "x").unwrap(), "0123");
        assert_eq!(read(&disk.crash(Survives::SYNCED), "x").unwrap(), "0123456789");
        assert_eq!(read(&disk.crash(Survives { names: Kept::Nothing, contents: Kept::Everything }), "x").unwrap(), "0123");
    }

    #[test]
    fn a_rename_and_what_it_renames_are_two_things() {
        let disk = SimDisk::new();
        write(&disk, "x", "old").sync().unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        write(&disk, "t", "new");
        disk.rename(Path::new("t"), Path::new("x")).unwrap();
        assert_eq!(read(&disk, "x").unwrap(), "new");
        let after = |names, contents| disk.crash(Survives { names, contents }).files().into_iter().collect::<Vec<_>>();
        let files = |files: &[(&str, &str)]| files.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        assert_eq!(after(Kept::Nothing, Kept::Everything), files(&[("x", "old")]));
        assert_eq!(after(Kept::Half, Kept::Everything), files(&[("t", "new"), ("x", "old")]));
        assert_eq!(after(Kept::Everything, Kept::Nothing), files(&[("x", "")]));
    }

    #[test]
    fn what_is_in_a_folder_that_did_not_survive_is_gone() {
        let disk = SimDisk::new();
        disk.create_dir(Path::new("a")).unwrap();
        write(&disk, "a/x", "x").sync().unwrap();
        disk.sync_dir(Path::new("a")).unwrap();
        assert_eq!(disk.crash(Survives::SYNCED).files().len(), 0);
        disk.sync_dir(Path::new("")).unwrap();
        assert_eq!(disk.crash(Survives::SYNCED).files().len(), 1);
    }

    #[test]
    fn a_sync_that_failed_has_lost_what_was_written_although_the_next_one_succeeds() {
        let disk = SimDisk::new();
        let mut file = write(&disk, "x", "lost");
        disk.sync_dir(Path::new("")).unwrap();
        disk.fail(Fail::Once(0, Fault::Medium));
        file.sync().unwrap_err();
        file.sync().unwrap();
        assert_eq!(read(&disk, "x").unwrap(), "lost");
        assert_eq!(read(&disk.crash(Survives { names: Kept::Everything, contents: Kept::Everything }), "x").unwrap(), "");
    }

    #[test]
    fn faults_come_when_they_are_due() {
        for (fault, code, written) in
            [(Fault::Full, 28, "01234"), (Fault::Medium, 5, "01234"), (Fault::Denied, 13, ""), (Fault::TooManyFiles, 24, "")]
        {
            let disk = SimDisk::new();
            disk.fail(Fail::Once(1, fault));
            let mut file = disk.create(Path::new("x")).unwrap();
            let error = file.write_all(b"0123456789").unwrap_err();
            if cfg!(unix) {
                assert_eq!(error.raw_os_error(), Some(code));
            }
            assert_eq!(read(&disk, "x").unwrap(), written);
            file.write_all(b"!").unwrap();
            disk.fail(Fail::From(1, fault));
            disk.step("one").unwrap();
            disk.step("two").unwrap_err();
            disk.step("three").unwrap_err();
            assert_eq!((disk.ops(), disk.is_dead()), (3, false));
        }
        let disk = SimDisk::new();
        disk.fail(Fail::From(1, Fault::Short));
        write(&disk, "x", "0123456789");
        assert_eq!(read(&disk, "x").unwrap(), "0123456789");
        disk.fail(Fail::Once(1, Fault::Crash));
        let mut file = disk.open_write(Path::new("x")).unwrap();
        file.write_all(b"abcdefghij").unwrap_err();
        file.write_all(b"abcdefghij").unwrap_err();
        assert_eq!((read(&disk, "x").unwrap().as_str(), disk.is_dead()), ("abcde56789", true));
    }

    #[test]
    fn seeds_keep_every_part_sooner_or_later() {
        let disk = SimDisk::new();
        disk.put("x", "");
        disk.open_write(Path::new("x")).unwrap().write_all(b"0123").unwrap();
        let lengths: BTreeSet<usize> = (0..100).map(|seed| read(&disk.crash(Survives::seeded(seed)), "x").unwrap().len()).collect();
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
