//! Everything that a source promises: see `pipeline_contract::testkit`.

use my_plugin::MyPlugin;
use pipeline_contract::testkit::SourceKit;

#[test]
fn the_source_keeps_its_promises() {
    SourceKit::new(MyPlugin, "series = [\"north\", \"south\"]\nhours = 250").assert();
}

#[test]
fn the_sample_keeps_them_too() {
    SourceKit::new(MyPlugin, include_str!("../sample.toml")).assert();
}
