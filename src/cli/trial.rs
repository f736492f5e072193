//! `pipeline run --dry-run`, `--replay` and what `--record` keeps: a run that stores nothing and shows what it would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{Ports, Window, row_json};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{CliError, Format, exit, files, output, progress};
use crate::plan::Plan;
use crate::record::{Asked, Head, RecordError, Recorder, Recording, Tally};
use crate::run::{Engine, Preview, RunRequest};
use crate::state::{RunRecord, RunStatus, SplitRecord};

/// How a dry run is made and shown.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// Rows shown of each part of a split.
    pub(super) sample: usize,
    pub(super) format: Format,
    /// Where to keep what the network answers.
    pub(super) record: Option<PathBuf>,
    /// Where answers come from instead of the network.
    pub(super) replay: Option<PathBuf>,
    /// What part of the past is asked for.
    pub(super) window: Option<Window>,
}

impl From<RecordError> for CliError {
    fn from(error: RecordError) -> Self {
        Self::config(error.to_string()).help(Some(error.help().to_owned()))
    }
}

/// Begins to keep what a run asks: from here on the engine's runs are at the recording's instant.
pub(super) fn record(engine: &mut Engine, plan: &str, dir: &Path, window: Option<Window>, ports: &Ports) -> Result<(Recorder, RunRequest), CliError> {
    let request = engine.now(window);
    let recorder = Recorder::begin(dir, Head::new(plan, request.tick, window), ports)?;
    engine.ask_through(recorder.ports(ports));
    Ok((recorder, request))
}

/// Says how the recording went; it goes to stderr, as stdout holds the answer.
pub(super) fn recorded(recorder: &Recorder, dir: &Path) -> Result<(), CliError> {
    match recorder.finish() {
        Ok(kept) => {
            tracing::info!(exchanges = kept, folder = %dir.display(), "what the network answered is kept");
            Ok(())
        }
        Err(error) => {
            let help = "the run itself went on; what is in the folder cannot be replayed whole";
            Err(CliError::new(exit::FAILED, format!("the recording is not whole: {error}")).help(Some(help.to_owned())))
        }
    }
}

pub(super) async fn main(plan: Plan, state_dir: PathBuf, ports: Ports, trial: Trial, cancel: CancellationToken) -> Result<u8, CliError> {
    let name = plan.parts.name.to_string();
    let dir = state_dir.join(&name);
    let store = files::peek_dir(&dir)?;
    let observer = progress::observer(&name, false);
    let (ports, window) = match &trial.replay {
        None => (ports, trial.window),
        Some(folder) => {
            let recording = Recording::open(folder)?;
            let window = trial.window.or(recording.window());
            if window.is_some() && !plan.parts.source.capabilities().windows {
                let text = format!("{}: it was recorded with --from or --to, and this source cannot read a window of the past", folder.display());
                return Err(CliError::config(text));
            }
            let settings = &plan.parts.settings;
            let deadline = if window.is_some() { settings.window_deadline } else { settings.once_deadline };
            (recording.ports(&ports, deadline), window)
        }
    };
    let tally = Tally::default();
    let counted = tally.ports(&ports);
    // What a recording answers costs nothing.
    let ports = if trial.replay.is_some() { Ports { budget: ports.budget, ..counted } } else { counted };
    let mut engine = Engine::dry(plan.parts, store, ports.clone(), dir, observer)?;
    let recording = trial.record.as_deref().map(|folder| Ok((record(&mut engine, &name, folder, window, &ports)?, folder))).transpose();
    let recording: Option<((Recorder, RunRequest), &Path)> = recording.map_err(|error: CliError| error)?;
    let request = recording.as_ref().map_or_else(|| engine.now(window), |((_, request), _)| request.clone());
    let run = engine.run(&request, &cancel).await;
    let kept = recording.map_or(Ok(()), |((recorder, _), folder)| recorded(&recorder, folder));
    let (preview, hosts) = (engine.preview(), tally.hosts());
    let shown = match trial.format {
        Format::Json => output::line(&as_json(&name, &run, &preview, &hosts, &trial).to_string()),
        Format::Text => show(&name, &run, &preview, &hosts, &trial),
    };
    kept.and(shown)?;
    Ok(match run.status {
        RunStatus::Ok => exit::OK,
        RunStatus::Failed => exit::FAILED,
        _ => exit::PARTIAL,
    })
}

/// The rejects of one stage and rule.
struct Broken<'a> {
    stage: &'a str,
    rule: &'a str,
    rows: usize,
    examples: Vec<&'a pipeline_contract::Reject>,
}

