//! Bad input: what a parser is fed, and how many of it passed.

use super::TestRandom;
use crate::Random;

/// Choices that follow from a seed.
#[derive(Debug)]
pub struct Draw(std::sync::Arc<TestRandom>);

impl Draw {
    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.next() % (end.max(1) as u64)).unwrap_or_default()
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of `items`, which are not none.
    pub fn of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next()
    }

    /// So many random bytes, fewer than `end`: half of the time of printable ASCII alone.
    pub fn bytes(&mut self, end: usize) -> Vec<u8> {
        let (len, printable) = (self.below(end), self.once_in(2));
        (0..len).map(|_| if printable { 32 + self.bits().to_le_bytes()[0] % 95 } else { self.bits().to_le_bytes()[0] }).collect()
    }
}

/// Inputs for one parser: raw bytes, samples that were damaged in the ways in which text is damaged, and valid ones.
///
/// The same name and number of cases make the same inputs.
pub struct Fuzz<'a> {
    /// What is parsed, for the line that is printed.
    pub name: &'a str,
    /// Valid inputs.
    pub samples: &'a [&'a str],
    /// What the language is made of, and what often breaks it.
    pub words: &'a [&'a str],
    /// The inputs of a plain `cargo test`.
    pub cases: usize,
    /// An input costs as much as so many of the cheapest: with `PIPELINE_FUZZ_CASES=N`, N / `cost` are tried.
    pub cost: usize,
}

/// Says which input it was, should the parser panic.
struct Witness<'a>(&'a str, usize, &'a [u8]);

impl Drop for Witness<'_> {
    #[expect(clippy::print_stderr, reason = "a test says which input it broke on")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = &self.2[..self.2.len().min(4000)];
            eprintln!("fuzz: {}: input {} of {} bytes: \"{}\"", self.0, self.1, self.2.len(), shown.escape_ascii());
        }
    }
}

impl Fuzz<'_> {
    /// Feeds a parser, which answers whether it accepted. `valid` makes inputs that are right by construction, or nearly.
    ///
    /// # Panics
    /// When the parser does, or when all inputs were accepted, or none: then it was not tried.
    #[expect(clippy::print_stderr, clippy::panic, reason = "it is a test's, and the figures are what it is for")]
    pub fn run(&self, mut valid: impl FnMut(&mut Draw) -> Vec<u8>, mut accepts: impl FnMut(&[u8]) -> bool) {
        let wanted = std::env::var("PIPELINE_FUZZ_CASES").ok().and_then(|cases| cases.parse::<usize>().ok());
        let cases = wanted.map_or(self.cases, |cases| (cases / self.cost.max(1)).max(self.cases));
        let seed = self.name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut draw = Draw(TestRandom::new(seed));
        let (mut accepted, mut longest) = (0, 0);
        for case in 0..cases {
            let input = match draw.below(8) {
                0 => draw.bytes(200),
                1..=5 => self.damaged(&mut draw),
                _ => valid(&mut draw),
            };
            longest = longest.max(input.len());
            let _witness = Witness(self.name, case, &input);
            accepted += usize::from(accepts(&input));
        }
        let refused = cases - accepted;
        eprintln!("fuzz: {:<28} {cases:>8} tried, {accepted:>8} accepted, {refused:>8} refused, longest {longest} bytes", self.name);
        if accepted == 0 || refused == 0 {
            panic!("{}: {accepted} of {cases} inputs were accepted: one side was not tried", self.name);
        }
    }

    /// As [`Fuzz::run`], for what reads text.
    ///
    /// # Panics
    /// As [`Fuzz::run`].
    pub fn run_text(&self, mut valid: impl FnMut(&mut Draw) -> String, mut accepts: impl FnMut(&str) -> bool) {
        self.run(|draw| valid(draw).into_bytes(), |input| accepts(&String::from_utf8_lossy(input)));
    }

    /// A sample with one to four damages.
    fn damaged(&self, draw: &mut Draw) -> Vec<u8> {
        let mut text = draw.of(self.samples).as_bytes().to_vec();
        for _ in 0..=draw.below(4) {
            let at = draw.below(text.len() + 1);
            let part = at..(at + draw.below(24)).min(text.len());
            match draw.below(9) {
                0 => drop(text.drain(part)),
                1 => drop(text.splice(at..at, text[part].to_vec())),
                2 => text.truncate(at),
                3 if at < text.len() => text[at] ^= 1 << draw.below(8),
                4 => drop(text.splice(part, draw.bytes(6))),
                5 => {
                    // Another sample from some place on.
                    let other = draw.of(self.samples).as_bytes();
                    text.splice(at.., other[draw.below(other.len() + 1)..].iter().copied());
                }
                6 if draw.once_in(20) => {
                    let most = if draw.once_in(10) { 20_000 } else { 300 };
                    let word = draw.of(self.words).repeat(1 + draw.below(most));
                    text.splice(at..at, word.into_bytes());
                }
                7 => {
                    text.splice(part, edge(draw).to_string().into_bytes());
                }
                _ => drop(text.splice(at..at, draw.of(self.words).bytes())),
            }
        }
        text
    }
}

/// A number near which things break.
fn edge(draw: &mut Draw) -> i128 {
    let power = 1_i128 << draw.below(66);
    let sign = if draw.once_in(2) { 1 } else { -1 };
    sign * (power + i128::try_from(draw.below(3)).unwrap_or_default() - 1)
}
