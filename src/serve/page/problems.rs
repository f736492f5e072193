//! What is wrong, and what to do about it.

use maud::{Markup, html};

use super::html::{command, run_href};
use crate::serve::Member;
use crate::watch::{Health, Reason, Report};

/// The reasons of a verdict, each with the command that goes on from there.
pub(super) fn list(member: &Member, report: &Report) -> Markup {
    html! {
        @if !report.reasons.is_empty() {
            ul.reasons {
                @for reason in &report.reasons {
                    li class=(if reason.health == Health::Unhealthy { "bad" } else { "odd" }) {
                        p { strong { (reason.code) } " " (reason.message) }
                        (what_to_do(member, report, reason))
                    }
                }
            }
        }
    }
}

fn what_to_do(member: &Member, report: &Report, reason: &Reason) -> Markup {
    let file = member.path.display();
    let last = report.last_run.as_ref();
    html! {
        @match reason.code {
            "failed" | "partial" => {
                @if let Some(help) = last.and_then(|run| run.error.as_ref()).and_then(|error| error.help.as_ref()) {
                    p.help { strong { "Help: " } (help) }
                }
                @if let Some(run) = last { p { a href=(run_href(&member.name, &run.run_id)) { "The last run of " (member.name) } } }
            }
            "config" => { (command("See all faults of the file", &format!("pipeline check {file}"))) }
            "stale" => { (command("See what a run would bring", &format!("pipeline run {file} --dry-run"))) }
            _ => {}
        }
    }
}
