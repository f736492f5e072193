//! The program with its built-in plugins, one line each.

use std::process::ExitCode;
use std::sync::Arc;

use pipeline::cli::App;
use pipeline_contract::Transport;

fn main() -> ExitCode {
    let app = App::new(transport());
    #[cfg(feature = "triggers")]
    let app = app.with(pipeline_triggers::plugins());
    #[cfg(feature = "coingecko")]
    let app = app.with(pipeline_source_coingecko::plugins());
    #[cfg(feature = "file")]
    let app = app.with(pipeline_source_file::plugins());
    #[cfg(feature = "csv")]
    let app = app.with(pipeline_sink_csv::plugins());
    #[cfg(feature = "jsonl")]
    let app = app.with(pipeline_sink_jsonl::plugins());
    app.main()
}

#[cfg(feature = "coingecko")]
fn transport() -> Arc<dyn Transport> {
    Arc::new(pipeline_http::ReqwestTransport::default())
}

/// No built-in source speaks HTTP, so none is linked.
#[cfg(not(feature = "coingecko"))]
fn transport() -> Arc<dyn Transport> {
    Arc::new(pipeline::cli::NoTransport)
}
