//! `pipeline schema`: the JSON Schema of pipeline files, for editors.

use pipeline_contract::Plugin;

use super::{App, CliError, exit, output};
use crate::config;

pub(crate) fn main(app: &App) -> Result<u8, CliError> {
    let plugins: Vec<_> = app.registry.all().into_iter().map(Plugin::describe).collect();
    output::line(&format!("{:#}", config::schema(&plugins)))?;
    Ok(exit::OK)
}
