//! A log file that rolls when it is full: `x.log`, then `x.log.1`, `x.log.2`, ... from the newest to the oldest.
//!
//! Any number of processes may write to one. Each line is written whole under a lock on `x.log.lock`, by somebody who looks anew at what the
//! file is: so nobody holds a file open that another has rolled, and nothing that happens to the files by hand stays without a remedy.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A log file that rolls.
#[derive(Clone, Debug)]
pub(crate) struct Rolling {
    path: PathBuf,
    max_size: u64,
    keep: u32,
}

impl Rolling {
    /// A file that is rolled before it grows beyond `max_size`, with at most `keep` old ones beside it. It is created at once, so that whoever
    /// names a place that cannot be written to hears of it.
    pub(crate) fn open(path: &Path, max_size: u64, keep: u32) -> io::Result<Self> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        let rolling = Self { path: path.to_owned(), max_size, keep };
        let _lock = rolling.lock()?;
        rolling.current()?;
        Ok(rolling)
    }

    /// Writes a line, whole or not at all.
    pub(crate) fn append(&self, line: &[u8]) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut file = self.current()?;
        let mut len = file.metadata()?.len();
        if len > 0 && len.saturating_add(line.len() as u64) > self.max_size {
            drop(file);
            self.roll()?;
            (file, len) = (self.current()?, 0);
        }
        file.write_all(line).inspect_err(|_| {
            // On a full disk a part of it may be there.
            let _ = file.set_len(len);
        })
    }

    fn lock(&self) -> io::Result<File> {
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(self.named("lock"))?;
        loop {
            match lock.lock() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other.map(|()| lock),
            }
        }
    }

    fn current(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).open(&self.path)
    }

    /// Moves every file one place on, up to the first place that is free; the oldest makes room.
    fn roll(&self) -> io::Result<()> {
        if self.keep == 0 {
            return fs::remove_file(&self.path);
        }
        let mut last = 1;
        while last < self.keep && self.named(last).try_exists()? {
            last += 1;
        }
        for place in (1..last).rev() {
            fs::rename(self.named(place), self.named(place + 1))?;
        }
        fs::rename(&self.path, self.named(1))
    }

    fn named(&self, ending: impl std::fmt::Display) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{ending}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kept files, the oldest first.
    fn kept(path: &Path) -> Vec<String> {
        let old = (1..).map(|n| format!("{}.{n}", path.display())).take_while(|old| Path::new(old).exists());
        let mut files: Vec<String> = old.map(|old| fs::read_to_string(old).unwrap()).collect();
        files.reverse();
        files.push(fs::read_to_string(path).unwrap());
        files
    }

    #[test]
    fn many_writers_lose_and_tear_nothing() {
        const LINES: usize = 1500;
        const MAX: u64 = 8 << 10;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/x.log");
        // As two processes have them.
        let handles = [(); 2].map(|()| Rolling::open(&path, MAX, u32::MAX).unwrap());
        let line = |writer: usize, n: usize| format!("writer {writer} line {n:05} {}\n", "x".repeat(n % 90));
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let handle = &handles[writer % 2];
                scope.spawn(move || (0..LINES).for_each(|n| handle.append(line(writer, n).as_bytes()).unwrap()));
            }
        });
        let files = kept(&path);
        assert!(files.len() > 10 && files.iter().all(|file| file.len() as u64 <= MAX && file.ends_with('\n')), "{} files", files.len());
        let text = files.concat();
        assert_eq!(text.lines().count(), 4 * LINES);
        for writer in 0..4 {
            let own: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("writer {writer} "))).collect();
            assert!(own.iter().enumerate().all(|(n, found)| format!("{found}\n") == line(writer, n)), "the lines of writer {writer}, in order");
            assert_eq!(own.len(), LINES);
        }
    }

    #[test]
    fn the_newest_are_kept() {
        for keep in [0, 1, 3] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.log");
            fs::write(&path, "from before and much longer than a file may be\n").unwrap();
            let rolling = Rolling::open(&path, 20, keep).unwrap();
            (0..30).for_each(|n| rolling.append(format!("line {n:04}\n").as_bytes()).unwrap());
            let files = kept(&path);
            assert_eq!(files.len(), keep as usize + 1);
            let expected: String = (30 - 2 * files.len()..30).map(|n| format!("line {n:04}\n")).collect();
            assert_eq!(files.concat(), expected, "keep = {keep}");
            rolling.append("a line that is longer than a file may be\n".as_bytes()).unwrap();
            assert_eq!(kept(&path).last().unwrap(), "a line that is longer than a file may be\n");
        }
    }

    #[test]
    fn what_others_do_to_the_files_is_outlived() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/x.log");
        let rolling = Rolling::open(&path, 1000, 2).unwrap();
        fs::rename(&path, dir.path().join("logs/elsewhere")).unwrap();
        fs::remove_file(dir.path().join("logs/x.log.lock")).unwrap();
        rolling.append(b"one\n").unwrap();
        fs::remove_dir_all(dir.path().join("logs")).unwrap();
        rolling.append(b"lost\n").unwrap_err();
        fs::create_dir(dir.path().join("logs")).unwrap();
        rolling.append(b"two\n").unwrap();
        assert_eq!(kept(&path), ["two\n"]);
    }
}
