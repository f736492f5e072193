//! What a pipeline asks of a request budget, against what it may spend: before the first request is sent.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::{BudgetLimits, BudgetScope, HumanDuration, PlanError, Source, Trigger};

use crate::config::PipelineDef;

/// A month that must fit: the longest.
const MONTH: TimeDelta = TimeDelta::days(31);

/// What one pipeline asks.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) scope: BudgetScope,
    limits: BudgetLimits,
    requests: u64,
    period: Duration,
    /// Ticks in a month.
    ticks: f64,
    /// Where the trigger says how often.
    often: Range<usize>,
    /// Where the source says how much.
    much: Option<Range<usize>>,
}

impl Asked {
    /// `None` when it is not known what a run costs, or when nothing fires.
    pub(super) fn of(trigger: &dyn Trigger, source: &dyn Source, def: &PipelineDef<'_>) -> Option<Self> {
        let demand = source.demand()?;
        let requests = source.capabilities().requests_per_run.filter(|requests| *requests > 0)?;
        let period = trigger.period().filter(|period| !period.is_zero())?;
        let often = trigger.place().or_else(|| def.trigger.as_ref().map(|stage| stage.span.clone()))?;
        let ticks = if demand.limits.per_month.is_some() { ticks_a_month(trigger) } else { 0.0 };
        Some(Self { scope: demand.scope, limits: demand.limits, requests, period, ticks, often, much: demand.place })
    }

    fn a_minute(&self) -> f64 {
        self.requests as f64 * 60.0 / self.period.as_secs_f64()
    }

    fn a_month(&self) -> f64 {
        self.requests as f64 * self.ticks
    }

    fn fits_alone(&self) -> bool {
        self.limits.per_minute.is_none_or(|most| self.a_minute() <= f64::from(most.get()))
            && self.limits.per_month.is_none_or(|most| self.a_month() <= most as f64)
    }

    /// What is wrong with it, whatever others do: E017, or W005 where a run would not be done in time.
    pub(super) fn alone(&self, deadline: Duration) -> Vec<PlanError> {
        let mut faults = Vec::new();
        let Self { requests, period, .. } = self;
        let host = &self.scope.host;
        let run = format!("{} a run, every {}", counted(*requests), HumanDuration(*period));
        let fault = |message: String, help: String| {
            let fault = PlanError::new("E017", message).at(self.often.clone());
            let fault = match &self.much {
                Some(much) => fault.related(much.clone(), format!("{} a run", counted(*requests))),
                None => fault,
            };
            fault.help(format!("{help}; or ask for less in one run"))
        };
        if let Some(most) = self.limits.per_minute.filter(|most| self.a_minute() > f64::from(most.get())) {
            let message = format!("{run}, is {} a minute: the budget of {host} allows {most}", figure(self.a_minute()));
            let least = rounded_up(*requests as f64 * 60.0 / f64::from(most.get()));
            faults.push(fault(message, format!("a run every {least} keeps to it")));
        }
        if let Some(most) = self.limits.per_month.filter(|most| self.a_month() > *most as f64) {
            let (runs, all, most) = (figure(self.ticks), figure(self.a_month()), figure(most as f64));
            let message = format!("{} a run, {runs} times in a month of 31 days, is {all}: the budget of {host} allows {most}", counted(*requests));
            let fit = self.limits.per_month.unwrap_or_default() / requests;
            let help = match fit {
                0 => "one run is more than that".to_owned(),
                1 => "one run a month keeps to it".to_owned(),
                _ => format!("{} runs a month keep to it, one every {}", figure(fit as f64), rounded_up(MONTH.num_seconds() as f64 / fit as f64)),
            };
            faults.push(fault(message, help));
        }
        if let (true, Some(most)) = (faults.is_empty(), self.limits.per_minute) {
            let takes = pace(*requests, most.get());
            if takes > deadline {
                let text = format!("{} take {} at {most} a minute: a run ends after {}", counted(*requests), rounded(takes), HumanDuration(deadline));
                let place = self.much.clone().unwrap_or_else(|| self.often.clone());
                faults.push(PlanError::warning("W005", text).at(place).help("ask for less in one run, or give it a longer `deadline` in [run]"));
            }
        }
        faults
    }
}

