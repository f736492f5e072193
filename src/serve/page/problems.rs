//! What is wrong, and what to do about it.

use maud::{Markup, html};

use super::html::{command, run_href};
use crate::serve::{Broken, Member};
use crate::watch::{Health, Reason, Report};

/// The reasons of a verdict, each with the command that goes on from there; with `all`, in full.
pub(super) fn list(member: &Member, report: &Report, all: bool) -> Markup {
    html! {
        @if !report.reasons.is_empty() {
            ul.reasons {
                @for reason in &report.reasons {
                    li class=(if reason.health == Health::Unhealthy { "bad" } else { "odd" }) {
                        p { strong { (reason.code) } " " (reason.message) }
                        (what_to_do(member, report, reason, all))
                    }
                }
            }
        }
    }
}

fn what_to_do(member: &Member, report: &Report, reason: &Reason, all: bool) -> Markup {
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
            "config" => {
                @if let Some(fault) = member.live().fault.filter(|_| all) { (checked(&fault)) }
                (command("See all faults of the file", &format!("pipeline check {file}")))
            }
            "stale" => { (command("See what a run would bring", &format!("pipeline run {file} --dry-run"))) }
            _ => {}
        }
    }
}

/// A file of which nothing can be run.
pub(super) fn broken(file: &Broken) -> Markup {
    html! {
        ul.reasons { li.bad {
            p { strong { "config" } " it does not run: " code { (file.path.display()) } " has errors" }
            (checked(&file.fault))
            (command("When they are mended, it runs. Check it", &format!("pipeline check {}", file.path.display())))
        } }
    }
}

/// What `check` says, as it says it.
fn checked(fault: &str) -> Markup {
    html! { pre.scroll tabindex="0" role="region" aria-label="What check says" { code { (fault) } } }
}
