//! The keys of one chunk while it is in memory.

use super::chunk::{Chunk, common, encode};
use super::layout::Seen;

/// How many places a grid has at most: more than the hours of the widest chunk.
const PLACES: usize = 768;

/// A chunk with fewer times is not worth a grid.
const FEW: usize = 8;

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
    Grid(Grid),
}

impl Default for Known {
    fn default() -> Self {
        Self::Sorted(Chunk::default())
    }
}

/// Which multiples of a step are taken, and the fingerprints of those that are, in order: what is looked at for a time is here, and its fingerprint
/// in one other place.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    first: i64,
    step: u64,
    prints: Vec<u64>,
    /// How many are taken before each of the words.
    before: [u16; PLACES / 64],
    taken: [u64; PLACES / 64],
}

impl Grid {
    /// The place of a time; `None` when it lies beside the grid.
    #[inline]
    fn place(&self, time: i64) -> Option<usize> {
        let distance = time.wrapping_sub(self.first).cast_unsigned();
        let place = distance / self.step;
        (place * self.step == distance && place < PLACES as u64).then_some(place as usize)
    }

    /// How many places before this one are taken.
    #[inline]
    fn rank(&self, place: usize) -> usize {
        let before = self.taken[place / 64] & ((1 << (place % 64)) - 1);
        usize::from(self.before[place / 64]) + before.count_ones() as usize
    }

    #[inline]
    fn put(&mut self, place: usize, print: u64, replace: bool) -> Seen {
        let rank = self.rank(place);
        let (word, bit) = (&mut self.taken[place / 64], 1 << (place % 64));
        if *word & bit == 0 {
            *word |= bit;
            // All of them, so that it takes a few steps for many at once.
            let its = (place / 64) as u16;
            self.before.iter_mut().zip(0..).for_each(|(before, word)| *before += u16::from(word > its));
            self.prints.insert(rank, print);
            return Seen::New;
        }
        let known = &mut self.prints[rank];
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
        self.places().zip(&self.prints).map(|(place, print)| (self.first + (place as u64 * self.step).cast_signed(), *print))
    }

    fn encode(&self) -> Vec<u8> {
        let places: Vec<usize> = self.places().collect();
        let distances = || places.array_windows().map(|[a, b]| (b - a) as u64);
        let common = common(distances());
        let first = places.first().map(|place| self.first + (*place as u64 * self.step).cast_signed());
        let distances = distances().map(|distance| if common == 1 { distance } else { distance / common });
        encode(first, common * self.step, distances, self.prints.iter().copied())
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

    /// Looks at all that is here.
    #[inline]
    pub(super) fn look(&self) -> u64 {
        match self {
            Self::Sorted(chunk) => chunk.len() as u64,
            Self::Grid(grid) => grid.prints.len() as u64 ^ grid.step ^ grid.taken[0] ^ grid.taken[PLACES / 64 - 1],
        }
    }

    /// Looks at what `put` will look at elsewhere.
    #[inline]
    pub(super) fn look_for(&self, time: i64) -> u64 {
        match self {
            Self::Sorted(chunk) => chunk.look(time),
            Self::Grid(grid) => grid.place(time).and_then(|place| grid.prints.get(grid.rank(place)).copied()).unwrap_or_default(),
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

    /// About how many bytes of memory it takes besides itself.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Sorted(chunk) => chunk.weight(),
            Self::Grid(grid) => grid.prints.capacity() * size_of::<u64>(),
        }
    }
}

/// The chunk as a grid, if all its times fit one: its step is the widest that all of them are multiples of.
fn grid(chunk: &Chunk, within: Stretch) -> Option<Grid> {
    let (earliest, _) = chunk.span()?;
    let step = common(chunk.distances());
    let last = within.width.cast_unsigned().checked_sub(1)?.checked_div(step)?;
    let before = earliest.wrapping_sub(within.start).cast_unsigned() / step;
    if last >= PLACES as u64 || before > last {
        return None;
    }
    let first = earliest.checked_sub_unsigned(before * step)?;
    // To few there are many to come, and the allocator has room for a power of two; what is loaded may be all there is.
    let room = chunk.len() + 1;
    let prints = Vec::with_capacity(if room <= 64 { room.next_power_of_two() } else { room });
    let mut grid = Grid { first, step, prints, before: [0; PLACES / 64], taken: [0; PLACES / 64] };
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
        assert!(matches!(of_minutes(0..7), Known::Sorted(_)));
        assert!(matches!(of_minutes((0..8).rev()), Known::Grid(_)));
        let mut known = of_minutes(0..100);
        assert_eq!(known.put(WITHIN.start + 8, 1, false, WITHIN), Seen::New);
        assert!(matches!(&known, Known::Sorted(chunk) if chunk.len() == 101));
        assert_eq!(known.put(WITHIN.start + 7, 0, false, WITHIN), Seen::Same);
        // As far apart as they happen to be: three minutes at first, and a minute later on.
        let mut known = of_minutes((0..20).map(|n| n * 3));
        assert!(matches!(&known, Known::Grid(grid) if grid.step == 3 * MINUTE.cast_unsigned()));
        for minute in [4, 7, 5, 10, 11, 13, 14, 16, 17, 19, 20, 22] {
            assert_eq!(known.put(WITHIN.start + minute * MINUTE + 7, 0, false, WITHIN), Seen::New);
        }
        assert!(matches!(&known, Known::Grid(grid) if grid.step == MINUTE.cast_unsigned() && grid.prints.len() == 32));
        // More places than there are.
        let wide = Stretch { width: 769 * MINUTE, ..WITHIN };
        let mut known = Known::default();
        (0..200).for_each(|minute| assert_eq!(known.put(WITHIN.start + minute * MINUTE, 0, false, wide), Seen::New));
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
