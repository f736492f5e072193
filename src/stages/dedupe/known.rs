//! The keys of one chunk while it is in memory.

use super::chunk::{Chunk, encode, gcd};
use super::layout::Seen;

/// How many times a chunk of a regular series holds. Adding a row writes its chunk again: 512 are at most 5 KB.
pub(super) const PLACES: usize = 512;

/// A chunk with fewer times is not worth a grid, which takes its full size at once.
const FEW: usize = 64;

/// Where the times of a chunk may lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// The first instant.
    pub(super) start: i64,
    /// Its length in microseconds.
    pub(super) width: i64,
}

impl Stretch {
    /// Is the instant within?
    #[inline]
    pub(super) fn holds(&self, time: i64) -> bool {
        time.wrapping_sub(self.start).cast_unsigned() < self.width.cast_unsigned()
    }
}

/// Times and the fingerprints of their rows. Regular ones lie in a grid, in which a time is found without a search and added without moving
/// others; what does not fit there is sorted.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Sorted(Chunk),
    Grid(Box<Grid>),
}

impl Default for Known {
    fn default() -> Self {
        Self::Sorted(Chunk::default())
    }
}

/// A fingerprint for each multiple of a step, if it is taken.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    first: i64,
    step: u64,
    taken: [u64; PLACES / 64],
    prints: [u64; PLACES],
}

impl Grid {
    /// The place of a time; `None` when it lies beside the grid.
    #[inline]
    fn place(&self, time: i64) -> Option<usize> {
        let distance = time.wrapping_sub(self.first).cast_unsigned();
        let place = distance / self.step;
        (place * self.step == distance && place < PLACES as u64).then_some(place as usize)
    }

    #[inline]
    fn put(&mut self, place: usize, print: u64, replace: bool) -> Seen {
        let (word, bit) = (&mut self.taken[place / 64], 1 << (place % 64));
        let known = &mut self.prints[place];
        if *word & bit == 0 {
            *word |= bit;
            *known = print;
            return Seen::New;
        }
        if *known == print {
            return Seen::Same;
        }
        if replace {
            *known = print;
        }
        Seen::Other
    }

    /// The places that are taken, in order.
    fn places(&self) -> impl Iterator<Item = usize> {
        self.taken.iter().enumerate().flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(word * 64 + bit)
            })
        })
    }

    fn entries(&self) -> impl Iterator<Item = (i64, u64)> {
        self.places().map(|place| (self.first + (place as u64 * self.step).cast_signed(), self.prints[place]))
    }

    fn encode(&self) -> Vec<u8> {
        let places: Vec<usize> = self.places().collect();
        let distances = || places.array_windows().map(|[a, b]| (b - a) as u64);
        let common = distances().fold(0, |all, distance| if all == 1 { 1 } else { gcd(all, distance) });
        let prints = places.iter().map(|place| self.prints[*place]);
        let first = places.first().map(|place| self.first + (*place as u64 * self.step).cast_signed());
        encode(first, common * self.step, distances().map(|distance| if common == 1 { distance } else { distance / common }), prints)
    }
}

impl Known {
    /// Adds a time of the stretch; one that is known keeps its fingerprint unless `replace`.
    #[inline]
    pub(super) fn put(&mut self, time: i64, print: u64, replace: bool, within: Stretch) -> Seen {
        match self {
            Self::Grid(grid) => match grid.place(time) {
                Some(place) => grid.put(place, print, replace),
                None => {
                    *self = Self::Sorted(grid.entries().collect());
                    self.put_sorted(time, print, replace, None)
                }
            },
            Self::Sorted(_) => self.put_sorted(time, print, replace, Some(within)),
        }
    }

    fn put_sorted(&mut self, time: i64, print: u64, replace: bool, within: Option<Stretch>) -> Seen {
        let Self::Sorted(chunk) = self else { return Seen::Same };
        match chunk.find(time) {
            Err(at) => {
                chunk.insert(at, time, print);
                // Tried again and again, ever less often, where it does not fit.
                if chunk.len() >= FEW
                    && chunk.len().is_power_of_two()
                    && let Some(grid) = within.and_then(|within| grid(chunk, within))
                {
                    *self = Self::Grid(grid);
                }
                Seen::New
            }
            Ok(at) => match chunk.print_mut(at) {
                Some(known) if *known != print => {
                    if replace {
                        *known = print;
                    }
                    Seen::Other
                }
                _ => Seen::Same,
            },
        }
    }

