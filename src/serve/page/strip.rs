//! The last runs of a pipeline: a strip of cells, and the rows they brought.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use pipeline_contract::rfc3339;

use super::chart::{self, Bar, Bars};
use super::html::{age_text, count, counted, run_href, scrolled};
use crate::run::status_name;
use crate::state::{RunRecord, RunStatus};

/// So many runs are shown as cells.
pub(super) const CELLS: usize = 30;

/// The sign in a cell: its colour is never the only one.
fn sign(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Ok => "",
        RunStatus::Partial => "!",
        RunStatus::Failed => "✕",
        RunStatus::Interrupted => "–",
        RunStatus::Open => "…",
    }
}

/// How a run is spoken of in one line.
fn told(run: &RunRecord, now: DateTime<Utc>) -> String {
    let rows = if run.rows.rejected > 0 {
        format!("{} stored, {} rejected", counted(run.rows.written, "row"), count(run.rows.rejected))
    } else {
        format!("{} stored", counted(run.rows.written, "row"))
    };
    format!("{}, {} UTC ({}), {rows}", status_name(run.status), run.started_at.format("%Y-%m-%d %H:%M"), age_text(now - run.started_at))
}

/// How many runs of each status, for those who do not see the cells.
pub(super) fn summed(runs: &[RunRecord]) -> String {
    let kinds = [RunStatus::Ok, RunStatus::Partial, RunStatus::Failed, RunStatus::Interrupted, RunStatus::Open];
    let parts = kinds.into_iter().filter_map(|kind| {
        let n = runs.iter().filter(|run| run.status == kind).count();
        (n > 0).then(|| format!("{n} {}", status_name(kind)))
    });
    let parts: Vec<String> = parts.collect();
    format!("the last {}: {}", counted(runs.len() as u64, "run"), parts.join(", "))
}

/// The newest runs (newest first, as the state gives them) as cells, oldest first. With `links` each leads to its run.
pub(super) fn cells(pipeline: &str, runs: &[RunRecord], links: bool, now: DateTime<Utc>) -> Markup {
    let shown = runs.iter().take(CELLS).rev();
    let empty = CELLS.saturating_sub(runs.len());
    html! {
        @if links {
            ol.strip aria-label={ "Last runs, oldest first" } {
                @for _ in 0..empty { li.cell.none aria-hidden="true" {} }
                @for run in shown {
                    li { a class={ "cell " (status_name(run.status)) } href=(run_href(pipeline, &run.run_id)) title=(told(run, now)) {
                        span aria-hidden="true" { (sign(run.status)) } span.vh { (told(run, now)) }
                    } }
                }
            }
        } @else {
            div.strip role="img" aria-label=(summed(runs.get(..CELLS).unwrap_or(runs))) {
                @for _ in 0..empty { span.cell.none {} }
                @for run in shown { span class={ "cell " (status_name(run.status)) } title=(told(run, now)) { (sign(run.status)) } }
            }
        }
    }
}

/// What the cells mean.
pub(super) fn legend() -> Markup {
    html! {
        p.legend aria-hidden="true" {
            @for status in [RunStatus::Ok, RunStatus::Partial, RunStatus::Failed, RunStatus::Interrupted, RunStatus::Open] {
                span { span class={ "cell " (status_name(status)) } { (sign(status)) } " " (status_name(status)) }
            }
        }
    }
}

/// Rows and rejects of each run, oldest first.
pub(super) fn bars(runs: &[RunRecord]) -> Vec<Bar> {
    runs.iter().rev().map(|run| Bar { at: run.started_at, good: run.rows.written, bad: run.rows.rejected }).collect()
}

/// Rows and rejects over time, with all figures below.
pub(super) fn rows_over_time(runs: &[RunRecord]) -> Markup {
    let bars = bars(runs);
    let (stored, rejected) = bars.iter().fold((0_u64, 0_u64), |(good, bad), bar| (good.saturating_add(bar.good), bad.saturating_add(bar.bad)));
    let text = format!("{} stored and {} rejected in {}", counted(stored, "row"), count(rejected), counted(bars.len() as u64, "run"));
    html! {
        figure.chart data-chart="runs" {
            (chart::bars(&Bars { bars: &bars, marked: None, small: false }, &text))
            figcaption { (text) ". " span.key.good { "stored" } " " span.key.bad { "rejected" } }
            details #runs-table {
                summary { "The figures as a table" }
                (scrolled("Rows of each run", &html! {
                    table {
                        thead { tr { th scope="col" { "began (UTC)" } th.n scope="col" { "stored" } th.n scope="col" { "rejected" } } }
                        tbody { @for bar in bars.iter().rev() {
                            tr { td { time datetime=(rfc3339(bar.at)) { (bar.at.format("%Y-%m-%d %H:%M:%S")) } } td.n { (count(bar.good)) } td.n { (count(bar.bad)) } }
                        } }
                    }
                }))
            }
        }
    }
}
