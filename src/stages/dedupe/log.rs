//! The log: keys that the store holds and the chunks lack, part by part as epochs added them.
//!
//! An epoch whose rows are scattered over many series would write a chunk anew for each few of them. Such an epoch adds a part to the log
//! instead, as large as what it brings; the chunks it belongs to stay in memory, and are saved once when the run is over or there are too many.
//!
//! Version 1 of the bytes of a part, numbers little-endian, `varint` as in LEB128:
//!
//! | part | |
//! |---|---|
//! | 1 byte | the version, 1 |
//! | varint | how many series are named here: numbered from 0 in the order in which the parts of the log name them, each once |
//! | varint, bytes | for each the length of its key without the time, and that key |
//! | 20 bytes each | rows: the number of the series (4 bytes), the time (8 bytes, microseconds since 1970), the fingerprint (8 bytes) |
//! | 4 bytes | the low half of the 64-bit XXH3 of all before |

use std::collections::BTreeMap;

use pipeline_contract::StageError;

use super::bytes::{content, seal, take, take_varint, varint};
use super::series::damaged;
use super::width::stored_width;
use crate::state::{ChunkKey, Store};

const VERSION: u8 = 1;
const ROW: usize = 20;

/// A row of the log: the number of its series, its time, its fingerprint. A later one takes the place of an earlier one with its time.
pub(super) type Row = (u32, i64, u64);

/// What one epoch added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Series that no part before named.
    pub(super) names: Vec<Vec<u8>>,
    pub(super) rows: Vec<Row>,
}

pub(super) fn encode<'a>(names: impl ExactSizeIterator<Item = &'a [u8]>, rows: impl ExactSizeIterator<Item = Row>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + names.len() * 24 + rows.len() * ROW);
    bytes.push(VERSION);
    varint(names.len() as u64, &mut bytes);
    for name in names {
        varint(name.len() as u64, &mut bytes);
        bytes.extend_from_slice(name);
    }
    for (series, time, print) in rows {
        bytes.extend_from_slice(&series.to_le_bytes());
        bytes.extend_from_slice(&time.to_le_bytes());
        bytes.extend_from_slice(&print.to_le_bytes());
    }
    seal(bytes)
}

impl Part {
    /// Reads what `encode` wrote, where `named` series were named before; `Err` says what is wrong with anything else.
    fn decode(bytes: &[u8], named: usize) -> Result<Self, &'static str> {
        Self::decode_content(content(bytes)?, named)
    }

    fn decode_content(content: &[u8], named: usize) -> Result<Self, &'static str> {
        let mut rest = content;
        let [VERSION] = take::<1>(&mut rest)? else { return Err("it has an unknown version") };
        let mut names = Vec::new();
        for _ in 0..take_varint(&mut rest)? {
            let len = usize::try_from(take_varint(&mut rest)?).unwrap_or(usize::MAX);
            let (name, left) = rest.split_at_checked(len).ok_or("it is cut off")?;
            names.push(name.to_vec());
            rest = left;
        }
        let (rows, []) = rest.as_chunks::<ROW>() else { return Err("a row of it is cut off") };
        let rows = rows.iter().map(|row| {
            let mut row = row.as_slice();
            let (series, time, print) = (take(&mut row)?, take(&mut row)?, take(&mut row)?);
            Ok((u32::from_le_bytes(series), i64::from_le_bytes(time), u64::from_le_bytes(print)))
        });
        let rows = rows.collect::<Result<Vec<Row>, &'static str>>()?;
        if rows.iter().any(|(series, ..)| *series as usize >= named + names.len()) {
            return Err("it speaks of a series that nothing names");
        }
        Ok(Self { names, rows })
    }
}

/// Reads the log of a store: all names in the order of their numbers, and all rows.
///
/// # Errors
/// `storage` when it is damaged or cannot be read.
pub(super) fn read(store: &dyn Store) -> Result<Part, StageError> {
    let mut all = Part::default();
    store.each_key_part(&mut |bytes| {
        let part = Part::decode(bytes, all.names.len()).map_err(|fault| damaged(format!("a part of the log of keys cannot be read: {fault}")))?;
        all.names.extend(part.names);
        all.rows.extend(part.rows);
        Ok(())
    })?;
    Ok(all)
}

