//! How many line ends stand before a part of a file. A reject says its line, and parts are read side by side: what one reader passed, the readers of
//! later parts need not look at again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known of the line ends of a file.
#[derive(Debug, Default)]
struct Known {
    /// How many stand before an offset.
    before: BTreeMap<u64, u64>,
    /// Stretches that a reader passed: where each begins, where it ends, and how many there are.
    passed: BTreeMap<u64, (u64, u64)>,
}

impl Known {
    fn before<E>(&mut self, end: u64, mut count: impl FnMut(u64, u64) -> Result<u64, E>) -> Result<u64, E> {
        let (mut at, mut lines) = self.before.range(..=end).next_back().map_or((0, 0), |(at, lines)| (*at, *lines));
        while at < end {
            let (to, some) = match self.passed.get(&at) {
                Some((to, some)) if (at + 1..=end).contains(to) => (*to, *some),
                _ => {
                    let next = self.passed.range(at + 1..end).next().map_or(end, |(from, _)| *from);
                    (next, count(at, next)?)
                }
            };
            (at, lines) = (to, lines + some);
        }
        self.before.insert(end, lines);
        Ok(lines)
    }
}

/// What is known of a file, by all who read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted(Arc<Mutex<Known>>);

impl Counted {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader passed so many line ends between two offsets. It does not wait for one who counts, unless it is done.
    pub(crate) fn passed(&self, from: u64, to: u64, lines: u64, done: bool) {
        let known = if done { Some(self.lock()) } else { self.0.try_lock().ok() };
        if let Some(mut known) = known {
            known.passed.insert(from, (to, lines));
        }
    }

    /// How many there are before an offset. What nobody passed is counted by `count`, from one offset to another, and once.
    pub(crate) fn before<E>(&self, end: u64, count: impl FnMut(u64, u64) -> Result<u64, E>) -> Result<u64, E> {
        self.lock().before(end, count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_known_and_what_is_counted_make_the_whole(
            ends in prop::collection::vec(any::<bool>(), 60),
            steps in prop::collection::vec((0..6_usize, prop::option::of(0..=10_usize)), 0..20),
        ) {
            let lines = |from: usize, to: usize| ends[from..to].iter().filter(|end| **end).count() as u64;
            let counted = Counted::default();
            for (part, passed) in steps {
                let base = part * 10;
                if let Some(passed) = passed {
                    counted.passed(base as u64, (base + passed) as u64, lines(base, base + passed), passed == 10);
                    continue;
                }
                let before = counted.before(base as u64, |from, to| {
                    prop_assert!(from < to && to <= base as u64);
                    Ok(lines(from as usize, to as usize))
                })?;
                prop_assert_eq!(before, lines(0, base));
                // And once.
                counted.before(base as u64, |_, _| Err(TestCaseError::fail("counted twice")))?;
            }
        }
    }

    #[test]
    fn only_what_nobody_passed_is_counted() {
        let counted = Counted::default();
        counted.passed(0, 10, 1, true);
        counted.passed(20, 25, 2, false);
        counted.passed(20, 30, 3, false);
        let mut asked = Vec::new();
        let before = counted.before(35, |from, to| {
            asked.push((from, to));
            Ok::<_, ()>(100)
        });
        assert_eq!((before, asked), (Ok(204), vec![(10, 20), (30, 35)]));
    }
}
