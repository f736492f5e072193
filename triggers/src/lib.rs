//! When a pipeline runs: interval, cron and manual triggers.
//!
//! A trigger is pure: it says when its next tick is, and the engine owns the clock. See the crate's README for what can be configured.

mod cron;
mod interval;
mod local;
mod manual;
mod schedule;

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
            let schema = said.config.to_value();
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                assert!(field.get("description").is_some(), "{name} has no documentation");
                assert!(include_str!("../README.md").contains(&format!("| `{name}` |")), "the README has no {name}");
            }
        }
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
