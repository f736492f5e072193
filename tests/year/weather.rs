//! What goes wrong, and when: drawn from the seed before the year begins.

use super::{DAY, Dice, HOUR, MINUTE};

/// What the far side is like for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sky {
    /// Nobody listens, or the name does not resolve.
    Unreachable,
    /// It accepts and never answers.
    Silent,
    /// It answers 5xx.
    Broken,
    /// It answers 429.
    Throttling,
    /// It answers with something else than JSON, or with an error under 200.
    Garbled,
    /// Cloudflare refuses us.
    Refusing,
}

#[derive(Clone, Debug)]
pub struct Weather {
    skies: Vec<(i64, i64, Sky)>,
    full: Vec<(i64, i64)>,
    flaky: Vec<(i64, i64)>,
    /// From here on nothing goes wrong: what is owed can be delivered.
    pub calm: i64,
    /// When the wall clock is set: the instant, and how far it is off from then on.
    pub steps: Vec<(i64, i64)>,
}

impl Weather {
    /// Faults from `from` to some 30 hours before `to`.
    pub fn new(seed: u64, from: i64, to: i64) -> Self {
        let mut dice = Dice::new(seed, "weather");
        let (first, last) = (from + 3 * HOUR, to - 30 * HOUR);
        let days = (to - from) / DAY;
        let mut some = |a_year: i64, shortest: i64, longest: i64| -> Vec<(i64, i64)> {
            let count = a_year * days / 365 + i64::from(dice.below(365).cast_signed() < a_year * days % 365);
            let one = |_| {
                let at = dice.between(first, last);
                (at, (at + dice.between(shortest, longest)).min(last))
            };
            (0..count).map(one).collect()
        };
        let mut skies = Vec::new();
        for (sky, minutes, hours, day_long) in [
            (Sky::Unreachable, 40, 6, 2),
            (Sky::Silent, 25, 4, 1),
            (Sky::Broken, 40, 6, 1),
            (Sky::Throttling, 60, 8, 0),
            (Sky::Garbled, 20, 4, 0),
            (Sky::Refusing, 3, 2, 0),
        ] {
            for (count, shortest, longest) in [(minutes, MINUTE, 50 * MINUTE), (hours, HOUR, 20 * HOUR), (day_long, DAY, 3 * DAY)] {
                skies.extend(some(count, shortest, longest).into_iter().map(|(at, until)| (at, until, sky)));
            }
        }
        // An afternoon; and some bad hours.
        let full = some(5, 5 * HOUR, 7 * HOUR);
        let flaky = some(8, HOUR, 4 * HOUR);
        let mut steps = Vec::new();
        for (at, until) in some(45, 2 * MINUTE, 9 * HOUR) {
            steps.push((at, until));
        }
        steps.sort_unstable();
        // Not before the first tick of all: what is before it is nobody's.
        let mut at = first + 5 * DAY;
        let mut set = Vec::new();
        for (begin, until) in steps {
            let begin = begin.max(at);
            if begin >= until {
                continue;
            }
            let sign = if dice.once_in(2) { 1 } else { -1 };
            let off = match dice.below(12) {
                0..=2 => dice.between(100, 5000),
                3..=6 => dice.between(MINUTE, 100 * MINUTE),
                7..=10 => dice.between(HOUR, 8 * HOUR),
                _ => dice.between(DAY, 4 * DAY),
            };
            set.extend([(begin, sign * off), (until, 0)]);
            at = until + MINUTE;
        }
        Self { skies, full, flaky, calm: to - 29 * HOUR, steps: set }
    }

    /// Nothing goes wrong.
    pub fn fine() -> Self {
        Self { skies: Vec::new(), full: Vec::new(), flaky: Vec::new(), calm: i64::MIN, steps: Vec::new() }
    }

    pub fn sky(&self, at: i64) -> Option<Sky> {
        self.skies.iter().find(|(from, to, _)| (*from..*to).contains(&at)).map(|(.., sky)| *sky)
    }

    pub fn disk_full(&self, at: i64) -> bool {
        self.full.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    pub fn disk_flaky(&self, at: i64) -> bool {
        self.flaky.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    /// Was the disk bad at some moment of this time?
    pub fn disk_bad(&self, from: i64, to: i64) -> bool {
        self.full.iter().chain(&self.flaky).any(|(bad_from, bad_to)| *bad_from <= to && from < *bad_to)
    }
}
