use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use pipeline_contract::*;
use pipeline_http::{HttpClient, HttpConfig};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;

rows! {
    /// What a currency was worth on one day.
    pub struct Rate {
        /// The currency that is priced, as `EUR`.
        pub base: String,
        /// The currency that it is priced in, as `USD`.
        pub currency: String,
        /// The day, as its first instant in UTC.
        pub day: DateTime<Utc>,
        /// So much of `currency` for one of `base`.
        pub rate: f64,
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The root of the API, as `"https://api.frankfurter.dev/v1"`.
    base_url: Spanned<String>,
    /// The currencies to price, as `["EUR", "USD"]`.
    bases: BTreeSet<String>,
    /// How requests are sent.
    #[serde(default)]
    http: HttpConfig,
}

pub struct ExchangeRates;

impl Plugin for ExchangeRates {
    fn describe(&self) -> Descriptor {
        let (config, sample) = (|| schema_for!(Config), include_str!("../sample.toml"));
        Descriptor { kind: Kind::Source, type_name: "exchange_rates", summary: "Daily exchange rates; one split for each currency", config, sample }
    }

    fn build(&self, table: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let Config { base_url, bases, http } = parse_config("source \"exchange_rates\"", table)?;
        let client = HttpClient::new(&base_url, &http).map_err(|fault| vec![fault.at(base_url.span())])?;
        Ok(Stage::simple(Rates { client, bases }))
    }
}

struct Rates {
    client: HttpClient,
    bases: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Answer {
    rates: BTreeMap<NaiveDate, BTreeMap<String, f64>>,
}

#[async_trait]
impl SimpleSource for Rates {
    type Row = Rate;
    const WINDOWS: bool = true;
    const REQUESTS: Option<u64> = Some(1);

    fn splits(&self) -> Vec<Split> {
        self.bases.iter().map(Split::new).collect()
    }

    async fn read(&self, split: &Split, run: &RunContext) -> Result<(Vec<Rate>, Vec<Reject>), StageError> {
        let today = run.ports.clock.now().date_naive();
        let first = run.window.map_or(today.checked_sub_days(Days::new(7)), |window| window.from.map(|from| from.date_naive()));
        let range = first.map_or("1999-01-04..".to_owned(), |first| format!("{first}.."));
        let answer: Answer = self.client.get_json(run, &[&range], &[("base", &split.id)]).await?;
        let mut rates = Vec::new();
        // The rates of today may still change.
        for (date, prices) in answer.rates.range(..today) {
            let day = date.and_time(NaiveTime::MIN).and_utc();
            if run.window.is_none_or(|window| window.contains(day)) {
                rates.extend(prices.iter().map(|(currency, rate)| Rate { base: split.id.clone(), currency: currency.clone(), day, rate: *rate }));
            }
        }
        Ok((rates, Vec::new()))
    }

    async fn probe(&self, run: &RunContext) -> Result<(), StageError> {
        self.client.get(run, &["latest"], &[]).await.map(drop)
    }
}
