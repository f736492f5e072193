//! What every end-to-end test stands on: a CoinGecko look-alike, an oracle, and a room of its own for the binary.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "each test uses a part of it, and may stop where it stands")]

pub mod coins;
pub mod oracle;
pub mod recipe;
pub mod room;
pub mod server;

pub use oracle::{Hour, assert_same_hours};
pub use recipe::Recipe;
pub use room::{Outcome, Room, Running, nobody_listens};
pub use server::{Answer, On, Reply, Server};

/// Pseudo-random bits from a seed (SplitMix64): a test that fails can be run again as it was.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, but without, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// From 0 up to, but without, 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / 9_007_199_254_740_992.0
    }
}
