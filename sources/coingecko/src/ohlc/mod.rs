//! `coingecko_ohlc`: candles of coins.

mod candles;
mod columns;
mod fetch;
mod fill;
mod reader;
mod samples;
mod volume;
mod window;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{
    BuildContext, Category, ConfigTable, Demand, Descriptor, Filling, Gap, Kind, PlanError, Plugin, Position, Reader, RunContext, Secret, Source,
    SourceCapabilities, Spanned, Split, Stage, StageError, async_trait, parse_partial, slip,
};
use pipeline_http::HttpConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, Options, PAGE, Plan, check_either, check_ids, check_top};
use fetch::Fetch;
use fill::{FillReader, Filler};
use reader::OhlcReader;
pub use window::Interval;
use window::reach;

const TYPE: &str = "coingecko_ohlc";

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
    /// What fills gaps where candles cannot be had: `"samples"`, hourly prices of the last 365 days. Default: nothing. Adds the column `source`,
    /// which must be stored: as `{source}` in the sink's path, so that samples have files of their own. `"1h"` alone.
    pub fill_from: Option<Spanned<FillFrom>>,
    /// How requests are sent.
    pub http: Option<Spanned<HttpConfig>>,
}

/// What fills gaps where candles cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum FillFrom {
    /// Hourly samples of the price.
    Samples,
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
            config: || schemars::schema_for!(OhlcConfig),
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
        if let Some(fill_from) = config.fill_from.as_ref().filter(|_| config.interval != Interval::Hour) {
            let message =
                format!("`fill_from` goes with the interval \"1h\" alone, as samples are hourly, and `interval` is \"{}\"", config.interval.name());
            faults.push(fill_from.error("E012", message).help("leave it out, or choose interval = \"1h\""));
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
        let (volume, samples) = (volume.is_some(), config.fill_from.is_some());
        let shared = Shared { api, interval: config.interval, volume, samples, schema: columns::schema(volume, samples) };
        let place = config.top.as_ref().map(Spanned::span).or_else(|| config.coins.as_ref().map(Spanned::span));
        Ok(Stage::Source(Box::new(Candles { coins, shared: Arc::new(shared), place })))
    }

    fn outline(&self, config: &ConfigTable<'_>, _: Option<&SchemaRef>) -> Option<SchemaRef> {
        let parsed = parse_partial::<OhlcConfig>(TYPE, config).0;
        // What is there but faulty was meant.
        let meant = |name: &str| config.keys().iter().any(|key| slip(key, [name]).is_some());
        let volume = parsed.as_ref().and_then(|config| config.volume_24h.as_ref()).map_or_else(|| meant("volume_24h"), |volume| **volume);
        let source = parsed.is_some_and(|config| config.fill_from.is_some()) || meant("fill_from");
        Some(columns::schema(volume, source))
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
    /// Gaps are filled with samples where there are no candles.
    samples: bool,
    schema: SchemaRef,
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
        Arc::clone(&self.shared.schema)
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

    fn step(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.shared.interval.size().unsigned_abs()))
    }

    fn fills(&self) -> bool {
        true
    }

    async fn fill(&self, gaps: &[Gap], run: &RunContext) -> Result<Filling, StageError> {
        let shared = &self.shared;
        fill::fill(gaps, shared.interval, shared.api.plan, shared.samples, run.ports.clock.now())
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
        let fetch = |coin: &str| Fetch { shared: Arc::clone(&self.shared), coin: coin.to_owned(), run: run.clone() };
        match Filler::of(split)? {
            Some(filler) => Ok(Box::new(FillReader::new(fetch(&filler.coin), filler, resume)?)),
            None => Ok(Box::new(OhlcReader::new(fetch(&split.id), resume)?)),
        }
    }

    async fn probe(&self, run: &RunContext) -> Result<(), StageError> {
        self.shared.api.ping(run).await
    }
}
