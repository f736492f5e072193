//! Reads the candles of one coin.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::{Act, Category, Position, Read, Reader, Row, RunContext, StageError, async_trait};
use pipeline_http::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::candles::{Candle, DAY, Digest, HOUR, WrongSpacing, digest, hours, length};
use super::volume::{Chart, Volumes};
use super::window::{Interval, Reach, reach};
use super::{Ohlc, OhlcVolume, Shared};

/// One request for a range brings at most 31 days; a little less leaves room for the hour at its end.
const CHUNK: TimeDelta = TimeDelta::days(30);

/// Where a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Next {
    /// Nothing is left.
    Done(bool),
    /// The open time, in Unix seconds, from which the next request of a range asks.
    From(i64),
}

pub(super) struct OhlcReader {
    shared: Arc<Shared>,
    coin: String,
    run: RunContext,
    reach: Reach,
    next: Option<Next>,
}

impl OhlcReader {
    pub(super) fn new(shared: Arc<Shared>, coin: String, resume: Option<Position>, run: RunContext) -> Result<Self, StageError> {
        let next = resume.map(|position| serde_json::from_value(position.0)).transpose();
        let next = next.map_err(|cause| StageError::developer(format!("coingecko_ohlc was given a position that is not its own: {cause}")))?;
        let reach = match next {
            // The run was in reach when it began; an hour's delay must not end it.
            Some(Next::From(seconds)) => Reach::Range(DateTime::from_timestamp(seconds, 0).unwrap_or_default()),
            Some(Next::Done(_)) => Reach::Days("1"),
            None => reach(shared.interval, shared.api.plan, run.window, run.ports.clock.now())?,
        };
        Ok(Self { shared, coin, run, reach, next })
    }

    /// The last days, in one answer.
    async fn days(&self, days: &str) -> Result<(Read, Next), StageError> {
        let interval = self.shared.interval;
        let query = [("vs_currency", self.shared.api.vs_currency.as_str()), ("days", days)];
        let body = self.rows(&["coins", &self.coin, "ohlc"], &query).await?;
        if body.rows.is_empty() {
            tracing::warn!(coin = self.coin, "CoinGecko has no candles of this coin");
        }
        let volumes = self.volumes().await?;
        let wanted = |open: i64| self.in_window(if interval.on_grid() { open.saturating_sub(open.rem_euclid(interval.size())) } else { open });
        let Digest { mut candles, rejects } = self.digest(&body, interval.size_sent(), interval.on_grid(), wanted)?;
        if interval == Interval::Hour {
            candles = hours(&candles);
        }
        Ok((self.read_of(&candles, &volumes, rejects, Next::Done(true)), Next::Done(true)))
    }

    /// Hourly candles that open within a month from `from` on (paid plans).
    async fn range(&self, from: DateTime<Utc>) -> Result<Option<(Read, Next)>, StageError> {
        let now = self.run.ports.clock.now();
        let end = self.run.window.and_then(|window| window.to).unwrap_or(now).min(now);
        if from >= end {
            return Ok(None);
        }
        let until = (from + CHUNK).min(end);
        // Stamps are closes: a candle that opens at the end of the chunk closes an hour later. The API refuses an end in the future.
        let last = (until + TimeDelta::hours(1)).min(now - TimeDelta::seconds(60));
        let (first, last) = (from.timestamp().to_string(), last.timestamp().to_string());
        let query = [("vs_currency", self.shared.api.vs_currency.as_str()), ("from", &first), ("to", &last), ("interval", "hourly")];
        // Empty for the months before the coin was listed.
        let body = self.rows(&["coins", &self.coin, "ohlc", "range"], &query).await?;
        // Volumes are sampled for the last day alone.
        let volumes = if now - until < TimeDelta::milliseconds(DAY) { self.volumes().await? } else { Volumes::default() };
        let chunk = from.timestamp_millis()..until.timestamp_millis();
        let Digest { candles, rejects } = self.digest(&body, HOUR, true, |open| chunk.contains(&open) && self.in_window(open))?;
        let next = if until < end { Next::From(until.timestamp()) } else { Next::Done(true) };
        Ok(Some((self.read_of(&candles, &volumes, rejects, next), next)))
    }

    async fn rows(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Body, StageError> {
        let parse = |response: &Response| Ok(Body { rows: array_of_arrays(response)?, made: response.as_of });
        self.shared.api.client.get_with(&self.run, path, query, parse).await.map_err(|error| self.name_coin(error))
    }

    async fn volumes(&self) -> Result<Volumes, StageError> {
        if !self.shared.volume {
            return Ok(Volumes::default());
        }
        let query = [("vs_currency", self.shared.api.vs_currency.as_str()), ("days", "1")];
        let chart = self.shared.api.client.get_json::<Chart>(&self.run, &["coins", &self.coin, "market_chart"], &query).await;
        chart.map(|chart| Volumes::of(&chart)).map_err(|error| self.name_coin(error))
    }

    /// Whether a candle is finished is judged by when the body was made, not by when it came.
    fn digest(&self, body: &Body, size: i64, grid: bool, wanted: impl Fn(i64) -> bool) -> Result<Digest, StageError> {
        digest(&body.rows, size, grid, body.made.timestamp_millis(), wanted).map_err(|WrongSpacing(found)| {
            let message = format!("coin \"{}\": expected {} candles, got {} spacing", self.coin, length(size), length(found));
            StageError::split(Category::ServerError, message).help("nothing of this answer is stored; if it goes on, CoinGecko has changed its API")
        })
    }

    fn in_window(&self, open: i64) -> bool {
        self.run.window.is_none_or(|window| DateTime::from_timestamp_millis(open).is_some_and(|at| window.contains(at)))
    }

    fn read_of(&self, candles: &[Candle], volumes: &Volumes, rejects: Vec<pipeline_contract::Reject>, next: Next) -> Read {
        let at = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap_or_default();
        let batch = if self.shared.volume {
            let row = |c: &Candle| OhlcVolume {
                coin_id: self.coin.clone(),
                timestamp: at(c.open_time),
                open: c.open,
                high: c.high,
                low: c.low,
                close: c.close,
                volume_24h: volumes.at(c.close_time),
            };
            OhlcVolume::batch(&candles.iter().map(row).collect::<Vec<_>>())
        } else {
            let row =
                |c: &Candle| Ohlc { coin_id: self.coin.clone(), timestamp: at(c.open_time), open: c.open, high: c.high, low: c.low, close: c.close };
            Ohlc::batch(&candles.iter().map(row).collect::<Vec<_>>())
        };
        Read { batch, rejects, position: Position(json!(next)) }
    }

    /// An error that concerns this coin alone says which it is.
    fn name_coin(&self, mut error: StageError) -> StageError {
        if error.act == Act::Split {
            error.message = format!("coin \"{}\": {}", self.coin, error.message);
        }
        error
    }
}

/// Candles as they came.
struct Body {
    rows: Vec<Value>,
    /// CoinGecko, or a cache before it, made them then or later.
    made: DateTime<Utc>,
}

/// A body of candles, each still to be looked at. Anything but an array of arrays is an answer to something else.
fn array_of_arrays(response: &Response) -> Result<Vec<Value>, StageError> {
    let rows: Vec<Value> = response.json()?;
    if rows.is_empty() || rows.iter().any(Value::is_array) {
        Ok(rows)
    } else {
        Err(StageError::transient(Category::ServerError, "the answer is not a list of candles"))
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
