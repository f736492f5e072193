//! A simulated year: what every test of it stands on.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "each test uses a part of it, and may stop where it stands"
)]

pub mod coins;
pub mod disk;
pub mod ledger;
pub mod life;
pub mod server;
pub mod weather;
pub mod witness;
pub mod world;

/// Pseudo-random bits from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of a seed, for one purpose: another purpose has another sequence.
    pub fn new(seed: u64, purpose: &str) -> Self {
        Self(hash(&[seed, name(purpose)]))
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 up to, but without, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// From `from` up to, but without, `end`.
    pub fn between(&mut self, from: i64, end: i64) -> i64 {
        from + self.below((end - from).max(1).cast_unsigned()).cast_signed()
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The same bits for the same numbers.
pub fn hash(numbers: &[u64]) -> u64 {
    numbers
        .iter()
        .fold(0x243f_6a88_85a3_08d3, |state, number| mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d)))
}

/// A number for a name.
pub fn name(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

pub const MINUTE: i64 = 60_000;
pub const HALF: i64 = 30 * MINUTE;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// Milliseconds since 1970 as people read them.
pub fn shown(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).map_or_else(|| ms.to_string(), |at| at.format("%Y-%m-%dT%H:%M:%S").to_string())
}
