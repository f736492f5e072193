//! The pipelines that are served, as everybody sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_contract::{Epoch, Gap, Ports, Refusal, StageError, Trigger};
use tokio::sync::Semaphore;

use super::metrics::Metrics;
use crate::plan::Plan;
use crate::state::{ChunkKey, Counts, Store};
use crate::watch::{Expected, Report, Subject, report};
use crate::workspace::Lookout;

/// What is told of a pipeline is as old as this at most: however many ask, its state is read no more often.
const FRESH: Duration = Duration::from_millis(500);

/// Each has a thread and two batches of rows.
const READERS: usize = 8;

/// What happens right now.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The run under way: its id, how many splits it has, how many are read, and its stored rows.
    pub run: Option<(String, usize, usize, Counts)>,
    /// What is wrong with its file, as `check` says it.
    pub fault: Option<String>,
    /// It does not run at all because of that.
    pub down: bool,
    /// The time of its newest stored row.
    pub newest: Option<DateTime<Utc>>,
    /// The chunks of what dedupe holds that were committed since it was last looked at.
    pub changed: BTreeSet<ChunkKey>,
    /// What its source said it cannot fill.
    pub refused: Vec<Refusal>,
    /// The last epoch when it was last looked at.
    pub epoch: Option<Epoch>,
    /// What is missing from what is stored; `None` when nobody said how far apart rows should be.
    pub gaps: Option<Vec<Gap>>,
}

/// One pipeline that is served.
pub struct Member {
    /// Its name.
    pub name: Arc<str>,
    /// What it is for.
    pub description: Option<String>,
    /// Its file.
    pub path: PathBuf,
    /// When it runs.
    pub trigger: Arc<dyn Trigger>,
    /// What it should look like.
    pub expected: Expected,
    /// Its memory.
    pub store: Arc<dyn Store>,
    /// The folder of its state.
    pub state_dir: PathBuf,
    /// Its stages, wired a second time: for reading what is stored and for drawing it. It never runs.
    pub plan: Plan,
    /// Who looks at what is stored.
    pub lookout: tokio::sync::Mutex<Lookout>,
    /// What happens right now.
    pub live: Mutex<Live>,
}

impl Member {
    /// A copy of what happens right now.
    pub fn live(&self) -> Live {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what happens right now.
    pub fn update(&self, change: impl FnOnce(&mut Live)) {
        change(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is known of it, and the verdict.
    ///
    /// # Errors
    /// `storage` when its state cannot be read.
    pub fn report(&self, now: DateTime<Utc>) -> Result<Report, StageError> {
        let live = self.live();
        let subject = Subject {
            name: &self.name,
            store: self.store.as_ref(),
            trigger: self.trigger.as_ref(),
            expected: &self.expected,
            newest: live.newest,
            gaps: live.gaps.as_deref(),
            fault: live.fault.as_deref(),
            down: live.down,
        };
        report(&subject, now)
    }
}

/// A pipeline file of which nothing can be run: its errors leave no pipeline, or another file has its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What it is called here: its name where that is told and free, else its file's.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What `check` says of it.
    pub fault: String,
}

/// The pipelines that are served.
pub struct Fleet {
    /// The world outside.
    pub ports: Ports,
    /// What is counted for Prometheus.
    pub metrics: Metrics,
    members: RwLock<BTreeMap<Arc<str>, Arc<Member>>>,
    broken: RwLock<BTreeMap<PathBuf, Broken>>,
    /// Reports, and when on the monotonic clock they were made.
    reports: Mutex<BTreeMap<Arc<str>, (Duration, Report)>>,
    ready: AtomicBool,
    /// So many may read rows at one time.
    pub(super) readers: Arc<Semaphore>,
}

impl Fleet {
    /// No pipelines yet.
    pub fn new(ports: Ports) -> Self {
        let metrics = Metrics::new(ports.clock.now());
        let (members, broken, reports) = (RwLock::default(), RwLock::default(), Mutex::default());
        Self { ports, metrics, members, broken, reports, ready: AtomicBool::new(false), readers: Arc::new(Semaphore::new(READERS)) }
    }

    /// All of them, by name.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// One of them.
    pub fn member(&self, name: &str) -> Option<Arc<Member>> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Adds one, or puts it in the place of the one with its name.
    pub fn put(&self, member: Arc<Member>) {
        self.changed(&member.name);
        self.members.write().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&member.name), member);
    }

    /// Takes one away.
    pub fn remove(&self, name: &str) {
        self.members.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.changed(name);
    }

    /// The files of which nothing can be run, by path.
    pub fn broken(&self) -> Vec<Broken> {
        self.broken.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Says that nothing can be run of a file.
    pub fn set_broken(&self, broken: Broken) {
        self.broken.write().unwrap_or_else(PoisonError::into_inner).insert(broken.path.clone(), broken);
    }

    /// Says that something can, or that the file is gone.
    pub fn set_whole(&self, path: &Path) {
        self.broken.write().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// Has every file been looked at once?
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Every file has been looked at once.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// What was told of a pipeline holds no longer.
    pub fn changed(&self, name: &str) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// What is known of one pipeline, and the verdict; at most half a second old. A state that cannot be read is a verdict, too.
    pub fn report(&self, member: &Member) -> Report {
        let at = self.ports.clock.monotonic();
        let kept = self.reports.lock().unwrap_or_else(PoisonError::into_inner).get(&member.name).cloned();
        if let Some((made, report)) = kept
            && at.saturating_sub(made) < FRESH
        {
            return report;
        }
        let report = member.report(self.ports.clock.now()).unwrap_or_else(|error| Report::unreadable(&member.name, &error));
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.insert(Arc::clone(&member.name), (at, report.clone()));
        report
    }

    /// What is known of every pipeline, those included of which nothing can be run, by name.
    pub fn reports(&self) -> Vec<Report> {
        let mut reports: Vec<Report> = self.members().iter().map(|member| self.report(member)).collect();
        reports.extend(self.broken().iter().map(|broken| Report::down(&broken.name, &broken.fault)));
        reports.sort_by(|a, b| a.pipeline.cmp(&b.pipeline));
        reports
    }
}
