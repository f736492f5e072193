//! `/pipelines/{name}/runs/{run_id}`: one run, its timing and its splits.

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::chart::{self, Bar, Bars};
use super::html::{age, command, count, error, fault, instant, page, pipeline_href, run_href, scrolled, took, words};
use super::overview::{status, under_way};
use crate::serve::Member;
use crate::state::{RunRecord, RunStatus, SplitStatus};

/// So many runs are compared with.
const AROUND: usize = 60;

/// So many errors of splits are shown.
const ERRORS: usize = 50;

/// `None` when the run is not remembered.
pub(super) fn render(member: &Member, run_id: &str, now: DateTime<Utc>) -> Option<Markup> {
    let above = [(&*member.name, pipeline_href(&member.name))];
    let run = match member.store.run(run_id) {
        Ok(run) => run?,
        Err(error) => {
            let body = html! { h1 { "Run" } (fault("The state cannot be read", &error)) };
            return Some(page("Run · pipeline", now, &above, &body));
        }
    };
    let others = member.store.runs(AROUND).unwrap_or_default();
    let body = html! {
        div.title data-live="title" data-state=(crate::run::status_name(run.status)) data-name={ "The run" } {
            h1 { "Run of " time datetime=(pipeline_contract::rfc3339(run.tick)) { (run.tick.format("%Y-%m-%d %H:%M:%S")) " UTC" } }
            (status(&run))
        }
        p.about { code { (run.run_id) } }
        div data-live="run" {
            @if let (RunStatus::Open, Some((id, splits, read, rows))) = (run.status, member.live().run) {
                @if id == run.run_id { (under_way(splits, read, rows.written)) }
            }
            @if let Some(failed) = &run.error { (error(failed)) }
            (facts(&run, &others, now))
            @if run.rows.rejected > 0 { (command("See what was rejected, and why", &format!("pipeline rejects {}", member.path.display()))) }
        }
        section aria-labelledby="timing" data-live="timing" {
            h2 #timing { "Beside other runs" }
            (durations(&run, &others))
        }
        section aria-labelledby="splits" data-live="splits" {
            h2 #splits { "Splits" }
            (errors(&run))
            (split_table(&run))
        }
        (neighbours(member, &run, &others))
    };
    Some(page(&format!("{} {} · pipeline", member.name, crate::run::status_name(run.status)), now, &above, &body))
}

fn lasted(run: &RunRecord) -> Option<TimeDelta> {
    run.ended_at.map(|end| end - run.started_at)
}

