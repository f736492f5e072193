//! How long to wait before the next attempt.

use std::sync::Arc;
use std::time::Duration;

use pipeline_contract::Random;

const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(30);
const LIMITED_BASE: Duration = Duration::from_secs(5);
const LIMITED_CAP: Duration = Duration::from_secs(60);

/// Exponential backoff with full jitter: the n-th wait is anywhere from 0 to `min(30 s, 500 ms * 2^n)`, so that clients that failed
/// together do not return together ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
pub(crate) struct FullJitter {
    random: Arc<dyn Random>,
    done: u32,
    retries: u32,
}

impl FullJitter {
    pub(crate) fn new(random: Arc<dyn Random>, retries: u32) -> Self {
        Self { random, done: 0, retries }
    }
}

impl Iterator for FullJitter {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        (self.done < self.retries).then(|| {
            self.done += 1;
            ceiling(BASE, CAP, self.done - 1).mul_f64(self.random.unit())
        })
    }
}

/// The wait after a refusal for too many requests that named no time: from half to the whole of `min(60 s, 5 s * 2^n)`. A limit that was
/// hit is not gone after a few milliseconds, which full jitter may draw.
pub(crate) fn limited(random: &dyn Random, n: u32) -> Duration {
    ceiling(LIMITED_BASE, LIMITED_CAP, n).mul_f64(0.5 + random.unit() / 2.0)
}

fn ceiling(base: Duration, cap: Duration, n: u32) -> Duration {
    base.saturating_mul(1_u32.checked_shl(n).unwrap_or(u32::MAX)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline_contract::testkit::TestRandom;

    #[derive(Debug)]
    struct Highest;
    impl Random for Highest {
        fn next(&self) -> u64 {
            u64::MAX
        }
    }

    #[test]
    fn waits_double_up_to_the_cap_and_end_with_the_retries() {
        let waits: Vec<Duration> = FullJitter::new(Arc::new(Highest), 9).collect();
        let ceilings = [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000].map(Duration::from_millis);
        assert_eq!(waits.len(), ceilings.len());
        for (wait, ceiling) in waits.iter().zip(ceilings) {
            assert!(*wait <= ceiling && *wait + Duration::from_micros(1) > ceiling, "{wait:?} of {ceiling:?}");
        }
    }

    #[test]
    fn waits_are_anywhere_below_the_ceiling() {
        let random = TestRandom::new(3);
        let firsts: Vec<Duration> = (0..1000).filter_map(|_| FullJitter::new(random.clone(), 1).next()).collect();
        assert!(firsts.iter().all(|wait| *wait < BASE));
        assert!(firsts.iter().any(|wait| *wait < BASE / 10) && firsts.iter().any(|wait| *wait > BASE * 9 / 10));
    }

    #[test]
    fn a_limit_is_given_some_seconds() {
        let random = TestRandom::new(3);
        for n in 0..100 {
            let wait = limited(&*random, n);
            assert!(wait >= LIMITED_BASE / 2 && wait <= LIMITED_CAP, "{n}: {wait:?}");
        }
        assert!(limited(&*random, 9) >= LIMITED_CAP / 2);
    }
}
