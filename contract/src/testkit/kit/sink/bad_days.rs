//! Sinks on bad days: the process dies, the disk fails.

use super::super::source::every;
use super::super::{Promise, Report, ensure};
use super::SinkKit;
use super::place::{Place, Trouble};
use super::rows::Work;
use crate::testkit::{Fail, Fault, Survives};
use crate::{Category, Sink, StageError};

/// More operations of the workload are not failed one by one.
const MOST_OPS: usize = 200;
/// After every third crash so many of the recovery's operations are crashed, too.
const MOST_AGAIN: usize = 2;
/// What is in the list of operations and is no name of a file or folder.
const VERBS: [&str; 18] = [
    "look", "at", "list", "create", "the", "open", "for", "writing", "read", "write", "sync", "rename", "to", "remove", "folder", "length", "of",
    "set",
];

fn workload(replaces: bool) -> [Work; 3] {
    [Work::first(), Work::second(replaces), Work::next(5)]
}

/// A run from where things stand to the end of the workload.
fn run(place: &mut Place<'_>, replaces: bool) -> Result<(), Trouble> {
    let sink = place.start()?;
    rest(place, sink, replaces)
}

fn rest(place: &mut Place<'_>, mut sink: Box<dyn Sink>, replaces: bool) -> Result<(), Trouble> {
    for work in workload(replaces).iter().skip(place.done()) {
        place.try_epoch(&mut *sink, work)?;
    }
    Ok(())
}

/// How many operations on the disk a run takes, and what they are.
fn operations<'k>(place: &dyn Fn() -> Place<'k>, replaces: bool) -> (usize, Vec<String>) {
    let mut place = place();
    place.disk.record();
    place.disk.fail(Fail::Never);
    let _ = run(&mut place, replaces);
    (place.disk.ops(), place.disk.history())
}

impl SinkKit {
    pub(super) fn crashes<'k>(&self, report: &mut Report, place: &dyn Fn() -> Place<'k>, replaces: bool) {
        let (ops, history) = operations(place, replaces);
        if ops > MOST_OPS {
            report.note(format!("Crash, DiskErrors: of {ops} operations on the disk {MOST_OPS} were failed"));
        }
        let all: Vec<_> = Survives::variants().collect();
        for op in every(ops, MOST_OPS) {
            let crashed = |survives: Survives| {
                let mut place = place();
                place.disk.fail(Fail::Once(op, Fault::Crash));
                let died = run(&mut place, replaces);
                (died, place.after(place.disk.crash(survives)))
            };
            let said =
                |survives: &Survives| format!("died at operation {op} ({}), of what was not synced {survives:?}", history.get(op).map_or("", |h| h));
            // The hardest for every operation, and each of the others for some.
            let variants = [Survives::SYNCED, if op % 2 == 0 { all[op / 2 % all.len()] } else { Survives::seeded(op as u64) }];
            for survives in variants {
                report.case(
                    Promise::Crash,
                    || said(&survives),
                    || {
                        let (died, mut place) = crashed(survives);
                        if let Err(Trouble::Broken(what)) = died {
                            return Err(what);
                        }
                        recovered(&mut place, replaces)?;
                        place.holds("after the rest of the epochs")
                    },
                );
            }
            if op % 3 > 0 {
                continue;
            }
            let (_, found) = crashed(Survives::SYNCED);
            let mut trial = found.after(found.disk.crash(Survives::SYNCED));
            trial.disk.fail(Fail::Never);
            let _ = trial.start();
            for again in every(trial.disk.ops(), MOST_AGAIN) {
                report.case(
                    Promise::Crash,
                    || format!("{}, and died again at operation {again} of the recovery", said(&Survives::SYNCED)),
                    || {
                        let (_, mut place) = crashed(Survives::SYNCED);
                        place.disk.fail(Fail::Once(again, Fault::Crash));
                        let _ = place.start();
                        let mut place = place.after(place.disk.crash(Survives::seeded(again as u64)));
                        recovered(&mut place, replaces)?;
                        place.holds("after the rest of the epochs")
                    },
                );
            }
        }
    }

    pub(super) fn disk_errors<'k>(&self, report: &mut Report, place: &dyn Fn() -> Place<'k>, replaces: bool) {
        let (ops, history) = operations(place, replaces);
        let places: Vec<_> =
            history.iter().flat_map(|done| done.split([' ', '/'])).filter(|name| !name.is_empty() && !VERBS.contains(name)).collect();
        for op in every(ops, MOST_OPS) {
            let done = history.get(op).map_or("", |h| h);
            // Two of them for each operation, all of them for two that follow each other.
            for fault in Fault::ERRORS.into_iter().skip(op % 2).step_by(2) {
                report.case(
                    Promise::DiskErrors,
                    || format!("{fault:?} at operation {op} ({done})"),
                    || {
                        let mut place = place();
                        place.disk.fail(Fail::Once(op, fault));
                        through(&mut place, &places, replaces)?;
                        place.holds("when the disk was well again")
                    },
                );
            }
            report.case(
                Promise::DiskErrors,
                || format!("half of a read or write at operation {op} ({done})"),
                || {
                    let mut place = place();
                    place.disk.fail(Fail::Once(op, Fault::Short));
                    run(&mut place, replaces)?;
                    place.holds("afterwards")
                },
            );
        }
    }
}

