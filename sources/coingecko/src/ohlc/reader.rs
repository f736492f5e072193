//! Reads the candles of one coin.

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::{Position, Read, Reader, StageError, async_trait};
use serde::{Deserialize, Serialize};

use super::fetch::Fetch;
use super::window::{Reach, reach};

/// One request for a range brings at most 31 days; a little less leaves room for the hour at its end.
pub(super) const CHUNK: TimeDelta = TimeDelta::days(30);

/// Where a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Next {
    /// Nothing is left.
    Done(bool),
    /// The open time, in Unix seconds, from which the next request of a range asks.
    From(i64),
}

impl Next {
    /// The position of an earlier reader, where there was one.
    pub(super) fn of(resume: Option<Position>) -> Result<Option<Self>, StageError> {
        let next = resume.map(|position| serde_json::from_value(position.0)).transpose();
        next.map_err(|cause| StageError::developer(format!("coingecko_ohlc was given a position that is not its own: {cause}")))
    }
}

pub(super) struct OhlcReader {
    fetch: Fetch,
    reach: Reach,
    next: Option<Next>,
}

impl OhlcReader {
    pub(super) fn new(fetch: Fetch, resume: Option<Position>) -> Result<Self, StageError> {
        let next = Next::of(resume)?;
        let reach = match next {
            // The run was in reach when it began; an hour's delay must not end it.
            Some(Next::From(seconds)) => Reach::Range(DateTime::from_timestamp(seconds, 0).unwrap_or_default()),
            Some(Next::Done(_)) => Reach::Days("1"),
            None => reach(fetch.shared.interval, fetch.shared.api.plan, fetch.run.window, fetch.run.ports.clock.now())?,
        };
        Ok(Self { fetch, reach, next })
    }

    /// The last days, in one answer.
    async fn days(&self, days: &str) -> Result<(Read, Next), StageError> {
        let (rows, rejects) = self.fetch.days(days, |open| self.in_window(open)).await?;
        Ok((self.fetch.read_of(&rows, rejects, Next::Done(true)), Next::Done(true)))
    }

    /// Hourly candles that open within a month from `from` on (paid plans).
    async fn range(&self, from: DateTime<Utc>) -> Result<Option<(Read, Next)>, StageError> {
        let now = self.fetch.run.ports.clock.now();
        let end = self.fetch.run.window.and_then(|window| window.to).unwrap_or(now).min(now);
        if from >= end {
            return Ok(None);
        }
        let until = (from + CHUNK).min(end);
        let chunk = from.timestamp_millis()..until.timestamp_millis();
        // Stamps are closes: a candle that opens at the end of the chunk closes an hour later.
        let wanted = |open: i64| chunk.contains(&open) && self.in_window(open);
        let (rows, rejects) = self.fetch.range(from, until + TimeDelta::hours(1), wanted).await?;
        let next = if until < end { Next::From(until.timestamp()) } else { Next::Done(true) };
        Ok(Some((self.fetch.read_of(&rows, rejects, next), next)))
    }

    fn in_window(&self, open: i64) -> bool {
        self.fetch.run.window.is_none_or(|window| DateTime::from_timestamp_millis(open).is_some_and(|at| window.contains(at)))
    }
}

#[async_trait]
impl Reader for OhlcReader {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        let fetched = match (self.next, self.reach) {
            (Some(Next::Done(_)), _) => None,
            (_, Reach::Days(days)) => Some(self.days(days).await?),
            (_, Reach::Range(from)) => self.range(from).await?,
        };
        // Nothing is awaited from here on: a read that is dropped while it waits has changed nothing.
        let Some((read, next)) = fetched else { return Ok(None) };
        if let Next::From(seconds) = next {
            self.reach = Reach::Range(DateTime::from_timestamp(seconds, 0).unwrap_or_default());
        }
        self.next = Some(next);
        Ok(Some(read))
    }
}
