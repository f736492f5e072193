//! News of a pipeline, sent to a webhook: it failed, it recovered, its data are stale, rows are missing.
//!
//! What is news follows from the verdict ([`crate::watch::report`]) and from what was told before, which the state remembers: so a restart
//! tells nothing twice. [`decide`] is pure; [`Notifier`] sends. A message that could not be sent is tried again at the next look.

mod decide;
mod send;
mod shape;
#[cfg(test)]
mod tests;

use std::time::Duration;

use pipeline_contract::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use decide::{Memory, News, decide};
pub use send::Notifier;

/// What a message may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A run failed, as a whole or in part; or the pipeline does not run.
    Failed,
    /// What failed or was stale is well again.
    Recovered,
    /// The newest stored data are older than they should be.
    Stale,
    /// Rows are missing between stored ones.
    Gap,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Failed, Self::Recovered, Self::Stale, Self::Gap];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Recovered => "recovered",
            Self::Stale => "stale",
            Self::Gap => "gap",
        }
    }
}

/// The shape of a message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// As Slack's incoming webhooks want it, and Mattermost's and Rocket.Chat's.
    Slack,
    /// As Discord's webhooks want it.
    Discord,
    /// An object with everything that is known, for programs.
    Json,
}

/// Where news go.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The webhook. Whoever knows it may write there: it is shown nowhere.
    pub url: Secret,
    /// Its host, to name it by.
    pub host: String,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// The shape of the body.
    pub shape: Shape,
    /// What is told.
    pub on: Vec<Event>,
    /// One message of a kind at most so often.
    pub quiet: Duration,
}

impl Target {
    /// What its memory is called in the state: it stays while the URL stays, and does not give the URL away.
    fn note(&self) -> String {
        format!("notify.{:016x}", xxhash_rust::xxh3::xxh3_64(self.url.expose().as_bytes()))
    }
}
