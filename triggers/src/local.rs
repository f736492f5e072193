//! From wall-clock times to instants, where clocks are put forward and back.
//!
//! Two rules, after Vixie's cron. Where the hours are named, each named time runs once: a time that the clocks skip runs at the first
//! instant after the gap, a time that comes twice runs the first time. Where they are not (`*`, `*/2`), every instant at which the wall
//! clock shows a named time is a tick: real time goes on, whatever the clocks do.

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone as _, Timelike, Utc};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::schedule::Schedule;

/// Clocks never jump farther, nor twice within twice this time: the closest jumps that any zone has or had are a week apart.
const WINDOW: TimeDelta = TimeDelta::hours(26);
/// How far apart the zone is looked at in search of a jump.
const STRIDE: TimeDelta = TimeDelta::hours(6);

/// The first tick of `schedule` in `zone` strictly after `after`.
pub(crate) fn next(schedule: &Schedule, zone: &TimeZone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    // Schedules are of whole minutes, so a part of a second changes nothing. The years are those that croner searches.
    let after = after.with_nanosecond(0)?;
    let after = if after.year() < 2 { Utc.with_ymd_and_hms(2, 1, 1, 0, 0, 0).single()? } else { after };
    if after.year() > 4900 {
        return None;
    }
    if schedule.named_hours { next_named(schedule, zone, after) } else { next_real(schedule, zone, after) }
}

fn next_named(schedule: &Schedule, zone: &TimeZone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut local = local(zone, after)?;
    loop {
        local = schedule.next(local, false)?;
        // Times of one gap all become the same instant, and times of the second pass lie behind: go on until time does.
        let instant = resolve(zone, local)?;
        if instant > after {
            return Some(instant);
        }
    }
}

fn next_real(schedule: &Schedule, zone: &TimeZone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let (mut at, mut inclusive) = (after, false);
    loop {
        let shift = offset(zone, at)?;
        let instant = schedule.next(at.naive_utc().checked_add_signed(shift)?, inclusive)?.checked_sub_signed(shift)?.and_utc();
        match first_change(zone, at, instant) {
            None => return Some(instant),
            // The clocks jump before it: look again from there, with the clocks as they are then.
            Some(change) => (at, inclusive) = (change, true),
        }
    }
}

fn offset(zone: &TimeZone, at: DateTime<Utc>) -> Option<TimeDelta> {
    let at = Timestamp::from_second(at.timestamp()).ok()?;
    Some(TimeDelta::seconds(zone.to_offset(at).seconds().into()))
}

fn local(zone: &TimeZone, at: DateTime<Utc>) -> Option<NaiveDateTime> {
    at.naive_utc().checked_add_signed(offset(zone, at)?)
}

/// The instant of a named time: the earlier of two, or the first after the gap that it falls into.
///
/// Every instant is asked what its clock shows. Asked for the instants of a time, `jiff` goes by a zone's standing rule from its last listed
/// change on, and makes one time into two where no clock moved: Nuuk on 28 October 2023, at 23:00.
fn resolve(zone: &TimeZone, time: NaiveDateTime) -> Option<DateTime<Utc>> {
    let (before, past) = (time.and_utc().checked_sub_signed(WINDOW)?, time.and_utc().checked_add_signed(WINDOW)?);
    let instant = |near| time.checked_sub_signed(offset(zone, near)?).map(|at| at.and_utc());
    let shows = |at: &DateTime<Utc>| local(zone, *at) == Some(time);
    match [before, past].into_iter().filter_map(instant).filter(shows).min() {
        Some(at) => Some(at),
        None => first_second(before, past, |at| local(zone, at).is_some_and(|local| local >= time)),
    }
}

/// The first instant in `(from, to]` at which the clocks are set otherwise than at `from`.
fn first_change(zone: &TimeZone, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let before = offset(zone, from);
    let mut at = from;
    while at < to {
        let next = at.checked_add_signed(STRIDE)?.min(to);
        if offset(zone, next) != before {
            return first_second(at, next, |at| offset(zone, at) != before);
        }
        at = next;
    }
    None
}

