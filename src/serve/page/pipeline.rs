//! `/pipelines/{name}`: one pipeline, all that is known of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use pipeline_contract::{Disk, Gap, HumanDuration, Refusal, StageError, rfc3339};

use super::chart::{self, Candle, Stretch};
use super::html::{age, badge, command, count, counted, encoded, error, fault, instant, page, pipeline_href, run_href, scrolled, took};
use super::overview::{Seen, facts, status, under_way};
use super::rows::{Newest, Shape, Values, plain};
use super::{problems, rejects, strip};
use crate::plan::drawn;
use crate::run::reason;
use crate::serve::{Broken, Member};
use crate::state::{RunRecord, SplitStatus, SqliteCredits, TickStatus};
use crate::watch::Health;

/// So many runs are looked at.
const RUNS: usize = 100;
/// So many of them are listed.
const LISTED: usize = 15;
/// So many series have a lane on the time line of gaps.
const LANES: usize = 12;
/// So many gaps are listed.
const GAPS: usize = 50;

/// The page; `series` is the one that is to be drawn.
pub(super) fn render(
    member: &Member,
    disk: &dyn Disk,
    newest: Result<Option<Arc<Newest>>, StageError>,
    series: Option<&str>,
    now: DateTime<Utc>,
) -> Markup {
    let seen = match Seen::of(member, RUNS, now) {
        Ok(seen) => seen,
        Err(failed) => {
            let body = html! {
                div.title data-live="title" data-state="unhealthy" data-name=(member.name) { h1 { (member.name) } (badge(Health::Unhealthy)) }
                (fault("Its state cannot be read", &failed))
            };
            return page(&format!("{} unreadable · pipeline", member.name), now, &[], &body);
        }
    };
    let Seen { report, runs, live } = &seen;
    let body = html! {
        div.title data-live="title" data-state=(report.status.name()) data-name=(member.name) { h1 { (member.name) } (badge(report.status)) }
        @if let Some(text) = &member.description { p.about { (text) } }
        p.about { code { (member.path.display()) } }
        div data-live="now" {
            @if let Some((_, splits, read, rows)) = &live.run { (under_way(*splits, *read, rows.written)) }
            (problems::list(member, report, true))
            (facts(member, &seen, now))
        }
        (section("newest", "Newest rows", &newest_rows(member, newest, series)))
        (section("runs", "Runs", &run_list(member, runs, now)))
        (section("rows", "Rows and rejects over time", &html! {
            @if runs.is_empty() { p.quiet { "Nothing to draw before its first run." } } @else { (strip::rows_over_time(runs)) }
        }))
        (section("last-splits", "Splits of the last run", &last_splits(member, runs.first())))
        (section("gaps", "Gaps", &gaps(member, live.gaps.as_deref(), &live.refused, live.newest, now)))
        (section("rejected", "Rejects", &rejects::section(member, disk)))
        (section("quota", "Requests", &quota(member, now)))
        section.plan aria-labelledby="plan" { h2 #plan { "Plan" } (plan(member, now)) }
    };
    page(&format!("{} {} · pipeline", member.name, report.status.name()), now, &[], &body)
}

/// The page of a file of which nothing can be run.
pub(super) fn broken(file: &Broken, now: DateTime<Utc>) -> Markup {
    let body = html! {
        div.title data-live="title" data-state="unhealthy" data-name=(file.name) { h1 { (file.name) } (badge(Health::Unhealthy)) }
        div data-live="now" { (problems::broken(file)) }
    };
    page(&format!("{} does not run · pipeline", file.name), now, &[], &body)
}

fn section(id: &str, title: &str, body: &Markup) -> Markup {
    html! { section aria-labelledby=(id) data-live=(id) { h2 #(id) { (title) } (body) } }
}

fn newest_rows(member: &Member, newest: Result<Option<Arc<Newest>>, StageError>, asked: Option<&str>) -> Markup {
    let newest = match newest {
        Ok(Some(newest)) => newest,
        Ok(None) => {
            return html! { p.quiet { "What is stored has no time, or no number, to draw: " code { "pipeline read " (member.path.display()) } " shows it." } };
        }
        Err(failed) => return fault("What is stored cannot be read", &failed),
    };
    let Some((name, rows)) = asked.and_then(|asked| newest.series.get_key_value(asked)).or_else(|| newest.series.first_key_value()) else {
        return html! { p.quiet { "Nothing is stored yet. The first rows appear here." } };
    };
    html! {
        @if newest.series.len() > 1 {
            nav.series aria-label="Series" { ul {
                @for other in newest.series.keys() {
                    li { a #{ "series-" (encoded(other)) } href={ (pipeline_href(&member.name)) "?series=" (encoded(other)) } aria-current=[(other == name).then_some("true")] { (other) } }
                }
            } }
        }
        (drawn_rows(&newest, name, rows))
    }
}

fn drawn_rows(newest: &Newest, name: &str, rows: &BTreeMap<DateTime<Utc>, Values>) -> Markup {
    let columns: Vec<&str> = match &newest.shape {
        Shape::Candles => vec!["open", "high", "low", "close"],
        Shape::Line(column) => vec![column],
    };
    let last = rows.last_key_value().map(|(at, values)| {
        let values: Vec<String> = columns.iter().zip(values).map(|(column, value)| format!("{column} {value}")).collect();
        format!("{}: {}", rfc3339(*at), values.join(", "))
    });
    let of = if name.is_empty() { String::new() } else { format!(" of {name}") };
    let text = format!("The newest {}{of}. The last, {}", counted(rows.len() as u64, "row"), last.unwrap_or_default());
    html! {
        figure.chart data-chart=(if newest.shape == Shape::Candles { "candles" } else { "line" }) data-series=(name) {
            @match &newest.shape {
                Shape::Candles => {
                    @let candles: Vec<Candle> = rows.iter().map(|(at, [open, high, low, close])| Candle { at: *at, open: *open, high: *high, low: *low, close: *close }).collect();
                    (chart::candles(&candles, &text))
                }
                Shape::Line(_) => {
                    @let points: Vec<(DateTime<Utc>, f64)> = rows.iter().map(|(at, values)| (*at, values[0])).collect();
                    (chart::line(&points, &text))
                }
            }
            figcaption { (text) "." @if newest.shape == Shape::Candles { " Hollow candles rose, filled ones did not." } }
            details #newest-table {
                summary { "The figures as a table" }
                (scrolled("The newest rows", &html! {
                    table {
                        thead { tr { th scope="col" { (newest.time) } @for column in &columns { th.n scope="col" { (column) } } } }
                        tbody { @for (at, values) in rows.iter().rev() {
                            tr { td { time datetime=(rfc3339(*at)) { (rfc3339(*at)) } } @for (_, value) in columns.iter().zip(values) { td.n { (value) } } }
                        } }
                    }
                }))
            }
        }
    }
}

fn run_list(member: &Member, runs: &[RunRecord], now: DateTime<Utc>) -> Markup {
    if runs.is_empty() {
        return html! { p.quiet { "It has not run yet." } (command("Run it now", &format!("pipeline run {} --once", member.path.display()))) };
    }
    html! {
        (strip::cells(&member.name, runs, true, now))
        (strip::legend())
        (scrolled("The last runs", &html! {
            table {
                thead { tr { th scope="col" { "run" } th scope="col" { "status" } th.n scope="col" { "took" } th.n scope="col" { "read" } th.n scope="col" { "stored" } th.n scope="col" { "rejected" } th scope="col" { "error" } } }
                tbody {
                    @for run in runs.iter().take(LISTED) {
                        tr {
                            th.when scope="row" { a href=(run_href(&member.name, &run.run_id)) { (run.started_at.format("%Y-%m-%d %H:%M:%S")) } " " (age(run.started_at, now)) }
                            td { (status(run)) @if run.cause != "schedule" { " " span.small { (run.cause) } } }
                            td.n { @match run.ended_at { Some(end) => (took(end - run.started_at)), None => "–" } }
                            td.n { (count(run.rows.read)) } td.n { (count(run.rows.written)) } td.n { (count(run.rows.rejected)) }
                            td.why { @if let Some(failed) = run.error.as_ref().or_else(|| run.splits.iter().find_map(|split| split.error.as_ref())) {
                                span.clamp title=(failed.message) { (failed.category) ": " (failed.message) }
                            } }
                        }
                    }
                }
            }
        }))
        (skipped(member))
    }
}

/// Ticks that did not run.
fn skipped(member: &Member) -> Markup {
    let ticks = member.store.ticks(RUNS).unwrap_or_default();
    let skipped: Vec<_> = ticks.iter().filter(|tick| tick.status == TickStatus::Skipped).take(5).collect();
    html! {
        @if !skipped.is_empty() {
            h3 { "Ticks that did not run" }
            ul.ticks {
                @for tick in skipped {
                    li {
                        (instant(tick.tick))
                        @if tick.count > 1 { " to " (instant(tick.until)) " (" (counted(tick.count, "tick")) ")" }
                        @if let Some(reason) = &tick.reason { ": " (reason) }
                    }
                }
            }
        }
    }
}

fn last_splits(member: &Member, run: Option<&RunRecord>) -> Markup {
    let Some(run) = run else { return html! { p.quiet { "None yet." } } };
    let failed: Vec<_> = run.splits.iter().filter(|split| split.status == SplitStatus::Failed).collect();
    html! {
        p {
            (counted(run.splits.len() as u64, "split"))
            @if failed.is_empty() { ", none failed. " } @else { ", " strong.bad { (failed.len()) " failed" } ". " }
            a href=(run_href(&member.name, &run.run_id)) { "All of them, with timing" }
        }
        @for split in failed.iter().take(10) {
            h3 { (split.split.id) }
            @if let Some(failed) = &split.error { (error(failed)) }
        }
    }
}

fn series_name(gap: &Gap) -> String {
    gap.series.values().map(plain).collect::<Vec<_>>().join(", ")
}

fn gaps(member: &Member, gaps: Option<&[Gap]>, refused: &[Refusal], newest: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Markup {
    let Some(gaps) = gaps else {
        return html! { p.quiet { "Not known: nobody said how far apart the rows of a series should be." } };
    };
    let Some(first) = gaps.iter().map(|gap| gap.from).min() else {
        return html! { p { "No row is missing." @if let Some(step) = member.expected.step { " There is one every " (HumanDuration(step)) "." } } };
    };
    let mut names: Vec<String> = gaps.iter().map(series_name).collect();
    names.sort_unstable();
    names.dedup();
    let last = gaps.iter().map(|gap| gap.to).chain(newest).max().unwrap_or(now);
    let pad = ((last - first) / 12).max(TimeDelta::minutes(1));
    let (from, to) = (first.checked_sub_signed(pad).unwrap_or(first), last.max(first + TimeDelta::minutes(1)));
    let lane = |gap: &Gap| names.iter().position(|name| *name == series_name(gap)).filter(|lane| *lane < LANES);
    let stretches: Vec<Stretch> = gaps.iter().filter_map(|gap| lane(gap).map(|lane| Stretch { lane, from: gap.from, to: gap.to })).collect();
    let missing: u64 = gaps.iter().map(|gap| gap.missing).sum();
    let text = format!("{} missing in {}, the first of {}", counted(missing, "row"), counted(gaps.len() as u64, "gap"), rfc3339(first));
    html! {
        figure.chart data-chart="gaps" {
            div.lanes {
                ol.lane-names { @for name in names.iter().take(LANES) { li { @if name.is_empty() { "all rows" } @else { (name) } } } }
                (chart::lanes(names.len().min(LANES), from, to, &stretches, &text))
            }
            figcaption { (text) "." @if names.len() > LANES { " Drawn are the first " (LANES) " of " (names.len()) " series." } }
        }
        (scrolled("Gaps", &html! {
            table #gap-table {
                thead { tr { th scope="col" { "series" } th scope="col" { "first row that is missing" } th scope="col" { "first row that is there again" } th.n scope="col" { "rows" } th scope="col" { "why it stays" } } }
                tbody {
                    @for gap in gaps.iter().rev().take(GAPS) {
                        tr { th scope="row" { (series_name(gap)) } td { (instant(gap.from)) } td { (instant(gap.to)) } td.n { (count(gap.missing)) } td { (reason(refused, gap).unwrap_or_default()) } }
                    }
                }
            }
        }))
        (command("Ask for them", &format!("pipeline run {} --fill-gaps", member.path.display())))
        @if gaps.len() > GAPS { p.small { "And " (counted((gaps.len() - GAPS) as u64, "gap")) " more." } }
    }
}

fn quota(member: &Member, now: DateTime<Utc>) -> Markup {
    let source = &member.plan.parts.source;
    let Some(demand) = source.demand() else { return html! { p.quiet { "Its source asks nothing of a request budget." } } };
    let credits = SqliteCredits::new(member.state_dir.parent().unwrap_or(&member.state_dir).join("credits.db"));
    let month = now.format("%Y-%m").to_string();
    let spent = credits.spent(&demand.scope, &month);
    html! {
        p { "Of " strong { (demand.scope.host) } @if demand.scope.key == "keyless" { ", without a key" } ", shared by all pipelines that ask it so." }
        @match (spent, demand.limits.per_month) {
            (Ok(spent), Some(most)) => {
                p.meter {
                    meter min="0" max=(most.max(1)) value=(spent.min(most)) high=(most - most / 10) aria-label={ "Requests in " (month) } {}
                    " " strong { (count(spent)) } " of " (count(most)) " requests in " (month) @if spent >= most { ", " span.bad { "used up" } }
                }
            }
            (Ok(spent), None) => p { strong { (count(spent)) } " counted in " (month) "; no limit a month is set." },
            (Err(failed), _) => (fault("What was spent cannot be read", &failed)),
        }
        p.small {
            @if let Some(most) = demand.limits.per_minute { (most) " a minute at most. " }
            @if let Some(a_run) = source.capabilities().requests_per_run { "About " (counted(a_run, "request")) " a run." }
        }
    }
}

fn plan(member: &Member, now: DateTime<Utc>) -> Markup {
    html! {
        ol.stages {
            @for stage in drawn(&member.plan, now) {
                li class={ "stage " (stage.kind) } {
                    h3 { span.kind { (stage.kind) } " " (stage.what) }
                    @for note in stage.notes.iter().filter(|note| !note.is_empty()) { p.small { (note) } }
                    @if !stage.columns.is_empty() {
                        ul.columns aria-label={ "Columns that leave the " (stage.kind) } {
                            @for (mark, name, ty) in &stage.columns {
                                @let (class, said) = match mark { '+' => ("new", "new: "), '~' => ("changed", "another type: "), '-' => ("gone", "gone: "), _ => ("", "") };
                                li class=[(!class.is_empty()).then_some(class)] {
                                    @if !said.is_empty() { span.vh { (said) } span aria-hidden="true" { (mark) " " } } code { (name) } " " span.type { (ty) }
                                }
                            }
                        }
                    }
                }
            }
        }
        (command("The same in a terminal", &format!("pipeline plan {}", member.path.display())))
    }
}
