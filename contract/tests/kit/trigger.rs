//! A trigger that fires each hour, and can break each promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_contract::testkit::{Promise, Report, TriggerKit};
use pipeline_contract::{BuildContext, ConfigTable, Descriptor, Kind, PlanError, Plugin, Stage, Trigger};
use serde::Deserialize;

use crate::Breaks;

pub(crate) fn check(breaks: Breaks) -> Report {
    TriggerKit::new(Toy(breaks), "hours = 1").check()
}

/// The options.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// How many.
    hours: i64,
}

struct Toy(Breaks);

impl Plugin for Toy {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Trigger,
            type_name: self.0.name("toy_trigger"),
            summary: "A toy",
            config: || schemars::schema_for!(Config),
            sample: "type = \"toy_trigger\"\nhours = 2\n",
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let config: Config = self.0.parse("trigger \"toy_trigger\"", config)?;
        Ok(Stage::Trigger(Box::new(Hourly { breaks: self.0, hours: config.hours, asked: Arc::default() })))
    }
}

struct Hourly {
    breaks: Breaks,
    hours: i64,
    asked: Arc<AtomicI64>,
}

impl Trigger for Hourly {
    fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let step = 3600 * self.hours;
        if self.breaks.it(Promise::Steady) {
            return Some(after + TimeDelta::seconds(step));
        }
        let steps = after.timestamp().div_euclid(step);
        let steps = if self.breaks.it(Promise::Later) && after.timestamp() % step == 0 { steps } else { steps + 1 };
        let steps = if self.breaks.it(Promise::Pure) { steps + self.asked.fetch_add(1, Ordering::SeqCst) % 2 } else { steps };
        DateTime::from_timestamp(steps * step, 0)
    }

    fn delay(&self, _: DateTime<Utc>, seed: u64) -> Duration {
        Duration::from_secs(if self.breaks.it(Promise::Delay) { 3600 } else { seed % 60 })
    }

    fn period(&self) -> Option<Duration> {
        Some(Duration::from_secs(if self.breaks.it(Promise::Period) { 7200 } else { 3600 * self.hours.unsigned_abs() }))
    }
}
