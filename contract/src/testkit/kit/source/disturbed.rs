//! Sources in bad times: a far side that fails, a run that must stop.

use std::time::Duration;

use super::super::exec::Drops;
use super::super::harm::{HINT, Harm, When};
use super::super::world::Setting;
use super::super::{Promise, Report, ensure};
use super::session::{Ended, Part, Session, Whole};
use super::{SourceKit, every};
use crate::{Act, Clock, StageError};

/// More requests of a run are not failed one by one.
const MOST_REQUESTS: usize = 8;
const DEADLINE: Duration = Duration::from_secs(10);
/// What a call may take longer than the deadline.
const GRACE: Duration = Duration::from_secs(1);

impl SourceKit {
    pub(super) fn errors(&self, report: &mut Report, whole: &Whole) {
        if whole.sent.is_empty() {
            report.note("Errors: the source asks no far side");
            return;
        }
        if whole.sent.len() > MOST_REQUESTS {
            report.note(format!("Errors: of {} requests {MOST_REQUESTS} were failed", whole.sent.len()));
        }
        for request in every(whole.sent.len(), MOST_REQUESTS) {
            for harm in Harm::ALL {
                for when in [When::Once(request, harm), When::From(request, harm)] {
                    let how = || {
                        let for_ever = if when.is_once() { "once" } else { "from then on" };
                        let uri = whole.sent.get(request).map_or("", |sent| &sent.uri);
                        format!("request {} ({uri}) {harm}, {for_ever}", request + 1)
                    };
                    report.case(Promise::Errors, how, || {
                        let setting = Setting { when, ..self.setting.clone() };
                        self.fails(&self.session(&setting, Drops::Never)?, when, harm, whole)
                    });
                }
            }
        }
    }

    /// Reads everything as an engine does, while one thing goes wrong.
    fn fails(&self, session: &Session, when: When, harm: Harm, whole: &Whole) -> Result<(), String> {
        let judge = |error: &StageError| harm.misjudged(error, self.setting.secret.as_deref()).map_or(Ok(()), Err);
        let mut splits = session.splits()?;
        if let Err(error) = &splits {
            judge(error)?;
            if !when.is_once() {
                return Ok(());
            }
            wait(session, error);
            splits = session.splits()?;
        }
        let splits = splits.map_err(|error| format!("the far side is well again, and the splits still fail: {error}"))?;
        ensure(splits == whole.splits(), || format!("the splits are {splits:?} instead of {:?}, without an error", whole.splits()))?;
        for expected in &whole.parts {
            let (part, error) = match session.read(&expected.split, None)? {
                Ended::Done(part) => {
                    complete(&part, expected, harm)?;
                    continue;
                }
                Ended::Failed(part, error) => (part, error),
            };
            judge(&error)?;
            part.begins(expected)?;
            if when.is_once() && error.is_transient() {
                wait(session, &error);
                let resumable = session.source.capabilities().resumable;
                let position = part.reads.last().filter(|_| resumable).map(|read| &read.position);
                let rest = session.read(&expected.split, position)?;
                let rest = rest.without_error().map_err(|how| format!("the far side is well again: {how}"))?;
                let read = if position.is_some() { part.reads.len() } else { 0 };
                rest.same(&expected.after(read)).map_err(|how| format!("opened again after the error: {how}"))?;
            }
        }
        let sent = session.world.wire.sent();
        if let (When::Once(request, Harm::Later), Some(early)) = (when, sent.array_windows().nth(requested(when)).map(|[a, b]| b.at - a.at)) {
            ensure(early >= HINT, || format!("after request {} was told to wait {HINT:?}, the next was sent after {early:?}", request + 1))?;
        }
        Ok(())
    }

    pub(super) fn stops(&self, report: &mut Report, whole: &Whole) {
        if whole.sent.is_empty() {
            report.note("Stops: the source asks no far side, so it waits for none");
            return;
        }
        for request in every(whole.sent.len(), MOST_REQUESTS) {
            for harm in [Harm::Status(500), Harm::Later, Harm::Silence, Harm::Stall] {
                report.case(
                    Promise::Stops,
                    || format!("{DEADLINE:?} to the deadline, and from request {} on each {harm}", request + 1),
                    || {
                        let setting = Setting { when: When::From(request, harm), deadline: Some(DEADLINE), ..self.setting.clone() };
                        let session = self.session(&setting, Drops::Never)?;
                        let ended = session.whole();
                        let took = session.world.clock.monotonic();
                        ensure(took <= DEADLINE + GRACE, || format!("it ended after {took:?} only"))?;
                        match ended? {
                            Ended::Done(_) => Err("it succeeded, without an answer".to_owned()),
                            Ended::Failed(_, error) => {
                                ensure(error.is_transient(), || format!("time heals it, but the error says {:?}: {error}", error.act))
                            }
                        }
                    },
                );
            }
        }
        let mut polls = 0;
        for cancel_after in 1..=60 {
            let done = report.case(
                Promise::Stops,
                || format!("cancelled after {cancel_after} polls of a run that has no luck"),
                || {
                    let setting = Setting { when: When::From(0, Harm::Status(500)), stutter: 1, ..self.setting.clone() };
                    let mut session = self.session(&setting, Drops::Never)?;
                    session.exec.cancel_after = Some((cancel_after, session.world.run.cancel.clone()));
                    session.whole()?;
                    polls = if session.world.run.cancel.is_cancelled() { cancel_after } else { 0 };
                    let late = session.world.wire.sent().iter().filter(|sent| sent.cancelled).count();
                    // One may have been on its way.
                    ensure(late <= 1, || format!("{late} requests were sent after it was cancelled"))
                },
            );
            if !done || polls < cancel_after {
                break;
            }
        }
    }
}

fn requested(when: When) -> usize {
    match when {
        When::Once(request, _) | When::From(request, _) => request,
        When::Never => usize::MAX,
    }
}

/// Waits as long as the error says, as an engine does.
fn wait(session: &Session, error: &StageError) {
    if let Act::Time { retry_after: Some(after) } = error.act {
        session.world.clock.advance(after);
    }
}

/// A reading without an error: is it all of it?
fn complete(part: &Part, expected: &Part, harm: Harm) -> Result<(), String> {
    let Err(how) = part.same(expected) else { return Ok(()) };
    // What came instead of rows may have become rejects.
    let more = part.rejects().len() > expected.rejects().len();
    let all = expected.rows();
    let some = part.rows().iter().all(|row| all.contains(row));
    if harm.is_body() && more && some { Ok(()) } else { Err(format!("it succeeded with other rows: {how}")) }
}
