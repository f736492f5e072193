//! Ticks at even distances.

use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{BuildContext, ConfigTable, Descriptor, HumanDuration, Kind, PlanError, Plugin, Spanned, Stage, Trigger, parse_partial};
use schemars::JsonSchema;
use serde::Deserialize;

/// The least `every`: below it a pipeline is a stream, which a trigger is not made for.
const LEAST: Duration = Duration::from_millis(100);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The time between two ticks, 100 ms or more. Ticks are multiples of it since 1970 in UTC: with "1h" at every full hour.
    every: Spanned<HumanDuration>,
    /// How long after each multiple the tick is. Less than `every`.
    offset: Option<Spanned<HumanDuration>>,
    /// A run starts up to this long after its tick, so that many pipelines do not start at once. Less than `every`.
    jitter: Option<Spanned<HumanDuration>>,
}

pub(crate) struct Interval;

impl Plugin for Interval {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Trigger,
            type_name: "interval",
            summary: "fires at even distances, aligned to the clock",
            config: || schemars::schema_for!(Config),
            sample: include_str!("../samples/interval.toml"),
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let (config, mut faults) = parse_partial::<Config>("trigger \"interval\"", config);
        let Some(config) = config else { return Err(faults) };
        let every = config.every.0;
        if every < LEAST {
            faults.push(config.every.error("E022", format!("`every` is at least 100ms, not {}", *config.every)));
        } else if let Some(offset) = config.offset.as_ref().filter(|offset| offset.0 >= every) {
            let message = format!("`offset` of {} is not less than `every`, which is {}", **offset, *config.every);
            faults.push(offset.error("E022", message));
        }
        for (name, time) in [("every", Some(&config.every)), ("offset", config.offset.as_ref())] {
            // A tick is told by its time, which is kept to the microsecond.
            if let Some(time) = time.filter(|time| time.0.subsec_nanos() % 1_000_000 != 0) {
                faults.push(time.error("E022", format!("`{name}` is in whole milliseconds, not {}", **time)));
            }
        }
        let offset = config.offset.map_or(Duration::ZERO, |offset| offset.0);
        let jitter = crate::jitter(config.jitter, Some(every), &mut faults);
        let place = config.every.span();
        if faults.is_empty() { Ok(Stage::Trigger(Box::new(Ticks { every, offset, jitter, place }))) } else { Err(faults) }
    }
}

struct Ticks {
    every: Duration,
    offset: Duration,
    jitter: Duration,
    place: Range<usize>,
}

impl Trigger for Ticks {
    fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let nanos = i128::from(after.timestamp()) * 1_000_000_000 + i128::from(after.timestamp_subsec_nanos());
        let every = i128::try_from(self.every.as_nanos()).ok()?;
        let offset = i128::try_from(self.offset.as_nanos()).ok()?;
        let next = (nanos - offset).div_euclid(every).checked_add(1)?.checked_mul(every)?.checked_add(offset)?;
        let seconds = i64::try_from(next.div_euclid(1_000_000_000)).ok()?;
        DateTime::from_timestamp(seconds, u32::try_from(next.rem_euclid(1_000_000_000)).ok()?)
    }

    fn delay(&self, tick: DateTime<Utc>, seed: u64) -> Duration {
        crate::spread(tick, seed, self.jitter)
    }

    fn period(&self) -> Option<Duration> {
        Some(self.every)
    }

    fn place(&self) -> Option<Range<usize>> {
        Some(self.place.clone())
    }
}

#[cfg(test)]
mod tests {
    use pipeline_contract::table_from_str;
    use proptest::prelude::*;

    use super::*;

    fn build(text: &str) -> Result<Box<dyn Trigger>, Vec<String>> {
        let table = table_from_str(text).unwrap();
        match Interval.build(&table, &BuildContext { pipeline: "p".into() }) {
            Ok(Stage::Trigger(trigger)) => Ok(trigger),
            Ok(_) => unreachable!(),
            Err(faults) => Err(faults
                .into_iter()
                .map(|fault| format!("{} [{}] {}", fault.code, fault.span.and_then(|span| text.get(span)).unwrap_or("?"), fault.message))
                .collect()),
        }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn ticks_are_aligned_to_the_clock() {
        let hourly = build("every = \"1h\"\noffset = \"20m\"").ok().unwrap();
        for (after, next) in [
            ("2026-05-19T14:59:59.999Z", "2026-05-19T15:20:00Z"),
            ("2026-05-19T15:19:59.999999999Z", "2026-05-19T15:20:00Z"),
            ("2026-05-19T15:20:00Z", "2026-05-19T16:20:00Z"),
            ("2026-05-19T15:20:00.000000001Z", "2026-05-19T16:20:00Z"),
            ("1969-12-31T23:00:00Z", "1969-12-31T23:20:00Z"),
            ("1969-12-31T23:30:00Z", "1970-01-01T00:20:00Z"),
        ] {
            assert_eq!(hourly.next(at(after)), Some(at(next)), "after {after}");
        }
        assert_eq!(hourly.period(), Some(Duration::from_secs(3600)));
        assert_eq!(hourly.delay(at("2026-05-19T15:20:00Z"), 1), Duration::ZERO);
        assert_eq!(hourly.next(DateTime::<Utc>::MAX_UTC), None);
        assert!(hourly.next(DateTime::<Utc>::MIN_UTC).is_some());
    }

    #[test]
    fn times_out_of_range_are_refused_where_they_stand() {
        let refused = |text: &str| build(text).err().unwrap_or_default();
        assert_eq!(refused("every = \"50ms\""), ["E022 [\"50ms\"] `every` is at least 100ms, not 50ms"]);
        assert_eq!(refused("every = \"0s\"\njitter = \"1s\"").len(), 2);
        assert_eq!(
            refused("every = \"1h\"\noffset = \"1h\"\njitter = \"2h\""),
            [
                "E022 [\"1h\"] `offset` of 1h is not less than `every`, which is 1h",
                "E022 [\"2h\"] `jitter` of 2h reaches the next tick: ticks are 1h apart"
            ]
        );
        assert_eq!(refused("every = \"1s 1us\""), ["E022 [\"1s 1us\"] `every` is in whole milliseconds, not 1s 1us"]);
        assert_eq!(refused("evry = \"1h\"")[0], "E010 [evry] trigger \"interval\" has no key `evry`");
        assert_eq!(refused("every = 60").len(), 1);
    }

    proptest! {
        #[test]
        fn the_next_tick_is_the_first_multiple_after(millis in 100u64..100_000_000, part in 0.0f64..1.0, after in -5_000_000_000_000i64..5_000_000_000_000) {
            let every = Duration::from_millis(millis);
            let offset = Duration::from_millis((millis as f64 * part) as u64);
            let ticks = Ticks { every, offset, jitter: Duration::ZERO, place: 0..0 };
            let after = DateTime::from_timestamp_millis(after).unwrap();
            let next = ticks.next(after).unwrap();
            prop_assert!(next > after);
            prop_assert!((next - after).to_std().unwrap() <= every);
            prop_assert_eq!((next.timestamp_millis() - offset.as_millis() as i64).rem_euclid(millis as i64), 0);
        }
    }
}
