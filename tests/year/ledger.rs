//! The oracle: what was answered in full, what was committed of it, what became of each tick. It uses nothing of the product.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::Value;

use super::coins::Half;
use super::{DAY, HALF, HOUR, MINUTE, shown};

/// The figures of an hour.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub prices: [f64; 4],
    pub volume: Option<f64>,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.prices.map(f64::to_bits) == other.prices.map(f64::to_bits) && self.volume.map(f64::to_bits) == other.volume.map(f64::to_bits)
    }
}

/// What may be stored for an hour: one of these.
#[derive(Clone, Debug, Default)]
pub struct Due {
    pub accept: Vec<Row>,
    /// It must be stored.
    pub certain: bool,
}

/// The two answers of which the hours of a coin are made.
#[derive(Clone, Debug)]
struct Delivery {
    halves: Vec<Half>,
    samples: Option<Vec<(i64, f64)>>,
    /// The earliest and the latest reading of the wall clock meanwhile.
    walls: (i64, i64),
}

/// What became of a tick.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    Running(String),
    Ran(String),
    Skipped(String),
}

#[derive(Default)]
struct State {
    deliveries: BTreeMap<String, Delivery>,
    due: BTreeMap<(String, i64), Due>,
    rejects: BTreeSet<(String, String)>,
    possible_rejects: BTreeSet<(String, String)>,
    listed: Vec<String>,
    violations: Vec<String>,
    fates: BTreeMap<i64, Fate>,
    idle_since: Option<i64>,
    counts: Counts,
}

/// What happened, in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub requests: u64,
    pub delivered: u64,
    pub epochs: u64,
    pub runs: u64,
    pub runs_ok: u64,
    pub largest_chunk: usize,
    pub most_chunks: usize,
}

/// The next tick after an instant, in milliseconds.
pub type NextTick = fn(i64) -> i64;

pub struct Ledger {
    state: Mutex<State>,
    pub next_tick: NextTick,
}

/// A candle that closed less long before its answer was made may be left to the next run: ages come in whole seconds.
const FRESH: i64 = 2_000;

