//! `pipeline check --connect`: is everything there that a run would need? All probes side by side, each with a deadline of its own. Nothing
//! stays behind on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::SubsecRound;
use pipeline_contract::{Category, Ports, RunContext, Sink, SinkContext, Source, StageError};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{CliError, Format, Global, exit, files, output};
use crate::plan::Plan;
use crate::run::{QUARANTINE, advice, sink_context};
use crate::state::{ModelStore, Store};

/// How long one probe may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Less room than this is worth a warning, in bytes.
const LITTLE_ROOM: u64 = 100 << 20;

/// What is probed, and where.
struct Probe {
    file: PathBuf,
    pipeline: String,
    stage: &'static str,
    type_name: String,
    /// A host or a path.
    target: String,
    /// Folders whose file systems must have room.
    folders: Vec<PathBuf>,
    what: What,
}

enum What {
    Source(Arc<dyn Source>, RunContext),
    Sink(Box<dyn Sink>, SinkContext),
    /// A folder that the engine writes to, and what is wrong with what is in it.
    Folder(PathBuf, SinkContext, Option<StageError>),
}

/// What came of it.
struct Probed {
    probe: Probe,
    outcome: Result<(), StageError>,
    took: Duration,
    /// The least free room of its folders, in bytes; `None` where it has none, or the system does not tell.
    free: Option<u64>,
}

impl Probed {
    fn little_room(&self) -> bool {
        self.free.is_some_and(|free| free < LITTLE_ROOM)
    }

    fn result(&self) -> &'static str {
        match &self.outcome {
            Err(_) => "failed",
            Ok(()) if self.little_room() => "little room",
            Ok(()) => "ok",
        }
    }
}

/// Probes what the plans need.
pub(super) async fn main(plans: Vec<(PathBuf, Plan)>, global: &Global, ports: &Ports, format: Format, deny_warnings: bool) -> Result<u8, CliError> {
    let mut tasks = JoinSet::new();
    for (place, (file, plan)) in plans.into_iter().enumerate() {
        for (order, probe) in probes(file, plan, global, ports)?.into_iter().enumerate() {
            tasks.spawn(async move { ((place, order), ask(probe).await) });
        }
    }
    let mut probed = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        probed.push(ended.map_err(|_| CliError::new(exit::FAILED, "a probe ended without a word (it panicked)"))?);
    }
    probed.sort_by_key(|(order, _)| *order);
    let probed: Vec<Probed> = probed.into_iter().map(|(_, probed)| probed).collect();
    match format {
        Format::Json => probed.iter().try_for_each(|probed| output::line(&as_json(probed).to_string()))?,
        Format::Text => show(&probed)?,
    }
    let failed = probed.iter().any(|probed| probed.outcome.is_err() || deny_warnings && probed.little_room());
    Ok(if failed { exit::FAILED } else { exit::OK })
}

fn probes(file: PathBuf, plan: Plan, global: &Global, ports: &Ports) -> Result<Vec<Probe>, CliError> {
    let name = Arc::clone(&plan.parts.name);
    let dir = files::state_dir(global, &name);
    // What is wrong with a state is told of the state, and the sinks are looked at all the same.
    let (store, state_fault) = match files::peek_dir(&dir) {
        Ok(store) => {
            let fault = misfit(&*store, &plan, &file).err();
            (store, fault)
        }
        Err(error) => {
            let mut fault = StageError::operator(Category::Storage, error.message);
            fault.help = error.help;
            (Arc::new(ModelStore::default()) as Arc<dyn Store>, Some(fault))
        }
    };
    let context = |sink: &str| sink_context(&name, sink, ports, &store, &dir);
    let probe = |stage: &'static str, type_name: &str, target: String, folders: Vec<PathBuf>, what: What| Probe {
        file: file.clone(),
        pipeline: name.to_string(),
        stage,
        type_name: type_name.to_owned(),
        target,
        folders,
        what,
    };
    let tick = ports.clock.now().trunc_subsecs(3);
    let run = RunContext {
        pipeline: Arc::clone(&name),
        run_id: Arc::from("check"),
        tick,
        window: None,
        deadline: Some(ports.clock.monotonic().saturating_add(DEADLINE)),
        cancel: CancellationToken::new(),
        ports: ports.clone(),
    };
    let source = plan.parts.source;
    let host = source.demand().map(|demand| demand.scope.host).unwrap_or_default();
    let mut all = vec![probe("source", &plan.outline.source, host, Vec::new(), What::Source(source, run))];
    for (part, planned) in plan.parts.sinks.into_iter().zip(plan.sinks) {
        let (target, folders, cx) = (planned.plan.targets.join(", "), part.sink.folders(), context(&part.id));
        all.push(probe("sink", &planned.type_name, target, folders, What::Sink(part.sink, cx)));
    }
    if let Some(path) = plan.quarantine {
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        all.push(probe("quarantine", "", path.display().to_string(), vec![folder.clone()], What::Folder(folder, context(QUARANTINE), None)));
    }
    all.push(probe("state", "", dir.display().to_string(), vec![dir.clone()], What::Folder(dir.clone(), context("state"), state_fault)));
    Ok(all)
}

