//! Ticks by a cron schedule, in a time zone.

use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jiff::tz::TimeZone;
use pipeline_contract::{
    BuildContext, ConfigTable, Descriptor, HumanDuration, Kind, PlanError, Plugin, Spanned, Stage, Trigger, nearest, parse_partial,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::schedule::Schedule;
use crate::{local, zones};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Five fields: minute, hour, day of the month, month, day of the week, as "20 * * * *"; or @hourly, @daily, @weekly, @monthly, @yearly.
    schedule: Spanned<String>,
    /// The time zone of the schedule, by its IANA name. "UTC" if not given.
    timezone: Option<Spanned<String>>,
    /// A run starts up to this long after its tick, so that many pipelines do not start at once. Less than the time between two ticks.
    jitter: Option<Spanned<HumanDuration>>,
}

pub(crate) struct Cron;

impl Plugin for Cron {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Trigger,
            type_name: "cron",
            summary: "fires by a cron schedule, in any time zone",
            config: || schemars::schema_for!(Config),
            sample: include_str!("../samples/cron.toml"),
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let (config, mut faults) = parse_partial::<Config>("trigger \"cron\"", config);
        let Some(config) = config else { return Err(faults) };
        let schedule = Schedule::parse(&config.schedule).map_err(|found| faults.extend(found)).ok();
        let zone = match &config.timezone {
            Some(name) => find_zone(name).map_err(|fault| faults.push(fault)).ok(),
            None => Some(TimeZone::UTC),
        };
        match (schedule, zone) {
            (Some(schedule), Some(zone)) => {
                let period = shortest(&schedule, &zone);
                let jitter = crate::jitter(config.jitter, period, &mut faults);
                if faults.is_empty() {
                    Ok(Stage::Trigger(Box::new(Ticks { schedule, zone, period, jitter, place: config.schedule.span() })))
                } else {
                    Err(faults)
                }
            }
            _ => Err(faults),
        }
    }
}

fn find_zone(name: &Spanned<String>) -> Result<TimeZone, PlanError> {
    zones::find(name).ok_or_else(|| {
        let fault = name.error("E021", format!("`timezone`: no time zone is called \"{}\"", name.escape_debug()));
        let all = zones::names();
        let names = || all.iter().map(String::as_str);
        // Many write the city alone.
        let city = |full: &&str| full.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&name.replace(' ', "_")));
        match names().find(|full| full.eq_ignore_ascii_case(name)).or_else(|| names().find(city)).or_else(|| nearest(name, names())) {
            Some(name) => fault.meant(format_args!("\"{name}\""), format!("\"{name}\"")),
            None => fault.help("write it as \"Europe/Berlin\", \"America/New_York\" or \"UTC\""),
        }
    })
}

/// The shortest time between two of the next ticks.
///
/// From a fixed instant, so that it is the same today and tomorrow; for two years, so that shifts of the clocks are among them; and of so
/// many ticks as cost nothing.
fn shortest(schedule: &Schedule, zone: &TimeZone) -> Option<Duration> {
    const TICKS: usize = 400;
    let start = DateTime::from_timestamp(1_704_067_200, 0)?;
    let end = start + TimeDelta::days(2 * 366);
    let mut last = local::next(schedule, zone, start)?;
    let mut shortest = None;
    for _ in 1..TICKS {
        let Some(tick) = local::next(schedule, zone, last) else { break };
        let gap = (tick - last).to_std().ok()?;
        shortest = Some(shortest.map_or(gap, |known: Duration| known.min(gap)));
        last = tick;
        if tick > end {
            break;
        }
    }
    shortest
}

struct Ticks {
    schedule: Schedule,
    zone: TimeZone,
    period: Option<Duration>,
    jitter: Duration,
    place: Range<usize>,
}