/// The rejects of a split by stage and rule, the most frequent first.
fn broken<'a>(preview: &'a Preview, split: usize, sample: usize) -> Vec<Broken<'a>> {
    let mut groups: Vec<Broken<'a>> = Vec::new();
    for (stage, reject) in preview.rejects.get(&split).into_iter().flatten() {
        let at = groups.iter().position(|group| group.stage == stage && group.rule == reject.rule).unwrap_or_else(|| {
            groups.push(Broken { stage, rule: &reject.rule, rows: 0, examples: Vec::new() });
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(at) {
            group.rows += 1;
            if group.examples.len() < sample {
                group.examples.push(reject);
            }
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.rows));
    groups
}

fn rows(part: &BTreeMap<usize, Vec<RecordBatch>>, split: usize) -> usize {
    part.get(&split).into_iter().flatten().map(RecordBatch::num_rows).sum()
}

fn as_json(name: &str, run: &RunRecord, preview: &Preview, hosts: &BTreeMap<String, Asked>, trial: &Trial) -> Value {
    let sample = |part: &BTreeMap<usize, Vec<RecordBatch>>, split: usize| -> Value {
        let batches = part.get(&split).into_iter().flatten();
        let rows = batches.flat_map(|batch| (0..batch.num_rows()).map(move |row| Value::Object(row_json(batch, row))));
        rows.take(trial.sample).collect()
    };
    let mut summary = output::summary(name, run);
    let requests: Vec<Value> = hosts
        .iter()
        .map(|(host, asked)| {
            let answered: serde_json::Map<_, _> = asked.answered.iter().map(|(status, n)| (status.to_string(), (*n).into())).collect();
            json!({
                "host": host, "sent": asked.sent, "answered": answered, "unanswered": asked.unanswered(), "credits": asked.credits,
                "per_month": asked.per_month,
            })
        })
        .collect();
    for (index, split) in summary.get_mut("splits").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
        let rejects: Vec<Value> = broken(preview, index, trial.sample)
            .into_iter()
            .map(|group| {
                let examples: Vec<Value> = group.examples.iter().map(|reject| json!({"message": reject.message, "row": reject.row})).collect();
                json!({"stage": group.stage, "rule": group.rule, "rows": group.rows, "examples": examples})
            })
            .collect();
        let shown = json!({
            "append": {"rows": rows(&preview.append, index), "sample": sample(&preview.append, index)},
            "replace": {"rows": rows(&preview.replace, index), "sample": sample(&preview.replace, index)},
            "rejects": rejects,
        });
        if let Some(object) = split.as_object_mut() {
            object.insert("preview".to_owned(), shown);
        }
    }
    if let Some(object) = summary.as_object_mut() {
        object.insert("dry_run".to_owned(), true.into());
        object.insert("replay".to_owned(), trial.replay.is_some().into());
        object.insert("requests".to_owned(), requests.into());
    }
    summary
}

fn show(name: &str, run: &RunRecord, preview: &Preview, hosts: &BTreeMap<String, Asked>, trial: &Trial) -> Result<(), CliError> {
    let what = if trial.replay.is_some() { "replay" } else { "dry run" };
    output::line(&format!("{what}, nothing was written. {}", output::summary_text(name, run)))?;
    for (index, split) in run.splits.iter().enumerate() {
        show_split(index, split, preview, trial.sample)?;
    }
    if hosts.is_empty() {
        return output::line("\nno request was sent");
    }
    output::line(if trial.replay.is_some() { "\nanswered by the recording, nothing was sent:" } else { "\nrequests that were spent:" })?;
    for (host, asked) in hosts {
        output::line(&format!("  {host}: {}", spent(asked)))?;
    }
    Ok(())
}

fn show_split(index: usize, split: &SplitRecord, preview: &Preview, sample: usize) -> Result<(), CliError> {
    let id = &split.split.id;
    for (what, part) in [("would be written", &preview.append), ("would replace stored rows", &preview.replace)] {
        let n = rows(part, index);
        if n == 0 {
            continue;
        }
        let shown = match sample {
            0 => "",
            sample if n > sample => &format!(", the first {sample}:"),
            _ => ":",
        };
        output::line(&format!("\n{id}: {} {what}{shown}", counted(n, "row")))?;
        let batches = part.get(&index).map(Vec::as_slice).unwrap_or_default();
        if let Some(table) = output::rows_table(batches, sample).filter(|_| sample > 0) {
            output::line(&table.to_string())?;
        }
    }
    let groups = broken(preview, index, sample);
    if !groups.is_empty() {
        let n = groups.iter().map(|group| group.rows).sum();
        output::line(&format!("\n{id}: {} would be rejected:", counted(n, "row")))?;
    }
    for group in groups {
        output::line(&format!("  {} at {}, by {}", counted(group.rows, "row"), group.stage, group.rule))?;
        for reject in group.examples {
            output::line(&format!("    {}", output::cell(&Value::String(reject.message.clone()))))?;
            output::line(&format!("      {}", reject.row))?;
        }
    }
    let counts = &split.rows;
    if counts.duplicates + counts.conflicts > 0 {
        let (same, other) = (counts.duplicates, counts.conflicts);
        output::line(&format!("\n{id}: skipped as known: {same} with the values that are stored, {other} with other values"))?;
    }
    if counts.filtered > 0 {
        output::line(&format!("\n{id}: {} left out by a filter", counted(usize::try_from(counts.filtered).unwrap_or(usize::MAX), "row")))?;
    }
    Ok(())
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn spent(asked: &Asked) -> String {
    let mut parts: Vec<String> = asked.answered.iter().map(|(status, n)| format!("{n} answered {status}")).collect();
    if asked.unanswered() > 0 {
        parts.push(format!("{} not answered", asked.unanswered()));
    }
    let credits = match asked.per_month {
        Some(month) => format!("; {} of the month's {month} counted", asked.credits),
        None => String::new(),
    };
    format!("{} ({}){credits}", asked.sent, parts.join(", "))
}
