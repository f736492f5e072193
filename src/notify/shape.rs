//! The bodies that webhooks want.

use chrono::{DateTime, Utc};
use pipeline_contract::rfc3339;
use serde_json::{Value, json};

use super::{News, Shape};
use crate::watch::Report;

/// Discord refuses more than 2000 characters, and nobody reads more than this in a chat.
const LONGEST: usize = 1500;

/// The body of a message.
pub(super) fn body(shape: Shape, report: &Report, news: &News, at: DateTime<Utc>) -> Value {
    let name = &report.pipeline;
    let event = news.event.name();
    match shape {
        // https://docs.slack.dev/messaging/formatting-message-text: `&`, `<` and `>` are its own.
        Shape::Slack => {
            let message = cut(&news.message).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            json!({"text": format!("*{name}* {event}\n{message}")})
        }
        // https://docs.discord.com/developers/resources/webhook: what the far side wrote must call nobody.
        Shape::Discord => json!({"content": format!("**{name}** {event}\n{}", cut(&news.message)), "allowed_mentions": {"parse": []}}),
        Shape::Json => json!({
            "event": event, "pipeline": name, "at": rfc3339(at), "message": news.message, "status": report.status,
            "run_id": report.last_run.as_ref().map(|run| &run.run_id), "report": report,
        }),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}
