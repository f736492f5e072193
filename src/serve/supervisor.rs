//! Runs the pipelines of a folder, each in a task of its own, and follows what becomes of their files.
//!
//! A file that was changed is checked before anything is stopped: by itself, against what the others run by, and against the pipeline's
//! state. Only then the old version ends its run, and hands its open state to the new one. A version that does not pass leaves the old one
//! at work.

mod change;
mod task;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::folder::{Folder, Look};
use super::{Broken, Fleet, Live, Member};
use crate::config::{Env, SourceFile};
use crate::plan::{Facts, Plan, Registry};
use crate::run::Stop;
use crate::state::{ModelStore, SqliteStore, Store};
use crate::workspace::{self, Lookout, OpenState, Refused};
use task::{Done, Work};

/// How often the files are looked at. A change counts when it looks the same twice: nobody's half-written file is taken.
const LOOK: Duration = Duration::from_secs(1);
/// Each so manieth time the states are looked at, too, of pipelines that somebody may run by hand.
const IDLE_LOOKS: u32 = 20;
/// The wait before what fell down is tried again: twice as long each time.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A version of a pipeline that passed its check.
struct Version {
    file: Arc<SourceFile>,
    facts: Facts,
}

impl Version {
    fn path(&self) -> &PathBuf {
        &self.file.path
    }
}

/// What a pipeline does.
enum Phase {
    /// Its state is being opened.
    Opening,
    /// By its trigger.
    Running(Stop),
    /// It fell down and is tried again.
    Waiting(Instant),
    /// Its trigger never fires: it is looked at, and run by hand. Its state is anybody's.
    Idle,
}

/// One pipeline.
struct Slot {
    /// What it runs by, or should.
    version: Version,
    /// What takes over when the run that goes on has ended.
    next: Option<Version>,
    phase: Phase,
    /// How often it fell down since it last ran to an end.
    falls: u32,
    /// Its file is gone.
    gone: bool,
    /// It was tried once.
    tried: bool,
}

/// What is known of a file.
#[derive(Default)]
struct Seen {
    /// What is wrong with it.
    fault: Option<String>,
}

/// Runs the pipelines.
pub struct Supervisor<'a> {
    registry: &'a Registry,
    env: Env,
    folder: Folder,
    /// The state directory.
    states: PathBuf,
    fleet: Arc<Fleet>,
    cancel: CancellationToken,
    slots: BTreeMap<Arc<str>, Slot>,
    files: BTreeMap<PathBuf, Seen>,
    /// As the files were when they were last loaded.
    loaded: Option<Look>,
    /// As they were when they were last looked at.
    looked: Option<Look>,
    /// What is wrong with the folder itself: said once.
    trouble: Option<String>,
    looks: u32,
    /// What has faults is to be looked at again, whether or not a file has changed.
    again: bool,
    tasks: JoinSet<Done>,
    names: HashMap<Id, Arc<str>>,
}

