//! The kit of sources.

mod disturbed;
mod session;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use self::session::{Ended, Session, Whole, part};
use super::exec::Drops;
use super::harm::{Harm, When};
use super::options::Subject;
use super::world::Setting;
use super::{Promise, Report, difference, ensure, schema_fault};
use crate::testkit::{Answer, SimDisk};
use crate::{Kind, Plugin, Source, Stage, Window};

/// More polls of one call are not tried one by one.
const MOST_POLLS: usize = 300;
/// More positions are not opened one by one.
const MOST_POSITIONS: usize = 40;

/// Runs a source through every promise of [`Promise::PLUGIN`] and [`Promise::SOURCE`].
///
/// The far side is a function of the request alone: a request that is sent again, because its answer was lost, must be answered as the first
/// time. Nothing is random and nothing takes time, so a run of the kit finds the same each time.
pub struct SourceKit {
    subject: Subject,
    setting: Setting,
    window: Option<(DateTime<Utc>, DateTime<Utc>)>,
    varying: Vec<String>,
    only: Option<Promise>,
}

impl SourceKit {
    /// A kit for the source that `toml`, the table `[source]` of a pipeline file with or without its header and its `type`, builds.
    pub fn new(plugin: impl Plugin + 'static, toml: &str) -> Self {
        let now = DateTime::from_timestamp(1_779_205_040, 0).unwrap_or_default();
        let subject = Subject::new(Box::new(plugin), Kind::Source, toml);
        Self { subject, setting: Setting::new(now), window: None, varying: Vec::new(), only: None }
    }

    /// The far side: what it answers to a request. Without it nobody listens.
    #[must_use]
    pub fn answers(mut self, answers: impl Fn(&http::Request<Bytes>) -> Answer + Send + Sync + 'static) -> Self {
        self.setting.answers = Arc::new(answers);
        self
    }

    /// The disk, for sources that read files. Without it it is empty.
    #[must_use]
    pub fn disk(mut self, disk: &SimDisk) -> Self {
        self.setting.disk = disk.clone();
        self
    }

    /// When the runs take place; 2026-05-19T15:37:20Z if not said.
    #[must_use]
    pub fn now(mut self, now: DateTime<Utc>) -> Self {
        self.setting.now = now;
        self
    }

    /// A window in which there are rows in both halves, for sources that read windows. The time of a row is its first `timestamp` column.
    #[must_use]
    pub fn window(mut self, from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        self.window = Some((from, to));
        self
    }

