//! `pipeline check`: all faults of all files, without network, without writing. What `--connect` asks is in `connect`.

use std::io::IsTerminal;
use std::path::PathBuf;

use pipeline_contract::Level;

use super::{App, CliError, Format, Global, connect, exit, files, logging, output};
use crate::diagnostic;

#[derive(clap::Args, Debug)]
pub(crate) struct CheckArgs {
    /// Pipeline files, or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// How faults are printed: text on stderr, or one JSON object a line on stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Warnings fail the check as errors do
    #[arg(long)]
    deny_warnings: bool,
    /// Ask each source and sink of the files without errors whether it is there, knows us, can be written and has room
    #[arg(long)]
    connect: bool,
}

pub(crate) async fn main(app: &App, global: &Global, args: &CheckArgs) -> Result<u8, CliError> {
    let loaded = files::load_with_tests(app, &args.paths)?;
    let others = files::sources(&loaded);
    let of = |level| loaded.iter().flat_map(files::Loaded::parts).flat_map(|(_, faults)| faults).filter(|fault| fault.level == level).count();
    let (errors, warnings) = (of(Level::Error), of(Level::Warning));
    let failed = errors > 0 || args.deny_warnings && warnings > 0;
    if args.format == Format::Json {
        for (file, faults) in loaded.iter().flat_map(files::Loaded::parts) {
            for object in diagnostic::to_json(file, &others, faults) {
                output::line(&object.to_string())?;
            }
        }
        let code = if args.connect { connect(app, global, args, loaded).await? } else { exit::OK };
        return Ok(if failed { exit::CONFIG } else { code });
    }
    let color = global.color.is_on(std::io::stderr().is_terminal());
    let mut begun = false;
    for file in &loaded {
        if !file.failed() {
            output::line(&format!("{}: ok", file.path.display()))?;
        }
        let text = files::render(file, &others, color);
        if !text.is_empty() {
            let apart = if std::mem::replace(&mut begun, true) { "\n" } else { "" };
            CliError { code: 0, message: format!("{apart}{text}"), help: None, rendered: true }.print(color);
        }
    }
    if errors > 0 || warnings > 0 {
        let counted = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
        let denied = if args.deny_warnings && errors == 0 { ", which --deny-warnings does not let pass" } else { "" };
        let (errors, warnings) = (counted(errors, "error"), counted(warnings, "warning"));
        output::line(&format!("{} checked: {errors}, {warnings}{denied}", counted(loaded.len(), "file")))?;
        let mut codes: Vec<&str> = loaded.iter().flat_map(files::Loaded::parts).flat_map(|(_, faults)| faults).map(|fault| fault.code).collect();
        codes.sort_unstable();
        codes.dedup();
        if let Some(code) = codes.first() {
            output::line(&format!("`pipeline explain {code}` tells more"))?;
        }
    }
    let code = if args.connect { connect(app, global, args, loaded).await? } else { exit::OK };
    Ok(if failed { exit::CONFIG } else { code })
}

/// Probes the files that can be run.
async fn connect(app: &App, global: &Global, args: &CheckArgs, loaded: Vec<files::Loaded>) -> Result<u8, CliError> {
    logging::init(global, &[]);
    let plans: Vec<_> = loaded.into_iter().filter_map(|file| file.plan.map(|plan| (file.path, plan))).collect();
    connect::main(plans, global, &files::ports(app, global), args.format, args.deny_warnings).await
}