/// E017 when pipelines that share a budget fit it each, but not all of them. It goes to the last file.
pub(super) fn shared(sharers: &[(usize, &Path, &Asked)]) -> Option<(usize, PlanError)> {
    let asked: Vec<&Asked> = sharers.iter().map(|(_, _, asked)| *asked).collect();
    if asked.len() < 2 || !asked.iter().all(|asked| asked.fits_alone()) {
        return None;
    }
    let ((n, _, last), before) = sharers.split_last()?;
    // Where they set other limits, the smallest holds for all.
    let minute = asked.iter().filter_map(|asked| asked.limits.per_minute).min().map(|most| most.get());
    let month = asked.iter().filter_map(|asked| asked.limits.per_month).min();
    let (a_minute, a_month): (f64, f64) = (asked.iter().map(|a| a.a_minute()).sum(), asked.iter().map(|a| a.a_month()).sum());
    let over = match (minute, month) {
        (Some(most), _) if a_minute > f64::from(most) => format!("{} requests a minute: the budget allows {most}", figure(a_minute)),
        (_, Some(most)) if a_month > most as f64 => {
            format!("{} requests in a month of 31 days: the budget allows {}", figure(a_month), figure(most as f64))
        }
        _ => return None,
    };
    let says = |asked: &Asked| format!("{} a run, every {}", counted(asked.requests), HumanDuration(asked.period));
    let text = format!("{} pipelines share one key of {}, and together ask for {over}", asked.len(), last.scope.host);
    let mut fault = PlanError::new("E017", text).at(last.often.clone()).label(says(last));
    for (_, path, asked) in before {
        fault = fault.related_in(*path, asked.often.clone(), says(asked));
    }
    Some((*n, fault.help("let them run less often, or ask for less; or give one of them a key of its own")))
}

/// From a fixed instant, a Monday, so that it is the same today and tomorrow. Of those that tick too often to be counted, whole weeks, or days,
/// tell what a month has.
fn ticks_a_month(trigger: &dyn Trigger) -> f64 {
    const TICKS: usize = 3_000;
    let Some(start) = DateTime::from_timestamp(1_704_067_199, 0) else { return 0.0 };
    let mut ticks: Vec<DateTime<Utc>> = Vec::new();
    while let Some(tick) = trigger.next(ticks.last().copied().unwrap_or(start)).filter(|tick| *tick - start <= MONTH) {
        ticks.push(tick);
        if ticks.len() == TICKS {
            break;
        }
    }
    let (Some(first), Some(last)) = (ticks.first().copied(), ticks.last().copied().filter(|_| ticks.len() == TICKS)) else {
        return ticks.len() as f64;
    };
    match [TimeDelta::weeks(1), TimeDelta::days(1)].into_iter().find(|unit| last - start >= *unit) {
        Some(unit) => {
            let whole = unit * ((last - start).num_seconds() / unit.num_seconds()) as i32;
            let within = ticks.iter().filter(|tick| **tick - start <= whole).count();
            within as f64 * MONTH.num_seconds() as f64 / whole.num_seconds() as f64
        }
        None => (TICKS - 1) as f64 * MONTH.num_milliseconds() as f64 / (last - first).num_milliseconds().max(1) as f64,
    }
}

/// How long requests take at so many a minute: half of them at once, the others evenly, as the budget hands them out.
fn pace(requests: u64, per_minute: u32) -> Duration {
    let burst = per_minute.div_ceil(2);
    let each = 60.0 / f64::from(per_minute - burst + 1);
    Duration::try_from_secs_f64(requests.saturating_sub(u64::from(burst)) as f64 * each).unwrap_or(Duration::MAX)
}

fn counted(requests: u64) -> String {
    if requests == 1 { "1 request".to_owned() } else { format!("{} requests", figure(requests as f64)) }
}

/// `12,000`, `6.5`.
fn figure(n: f64) -> String {
    if n < 100.0 && n.fract() > 0.05 {
        return format!("{n:.1}");
    }
    let digits = format!("{n:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn rounded(time: Duration) -> HumanDuration {
    HumanDuration(Duration::from_secs(time.as_secs().max(1)))
}

/// Seconds, no fewer.
fn rounded_up(seconds: f64) -> HumanDuration {
    // A hair above a whole number is that number.
    HumanDuration(Duration::try_from_secs_f64((seconds - 1e-6).ceil().max(1.0)).unwrap_or(Duration::MAX))
}
