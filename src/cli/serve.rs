//! `pipeline serve`: every pipeline of a folder in one process, with its answers over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::{App, CliError, Global, exit, files, logging, signals};
use crate::serve::{Fleet, Guard, Supervisor, routes, serve};
use crate::workspace;

#[derive(clap::Args, Debug)]
pub(crate) struct ServeArgs {
    /// Pipeline files, or folders of them
    #[arg(value_name = "FILE|DIR", default_value = "pipelines")]
    paths: Vec<PathBuf>,
    /// Where health, metrics, the API and the page are served; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", env = "PIPELINE_LISTEN")]
    listen: SocketAddr,
    /// Web pages of this origin may read the answers, as https://example.com; * is all of them
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,
    /// A name of this server beside localhost: requests that call it otherwise are refused
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
}

pub(crate) async fn main(app: &App, global: &Global, args: &ServeArgs) -> Result<u8, CliError> {
    if let Some(missing) = args.paths.iter().find(|path| !path.exists()) {
        return Err(CliError::config(format!("{}: there is no such file or folder", missing.display())));
    }
    let env = files::environment()?;
    // For their log files alone: what is wrong with them is said when they are loaded to run.
    let loaded = workspace::load_all(&app.registry, &workspace::find(&args.paths)?, &env);
    logging::init(global, &loaded.iter().filter_map(|file| file.plan.as_ref()).map(|plan| &plan.log).collect::<Vec<_>>());
    drop(loaded);
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        let help = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another program listens there: end it, or choose another port with --listen",
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose another with --listen",
            _ => "give an address of this machine, as --listen 127.0.0.1:8080",
        };
        CliError::config(format!("cannot listen on {}: {error}", args.listen)).help(Some(help.to_owned()))
    })?;
    let address = listener.local_addr().map_err(|error| CliError::new(exit::FAILED, format!("{}: {error}", args.listen)))?;
    tracing::info!(%address, "listening");
    let (ports, credits) = workspace::ports(Arc::clone(&app.transport), &global.state_dir);
    let fleet = Arc::new(Fleet::new(ports));
    fleet.metrics.count_credits(credits);
    let cancel = signals::shutdown();
    let guard = Guard::new(address, args.cors_origin.clone(), args.allow_host.clone());
    let answers = serve(listener, guard.over(routes(Arc::clone(&fleet))), cancel.clone());
    let supervisor = Supervisor::new(&app.registry, env, args.paths.clone(), global.state_dir.clone(), fleet, cancel);
    tokio::join!(tokio::spawn(answers), supervisor.run()).0.map_err(|error| CliError::new(exit::FAILED, error.to_string()))?;
    Ok(exit::OK)
}
