//! Every trigger, through everything that triggers promise.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may stop where it stands")]

use pipeline_contract::testkit::TriggerKit;
use pipeline_triggers::plugins;

fn keeps_its_promises(name: &str, tables: &[&str]) {
    for table in tables {
        let plugin = plugins().into_iter().find(|plugin| plugin.describe().type_name == name).unwrap();
        TriggerKit::new(plugin, table).assert();
    }
}

#[test]
fn interval_keeps_its_promises() {
    keeps_its_promises(
        "interval",
        &["every = \"1h\"\noffset = \"20m\"\njitter = \"5m\"", "every = \"100ms\"", "every = \"7m 13s\"", "every = \"30 days\"\njitter = \"2 days\""],
    );
}

#[test]
fn cron_keeps_its_promises() {
    keeps_its_promises(
        "cron",
        &[
            "schedule = \"30 6 * * MON-FRI\"\ntimezone = \"Europe/Berlin\"\njitter = \"2m\"",
            "schedule = \"*/15 * * * *\"\ntimezone = \"America/St_Johns\"",
            "schedule = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"",
            "schedule = \"0 0 29 2 *\"",
        ],
    );
}

#[test]
fn manual_keeps_its_promises() {
    keeps_its_promises("manual", &["", "[trigger]\ntype = \"manual\"\n"]);
}
