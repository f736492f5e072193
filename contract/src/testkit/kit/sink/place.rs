//! What outlives a process that stores: the disk, the records, the last epoch, and what should be there.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use chrono::DateTime;

use super::super::difference;
use super::super::exec::Exec;
use super::super::options::Subject;
use super::super::world::{Setting, World};
use super::rows::{KitRow, Model, Work, among_others, kept};
use crate::testkit::{SimDisk, TestRecords, sink_context};
use crate::{Delivery, Epoch, Filter, Op, Sink, SinkContext, SinkInput, SinkPlan, SinkState, Stage, StageError};

/// Why an epoch is not stored.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The sink said so, in this call.
    Stage(&'static str, StageError),
    /// The process died.
    Dead,
    /// A promise was broken.
    Broken(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(call, error) => write!(f, "`{call}` fails: {error} ({:?})", error.act),
            Self::Dead => f.write_str("the process died"),
            Self::Broken(what) => f.write_str(what),
        }
    }
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        trouble.to_string()
    }
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

pub(super) struct Place<'k> {
    subject: &'k Subject,
    plan: &'k SinkPlan,
    replaces: bool,
    ordered: bool,
    world: World,
    exec: Exec,
    pub(super) disk: SimDisk,
    pub(super) records: Arc<TestRecords>,
    pub(super) last: Option<(Epoch, SinkState)>,
    /// A run is open.
    pub(super) open: bool,
    /// What counts.
    pub(super) model: Model,
    /// What is prepared.
    prepared: Option<(Model, SinkState)>,
    /// What is written.
    written: Model,
    /// How the last rows were given, by its number: each way has its turn.
    way: usize,
    epochs: Epoch,
}

impl<'k> Place<'k> {
    pub(super) fn new(subject: &'k Subject, plan: &'k SinkPlan, replaces: bool, ordered: bool) -> Self {
        Self::on_disk(subject, plan, replaces, ordered, SimDisk::new())
    }

    fn on_disk(subject: &'k Subject, plan: &'k SinkPlan, replaces: bool, ordered: bool, disk: SimDisk) -> Self {
        let world = World::new(&Setting { disk: disk.clone(), ..Setting::new(DateTime::UNIX_EPOCH) });
        let exec = Exec::new(world.clock.clone());
        Self {
            subject,
            plan,
            replaces,
            ordered,
            world,
            exec,
            disk,
            records: Arc::default(),
            last: None,
            open: false,
            model: Model::default(),
            prepared: None,
            written: Model::default(),
            way: 0,
            epochs: 0,
        }
    }

    /// The same place as the next process finds it, on what is left of the disk.
    pub(super) fn after(&self, disk: SimDisk) -> Self {
        let records = TestRecords::default();
        records.apply(&SinkState(crate::Records::all(&*self.records).unwrap_or_default().into_iter().collect()));
        Self {
            records: Arc::new(records),
            last: self.last.clone(),
            open: self.open,
            model: self.model.clone(),
            epochs: self.epochs,
            ..Self::on_disk(self.subject, self.plan, self.replaces, self.ordered, disk)
        }
    }

    pub(super) fn on<F: Future>(&self, future: F) -> Result<F::Output, String> {
        self.exec.block_on(future)
    }

    fn call<T>(&self, name: &'static str, future: impl Future<Output = Result<T, StageError>>) -> Result<T, Trouble> {
        self.on(future).map_err(|stuck| format!("`{name}`: {stuck}"))?.map_err(|error| Trouble::Stage(name, error))
    }

    pub(super) fn context(&self) -> SinkContext {
        sink_context(self.world.run.ports.clone(), self.records.clone(), "state/keep")
    }

    /// A sink that is planned.
    pub(super) fn planned(&self) -> Result<Box<dyn Sink>, String> {
        let Stage::Sink(mut sink) = self.subject.build()? else { return Err("it builds no sink".to_owned()) };
        let keys = KitRow::KEYS.map(str::to_owned).to_vec();
        sink.plan(&SinkInput { schema: KitRow::input(), keys, replaces: self.replaces }).map_err(|faults| format!("the plan fails: {faults:?}"))?;
        Ok(sink)
    }

    /// A new process: it recovers, and a run is open.
    pub(super) fn start(&mut self) -> Result<Box<dyn Sink>, Trouble> {
        let mut sink = self.planned()?;
        let recovery = self.recovery();
        let cx = self.context();
        self.open = true;
        self.prepared = None;
        self.written = self.model.clone();
        self.call("recover", sink.recover(&cx, &recovery))?;
        Ok(sink)
    }

