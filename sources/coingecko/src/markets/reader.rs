//! Reads the market list page by page.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use pipeline_contract::{Category, Position, Read, Reader, Reject, RunContext, StageError, async_trait};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Shared, row};
use crate::api::PAGE;

/// Which coins.
pub(super) enum Ask {
    /// So many of the largest.
    Top(usize),
    /// These, in groups of one request each.
    Ids(Vec<Vec<String>>),
}

impl Ask {
    pub(super) fn pages(&self) -> usize {
        match self {
            Self::Top(count) => count.div_ceil(PAGE),
            Self::Ids(groups) => groups.len(),
        }
    }
}

/// Where a reader is: the next page, and the coins of the page before, as a rank that moves between two requests brings a coin again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Place {
    page: usize,
    taken: usize,
    last: Vec<String>,
}

pub(super) struct MarketsReader {
    shared: Arc<Shared>,
    run: RunContext,
    place: Place,
    seen: HashSet<String>,
}

impl MarketsReader {
    pub(super) fn new(shared: Arc<Shared>, resume: Option<Position>, run: RunContext) -> Result<Self, StageError> {
        let place: Place = match resume {
            Some(Position(value)) => serde_json::from_value(value)
                .map_err(|cause| StageError::developer(format!("coingecko_markets was given a position that is not its own: {cause}")))?,
            None => Place::default(),
        };
        let seen = place.last.iter().cloned().collect();
        Ok(Self { shared, run, place, seen })
    }

    async fn fetch(&self) -> Result<Vec<Value>, StageError> {
        let api = &self.shared.api;
        let changes = self.shared.changes.join(",");
        let mut query: Vec<(&str, &str)> = vec![("order", "market_cap_desc"), ("sparkline", "false")];
        if !changes.is_empty() {
            query.push(("price_change_percentage", &changes));
        }
        match &self.shared.ask {
            Ask::Top(count) => {
                let (per_page, page) = ((*count).min(PAGE).to_string(), (self.place.page + 1).to_string());
                query.extend([("per_page", per_page.as_str()), ("page", page.as_str())]);
                let answer = api.markets(&self.run, &query).await?;
                if self.place.page == 0 && answer.is_empty() {
                    return Err(StageError::transient(Category::ServerError, "CoinGecko's list of the largest coins is empty"));
                }
                Ok(answer)
            }
            Ask::Ids(groups) => {
                let (ids, per_page) = (groups.get(self.place.page).map(|group| group.join(",")).unwrap_or_default(), PAGE.to_string());
                query.extend([("ids", ids.as_str()), ("per_page", per_page.as_str()), ("page", "1")]);
                api.markets(&self.run, &query).await
            }
        }
    }

    /// One page's rows, and where the reader is after it.
    fn digest(&self, answer: Vec<Value>, now: DateTime<Utc>) -> (Read, Place, HashSet<String>) {
        let (mut rows, mut changes, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = self.seen.clone();
        let (mut taken, mut last) = (self.place.taken, Vec::new());
        let short = answer.len() < PAGE;
        let most = if let Ask::Top(count) = self.shared.ask { count } else { usize::MAX };
        for entry in answer {
            if taken >= most {
                break;
            }
            if let Some(id) = entry.get("id").and_then(Value::as_str) {
                if !seen.insert(id.to_owned()) {
                    continue;
                }
                last.push(id.to_owned());
            }
            taken += 1;
            match row::Market::from_json(&entry, &self.shared.changes, now) {
                Ok((market, change)) => {
                    rows.push(market);
                    changes.push(change);
                }
                Err(message) => rejects.push(Reject::new(entry, "coingecko:markets", message)),
            }
        }
        let mut page = self.place.page + 1;
        match &self.shared.ask {
            // A page that is not full is the last.
            Ask::Top(count) if short || taken >= *count => page = self.shared.ask.pages(),
            Ask::Top(_) => {}
            Ask::Ids(groups) => {
                let asked = groups.get(self.place.page).into_iter().flatten();
                rejects.extend(
                    asked
                        .filter(|id| !seen.contains(*id))
                        .map(|id| Reject::new(json!({ "coin_id": id }), "coingecko:unknown_id", format!("CoinGecko lists no market for \"{id}\""))),
                );
            }
        }
        let place = Place { page, taken, last };
        let position = Position(json!({ "page": place.page, "taken": place.taken, "last": place.last }));
        (Read { batch: row::batch(&self.shared.schema, &rows, &changes), rejects, position }, place, seen)
    }
}

#[async_trait]
impl Reader for MarketsReader {
    async fn read(&mut self) -> Result<Option<Read>, StageError> {
        if self.place.page >= self.shared.ask.pages() {
            return Ok(None);
        }
        let answer = self.fetch().await?;
        // Nothing is awaited from here on: a read that is dropped while it waits has changed nothing.
        let (read, place, seen) = self.digest(answer, self.run.ports.clock.now().trunc_subsecs(0));
        self.place = place;
        self.seen = seen;
        Ok(Some(read))
    }
}
