//! The pipelines that are served, as everybody sees them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use pipeline_contract::{Gap, Ports, StageError, Trigger};

use crate::plan::Plan;
use crate::state::{Counts, Store};
use crate::watch::{Expected, Report, Subject, report};

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
    /// What happens right now.
    pub live: Mutex<Live>,
}

impl Member {
    /// A copy of what happens right now.
    pub fn live(&self) -> Live {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

/// The pipelines that are served.
pub struct Fleet {
    /// The world outside.
    pub ports: Ports,
    members: RwLock<BTreeMap<Arc<str>, Arc<Member>>>,
}

impl Fleet {
    /// No pipelines yet.
    pub fn new(ports: Ports) -> Self {
        Self { ports, members: RwLock::default() }
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
        self.members.write().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&member.name), member);
    }

    /// Takes one away.
    pub fn remove(&self, name: &str) {
        self.members.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
