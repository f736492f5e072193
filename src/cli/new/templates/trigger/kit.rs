//! Everything that a trigger promises: see `pipeline_contract::testkit`.

use my_plugin::MyPlugin;
use pipeline_contract::testkit::TriggerKit;

#[test]
fn the_trigger_keeps_its_promises() {
    for table in ["at = \"06:30\"", "at = \"00:00\"", include_str!("../sample.toml")] {
        TriggerKit::new(MyPlugin, table).assert();
    }
}
