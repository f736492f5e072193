//! The next tick of a trigger.

use chrono::{DateTime, Utc};
use divan::Bencher;

use crate::rig;

/// Ticks one after the other, a year of hours or days: some next to a change of the clocks.
fn next(bencher: Bencher<'_, '_>, type_name: &str, toml: &str) {
    let trigger = rig::trigger(type_name, toml);
    let first: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    let last = first + chrono::TimeDelta::days(365);
    let mut at = first;
    bencher.bench_local(|| {
        at = trigger.next(at).filter(|at| *at < last).unwrap_or(first);
        at
    });
}

#[divan::bench]
fn interval(bencher: Bencher<'_, '_>) {
    next(bencher, "interval", "every = \"1h\"\noffset = \"20m\"");
}

#[divan::bench]
fn cron_hourly_utc(bencher: Bencher<'_, '_>) {
    next(bencher, "cron", "schedule = \"20 * * * *\"");
}

#[divan::bench]
fn cron_weekdays_berlin(bencher: Bencher<'_, '_>) {
    next(bencher, "cron", "schedule = \"30 6 * * MON-FRI\"\ntimezone = \"Europe/Berlin\"");
}

/// Far away: the schedule is looked for through two years.
#[divan::bench]
fn cron_leap_day(bencher: Bencher<'_, '_>) {
    next(bencher, "cron", "schedule = \"0 0 29 2 *\"");
}
