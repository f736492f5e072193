//! The keys of one series in one stretch of time, and the bytes they are stored as.
//!
//! Version 1 of the bytes, numbers little-endian, `varint` as in LEB128:
//!
//! | part | |
//! |---|---|
//! | 1 byte | the version, 1 |
//! | varint | how many times |
//! | 8 bytes | the first time, microseconds since 1970; only when there is one |
//! | varint | the step: the greatest common divisor of the distances; only when there are two |
//! | varints | the distance of each further time to the one before it, in steps |
//! | 8 bytes each | the fingerprints, in the order of the times |
//! | 4 bytes | the low half of the 64-bit XXH3 of all before |
//!
//! A regular series costs 9 bytes a row.

use super::bytes::{content, seal, take, take_varint, varint};

const VERSION: u8 = 1;

/// Times and the fingerprints of their rows, by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    entries: Vec<(i64, u64)>,
}

impl Chunk {
    /// Where `time` is, or where it would be.
    #[inline]
    pub(super) fn find(&self, time: i64) -> Result<usize, usize> {
        // Rows usually come in the order of time.
        match self.entries.last() {
            Some((last, _)) if *last >= time => self.entries.binary_search_by_key(&time, |(time, _)| *time),
            _ => Err(self.entries.len()),
        }
    }

    /// Looks at what `find` will look at, and does not depend on what is there.
    #[inline]
    pub(super) fn look(&self, time: i64) -> u64 {
        let place = self.entries.partition_point(|(other, _)| *other < time);
        self.entries.last().map_or(0, |(_, print)| *print) ^ self.entries.get(place).map_or(0, |(_, print)| *print)
    }

    /// The fingerprint at a place that `find` answered.
    pub(super) fn print_mut(&mut self, place: usize) -> Option<&mut u64> {
        self.entries.get_mut(place).map(|(_, print)| print)
    }

    /// How many times there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The times and their fingerprints, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, u64)> {
        self.entries.iter().copied()
    }

    /// Adds a time at the place that `find` answered.
    #[inline]
    pub(super) fn insert(&mut self, place: usize, time: i64, print: u64) {
        self.entries.insert(place, (time, print));
    }

    /// About how many bytes of memory it takes.
    pub(super) fn weight(&self) -> usize {
        self.entries.capacity() * size_of::<(i64, u64)>()
    }

    /// The first and the last time.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let ((first, _), (last, _)) = self.entries.first().zip(self.entries.last())?;
        Some((*first, *last))
    }

    /// The times, oldest first.
    pub(super) fn into_times(self) -> Vec<i64> {
        self.entries.into_iter().map(|(time, _)| time).collect()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let step = common(self.distances());
        let first = self.entries.first().map(|(time, _)| *time);
        encode(first, step, self.distances().map(|distance| distance / step), self.entries.iter().map(|(_, print)| *print))
    }

    pub(super) fn distances(&self) -> impl Iterator<Item = u64> {
        self.entries.array_windows().map(|[(a, _), (b, _)]| b.abs_diff(*a))
    }

    /// Reads what `encode` wrote; `Err` says what is wrong with anything else.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        Self::decode_content(content(bytes)?)
    }

    fn decode_content(content: &[u8]) -> Result<Self, &'static str> {
        let mut rest = content;
        match take::<1>(&mut rest)? {
            [VERSION] => {}
            _ => return Err("it has an unknown version"),
        }
        let count = usize::try_from(take_varint(&mut rest)?).map_err(|_| "it claims too many times")?;
        // Every time has a fingerprint of 8 bytes: what is claimed cannot be more than what is there.
        if count > rest.len() / 8 {
            return Err("it claims too many times");
        }
        let mut entries: Vec<(i64, u64)> = Vec::with_capacity(count);
        if count > 0 {
            entries.push((i64::from_le_bytes(take(&mut rest)?), 0));
        }
        let step = if count > 1 { take_varint(&mut rest)? } else { 0 };
        while let Some((last, _)) = entries.last().filter(|_| entries.len() < count) {
            let distance = take_varint(&mut rest)?.checked_mul(step).filter(|distance| *distance > 0);
            let next = distance.and_then(|distance| last.checked_add_unsigned(distance)).ok_or("its times are out of order")?;
            entries.push((next, 0));
        }
        for (_, print) in &mut entries {
            *print = u64::from_le_bytes(take(&mut rest)?);
        }
        if rest.is_empty() { Ok(Self { entries }) } else { Err("it has bytes to spare") }
    }
}