    /// A secret of the table, which no error may tell.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.setting.secret = Some(secret.to_owned());
        self
    }

    /// A column that says when a row was read: it is not compared.
    #[must_use]
    pub fn varying(mut self, column: &str) -> Self {
        self.varying.push(column.to_owned());
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
        if report.broken.iter().any(|broken| broken.what.starts_with("the table of the test")) {
            return report;
        }
        report.case(Promise::Schema, || "the schema".to_owned(), || self.schema());
        let mut whole = None;
        report.case(
            Promise::Reads,
            || "undisturbed".to_owned(),
            || {
                whole = Some(self.session(&self.setting, Drops::Never)?.whole()?.without_error()?);
                Ok(())
            },
        );
        let Some(whole) = whole else { return report };
        report.case(
            Promise::Reads,
            || "undisturbed".to_owned(),
            || ensure(whole.rows() > 0, || "there is no row: nothing can be shown on it; let the far side bring some".to_owned()),
        );
        self.splits(&mut report, &whole);
        report.case(Promise::Schema, || "undisturbed".to_owned(), || whole.well_formed());
        self.repeats(&mut report, &whole);
        self.resume(&mut report, &whole);
        self.drops(&mut report, &whole);
        self.windows(&mut report, &whole);
        self.budget(&mut report, &whole);
        self.probe(&mut report, &whole);
        self.errors(&mut report, &whole);
        self.stops(&mut report, &whole);
        report
    }

    fn source(&self) -> Result<Box<dyn Source>, String> {
        match self.subject.build()? {
            Stage::Source(source) => Ok(source),
            other => Err(format!("it builds a {}", other.kind())),
        }
    }

    /// A new process in a new world.
    fn session(&self, setting: &Setting, drops: Drops) -> Result<Session, String> {
        Ok(Session::new(self.source()?, setting, drops, self.varying.clone()))
    }

    fn schema(&self) -> Result<(), String> {
        let (one, other) = (self.source()?, self.source()?);
        let schema = one.schema();
        if let Some(fault) = schema_fault(&schema) {
            return Err(fault);
        }
        if let Some(column) = self.varying.iter().find(|column| schema.field_with_name(column).is_err()) {
            return Err(format!("the test speaks of the column {column:?}, which there is not"));
        }
        ensure(schema == other.schema() && one.capabilities() == other.capabilities(), || "two that were built alike have other columns".to_owned())
    }

    fn splits(&self, report: &mut Report, whole: &Whole) {
        report.case(
            Promise::Splits,
            || "their ids".to_owned(),
            || {
                let mut seen = std::collections::BTreeSet::new();
                whole.parts.iter().try_for_each(|part| {
                    ensure(!part.split.id.trim().is_empty() && !part.split.id.contains(['\n', '\r']), || {
                        format!("the id {:?} is empty or not one line", part.split.id)
                    })?;
                    ensure(seen.insert(&part.split.id), || format!("the id {:?} comes twice", part.split.id))
                })
            },
        );
        report.case(
            Promise::Splits,
            || "asked again".to_owned(),
            || {
                let session = self.session(&self.setting, Drops::Never)?;
                let first = session.splits()?.map_err(|error| error.to_string())?;
                let again = session.splits()?.map_err(|error| error.to_string())?;
                ensure(first == again && first == whole.splits(), || format!("first {first:?}, then {again:?}"))
            },
        );
        for split in whole.splits() {
            report.case(Promise::Splits, || format!("split {:?} as JSON", split.id), || session::stored(&split).map(drop));
        }
    }

    fn repeats(&self, report: &mut Report, whole: &Whole) {
        report.case(
            Promise::Reads,
            || "another process".to_owned(),
            || self.session(&self.setting, Drops::Never)?.whole()?.without_error()?.same(whole),
        );
        report.case(
            Promise::Reads,
            || "the same source twice".to_owned(),
            || {
                let session = self.session(&self.setting, Drops::Never)?;
                session.whole()?.without_error()?;
                session.whole()?.without_error()?.same(whole)
            },
        );
    }

    fn resume(&self, report: &mut Report, whole: &Whole) {
        let Ok(true) = self.source().map(|source| source.capabilities().resumable) else {
            report.note("Resume: the source is not resumable, so its splits are committed whole");
            return;
        };
        let positions: usize = whole.parts.iter().map(|part| part.reads.len()).sum();
        for expected in &whole.parts {
            for at in every(expected.reads.len(), MOST_POSITIONS * expected.reads.len() / positions.max(1) + 1) {
                let Some(read) = expected.reads.get(at) else { continue };
                report.case(
                    Promise::Resume,
                    || format!("split {:?} opened at position {} ({})", expected.split.id, at + 1, read.position.0),
                    || {
                        let session = self.session(&self.setting, Drops::Never)?;
                        let rest = session.read(&expected.split, Some(&read.position))?.without_error()?;
                        rest.same(&expected.after(at + 1))
                    },
                );
            }
            report.case(
                Promise::Resume,
                || format!("split {:?} opened anew after each read", expected.split.id),
                || {
                    let mut got = part(&expected.split);
                    loop {
                        let session = self.session(&self.setting, Drops::Never)?;
                        let position = got.reads.last().map(|read| read.position.clone());
                        let Some(read) = session.one(&expected.split, position.as_ref())? else { break };
                        ensure(got.reads.len() <= expected.reads.len() + 1, || "it does not come to an end".to_owned())?;
                        got.reads.push(read);
                    }
                    got.same(expected)
                },
            );
        }
    }

    fn drops(&self, report: &mut Report, whole: &Whole) {
        for stutter in [1, 2] {
            let setting = Setting { stutter, ..self.setting.clone() };
            let mut longest = 0;
            let held = report.case(
                Promise::CancelSafe,
                || "a far side that takes its time".to_owned(),
                || {
                    let session = self.session(&setting, Drops::Never)?;
                    session.whole()?.without_error()?.same(whole)?;
                    longest = session.exec.longest();
                    Ok(())
                },
            );
            if !held {
                continue;
            }
            if longest > MOST_POLLS {
                report.note(format!("CancelSafe: of {longest} polls of a call only {MOST_POLLS} were tried"));
            }
            let one_by_one = every(longest, MOST_POLLS).into_iter().map(|poll| Drops::After(poll + 1));
            for drops in one_by_one.chain([Drops::Growing]) {
                report.case(
                    Promise::CancelSafe,
                    || match drops {
                        Drops::After(polls) => format!("every call dropped after {polls} polls, and called again"),
                        _ => "every call dropped after one poll, then after two, ...".to_owned(),
                    },
                    || self.session(&setting, drops)?.whole()?.without_error()?.same(whole),
                );
            }
        }
    }

    fn windows(&self, report: &mut Report, whole: &Whole) {
        let Ok(can) = self.source().map(|source| source.capabilities().windows) else { return };
        let read = |from, to| {
            let window = Window { from, to };
            let setting = Setting { window: Some(window), ..self.setting.clone() };
            self.session(&setting, Drops::Never)?.whole()
        };
        let (from, to) = match self.window {
            Some(window) => window,
            None if can => {
                let what = "it reads windows, and the test names none: say `.window(from, to)`".to_owned();
                report.case(Promise::Window, || "the test".to_owned(), || Err(what));
                return;
            }
            None => (self.setting.now - Duration::from_secs(2 * 24 * 3600), self.setting.now - Duration::from_secs(24 * 3600)),
        };
        if !can {
            report.case(
                Promise::Window,
                || "asked for a window, though it reads none".to_owned(),
                || match read(Some(from), Some(to))? {
                    Ended::Done(rows) => rows.same(whole),
                    Ended::Failed(_, error) => ensure(!error.is_transient(), || format!("time will not heal it: {error}")),
                },
            );
            return;
        }
        report.case(
            Promise::Window,
            || format!("from {from} to {to}"),
            || {
                let all = read(Some(from), Some(to))?.without_error()?;
                all.within(&Window { from: Some(from), to: Some(to) })?;
                let middle = from + (to - from) / 2;
                let halves = (read(Some(from), Some(middle))?.without_error()?, read(Some(middle), Some(to))?.without_error()?);
                halves.0.within(&Window { from: Some(from), to: Some(middle) })?;
                halves.1.within(&Window { from: Some(middle), to: Some(to) })?;
                ensure(halves.0.rows() > 0 && halves.1.rows() > 0, || {
                    format!(
                        "there are {} rows before {middle} and {} after: choose a window with rows in both halves",
                        halves.0.rows(),
                        halves.1.rows()
                    )
                })?;
                let sorted = |mut rows: Vec<String>| {
                    rows.sort();
                    rows
                };
                let both = halves.0.all_rows().into_iter().chain(halves.1.all_rows()).collect();
                difference(&sorted(both), &sorted(all.all_rows())).map_or(Ok(()), |how| Err(format!("the two halves are not the whole: {how}")))
            },
        );
    }

    fn budget(&self, report: &mut Report, whole: &Whole) {
        report.case(
            Promise::Budget,
            || "undisturbed".to_owned(),
            || match whole.sent.iter().find(|sent| !sent.allowed) {
                Some(sent) => Err(format!("{} was sent without asking the budget", sent.uri)),
                None => Ok(()),
            },
        );
        report.case(
            Promise::Budget,
            || "undisturbed".to_owned(),
            || match self.source()?.capabilities().requests_per_run {
                Some(most) => ensure(whole.sent.len() as u64 <= most, || format!("{} requests, where {most} were announced", whole.sent.len())),
                None => Ok(()),
            },
        );
    }

    fn probe(&self, report: &mut Report, whole: &Whole) {
        const MOST: usize = 3;
        report.case(
            Promise::Probe,
            || "when all is well".to_owned(),
            || {
                let session = self.session(&self.setting, Drops::Never)?;
                session.probe()?.map_err(|error| format!("it fails: {error}"))?;
                let sent = session.world.wire.sent().len();
                ensure(sent <= MOST, || format!("it sends {sent} requests"))
            },
        );
        if whole.sent.is_empty() {
            report.note("Probe on a dead far side: the source asks none");
            return;
        }
        report.case(
            Promise::Probe,
            || "when nobody listens".to_owned(),
            || {
                let setting = Setting { when: When::From(0, Harm::Refused), ..self.setting.clone() };
                match self.session(&setting, Drops::Never)?.probe()? {
                    Ok(()) => Err("it succeeds all the same".to_owned()),
                    Err(error) => Harm::Refused.misjudged(&error, self.setting.secret.as_deref()).map_or(Ok(()), Err),
                }
            },
        );
    }
}

/// All numbers below `count`, or as many of them as `most`, evenly, with the first and the last.
pub(super) fn every(count: usize, most: usize) -> Vec<usize> {
    if count <= most.max(2) { (0..count).collect() } else { (0..most.max(2)).map(|n| n * (count - 1) / (most.max(2) - 1)).collect() }
}
