//! A year in a minute: the shipped pipeline through every hour of a year in simulated time, against a simulated CoinGecko with faults.
//!
//! ```text
//! cargo test --test year                                                     a few shorter spans
//! PIPELINE_YEAR_SEEDS=1..50 cargo test --release --test year -- --nocapture  whole years, one for each seed from 1 to 50
//! PIPELINE_YEAR_SEEDS=7 PIPELINE_YEAR_DAYS=40 cargo test --test year         one seed, a shorter span
//! ```
//!
//! Everything is drawn from the seed and runs on one thread, so a seed that fails does so again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop where it stands")]

#[path = "year/mod.rs"]
mod year;

use year::weather::Weather;
use year::world::{Setup, at, crypto, prove, simulate};
use year::{DAY, HOUR, MINUTE};

/// Every hour at 20 past.
fn hourly(after: i64) -> i64 {
    (after - 20 * MINUTE).div_euclid(HOUR) * HOUR + HOUR + 20 * MINUTE
}

/// The seeds asked for, and how many days each.
fn asked() -> (Vec<u64>, i64) {
    let number = |text: &str| text.trim().parse::<u64>().expect("PIPELINE_YEAR_SEEDS is a seed, or two with `..` between");
    let seeds = match std::env::var("PIPELINE_YEAR_SEEDS") {
        Ok(text) => match text.split_once("..") {
            Some((first, last)) => (number(first)..=number(last.trim_start_matches('='))).collect(),
            None => vec![number(&text)],
        },
        Err(_) => vec![1, 2, 3],
    };
    let whole = std::env::var_os("PIPELINE_YEAR_SEEDS").is_some() || !cfg!(debug_assertions);
    let days = std::env::var("PIPELINE_YEAR_DAYS").map_or(if whole { 366 } else { 40 }, |days| days.parse().expect("PIPELINE_YEAR_DAYS is a number"));
    (seeds, days)
}

/// A span within the year from November 2027 on: New Year or the leap day is in it.
fn setup(seed: u64, days: i64) -> Setup {
    let from = match (days, seed % 2) {
        (366.., _) => at("2027-11-01T00:07:00Z"),
        (_, 1) => at("2027-12-20T00:07:00Z"),
        _ => at("2028-02-10T00:07:00Z"),
    };
    let to = from + days * DAY;
    // Every third seed remembers a part of the runs alone.
    let keep_runs = if seed.is_multiple_of(3) { 200 } else { 10_000 };
    // ... and some catch up with all that was missed, or wait where others skip.
    let mut toml = crypto(None, "");
    if seed % 4 == 2 {
        toml = toml.replace("catch_up = \"latest\"", "catch_up = \"all\"");
    }
    if seed % 5 >= 3 {
        toml = toml.replace("catch_up = ", "overrun = \"wait\"\ncatch_up = ");
    }
    Setup { seed, from, to, toml, next_tick: hourly, keep_runs, weather: Weather::new(seed, from, to) }
}

#[test]
fn a_year_of_faults() {
    let (seeds, days) = asked();
    for seed in seeds {
        let again = format!("PIPELINE_YEAR_SEEDS={seed} PIPELINE_YEAR_DAYS={days} cargo test --release --test year a_year_of_faults");
        let report = prove("a year of faults", &setup(seed, days), &again);
        assert!(report.processes > u64::try_from(days / 3).unwrap() && report.counts.runs > 5, "this is no year of faults: {report:?}");
    }
}

#[test]
fn without_faults_every_hour_is_stored() {
    let from = at("2028-02-20T00:07:00Z");
    let calm = Setup { from, to: from + 20 * DAY, weather: Weather::fine(), ..setup(4, 20) };
    let report = prove("a calm month", &calm, "cargo test --test year without_faults");
    assert_eq!((report.skipped, report.killed, report.processes), (0, 0, 1), "{report:?}");
    assert_eq!(report.counts.runs, report.counts.runs_ok + 7, "seven runs meet the coin that was renamed: {report:?}");
}

#[test]
fn an_engine_that_lives_long_holds_no_more_than_one_that_lives_a_week() {
    let calm = |days: i64| {
        let from = at("2027-11-01T00:07:00Z");
        let setup = Setup { from, to: from + days * DAY, weather: Weather::fine(), ..setup(4, days) };
        prove("a calm time", &setup, "cargo test --test year an_engine_that_lives_long").held
    };
    let (week, long) = (calm(7), calm(if cfg!(debug_assertions) { 60 } else { 366 }));
    assert!(long <= week + week / 2, "{long} bytes after a long time, {week} after a week");
}

/// How far the clocks of Berlin are ahead of UTC in 2028.
fn berlin(at_ms: i64) -> i64 {
    if (at("2028-03-26T01:00:00Z")..at("2028-10-29T01:00:00Z")).contains(&at_ms) { 2 * HOUR } else { HOUR }
}

/// 10 past every even hour in Berlin, as `10 */2 * * *`: one of them is missing in spring, and one comes twice in autumn.
fn even_hours(after: i64) -> i64 {
    let mut tick = (after - 10 * MINUTE).div_euclid(HOUR) * HOUR + HOUR + 10 * MINUTE;
    while (tick + berlin(tick)).div_euclid(HOUR) % 2 != 0 {
        tick += HOUR;
    }
    tick
}

/// Half past two at night and in the afternoon, as `30 2,14 * * *`: the night that has none fires when the clocks are put forward, the night
/// that has two at the first.
fn half_past_two(after: i64) -> i64 {
    let of_day = |day: i64| {
        let night = match day * DAY {
            spring if spring == at("2028-03-26T00:00:00Z") => at("2028-03-26T01:00:00Z"),
            autumn if autumn == at("2028-10-29T00:00:00Z") => at("2028-10-29T00:30:00Z"),
            midnight => midnight + 150 * MINUTE - berlin(midnight),
        };
        let noon = day * DAY + 12 * HOUR;
        [night, noon + 150 * MINUTE - berlin(noon)]
    };
    let today = after.div_euclid(DAY);
    (today - 1..today + 3).flat_map(of_day).find(|tick| *tick > after).unwrap()
}

#[test]
fn cron_through_both_changes_of_the_clocks() {
    let (seeds, _) = asked();
    for seed in seeds {
        for (schedule, next_tick) in [("20 * * * *", hourly as fn(i64) -> i64), ("10 */2 * * *", even_hours), ("30 2,14 * * *", half_past_two)] {
            for from in ["2028-03-18T00:07:00Z", "2028-10-21T00:07:00Z"] {
                let (from, to) = (at(from), at(from) + 12 * DAY);
                let toml = crypto(Some(&format!("type = \"cron\"\nschedule = \"{schedule}\"\ntimezone = \"Europe/Berlin\"")), "");
                let setup = Setup { from, to, toml, next_tick, weather: Weather::new(seed, from, to), ..setup(seed, 12) };
                prove(schedule, &setup, &format!("PIPELINE_YEAR_SEEDS={seed} cargo test --release --test year cron"));
            }
        }
    }
}

#[test]
fn a_seed_goes_the_same_way_again() {
    let setup = setup(5, 12);
    assert_eq!(simulate(&setup), simulate(&setup));
}
