//! The bytes of a file, whatever it is compressed with.

use std::io::{self, BufReader, Read, Take};

use flate2::read::MultiGzDecoder;
use pipeline_contract::DiskFile;
use ruzstd::decoding::StreamingDecoder;

use crate::config::Compression;

/// A file that is read up to the length that it had when the run began.
pub(crate) type Raw = Take<Box<dyn DiskFile>>;

/// The plain bytes of a file.
pub(crate) fn plain(file: Raw, compression: Compression) -> Box<dyn Read + Send> {
    const BUFFER: usize = 128 << 10;
    match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, file))),
        Compression::Zstd => Box::new(Zstd { state: Frames::Between(BufReader::with_capacity(BUFFER, file)) }),
    }
}

/// Frames of zstd, one after the other: the decoder knows of one alone.
struct Zstd {
    state: Frames,
}

enum Frames {
    Between(BufReader<Raw>),
    In(Box<StreamingDecoder<BufReader<Raw>, ruzstd::decoding::FrameDecoder>>),
    Ended,
}

fn broken(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {what}"))
}

impl Read for Zstd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(&mut self.state, Frames::Ended) {
                Frames::Ended => return Ok(0),
                Frames::Between(mut input) => {
                    if io::BufRead::fill_buf(&mut input)?.is_empty() {
                        return Ok(0);
                    }
                    self.state = match skipped(&mut input)? {
                        true => Frames::Between(input),
                        false => Frames::In(Box::new(StreamingDecoder::new(input).map_err(broken)?)),
                    };
                }
                Frames::In(mut frame) => {
                    let n = frame.read(buf)?;
                    if n > 0 || buf.is_empty() {
                        self.state = Frames::In(frame);
                        return Ok(n);
                    }
                    let (input, decoder) = frame.into_parts();
                    if decoder.get_checksum_from_data().is_some_and(|sum| decoder.get_calculated_checksum() != Some(sum)) {
                        return Err(broken("the checksum of a frame is not that of its contents"));
                    }
                    self.state = Frames::Between(input);
                }
            }
        }
    }
}

/// Passes over a frame that holds no contents (RFC 8878, 3.1.2). True when there was one.
fn skipped(input: &mut BufReader<Raw>) -> io::Result<bool> {
    // A magic number that a buffer's end cuts in two is rare, and no skippable frame then.
    let is_one = matches!(io::BufRead::fill_buf(input)?, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if is_one {
        let mut head = [0; 8];
        input.read_exact(&mut head)?;
        let len = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        if io::copy(&mut input.take(len), &mut io::sink())? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(is_one)
}
