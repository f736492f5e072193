//! One pipeline at work, and what is kept of it for others to see.

use std::sync::{Arc, PoisonError};

use pipeline_contract::{StageError, async_trait};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::notify::{Look, Notifier};
use crate::run::{Engine, Observer, Parts, RunEvent, Stop, refusals};
use crate::serve::{Fleet, Member};
use crate::state::Counts;
use crate::watch::Report;
use crate::workspace::{OpenState, Refused};

/// What a task ended with.
pub(super) enum Done {
    /// A state was opened, or not.
    Opened(Result<OpenState, Refused>),
    /// A pipeline ran until it was told to stop, or its trigger had no further tick.
    Ran {
        /// What it had open.
        state: OpenState,
        /// It ran to an end at least once.
        ran: bool,
        /// Why it could not begin.
        failed: Option<Refused>,
    },
}

/// A pipeline that is to run.
pub(super) struct Work {
    pub(super) fleet: Arc<Fleet>,
    pub(super) member: Arc<Member>,
    pub(super) parts: Parts,
    pub(super) state: OpenState,
    pub(super) stop: Stop,
}

impl Work {
    pub(super) async fn run(self) -> Done {
        let Self { fleet, member, parts, state, stop } = self;
        fleet.metrics.begin(&member.name);
        let (counted, asked) = fleet.metrics.ports(&member.name, &fleet.ports);
        let observer = observer(&fleet, &member);
        let engine = Engine::new(parts, Arc::clone(&state.store), fleet.ports.clone(), state.dir.clone(), observer);
        let mut engine = match engine {
            Ok(engine) => engine,
            Err(error) => return Done::Ran { state, ran: false, failed: Some(error.into()) },
        };
        engine.ask_through(counted);
        let notifier = Notifier::new(member.plan.notify.clone(), Arc::clone(&state.store), fleet.ports.clone());
        let (wake, over) = (Arc::new(Notify::new()), CancellationToken::new());
        let seen = Seen { fleet: &fleet, member: &member };
        let mut ran = false;
        let run = async {
            engine
                .run_until(&stop, |record| {
                    ran = true;
                    asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    member.update(|live| live.run = None);
                    fleet.metrics.ran(&member.name, record);
                    refresh(&fleet, &member, Some(&wake));
                })
                .await;
            over.cancel();
        };
        // Whoever stops it knows that it is stopped, and whoever takes over tells: no webhook is waited for then.
        let tell = async {
            tokio::select! {
                biased;
                () = stop.idle.cancelled() => {}
                () = notifier.watch(&seen, &wake, &over) => {}
            }
        };
        tokio::join!(run, tell);
        drop(engine);
        Done::Ran { state, ran, failed: None }
    }
}

fn observer(fleet: &Arc<Fleet>, member: &Arc<Member>) -> Observer {
    let (fleet, member) = (Arc::clone(fleet), Arc::clone(member));
    Arc::new(move |event| match event {
        RunEvent::Started { run_id, splits } => {
            member.update(|live| live.run = Some((run_id.to_string(), *splits, 0, Counts::default())));
            fleet.changed(&member.name);
        }
        RunEvent::SplitRead { done, took } => {
            fleet.metrics.read(&member.name, *took);
            member.update(|live| live.run.iter_mut().for_each(|(_, _, read, _)| *read = *done));
        }
        RunEvent::Committed { rows, chunks } => member.update(|live| {
            live.run.iter_mut().for_each(|(.., stored)| *stored = *rows);
            live.changed.extend(chunks.iter().cloned());
        }),
        RunEvent::Ended => member.update(|live| live.run = None),
    })
}

/// A pipeline as whoever tells of it sees it.
struct Seen<'a> {
    fleet: &'a Fleet,
    member: &'a Member,
}

#[async_trait]
impl Look for Seen<'_> {
    async fn look(&self) -> Result<Report, StageError> {
        self.member.report(self.fleet.ports.clock.now())
    }
}

/// Looks anew at what is stored, beside everything else, and wakes who waits for it.
pub(super) fn refresh(fleet: &Arc<Fleet>, member: &Arc<Member>, wake: Option<&Arc<Notify>>) {
    let (fleet, member, wake) = (Arc::clone(fleet), Arc::clone(member), wake.cloned());
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = runtime.block_on(look(&fleet, &member)) {
            tracing::warn!(pipeline = %member.name, reason = %error, "what is stored could not be looked at");
        }
        fleet.changed(&member.name);
        wake.iter().for_each(|wake| wake.notify_one());
    });
}

async fn look(fleet: &Fleet, member: &Member) -> Result<(), StageError> {
    let mut lookout = member.lookout.lock().await;
    let refused = refusals(member.store.as_ref())?;
    member.update(|live| live.refused = refused);
    let epoch = member.store.last_epoch()?.map(|(epoch, _)| epoch);
    if epoch.is_some() && epoch == member.live().epoch {
        return Ok(());
    }
    let mut changed = Vec::new();
    member.update(|live| changed.extend(std::mem::take(&mut live.changed)));
    let found = lookout.look_or_read(&member.plan, &member.store, &fleet.ports, &member.state_dir, &changed).await?;
    member.update(|live| (live.newest, live.gaps, live.epoch) = (found.newest, found.gaps, epoch));
    Ok(())
}
