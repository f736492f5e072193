//! `coingecko_ohlc`: candles of coins.

mod candles;
mod reader;
mod volume;
mod window;

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{
    BuildContext, Category, ConfigTable, Demand, Descriptor, Kind, PlanError, Plugin, Position, Reader, Row, RunContext, Secret, Source,
    SourceCapabilities, Spanned, Split, Stage, StageError, async_trait, parse_partial, rows, slip,
};
use pipeline_http::HttpConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, Options, PAGE, Plan, check_either, check_ids, check_top};
use reader::OhlcReader;
pub use window::Interval;
use window::reach;

const TYPE: &str = "coingecko_ohlc";

rows! {
    /// A row of `coingecko_ohlc` without `volume_24h`. Prices are in `vs_currency`.
    pub(crate) struct Ohlc {
        /// CoinGecko's id, as `bitcoin`.
        pub coin_id: String,
        /// When the candle opened.
        pub timestamp: DateTime<Utc>,
        /// Price at the open.
        pub open: f64,
        /// Highest price.
        pub high: f64,
        /// Lowest price.
        pub low: f64,
        /// Price at the close.
        pub close: f64,
    }
}

rows! {
    /// A row of `coingecko_ohlc` with `volume_24h`. Prices are in `vs_currency`.
    pub(crate) struct OhlcVolume {
        /// CoinGecko's id, as `bitcoin`.
        pub coin_id: String,
        /// When the candle opened.
        pub timestamp: DateTime<Utc>,
        /// Price at the open.
        pub open: f64,
        /// Highest price.
        pub high: f64,
        /// Lowest price.
        pub low: f64,
        /// Price at the close.
        pub close: f64,
        /// Traded in the 24 hours before the candle's close: a rolling sum, not the candle's own volume.
        pub volume_24h: Option<f64>,
    }
}

/// The options of `coingecko_ohlc`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OhlcConfig {
    /// The root of the API. Default `"https://api.coingecko.com/api/v3"`; paid keys need `"https://pro-api.coingecko.com/api/v3"`.
    #[schemars(extend("default" = "https://api.coingecko.com/api/v3"))]
    pub base_url: Option<Spanned<String>>,
    /// The API key; empty for none. It is sent in a header and shown nowhere.
    pub api_key: Option<Spanned<Secret>>,
    /// What the key is for: `"keyless"`, `"demo"` or `"pro"`. Default: keyless without a key, pro on the pro root, else demo.
    pub plan: Option<Spanned<Plan>>,
    /// The currency of every price. Default `"usd"`.
    #[schemars(extend("default" = "usd"))]
    pub vs_currency: Option<Spanned<String>>,
    /// These coins, by id, as `["bitcoin", "ethereum"]`. Either this or `top`.
    pub coins: Option<Spanned<Vec<Spanned<String>>>>,
    /// This many of the largest coins by market cap, 1 to 5000, looked up in each run. Either this or `coins`.
    #[schemars(range(min = 1, max = 5000))]
    pub top: Option<Spanned<u32>>,
    /// How long a candle is: `"30m"`, `"1h"` (default), `"4h"` or `"4d"`.
    #[serde(default)]
    pub interval: Interval,
    /// Adds the column `volume_24h`, the rolling 24-hour volume at the candle's close, for one more request a coin. `"30m"` and `"1h"` alone.
    pub volume_24h: Option<Spanned<bool>>,
    /// How requests are sent.
    pub http: Option<Spanned<HttpConfig>>,
}

/// The plugin `coingecko_ohlc`.
#[derive(Clone, Copy, Debug)]
pub struct CoingeckoOhlc;

