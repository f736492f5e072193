//! A disk that answers late: nobody else waits for it.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

mod common;

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::{build, put, run_on};
use pipeline_contract::testkit::SimDisk;
use pipeline_contract::{Disk, DiskFile, Metadata};
use tokio::runtime::{Builder, Handle};

/// A disk that answers what it is asked once another task of the runtime was run.
struct Late(SimDisk);

fn wait() {
    let (tell, told) = mpsc::channel();
    Handle::current().spawn(async move { tell.send(()) });
    assert!(told.recv_timeout(Duration::from_secs(20)).is_ok(), "other tasks go on while the disk is waited for");
}

impl Disk for Late {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        wait();
        self.0.metadata(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        wait();
        self.0.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        wait();
        Ok(Box::new(LateFile(self.0.open(path)?)))
    }
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.open_write(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.create(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
}

struct LateFile(Box<dyn DiskFile>);

impl Read for LateFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        wait();
        self.0.read(buf)
    }
}

impl Write for LateFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for LateFile {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.0.seek(pos)
    }
}

impl DiskFile for LateFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn other_tasks_go_on_while_a_file_is_waited_for() {
    // In parts, and whole.
    read_late(300_000);
    read_late(300_000_000);
}

fn read_late(part_size: u64) {
    let disk = SimDisk::new();
    let lines: String = (0..20_000).map(|id| format!("{id},{}\n", if id % 5_000 == 0 { "x".to_owned() } else { format!("{id:0100}") })).collect();
    let bytes = format!("id,n\n{lines}").into_bytes();
    put(&disk, "x.csv", &bytes);
    // The last part first: it has lines counted before it. All others are longer than what is read when they are opened.
    let toml = format!("path = \"x.csv\"\nquoted_newlines = false\npart_size = {part_size}\n[columns]\nid = \"integer\"\nn = \"integer\"\n");
    // One thread has the tasks: who waits on it for another task waits in vain.
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let parts = (bytes.len() as u64).div_ceil(part_size);
    let read = async move {
        let source = build(&toml).unwrap();
        let run = run_on(Arc::new(Late(disk)));
        let (mut rows, mut lines) = (0, Vec::new());
        let splits = source.splits(&run).await.unwrap();
        for split in splits.iter().rev() {
            let mut reader = source.open(split, None, &run).await.unwrap();
            loop {
                // Each read begins on the thread that has the tasks.
                tokio::task::yield_now().await;
                let Some(read) = reader.read().await.unwrap() else { break };
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
