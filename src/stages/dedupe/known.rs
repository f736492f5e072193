//! The keys of one chunk while it is in memory.

use std::ops::Range;

use super::chunk::{Chunk, common, encode};
use super::layout::Seen;

/// How many places a grid has at most: more than the hours of the widest chunk.
const PLACES: usize = 768;

/// A chunk with fewer times is not worth a grid ...
const FEW: usize = 8;

/// ... nor is one in which there were room for more than so many places, and so many for each time.
const SPARE: usize = 64;
const SPARSE: usize = 4;

/// As many places as a line of the processor's cache has room for.
const BESIDE: usize = 8;

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

/// Stands where there is no fingerprint. A row whose own is this makes its times sorted ones.
const FREE: u64 = 0;

/// The fingerprints of multiples of a step, each in a place of its own: what is added moves no others. As small as can be: of many series, what is
/// waited for is the memory where each is.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    /// The time of place 0.
    first: i64,
    step: u64,
    /// Those of the places from `low` on.
    prints: Box<[u64]>,
    low: u16,
    count: u16,
}

impl Grid {
    /// The place of a time; `None` when it lies beside the grid.
    #[inline]
    fn place(&self, time: i64) -> Option<usize> {
        let distance = time.wrapping_sub(self.first).cast_unsigned();
        let place = distance / self.step;
        (place * self.step == distance && place < PLACES as u64).then_some(place as usize)
    }

    /// Where the fingerprint of a place stands, if there is room for it.
    #[inline]
    fn at(&self, place: usize) -> usize {
        place.wrapping_sub(self.low.into())
    }

    /// `None` when too much room were needed for too few, or the fingerprint is none that has a place.
    #[inline]
    fn put(&mut self, place: usize, print: u64, replace: bool) -> Option<Seen> {
        if print == FREE {
            return None;
        }
        if self.at(place) >= self.prints.len() {
            self.make_room(place)?;
        }
        let at = self.at(place);
        let known = &mut self.prints[at];
        if *known == FREE {
            *known = print;
            self.count += 1;
            return Some(Seen::New);
        }
        if *known == print {
            return Some(Seen::Same);
        }
        if replace {
            *known = print;
        }
        Some(Seen::Other)
    }

    /// Makes room for a place beside those for which there is room.
    #[cold]
    fn make_room(&mut self, place: usize) -> Option<()> {
        let low = usize::from(self.low);
        let end = low + self.prints.len();
        let room = room(low.min(place), end.max(place + 1), self.count.into())?;
        // Times mostly go on: many are to come.
        let len = if place < end { room.len() } else { room.len().next_power_of_two().min(PLACES - room.start) };
        let mut prints = vec![FREE; len].into_boxed_slice();
        prints[low - room.start..][..self.prints.len()].copy_from_slice(&self.prints);
        (self.prints, self.low) = (prints, room.start as u16);
        Some(())
    }

    /// The places that are taken, in order.
    fn places(&self) -> impl Iterator<Item = usize> {
        (usize::from(self.low)..).zip(&self.prints).filter(|(_, print)| **print != FREE).map(|(place, _)| place)
    }

    fn entries(&self) -> impl Iterator<Item = (i64, u64)> {
        self.places().map(|place| (self.first + (place as u64 * self.step).cast_signed(), self.prints[self.at(place)]))
    }

    fn encode(&self) -> Vec<u8> {
        let mut places: Vec<usize> = Vec::with_capacity(self.count.into());
        places.extend(self.places());
        let distances = || places.array_windows().map(|[a, b]| (b - a) as u64);
        let common = common(distances());
        let first = places.first().map(|place| self.first + (*place as u64 * self.step).cast_signed());
        let distances = distances().map(|distance| if common == 1 { distance } else { distance / common });
        encode(first, common * self.step, distances, places.iter().map(|place| self.prints[self.at(*place)]))
    }
}

