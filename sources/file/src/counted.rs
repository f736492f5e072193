//! How many line ends stand before a part of a file. A reject says its line, and parts are read side by side: what one reader passes, the readers of
//! later parts need not look at again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// What is known of the line ends of a file.
#[derive(Debug, Default)]
struct Known {
    /// How many stand before an offset.
    before: BTreeMap<u64, u64>,
    /// Stretches that a reader passed: where each begins, where it ends, and how many there are.
    passed: BTreeMap<u64, (u64, u64)>,
    /// Where the parts begin that somebody is at.
    read: BTreeSet<u64>,
}

impl Known {
    /// The last offset up to the given one before which they are known.
    fn last(&self, end: u64) -> (u64, u64) {
        self.before.range(..=end).next_back().map_or((0, 0), |(at, lines)| (*at, *lines))
    }

    fn before<E>(&mut self, end: u64, mut count: impl FnMut(u64, u64) -> Result<u64, E>) -> Result<u64, E> {
        let (mut at, mut lines) = self.last(end);
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

    fn look(&mut self, end: u64) -> Before {
        let (from, _) = self.last(end);
        match self.before(end, |at, _| Err(at)) {
            Ok(lines) => Before::Known(lines),
            // A part that is read is not passed yet: what is missing first is in the last of them that begins before.
            Err(at) if self.read.range(from..=at).next().is_some() => Before::Soon,
            Err(_) => Before::Unknown,
        }
    }
}

/// What is known of the line ends before an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// So many there are.
    Known(u64),
    /// Somebody is at those that are missing.
    Soon,
    /// Somebody has to count them.
    Unknown,
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    /// A part was passed, or given up.
    over: Notify,
}

/// What is known of a file, by all who read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted(Arc<Shared>);

impl Counted {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody begins to read the part from this offset on.
    pub(crate) fn begin(&self, from: u64) -> Begun {
        self.lock().read.insert(from);
        Begun { counted: self.clone(), from }
    }

    /// A reader passed so many line ends between two offsets. It does not wait for one who counts, unless it is `done` with its part.
    pub(crate) fn passed(&self, from: u64, to: u64, lines: u64, done: bool) {
        let known = if done { Some(self.lock()) } else { self.0.known.try_lock().ok() };
        if let Some(mut known) = known {
            known.passed.insert(from, (to, lines));
            if done {
                self.is_over(known, from);
            }
        }
    }

    fn is_over(&self, mut known: MutexGuard<'_, Known>, from: u64) {
        known.read.remove(&from);
        self.0.over.notify_waiters();
    }

    /// How many there are before an offset, as far as is known without looking.
    pub(crate) fn look(&self, end: u64) -> Before {
        self.lock().look(end)
    }

    /// Waits until a part is passed or given up, from this call on.
    pub(crate) fn over(&self) -> Notified<'_> {
        self.0.over.notified()
    }

    /// How many there are before an offset. What nobody passed is counted by `count`, from one offset to another, and once.
    pub(crate) fn before<E>(&self, end: u64, count: impl FnMut(u64, u64) -> Result<u64, E>) -> Result<u64, E> {
        self.lock().before(end, count)
    }
}

/// A part that is being read, until it was passed or this is dropped.
#[derive(Debug)]
pub(crate) struct Begun {
    counted: Counted,
    from: u64,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.counted.is_over(self.counted.lock(), self.from);
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

    #[test]
    fn a_part_that_is_read_is_waited_for_and_one_that_nobody_reads_is_not() {
        let counted = Counted::default();
        let first = counted.begin(0);
        let second = counted.begin(10);
        assert_eq!((counted.look(0), counted.look(10), counted.look(20)), (Before::Known(0), Before::Soon, Before::Soon));
        counted.passed(0, 4, 1, false);
        assert_eq!(counted.look(10), Before::Soon);
        counted.passed(0, 10, 3, true);
        assert_eq!((counted.look(10), counted.look(20)), (Before::Known(3), Before::Soon));
        // It was passed, and is so whoever is there still.
        drop(first);
        assert_eq!(counted.look(10), Before::Known(3));
        counted.passed(10, 15, 2, false);
        drop(second);
        assert_eq!((counted.look(20), counted.look(30)), (Before::Unknown, Before::Unknown));
        // Behind it somebody is at work, which does not help.
        let _third = counted.begin(20);
        assert_eq!(counted.look(30), Before::Unknown);
        assert_eq!(counted.before(20, |from, to| if (from, to) == (15, 20) { Ok(1) } else { Err((from, to)) }), Ok(6));
        assert_eq!((counted.look(20), counted.look(30)), (Before::Known(6), Before::Soon));
    }
}
