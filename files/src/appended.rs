//! Bytes that are to be appended to a file, in the pieces in which they came.

use std::io::Read;
use std::sync::Arc;

/// Smaller pieces are put together.
const SMALL: usize = 64 << 10;

/// Bytes in pieces: they are not copied into one.
#[derive(Default)]
pub(crate) struct Appended {
    pieces: Vec<Arc<Vec<u8>>>,
    len: u64,
}

impl Appended {
    /// Adds bytes at the end.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        self.len += bytes.len() as u64;
        match self.pieces.last_mut().filter(|last| last.len() + bytes.len() <= SMALL).and_then(Arc::get_mut) {
            Some(last) => last.extend_from_slice(&bytes),
            None if bytes.is_empty() => {}
            None => self.pieces.push(Arc::new(bytes)),
        }
    }

    /// Adds bytes that others have as well.
    pub(crate) fn push_shared(&mut self, bytes: &Arc<Vec<u8>>) {
        if bytes.len() <= SMALL {
            return self.push(bytes.to_vec());
        }
        self.len += bytes.len() as u64;
        self.pieces.push(Arc::clone(bytes));
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order.
    pub(crate) fn pieces(&self) -> &[Arc<Vec<u8>>] {
        &self.pieces
    }

    /// All of it.
    pub(crate) fn reader(&self) -> impl Read + Send + '_ {
        Reader { rest: &self.pieces, at: 0 }
    }
}

struct Reader<'a> {
    rest: &'a [Arc<Vec<u8>>],
    at: usize,
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while let Some((first, after)) = self.rest.split_first() {
            let mut bytes = first.get(self.at..).unwrap_or_default();
            if bytes.is_empty() {
                (self.rest, self.at) = (after, 0);
                continue;
            }
            let read = bytes.read(buf)?;
            self.at += read;
            return Ok(read);
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_as_they_were_pushed() {
        let mut appended = Appended::default();
        let mut all = Vec::new();
        let shared = [(b'h', 7), (b'i', SMALL + 1), (b'j', 2)].map(|(sign, len)| Arc::new(vec![sign; len]));
        for (sign, len) in [(b'a', 0), (b'b', 3), (b'c', SMALL - 3), (b'd', 1), (b'e', SMALL), (b'f', 0), (b'g', 5)] {
            appended.push(vec![sign; len]);
            all.extend(vec![sign; len]);
        }
        for bytes in &shared {
            appended.push_shared(bytes);
            all.extend_from_slice(bytes);
        }
        appended.push(vec![b'k']);
        all.push(b'k');
        assert_eq!((appended.pieces().len(), appended.len()), (6, all.len() as u64));
        assert!(Arc::ptr_eq(&appended.pieces()[4], &shared[1]) && shared[0].len() == 7);
        let mut read = Vec::new();
        appended.reader().read_to_end(&mut read).unwrap();
        assert_eq!(read, all);
        assert!(Appended::default().is_empty() && !appended.is_empty());
    }
}
