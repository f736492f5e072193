//! The disk, as narrow as committed files need it.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// What is known of a path without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its length in bytes.
    pub len: u64,
    /// It is a folder.
    pub is_dir: bool,
    /// What changes when its contents do; `None` where the disk cannot tell. Two that differ may well stand for the same contents.
    pub stamp: Option<Stamp>,
}

/// When a file was last changed, and which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The last change of its contents, in nanoseconds since 1970.
    pub modified: i64,
    /// The file system's own number of the file; 0 where it has none.
    pub file: u64,
}

/// Every effect on files. Only what was synced may be relied on: [`DiskFile::sync`] for contents, [`Disk::sync_dir`] for names.
pub trait Disk: Send + Sync {
    /// What is at `path`; `None` when nothing is.
    ///
    /// # Errors
    /// As the system says.
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>>;

    /// The entries of a folder, sorted by name; none when it does not exist.
    ///
    /// # Errors
    /// As the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Creates one folder, whose parent exists. It is no error when it is there already.
    ///
    /// # Errors
    /// As the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Opens a file that exists, for reading.
    ///
    /// # Errors
    /// As the system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that exists, for reading and writing.
    ///
    /// # Errors
    /// As the system says.
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Creates a file, empty, whatever was there before.
    ///
    /// # Errors
    /// As the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file, over one that may be there.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the contents and lengths of several files durable, and answers for each; a disk that works on several at once is faster so.
    fn sync_files(&self, files: &mut [Box<dyn DiskFile>]) -> Vec<io::Result<()>> {
        files.iter_mut().map(|file| file.sync()).collect()
    }
}

/// An open file.
pub trait DiskFile: Read + Write + Seek + Send {
    /// Its length in bytes.
    ///
    /// # Errors
    /// As the system says.
    fn size(&self) -> io::Result<u64>;

    /// Cuts or lengthens it.
    ///
    /// # Errors
    /// As the system says.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes its contents and length durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&mut self) -> io::Result<()>;
}

/// The machine's own disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile(fs::File);

impl Read for RealFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for RealFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for RealFile {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.0.seek(pos)
    }
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

fn stamp(meta: &fs::Metadata) -> Option<Stamp> {
    let since = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    #[cfg(unix)]
    let file = std::os::unix::fs::MetadataExt::ino(meta);
    #[cfg(not(unix))]
    let file = 0;
    Some(Stamp { modified: i64::try_from(since.as_nanos()).ok()?, file })
}

impl Disk for RealDisk {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(Metadata { len: meta.len(), is_dir: meta.is_dir(), stamp: stamp(&meta) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let mut entries = match fs::read_dir(dir) {
            Ok(entries) => entries.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            other => other,
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(fs::File::open(path)?)))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(fs::OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        // Windows has no way to sync a folder; there the rename itself is what is relied on.
        if cfg!(windows) { Ok(()) } else { fs::File::open(dir)?.sync_all() }
    }

    fn sync_files(&self, files: &mut [Box<dyn DiskFile>]) -> Vec<io::Result<()>> {
        /// More do not make a disk faster.
        const AT_ONCE: usize = 32;
        let one_by_one = |files: &mut [Box<dyn DiskFile>]| files.iter_mut().map(|file| file.sync()).collect::<Vec<_>>();
        if files.len() < 2 {
            return one_by_one(files);
        }
        std::thread::scope(|scope| {
            let parts = files.chunks_mut(files.len().div_ceil(AT_ONCE));
            let parts: Vec<_> = parts.map(|part| (part.len(), scope.spawn(|| one_by_one(part)))).collect();
            let died = || io::Error::other("the thread that makes files durable died");
            parts.into_iter().flat_map(|(len, part)| part.join().unwrap_or_else(|_| (0..len).map(|_| Err(died())).collect())).collect()
        })
    }
}