/// The first full second in `(from, to]` where `holds` turns true; it holds at `to`.
fn first_second(from: DateTime<Utc>, to: DateTime<Utc>, holds: impl Fn(DateTime<Utc>) -> bool) -> Option<DateTime<Utc>> {
    let (mut low, mut high) = (from.timestamp(), to.timestamp());
    while high - low > 1 {
        let middle = low.midpoint(high);
        if holds(DateTime::from_timestamp(middle, 0)?) { high = middle } else { low = middle }
    }
    DateTime::from_timestamp(high, 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::FixedOffset;
    use pipeline_contract::Spanned;
    use proptest::prelude::*;

    use super::*;
    use crate::zones;

    fn zone(name: &str) -> TimeZone {
        zones::find(name).unwrap()
    }

    fn schedule(text: &str) -> Schedule {
        Schedule::parse(&Spanned::new(text.into(), 0..text.len() + 2)).unwrap()
    }

    /// The ticks between two instants, in local time with its offset.
    fn ticks(text: &str, zone_name: &str, from: &str, to: &str) -> Vec<String> {
        let (schedule, zone) = (schedule(text), zone(zone_name));
        let (mut at, to): (DateTime<Utc>, DateTime<Utc>) = (from.parse().unwrap(), to.parse().unwrap());
        let mut all = Vec::new();
        while let Some(next) = next(&schedule, &zone, at)
            && next <= to
        {
            assert!(next > at);
            let offset = FixedOffset::east_opt(offset(&zone, next).unwrap().num_seconds().try_into().unwrap()).unwrap();
            all.push(next.with_timezone(&offset).format("%d %H:%M%:z").to_string());
            at = next;
        }
        all
    }

    /// The day on which clocks go forward, and the one on which they go back, from midnight to noon.
    fn days(text: &str, zone: &str) -> [Vec<String>; 2] {
        match zone {
            // 02:00 +01:00 becomes 03:00 +02:00, and back
            "Europe/Berlin" => {
                [ticks(text, zone, "2026-03-28T23:00:00Z", "2026-03-29T10:00:00Z"), ticks(text, zone, "2026-10-24T22:00:00Z", "2026-10-25T11:00:00Z")]
            }
            // 02:00 -05:00 becomes 03:00 -04:00, and back to 01:00
            "America/New_York" => {
                [ticks(text, zone, "2026-03-08T05:00:00Z", "2026-03-08T16:00:00Z"), ticks(text, zone, "2026-11-01T04:00:00Z", "2026-11-01T17:00:00Z")]
            }
            // 02:00 +10:30 becomes 02:30 +11:00, and back to 01:30
            _ => {
                [ticks(text, zone, "2026-10-03T13:30:00Z", "2026-10-04T01:00:00Z"), ticks(text, zone, "2026-04-04T13:00:00Z", "2026-04-05T01:30:00Z")]
            }
        }
    }

    #[test]
    fn a_named_time_runs_once_whatever_the_clocks_do() {
        for (zone, text, forward, back) in [
            ("Europe/Berlin", "30 2 * * *", "29 03:00+02:00", "25 02:30+02:00"),
            ("Europe/Berlin", "0 2 * * *", "29 03:00+02:00", "25 02:00+02:00"),
            ("Europe/Berlin", "0 3 * * *", "29 03:00+02:00", "25 03:00+01:00"),
            ("Europe/Berlin", "59 1 * * *", "29 01:59+01:00", "25 01:59+02:00"),
            ("America/New_York", "30 2 * * *", "08 03:00-04:00", "01 02:30-05:00"),
            ("America/New_York", "30 1 * * *", "08 01:30-05:00", "01 01:30-04:00"),
            ("Australia/Lord_Howe", "15 2 * * *", "04 02:30+11:00", "05 02:15+10:30"),
            ("Australia/Lord_Howe", "45 1 * * *", "04 01:45+10:30", "05 01:45+11:00"),
            ("Australia/Lord_Howe", "45 2 * * *", "04 02:45+11:00", "05 02:45+10:30"),
        ] {
            assert_eq!(days(text, zone), [vec![forward.to_owned()], vec![back.to_owned()]], "{text} in {zone}");
        }
    }

    #[test]
    fn several_named_times_in_one_gap_run_once_after_it() {
        let [forward, back] = days("0,20,40 2 * * *", "Europe/Berlin");
        assert_eq!(forward, ["29 03:00+02:00"]);
        assert_eq!(back, ["25 02:00+02:00", "25 02:20+02:00", "25 02:40+02:00"]);
        // ... and not a second time, where the first instant after the gap is named too.
        let [forward, _] = days("0,30 2,3 * * *", "Europe/Berlin");
        assert_eq!(forward, ["29 03:00+02:00", "29 03:30+02:00"]);
    }

    #[test]
    fn hourly_runs_every_real_hour() {
        for name in ["Europe/Berlin", "America/New_York"] {
            let (schedule, zone) = (schedule("20 * * * *"), zone(name));
            let mut at: DateTime<Utc> = "2026-01-01T00:20:00Z".parse().unwrap();
            for _ in 0..24 * 365 {
                let tick = next(&schedule, &zone, at).unwrap();
                assert_eq!(tick - at, TimeDelta::hours(1), "after {at} in {name}");
                at = tick;
            }
        }
        let [forward, back] = days("20 * * * *", "Europe/Berlin");
        assert_eq!(forward[..3], ["29 00:20+01:00", "29 01:20+01:00", "29 03:20+02:00"]);
        assert_eq!(back[1..4], ["25 01:20+02:00", "25 02:20+02:00", "25 02:20+01:00"]);
    }

    #[test]
    fn half_an_hour_moves_the_minutes_of_the_hour() {
        let [forward, back] = days("20 * * * *", "Australia/Lord_Howe");
        assert_eq!(forward[..3], ["04 00:20+10:30", "04 01:20+10:30", "04 03:20+11:00"]);
        assert_eq!(back[..3], ["05 00:20+11:00", "05 01:20+11:00", "05 02:20+10:30"]);
        let [_, back] = days("40 * * * *", "Australia/Lord_Howe");
        assert_eq!(back[..4], ["05 00:40+11:00", "05 01:40+11:00", "05 01:40+10:30", "05 02:40+10:30"]);
    }

    #[test]
    fn every_minute_misses_none_and_doubles_none() {
        for (name, from) in [
            ("Europe/Berlin", "2026-03-28T22:00:00Z"),
            ("Europe/Berlin", "2026-10-24T22:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T12:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T12:00:00Z"),
        ] {
            let (schedule, zone) = (schedule("* * * * *"), zone(name));
            let mut at: DateTime<Utc> = from.parse().unwrap();
            for _ in 0..600 {
                let tick = next(&schedule, &zone, at).unwrap();
                assert_eq!(tick - at, TimeDelta::minutes(1), "after {at} in {name}");
                at = tick;
            }
        }
    }

    #[test]
    fn a_day_that_never_was_runs_once_after_it() {
        // Samoa went from 29 December to 31 December 2011.
        assert_eq!(
            ticks("0 9 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", "2011-12-31T12:00:00Z"),
            ["29 09:00-10:00", "31 00:00+14:00", "31 09:00+14:00"]
        );
    }

    #[test]
    fn a_change_of_rules_that_moves_no_clock_moves_no_tick() {
        // Nuuk's summer became its standard time while its clocks stood at it: what had been the autumn's change is none.
        assert_eq!(ticks("0 22,23 * * *", "America/Nuuk", "2023-10-28T12:00:00Z", "2023-10-29T12:00:00Z"), ["28 22:00-02:00", "28 23:00-02:00"]);
    }

    #[test]
    fn the_ends_of_time_are_no_trouble() {
        let zone = zone("Europe/Berlin");
        for text in ["0 9 * * *", "0 * * * *", "0 0 29 2 *"] {
            assert_eq!(next(&schedule(text), &zone, DateTime::<Utc>::MAX_UTC), None);
            assert!(next(&schedule(text), &zone, DateTime::<Utc>::MIN_UTC).is_some());
        }
    }

    /// A tick by the definition, minute by minute.
    fn expected(schedule: &Schedule, zone: &TimeZone, from: DateTime<Utc>, minutes: i64) -> Vec<DateTime<Utc>> {
        let mut times = BTreeSet::new();
        let mut time = local(zone, from).unwrap() - TimeDelta::days(1);
        let end = time + TimeDelta::minutes(minutes) + TimeDelta::days(3);
        while time < end {
            time = schedule.next(time, false).unwrap();
            times.insert(time);
        }
        let named = |local: NaiveDateTime| times.contains(&local);
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        let mut last = local(zone, from).unwrap();
        for n in 1..=minutes {
            let at = from + TimeDelta::minutes(n);
            let now = local(zone, at).unwrap();
            let skipped = (1..(now - last).num_minutes()).any(|n| named(last + TimeDelta::minutes(n)));
            let fires = if schedule.named_hours { skipped || named(now) && !seen.contains(&now) } else { named(now) };
            if fires {
                all.push(at);
            }
            seen.insert(now);
            last = now;
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn ticks_are_those_of_the_definition(
            minute in "[*]|[*]/[1-9]|[0-9]|[1-5][0-9]|0,30|[*]/15|15-45",
            hour in "[*]|[*]/[2-6]|[0-3]|1-3|0,2,3|22-23",
            zone_name in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "America/Santiago",
                "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham",
            ]),
            month in 1u32..=12,
        ) {
            let (schedule, zone) = (schedule(&format!("{minute} {hour} * * *")), zone(zone_name));
            // From the first of a month: every shift of these zones is met in some month.
            let from = Utc.with_ymd_and_hms(2026, month, 1, 0, 0, 0).unwrap();
            let until = from + TimeDelta::days(30);
            let mut ticks = Vec::new();
            let mut at = from;
            while let Some(tick) = next(&schedule, &zone, at) && tick <= until {
                ticks.push(tick);
                at = tick;
            }
            prop_assert_eq!(ticks, expected(&schedule, &zone, from, 30 * 24 * 60));
        }
    }

    proptest! {

        #[test]
        fn ticks_rise_strictly_over_a_year(
            minute in "[*]/[5-9]|[0-9]|[1-5][0-9]", hour in "[*]|[*]/[2-6]|[0-9]|1[0-9]|0-3", day in "[*]|[1-9]|L|[*]/2", month in "[*]|[1-9]|3,10", weekday in "[*]|[0-7]|MON-FRI|1#1|5L",
            zone_name in prop::sample::select(zones::names()),
            start in 1_700_000_000i64..1_900_000_000,
        ) {
            let Ok(schedule) = Schedule::parse(&Spanned::new(format!("{minute} {hour} {day} {month} {weekday}"), 0..1)) else { return Ok(()) };
            let zone = zone(&zone_name);
            let mut at = DateTime::from_timestamp(start, 0).unwrap();
            let until = at + TimeDelta::days(366);
            let mut count = 0;
            while let Some(tick) = next(&schedule, &zone, at) && tick < until && count < 2_000 {
                prop_assert!(tick > at);
                // ... and what is asked from between two ticks is the same tick.
                if count % 50 == 0 {
                    prop_assert_eq!(next(&schedule, &zone, at + (tick - at) / 2), Some(tick));
                }
                at = tick;
                count += 1;
            }
        }
    }
}