impl Known {
    /// Adds a time of the stretch; one that is known keeps its fingerprint unless `replace`.
    #[inline]
    pub(super) fn put(&mut self, time: i64, print: u64, replace: bool, within: Stretch) -> Seen {
        match self {
            Self::Grid(grid) => match grid.place(time).and_then(|place| grid.put(place, print, replace)) {
                Some(seen) => seen,
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
            Self::Grid(grid) => grid.step,
        }
    }

    /// Looks at what `put` will look at elsewhere.
    #[inline]
    pub(super) fn look_for(&self, time: i64) -> u64 {
        match self {
            Self::Sorted(chunk) => chunk.look(time),
            Self::Grid(grid) => grid.place(time).and_then(|place| grid.prints.get(grid.at(place)).copied()).unwrap_or_default(),
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
            Self::Grid(grid) => size_of_val(&*grid.prints),
        }
    }
}

/// From which place to which there is room for these, and for some about them; `None` when that is too much for so many times.
fn room(from: usize, end: usize, count: usize) -> Option<Range<usize>> {
    let room = from / BESIDE * BESIDE..end.next_multiple_of(BESIDE);
    (room.len() <= SPARE + SPARSE * count).then_some(room)
}

/// The chunk as a grid, if all its times fit one: its step is the widest that all of them are multiples of.
fn grid(chunk: &Chunk, within: Stretch) -> Option<Grid> {
    let (earliest, latest) = chunk.span()?;
    let step = common(chunk.distances());
    let last = within.width.cast_unsigned().checked_sub(1)?.checked_div(step)?;
    let before = earliest.wrapping_sub(within.start).cast_unsigned() / step;
    if last >= PLACES as u64 || before > last {
        return None;
    }
    let first = earliest.checked_sub_unsigned(before * step)?;
    let after = before + latest.wrapping_sub(earliest).cast_unsigned() / step;
    // No more than is needed: what is loaded may be all there is.
    let room = room(before as usize, usize::try_from(after).ok()?.checked_add(1)?, chunk.len())?;
    let mut grid = Grid { first, step, prints: vec![FREE; room.len()].into(), low: room.start as u16, count: 0 };
    for (time, print) in chunk.iter() {
        let place = grid.place(time)?;
        grid.put(place, print, false)?;
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

    fn print(minute: i64) -> u64 {
        minute.cast_unsigned() + 1
    }

    fn of_minutes(minutes: impl IntoIterator<Item = i64>) -> Known {
        let mut known = Known::default();
        for minute in minutes {
            assert_eq!(known.put(WITHIN.start + minute * MINUTE + 7, print(minute), false, WITHIN), Seen::New);
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
        assert_eq!(known.put(WITHIN.start + 7, 1, false, WITHIN), Seen::Same);
        // As far apart as they happen to be: three minutes at first, and a minute later on.
        let mut known = of_minutes((0..20).map(|n| n * 3));
        assert!(matches!(&known, Known::Grid(grid) if grid.step == 3 * MINUTE.cast_unsigned()));
        for minute in [4, 7, 5, 10, 11, 13, 14, 16, 17, 19, 20, 22] {
            assert_eq!(known.put(WITHIN.start + minute * MINUTE + 7, 1, false, WITHIN), Seen::New);
        }
        assert!(matches!(&known, Known::Grid(grid) if grid.step == MINUTE.cast_unsigned() && grid.count == 32));
        // Room before those that came first is made when it is needed.
        let mut known = of_minutes(200..240);
        for minute in [180, 150] {
            assert_eq!(known.put(WITHIN.start + minute * MINUTE + 7, print(minute), false, WITHIN), Seen::New);
        }
        assert!(matches!(&known, Known::Grid(grid) if grid.low == 144 && grid.count == 42));
        assert!((200..240).chain([180, 150]).all(|minute| known.put(WITHIN.start + minute * MINUTE + 7, print(minute), false, WITHIN) == Seen::Same));
        // Too few for the room between them, until there are more.
        let mut known = of_minutes(200..208);
        assert!(matches!(&known, Known::Grid(grid) if grid.prints.len() == BESIDE));
        assert_eq!(known.put(WITHIN.start + 100 * MINUTE + 7, 1, false, WITHIN), Seen::New);
        assert!(matches!(&known, Known::Sorted(chunk) if chunk.len() == 9));
        (192..199).for_each(|minute| assert_eq!(known.put(WITHIN.start + minute * MINUTE + 7, 1, false, WITHIN), Seen::New));
        assert!(matches!(&known, Known::Grid(grid) if grid.prints.len() == 112 && grid.low == 96));
        // More places than there are.
        let wide = Stretch { width: 769 * MINUTE, ..WITHIN };
        let mut known = Known::default();
        (0..200).for_each(|minute| assert_eq!(known.put(WITHIN.start + minute * MINUTE, 0, false, wide), Seen::New));
        assert!(matches!(known, Known::Sorted(_)));
        // One that has no place in a grid is known all the same.
        let mut known = of_minutes(0..100);
        assert_eq!(known.put(WITHIN.start + 3 * MINUTE + 7, FREE, false, WITHIN), Seen::Other);
        assert_eq!(known.put(WITHIN.start + 200 * MINUTE + 7, FREE, false, WITHIN), Seen::New);
        assert_eq!(known.put(WITHIN.start + 200 * MINUTE + 7, FREE, false, WITHIN), Seen::Same);
        (100..200).for_each(|minute| assert_eq!(known.put(WITHIN.start + minute * MINUTE + 7, 1, false, WITHIN), Seen::New));
        assert!(matches!(&known, Known::Sorted(chunk) if chunk.len() == 201));
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
            rows in prop::collection::vec((0..512_i64, prop_oneof![400 => 1..4_u64, 1 => Just(FREE)], prop::bool::weighted(0.001)), 0..700),
            span in 10..512_i64,
            every in 1..5_i64,
            replace in any::<bool>(),
            stored in prop::option::of(0..700_usize),
        ) {
            let mut known = Known::default();
            let mut model: BTreeMap<i64, u64> = BTreeMap::new();
            for (nth, (minute, print, beside)) in rows.into_iter().enumerate() {
                if stored == Some(nth) {
                    known = Known::of(model.clone().into_iter().collect(), WITHIN);
                }
                let minute = 512 - span + minute % span;
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
            if let Known::Grid(grid) = &known {
                prop_assert!(usize::from(grid.low) + grid.prints.len() <= PLACES);
                prop_assert_eq!(grid.places().count(), usize::from(grid.count));
            }
            let sorted: Chunk = model.into_iter().collect();
            prop_assert_eq!(known.encode(), sorted.encode());
            prop_assert_eq!(Known::of(sorted.clone(), WITHIN).encode(), sorted.encode());
        }
    }
}
