//! The program: the engine, and the plugins that pipeline files may name.

use std::process::ExitCode;
use std::sync::Arc;

use pipeline::cli::{App, NoTransport};

fn main() -> ExitCode {
    App::new(Arc::new(NoTransport))
        .with(pipeline_triggers::plugins())
        .with(pipeline_sink_csv::plugins())
        .with(my_plugin::plugins())
        .main()
}
