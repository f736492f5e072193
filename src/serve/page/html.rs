//! What all pages share: the frame around them, times, figures, addresses.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use maud::{DOCTYPE, Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pipeline_contract::{HumanDuration, StageError, rfc3339};

use super::assets;
use crate::state::{Counts, ErrorRecord};
use crate::watch::Health;

/// Without JavaScript the page is loaded anew so often, in seconds.
const REFRESH: u32 = 15;

/// What an address may hold as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A page. `above` are the links to the pages above it, by name and address.
pub(super) fn page(title: &str, now: DateTime<Utc>, above: &[(&str, String)], body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-now=(rfc3339(now)) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) }
                link rel="icon" type="image/svg+xml" href=(assets::ICON.href());
                link rel="stylesheet" href=(assets::STYLE.href());
                script src=(assets::SCRIPT.href()) defer {}
                noscript { meta http-equiv="refresh" content=(REFRESH); }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    nav aria-label="Where you are" {
                        ol {
                            li { a.home #home href="/" { "pipeline" } }
                            @for (name, href) in above { li { a href=(href) { (name) } } }
                        }
                    }
                    p.clock { span.vh { "This page is of " } (instant(now)) }
                }
                p #offline role="alert" hidden {}
                p.vh #announcer role="status" aria-live="polite" {}
                main #main tabindex="-1" { (body) }
            }
        }
    }
}

/// The page for an address that is none.
pub(super) fn missing(now: DateTime<Utc>) -> Markup {
    let body = html! {
        h1 { "There is nothing here" }
        p { "No pipeline, no run and no page has this address. A run may have been forgotten: " code { "[run] keep_runs" } " says how many are kept." }
        p { a href="/" { "All pipelines" } }
    };
    page("Not found · pipeline", now, &[], &body)
}

/// Where a pipeline's page is.
pub(super) fn pipeline_href(name: &str) -> String {
    format!("/pipelines/{}", encoded(name))
}

/// Where a run's page is.
pub(super) fn run_href(name: &str, run_id: &str) -> String {
    format!("{}/runs/{}", pipeline_href(name), encoded(run_id))
}

/// A text as a part of an address.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// An instant, in UTC, to the second.
pub(super) fn instant(at: DateTime<Utc>) -> Markup {
    html! { time datetime=(rfc3339(at)) { (at.format("%Y-%m-%d %H:%M:%S")) span.zone { " UTC" } } }
}

/// How long ago something was, or will be. The script keeps it true.
pub(super) fn age(at: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    html! { span.age data-age=(rfc3339(at)) { (age_text(now - at)) } }
}

/// As `live.js` writes it.
pub(super) fn age_text(age: TimeDelta) -> String {
    let seconds = age.num_seconds();
    let text = match seconds.unsigned_abs() {
        n @ 0..120 => format!("{n} s"),
        n @ 120..7200 => format!("{} min", n / 60),
        n @ 7200..172_800 => format!("{} h", n / 3600),
        n => format!("{} days", n / 86_400),
    };
    if seconds < 0 { format!("in {text}") } else { format!("{text} ago") }
}

/// How long it is until something happens, to the second. The script counts.
pub(super) fn countdown(at: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    html! { span.countdown data-countdown=(rfc3339(at)) { (countdown_text(at - now)) } }
}

/// As `live.js` writes it.
pub(super) fn countdown_text(left: TimeDelta) -> String {
    let seconds = left.num_seconds().max(0);
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match days {
        0 => format!("in {hours}:{minutes:02}:{seconds:02}"),
        1 => format!("in 1 day {hours}:{minutes:02}:{seconds:02}"),
        _ => format!("in {days} days {hours}:{minutes:02}:{seconds:02}"),
    }
}

/// How long something took.
pub(super) fn took(span: TimeDelta) -> String {
    let ms = span.num_milliseconds().max(0);
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..100_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => HumanDuration(Duration::from_secs(u64::try_from(ms / 1000).unwrap_or_default())).to_string(),
    }
}

/// A count with its thousands apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub(super) fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// What became of rows, in words; what is zero is left out.
pub(super) fn words(rows: &Counts) -> String {
    let parts = [
        (rows.written, "stored"),
        (rows.duplicates, "known"),
        (rows.conflicts, "in conflict"),
        (rows.rejected, "rejected"),
        (rows.filtered, "filtered out"),
    ];
    let named: Vec<String> = parts.iter().filter(|(n, name)| *n > 0 || *name == "stored").map(|(n, name)| format!("{} {name}", count(*n))).collect();
    format!("{} read: {}", count(rows.read), named.join(", "))
}

/// How well a pipeline is: a sign and a word, never a colour alone.
pub(super) fn badge(health: Health) -> Markup {
    let (class, sign) = match health {
        Health::Healthy => ("good", "✓"),
        Health::Degraded => ("odd", "!"),
        Health::Unhealthy => ("bad", "✕"),
    };
    html! { span class={ "badge " (class) } { span.sign aria-hidden="true" { (sign) } (health.name()) } }
}

/// An error with what to do about it.
pub(super) fn error(error: &ErrorRecord) -> Markup {
    html! {
        div.error {
            p { strong { (error.category) } ": " (error.message) }
            @if let Some(help) = &error.help { p.help { strong { "Help: " } (help) } }
        }
    }
}

/// Something that could not be read.
pub(super) fn fault(what: &str, fault: &StageError) -> Markup {
    html! {
        div.error {
            p { strong { (what) } ": " (fault.message) }
            @if let Some(help) = &fault.help { p.help { strong { "Help: " } (help) } }
        }
    }
}

/// A command to run in a terminal. A click or the keyboard selects it whole.
pub(super) fn command(why: &str, text: &str) -> Markup {
    html! { p.command { span { (why) ": " } code tabindex="0" role="textbox" aria-readonly="true" aria-label=(why) { (text) } } }
}

/// A table that scrolls by itself where it is wider than the page.
pub(super) fn scrolled(label: &str, table: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (table) } }
}
