//! `/`: every pipeline at a glance, those in trouble first.

use std::cmp::Reverse;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use pipeline_contract::StageError;

use super::html::{age, badge, count, countdown, counted, fault, instant, page, pipeline_href, run_href};
use super::{chart, problems, strip};
use crate::run::status_name;
use crate::serve::{Fleet, Live, Member};
use crate::state::RunRecord;
use crate::watch::{Health, Report};

/// What is known of a pipeline at this moment.
pub(super) struct Seen {
    pub(super) report: Report,
    /// Newest first.
    pub(super) runs: Vec<RunRecord>,
    pub(super) live: Live,
}

impl Seen {
    /// Looks at a pipeline's state; `runs` of its newest runs at most.
    pub(super) fn of(member: &Member, runs: usize, now: DateTime<Utc>) -> Result<Self, StageError> {
        Ok(Self { report: member.report(now)?, runs: member.store.runs(runs)?, live: member.live() })
    }
}

pub(super) fn render(fleet: &Fleet, now: DateTime<Utc>) -> Markup {
    let mut all: Vec<(Arc<Member>, Result<Seen, StageError>)> = fleet
        .members()
        .into_iter()
        .map(|member| {
            let seen = Seen::of(&member, strip::CELLS, now);
            (member, seen)
        })
        .collect();
    let broken = fleet.broken();
    let health = |seen: &Result<Seen, StageError>| seen.as_ref().map_or(Health::Unhealthy, |seen| seen.report.status);
    all.sort_by_key(|(_, seen)| Reverse(health(seen)));
    let number = |wanted: Health| all.iter().filter(|(_, seen)| health(seen) == wanted).count() as u64;
    let (good, odd, bad) = (number(Health::Healthy), number(Health::Degraded), number(Health::Unhealthy) + broken.len() as u64);
    let none = all.is_empty() && broken.is_empty();
    let title = match (usize::from(!none), odd, bad) {
        (0, ..) => "No pipelines".to_owned(),
        (_, 0, 0) => "All healthy".to_owned(),
        (_, _, 0) => format!("{odd} degraded"),
        (_, 0, _) => format!("{bad} unhealthy"),
        _ => format!("{bad} unhealthy, {odd} degraded"),
    };
    let body = html! {
        div.title data-live="title" {
            h1 { "Pipelines" }
            @if !none {
                p.tally {
                    @if bad > 0 { span.bad { (bad) " unhealthy" } " " }
                    @if odd > 0 { span.odd { (odd) " degraded" } " " }
                    span.good { (good) " healthy" }
                }
            }
        }
        @if none {
            div.empty data-live="empty" {
                p { strong { "No pipelines yet." } " Put a file into " code { "pipelines/" } ": it is picked up at once." }
                p.command { span { "Write one to begin with: " } code tabindex="0" role="textbox" aria-readonly="true" aria-label="Write one to begin with" { "pipeline new pipeline my-first" } }
            }
        } @else {
            @for file in &broken {
                article.card.unhealthy data-live={ "card-" (file.name) } data-state="unhealthy" data-name=(file.name) {
                    div.head { h2 { a #{ "link-" (file.name) } href=(pipeline_href(&file.name)) { (file.name) } } (badge(Health::Unhealthy)) }
                    (problems::broken(file))
                }
            }
            @for (member, seen) in &all {
                @match seen {
                    Ok(seen) => (card(member, seen, now)),
                    Err(error) => {
                        article.card.unhealthy data-live={ "card-" (member.name) } data-state="unhealthy" data-name=(member.name) {
                            div.head { h2 { a #{ "link-" (member.name) } href=(pipeline_href(&member.name)) { (member.name) } } (badge(Health::Unhealthy)) }
                            (fault("Its state cannot be read", error))
                        }
                    }
                }
            }
            (strip::legend())
        }
    };
    page(&format!("{title} · pipeline"), now, &[], &body)
}

fn card(member: &Member, seen: &Seen, now: DateTime<Utc>) -> Markup {
    let Seen { report, runs, live } = seen;
    let bars = strip::bars(runs);
    html! {
        article class={ "card " (report.status.name()) } data-live={ "card-" (member.name) } data-state=(report.status.name()) data-name=(member.name) {
            div.head {
                h2 { a #{ "link-" (member.name) } href=(pipeline_href(&member.name)) { (member.name) } }
                (badge(report.status))
                @if let Some(text) = &member.description { p.about { (text) } }
            }
            (facts(member, seen, now))
            div.history {
                @if runs.is_empty() {
                    p.quiet { "It has not run yet." }
                } @else {
                    (strip::cells(&member.name, runs, false, now))
                    (chart::bars(&chart::Bars { bars: &bars, marked: None, small: true }, &sparkline_text(runs)))
                }
            }
            @if let Some((_, splits, read, rows)) = &live.run { (under_way(*splits, *read, rows.written)) }
            (problems::list(member, report, false))
        }
    }
}

fn sparkline_text(runs: &[RunRecord]) -> String {
    let (stored, rejected) =
        runs.iter().fold((0_u64, 0_u64), |(a, b), run| (a.saturating_add(run.rows.written), b.saturating_add(run.rows.rejected)));
    format!("{} stored, {} rejected in {}", counted(stored, "row"), count(rejected), counted(runs.len() as u64, "run"))
}

/// A run that goes on now.
pub(super) fn under_way(splits: usize, read: usize, written: u64) -> Markup {
    html! {
        p.running { span.pulse aria-hidden="true" {} "A run is under way: " (read) " of " (counted(splits as u64, "split")) " read, " (counted(written, "row")) " stored." }
    }
}

/// Freshness, next and last run.
pub(super) fn facts(member: &Member, seen: &Seen, now: DateTime<Utc>) -> Markup {
    let Seen { report, .. } = seen;
    html! {
        dl.facts {
            div {
                dt { "Newest data" }
                @match &report.data {
                    Some(data) => {
                        dd class=[data.stale.then_some("bad")] { span.big { (age(data.newest, now)) } @if data.stale { " " span.tag.bad { "stale" } } }
                        dd.small { (instant(data.newest)) }
                    }
                    None => { dd { span.big.quiet { "–" } } dd.small { @if report.last_success.is_none() { "nothing is stored yet" } @else { "not known" } } }
                }
            }
            div {
                dt { "Next run" }
                @match report.next_tick {
                    Some(tick) => { dd { span.big { (countdown(tick, now)) } } dd.small { (instant(tick)) } }
                    None => { dd { span.big.quiet { "–" } } dd.small { "when it is asked for" } }
                }
            }
            div {
                dt { "Last run" }
                @match &report.last_run {
                    Some(run) => {
                        dd { span.big { a href=(run_href(&member.name, &run.run_id)) { (run.status) } " " (age(run.started_at, now)) } }
                        dd.small { (count(run.rows.written)) " stored" @if run.rows.rejected > 0 { ", " span.bad { (count(run.rows.rejected)) " rejected" } } }
                    }
                    None => { dd { span.big.quiet { "–" } } dd.small { "not yet" } }
                }
            }
            div {
                dt { "Last good run" }
                @match report.last_success {
                    Some(at) => { dd { span.big { (age(at, now)) } } dd.small { (instant(at)) } }
                    None => { dd { span.big.quiet { "–" } } dd.small { "none that is remembered" } }
                }
            }
        }
    }
}

/// The name of a run's status, as a sign and a word.
pub(super) fn status(run: &RunRecord) -> Markup {
    let name = status_name(run.status);
    html! { span class={ "status " (name) } { (name) } }
}
