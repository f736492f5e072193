//! The kit of sinks.

mod bad_days;
mod place;
mod rows;

use self::place::{Place, Trouble};
use self::rows::{At, Work};
use super::options::Subject;
use super::{Promise, Report, ensure};
use crate::testkit::{Fail, Fault};
use crate::{Category, Filter, Kind, Op, Plugin, Recovery, SinkInput, SinkPlan, SinkState, Stage};

pub use self::rows::KitRow;

/// Runs a sink through every promise of [`Promise::PLUGIN`] and [`Promise::SINK`].
///
/// What reaches the sink are rows of [`KitRow`]; their key is `series` and `at`. The table of the test speaks of these columns.
///
/// Each case has a disk of its own, so the kit tries crashes and errors of the disk on sinks that store through [`Disk`](crate::Disk).
pub struct SinkKit {
    subject: Subject,
    replaces: bool,
    ordered: bool,
    only: Option<Promise>,
}

impl SinkKit {
    /// A kit for the sink that `toml`, the table `[sink]` of a pipeline file with or without its header and its `type`, builds.
    pub fn new(plugin: impl Plugin + 'static, toml: &str) -> Self {
        Self { subject: Subject::new(Box::new(plugin), Kind::Sink, toml), replaces: true, ordered: true, only: None }
    }

    /// No rows are replaced, though the sink could: for tables with which it cannot.
    #[must_use]
    pub fn append_only(mut self) -> Self {
        self.replaces = false;
        self
    }

    /// The rows of one series come back in another order: for tables that spread them over several places.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// Tries nothing but this promise, and what every other stands on: while a plugin is mended.
    #[must_use]
    pub fn only(mut self, promise: Promise) -> Self {
        self.only = Some(promise);
        self
    }

    /// Tries everything, and panics with everything that was broken.
    #[track_caller]
    pub fn assert(&self) {
        self.check().assert();
    }

    /// Tries everything.
    pub fn check(&self) -> Report {
        let mut report = Report { only: self.only, ..Report::default() };
        self.subject.check(&mut report);
        let mut plan = None;
        report.case(
            Promise::Plan,
            || "the plan".to_owned(),
            || {
                plan = Some(self.plan()?);
                Ok(())
            },
        );
        let Some(plan) = plan else { return report };
        let replaces = self.replaces && self.capabilities().is_ok_and(|can| can.replace);
        let place = || Place::new(&self.subject, &plan, replaces, self.ordered);
        if !replaces {
            report.note("Replace: no rows are replaced");
        }
        self.stores(&mut report, &place, replaces);
        self.hides(&mut report, &place, replaces);
        self.repeats(&mut report, &place, replaces);
        self.recovers(&mut report, &place, replaces);
        self.filters(&mut report, &place);
        self.adopts(&mut report, &place, replaces);
        self.unstorable(&mut report, &place);
        self.probes(&mut report, &place);
        self.crashes(&mut report, &place, replaces);
        self.disk_errors(&mut report, &place, replaces);
        report
    }

    fn capabilities(&self) -> Result<crate::SinkCapabilities, String> {
        match self.subject.build()? {
            Stage::Sink(sink) => Ok(sink.capabilities()),
            other => Err(format!("it builds a {}", other.kind())),
        }
    }

    fn plan(&self) -> Result<SinkPlan, String> {
        let replaces = self.replaces && self.capabilities()?.replace;
        let input = SinkInput { schema: KitRow::input(), keys: KitRow::KEYS.map(str::to_owned).to_vec(), replaces };
        let once = || {
            let Stage::Sink(mut sink) = self.subject.build()? else { return Err("it builds no sink".to_owned()) };
            sink.plan(&input).map_err(|faults| format!("it fails: {faults:?}"))
        };
        let (plan, again) = (once()?, once()?);
        ensure(plan.identity == again.identity && plan.stored == again.stored && plan.targets == again.targets, || {
            "two that were built alike plan otherwise".to_owned()
        })?;
        let all: Vec<_> = input.schema.fields().iter().map(|field| field.name().clone()).collect();
        let stored: Vec<_> = all.iter().filter(|name| plan.stored.contains(name)).cloned().collect();
        ensure(stored == plan.stored, || format!("it says that {:?} are stored, of {all:?}: others, or in another order", plan.stored))?;
        let missing = KitRow::KEYS.iter().find(|key| !stored.iter().any(|name| name == *key));
        ensure(missing.is_none(), || format!("the key column {missing:?} cannot be read back, so no state can be rebuilt"))?;
        ensure(!plan.targets.is_empty() && plan.targets.iter().all(|target| !target.is_empty()), || "it names no target".to_owned())?;
        Ok(plan)
    }

