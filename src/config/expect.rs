//! `[expect]`: what should be stored by now.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pipeline_contract::{ConfigTable, HumanDuration, PlanError, Spanned, parse_partial};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::stages::values::read_instant;
use crate::watch::Accepted;

/// `[expect]`: how fresh and how complete what is stored should be.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectConfig {
    /// The stored column that says of what time a row is. If not given, the time of the dedupe key.
    pub time: Option<Spanned<String>>,
    /// The columns that tell series apart. If not given, the others of the dedupe key.
    pub series: Option<Vec<Spanned<String>>>,
    /// Of each series a row comes every so often: where one is missing is a gap. If not given, what the source says.
    pub step: Option<Spanned<HumanDuration>>,
    /// Newest data that are older than this are stale. If not given, it follows from the trigger and the step.
    pub max_age: Option<Spanned<HumanDuration>>,
    /// Gaps before this time do not count (RFC 3339, or a date in UTC).
    since: Option<Spanned<String>>,
    /// Holes that are known and that nobody can fill.
    accept: Vec<AcceptConfig>,
    /// `since` as an instant.
    #[serde(skip)]
    pub begin: Option<DateTime<Utc>>,
    /// `accept` as instants.
    #[serde(skip)]
    pub accepted: Vec<Accepted>,
}

/// One hole that is known.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AcceptConfig {
    /// From this time on (RFC 3339, or a date in UTC).
    from: Spanned<String>,
    /// Before this time (RFC 3339, or a date in UTC).
    to: Spanned<String>,
    /// Only of this series, as `{ coin_id = "bitcoin" }`; of all if not given.
    #[serde(default)]
    series: BTreeMap<String, String>,
}

impl ExpectConfig {
    pub(super) fn parse(table: &ConfigTable<'_>) -> (Option<Self>, Vec<PlanError>) {
        let (expect, mut faults) = parse_partial::<Self>("[expect]", table);
        let Some(mut expect) = expect else { return (None, faults) };
        for (name, length) in [("step", &expect.step), ("max_age", &expect.max_age)] {
            if let Some(length) = length.as_ref().filter(|length| length.0.is_zero()) {
                faults.push(length.error("E012", format!("`{name}`: expected more than no time")).help("leave it out for the default"));
            }
        }
        expect.step = expect.step.filter(|step| !step.0.is_zero());
        expect.begin = expect.since.as_ref().and_then(|since| instant("since", since, &mut faults));
        for accept in &expect.accept {
            let (from, to) = (instant("from", &accept.from, &mut faults), instant("to", &accept.to, &mut faults));
            let (Some(from), Some(to)) = (from, to) else { continue };
            if from >= to {
                faults.push(accept.to.error("E012", "`to`: expected a time after `from`").related(accept.from.span(), "`from` stands here"));
            }
            expect.accepted.push(Accepted { from, to, series: accept.series.clone() });
        }
        (Some(expect), faults)
    }
}

fn instant(name: &str, text: &Spanned<String>, faults: &mut Vec<PlanError>) -> Option<DateTime<Utc>> {
    let at = read_instant(text);
    if at.is_none() {
        let fault = text.error("E012", format!("`{name}`: \"{}\" is not a time", text.escape_debug()));
        faults.push(fault.help("write it as \"2026-05-19\" or \"2026-05-19T15:00:00Z\""));
    }
    at
}