impl<'a> Supervisor<'a> {
    /// Nothing is begun yet. `paths` are pipeline files and folders of them, `states` the state directory.
    pub fn new(registry: &'a Registry, env: Env, paths: Vec<PathBuf>, states: PathBuf, fleet: Arc<Fleet>, cancel: CancellationToken) -> Self {
        Self {
            registry,
            env,
            folder: Folder::new(paths),
            states,
            fleet,
            cancel,
            slots: BTreeMap::new(),
            files: BTreeMap::new(),
            loaded: None,
            looked: None,
            trouble: None,
            looks: 0,
            again: false,
            tasks: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    /// Runs everything until it is cancelled; then lets the runs that go on finish their epoch.
    pub async fn run(mut self) {
        let mut next_look = Instant::now();
        while !self.cancel.is_cancelled() {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => {}
                Some(done) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(done),
                () = tokio::time::sleep_until(next_look) => {
                    self.look().await;
                    self.retry();
                    next_look = Instant::now() + LOOK;
                }
            }
            if !self.fleet.is_ready() && self.loaded.is_some() && self.slots.values().all(|slot| slot.tried) {
                self.fleet.set_ready();
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    async fn look(&mut self) {
        let folder = self.folder.clone();
        let look = match tokio::task::spawn_blocking(move || folder.look()).await {
            Ok(look) => look,
            Err(error) => Err(Refused::config(error.to_string())),
        };
        match look {
            Err(refused) => {
                let text = refused.to_string();
                if self.trouble.as_ref() != Some(&text) {
                    tracing::error!("the pipeline files cannot be looked at, what runs goes on: {text}");
                    self.trouble = Some(text);
                }
            }
            Ok(look) => {
                self.trouble = None;
                let stands = self.loaded.is_none() || self.looked.as_ref() == Some(&look);
                if stands && (std::mem::take(&mut self.again) || self.loaded.as_ref() != Some(&look)) {
                    self.change(&look);
                    self.loaded = Some(look.clone());
                }
                self.looked = Some(look);
            }
        }
    }

    /// Begins again with what fell down, and notices a state that somebody else began.
    fn retry(&mut self) {
        let now = Instant::now();
        let due: Vec<Arc<str>> =
            self.slots.iter().filter(|(_, slot)| matches!(slot.phase, Phase::Waiting(at) if at <= now)).map(|(name, _)| Arc::clone(name)).collect();
        due.iter().for_each(|name| self.begin(name));
        self.looks += 1;
        if self.looks.is_multiple_of(IDLE_LOOKS) {
            let idle = self.slots.iter().filter(|(_, slot)| matches!(slot.phase, Phase::Idle));
            let idle: Vec<Arc<str>> = idle.map(|(name, _)| Arc::clone(name)).collect();
            idle.iter().for_each(|name| self.rest(name));
        }
    }

    /// What a version says, wired anew: a plan runs once.
    fn wire(&self, version: &Version) -> Result<Plan, Refused> {
        let loaded = workspace::wire(self.registry, Arc::clone(&version.file), &self.env);
        let text = || workspace::render(&loaded, &[], false);
        match loaded.plan {
            Some(plan) => Ok(plan),
            None => Err(Refused::config(text())),
        }
    }

    /// Shows a pipeline with this state.
    fn publish(&self, name: &Arc<str>, store: Arc<dyn Store>, down: Option<&Refused>) -> Result<Arc<Member>, Refused> {
        let slot = self.slots.get(name).ok_or_else(|| Refused::config("there is no such pipeline"))?;
        let plan = self.wire(&slot.version)?;
        let known = self.fleet.member(name);
        let before = known.as_ref().map(|member| member.live()).unwrap_or_default();
        // What was found by other expectations is looked for anew.
        let epoch = before.epoch.filter(|_| known.is_some_and(|member| member.expected == plan.expected));
        let fault = down.map(ToString::to_string).or_else(|| self.files.get(slot.version.path()).and_then(|seen| seen.fault.clone()));
        let live = Live { run: None, fault, down: down.is_some(), epoch, ..before };
        let member = Arc::new(Member {
            name: Arc::clone(name),
            description: plan.description.clone(),
            path: slot.version.path().clone(),
            trigger: Arc::clone(&plan.parts.trigger),
            expected: plan.expected.clone(),
            store,
            state_dir: workspace::state_dir(&self.states, name),
            lookout: tokio::sync::Mutex::new(Lookout::new(&plan)),
            plan,
            live: std::sync::Mutex::new(live),
        });
        self.fleet.put(Arc::clone(&member));
        task::refresh(&self.fleet, &member, None);
        Ok(member)
    }

    /// Opens the state of a pipeline whose trigger fires; shows one whose trigger never does.
    fn begin(&mut self, name: &Arc<str>) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        if let Some(next) = slot.next.take() {
            slot.version = next;
        }
        let Some(slot) = self.slots.get(name) else { return };
        // Under its old name it still ends its run, perhaps in the same places.
        if self.slots.values().any(|other| other.gone && other.version.path() == slot.version.path()) {
            return self.set_phase(name, Phase::Waiting(Instant::now()));
        }
        let plan = match self.wire(&slot.version) {
            Ok(plan) => plan,
            Err(refused) => return self.fall(name, &refused),
        };
        if plan.parts.trigger.next(self.fleet.ports.clock.now()).is_none() {
            return self.rest(name);
        }
        let (states, binding, path, of) = (self.states.clone(), plan.binding, slot.version.path().clone(), Arc::clone(name));
        self.set_phase(name, Phase::Opening);
        let open = move || Done::Opened(workspace::open_state(&states, &of, &binding, &path));
        let task = self.tasks.spawn_blocking(open);
        self.names.insert(task.id(), Arc::clone(name));
    }

    /// Its trigger has no further tick: its state is there for whoever runs it by hand.
    fn rest(&mut self, name: &Arc<str>) {
        self.set_phase(name, Phase::Idle);
        let shown = workspace::peek_dir(&workspace::state_dir(&self.states, name)).and_then(|store| self.publish(name, store, None));
        match shown {
            Ok(_) => self.set_tried(name),
            Err(refused) => self.fall(name, &refused),
        }
    }

    fn set_tried(&mut self, name: &str) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.tried = true;
        }
    }

    fn set_phase(&mut self, name: &str, phase: Phase) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.phase = phase;
        }
    }

    /// A pipeline cannot run: it is shown as down, and tried again.
    fn fall(&mut self, name: &Arc<str>, why: &Refused) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        slot.tried = true;
        slot.falls += 1;
        let pause = PAUSE.saturating_mul(1 << (slot.falls - 1).min(10)).min(LONGEST_PAUSE);
        slot.phase = Phase::Waiting(Instant::now() + pause);
        let told = self.fleet.member(name).and_then(|member| member.live().fault) == Some(why.to_string());
        if !told {
            tracing::error!(pipeline = %name, retry_s = pause.as_secs(), "the pipeline does not run, it is tried again: {why}");
        }
        // What is remembered is shown, where it can be read.
        let store = SqliteStore::open_read_only(&workspace::state_dir(&self.states, name)).ok().flatten();
        let store: Arc<dyn Store> = store.map_or_else(|| Arc::new(ModelStore::default()) as Arc<dyn Store>, |store| Arc::new(store));
        if let Err(refused) = self.publish(name, store, Some(why)) {
            tracing::error!(pipeline = %name, "{refused}");
        }
    }

    /// A task is over.
    fn ended(&mut self, done: Result<(Id, Done), JoinError>) {
        let (id, done) = match done {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => (error.id(), None),
        };
        let Some(name) = self.names.remove(&id) else { return };
        let Some(slot) = self.slots.get_mut(&name) else { return };
        if slot.gone {
            return self.remove(&name);
        }
        match done {
            Some(Done::Opened(Ok(state))) => self.start(&name, state),
            Some(Done::Opened(Err(refused))) => match slot.next.is_some() {
                true => self.begin(&name),
                false => self.fall(&name, &refused),
            },
            Some(Done::Ran { failed: Some(refused), .. }) => self.fall(&name, &refused),
            Some(Done::Ran { state, ran, failed: None }) => {
                slot.falls = if ran { 0 } else { slot.falls };
                self.start(&name, state);
            }
            None => {
                let refused = Refused { config: false, message: "its task ended without a word (it panicked)".to_owned(), help: None };
                match slot.next.is_some() {
                    true => self.begin(&name),
                    false => self.fall(&name, &refused),
                }
            }
        }
    }

    /// Lets a pipeline run on its open state: its next version, where there is one that fits.
    fn start(&mut self, name: &Arc<str>, state: OpenState) {
        if let Some(next) = self.slots.get_mut(name).and_then(|slot| slot.next.take()) {
            let bound = self.wire(&next).and_then(|plan| workspace::bind(state.store.as_ref(), name, &plan.binding, next.path()));
            match bound {
                // It fitted when it was looked at, and meanwhile the first rows were stored.
                Err(refused) => self.set_fault(&next.path().clone(), Some(name), format!("error: {refused}")),
                Ok(()) => {
                    if let Some(slot) = self.slots.get_mut(name) {
                        slot.version = next;
                    }
                }
            }
        }
        self.set_tried(name);
        let Some(slot) = self.slots.get(name) else { return };
        let plan = match self.wire(&slot.version) {
            Ok(plan) => plan,
            Err(refused) => return self.fall(name, &refused),
        };
        if plan.parts.trigger.next(self.fleet.ports.clock.now()).is_none() {
            drop(state);
            return self.rest(name);
        }
        let member = match self.publish(name, Arc::clone(&state.store), None) {
            Ok(member) => member,
            Err(refused) => return self.fall(name, &refused),
        };
        if let Some(demand) = plan.parts.source.demand()
            && let Some(per_month) = demand.limits.per_month
        {
            self.fleet.metrics.quota(&demand.scope, per_month);
        }
        let stop = Stop::under(&self.cancel);
        let work = Work { fleet: Arc::clone(&self.fleet), member, parts: plan.parts, state, stop: stop.clone() };
        let task = self.tasks.spawn(work.run());
        self.names.insert(task.id(), Arc::clone(name));
        self.set_phase(name, Phase::Running(stop));
    }

    /// A pipeline is gone for good.
    fn remove(&mut self, name: &Arc<str>) {
        tracing::info!(pipeline = %name, "removed");
        self.slots.remove(name);
        // What it was in the way of may be well now.
        self.again = true;
        self.fleet.remove(name);
        self.fleet.metrics.forget(name);
    }

    /// Says what is wrong with a file, once.
    fn set_fault(&mut self, path: &PathBuf, name: Option<&str>, fault: String) {
        let seen = self.files.entry(path.clone()).or_default();
        let slot = self.slots.iter().find(|(_, slot)| slot.version.path() == path && !slot.gone);
        if seen.fault.as_ref() != Some(&fault) {
            match &slot {
                Some((name, _)) => {
                    tracing::error!(pipeline = %name, "{} was changed and has errors, the old version goes on:\n{fault}", path.display())
                }
                None => tracing::error!("{} has errors, it does not run:\n{fault}", path.display()),
            }
        }
        seen.fault = Some(fault.clone());
        match slot {
            Some((name, _)) => {
                if let Some(member) = self.fleet.member(name) {
                    member.update(|live| live.fault = if live.down { live.fault.take() } else { Some(fault) });
                    self.fleet.changed(name);
                }
            }
            None => {
                let free = name.filter(|name| self.slots.get(*name).is_none_or(|slot| slot.gone)).map(str::to_owned);
                let name = free.unwrap_or_else(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default());
                self.fleet.set_broken(Broken { name, path: path.clone(), fault });
            }
        }
    }

    /// Nothing is wrong with a file any more.
    fn set_whole(&mut self, path: &Path) {
        self.files.entry(path.to_path_buf()).or_default().fault = None;
        self.fleet.set_whole(path);
    }
}
