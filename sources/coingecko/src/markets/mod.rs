//! `coingecko_markets`: one row for each coin, as the market is now.

mod reader;
mod row;

use std::ops::Range;
use std::sync::Arc;

use pipeline_contract::arrow::{Schema, SchemaRef};
use pipeline_contract::{
    BuildContext, ConfigTable, Demand, Descriptor, Doubt, Kind, PlanError, Plugin, Position, Reader, RunContext, Secret, Source, SourceCapabilities,
    Spanned, Split, Stage, StageError, async_trait, parse_partial,
};
use pipeline_http::HttpConfig;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::{Api, Options, PAGE, Plan, check_either, check_ids, check_top, check_word};
use reader::{Ask, MarketsReader};
pub use row::Market;

const TYPE: &str = "coingecko_markets";
const CHANGES: [&str; 7] = ["1h", "24h", "7d", "14d", "30d", "200d", "1y"];

/// The options of `coingecko_markets`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarketsConfig {
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
    /// This many of the largest coins by market cap, 1 to 5000; 250 come with one request. Either this or `ids`.
    #[schemars(range(min = 1, max = 5000))]
    pub top: Option<Spanned<u32>>,
    /// These coins, by id, as `["bitcoin", "ethereum"]`. Either this or `top`.
    pub ids: Option<Spanned<Vec<Spanned<String>>>>,
    /// Adds a column `price_change_percentage_{1h}_in_currency` for each of `"1h"`, `"24h"`, `"7d"`, `"14d"`, `"30d"`, `"200d"`, `"1y"`.
    #[serde(default)]
    pub price_change_percentage: Vec<Spanned<String>>,
    /// How requests are sent.
    pub http: Option<Spanned<HttpConfig>>,
}

/// The plugin `coingecko_markets`.
#[derive(Clone, Copy, Debug)]
pub struct CoingeckoMarkets;

impl Plugin for CoingeckoMarkets {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Source,
            type_name: TYPE,
            summary: "CoinGecko's market list: price, volume, market cap and supply of each coin, now",
            config: || schemars::schema_for!(MarketsConfig),
            sample: include_str!("../../sample_markets.toml"),
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let what = format!("source \"{TYPE}\"");
        let table = config.span();
        let given = config.has("top") || config.has("ids");
        let (config, mut faults) = parse_partial::<MarketsConfig>(&what, config);
        let Some(config) = config else { return Err(faults) };
        // What is there but faulty is not missing.
        let missing = config.top.is_none() && config.ids.is_none();
        if !(missing && given) {
            faults.extend(check_either(&what, ("top", &config.top), ("ids", &config.ids), table.clone()));
        }
        faults.extend(config.top.as_ref().and_then(check_top));
        faults.extend(config.ids.iter().flat_map(|ids| check_ids("ids", ids)));
        let mut changes: Vec<String> = Vec::new();
        for change in &config.price_change_percentage {
            if let Some(fault) = check_word("price_change_percentage", change, &CHANGES) {
                faults.push(fault);
            } else if changes.contains(change) {
                faults.push(change.error("E012", format!("\"{}\" is named twice", change.as_str())));
            }
            changes.push(String::clone(change));
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
        let ask = match (&config.top, &config.ids) {
            (Some(top), _) => Ask::Top(**top as usize),
            (None, ids) => Ask::Ids(groups(ids.iter().flat_map(|ids| ids.iter()).map(|id| String::clone(id)))),
        };
        let schema = row::schema(&changes);
        let place = config.top.as_ref().map(Spanned::span).or_else(|| config.ids.as_ref().map(Spanned::span));
        Ok(Stage::Source(Box::new(Markets { shared: Arc::new(Shared { api, ask, changes, schema }), place })))
    }

    fn outline(&self, config: &ConfigTable<'_>, _: Option<&SchemaRef>) -> Option<SchemaRef> {
        let changes = parse_partial::<MarketsConfig>(TYPE, config).0.map(|config| config.price_change_percentage).unwrap_or_default();
        let known: Vec<String> =
            CHANGES.iter().filter(|known| changes.iter().any(|change| change.as_str() == **known)).map(|c| (*c).to_owned()).collect();
        // Of a word that is not known nobody can tell which column it was meant to bring.
        let unsure = config.has("price_change_percentage") && known.len() < changes.len().max(1);
        let doubtful = CHANGES.iter().filter(|change| unsure && !known.iter().any(|known| known == *change));
        let doubtful = doubtful.map(|change| Doubt::column(&row::change_name(change)));
        let schema = row::schema(&known);
        Some(Arc::new(Schema::new(schema.fields().iter().cloned().chain(doubtful).collect::<Vec<_>>())))
    }
}

/// Ids in groups that one request can ask for: 250 fill a page, and servers refuse longer URLs than about 8000 characters.
fn groups(ids: impl Iterator<Item = String>) -> Vec<Vec<String>> {
    const LONGEST: usize = 4000;
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut length = 0;
    for id in ids {
        length += id.len() + 3;
        match groups.last_mut() {
            Some(group) if group.len() < PAGE && length <= LONGEST => group.push(id),
            _ => {
                length = id.len() + 3;
                groups.push(vec![id]);
            }
        }
    }
    groups
}

/// What the source and its reader have in common.
struct Shared {
    api: Api,
    ask: Ask,
    changes: Vec<String>,
    schema: SchemaRef,
}

struct Markets {
    shared: Arc<Shared>,
    /// Where the pipeline file says which coins.
    place: Option<Range<usize>>,
}

#[async_trait]
impl Source for Markets {
    fn schema(&self) -> SchemaRef {
        self.shared.schema.clone()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { windows: false, resumable: true, requests_per_run: Some(self.shared.ask.pages() as u64) }
    }

    fn demand(&self) -> Option<Demand> {
        Some(self.shared.api.client.demand(self.place.clone()))
    }

    async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
        Ok(vec![Split::new("markets")])
    }

    async fn open(&self, _: &Split, resume: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        Ok(Box::new(MarketsReader::new(self.shared.clone(), resume, run.clone())?))
    }

    async fn probe(&self, run: &RunContext) -> Result<(), StageError> {
        self.shared.api.ping(run).await
    }
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn ids_are_asked_for_in_groups() {
        let sizes = |count: usize, length: usize| groups((0..count).map(|_| "x".repeat(length))).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(1, 7), [1]);
        assert_eq!(sizes(250, 7), [250]);
        assert_eq!(sizes(501, 7), [250, 250, 1]);
        assert_eq!(sizes(40, 197), [20, 20]);
    }
}