impl FromIterator<(i64, u64)> for Chunk {
    /// From times in their order.
    fn from_iter<I: IntoIterator<Item = (i64, u64)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

/// A chunk of `prints`, the first of which has the time `first`; `distances` are those between the times, in steps.
pub(super) fn encode(first: Option<i64>, step: u64, distances: impl Iterator<Item = u64>, prints: impl ExactSizeIterator<Item = u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(prints.len() * 9 + 32);
    bytes.push(VERSION);
    varint(prints.len() as u64, &mut bytes);
    if let Some(first) = first {
        bytes.extend_from_slice(&first.to_le_bytes());
    }
    if step > 0 {
        varint(step, &mut bytes);
        distances.for_each(|distance| varint(distance, &mut bytes));
    }
    let from = bytes.len();
    bytes.resize(from + prints.len() * 8, 0);
    let (places, _) = bytes.get_mut(from..).unwrap_or_default().as_chunks_mut::<8>();
    places.iter_mut().zip(prints).for_each(|(place, print)| *place = print.to_le_bytes());
    seal(bytes)
}

/// The greatest common divisor of distances, 0 of none.
pub(super) fn common(distances: impl Iterator<Item = u64>) -> u64 {
    distances.fold(0, |all, distance| if all == 1 { 1 } else { gcd(all, distance) })
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pipeline_contract::testkit::{Draw, Fuzz};
    use proptest::prelude::*;

    use super::*;
    use crate::stages::dedupe::bytes::content_or_damaged;

    fn chunk(entries: impl IntoIterator<Item = (i64, u64)>) -> Chunk {
        entries.into_iter().collect()
    }

    #[test]
    fn fuzzed_chunks_are_refused_or_stored_as_they_were_read() {
        let fuzz = Fuzz {
            name: "dedupe chunks",
            samples: &["\u{1}\0", "\u{1}\u{1}12345678abcdefgh"],
            words: &["\u{1}", "\0", "\u{7f}", "abcdefgh"],
            cases: 3000,
            cost: 1,
        };
        let made = |draw: &mut Draw| {
            let mut time = draw.bits().cast_signed() >> draw.below(60);
            let mut entries = BTreeMap::new();
            for _ in 0..draw.below(20) {
                time = time.saturating_add(1 + draw.below(5) as i64 * 3600);
                entries.insert(time, draw.bits());
            }
            content_or_damaged(draw, chunk(entries).encode())
        };
        fuzz.run(made, |content| {
            let _ = Chunk::decode(content);
            let Ok(read) = Chunk::decode_content(content) else { return false };
            assert!(read.entries.is_sorted_by(|a, b| a.0 < b.0) && read.len() * 8 <= content.len());
            assert_eq!(Chunk::decode(&read.encode()).as_ref(), Ok(&read));
            true
        });
    }

    // The expected bytes were made by another implementation, from the documentation above.
    #[test]
    fn bytes_never_change() {
        let hex = |chunk: &Chunk| chunk.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&Chunk::default()), "0100c07672ce");
        assert_eq!(hex(&chunk([(-1, 2)])), "0101ffffffffffffffff02000000000000002bd8e5fa");
        let hour = 3_600_000_000;
        assert_eq!(
            hex(&chunk([(0, 1), (hour, u64::MAX), (3 * hour, 3)])),
            "0103000000000000000080c8ceb40d01020100000000000000ffffffffffffffff0300000000000000da7a188c"
        );
    }

    #[test]
    fn a_regular_series_costs_nine_bytes_a_row() {
        let regular = chunk((0..512).map(|hour| (hour * 3_600_000_000, 7)));
        assert!(regular.encode().len() < 512 * 9 + 24);
    }

    #[test]
    fn the_widest_times_are_kept() {
        for wide in [chunk([(i64::MIN, 1), (i64::MAX, 2)]), chunk([(i64::MIN, 1), (0, 3), (i64::MAX, 2)])] {
            assert_eq!(Chunk::decode(&wide.encode()), Ok(wide));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let good = chunk([(0, 1), (5, 2), (7, 3)]).encode();
        assert!(Chunk::decode(&good).is_ok());
        for cut in 0..good.len() {
            assert!(Chunk::decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            assert!(Chunk::decode(&bad).is_err(), "changed at {place}");
        }
        let content = |bytes: &[u8]| Chunk::decode_content(bytes).unwrap_err();
        assert_eq!(content(&[2, 0]), "it has an unknown version");
        assert_eq!(content(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]), "it claims too many times");
        assert_eq!(content(&[1, 0, 0]), "it has bytes to spare");
        assert_eq!(content(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), "it has a number that is too large");
        for (step, distance) in [(0, 1), (1, 0)] {
            let twice = [&[1, 2][..], &[0; 8], &[step, distance], &[0; 16]].concat();
            assert_eq!(content(&twice), "its times are out of order");
        }
    }

    #[test]
    fn finding_and_inserting_keeps_the_order() {
        let mut chunk = Chunk::default();
        let mut model = BTreeMap::new();
        for time in [5, 9, 1, 7, -3, 10, 6] {
            let place = chunk.find(time).unwrap_err();
            chunk.insert(place, time, time.cast_unsigned());
            model.insert(time, time.cast_unsigned());
            for known in model.keys() {
                assert!(chunk.find(*known).is_ok());
            }
        }
        assert!(chunk.iter().eq(model));
        assert_eq!(chunk.span(), Some((-3, 10)));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(entries in prop::collection::btree_map(any::<i64>(), any::<u64>(), 0..200)) {
            let chunk = chunk(entries);
            prop_assert_eq!(Chunk::decode(&chunk.encode()), Ok(chunk));
        }

        #[test]
        fn regular_times_are_decoded(first in any::<i32>(), step in 1..i64::from(u32::MAX), distances in prop::collection::vec(1..300_i64, 0..200)) {
            let mut time = i64::from(first);
            let mut entries = vec![(time, 1)];
            for distance in distances {
                time += distance * step;
                entries.push((time, time.cast_unsigned()));
            }
            let chunk = chunk(entries);
            prop_assert_eq!(Chunk::decode(&chunk.encode()), Ok(chunk));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300), versioned in any::<bool>()) {
            let _ = Chunk::decode(&bytes);
            if versioned && let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Ok(chunk) = Chunk::decode_content(&bytes) {
                prop_assert!(chunk.entries.is_sorted_by(|a, b| a.0 < b.0));
            }
        }

        #[test]
        fn small_damage_is_decoded_or_refused(entries in prop::collection::btree_map(-1000..1000_i64, any::<u64>(), 1..20), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = chunk(entries).encode();
            bytes.truncate(content(&bytes).unwrap().len());
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok(chunk) = Chunk::decode_content(&bytes) {
                prop_assert!(chunk.entries.is_sorted_by(|a, b| a.0 < b.0));
            }
        }
    }
}
