//! Everything that a sink promises, crashes included: see `pipeline_contract::testkit`.

use my_plugin::MyPlugin;
use pipeline_contract::testkit::SinkKit;

#[test]
fn the_sink_keeps_its_promises() {
    SinkKit::new(MyPlugin, "path = \"data/rows.jsonl\"").append_only().assert();
}
