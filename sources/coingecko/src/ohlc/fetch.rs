//! What every reader does: asks for one coin, and makes rows of the answer.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::{Act, Category, Position, Read, Reject, RunContext, StageError};
use pipeline_http::Response;
use serde_json::{Value, json};

use super::Shared;
use super::candles::{Candle, DAY, Digest, HOUR, WrongSpacing, digest, length, whole};
use super::columns::{CANDLES, OhlcRow, batch};
use super::volume::{Chart, Volumes};
use super::window::Interval;

/// One coin, in one run.
pub(super) struct Fetch {
    pub(super) shared: Arc<Shared>,
    pub(super) coin: String,
    pub(super) run: RunContext,
}

impl Fetch {
    /// The candles of the last days that are wanted by when they open, in one answer.
    pub(super) async fn days(&self, days: &str, wanted: impl Fn(i64) -> bool) -> Result<(Vec<OhlcRow>, Vec<Reject>), StageError> {
        let interval = self.shared.interval;
        let query = [("vs_currency", self.shared.api.vs_currency.as_str()), ("days", days)];
        let body = self.rows(&["coins", &self.coin, "ohlc"], &query).await?;
        if body.rows.is_empty() {
            tracing::warn!(coin = self.coin, "CoinGecko has no candles of this coin");
        }
        let volumes = self.volumes().await?;
        let wanted = |open: i64| wanted(if interval.on_grid() { open.saturating_sub(open.rem_euclid(interval.size())) } else { open });
        let Digest { mut candles, rejects } = self.digest(&body, interval.size_sent(), interval.on_grid(), wanted)?;
        if interval == Interval::Hour {
            candles = whole(&candles, HOUR);
        }
        Ok((self.candles(&candles, &volumes), rejects))
    }

    /// Candles made of the hourly ones (paid plans) that close from `from` to `to`, where they are wanted by when they open.
    pub(super) async fn range(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<(Vec<OhlcRow>, Vec<Reject>), StageError> {
        let size = self.shared.interval.size();
        let now = self.run.ports.clock.now();
        // The API refuses an end in the future.
        let last = to.min(now - TimeDelta::seconds(60));
        let (first, last) = (from.timestamp().to_string(), last.timestamp().to_string());
        let query = [("vs_currency", self.shared.api.vs_currency.as_str()), ("from", &first), ("to", &last), ("interval", "hourly")];
        // Empty for the months before the coin was listed.
        let body = self.rows(&["coins", &self.coin, "ohlc", "range"], &query).await?;
        // Volumes are sampled for the last day alone.
        let volumes = if now - to < TimeDelta::milliseconds(DAY) { self.volumes().await? } else { Volumes::default() };
        let wanted = |open: i64| wanted(open.saturating_sub(open.rem_euclid(size)));
        let Digest { mut candles, rejects } = self.digest(&body, HOUR, true, wanted)?;
        if size != HOUR {
            candles = whole(&candles, size);
        }
        Ok((self.candles(&candles, &volumes), rejects))
    }

    async fn rows(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Body, StageError> {
        let parse = |response: &Response| Ok(Body { rows: array_of_arrays(response)?, made: response.as_of });
        self.shared.api.client.get_with(&self.run, path, query, parse).await.map_err(|error| self.name_coin(error))
    }

    /// The volumes of the last day, where they are wanted.
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

    /// Candles as rows.
    fn candles(&self, candles: &[Candle], volumes: &Volumes) -> Vec<OhlcRow> {
        let row = |c: &Candle| OhlcRow {
            coin_id: self.coin.clone(),
            timestamp: DateTime::from_timestamp_millis(c.open_time).unwrap_or_default(),
            open: Some(c.open),
            high: Some(c.high),
            low: Some(c.low),
            close: c.close,
            volume_24h: volumes.at(c.close_time),
            source: CANDLES.to_owned(),
        };
        candles.iter().map(row).collect()
    }

    /// Rows as a reader brings them.
    pub(super) fn read_of(&self, rows: &[OhlcRow], rejects: Vec<Reject>, next: impl serde::Serialize) -> Read {
        Read { batch: batch(&self.shared.schema, rows), rejects, position: Position(json!(next)) }
    }

    /// An error that concerns this coin alone says which it is.
    pub(super) fn name_coin(&self, mut error: StageError) -> StageError {
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
