//! Gaps: which of them can be filled, with what, and the splits that do it. See `docs/decisions/0010-gaps.md`.

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::{Filling, Gap, Position, Read, Reader, Refusal, Split, StageError, async_trait, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::columns::SAMPLES;
use super::fetch::Fetch;
use super::reader::{CHUNK, Next};
use super::window::{Interval, beginning};
use crate::api::{Plan, is_id};

/// A window of samples is answered by the hour when it is 2 to 90 days long; this leaves room at both ends.
const SAMPLES_AT_ONCE: TimeDelta = TimeDelta::days(88);
/// As far back as plans without a paid key have samples.
const SAMPLES_REACH: TimeDelta = TimeDelta::days(365);

/// Where rows of a gap come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum With {
    /// The last days, as an ordinary run has them.
    Last,
    /// All of `/ohlc` (paid plans).
    All,
    /// Hourly candles of `/ohlc/range` (paid plans).
    Range,
    /// Hourly samples of the price.
    Samples,
}

/// What can be had of one kind.
#[derive(Clone, Copy, Debug)]
struct Way {
    with: With,
    /// From this open time on.
    from: DateTime<Utc>,
    /// The longest stretch that one request brings.
    longest: TimeDelta,
}

/// The ways to fill gaps, the best first; each reaches further back than those before it.
fn ways(interval: Interval, plan: Plan, samples: bool, now: DateTime<Utc>) -> Vec<Way> {
    let last = Way { with: With::Last, from: now - TimeDelta::days(interval.days().1), longest: TimeDelta::MAX };
    let range = Way { with: With::Range, from: beginning(), longest: CHUNK };
    match (plan, interval) {
        (Plan::Pro, Interval::Hour) => vec![range],
        (Plan::Pro, Interval::FourHours) => vec![last, range],
        (Plan::Pro, Interval::FourDays) => vec![last, Way { with: With::All, from: DateTime::UNIX_EPOCH, ..last }],
        (_, Interval::Hour) if samples => vec![last, Way { with: With::Samples, from: now - SAMPLES_REACH, longest: SAMPLES_AT_ONCE }],
        _ => vec![last],
    }
}

/// Why what none of the ways reaches cannot be had.
fn why(interval: Interval, plan: Plan, samples: bool) -> String {
    let what = match (plan, interval) {
        (_, Interval::HalfHour) => "CoinGecko keeps 30-minute candles for a day",
        (Plan::Pro, _) => "CoinGecko's hourly candles begin at 2018-02-09",
        (_, Interval::Hour) if samples => "without a paid key CoinGecko keeps hourly candles for a day, and hourly samples for 365 days",
        (_, Interval::Hour) => {
            "CoinGecko keeps hourly candles for a day without a paid key; `fill_from = \"samples\"` stores hourly samples apart, a paid key the candles themselves"
        }
        (_, Interval::FourHours) => "CoinGecko keeps 4-hour candles for 30 days without a paid key; with one they are made of hourly candles",
        (_, Interval::FourDays) => "CoinGecko keeps 4-day candles for 365 days without a paid key; a paid key reaches further",
    };
    format!("not fillable at this quality: {what}")
}

type Stretch = (DateTime<Utc>, DateTime<Utc>);

/// The splits that fill these gaps, one for each request, and what cannot be filled.
pub(super) fn fill(gaps: &[Gap], interval: Interval, plan: Plan, samples: bool, now: DateTime<Utc>) -> Result<Filling, StageError> {
    let step = TimeDelta::milliseconds(interval.size());
    let ways = ways(interval, plan, samples, now);
    let mut filling = Filling::default();
    // By coin, in the order in which they come; for each its stretches by way.
    let mut coins: Vec<(&str, Vec<Vec<Stretch>>)> = Vec::new();
    for gap in gaps.iter().filter(|gap| gap.from < gap.to) {
        let mut refuse = |part: Gap, reason: String| filling.refused.push(Refusal { gap: part, reason });
        let Some(coin) = gap.series.get("coin_id").and_then(Value::as_str).filter(|coin| is_id(coin)) else {
            refuse(gap.clone(), "nothing tells of which coin the rows are: the dedupe keys lack `coin_id`".to_owned());
            continue;
        };
        // Where `source` is a key, candles and samples are series of their own.
        let source = gap.series.get("source").and_then(Value::as_str);
        if source == Some(SAMPLES) {
            refuse(gap.clone(), "samples stand where candles are missing: between them nothing is missing".to_owned());
            continue;
        }
        let mut rest = gap.to;
        let mut stretches = vec![Vec::new(); ways.len()];
        for (way, into) in ways.iter().zip(&mut stretches).filter(|(way, _)| source.is_none() || way.with != With::Samples) {
            let from = first_from(gap.from, way.from, step);
            if from < rest {
                into.push((from, rest));
                rest = from;
            }
        }
        if gap.from < rest {
            let part = Gap { to: rest, missing: if rest == gap.to { gap.missing } else { steps(gap.from, rest, step) }, ..gap.clone() };
            let reason = if samples && source.is_some() {
                "the dedupe keys hold `source`, so that samples would never be taken for the missing rows: leave it out of the keys".to_owned()
            } else {
                why(interval, plan, samples)
            };
            refuse(part, reason);
        }
        match coins.iter_mut().find(|(other, _)| *other == coin) {
            Some((_, all)) => all.iter_mut().zip(stretches).for_each(|(all, more)| all.extend(more)),
            None => coins.push((coin, stretches)),
        }
    }
    for (coin, by_way) in coins {
        // Each way reaches further back than the one before it.
        for (way, stretches) in ways.iter().zip(by_way).rev() {
            for windows in requests(stretches, way.longest) {
                filling.splits.push(Filler { coin: coin.to_owned(), with: way.with, windows }.split()?);
            }
        }
    }
    Ok(filling)
}

