//! What the simulated CoinGecko knows: every figure follows from the seed, the coin and the time alone.

use super::{DAY, HALF, HOUR, MINUTE, hash, name};

/// One half hour as a body brings it.
#[derive(Clone, Debug, PartialEq)]
pub struct Half {
    /// When it closes.
    pub stamp: i64,
    /// Open, high, low, close.
    pub prices: [f64; 4],
    /// The row can be read and its prices fit each other.
    pub sound: bool,
    /// It had closed when the answer was made.
    pub closed: bool,
    /// The row as JSON.
    pub text: String,
}

/// The coins, and how they change.
#[derive(Clone, Copy, Debug)]
pub struct Coins {
    pub seed: u64,
    /// From here on `old-name` is `new-name`: asked by its old id it is not found.
    pub renamed_at: i64,
}

/// How long the list of markets goes on naming the old id.
const LIST_IS_BEHIND: i64 = 7 * HOUR;

impl Coins {
    /// The three largest, as the list of markets says at an instant.
    pub fn largest(&self, now: i64) -> [&'static str; 3] {
        let second = if now < self.renamed_at + LIST_IS_BEHIND { "old-name" } else { "new-name" };
        // The third place changes hands now and then, for half a day at a time.
        let turn = hash(&[self.seed, 1, now.div_euclid(DAY / 2).cast_unsigned()]) % 11;
        let third = match turn {
            0 | 1 => "rival",
            2 => "0-5x-short",
            _ => "tether",
        };
        // ... and so do the first and the second.
        if hash(&[self.seed, 2, now.div_euclid(DAY).cast_unsigned()]).is_multiple_of(5) {
            [second, "bitcoin", third]
        } else {
            ["bitcoin", second, third]
        }
    }

    pub fn is_known(&self, coin: &str, now: i64) -> bool {
        match coin {
            "old-name" => now < self.renamed_at,
            "new-name" => now >= self.renamed_at,
            _ => ["bitcoin", "tether", "rival", "0-5x-short"].contains(&coin),
        }
    }

    fn prices(&self, coin: &str, stamp: i64, revision: u64) -> [f64; 4] {
        let bits = |n: u64| hash(&[self.seed, 3, name(coin), stamp.cast_unsigned(), revision, n]);
        let scale = match coin {
            "bitcoin" => 77_000_000,
            "tether" => 1_000,
            _ => 2_116_840,
        };
        let of = |thousandths: u64| thousandths as f64 / 1000.0;
        let (open, close) = (scale + bits(0) % (scale / 10), scale + bits(1) % (scale / 10));
        let (high, low) = (open.max(close) + bits(2) % (scale / 50), open.min(close) - bits(3) % (scale / 50));
        [of(open), of(high), of(low), of(close)]
    }

    /// The half hours of the last day, as they are told at an instant; with whatever is wrong with them.
    pub fn halves(&self, coin: &str, now: i64, open_on_grid: bool) -> Vec<Half> {
        let last = now.div_euclid(HALF) * HALF;
        let mut halves = Vec::with_capacity(50);
        for stamp in ((last - DAY + HALF)..=last).step_by(usize::try_from(HALF).unwrap()) {
            let bits = hash(&[self.seed, 4, name(coin), stamp.cast_unsigned()]);
            let delay = HOUR + (bits >> 32).cast_signed() % (21 * HOUR);
            let known_for = now - stamp;
            // Some are never there, some come late, some are corrected later.
            if bits.is_multiple_of(211) || (bits % 97 == 1 && known_for < delay) {
                continue;
            }
            let revision = u64::from(bits % 53 == 2 && known_for >= delay);
            let prices = self.prices(coin, stamp, revision);
            let [open, high, low, close] = prices;
            let mut half = Half { stamp, prices, sound: true, closed: true, text: row(stamp, prices) };
            match bits % 401 {
                3 => half = Half { sound: false, text: format!("[{stamp},{open:?},{high:?},{low:?},null]"), ..half },
                4 => half = Half { sound: false, text: format!("[{stamp},{open:?},{high:?},{:?},{close:?}]", high + 1.0), ..half },
                5 => half = Half { sound: false, text: format!("[{stamp},{open:?},{high:?},{low:?}]"), ..half },
                6 => half = Half { sound: false, text: format!("[{stamp},-1.0,{high:?},-2.0,{close:?}]"), ..half },
                // Said twice, the same or not.
                7 => halves.push(half.clone()),
                8 => halves.push(Half { text: row(stamp, self.prices(coin, stamp, 7)), sound: false, ..half.clone() }),
                _ => {}
            }
            if bits % 401 == 8 {
                half.sound = false;
            }
            halves.push(half);
        }
        // The one that goes on: not told, stamped with its close to come, or with the moment at which it was cut.
        let bits = hash(&[self.seed, 5, name(coin), (now / MINUTE).cast_unsigned()]);
        let stamp = match bits % 3 {
            0 => return halves,
            1 if open_on_grid => last + HALF,
            _ if now % HALF == 0 => return halves,
            _ => now,
        };
        let prices = self.prices(coin, last + HALF, 100 + bits % 50);
        halves.push(Half { stamp, prices, sound: true, closed: false, text: row(stamp, prices) });
        halves
    }

    /// Samples of the rolling volume: instants and figures.
    pub fn volumes(&self, coin: &str, now: i64) -> Vec<(i64, f64)> {
        let step = 5 * MINUTE;
        let mut samples = Vec::with_capacity(300);
        for slot in (now - DAY).div_euclid(step)..=now.div_euclid(step) {
            let at = slot * step;
            // Now and then there are none for half an hour.
            if hash(&[self.seed, 6, name(coin), at.div_euclid(HALF).cast_unsigned()]).is_multiple_of(151) {
                continue;
            }
            let bits = hash(&[self.seed, 7, name(coin), slot.cast_unsigned()]);
            let at = at + (bits % 290_000).cast_signed();
            if at <= now {
                samples.push((at, (bits >> 20) as f64 / 100.0));
            }
        }
        samples
    }
}

fn row(stamp: i64, [open, high, low, close]: [f64; 4]) -> String {
    format!("[{stamp},{open:?},{high:?},{low:?},{close:?}]")
}
