//! A disk in memory, as fast as can be. What was written survives the process; it can be full, or fail now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use pipeline_contract::{Disk, DiskFile, Metadata, Stamp};

use super::life::Life;
use super::weather::Weather;
use super::world::SimClock;

type Content = Arc<Mutex<Vec<u8>>>;

#[derive(Default)]
struct Names {
    files: BTreeMap<PathBuf, Content>,
    dirs: BTreeSet<PathBuf>,
}

pub struct SimDisk {
    names: Mutex<Names>,
    world: Arc<Outside>,
}

/// What decides whether an operation succeeds.
pub struct Outside {
    pub life: Arc<Life>,
    pub clock: Arc<SimClock>,
    pub weather: Arc<Weather>,
}

impl Outside {
    fn look(&self) -> io::Result<()> {
        if self.life.is_dead() { Err(io::Error::other("the process is dead")) } else { Ok(()) }
    }

    /// Something that changes the disk; `grows` when it needs room.
    fn change(&self, grows: bool) -> io::Result<()> {
        if !self.life.effect() {
            return Err(io::Error::other("the process is dead"));
        }
        let now = self.clock.true_ms();
        if grows && self.weather.disk_full(now) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.weather.disk_flaky(now) && self.life.dice().once_in(25) {
            return Err(io::Error::other("an input/output error (simulated)"));
        }
        Ok(())
    }
}

impl SimDisk {
    pub fn new(world: Outside) -> Arc<Self> {
        Arc::new(Self { names: Mutex::default(), world: Arc::new(world) })
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap()
    }

    fn file(&self, content: Content, writable: bool) -> Box<dyn DiskFile> {
        Box::new(SimFile { content, world: Arc::clone(&self.world), at: 0, writable })
    }

    /// All files and what is in them.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.names().files.iter().map(|(path, content)| (path.display().to_string(), content.lock().unwrap().clone())).collect()
    }
}

fn parent_is_there(names: &Names, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() && !names.dirs.contains(dir) => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(()),
    }
}

impl Disk for SimDisk {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        self.world.look()?;
        let names = self.names();
        let file = names.files.get(path).map(|content| {
            let len = content.lock().unwrap().len() as u64;
            // Nobody changes a file in its place here.
            let stamp = Stamp { modified: i64::try_from(len).unwrap(), file: Arc::as_ptr(content) as usize as u64 };
            Metadata { len, is_dir: false, stamp: Some(stamp) }
        });
        let root = path.as_os_str().is_empty();
        Ok(file.or_else(|| (root || names.dirs.contains(path)).then_some(Metadata { len: 0, is_dir: true, stamp: None })))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.world.look()?;
        let names = self.names();
        let mut all: Vec<PathBuf> = names.files.keys().chain(&names.dirs).filter(|path| path.parent() == Some(dir)).cloned().collect();
        all.sort();
        Ok(all)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.world.change(true)?;
        let mut names = self.names();
        parent_is_there(&names, dir)?;
        names.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.world.look()?;
        let content = self.names().files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(content, false))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.world.look()?;
        let content = self.names().files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(content, true))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.world.change(true)?;
        let mut names = self.names();
        parent_is_there(&names, path)?;
        let content = Arc::clone(names.files.entry(path.to_owned()).or_default());
        content.lock().unwrap().clear();
        Ok(self.file(content, true))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.world.change(false)?;
        let mut names = self.names();
        parent_is_there(&names, to)?;
        let content = names.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.world.change(false)?;
        self.names().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.world.change(false)
    }
}

struct SimFile {
    content: Content,
    world: Arc<Outside>,
    at: usize,
    writable: bool,
}

impl Read for SimFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.world.look()?;
        let content = self.content.lock().unwrap();
        let rest = content.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }
}

impl SimFile {
    fn put(&mut self, bytes: &[u8]) {
        let mut content = self.content.lock().unwrap();
        let end = content.len().max(self.at + bytes.len());
        content.resize(end, 0);
        content[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

impl Write for SimFile {
    /// A write that fails has written half.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        assert!(self.writable, "a file that was opened for reading is written");
        let alive = !self.world.life.is_dead();
        if let Err(error) = self.world.change(true) {
            if alive {
                self.put(&buf[..buf.len() / 2]);
            }
            return Err(error);
        }
        self.put(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SimFile {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        let len = self.content.lock().unwrap().len() as u64;
        let at = match pos {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => len.checked_add_signed(by).unwrap(),
            SeekFrom::Current(by) => (self.at as u64).checked_add_signed(by).unwrap(),
        };
        self.at = usize::try_from(at).unwrap();
        Ok(at)
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.world.look()?;
        Ok(self.content.lock().unwrap().len() as u64)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        assert!(self.writable, "a file that was opened for reading is cut");
        self.world.change(false)?;
        self.content.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.world.change(false)
    }
}