/// Would a run refuse the state as one of another pipeline?
fn misfit(store: &dyn Store, plan: &Plan, file: &Path) -> Result<(), StageError> {
    if store.binding()?.is_none_or(|bound| bound == plan.binding) || store.last_epoch()?.is_none() {
        return Ok(());
    }
    let text = "the state does not fit the pipeline file any more: a run will be refused";
    Err(StageError::operator(Category::Storage, text).help(format!("`pipeline run {} --once` says what was changed, and what to do", file.display())))
}

async fn ask(probe: Probe) -> Probed {
    let began = Instant::now();
    let asked = async {
        match &probe.what {
            What::Source(source, run) => source.probe(run).await,
            What::Sink(sink, cx) => sink.probe(cx).await,
            What::Folder(_, _, Some(fault)) => Err(fault.clone()),
            What::Folder(folder, cx, None) => pipeline_files::probe(cx, &folder.to_string_lossy()),
        }
    };
    // A little more than the source was told, so that it has the first word on what it waited for.
    let outcome = tokio::time::timeout(DEADLINE + Duration::from_secs(1), asked).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", DEADLINE.as_secs());
        Err(StageError::transient(Category::Network, text).help("it is reached, but does not answer; or something on the way swallows what is sent"))
    });
    let took = began.elapsed();
    let free = probe.folders.iter().filter_map(|folder| free_room(folder)).min();
    Probed { probe, outcome, took, free }
}

/// The free room, in bytes, on the file system of a folder, or, while it does not exist, of the nearest one above it. `None` where the
/// system does not tell.
#[cfg(unix)]
fn free_room(folder: &Path) -> Option<u64> {
    let mut folder = folder;
    loop {
        let named = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match rustix::fs::statvfs(named) {
            Ok(fs) => return fs.f_bavail.checked_mul(fs.f_frsize),
            Err(rustix::io::Errno::NOENT) => folder = folder.parent()?,
            Err(_) => return None,
        }
    }
}

#[cfg(not(unix))]
fn free_room(_: &Path) -> Option<u64> {
    None
}

fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 10 << 30 => format!("{} GiB", b >> 30),
        b if b >= 10 << 20 => format!("{} MiB", b >> 20),
        b => format!("{} KiB", b >> 10),
    }
}

fn little_room(free: u64) -> String {
    format!("{} are free on its file system, less than {}: make room before it is full", size(free), size(LITTLE_ROOM))
}

/// What to do: as the stage says it, or what can be told of the kind.
fn help(error: &StageError, file: &Path) -> Option<String> {
    let silent =
        (error.category == Category::Network).then_some("is the host up, and does this machine reach it? look at address, proxy and firewall");
    error.help.as_deref().or(silent).map(|help| advice(help, file))
}

fn as_json(probed: &Probed) -> serde_json::Value {
    let Probed { probe, outcome, took, free } = probed;
    let error = outcome.as_ref().err();
    let warning = free.filter(|_| error.is_none() && probed.little_room()).map(little_room);
    json!({
        "probe": probe.stage, "file": probe.file.display().to_string(), "pipeline": probe.pipeline,
        "type": Some(&probe.type_name).filter(|name| !name.is_empty()), "target": probe.target, "result": probed.result().replace(' ', "_"),
        "category": error.map(|error| error.category.name()), "message": error.map(|error| error.message.clone()).or(warning),
        "help": error.and_then(|error| help(error, &probe.file)), "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "free_bytes": free,
    })
}

fn show(all: &[Probed]) -> Result<(), CliError> {
    if all.is_empty() {
        return Ok(());
    }
    let mut table = output::table(["pipeline", "stage", "type", "where", "result", "took", "free"]);
    for probed in all {
        let probe = &probed.probe;
        let (took, free) = (format!("{:.1} s", probed.took.as_secs_f64()), probed.free.map(size).unwrap_or_default());
        table.add_row([&probe.pipeline, probe.stage, &probe.type_name, &probe.target, probed.result(), &took, &free]);
    }
    output::line(&table.to_string())?;
    for probed in all {
        let Probe { pipeline, stage, file, .. } = &probed.probe;
        match (&probed.outcome, probed.free) {
            (Err(error), _) => {
                output::line(&format!("{pipeline}, {stage}: {}: {}", error.category, error.message))?;
                if let Some(help) = help(error, file) {
                    output::line(&format!("  = help: {help}"))?;
                }
            }
            (Ok(()), Some(free)) if probed.little_room() => output::line(&format!("{pipeline}, {stage}: {}", little_room(free)))?,
            _ => {}
        }
    }
    Ok(())
}
