//! The trigger that never fires.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{BuildContext, ConfigTable, Descriptor, Kind, PlanError, Plugin, Stage, Trigger, parse_config};
use schemars::JsonSchema;
use serde::Deserialize;

/// Nothing can be configured.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

pub(crate) struct Manual;

impl Plugin for Manual {
    fn describe(&self) -> Descriptor {
        Descriptor {
            kind: Kind::Trigger,
            type_name: "manual",
            summary: "never fires: the pipeline runs when somebody says so",
            config: || schemars::schema_for!(Config),
            sample: include_str!("../samples/manual.toml"),
        }
    }

    fn build(&self, config: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        parse_config::<Config>("trigger \"manual\"", config)?;
        Ok(Stage::Trigger(Box::new(Never)))
    }
}

struct Never;

impl Trigger for Never {
    fn next(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
        None
    }

    fn period(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use pipeline_contract::table_from_str;

    use super::*;

    #[test]
    fn it_never_fires_and_takes_no_keys() {
        assert_eq!(Never.next(DateTime::UNIX_EPOCH), None);
        assert_eq!(Never.period(), None);
        let table = table_from_str("every = \"1h\"").unwrap();
        let faults = Manual.build(&table, &BuildContext { pipeline: "p".into() }).err().unwrap();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].message, "trigger \"manual\" has no key `every`");
    }
}
