//! `[notify]`: who is told what.

use std::time::Duration;

use http::Uri;
use pipeline_contract::{ConfigTable, HumanDuration, PlanError, Secret, Spanned, is_this_machine, parse_partial};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::notify::{Event, Shape, Target};

/// `[notify]`: a webhook that is told when something is wrong.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NotifyDef {
    /// The webhook, by https. Whoever knows it may write there: take it from the environment, as `"${WEBHOOK_URL:?}"`.
    url: Spanned<Secret>,
    /// The shape of the messages. Default: by the host, `"slack"` or `"discord"`, else `"json"`.
    format: Option<Shape>,
    /// What is told. Default: all of it.
    #[schemars(length(min = 1))]
    on: Option<Spanned<Vec<Event>>>,
    /// One message of a kind at most so often.
    #[serde(default = "six_hours")]
    #[schemars(extend("default" = "6h"))]
    quiet: HumanDuration,
    /// Sent as `Authorization: Bearer`, where the webhook wants one.
    token: Option<Secret>,
}

fn six_hours() -> HumanDuration {
    HumanDuration(Duration::from_secs(6 * 3600))
}

impl NotifyDef {
    pub(super) fn parse(table: &ConfigTable<'_>) -> (Option<Target>, Vec<PlanError>) {
        let (def, mut faults) = parse_partial::<Self>("[notify]", table);
        let Some(def) = def else { return (None, faults) };
        let from_environment = table.expansions().at(&def.url.span()).is_some();
        let host = match host(def.url.expose()) {
            Ok(host) => host,
            Err((what, help)) => {
                faults.push(def.url.error("E012", format!("`url`: {what}")).help(help));
                return (None, faults);
            }
        };
        if !from_environment && !is_this_machine(&host) {
            let fault = PlanError::warning("W013", "whoever reads this file may write to the webhook").at(def.url.span());
            faults.push(fault.help("put the URL into the environment or `.env`, and write url = \"${WEBHOOK_URL:?}\""));
        }
        let shape = def.format.unwrap_or(match host.as_str() {
            "hooks.slack.com" => Shape::Slack,
            "discord.com" | "discordapp.com" => Shape::Discord,
            _ => Shape::Json,
        });
        let on = def.on.as_deref().cloned().unwrap_or_else(|| Event::ALL.to_vec());
        let url = def.url.into_inner();
        (Some(Target { url, host, token: def.token.filter(|token| !token.is_empty()), shape, on, quiet: def.quiet.0 }), faults)
    }
}

/// The host of a webhook, or what is wrong with its URL, without showing it.
fn host(url: &str) -> Result<String, (&'static str, &'static str)> {
    let https = "write it as https://host/path";
    let uri: Uri = url.parse().map_err(|_| ("expected a URL", https))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(("expected a URL with a host", https))?.to_ascii_lowercase();
    match uri.scheme_str() {
        Some("https") => Ok(host),
        Some("http") if is_this_machine(&host) => Ok(host),
        Some("http") => Err(("expected https: by http the webhook's secret is read on the way", https)),
        _ => Err(("expected a URL that begins with https://", https)),
    }
}
