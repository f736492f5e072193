//! What chunks and the parts of the log are written in: numbers, and a checksum at the end.

use xxhash_rust::xxh3::xxh3_64;

const CHECKSUM: usize = 4;

/// Bytes with their checksum behind them: the low half of the 64-bit XXH3, little-endian.
pub(super) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// What was sealed; `Err` says what is wrong with anything else.
pub(super) fn content(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let (content, stored) = bytes.split_last_chunk::<CHECKSUM>().ok_or("it is cut off")?;
    if checksum(content) == *stored { Ok(content) } else { Err("its checksum does not fit") }
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM] {
    let [a, b, c, d, ..] = xxh3_64(content).to_le_bytes();
    [a, b, c, d]
}

/// Adds a number as in LEB128.
pub(super) fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    into.push(value.to_le_bytes()[0]);
}

/// Takes so many bytes from the front.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or("it is cut off")?;
    *rest = left;
    Ok(*taken)
}

/// Takes a number as in LEB128 from the front.
pub(super) fn take_varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest)?;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            return Err("it has a number that is too large");
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("it has a number that is too long")
}

/// For tests that feed a parser: the content of what was sealed, half of the time with another byte somewhere.
#[cfg(test)]
pub(super) fn content_or_damaged(draw: &mut pipeline_contract::testkit::Draw, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - CHECKSUM);
    if draw.once_in(2) {
        let place = draw.below(bytes.len());
        bytes[place] = draw.bits().to_le_bytes()[0];
    }
    bytes
}
