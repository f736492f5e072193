//! A disk that answers late: nobody else waits for it.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

mod common;

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::{build, put, run_on};
use pipeline_contract::testkit::SimDisk;
use pipeline_contract::{Disk, DiskFile, Metadata};
use tokio::runtime::{Builder, Handle};

/// A disk that answers what it is asked once another task of the runtime was run. Contents of files may be in memory.
struct Late {
    disk: SimDisk,
    in_memory: bool,
}

fn wait() {
    let (tell, told) = mpsc::channel();
    Handle::current().spawn(async move { tell.send(()) });
    assert!(told.recv_timeout(Duration::from_secs(20)).is_ok(), "other tasks go on while the disk is waited for");
}

impl Disk for Late {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        wait();
        self.disk.metadata(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        wait();
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        wait();
        Ok(Box::new(LateFile { file: self.disk.open(path)?, in_memory: self.in_memory }))
    }
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open_write(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

struct LateFile {
    file: Box<dyn DiskFile>,
    in_memory: bool,
}

impl Read for LateFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        wait();
        self.file.read(buf)
    }
}

impl Write for LateFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for LateFile {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.file.seek(pos)
    }
}

impl DiskFile for LateFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read_at_once(&mut self, buf: &mut [u8]) -> Option<NonZeroUsize> {
        self.in_memory.then(|| self.file.read(buf).unwrap()).and_then(NonZeroUsize::new)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

#[test]
fn other_tasks_go_on_while_a_file_is_waited_for() {
    // Whether its bytes are waited for, or only all else; in parts, and whole.
    for (in_memory, part_size) in [(false, 300_000), (true, 300_000), (true, 300_000_000)] {
        read_late(in_memory, part_size);
    }
}

fn read_late(in_memory: bool, part_size: u64) {
    let disk = SimDisk::new();
    let lines: String = (0..20_000).map(|id| format!("{id},{}\n", if id % 5_000 == 0 { "x".to_owned() } else { format!("{id:0100}") })).collect();
    let bytes = format!("id,n\n{lines}").into_bytes();
    put(&disk, "x.csv", &bytes);
    // The last part first: it has lines counted before it. Each is longer than what is read when it is opened.
    let toml = format!("path = \"x.csv\"\nquoted_newlines = false\npart_size = {part_size}\n[columns]\nid = \"integer\"\nn = \"integer\"\n");
    // One thread has the tasks: who waits on it for another task waits in vain.
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let parts = (bytes.len() as u64).div_ceil(part_size);
    let read = async move {
        let source = build(&toml).unwrap();
        let run = run_on(Arc::new(Late { disk, in_memory }));
        let (mut rows, mut lines) = (0, Vec::new());
        let splits = source.splits(&run).await.unwrap();
        for split in splits.iter().rev() {
            let mut reader = source.open(split, None, &run).await.unwrap();
            // It begins on the thread that has the tasks.
            while let Some(read) = {
                tokio::task::yield_now().await;
                reader.read().await.unwrap()
            } {
                rows += read.batch.num_rows();
                lines.extend(read.rejects.iter().map(|reject| reject.row["line"].as_u64().unwrap()));
            }
        }
        lines.sort_unstable();
        (splits.len() as u64, rows, lines)
    };
    let read = runtime.block_on(runtime.spawn(read)).unwrap();
    assert_eq!(read, (parts, 19_996, vec![2, 5_002, 10_002, 15_002]));
}