/// The first time not before `earliest`, counted in steps from `from`.
fn first_from(from: DateTime<Utc>, earliest: DateTime<Utc>, step: TimeDelta) -> DateTime<Utc> {
    let ahead = TimeDelta::milliseconds(step.num_milliseconds() * i64::try_from(steps(from, earliest, step)).unwrap_or_default());
    from + ahead
}

/// How many steps reach from one time to, or beyond, another.
fn steps(from: DateTime<Utc>, to: DateTime<Utc>, step: TimeDelta) -> u64 {
    let (length, step) = ((to - from).num_milliseconds().max(0).unsigned_abs(), step.num_milliseconds().unsigned_abs());
    length.div_ceil(step)
}

/// Stretches as requests ask for them: those that touch are one, and as many go together as one request spans; longer ones are cut.
fn requests(mut stretches: Vec<Stretch>, longest: TimeDelta) -> Vec<Vec<Stretch>> {
    stretches.sort_unstable();
    let mut whole: Vec<Stretch> = Vec::new();
    for (from, to) in stretches {
        match whole.last_mut() {
            Some((_, end)) if from <= *end => *end = to.max(*end),
            _ => whole.push((from, to)),
        }
    }
    let mut all: Vec<Vec<Stretch>> = Vec::new();
    for (mut from, to) in whole {
        while from < to {
            let begun = all.last().and_then(|windows| windows.first()).map(|first| first.0);
            match (begun, all.last_mut()) {
                (Some(begun), Some(windows)) if to - begun <= longest => {
                    windows.push((from, to));
                    from = to;
                }
                _ => {
                    let end = from.checked_add_signed(longest).map_or(to, |end| end.min(to));
                    all.push(vec![(from, end)]);
                    from = end;
                }
            }
        }
    }
    all
}

/// What a split that fills gaps asks for: its `data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Filler {
    pub(super) coin: String,
    with: With,
    /// Open times that are missing, ascending, from and up to but without; never empty.
    windows: Vec<Stretch>,
}

impl Filler {
    /// What a split says, if it is one that fills gaps.
    pub(super) fn of(split: &Split) -> Result<Option<Self>, StageError> {
        if split.data.is_null() {
            return Ok(None);
        }
        let filler: Result<Self, _> = serde_json::from_value(split.data.clone());
        match filler {
            Ok(filler) if !filler.windows.is_empty() => Ok(Some(filler)),
            Ok(_) => Err(StageError::developer("coingecko_ohlc was given a split without a window")),
            Err(cause) => Err(StageError::developer(format!("coingecko_ohlc was given a split that is not its own: {cause}"))),
        }
    }

    fn split(&self) -> Result<Split, StageError> {
        let (from, to) = self.span();
        let id = format!("{} {}/{}", self.coin, rfc3339(from), rfc3339(to));
        Ok(Split { id, data: json!(self) })
    }

    /// From the first row that is missing to the one after the last.
    fn span(&self) -> Stretch {
        let first = self.windows.first().map(|(from, _)| *from).unwrap_or_default();
        (first, self.windows.last().map_or(first, |(_, to)| *to))
    }

    fn wants(&self, open: i64) -> bool {
        self.windows.iter().any(|(from, to)| (from.timestamp_millis()..to.timestamp_millis()).contains(&open))
    }
}

/// Reads the rows of one coin that are missing, with one request.
pub(super) struct FillReader {
    fetch: Fetch,
    filler: Filler,
    next: Option<Next>,
}

impl FillReader {
    pub(super) fn new(fetch: Fetch, filler: Filler, resume: Option<Position>) -> Result<Self, StageError> {
        Ok(Self { fetch, filler, next: Next::of(resume)? })
    }
}

#[async_trait]
impl Reader for FillReader {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        if self.next.is_some() {
            return Ok(None);
        }
        let (from, to) = self.filler.span();
        let wants = |open: i64| self.filler.wants(open);
        let (rows, rejects) = match self.filler.with {
            With::Last => self.fetch.days(self.fetch.shared.interval.days().0, wants).await?,
            With::All => self.fetch.days("max", wants).await?,
            With::Range => self.fetch.range(from, to, wants).await?,
            With::Samples => self.fetch.samples(from, to, wants).await?,
        };
        // Nothing is awaited from here on: a read that is dropped while it waits has changed nothing.
        self.next = Some(Next::Done(true));
        Ok(Some(self.fetch.read_of(&rows, rejects, Next::Done(true))))
    }
}
