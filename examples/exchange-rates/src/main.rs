use std::process::ExitCode;
use std::sync::Arc;

use exchange_rates::ExchangeRates;
use pipeline_contract::Plugin;

fn main() -> ExitCode {
    pipeline::cli::App::new(Arc::new(pipeline_http::ReqwestTransport::default()))
        .with(pipeline_triggers::plugins())
        .with(pipeline_sink_csv::plugins())
        .with([Box::new(ExchangeRates) as Box<dyn Plugin>])
        .main()
}
