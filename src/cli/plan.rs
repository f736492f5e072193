//! `pipeline plan`: a pipeline drawn, each stage with the columns and types that leave it.

use std::path::PathBuf;

use chrono::Utc;
use serde_json::{Value, json};

use super::{App, CliError, Format, Global, exit, files, output};
use crate::plan::{Plan, drawn};

#[derive(clap::Args, Debug)]
pub(crate) struct PlanArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Text for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn main(app: &App, global: &Global, args: &PlanArgs) -> Result<u8, CliError> {
    let plan = files::plan_of(app, global, &args.file)?;
    match args.format {
        Format::Text => output::line(draw(&plan).trim_end())?,
        Format::Json => output::line(&as_json(&plan).to_string())?,
    }
    Ok(exit::OK)
}

fn draw(plan: &Plan) -> String {
    use std::fmt::Write as _;
    let drawn = drawn(plan, Utc::now());
    let mut text = format!("{}\n", plan.parts.name);
    for (place, stage) in drawn.iter().enumerate() {
        let last = place + 1 == drawn.len();
        let line = if last { ' ' } else { '│' };
        let _ = writeln!(text, "│\n{} {} {}", if last { '└' } else { '├' }, stage.kind, stage.what);
        for note in stage.notes.iter().filter(|note| !note.is_empty()) {
            let _ = writeln!(text, "{line}     {note}");
        }
        let width = stage.columns.iter().map(|(_, name, _)| name.chars().count()).max().unwrap_or_default();
        for (mark, name, ty) in &stage.columns {
            let _ = writeln!(text, "{line}   {mark} {name:width$}  {ty}");
        }
    }
    text
}

fn as_json(plan: &Plan) -> Value {
    let stages = drawn(plan, Utc::now()).into_iter().map(|stage| {
        let leave = stage.columns.iter().filter(|(mark, ..)| *mark != '-').map(|(_, name, ty)| json!({"name": name, "type": ty}));
        json!({"kind": stage.kind, "what": stage.what, "notes": stage.notes, "columns": leave.collect::<Vec<_>>()})
    });
    json!({"pipeline": &*plan.parts.name, "stages": stages.collect::<Vec<_>>()})
}