impl Place<'_> {
    /// How many epochs of the workload count.
    fn done(&self) -> usize {
        self.last.as_ref().map_or(0, |(epoch, _)| usize::try_from(*epoch).unwrap_or(usize::MAX))
    }
}

/// The next process: it recovers, finds what counts, and goes on.
fn recovered(place: &mut Place<'_>, replaces: bool) -> Result<(), String> {
    let sink = place.start()?;
    place.holds_in(&*sink, "by the next process, recovered")?;
    Ok(rest(place, sink, replaces)?)
}

/// Stores everything in spite of an error, as an engine does.
fn through(place: &mut Place<'_>, places: &[&str], replaces: bool) -> Result<(), String> {
    for _ in 0..8 {
        let mut sink = match place.start() {
            Ok(sink) => sink,
            Err(trouble) => {
                judged(trouble, places)?;
                continue;
            }
        };
        loop {
            let Some(work) = workload(replaces).into_iter().nth(place.done()) else { return Ok(()) };
            let before = place.done();
            let Err(trouble) = place.try_epoch(&mut *sink, &work) else { continue };
            judged(trouble, places)?;
            if place.done() > before {
                // It is decided: the commit is repeated.
                place.commit(&mut *sink)?;
            } else if let Err(error) = place.on(sink.abort())? {
                // The run is over, and the next one recovers.
                judged(Trouble::Stage("abort", error), places)?;
                break;
            } else {
                place.holds("after the abort")?;
            }
        }
    }
    Err("it does not come through, though the disk failed once only".to_owned())
}

fn judged(trouble: Trouble, places: &[&str]) -> Result<(), String> {
    let Trouble::Stage(call, error) = trouble else { return Err(trouble.to_string()) };
    let StageError { category, message, help, .. } = &error;
    ensure(*category == Category::Storage, || format!("the error of `{call}` is of the category {category}, not storage: {error}"))?;
    ensure(!message.trim().is_empty() && !message.contains(['\n', '\r']), || format!("the error of `{call}` is not one line: {message:?}"))?;
    // The folder that relative paths begin in has no name.
    let named = message.contains("working directory") || message.split([' ', '/', ':', ',', '"', '`']).any(|word| places.contains(&word));
    ensure(named, || format!("the error of `{call}` names no file or folder: {error}"))?;
    ensure(help.as_ref().is_some_and(|help| !help.trim().is_empty()), || format!("the error of `{call}` does not say what to do: {error}"))
}
