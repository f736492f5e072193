//! What both sources share: root, key, plan, limits.

use std::num::NonZeroU32;

use pipeline_contract::{BudgetLimits, PlanError, RunContext, Secret, Spanned, StageError, nearest};
use pipeline_http::{ClientFault, HeaderName, HttpClient, HttpConfig};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::errors::classify;

const PUBLIC_HOST: &str = "api.coingecko.com";
const PRO_HOST: &str = "pro-api.coingecko.com";
const PUBLIC_ROOT: &str = "https://api.coingecko.com/api/v3";
const PRO_ROOT: &str = "https://pro-api.coingecko.com/api/v3";

/// The most coins that one page of `/coins/markets` holds.
pub(crate) const PAGE: usize = 250;

/// What CoinGecko was asked to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Plan {
    /// No key: 10 requests a minute.
    Keyless,
    /// A demo key: 25 requests a minute, 10,000 a month.
    Demo,
    /// A paid key: 300 requests a minute.
    Pro,
}

impl Plan {
    fn limits(self) -> BudgetLimits {
        let (per_minute, per_month) = match self {
            Self::Keyless => (10, None),
            Self::Demo => (25, Some(10_000)),
            Self::Pro => (300, None),
        };
        BudgetLimits { per_minute: NonZeroU32::new(per_minute), per_month }
    }

    fn header(self) -> HeaderName {
        HeaderName::from_static(if self == Self::Pro { "x-cg-pro-api-key" } else { "x-cg-demo-api-key" })
    }
}

/// The options that both sources have.
pub(crate) struct Options<'a> {
    pub(crate) base_url: Option<&'a Spanned<String>>,
    pub(crate) api_key: Option<&'a Spanned<Secret>>,
    pub(crate) plan: Option<&'a Spanned<Plan>>,
    pub(crate) vs_currency: Option<&'a Spanned<String>>,
    pub(crate) http: Option<&'a Spanned<HttpConfig>>,
}

/// CoinGecko, as one pipeline may use it.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) client: HttpClient,
    pub(crate) plan: Plan,
    pub(crate) vs_currency: String,
}

impl Api {
    pub(crate) fn build(options: &Options<'_>, table: std::ops::Range<usize>) -> Result<Self, Vec<PlanError>> {
        let mut faults = Vec::new();
        let base_url = options.base_url.map_or(PUBLIC_ROOT, |url| url.as_str());
        let base_span = options.base_url.map_or(table.clone(), Spanned::span);
        let key = options.api_key.map_or_else(Secret::default, |key| Secret::clone(key));
        let http = options.http.map_or_else(HttpConfig::default, |http| HttpConfig::clone(http));

        let vs_currency = options.vs_currency.map_or("usd", |currency| currency.as_str());
        if vs_currency.is_empty() || !vs_currency.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            let fault = PlanError::new("E012", format!("\"{vs_currency}\" is not a currency of CoinGecko"));
            let fault = fault.at(options.vs_currency.map_or(table.clone(), Spanned::span));
            faults.push(fault.help("they are written in small letters, as \"usd\", \"eur\" or \"btc\""));
        }

        let fault_of = |fault: &ClientFault| {
            let span = match fault {
                ClientFault::BaseUrl(_) | ClientFault::InsecureKey { .. } => base_span.clone(),
                ClientFault::Key => options.api_key.map_or(table.clone(), Spanned::span),
                ClientFault::Option { .. } => options.http.map_or(table.clone(), Spanned::span),
            };
            fault.at(span)
        };
        let client = match HttpClient::new(base_url, &http) {
            Ok(client) => client.classify(classify),
            Err(fault) => {
                faults.push(fault_of(&fault));
                return Err(faults);
            }
        };
        let plan = match options.plan.map(|plan| **plan) {
            Some(plan) => plan,
            None if key.is_empty() => Plan::Keyless,
            None if client.host() == PRO_HOST => Plan::Pro,
            None => Plan::Demo,
        };
        if let Some(fault) = disagreement(options, plan, &key, client.host(), base_span.clone()) {
            faults.push(fault);
        }
        let own_host = [PUBLIC_HOST, PRO_HOST].contains(&client.host());
        let client = match client.key(plan.header(), &key) {
            Ok(client) if own_host => client.default_limits(plan.limits()),
            Ok(client) => client,
            Err(fault) => {
                faults.push(fault_of(&fault));
                return Err(faults);
            }
        };
        if faults.is_empty() { Ok(Self { client, plan, vs_currency: vs_currency.to_owned() }) } else { Err(faults) }
    }

    /// One page of `/coins/markets`: an array of objects.
    pub(crate) async fn markets(&self, run: &RunContext, query: &[(&str, &str)]) -> Result<Vec<Value>, StageError> {
        let query: Vec<_> = [("vs_currency", self.vs_currency.as_str())].into_iter().chain(query.iter().copied()).collect();
        self.client.get_json(run, &["coins", "markets"], &query).await
    }

    /// Is it there, and does it know us?
    pub(crate) async fn ping(&self, run: &RunContext) -> Result<(), StageError> {
        self.client.get_json::<Value>(run, &["ping"], &[]).await.map(drop)
    }
}