/// The times that the log of a store holds, in microseconds since 1970, by the chunk that they belong to; in no order, and each once or more
/// often. The store's chunks lack them.
///
/// # Errors
/// As [`read`].
pub fn logged_times(store: &dyn Store) -> Result<BTreeMap<ChunkKey, Vec<i64>>, StageError> {
    let log = read(store)?;
    let mut times: BTreeMap<ChunkKey, Vec<i64>> = BTreeMap::new();
    if log.rows.is_empty() {
        return Ok(times);
    }
    let width = stored_width(store)?.ok_or_else(without_width)?;
    for (series, time, _) in log.rows {
        let Some(name) = log.names.get(series as usize) else { continue };
        times.entry(ChunkKey { series: name.clone(), chunk: time.div_euclid(width) }).or_default().push(time);
    }
    Ok(times)
}

pub(super) fn without_width() -> StageError {
    damaged("there is a log of keys, and not the width of a chunk".to_owned())
}

#[cfg(test)]
mod tests {
    use pipeline_contract::testkit::{Draw, Fuzz};
    use proptest::prelude::*;

    use super::*;
    use crate::stages::dedupe::bytes::content_or_damaged;

    fn encoded(part: &Part) -> Vec<u8> {
        encode(part.names.iter().map(Vec::as_slice), part.rows.iter().copied())
    }

    // The expected bytes were made by another implementation, from the documentation above.
    #[test]
    fn bytes_never_change() {
        let hex = |part: &Part| encoded(part).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&Part::default()), "0100c07672ce");
        let part = Part { names: vec![b"ab".to_vec(), Vec::new()], rows: vec![(1, -1, 2), (0, 3, u64::MAX)] };
        assert_eq!(hex(&part), "01020261620001000000ffffffffffffffff0200000000000000000000000300000000000000ffffffffffffffff89818629");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let part = Part { names: vec![b"ab".to_vec()], rows: vec![(3, 1, 2)] };
        let good = encoded(&part);
        assert_eq!(Part::decode(&good, 3), Ok(part));
        assert_eq!(Part::decode(&good, 2), Err("it speaks of a series that nothing names"));
        for cut in 0..good.len() {
            assert!(Part::decode(&good[..cut], 3).is_err(), "cut at {cut}");
        }
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            assert!(Part::decode(&bad, 3).is_err(), "changed at {place}");
        }
        let content = |bytes: &[u8]| Part::decode_content(bytes, 0).unwrap_err();
        assert_eq!(content(&[2, 0]), "it has an unknown version");
        assert_eq!(content(&[1, 0, 7]), "a row of it is cut off");
        assert_eq!(content(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]), "it is cut off");
        assert_eq!(content(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 7]), "it is cut off");
    }

    #[test]
    fn fuzzed_parts_are_refused_or_stored_as_they_were_read() {
        let fuzz = Fuzz {
            name: "dedupe log",
            samples: &["\u{1}\0", "\u{1}\u{1}\u{1}a"],
            words: &["\u{1}", "\0", "abcdefghijklmnopqrst"],
            cases: 3000,
            cost: 1,
        };
        let made = |draw: &mut Draw| {
            let names: Vec<Vec<u8>> = (0..1 + draw.below(4)).map(|_| draw.bytes(10)).collect();
            let rows = (0..draw.below(20)).map(|_| (draw.below(names.len()) as u32, draw.bits().cast_signed(), draw.bits())).collect();
            content_or_damaged(draw, encoded(&Part { names, rows }))
        };
        fuzz.run(made, |content| {
            let _ = Part::decode(content, 0);
            let Ok(read) = Part::decode_content(content, 0) else { return false };
            assert_eq!(Part::decode(&encoded(&read), 0).as_ref(), Ok(&read));
            true
        });
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(names in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20), rows in prop::collection::vec((0..20_u32, any::<i64>(), any::<u64>()), 0..50)) {
            let rows = rows.into_iter().map(|(series, time, print)| (series % names.len() as u32, time, print)).collect();
            let part = Part { names, rows };
            prop_assert_eq!(Part::decode(&encoded(&part), 0), Ok(part));
        }
    }
}