/// Half of the runs that ended took no longer than this.
fn median(runs: &[RunRecord]) -> Option<TimeDelta> {
    let mut all: Vec<TimeDelta> = runs.iter().filter_map(lasted).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

fn facts(run: &RunRecord, others: &[RunRecord], now: DateTime<Utc>) -> Markup {
    let waited = run.started_at - run.tick;
    let spent = lasted(run);
    html! {
        dl.facts {
            div { dt { "Fired by" } dd { span.big { (run.cause) } } dd.small { "for " (instant(run.tick)) } }
            div { dt { "Began" } dd { span.big { (age(run.started_at, now)) } } dd.small { (instant(run.started_at)) ", " (took(waited)) " after its tick" } }
            div {
                dt { "Took" }
                @match spent {
                    Some(spent) => dd { span.big { (took(spent)) } },
                    None => dd { span.big { (took(now - run.started_at)) } " so far" },
                }
                dd.small { @if let Some(median) = median(others) { "half of the runs take " (took(median)) " at most" } }
            }
            div {
                dt { "Ended" }
                @match run.ended_at {
                    Some(at) => { dd { span.big { (age(at, now)) } } dd.small { (instant(at)) } }
                    None => { dd { span.big.quiet { "–" } } dd.small { "not yet" } }
                }
            }
            div {
                dt { "Rows" }
                dd { span.big { (count(run.rows.written)) } " stored" }
                dd.small { (words(&run.rows)) @if let Some(rate) = rate(run) { "; " (rate) " rows read a second" } }
            }
            @if let Some((from, to)) = &run.window {
                div {
                    dt { "Window" }
                    dd { @match from { Some(from) => (instant(*from)), None => "the beginning" } }
                    dd.small { "to " @match to { Some(to) => (instant(*to)), None => "now" } }
                }
            }
        }
    }
}

fn rate(run: &RunRecord) -> Option<String> {
    let ms = lasted(run)?.num_milliseconds();
    (ms > 0 && run.rows.read > 0).then(|| format!("{:.1}", run.rows.read as f64 * 1000.0 / ms as f64))
}

fn durations(run: &RunRecord, others: &[RunRecord]) -> Markup {
    let ended: Vec<(&RunRecord, TimeDelta)> = others.iter().rev().filter_map(|other| lasted(other).map(|spent| (other, spent))).collect();
    let marked = ended.iter().position(|(other, _)| other.run_id == run.run_id);
    let seconds = |spent: &TimeDelta| u64::try_from(spent.num_milliseconds().max(0)).unwrap_or_default();
    let bars: Vec<Bar> = ended.iter().map(|(other, spent)| Bar { at: other.started_at, good: seconds(spent), bad: 0 }).collect();
    if bars.is_empty() {
        return html! { p.quiet { "No run has ended yet." } };
    }
    let text = match (lasted(run), median(others)) {
        (Some(spent), Some(median)) => format!("This run took {}; half of the newest {} took {} at most", took(spent), bars.len(), took(median)),
        (None, Some(median)) => format!("Half of the newest {} runs took {} at most", bars.len(), took(median)),
        _ => "How long the newest runs took".to_owned(),
    };
    html! {
        figure.chart data-chart="durations" {
            (chart::bars(&Bars { bars: &bars, marked: Some(marked.unwrap_or(usize::MAX)), small: false }, &text))
            figcaption { (text) ". Milliseconds, oldest run first; this run is the " span.key.good { "strong" } " one." }
            details #durations-table {
                summary { "The figures as a table" }
                (scrolled("How long the newest runs took", &html! {
                    table {
                        thead { tr { th scope="col" { "began (UTC)" } th.n scope="col" { "took (ms)" } } }
                        tbody { @for bar in bars.iter().rev() { tr { td { (bar.at.format("%Y-%m-%d %H:%M:%S")) } td.n { (bar.good) } } } }
                    }
                }))
            }
        }
    }
}

/// The errors of its splits, before the table: there is room for them.
fn errors(run: &RunRecord) -> Markup {
    html! {
        @for (split, failed) in run.splits.iter().filter_map(|split| split.error.as_ref().map(|failed| (split, failed))).take(ERRORS) {
            h3 { (split.split.id) }
            (error(failed))
        }
    }
}

fn split_table(run: &RunRecord) -> Markup {
    if run.splits.is_empty() {
        return html! { p.quiet { "It has no splits: it ended before they were listed." } };
    }
    scrolled(
        "The splits of this run",
        &html! {
            table {
                thead { tr {
                    th scope="col" { "split" } th scope="col" { "status" } th.n scope="col" { "read" } th.n scope="col" { "stored" } th.n scope="col" { "known" }
                    th.n scope="col" { "rejected" } th.n scope="col" { "opened" }
                } }
                tbody {
                    @for split in &run.splits {
                        @let name = match split.status { SplitStatus::Pending => "pending", SplitStatus::Ok => "ok", SplitStatus::Failed => "failed" };
                        tr {
                            th scope="row" { (split.split.id) }
                            td { span class={ "status " (name) } { (name) } }
                            td.n { (count(split.rows.read)) } td.n { (count(split.rows.written)) } td.n { (count(split.rows.duplicates)) }
                            td.n { (count(split.rows.rejected)) } td.n { (split.attempts) "×" }
                        }
                    }
                }
            }
        },
    )
}

fn neighbours(member: &Member, run: &RunRecord, others: &[RunRecord]) -> Markup {
    let place = others.iter().position(|other| other.run_id == run.run_id);
    let older = place.and_then(|place| others.get(place + 1));
    let newer = place.and_then(|place| place.checked_sub(1)).and_then(|place| others.get(place));
    html! {
        nav.neighbours aria-label="Other runs" data-live="neighbours" {
            @if let Some(older) = older { a href=(run_href(&member.name, &older.run_id)) rel="prev" { "← the run before" } }
            @if let Some(newer) = newer { a href=(run_href(&member.name, &newer.run_id)) rel="next" { "the run after →" } }
        }
    }
}