impl Ledger {
    pub fn new(next_tick: NextTick) -> Self {
        Self { state: Mutex::default(), next_tick }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn violation(&self, text: String) {
        self.state().violations.push(text);
    }

    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    // What the far side knows.

    pub fn asked(&self) {
        self.state().counts.requests += 1;
    }

    pub fn asked_for(&self, coin: &str) {
        self.state().deliveries.remove(coin);
    }

    pub fn delivered_list(&self, coins: &[&str]) {
        let mut state = self.state();
        state.listed = coins.iter().map(ToString::to_string).collect();
        state.counts.delivered += 1;
    }

    pub fn delivered_candles(&self, coin: &str, halves: Vec<Half>, walls: (i64, i64)) {
        let mut state = self.state();
        state.counts.delivered += 1;
        for half in &halves {
            let cut = half.stamp % HALF != 0;
            // By a clock that is a day behind these are stamps out of all reason.
            let far = half.stamp > walls.0 + DAY;
            if !half.sound || cut || far {
                state.possible_rejects.insert((coin.to_owned(), plain(&half.text)));
            }
        }
        state.deliveries.insert(coin.to_owned(), Delivery { halves, samples: None, walls });
    }

    pub fn delivered_volumes(&self, coin: &str, samples: Vec<(i64, f64)>, wall: i64) {
        let mut state = self.state();
        state.counts.delivered += 1;
        if let Some(delivery) = state.deliveries.get_mut(coin) {
            delivery.samples = Some(samples);
            delivery.walls = (delivery.walls.0.min(wall), delivery.walls.1.max(wall));
        }
    }

    // What the state knows.

    pub fn run_started(&self, splits: &[String]) {
        let mut state = self.state();
        if state.listed != splits {
            let text = format!("a run began with the splits {splits:?}, but the largest coins are {:?}", state.listed);
            state.violations.push(text);
        }
    }

    /// A split is stored, as the state's one transaction says.
    pub fn stored(&self, run: &str, coin: &str) {
        let mut state = self.state();
        let delivery = state.deliveries.remove(coin);
        let Some(Delivery { halves, samples: Some(samples), walls }) = delivery else {
            state.violations.push(format!("{run}: {coin} was stored, but not all of it was delivered"));
            return;
        };
        for (hour, row, certain) in hours(&halves, &samples, walls) {
            let due = state.due.entry((coin.to_owned(), hour)).or_default();
            if !due.certain {
                due.accept.push(row);
                due.certain = certain;
            }
        }
        for half in halves.iter().filter(|half| !half.sound && half.stamp <= walls.0 - FRESH) {
            state.rejects.insert((coin.to_owned(), plain(&half.text)));
        }
    }

    pub fn committed(&self, chunks: usize, largest: usize) {
        let counts = &mut self.state().counts;
        counts.epochs += 1;
        counts.most_chunks = counts.most_chunks.max(chunks);
        counts.largest_chunk = counts.largest_chunk.max(largest);
    }

    /// A run ended: what was delivered in full must have been stored, unless there was a reason.
    pub fn run_ended(&self, run: &str, ok: bool, failed: &[(String, String)], excuse: bool) {
        let mut state = self.state();
        state.counts.runs += 1;
        state.counts.runs_ok += u64::from(ok);
        if excuse {
            return;
        }
        for (coin, error) in failed {
            if state.deliveries.get(coin).is_some_and(|delivery| delivery.samples.is_some()) {
                state.violations.push(format!("{run}: {coin} was delivered in full, and yet it failed: {error}"));
            }
        }
    }

    // Ticks.

    /// The process waits for a tick from now on.
    pub fn idle(&self, wall: Option<i64>) {
        self.state().idle_since = wall;
    }

    /// Does it wait?
    pub fn waits(&self) -> bool {
        self.state().idle_since.is_some()
    }

    /// The ticks that passed since the process waits for one.
    pub fn passed(&self, wall: i64) -> Vec<i64> {
        /// The engine reads the wall clock so often at least.
        const SLICE: i64 = 35_000;
        let Some(since) = self.state().idle_since.take() else { return Vec::new() };
        self.ticks_between(since, wall - SLICE)
    }

    /// Ticks after an instant and before another.
    pub fn ticks_between(&self, after: i64, before: i64) -> Vec<i64> {
        let mut ticks = Vec::new();
        let mut at = (self.next_tick)(after);
        while at < before {
            ticks.push(at);
            at = (self.next_tick)(at);
        }
        ticks
    }

    /// Is it the latest tick up to now?
    pub fn is_latest(&self, tick: i64, now: i64) -> bool {
        tick <= now && (self.next_tick)(tick) > now
    }

    /// The run of a tick has ended.
    pub fn ran(&self, tick: i64, run: &str) {
        let mut state = self.state();
        match state.fates.insert(tick, Fate::Ran(run.to_owned())) {
            Some(Fate::Ran(before)) if before != run => state.violations.push(format!("the tick {} ran twice: {before} and {run}", shown(tick))),
            _ => {}
        }
    }

    /// All ticks as the state tells them: stretches from, to, count, fate.
    pub fn told_ticks(&self, told: &[(i64, i64, u64, Fate)], all: bool) {
        let mut now: BTreeMap<i64, Fate> = BTreeMap::new();
        let mut faults = Vec::new();
        for (from, to, count, fate) in told {
            let ticks = self.ticks_between(from - 1, to + 1);
            if ticks.len() as u64 != *count || ticks.first() != Some(from) || ticks.last() != Some(to) {
                faults.push(format!("a stretch of {count} ticks from {} to {}, which has {}", shown(*from), shown(*to), ticks.len()));
            }
            for tick in ticks {
                if let Some(twice) = now.insert(tick, fate.clone()) {
                    faults.push(format!("the tick {} is there twice: {twice:?} and {fate:?}", shown(tick)));
                }
            }
        }
        let mut state = self.state();
        for (tick, before) in &state.fates {
            let is = now.get(tick);
            let fine = match (before, is) {
                (_, None) => !all,
                (Fate::Ran(before), Some(Fate::Ran(is))) => before == is,
                (Fate::Ran(_), _) => false,
                (Fate::Running(_), Some(Fate::Skipped(_))) => false,
                (Fate::Running(_) | Fate::Skipped(_), _) => true,
            };
            if !fine {
                faults.push(format!("the tick {} was {before:?} and is {is:?}", shown(*tick)));
            }
        }
        state.fates.extend(now);
        state.violations.extend(faults);
    }

    /// Every tick from the first on has one fate; answers how many ran and how many were skipped.
    pub fn account(&self, wall: i64) -> (usize, usize) {
        let mut state = self.state();
        let (Some(first), Some(last)) = (state.fates.keys().next().copied(), state.fates.keys().next_back().copied()) else {
            state.violations.push("there are no ticks".to_owned());
            return (0, 0);
        };
        drop(state);
        let expected = self.ticks_between(first - 1, last.max(wall) + 1);
        state = self.state();
        let forgotten: Vec<String> = expected.iter().filter(|tick| !state.fates.contains_key(tick)).map(|tick| shown(*tick)).collect();
        let invented: Vec<String> = state.fates.keys().filter(|tick| !expected.contains(tick)).map(|tick| shown(*tick)).collect();
        if !forgotten.is_empty() {
            state.violations.push(format!("{} ticks are not accounted for: {}", forgotten.len(), brief(&forgotten)));
        }
        if !invented.is_empty() {
            state.violations.push(format!("ticks that are none: {}", brief(&invented)));
        }
        let running: Vec<String> = state.fates.iter().filter(|(_, fate)| matches!(fate, Fate::Running(_))).map(|(tick, _)| shown(*tick)).collect();
        if !running.is_empty() {
            state.violations.push(format!("ticks that never ended: {}", brief(&running)));
        }
        let ran = state.fates.values().filter(|fate| matches!(fate, Fate::Ran(_))).count();
        (ran, state.fates.len() - ran)
    }

    // What is on disk.

    /// Compares the stored hours with those that are due; answers how many there are.
    pub fn compare(&self, stored: &BTreeMap<(String, i64), Row>) -> usize {
        let mut state = self.state();
        let mut faults = Vec::new();
        for ((coin, hour), row) in stored {
            match state.due.get(&(coin.clone(), *hour)) {
                None => faults.push(format!("{coin} {} is stored, and was never delivered as a closed hour: {row:?}", shown(*hour))),
                Some(due) if !due.accept.contains(row) => {
                    faults.push(format!("{coin} {} is stored as {row:?}, and was first delivered as {:?}", shown(*hour), due.accept));
                }
                Some(_) => {}
            }
        }
        for ((coin, hour), due) in state.due.iter().filter(|(_, due)| due.certain) {
            if !stored.contains_key(&(coin.clone(), *hour)) {
                faults.push(format!("{coin} {} was delivered and is not stored: {:?}", shown(*hour), due.accept));
            }
        }
        if !faults.is_empty() {
            state.violations.push(format!("{} hours are wrong: {}", faults.len(), brief(&faults)));
        }
        state.due.len()
    }

    /// Compares the kept rejects with the bad rows that were delivered.
    pub fn compare_rejects(&self, kept: &[(String, String, Value)]) {
        let mut state = self.state();
        let mut faults = Vec::new();
        // One row may break another rule by a clock that is days behind.
        let once: BTreeSet<_> = kept.iter().map(|(coin, rule, row)| (coin, rule, row.to_string())).collect();
        if once.len() != kept.len() {
            faults.push(format!("{} of {} rejects are there again", kept.len() - once.len(), kept.len()));
        }
        let set: BTreeSet<_> = kept.iter().map(|(coin, _, row)| (coin.clone(), row.to_string())).collect();
        faults.extend(set.difference(&state.possible_rejects).map(|reject| format!("a reject that nobody sent, or that is a sound row: {reject:?}")));
        faults.extend(state.rejects.difference(&set).map(|reject| format!("a bad row that is not kept: {reject:?}")));
        if !faults.is_empty() {
            state.violations.push(format!("rejects: {}", brief(&faults)));
        }
    }
}

/// JSON as it is written, whatever the spaces.
fn plain(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap().to_string()
}

fn brief(all: &[String]) -> String {
    let more = if all.len() > 5 { format!("\n      ... and {} more", all.len() - 5) } else { String::new() };
    format!("\n      {}{more}", all.iter().take(5).cloned().collect::<Vec<_>>().join("\n      "))
}

/// The hours of which both halves are sound and had closed, by the far side's clock and by ours; and whether they must be stored.
fn hours(halves: &[Half], samples: &[(i64, f64)], (early, late): (i64, i64)) -> Vec<(i64, Row, bool)> {
    let good: BTreeMap<i64, [f64; 4]> =
        halves.iter().filter(|half| half.sound && half.closed && half.stamp <= late).map(|half| (half.stamp, half.prices)).collect();
    let mut hours = Vec::new();
    for (stamp, first) in &good {
        let close = stamp + HALF;
        if close.rem_euclid(HOUR) != 0 {
            continue;
        }
        let Some(second) = good.get(&close) else { continue };
        let before = samples.iter().filter(|(at, _)| *at <= close).max_by_key(|(at, _)| *at);
        let row = Row {
            prices: [first[0], first[1].max(second[1]), first[2].min(second[2]), second[3]],
            volume: before.filter(|(at, _)| close - at <= 10 * MINUTE).map(|(_, volume)| *volume),
        };
        hours.push((close - HOUR, row, close <= early - FRESH));
    }
    hours
}