/// What plan, key and root say against each other. Only CoinGecko's own hosts are known to take one kind of key alone.
fn disagreement(options: &Options<'_>, plan: Plan, key: &Secret, host: &str, base_span: std::ops::Range<usize>) -> Option<PlanError> {
    let at_plan = options.plan.map_or(base_span.clone(), Spanned::span);
    match plan {
        Plan::Keyless if !key.is_empty() => {
            Some(PlanError::new("E012", "`plan` is \"keyless\", but there is an `api_key`").at(at_plan).help("leave one of them out"))
        }
        Plan::Demo | Plan::Pro if key.is_empty() => {
            Some(PlanError::new("E012", "this plan needs a key, and `api_key` is empty").at(at_plan).help("set `api_key`, or leave `plan` out"))
        }
        Plan::Pro if host == PUBLIC_HOST => {
            Some(PlanError::new("E012", format!("{PUBLIC_HOST} takes no pro keys")).at(base_span).help(format!("set `base_url = \"{PRO_ROOT}\"`")))
        }
        Plan::Demo | Plan::Keyless if host == PRO_HOST => {
            Some(PlanError::new("E012", format!("{PRO_HOST} takes pro keys alone")).at(base_span).help(format!("set `base_url = \"{PUBLIC_ROOT}\"`")))
        }
        _ => None,
    }
}

/// Can this be the id of a coin? It goes into the path of a request.
pub(crate) fn is_id(id: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '/' | '\\' | '?' | '#');
    !id.is_empty() && id.len() <= 200 && !id.contains(odd) && !matches!(id, "." | "..")
}

/// The coins a pipeline names: at least one, none twice, none that no id can be.
pub(crate) fn check_ids(key: &str, ids: &Spanned<Vec<Spanned<String>>>) -> Vec<PlanError> {
    let mut faults = Vec::new();
    if ids.is_empty() {
        faults.push(ids.error("E012", format!("`{key}` names no coin")).help(format!("as {key} = [\"bitcoin\", \"ethereum\"]")));
    }
    let mut seen = std::collections::HashSet::new();
    for id in ids.iter() {
        if !is_id(id) {
            faults.push(id.error("E012", format!("\"{}\" cannot be the id of a coin", id.escape_debug())).help("an id looks like \"bitcoin\""));
        } else if !seen.insert(id.as_str()) {
            faults.push(id.error("E012", format!("\"{}\" is named twice", id.as_str())).label("it is further up already"));
        }
    }
    faults
}

/// How many of the largest coins: 1 to 5000.
pub(crate) fn check_top(top: &Spanned<u32>) -> Option<PlanError> {
    (!(1..=5000).contains(&**top)).then(|| top.error("E012", format!("`top` is {}, and must be from 1 to 5000", **top)))
}

/// Exactly one of two ways to say which coins.
pub(crate) fn check_either<T, U>(
    what: &str,
    (first, a): (&str, &Option<Spanned<T>>),
    (second, b): (&str, &Option<Spanned<U>>),
    table: std::ops::Range<usize>,
) -> Option<PlanError> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let later = if a.span().start > b.span().start { a.span() } else { b.span() };
            Some(PlanError::new("E012", format!("`{first}` and `{second}` both say which coins")).at(later).help("leave one of them out"))
        }
        (None, None) => Some(
            PlanError::new("E011", format!("{what} needs `{first}` or `{second}`")).at(table).help("as `top = 10`, the ten largest by market cap"),
        ),
        _ => None,
    }
}

/// One of a few words, or a fault that names the nearest.
pub(crate) fn check_word(key: &str, word: &Spanned<String>, known: &[&str]) -> Option<PlanError> {
    if known.contains(&word.as_str()) {
        return None;
    }
    let fault = word.error("E012", format!("`{key}` does not know \"{}\"", word.escape_debug()));
    Some(match nearest(word, known.iter().copied()) {
        Some(near) => fault.meant(format_args!("\"{near}\""), format!("\"{near}\"")),
        None => fault.help(format!("one of {}", known.join(", "))),
    })
}
