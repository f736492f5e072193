//! A coin of the market list as a row.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::{ArrayRef, RecordBatch, Schema, SchemaRef};
use pipeline_contract::{Cell, ColumnType, Row, batch_of_columns, described_field, rows};
use serde_json::{Map, Value};

use crate::errors::short;

rows! {
    /// A row of `coingecko_markets`. Amounts are in `vs_currency`; what CoinGecko does not know is null.
    pub struct Market {
        /// CoinGecko's id, as `bitcoin`.
        pub coin_id: String,
        /// The ticker, as `btc`; not unique.
        pub symbol: Option<String>,
        /// The coin's name.
        pub name: Option<String>,
        /// The URL of its picture.
        pub image: Option<String>,
        /// Price of one coin.
        pub current_price: Option<f64>,
        /// Price times circulating supply.
        pub market_cap: Option<f64>,
        /// Place by market cap, from 1.
        pub market_cap_rank: Option<i64>,
        /// Price times the largest supply.
        pub fully_diluted_valuation: Option<f64>,
        /// Traded in the 24 hours before `last_updated`.
        pub total_volume: Option<f64>,
        /// Highest price of the last 24 hours.
        pub high_24h: Option<f64>,
        /// Lowest price of the last 24 hours.
        pub low_24h: Option<f64>,
        /// Change of the price in 24 hours.
        pub price_change_24h: Option<f64>,
        /// Change of the price in 24 hours, in percent.
        pub price_change_percentage_24h: Option<f64>,
        /// Change of the market cap in 24 hours.
        pub market_cap_change_24h: Option<f64>,
        /// Change of the market cap in 24 hours, in percent.
        pub market_cap_change_percentage_24h: Option<f64>,
        /// Coins in circulation.
        pub circulating_supply: Option<f64>,
        /// Coins that exist.
        pub total_supply: Option<f64>,
        /// Coins that can ever exist.
        pub max_supply: Option<f64>,
        /// Highest price ever.
        pub ath: Option<f64>,
        /// Change since the highest price, in percent.
        pub ath_change_percentage: Option<f64>,
        /// When the highest price was.
        pub ath_date: Option<DateTime<Utc>>,
        /// Lowest price ever.
        pub atl: Option<f64>,
        /// Change since the lowest price, in percent.
        pub atl_change_percentage: Option<f64>,
        /// When the lowest price was.
        pub atl_date: Option<DateTime<Utc>>,
        /// Return on investment since the sale, as a multiple.
        pub roi_times: Option<f64>,
        /// The currency of that return.
        pub roi_currency: Option<String>,
        /// That return in percent.
        pub roi_percentage: Option<f64>,
        /// When CoinGecko last computed this row.
        pub last_updated: Option<DateTime<Utc>>,
        /// When the answer came, to the second.
        pub fetched_at: DateTime<Utc>,
    }
}

pub(super) fn change_name(period: &str) -> String {
    format!("price_change_percentage_{period}_in_currency")
}

/// The columns, with one more for each period of `changes`.
pub(super) fn schema(changes: &[String]) -> SchemaRef {
    let extra = changes.iter().map(|period| {
        let text = format!("Change of the price in {period}, in percent.");
        Arc::new(described_field(&change_name(period), ColumnType::Float, true, &[&text]))
    });
    Arc::new(Schema::new(Market::schema().fields().iter().cloned().chain(extra).collect::<Vec<_>>()))
}

/// Rows and their changes as a batch of `schema`.
pub(super) fn batch(schema: &SchemaRef, rows: &[Market], changes: &[Vec<Option<f64>>]) -> RecordBatch {
    let fixed = Market::batch(rows);
    let extra = (0..schema.fields().len() - fixed.num_columns()).map(|place| {
        let cells: Vec<Option<f64>> = changes.iter().map(|row| row.get(place).copied().flatten()).collect();
        Option::<f64>::column(cells.iter())
    });
    let columns: Vec<ArrayRef> = fixed.columns().iter().cloned().chain(extra).collect();
    batch_of_columns(schema.clone(), columns, rows.len())
}

impl Market {
    /// A row from an object of `/coins/markets`, and its changes by period. Null and absent are the same, numbers may be written as text.
    pub(super) fn from_json(entry: &Value, changes: &[String], fetched_at: DateTime<Utc>) -> Result<(Self, Vec<Option<f64>>), String> {
        let Value::Object(object) = entry else { return Err("a coin must be an object".to_owned()) };
        let of = Fields(object);
        let roi = match object.get("roi") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(roi)) => roi.clone(),
            Some(other) => return Err(format!("roi: {} is not an object", short(other))),
        };
        let roi = Fields(&roi);
        let coin_id = of.text("id")?.filter(|id| !id.is_empty()).ok_or("id: there is none")?;
        let market = Self {
            coin_id,
            symbol: of.text("symbol")?,
            name: of.text("name")?,
            image: of.text("image")?,
            current_price: of.number("current_price")?,
            market_cap: of.number("market_cap")?,
            market_cap_rank: of.integer("market_cap_rank")?,
            fully_diluted_valuation: of.number("fully_diluted_valuation")?,
            total_volume: of.number("total_volume")?,
            high_24h: of.number("high_24h")?,
            low_24h: of.number("low_24h")?,
            price_change_24h: of.number("price_change_24h")?,
            price_change_percentage_24h: of.number("price_change_percentage_24h")?,
            market_cap_change_24h: of.number("market_cap_change_24h")?,
            market_cap_change_percentage_24h: of.number("market_cap_change_percentage_24h")?,
            circulating_supply: of.number("circulating_supply")?,
            total_supply: of.number("total_supply")?,
            max_supply: of.number("max_supply")?,
            ath: of.number("ath")?,
            ath_change_percentage: of.number("ath_change_percentage")?,
            ath_date: of.instant("ath_date")?,
            atl: of.number("atl")?,
            atl_change_percentage: of.number("atl_change_percentage")?,
            atl_date: of.instant("atl_date")?,
            roi_times: roi.number("times")?,
            roi_currency: roi.text("currency")?,
            roi_percentage: roi.number("percentage")?,
            last_updated: of.instant("last_updated")?,
            fetched_at,
        };
        let changes = changes.iter().map(|period| of.number(&change_name(period))).collect::<Result<_, _>>()?;
        Ok((market, changes))
    }
}

/// Typed access to an object's fields; the error names the field.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn get<T>(&self, name: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| format!("{name}: {} is not {what}", short(value))),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        self.get(name, "text", |value| value.as_str().map(str::to_owned))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, String> {
        self.get(name, "a number", number)
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, String> {
        /// Beyond it floats skip whole numbers.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        self.get(name, "a whole number", |value| {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within what i64 holds")]
            let whole = |float: f64| (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64);
            value.as_i64().or_else(|| whole(number(value)?))
        })
    }

    fn instant(&self, name: &str) -> Result<Option<DateTime<Utc>>, String> {
        self.get(name, "an instant", |value| DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|at| at.to_utc()))
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}
