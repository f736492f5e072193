//! A stream of bytes of which the front is looked at, and taken record by record.

use std::io::{self, Read};

/// What is read at once.
const BLOCK: usize = 256 << 10;

/// The longest record, in bytes: one is in memory, whoever the file is from.
pub(crate) const LONGEST: usize = 16 << 20;

/// Bytes that have been read and not taken.
pub(crate) struct Lines {
    input: Box<dyn Read + Send>,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    /// Where the front is in the plain bytes of the file.
    pub(crate) offset: u64,
    /// How many line ends were taken.
    pub(crate) line: u64,
}

impl Lines {
    /// Bytes from an offset on, of which about `expected` come.
    pub(crate) fn new(input: Box<dyn Read + Send>, offset: u64, expected: u64) -> Self {
        // One byte more, so that the end is learnt without another block.
        let block = usize::try_from(expected).unwrap_or(BLOCK).clamp(1 << 10, BLOCK - 1) + 1;
        Self { input, buf: vec![0; block], start: 0, end: 0, ended: false, offset, line: 0 }
    }

    /// What has been read and not taken.
    pub(crate) fn data(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Nothing comes behind [`Lines::data`].
    pub(crate) fn is_whole(&self) -> bool {
        self.ended
    }

    /// Takes bytes from the front.
    pub(crate) fn take(&mut self, bytes: usize, lines: u64) {
        self.start = (self.start + bytes).min(self.end);
        self.offset += bytes as u64;
        self.line += lines;
    }

    /// Reads more, or learns that there is no more.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buf.len() {
            self.buf.resize((self.buf.len() * 2).max(BLOCK), 0);
        }
        match self.input.read(&mut self.buf[self.end..]) {
            Ok(0) => self.ended = true,
            Ok(n) => self.end += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes everything up to and with the next line end, or the end.
    pub(crate) fn skip_line(&mut self) -> io::Result<()> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', self.data()) {
                self.take(at + 1, 1);
                return Ok(());
            }
            self.take(self.data().len(), 0);
            if self.ended {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Takes so many bytes, which need not be looked at.
    pub(crate) fn skip(&mut self, mut bytes: u64) -> io::Result<bool> {
        while bytes > 0 {
            let some = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.data().len());
            self.take(some, 0);
            bytes -= some as u64;
            if bytes > 0 {
                if self.ended {
                    return Ok(false);
                }
                self.fill()?;
            }
        }
        Ok(true)
    }
}
