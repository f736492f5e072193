//! Who looks at a pipeline that runs, from beside it, and tells its webhooks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pipeline_contract::{Ports, StageError, Trigger, async_trait};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::files::OpenState;
use crate::notify::{Look, Notifier};
use crate::plan::Plan;
use crate::run::{Observer, RunEvent};
use crate::state::{ChunkKey, Store};
use crate::watch::{Expected, Report, Subject, report};
use crate::workspace::Lookout;

/// Looks at a pipeline from beside it, and tells its webhooks.
pub(super) struct Watcher {
    name: Arc<str>,
    pub(super) notifier: Notifier,
    store: Arc<dyn Store>,
    trigger: Arc<dyn Trigger>,
    expected: Expected,
    ports: Ports,
    state_dir: PathBuf,
    lookout: tokio::sync::Mutex<Lookout>,
    /// The chunks that were committed since it was last looked.
    changed: Arc<Mutex<BTreeSet<ChunkKey>>>,
    /// The pipeline wired once more, where what it stored has to be read back to know how new it is.
    twin: Option<Plan>,
}

impl Watcher {
    /// `twin` is the pipeline wired once more, where what it stored has to be read back.
    pub(super) fn new(plan: &Plan, twin: Option<Plan>, state: &OpenState, ports: &Ports) -> Self {
        Self {
            name: Arc::clone(&plan.parts.name),
            notifier: Notifier::new(plan.notify.clone(), Arc::clone(&state.store), ports.clone()),
            store: Arc::clone(&state.store),
            trigger: Arc::clone(&plan.parts.trigger),
            expected: plan.expected.clone(),
            ports: ports.clone(),
            state_dir: state.dir.clone(),
            lookout: tokio::sync::Mutex::new(Lookout::new(plan)),
            changed: Arc::default(),
            twin,
        }
    }

    /// Notes what is committed, and passes everything on.
    pub(super) fn observer(&self, then: Observer) -> Observer {
        if self.notifier.is_idle() {
            return then;
        }
        let changed = Arc::clone(&self.changed);
        Arc::new(move |event| {
            if let RunEvent::Committed { chunks, .. } = event {
                changed.lock().unwrap_or_else(PoisonError::into_inner).extend(chunks.iter().cloned());
            }
            then(event);
        })
    }

    /// Tells once, of a run that was asked for by hand or by cron.
    pub(super) async fn tell(&self) {
        let over = CancellationToken::new();
        over.cancel();
        self.notifier.watch(self, &Notify::new(), &over).await;
    }
}

#[async_trait]
impl Look for Watcher {
    async fn look(&self) -> Result<Report, StageError> {
        let changed = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        let changed: Vec<ChunkKey> = changed.into_iter().collect();
        let mut lookout = self.lookout.lock().await;
        let found = match &self.twin {
            Some(twin) => lookout.look_or_read(twin, &self.store, &self.ports, &self.state_dir, &changed).await?,
            None => lookout.look(self.store.as_ref(), &changed)?,
        };
        let subject = Subject::of(&self.name, self.store.as_ref(), self.trigger.as_ref(), &self.expected, &found);
        report(&subject, self.ports.clock.now())
    }
}