    /// What was stored of a stretch.
    pub(super) fn of(chunk: Chunk, within: Stretch) -> Self {
        match Some(&chunk).filter(|chunk| chunk.len() >= FEW).and_then(|chunk| grid(chunk, within)) {
            Some(grid) => Self::Grid(grid),
            None => Self::Sorted(chunk),
        }
    }

    /// The bytes it is stored as, whichever of the two it is.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Sorted(chunk) => chunk.encode(),
            Self::Grid(grid) => grid.encode(),
        }
    }

    /// About how many bytes of memory it takes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Sorted(chunk) => chunk.weight(),
            Self::Grid(_) => size_of::<Grid>(),
        }
    }
}

/// The chunk as a grid, if all its times fit one.
fn grid(chunk: &Chunk, within: Stretch) -> Option<Box<Grid>> {
    let step = within.width / PLACES as i64;
    let (earliest, _) = chunk.span()?;
    if step == 0 || step * PLACES as i64 != within.width {
        return None;
    }
    let first = within.start.checked_add(earliest.wrapping_sub(within.start).rem_euclid(step))?;
    let mut grid = Box::new(Grid { first, step: step.cast_unsigned(), taken: [0; PLACES / 64], prints: [0; PLACES] });
    for (time, print) in chunk.iter() {
        let place = grid.place(time)?;
        grid.put(place, print, false);
    }
    Some(grid)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000_000;
    const WITHIN: Stretch = Stretch { start: -3 * 512 * MINUTE, width: 512 * MINUTE };

    fn of_minutes(minutes: impl IntoIterator<Item = i64>) -> Known {
        let mut known = Known::default();
        for minute in minutes {
            assert_eq!(known.put(WITHIN.start + minute * MINUTE + 7, minute.cast_unsigned(), false, WITHIN), Seen::New);
        }
        known
    }

    #[test]
    fn regular_times_get_a_grid_and_others_do_not() {
        assert!(matches!(of_minutes(0..63), Known::Sorted(_)));
        assert!(matches!(of_minutes((0..64).rev()), Known::Grid(_)));
        let mut known = of_minutes(0..100);
        assert_eq!(known.put(WITHIN.start + 8, 1, false, WITHIN), Seen::New);
        assert!(matches!(&known, Known::Sorted(chunk) if chunk.len() == 101));
        assert_eq!(known.put(WITHIN.start + 7, 0, false, WITHIN), Seen::Same);
        let odd = Stretch { width: 512 * MINUTE + 1, ..WITHIN };
        let mut known = Known::default();
        (0..200).for_each(|minute| assert_eq!(known.put(WITHIN.start + minute * MINUTE, 0, false, odd), Seen::New));
        assert!(matches!(known, Known::Sorted(_)));
    }

    #[test]
    fn the_last_place_of_a_stretch_is_one_of_the_grid() {
        let mut known = of_minutes(0..511);
        assert_eq!(known.put(WITHIN.start + WITHIN.width - MINUTE + 7, 3, false, WITHIN), Seen::New);
        assert!(matches!(known, Known::Grid(_)));
        assert!(WITHIN.holds(WITHIN.start) && WITHIN.holds(WITHIN.start + WITHIN.width - 1));
        assert!(!WITHIN.holds(WITHIN.start - 1) && !WITHIN.holds(WITHIN.start + WITHIN.width));
    }

    proptest! {
        #[test]
        fn a_grid_answers_and_is_stored_as_sorted_times_are(
            rows in prop::collection::vec((0..512_i64, 0..3_u64, prop::bool::weighted(0.001)), 0..700),
            every in 1..5_i64,
            replace in any::<bool>(),
        ) {
            let mut known = Known::default();
            let mut model: BTreeMap<i64, u64> = BTreeMap::new();
            for (minute, print, beside) in rows {
                let time = WITHIN.start + minute / every * every * MINUTE + i64::from(beside);
                let seen = match model.get(&time) {
                    None => Seen::New,
                    Some(known) if *known == print => Seen::Same,
                    Some(_) => Seen::Other,
                };
                prop_assert_eq!(known.put(time, print, replace, WITHIN), seen);
                if seen == Seen::New || replace {
                    model.insert(time, print);
                }
            }
            let sorted: Chunk = model.into_iter().collect();
            prop_assert_eq!(known.encode(), sorted.encode());
            prop_assert_eq!(Known::of(sorted.clone(), WITHIN).encode(), sorted.encode());
        }
    }
}
