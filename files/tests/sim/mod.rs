//! A disk in memory on which only what was synced survives a crash, and whose every operation can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use pipeline_contract::{Disk, DiskFile, Metadata};

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
}

/// When operations fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fail {
    Never,
    /// The one with this number, once.
    Once(usize),
    /// That one and all that follow: the process is dead.
    From(usize),
}

/// What is left after a crash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survives {
    /// Names that were not synced.
    pub names: bool,
    /// How much of what was written and not synced: 0 none, 1 half, 2 all.
    pub contents: u8,
}

impl Survives {
    pub(crate) fn variants() -> impl Iterator<Item = Self> {
        [false, true].into_iter().flat_map(|names| (0..3).map(move |contents| Self { names, contents }))
    }
}

#[derive(Clone)]
struct State {
    inodes: Vec<Inode>,
    now: Names,
    durable: Names,
    ops: usize,
    fail: Fail,
}

#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub(crate) fn new() -> Self {
        let state = State { inodes: Vec::new(), now: Names::default(), durable: Names::default(), ops: 0, fail: Fail::Never };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn fail(&self, fail: Fail) {
        let mut state = self.state();
        state.fail = fail;
        state.ops = 0;
    }

    pub(crate) fn ops(&self) -> usize {
        self.state().ops
    }

    /// The disk as the next process finds it.
    pub(crate) fn crash(&self, survives: Survives) -> Self {
        let mut state = self.state().clone();
        if !survives.names {
            state.now = state.durable.clone();
        }
        // What is in a folder that is not there is not there.
        let dirs = state.now.dirs.clone();
        let rooted = |path: &Path| path.ancestors().skip(1).all(|dir| dir.as_os_str().is_empty() || dirs.contains(dir));
        state.now.dirs.retain(|dir| rooted(dir));
        state.now.files.retain(|path, _| rooted(path));
        state.durable = state.now.clone();
        for inode in &mut state.inodes {
            let (now, durable) = (&inode.now, &inode.durable);
            let kept = match survives.contents {
                0 => durable.clone(),
                1 if now.starts_with(durable) => now[..durable.len() + (now.len() - durable.len()) / 2].to_vec(),
                1 => durable.clone(),
                _ => now.clone(),
            };
            *inode = Inode { now: kept.clone(), durable: kept };
        }
        state.fail = Fail::Never;
        state.ops = 0;
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        let state = self.state();
        let text = |inode: &usize| String::from_utf8_lossy(&state.inodes[*inode].now).into_owned();
        state.now.files.iter().map(|(path, inode)| (path.display().to_string(), text(inode))).collect()
    }

    /// What somebody else does: durable at once.
    pub(crate) fn put(&self, path: &str, content: &str) {
        let mut state = self.state();
        for dir in Path::new(path).ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()) {
            state.now.dirs.insert(dir.into());
            state.durable.dirs.insert(dir.into());
        }
        state.inodes.push(Inode { now: content.into(), durable: content.into() });
        let inode = state.inodes.len() - 1;
        state.now.files.insert(path.into(), inode);
        state.durable.files.insert(path.into(), inode);
    }

    pub(crate) fn delete(&self, path: &str) {
        let mut state = self.state();
        state.now.files.remove(Path::new(path));
        state.durable.files.remove(Path::new(path));
    }

    fn op(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.fails() { Err(broken()) } else { Ok(state) }
    }

    fn file(&self, inode: usize, writable: bool) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), inode, at: 0, writable })
    }
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl State {
    fn fails(&mut self) -> bool {
        let op = self.ops;
        self.ops += 1;
        match self.fail {
            Fail::Never => false,
            Fail::Once(k) => op == k,
            Fail::From(k) => op >= k,
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.now.files.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn has_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.as_os_str().is_empty() || self.now.dirs.contains(dir) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

impl Disk for SimDisk {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let state = self.op()?;
        let file = state.now.files.get(path).map(|inode| Metadata { len: state.inodes[*inode].now.len() as u64, is_dir: false });
        Ok(file.or_else(|| state.now.dirs.contains(path).then_some(Metadata { len: 0, is_dir: true })))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.op()?;
        let names = state.now.files.keys().chain(&state.now.dirs);
        let mut names: Vec<_> = names.filter(|path| path.parent() == Some(dir)).cloned().collect();
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.op()?;
        state.has_dir(dir.parent().unwrap())?;
        state.now.dirs.insert(dir.into());
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.op()?.find(path)?;
        Ok(self.file(inode, false))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.op()?.find(path)?;
        Ok(self.file(inode, true))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.op()?;
        state.has_dir(path.parent().unwrap())?;
        let inode = match state.find(path) {
            Ok(inode) => inode,
            Err(_) => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.now.files.insert(path.into(), inode);
                inode
            }
        };
        state.inodes[inode].now.clear();
        drop(state);
        Ok(self.file(inode, true))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.op()?;
        let inode = state.find(from)?;
        state.now.files.remove(from);
        state.now.files.insert(to.into(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.op()?;
        state.find(path)?;
        state.now.files.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.op()?;
        state.has_dir(dir)?;
        let State { now, durable, .. } = &mut *state;
        let within = |path: &PathBuf| path.parent() == Some(dir);
        durable.files.retain(|path, _| !within(path));
        durable.files.extend(now.files.iter().filter(|(path, _)| within(path)).map(|(path, inode)| (path.clone(), *inode)));
        durable.dirs.retain(|path| !within(path));
        durable.dirs.extend(now.dirs.iter().filter(|path| within(path)).cloned());
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    at: usize,
    writable: bool,
}

impl Read for SimFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.op()?;
        let rest = state.inodes[self.inode].now.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }
}

impl Write for SimFile {
    /// A write that fails has written half. One that succeeds takes 100 bytes at most.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        assert!(self.writable);
        let mut state = self.disk.state();
        let fails = state.fails();
        if fails && matches!(state.fail, Fail::From(k) if state.ops > k + 1) {
            return Err(broken());
        }
        let n = if fails { buf.len() / 2 } else { buf.len().min(100) };
        let content = &mut state.inodes[self.inode].now;
        let end = content.len().max(self.at + n);
        content.resize(end, 0);
        content[self.at..self.at + n].copy_from_slice(&buf[..n]);
        self.at += n;
        if fails { Err(broken()) } else { Ok(n) }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SimFile {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = pos else { panic!("only from the start") };
        self.at = usize::try_from(at).unwrap();
        Ok(at)
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.op()?.inodes[self.inode].now.len() as u64)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        assert!(self.writable);
        self.disk.op()?.inodes[self.inode].now.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.op()?;
        let inode = &mut state.inodes[self.inode];
        inode.durable = inode.now.clone();
        Ok(())
    }
}
