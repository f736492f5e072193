//! `pipeline rejects`: rows that were rejected, and their second chance.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pipeline_contract::RealDisk;
use serde_json::json;

use super::{App, CliError, Format, Global, exit, files, logging, output, progress, signals};
use crate::plan::Plan;
use crate::run::{Engine, QuarantineFile, StoredReject};

#[derive(clap::Args, Debug)]
pub(crate) struct RejectsArgs {
    /// The pipeline file
    pub(super) file: PathBuf,
    /// Take the rows through the pipeline again, as it is now; those that pass are stored
    #[arg(long)]
    replay: bool,
    /// List those too that were replayed already
    #[arg(long)]
    all: bool,
    /// Text for people, or one JSON object a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) async fn main(app: &App, global: &Global, args: &RejectsArgs) -> Result<u8, CliError> {
    let plan = files::plan_of(app, global, &args.file)?;
    let Some(path) = plan.quarantine.clone() else {
        return Err(CliError::config(format!("{}: this pipeline keeps no rejects", args.file.display()))
            .help(Some("set [validate] on_reject = \"quarantine\"".to_owned())));
    };
    let rejects = QuarantineFile { path: &path, disk: &RealDisk }.read()?;
    if args.replay {
        return replay(app, global, args, plan, rejects).await;
    }
    let store = files::peek_state(global, &plan.parts.name)?;
    let known = store.rejects(&rejects.iter().map(StoredReject::hash).collect::<Vec<_>>())?;
    let listed: Vec<(&StoredReject, bool)> =
        rejects.iter().zip(known.iter().map(|state| *state == Some(true))).filter(|(_, replayed)| args.all || !replayed).collect();
    if args.format == Format::Json {
        for (reject, replayed) in listed {
            let object = json!({
                "row": reject.row, "rule": reject.rule, "message": reject.message, "run": reject.run, "split": reject.split,
                "stage": reject.stage, "replayed": replayed,
            });
            output::line(&object.to_string())?;
        }
        return Ok(exit::OK);
    }
    if listed.is_empty() {
        output::line(&format!("no rejects in {}", path.display()))?;
        return Ok(exit::OK);
    }
    let mut table = output::table(["split", "stage", "rule", "message", "row"]);
    let mut by_rule: BTreeMap<&str, usize> = BTreeMap::new();
    for (reject, _) in &listed {
        *by_rule.entry(reject.rule.as_str()).or_default() += 1;
        let cells = [reject.split.clone(), reject.stage.clone(), reject.rule.clone(), reject.message.clone(), reject.row.to_string()];
        table.add_row(cells.map(|text| output::cell(&text.into())));
    }
    output::line(&table.to_string())?;
    let rules: Vec<String> = by_rule.iter().map(|(rule, count)| format!("{rule}: {count}")).collect();
    output::line(&format!("{} rejects in {} ({})", listed.len(), path.display(), rules.join(", ")))?;
    Ok(exit::OK)
}

async fn replay(app: &App, global: &Global, args: &RejectsArgs, plan: Plan, rejects: Vec<StoredReject>) -> Result<u8, CliError> {
    logging::init(global, &[&plan.log]);
    let state = files::open_state(global, &plan, &args.file)?;
    let known = state.store.rejects(&rejects.iter().map(StoredReject::hash).collect::<Vec<_>>())?;
    let open: Vec<StoredReject> = rejects.into_iter().zip(known).filter(|(_, state)| *state != Some(true)).map(|(reject, _)| reject).collect();
    let name = plan.parts.name.to_string();
    let observer = progress::observer(&name, true);
    let mut engine = Engine::new(plan.parts, Arc::clone(&state.store), files::ports(app, global), state.dir.clone(), observer)?;
    let report = engine.replay(&open, &signals::shutdown()).await?;
    if args.format == Format::Json {
        let object = json!({
            "pipeline": name, "accepted": report.accepted, "written": report.written, "still_rejected": report.still_rejected.len(),
            "not_replayable": report.not_replayable,
        });
        output::line(&object.to_string())?;
        return Ok(exit::OK);
    }
    output::line(&format!(
        "{} rejects replayed: {} pass now ({} rows stored), {} are still rejected, {} cannot be replayed",
        open.len(),
        report.accepted,
        report.written,
        report.still_rejected.len(),
        report.not_replayable
    ))?;
    for (number, rule, message) in &report.still_rejected {
        output::line(&format!("  {}: {rule}: {message}", open.get(*number).map_or("", |reject| reject.split.as_str())))?;
    }
    if report.not_replayable > 0 {
        output::line("  = help: what the source itself could not read as a row has no columns to go on with: it is fetched again by a run")?;
    }
    Ok(exit::OK)
}
