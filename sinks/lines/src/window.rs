//! A stream, seen through a buffer that grows with what has to be seen at once.

use std::io::{self, Read};
use std::ops::Range;

use crate::format::{LONGEST, ScanError};

/// The part of a stream that is in memory, from the record that is looked for on.
pub struct Window<R> {
    input: R,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    eof: bool,
    longest: usize,
}

impl<R: Read> Window<R> {
    /// Nothing is read yet. One record may have [`LONGEST`] bytes.
    pub fn new(input: R) -> Self {
        Self::with_longest(input, LONGEST)
    }

    /// As [`Window::new`], with another limit.
    pub fn with_longest(input: R, longest: usize) -> Self {
        Self { input, buf: vec![0; 64 << 10], start: 0, end: 0, eof: false, longest }
    }

    /// What was read and not taken.
    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Has everything been read?
    pub fn is_at_end(&self) -> bool {
        self.eof
    }

    /// Is there more in it than one record may have?
    pub fn is_overfull(&self) -> bool {
        self.end - self.start > self.longest
    }

    /// Reads on. What was taken before is forgotten.
    ///
    /// # Errors
    /// [`ScanError::Io`].
    pub fn more(&mut self) -> Result<(), ScanError> {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buf.len() {
            self.buf.resize((self.buf.len() * 2).min(self.longest.max(self.buf.len()) + 1), 0);
        }
        let n = loop {
            match self.input.read(&mut self.buf[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(ScanError::Io)?,
            }
        };
        self.end += n;
        self.eof = n == 0;
        Ok(())
    }

    /// Takes so many bytes; they are [`Window::taken`] until it reads on.
    pub fn take(&mut self, len: usize) -> Range<usize> {
        let from = self.start;
        self.start += len;
        from..self.start
    }

    /// Bytes that were taken.
    #[inline]
    pub fn taken(&self, place: Range<usize>) -> &[u8] {
        &self.buf[place]
    }

    /// How many bytes of memory it has.
    pub fn capacity(&self) -> usize {
        self.buf.len()
    }
}