    fn stores<'k>(&self, report: &mut Report, place: &dyn Fn() -> Place<'k>, replaces: bool) {
        report.case(
            Promise::Stores,
            || "before the first epoch".to_owned(),
            || {
                let mut place = place();
                place.holds("by a process that has not begun")?;
                let sink = place.start()?;
                place.holds_in(&*sink, "by one that has")
            },
        );
        report.case(
            Promise::Stores,
            || "epochs of all kinds of rows".to_owned(),
            || {
                let mut place = place();
                let mut sink = place.start()?;
                for work in Work::varied() {
                    place.epoch(&mut *sink, &work)?;
                    place.holds_in(&*sink, "by the process that wrote them")?;
                    place.holds("by another process")?;
                }
                place.on(sink.look(&KitRow::some(&["a"])))?.map_err(|error| format!("a look at stored rows fails: {error}"))?;
                place.on(sink.abort())?.map_err(|error| format!("an abort of nothing fails: {error}"))?;
                place.open = false;
                let mut sink = place.start()?;
                place.epoch(&mut *sink, &Work::next(9))?;
                place.holds("after the next run")
            },
        );
        report.case(
            Promise::EmptyEpoch,
            || "after rows".to_owned(),
            || {
                let mut place = place();
                let mut sink = place.start()?;
                place.epoch(&mut *sink, &Work::first())?;
                let before = place.disk.files();
                place.epoch(&mut *sink, &Work::none())?;
                place.epoch(&mut *sink, &Work::empty_batch())?;
                place.holds("afterwards")?;
                ensure(place.disk.files() == before, || format!("files changed: {:?} to {:?}", before.keys(), place.disk.files().keys()))?;
                place.epoch(&mut *sink, &Work::second(replaces))?;
                place.holds("after an epoch with rows")
            },
        );
        if replaces {
            report.case(
                Promise::Replace,
                || "rows of several epochs".to_owned(),
                || {
                    let mut place = place();
                    let mut sink = place.start()?;
                    for work in [Work::first(), Work::second(true), Work::replacing(), Work::next(5), Work::replacing_new()] {
                        place.epoch(&mut *sink, &work)?;
                        place.holds("by another process")?;
                    }
                    Ok(())
                },
            );
        }
    }

    fn hides<'k>(&self, report: &mut Report, place: &dyn Fn() -> Place<'k>, replaces: bool) {
        for first in [false, true] {
            let begun = |place: &mut Place<'_>| {
                let mut sink = place.start()?;
                if first {
                    place.epoch(&mut *sink, &Work::first())?;
                }
                Ok::<_, Trouble>(sink)
            };
            let work = || if first { Work::second(replaces) } else { Work::first() };
            let said = move || if first { "in the second epoch".to_owned() } else { "in the first epoch".to_owned() };
            report.case(Promise::Hidden, said, || {
                let mut place = place();
                let mut sink = begun(&mut place)?;
                place.writes(&mut *sink, &work())?;
                place.holds("by another process, after `write`")?;
                place.prepare(&mut *sink)?;
                place.holds("by another process, after `prepare`")
            });
            report.case(Promise::Abort, said, || {
                let mut place = place();
                let mut sink = begun(&mut place)?;
                let before = place.disk.files();
                for prepared in [false, true, true, false] {
                    place.writes(&mut *sink, &work())?;
                    if prepared {
                        place.prepare(&mut *sink)?;
                    }
                    place.on(sink.abort())?.map_err(|error| format!("it fails: {error}"))?;
                    place.holds("after an abort")?;
                    let after = place.disk.files();
                    ensure(after == before, || format!("it leaves something behind: {:?} instead of {:?}", after.keys(), before.keys()))?;
                }
                place.epoch(&mut *sink, &work())?;
                place.holds("after the epoch that followed the aborts")
            });
        }
    }

    fn repeats<'k>(&self, report: &mut Report, place: &dyn Fn() -> Place<'k>, replaces: bool) {
        for first in [true, false] {
            report.case(
                Promise::CommitTwice,
                || if first { "the first epoch".to_owned() } else { "the second epoch".to_owned() },
                || {
                    let mut place = place();
                    let mut sink = place.start()?;
                    place.epoch(&mut *sink, &Work::first())?;
                    if !first {
                        place.epoch(&mut *sink, &Work::second(replaces))?;
                    }
                    let files = place.disk.files();
                    for _ in 0..2 {
                        place.commit(&mut *sink)?;
                        place.holds("after another commit")?;
                    }
                    let mut sink = place.start()?;
                    place.commit(&mut *sink)?;
                    place.holds("after another commit, by another process")?;
                    let after = place.disk.files();
                    ensure(after == files, || format!("files changed: {:?} instead of {:?}", after.keys(), files.keys()))?;
                    place.epoch(&mut *sink, &Work::next(5))?;
                    place.holds("after the next epoch")
                },
            );
        }
    }

    fn recovers<'k>(&self, report: &mut Report, place: &dyn Fn() -> Place<'k>, replaces: bool) {
        for first in [true, false] {
            let work = if first { Work::first() } else { Work::second(replaces) };
            for at in At::all(work.0.len()) {
                for times in [1, 2] {
                    let nth = if first { "first" } else { "second" };
                    let again = if times == 1 { "" } else { ", recovered twice" };
                    report.case(
                        Promise::Recover,
                        || format!("the process ended {at} of the {nth} epoch{again}"),
                        || {
                            let mut place = place();
                            let mut sink = place.start()?;
                            if !first {
                                place.epoch(&mut *sink, &Work::first())?;
                            }
                            place.part(&mut *sink, &work, at)?;
                            drop(sink);
                            place.open = at != At::Ended;
                            for _ in 1..times {
                                drop(place.start()?);
                            }
                            let mut sink = place.start()?;
                            place.holds("afterwards")?;
                            if !at.is_decided() {
                                place.epoch(&mut *sink, &work)?;
                            }
                            place.epoch(&mut *sink, &Work::next(5))?;
                            place.holds("after the next epochs")
                        },
                    );
                }
            }
        }
    }

    fn filters<'k>(&self, report: &mut Report, place: &dyn Fn() -> Place<'k>) {
        let bounds =
            [(None, None), (Some(12), None), (None, Some(12)), (Some(11), Some(13)), (Some(13), Some(13)), (Some(90), None), (None, Some(-90))];
        for (from, to) in bounds {
            report.case(
                Promise::Filter,
                || format!("from hour {from:?} up to hour {to:?}"),
                || {
                    let mut place = place();
                    let mut sink = place.start()?;
                    for hour in 0..5 {
                        place.epoch(&mut *sink, &Work::next(hour))?;
                    }
                    let (from, to) = (from.map(rows::hour), to.map(rows::hour));
                    let filter = Filter { time_column: Some("at".to_owned()), from, to };
                    place.model.only(from, to);
                    place.holds_filtered(&filter)
                },
            );
        }
    }

    fn adopts<'k>(&self, report: &mut Report, place: &dyn Fn() -> Place<'k>, replaces: bool) {
        for forgotten in [false, true] {
            report.case(
                Promise::Adopt,
                || if forgotten { "when the records are lost".to_owned() } else { "when the records are there".to_owned() },
                || {
                    let mut place = place();
                    let mut sink = place.start()?;
                    place.epoch(&mut *sink, &Work::first())?;
                    place.epoch(&mut *sink, &Work::second(replaces))?;
                    drop(sink);
                    place.open = false;
                    if forgotten {
                        place.records = std::sync::Arc::default();
                    }
                    let files = place.disk.files();
                    let sink = place.planned()?;
                    let cx = place.context();
                    let state = place.on(sink.adopt(&cx))?.map_err(|error| format!("it fails: {error}"))?;
                    ensure(place.disk.files() == files, || "it changes what is stored".to_owned())?;
                    place.records = std::sync::Arc::default();
                    place.records.apply(&state);
                    place.last = place.last.take().map(|(epoch, _)| (epoch, SinkState::default()));
                    place.holds("with the adopted records")?;
                    let mut sink = place.start()?;
                    place.epoch(&mut *sink, &Work::next(5))?;
                    if replaces {
                        place.epoch(&mut *sink, &Work::replacing())?;
                    }
                    place.holds("after the next epochs")
                },
            );
        }
    }

    fn unstorable<'k>(&self, report: &mut Report, place: &dyn Fn() -> Place<'k>) {
        for (what, odd) in rows::odd() {
            report.case(
                Promise::Unstorable,
                || what.to_owned(),
                || {
                    let mut place = place();
                    let mut sink = place.start()?;
                    place.epoch(&mut *sink, &Work::first())?;
                    let work = Work(vec![(Op::Append, odd)]);
                    match place.try_epoch(&mut *sink, &work) {
                        Ok(()) => return place.holds("it was taken, so it is stored"),
                        Err(Trouble::Stage(_, error)) => {
                            ensure(error.act == crate::Act::Split, || format!("the error says that {:?} must act: {error}", error.act))?;
                        }
                        Err(other) => return Err(other.into()),
                    }
                    place.on(sink.abort())?.map_err(|error| format!("the abort fails: {error}"))?;
                    place.holds("after the abort")?;
                    place.epoch(&mut *sink, &Work::next(5))?;
                    place.holds("after an epoch without it")
                },
            );
        }
    }

    fn probes<'k>(&self, report: &mut Report, place: &dyn Fn() -> Place<'k>) {
        let mut ops = 0;
        for first in [false, true] {
            report.case(
                Promise::Probe,
                || if first { "when there are rows".to_owned() } else { "when there is nothing".to_owned() },
                || {
                    let mut place = place();
                    let mut sink = place.start()?;
                    if first {
                        place.epoch(&mut *sink, &Work::first())?;
                    }
                    let files = place.disk.files();
                    place.disk.fail(Fail::Never);
                    let sink = place.planned()?;
                    place.on(sink.probe(&place.context()))?.map_err(|error| format!("it fails: {error}"))?;
                    ops = place.disk.ops();
                    let after = place.disk.files();
                    ensure(after == files, || format!("it leaves something behind: {:?} instead of {:?}", after.keys(), files.keys()))?;
                    place.holds("afterwards")
                },
            );
        }
        if ops == 0 {
            report.note("Probe on a dead disk, Crash and DiskErrors: the sink does not store through the disk of its ports");
            return;
        }
        for fault in Fault::ERRORS {
            report.case(
                Promise::Probe,
                || format!("when the disk is dead ({fault:?})"),
                || {
                    let place = place();
                    place.disk.fail(Fail::From(0, fault));
                    let sink = place.planned()?;
                    match place.on(sink.probe(&place.context()))? {
                        Ok(()) => Err("it succeeds all the same".to_owned()),
                        Err(error) => ensure(error.category == Category::Storage, || format!("it is no `storage`: {error}")),
                    }
                },
            );
        }
    }
}

impl Place<'_> {
    /// Goes through a part of an epoch.
    fn part(&mut self, sink: &mut dyn crate::Sink, work: &Work, at: At) -> Result<(), Trouble> {
        if let At::Write(writes) = at {
            return self.writes(sink, &Work(work.0.iter().take(writes).cloned().collect()));
        }
        self.writes(sink, work)?;
        self.prepare(sink)?;
        if at.is_decided() {
            self.decide()?;
        }
        if matches!(at, At::Commit | At::Ended) {
            self.commit(sink)?;
        }
        Ok(())
    }

    /// How a new process finds things.
    fn recovery(&self) -> Recovery {
        Recovery { last: self.last.clone(), run_was_open: self.open }
    }
}
