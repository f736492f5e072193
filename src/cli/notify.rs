//! `pipeline notify`: does a message arrive?

use std::path::PathBuf;

use super::{App, CliError, Global, exit, files, output};
use crate::notify::Notifier;

#[derive(clap::Args, Debug)]
pub(crate) struct NotifyArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) async fn main(app: &App, global: &Global, args: &NotifyArgs) -> Result<u8, CliError> {
    let plan = files::plan_of(app, global, &args.file)?;
    if plan.notify.is_empty() {
        let text = format!("{}: nobody is told when something is wrong", args.file.display());
        return Err(CliError::config(text).help(Some("add [notify] with the `url` of a webhook".to_owned())));
    }
    let store = files::peek_state(global, &plan.parts.name)?;
    let notifier = Notifier::new(plan.notify, store, files::ports(app, global));
    let mut code = exit::OK;
    for (host, outcome) in notifier.try_out(&plan.parts.name).await {
        match outcome {
            Ok(()) => output::line(&format!("{host}: the message arrived"))?,
            Err(error) => {
                CliError::from(error).print(global.color.is_on(std::io::IsTerminal::is_terminal(&std::io::stderr())));
                code = exit::FAILED;
            }
        }
    }
    Ok(code)
}
