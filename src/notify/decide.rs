//! What is news.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Event, Target};
use crate::watch::{Health, Report};

/// What was told before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// When each kind was told last.
    told: BTreeMap<Event, DateTime<Utc>>,
    /// What was told and is not over: `failed`, `stale`.
    open: BTreeSet<Event>,
    /// The run that `failed` was told of.
    run: Option<String>,
    /// How many rows were missing when that was told, or fewer if some have come since.
    missing: u64,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What about.
    pub event: Event,
    /// For people: what happened, in a line or a few.
    pub message: String,
}

/// What to tell a target now, and what to remember once it is told.
pub fn decide(report: &Report, memory: &Memory, target: &Target, now: DateTime<Utc>) -> (Vec<News>, Memory) {
    let mut next = memory.clone();
    let mut news = Vec::new();
    let text = |codes: &[&str]| {
        let lines: Vec<&str> = report.reasons.iter().filter(|r| codes.contains(&r.code)).map(|r| r.message.as_str()).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    };
    // A file that was edited badly while the old version goes on is no failure of the pipeline, and whoever edits is awake.
    let down = report.reasons.iter().any(|reason| reason.code == "config" && reason.health == Health::Unhealthy);
    let failed = text(if down { &["config", "failed", "partial"] } else { &["failed", "partial"] });
    let stale = text(&["stale"]);
    let quiet = |event: Event| memory.told.get(&event).is_some_and(|told| within(*told, now, target.quiet));
    let mut tell = |next: &mut Memory, event: Event, message: String| {
        if target.on.contains(&event) {
            news.push(News { event, message });
            next.told.insert(event, now);
        }
    };

    let run = report.last_run.as_ref().map(|run| run.run_id.clone());
    if let Some(message) = failed.clone() {
        // The same run is not told twice, however long ago it was.
        let known = memory.open.contains(&Event::Failed) && memory.run == run;
        if !known && !quiet(Event::Failed) {
            next.open.insert(Event::Failed);
            next.run = run;
            tell(&mut next, Event::Failed, message);
        }
    }
    if let Some(message) = stale.clone()
        && !quiet(Event::Stale)
    {
        next.open.insert(Event::Stale);
        tell(&mut next, Event::Stale, message);
    }
    if failed.is_none() && stale.is_none() && !memory.open.is_empty() {
        let was: Vec<&str> = memory.open.iter().map(|event| event.name()).collect();
        let fresh =
            report.data.as_ref().map_or_else(String::new, |data| format!("; the newest data are of {}", pipeline_contract::rfc3339(data.newest)));
        next.open.clear();
        next.run = None;
        tell(&mut next, Event::Recovered, format!("it is well again (it was {}){fresh}", was.join(", ")));
    }
    if let Some(gaps) = &report.gaps {
        next.missing = memory.missing.min(gaps.missing);
        if gaps.missing > memory.missing && !quiet(Event::Gap) {
            next.missing = gaps.missing;
            let since = gaps.oldest.map_or_else(String::new, |oldest| format!(", the first of them at {}", pipeline_contract::rfc3339(oldest)));
            let rows = |n: u64| if n == 1 { "1 row is".to_owned() } else { format!("{n} rows are") };
            let stretches = if gaps.count == 1 { "1 gap".to_owned() } else { format!("{} gaps", gaps.count) };
            tell(&mut next, Event::Gap, format!("{} missing in {stretches}{since}", rows(gaps.missing)));
        }
    }
    (news, next)
}

/// A clock that was stepped back must not silence anybody.
fn within(told: DateTime<Utc>, now: DateTime<Utc>, quiet: Duration) -> bool {
    (now - told).to_std().is_ok_and(|passed| passed < quiet)
}
