//! When a pipeline runs: interval, cron and manual triggers.
//!
//! A trigger is pure: it says when its next tick is, and the engine owns the clock. See the crate's README for what can be configured.

mod cron;
mod interval;
mod local;
mod manual;
mod schedule;
mod zones;

use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{HumanDuration, PlanError, Plugin, Spanned};

/// The triggers of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(interval::Interval), Box::new(cron::Cron), Box::new(manual::Manual)]
}

/// Where in `[0, jitter)` a run starts after its tick: the same for the same tick and seed, evenly spread over ticks and seeds.
fn spread(tick: DateTime<Utc>, seed: u64, jitter: Duration) -> Duration {
    // splitmix64: every bit of the tick and of the seed reaches every bit of the result.
    let mix = |n: u64| {
        let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        n ^ (n >> 31)
    };
    let hash = mix(mix(seed) ^ tick.timestamp_micros().cast_unsigned());
    let nanos = (u128::from(hash) * jitter.as_nanos()) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The jitter of a trigger whose shortest time between ticks is `period`.
fn jitter(config: Option<Spanned<HumanDuration>>, period: Option<Duration>, faults: &mut Vec<PlanError>) -> Duration {
    let Some(jitter) = config else { return Duration::ZERO };
    if let Some(period) = period
        && jitter.0 >= period
    {
        let message = format!("`jitter` of {} reaches the next tick: ticks are {} apart", *jitter, HumanDuration(period));
        faults.push(jitter.error("E022", message).help("write less than the time between two ticks"));
    }
    jitter.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::TimeDelta;
    use pipeline_contract::testkit::{Draw, Fuzz};
    use pipeline_contract::{BuildContext, Kind, Stage, table_from_str, take_text};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_sample_builds_and_every_descriptor_is_whole() {
        for plugin in plugins() {
            let said = plugin.describe();
            assert_eq!(said.kind, Kind::Trigger);
            let mut table = table_from_str(said.sample).unwrap();
            assert_eq!(*take_text(&mut table, "type").unwrap().unwrap(), said.type_name);
            let stage = plugin.build(&table, &BuildContext { pipeline: "p".into() }).unwrap();
            assert!(matches!(stage, Stage::Trigger(_)));
            assert!(include_str!("../README.md").contains(&format!("## `{}`", said.type_name)));
            let schema = (said.config)().to_value();
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                assert!(field.get("description").is_some(), "{name} has no documentation");
                assert!(include_str!("../README.md").contains(&format!("| `{name}` |")), "the README has no {name}");
            }
        }
    }

    #[test]
    fn fuzzed_schedules_tick_forward_or_their_faults_stand_in_them() {
        let samples = [
            "type = \"cron\"\nschedule = \"20 */2 1-15,28 jan-jun mon\"\ntimezone = \"Europe/Berlin\"\njitter = \"30s\"",
            "type = \"cron\"\nschedule = \"@daily\"",
            "type = \"cron\"\nschedule = \"0 0 29 2 *\"\ntimezone = \"Pacific/Apia\"",
            "type = \"interval\"\nevery = \"1h 30m\"\noffset = \"20m\"\njitter = \"1s\"",
            "type = \"interval\"\nevery = \"1y\"",
        ];
        let words = [
            "*",
            "/",
            "-",
            ",",
            "L",
            "#",
            "W",
            "?",
            "0",
            "31",
            "59",
            "60",
            " ",
            "MON",
            "SUN",
            "dec",
            "@",
            "h",
            "m",
            "s",
            "ms",
            "us",
            "ns",
            "y",
            "days",
            "1.5",
            ".",
            "*/0 ",
            "1-0",
            "5#5",
            "999999999999",
            "+",
            "é",
            "\\u0000",
            "America/Sao_Paulo",
            "UTC",
        ];
        let fields = |draw: &mut Draw| {
            let of = |draw: &mut Draw, low: usize, high: usize| {
                let (a, b) = (low + draw.below(high - low + 1), low + draw.below(high - low + 1));
                match draw.below(6) {
                    0 => format!("{}-{}", a.min(b), a.max(b)),
                    1 => format!("{a},{b}"),
                    2 => format!("*/{}", 1 + draw.below(70)),
                    3 => a.to_string(),
                    _ => "*".to_owned(),
                }
            };
            let fields = [of(draw, 0, 59), of(draw, 0, 23), of(draw, 1, 31), of(draw, 1, 12), of(draw, 0, 7)];
            format!(
                "type = \"cron\"\nschedule = \"{}\"\ntimezone = \"{}\"",
                fields.join(" "),
                draw.of(&["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
            )
        };
        let fuzz = Fuzz { name: "schedules", samples: &samples, words: &words, cases: 150, cost: 50 };
        fuzz.run_text(fields, |text| {
            let Ok(mut table) = table_from_str(text) else { return false };
            let Some(Ok(kind)) = take_text(&mut table, "type") else { return false };
            let plugins = plugins();
            let Some(plugin) = plugins.iter().find(|plugin| plugin.describe().type_name == *kind) else { return false };
            let trigger = match plugin.build(&table, &BuildContext { pipeline: "p".into() }) {
                Ok(Stage::Trigger(trigger)) => trigger,
                Ok(_) => panic!("not a trigger"),
                Err(faults) => {
                    for fault in faults {
                        assert!(fault.span.clone().is_none_or(|span| text.get(span).is_some()), "{fault:?}");
                        assert!(fault.message.len() < 4 * text.len() + 500, "{fault:?}");
                    }
                    return false;
                }
            };
            for start in ["2026-03-28T23:59:59.999Z", "1969-12-31T00:00:00Z", "9999-12-31T23:59:59Z"] {
                let start: DateTime<Utc> = start.parse().unwrap();
                let mut at = start;
                for _ in 0..3 {
                    let Some(next) = trigger.next(at) else { break };
                    assert!(next > at, "{next} after {at}");
                    assert_eq!(trigger.next(next - TimeDelta::microseconds(1)), Some(next), "it is the first");
                    assert!(trigger.period().is_none_or(|period| trigger.delay(next, 7) < period));
                    at = next;
                }
            }
            for end in [DateTime::<Utc>::MAX_UTC, DateTime::<Utc>::MIN_UTC] {
                let _ = trigger.next(end);
            }
            true
        });
    }

    #[test]
    fn jitter_is_spread_over_ticks_and_seeds() {
        let tick = |n: i64| DateTime::from_timestamp(n * 3600, 0).unwrap();
        let jitter = Duration::from_secs(60);
        let delays: Vec<_> = (0..1000).map(|n| spread(tick(n), 7, jitter)).collect();
        let mean = delays.iter().sum::<Duration>() / 1000;
        assert!((27..33).contains(&mean.as_secs()), "{mean:?}");
        assert_eq!(delays.iter().collect::<BTreeSet<_>>().len(), 1000);
        assert_ne!(spread(tick(1), 7, jitter), spread(tick(1), 8, jitter));
        // Stored nowhere, but a restart must not change it: so it may not change from one release to the next either.
        assert_eq!(spread(tick(1), 7, jitter).as_nanos(), 51_826_875_964);
    }

    proptest! {
        #[test]
        fn jitter_stays_below_its_bound(tick in -1_000_000_000_000i64..1_000_000_000_000, seed: u64, millis in 0u64..100_000_000_000) {
            let jitter = Duration::from_millis(millis);
            let tick = DateTime::from_timestamp_millis(tick).unwrap();
            let delay = spread(tick, seed, jitter);
            prop_assert!(delay < jitter || jitter.is_zero() && delay.is_zero());
        }
    }
}