    pub(super) fn writes(&mut self, sink: &mut dyn Sink, work: &Work) -> Result<(), Trouble> {
        self.written = self.model.clone();
        // A sink that begins with rows does so before it is given any.
        let (ahead, mut writes) = (sink.ahead(), Vec::new());
        for (op, batch) in &work.0 {
            self.way = (self.way + 1) % 4;
            // Most sinks could not store the row that is among those of the first way, and each could the other.
            let other = [None, Some(i64::MIN), None, Some(0)][self.way];
            let (batch, selection) = match other {
                Some(other) => among_others(batch, other).map(|(batch, selection)| (batch, Some(selection)))?,
                None => (batch.clone(), None),
            };
            let ahead = ahead.as_ref().filter(|_| *op == Op::Append && self.way >= 2);
            let begun = ahead.and_then(|ahead| ahead.begin(&batch, selection.as_ref()));
            writes.push((*op, batch, selection, begun));
        }
        for (op, batch, selection, begun) in writes {
            match (begun, selection) {
                (Some(begun), _) => self.call("write_begun", sink.write_begun(begun))?,
                (None, Some(selection)) => self.call("write_selected", sink.write_selected(&batch, &selection, op))?,
                (None, None) => self.call("write", sink.write(&batch, op))?,
            }
        }
        self.written.apply(work, &self.unstored());
        Ok(())
    }

    pub(super) fn prepare(&mut self, sink: &mut dyn Sink) -> Result<(), Trouble> {
        let epoch = self.epochs + 1;
        let state = self.call("prepare", sink.prepare(epoch))?;
        self.prepared = Some((std::mem::take(&mut self.written), state));
        Ok(())
    }

    /// The state's transaction.
    pub(super) fn decide(&mut self) -> Result<(), Trouble> {
        if self.disk.is_dead() {
            return Err(Trouble::Dead);
        }
        let Some((model, state)) = self.prepared.take() else { return Err(Trouble::Broken("nothing is prepared".to_owned())) };
        self.epochs += 1;
        self.records.apply(&state);
        self.last = Some((self.epochs, state));
        self.model = model;
        Ok(())
    }

    pub(super) fn commit(&mut self, sink: &mut dyn Sink) -> Result<(), Trouble> {
        match self.last.clone() {
            Some((epoch, state)) => self.call("commit", sink.commit(epoch, &state)),
            None => Ok(()),
        }
    }

    /// A whole epoch.
    pub(super) fn try_epoch(&mut self, sink: &mut dyn Sink, work: &Work) -> Result<(), Trouble> {
        self.writes(sink, work)?;
        self.prepare(sink)?;
        self.decide()?;
        self.commit(sink)
    }

    /// A whole epoch that should succeed.
    pub(super) fn epoch(&mut self, sink: &mut dyn Sink, work: &Work) -> Result<(), Trouble> {
        self.try_epoch(sink, work)
    }

    fn unstored(&self) -> Vec<String> {
        KitRow::input().fields().iter().map(|field| field.name().clone()).filter(|name| !self.plan.stored.contains(name)).collect()
    }

    /// Does another process read what counts?
    pub(super) fn holds(&self, when: &str) -> Result<(), String> {
        let sink = self.planned()?;
        self.holds_in(&*sink, when)
    }

    pub(super) fn holds_in(&self, sink: &dyn Sink, when: &str) -> Result<(), String> {
        self.compare(sink, &Filter::default()).map_err(|how| format!("read back {when}: {how}"))
    }

    pub(super) fn holds_filtered(&self, filter: &Filter) -> Result<(), String> {
        let sink = self.planned()?;
        self.compare(&*sink, filter)
    }

    fn compare(&self, sink: &dyn Sink, filter: &Filter) -> Result<(), String> {
        let cx = self.context();
        let mut stream = self.on(sink.read_back(&cx, filter))?.map_err(|error| format!("it fails: {error}"))?;
        let mut found = Model::default();
        while let Some(batch) = self.on(stream.next())?.map_err(|error| format!("it fails: {error}"))? {
            let columns: Vec<_> = batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
            if columns != self.plan.stored {
                return Err(format!("the columns are {columns:?} instead of {:?}", self.plan.stored));
            }
            found.0.extend(kept(&batch, &[]));
        }
        if sink.capabilities().delivery == Delivery::AtLeastOnce {
            let mut seen = BTreeSet::new();
            found.0.retain(|row| seen.insert(row.text.clone()));
        }
        difference(&found.texts(self.ordered), &self.model.texts(self.ordered)).map_or(Ok(()), Err)
    }
}