impl Plugin for CoingeckoOhlc {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Source,
            type_name: TYPE,
            summary: "CoinGecko's candles (open, high, low, close), hourly on every plan; one split for each coin",
            config: schemars::schema_for!(OhlcConfig),
            sample: include_str!("../../sample.toml"),
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let what = format!("source \"{TYPE}\"");
        let table = config.span();
        let given = config.has("top") || config.has("coins");
        let (config, mut faults) = parse_partial::<OhlcConfig>(&what, config);
        let Some(config) = config else { return Err(faults) };
        // What is there but faulty is not missing.
        let missing = config.top.is_none() && config.coins.is_none();
        if !(missing && given) {
            faults.extend(check_either(&what, ("top", &config.top), ("coins", &config.coins), table.clone()));
        }
        faults.extend(config.top.as_ref().and_then(check_top));
        faults.extend(config.coins.iter().flat_map(|coins| check_ids("coins", coins)));
        let volume = config.volume_24h.as_ref().filter(|volume| ***volume);
        if let Some(volume) = volume.filter(|_| !matches!(config.interval, Interval::HalfHour | Interval::Hour)) {
            let message = "`volume_24h` goes with the intervals \"30m\" and \"1h\" alone: CoinGecko samples it often enough for the last day only";
            faults.push(volume.error("E012", message).help("leave it out, or choose interval = \"1h\""));
        }
        let options = Options {
            base_url: config.base_url.as_ref(),
            api_key: config.api_key.as_ref(),
            plan: config.plan.as_ref(),
            vs_currency: config.vs_currency.as_ref(),
            http: config.http.as_ref(),
        };
        let api = Api::build(&options, table).map_err(|more| faults.extend(more));
        let (Ok(api), true) = (api, faults.is_empty()) else { return Err(faults) };
        let coins = match (&config.top, &config.coins) {
            (Some(top), _) => Coins::Top(**top as usize),
            (None, coins) => Coins::Named(coins.iter().flat_map(|coins| coins.iter()).map(|coin| String::clone(coin)).collect()),
        };
        let shared = Shared { api, interval: config.interval, volume: volume.is_some() };
        let place = config.top.as_ref().map(Spanned::span).or_else(|| config.coins.as_ref().map(Spanned::span));
        Ok(Stage::Source(Box::new(Candles { coins, shared: Arc::new(shared), place })))
    }

    fn outline(&self, config: &ConfigTable<'_>, _: Option<&SchemaRef>) -> Option<SchemaRef> {
        let volume = parse_partial::<OhlcConfig>(TYPE, config).0.and_then(|config| config.volume_24h);
        // What is there but faulty was meant to be true.
        let volume = volume.map_or_else(|| config.keys().iter().any(|key| slip(key, ["volume_24h"]).is_some()), |volume| *volume);
        Some(if volume { OhlcVolume::schema() } else { Ohlc::schema() })
    }
}

enum Coins {
    Top(usize),
    Named(Vec<String>),
}

/// What the source and its readers have in common.
struct Shared {
    api: Api,
    interval: Interval,
    volume: bool,
}

struct Candles {
    coins: Coins,
    shared: Arc<Shared>,
    /// Where the pipeline file says which coins.
    place: Option<Range<usize>>,
}

impl Candles {
    async fn largest(&self, count: usize, run: &RunContext) -> Result<Vec<Split>, StageError> {
        let per_page = count.min(PAGE).to_string();
        let mut seen = std::collections::HashSet::new();
        let mut splits = Vec::new();
        for page in 1..=count.div_ceil(PAGE) {
            let page = page.to_string();
            let query = [("order", "market_cap_desc"), ("sparkline", "false"), ("per_page", &per_page), ("page", &page)];
            let answer = self.shared.api.markets(run, &query).await?;
            let short = answer.len() < PAGE;
            let ids = answer.iter().filter_map(|coin| coin.get("id").and_then(Value::as_str)).filter(|id| !id.is_empty());
            // Ranks move between two requests: a coin may come twice.
            splits.extend(ids.filter(|id| seen.insert((*id).to_owned())).map(Split::new));
            if short {
                break;
            }
        }
        splits.truncate(count);
        if splits.is_empty() {
            return Err(StageError::transient(Category::ServerError, "CoinGecko's list of the largest coins is empty"));
        }
        Ok(splits)
    }
}

#[async_trait]
impl Source for Candles {
    fn schema(&self) -> SchemaRef {
        if self.shared.volume { OhlcVolume::schema() } else { Ohlc::schema() }
    }

    fn capabilities(&self) -> SourceCapabilities {
        let (lookups, coins) = match &self.coins {
            Coins::Top(count) => (count.div_ceil(PAGE), *count),
            Coins::Named(coins) => (0, coins.len()),
        };
        let requests = lookups + coins * (1 + usize::from(self.shared.volume));
        SourceCapabilities { windows: true, resumable: true, requests_per_run: Some(requests as u64) }
    }

    fn demand(&self) -> Option<Demand> {
        Some(self.shared.api.client.demand(self.place.clone()))
    }

    async fn splits(&self, run: &RunContext) -> Result<Vec<Split>, StageError> {
        // A window out of reach is told before anything is asked.
        reach(self.shared.interval, self.shared.api.plan, run.window, run.ports.clock.now())?;
        match &self.coins {
            Coins::Named(coins) => Ok(coins.iter().map(Split::new).collect()),
            Coins::Top(count) => self.largest(*count, run).await,
        }
    }

    async fn open(&self, split: &Split, resume: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        Ok(Box::new(OhlcReader::new(self.shared.clone(), split.id.clone(), resume, run.clone())?))
    }

    async fn probe(&self, run: &RunContext) -> Result<(), StageError> {
        self.shared.api.ping(run).await
    }
}