impl Trigger for Ticks {
    fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        local::next(&self.schedule, &self.zone, after)
    }

    fn delay(&self, tick: DateTime<Utc>, seed: u64) -> Duration {
        crate::spread(tick, seed, self.jitter)
    }

    fn period(&self) -> Option<Duration> {
        self.period
    }

    fn place(&self) -> Option<Range<usize>> {
        Some(self.place.clone())
    }
}

#[cfg(test)]
mod tests {
    use pipeline_contract::table_from_str;

    use super::*;

    fn build(text: &str) -> Result<Box<dyn Trigger>, Vec<String>> {
        let table = table_from_str(text).unwrap();
        match Cron.build(&table, &BuildContext { pipeline: "p".into() }) {
            Ok(Stage::Trigger(trigger)) => Ok(trigger),
            Ok(_) => unreachable!(),
            Err(faults) => Err(faults
                .into_iter()
                .map(|fault| {
                    let help = fault.help.map(|help| format!(" / {help}")).unwrap_or_default();
                    format!("{} [{}] {}{help}", fault.code, fault.span.and_then(|span| text.get(span)).unwrap_or("?"), fault.message)
                })
                .collect()),
        }
    }

    #[test]
    fn it_fires_in_its_zone() {
        let trigger = build("schedule = \"30 6 * * MON-FRI\"\ntimezone = \"Europe/Berlin\"\njitter = \"1m\"").ok().unwrap();
        let friday: DateTime<Utc> = "2026-05-22T04:30:00Z".parse().unwrap();
        assert_eq!(trigger.next(friday - TimeDelta::milliseconds(1)), Some(friday));
        assert_eq!(trigger.next(friday), Some("2026-05-25T04:30:00Z".parse().unwrap()));
        assert!(trigger.delay(friday, 3) < Duration::from_secs(60));
    }

    #[test]
    fn its_period_is_the_shortest_time_between_ticks() {
        let hours = |text: &str| build(text).ok().unwrap().period().map(|period| period.as_secs_f64() / 3600.0);
        assert_eq!(hours("schedule = \"20 * * * *\""), Some(1.0));
        assert_eq!(hours("schedule = \"0 9,17 * * *\""), Some(8.0));
        assert_eq!(hours("schedule = \"@daily\""), Some(24.0));
        assert_eq!(hours("schedule = \"@daily\"\ntimezone = \"Europe/Berlin\""), Some(23.0));
        assert_eq!(hours("schedule = \"0 0 29 2 *\""), Some(24.0 * 1461.0));
        assert_eq!(hours("schedule = \"* * * * *\""), Some(1.0 / 60.0));
    }

    #[test]
    fn faults_come_together_each_at_its_place() {
        let refused = |text: &str| build(text).err().unwrap_or_default();
        assert_eq!(
            refused("schedule = \"0 25 * * *\"\ntimezone = \"Europe/Berln\""),
            [
                "E020 [25] `schedule`: \"25\" is not an hour / an hour is 0 to 23; `*` is every one, `*/5` every fifth, `1-5` a range, `1,3` a list",
                "E021 [\"Europe/Berln\"] `timezone`: no time zone is called \"Europe/Berln\" / did you mean \"Europe/Berlin\"?"
            ]
        );
        let zone = |name: &str| refused(&format!("schedule = \"@daily\"\ntimezone = \"{name}\"")).concat();
        assert!(zone("berlin").ends_with("did you mean \"Europe/Berlin\"?"));
        assert!(zone("New York").ends_with("did you mean \"America/New_York\"?"));
        assert!(zone("utc").ends_with("did you mean \"UTC\"?"));
        assert!(zone("europe/berlin").ends_with("did you mean \"Europe/Berlin\"?"));
        assert!(zone("+02:00").ends_with("or \"UTC\""));
        assert_eq!(
            refused("schedule = \"@hourly\"\njitter = \"1h\""),
            ["E022 [\"1h\"] `jitter` of 1h reaches the next tick: ticks are 1h apart / write less than the time between two ticks"]
        );
        assert_eq!(refused("every = \"1h\"").len(), 2);
    }
}
