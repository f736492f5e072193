//! `pipeline check`: all faults of all files, without network, without writing.

use std::io::IsTerminal;
use std::path::PathBuf;

use pipeline_contract::Level;

use super::files::{self, Loaded};
use super::{App, CliError, Format, Global, exit, output};
use crate::diagnostic;

#[derive(clap::Args, Debug)]
pub(crate) struct CheckArgs {
    /// Pipeline files, or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// How faults are printed: text on stderr, or one JSON object a line on stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn main(app: &App, global: &Global, args: &CheckArgs) -> Result<u8, CliError> {
    let env = files::environment()?;
    let loaded: Vec<Loaded> = files::find(&args.paths)?.iter().map(|path| files::load(app, path, &env)).collect();
    let of = |level| loaded.iter().flat_map(|file| &file.faults).filter(|fault| fault.level == level).count();
    let (errors, warnings) = (of(Level::Error), of(Level::Warning));
    if args.format == Format::Json {
        for file in &loaded {
            for object in diagnostic::to_json(&file.file, &file.faults) {
                output::line(&object.to_string())?;
            }
        }
    } else {
        let color = global.color.is_on(std::io::stderr().is_terminal());
        for file in &loaded {
            let text = files::render(file, color);
            if text.is_empty() {
                output::line(&format!("{}: ok", file.path.display()))?;
            } else {
                CliError { code: 0, message: text, help: None, rendered: true }.print(color);
            }
        }
    }
    let count = loaded.len();
    let plans: Vec<_> = loaded.into_iter().filter_map(|file| file.plan.map(|plan| (file.path, plan))).collect();
    files::distinct(&plans)?;
    if args.format == Format::Text && (errors > 0 || warnings > 0) {
        output::line(&format!("{count} files checked: {errors} errors, {warnings} warnings"))?;
    }
    Ok(if errors > 0 { exit::CONFIG } else { exit::OK })
}
