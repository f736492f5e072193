//! The trigger `my_plugin`.

use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveTime, Utc};
use pipeline_contract::{BuildContext, ConfigTable, Descriptor, Kind, PlanError, Plugin, Spanned, Stage, Trigger, parse_config};
use schemars::JsonSchema;
use serde::Deserialize;

const TYPE: &str = "my_plugin";

/// The options of `my_plugin`: the comments are shown by `pipeline explain my_plugin`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The time of the day, in UTC, as "06:30".
    at: Spanned<String>,
}

/// The plugins of this crate, for the program's list.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(MyPlugin)]
}

/// The plugin `my_plugin`.
#[derive(Clone, Copy, Debug)]
pub struct MyPlugin;

impl Plugin for MyPlugin {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Trigger,
            type_name: TYPE,
            summary: "fires once a day",
            config: || schemars::schema_for!(Config),
            sample: include_str!("../sample.toml"),
        }
    }

    fn build(&self, table: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        let config = parse_config::<Config>("trigger \"my_plugin\"", table)?;
        // What a type cannot say is checked here, and told where it stands in the file.
        match NaiveTime::parse_from_str(&config.at, "%H:%M") {
            Ok(at) => Ok(Stage::Trigger(Box::new(Daily { at, place: config.at.span() }))),
            Err(_) => {
                let fault = config.at.error("E012", format!("`at`: \"{}\" is no time of the day", config.at.escape_debug()));
                Err(vec![fault.help("write it as \"06:30\"")])
            }
        }
    }
}

struct Daily {
    at: NaiveTime,
    place: Range<usize>,
}

impl Trigger for Daily {
    /// A pure function of time: no clock, no memory. The engine owns both.
    fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = after.date_naive().and_time(self.at).and_utc();
        if today > after { Some(today) } else { today.checked_add_days(Days::new(1)) }
    }

    fn period(&self) -> Option<Duration> {
        Some(Duration::from_secs(24 * 3600))
    }

    fn place(&self) -> Option<Range<usize>> {
        Some(self.place.clone())
    }
}
