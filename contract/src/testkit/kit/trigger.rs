//! The kit of triggers.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::options::Subject;
use super::{Promise, Report, ensure};
use crate::testkit::TestRandom;
use crate::{Kind, Plugin, Random, Stage, Trigger};

/// Ticks that are followed one after the other.
const TICKS: usize = 300;
/// Instants that are asked about by chance.
const INSTANTS: usize = 300;

/// Runs a trigger through every promise of [`Promise::PLUGIN`] and [`Promise::TRIGGER`].
pub struct TriggerKit {
    subject: Subject,
}

impl TriggerKit {
    /// A kit for the trigger that `toml`, the table `[trigger]` of a pipeline file with or without its header and its `type`, builds.
    pub fn new(plugin: impl Plugin + 'static, toml: &str) -> Self {
        Self { subject: Subject::new(Box::new(plugin), Kind::Trigger, toml) }
    }

    /// Tries everything, and panics with everything that was broken.
    #[track_caller]
    pub fn assert(&self) {
        self.check().assert();
    }

    fn trigger(&self) -> Result<Box<dyn Trigger>, String> {
        match self.subject.build()? {
            Stage::Trigger(trigger) => Ok(trigger),
            other => Err(format!("it builds a {}", other.kind())),
        }
    }

    /// Tries everything.
    pub fn check(&self) -> Report {
        let mut report = Report::default();
        self.subject.check(&mut report);
        let (Ok(trigger), Ok(other)) = (self.trigger(), self.trigger()) else { return report };
        for at in instants() {
            self.at(&mut report, at, &*trigger, &*other);
        }
        for begin in ["1999-12-31T23:00:00Z", "2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"] {
            self.along(&mut report, begin.parse().unwrap_or_default(), &*trigger);
        }
        report
    }

    fn at(&self, report: &mut Report, at: DateTime<Utc>, trigger: &dyn Trigger, other: &dyn Trigger) {
        let said = || format!("after {at}");
        let mut tick = None;
        report.case(Promise::Later, said, || {
            tick = trigger.next(at);
            tick.map_or(Ok(()), |tick| ensure(tick > at, || format!("the next tick is {tick}")))
        });
        report.case(Promise::Pure, said, || {
            let asked = [trigger.next(at), other.next(at)];
            ensure(asked == [tick, tick], || format!("the next tick is {tick:?}, and asked again {asked:?}"))?;
            let delay = |of: &dyn Trigger, seed| of.delay(at, seed);
            ensure((0..4).all(|seed| delay(trigger, seed) == delay(other, seed) && delay(trigger, seed) == delay(trigger, seed)), || {
                "the delay is another when asked again".to_owned()
            })?;
            ensure(trigger.period() == other.period(), || "the period is another when asked again".to_owned())
        });
        report.case(Promise::Steady, said, || match tick {
            Some(tick) => {
                let before = [at + TimeDelta::microseconds(1), at + (tick - at) / 2, tick - TimeDelta::microseconds(1)];
                match before.into_iter().filter(|between| (at..tick).contains(between)).find(|between| trigger.next(*between) != Some(tick)) {
                    Some(between) => Err(format!("the next tick is {tick}, and after {between}, which is before it, {:?}", trigger.next(between))),
                    None => Ok(()),
                }
            }
            None => {
                let later = trigger.next(at + TimeDelta::days(400));
                ensure(later.is_none(), || format!("there is no tick, and later there is {later:?}"))
            }
        });
        report.case(Promise::Delay, said, || match (tick, trigger.period()) {
            (Some(tick), Some(period)) => (0..8).try_for_each(|seed| {
                let delay = trigger.delay(tick, seed);
                ensure(delay < period, || format!("the run starts {delay:?} after its tick, when the next may be due: the period is {period:?}"))
            }),
            _ => Ok(()),
        });
    }

    fn along(&self, report: &mut Report, begin: DateTime<Utc>, trigger: &dyn Trigger) {
        report.case(
            Promise::Period,
            || format!("{TICKS} ticks from {begin} on"),
            || {
                let period = trigger.period();
                ensure(period != Some(Duration::ZERO), || "the period is no time at all".to_owned())?;
                let mut last: Option<DateTime<Utc>> = None;
                for _ in 0..TICKS {
                    let Some(tick) = trigger.next(last.unwrap_or(begin)) else { break };
                    if let (Some(last), Some(period)) = (last, period) {
                        let apart = (tick - last).to_std().unwrap_or_default();
                        ensure(apart >= period, || format!("{last} and {tick} are {apart:?} apart, less than the period of {period:?}"))?;
                    }
                    last = Some(tick);
                }
                Ok(())
            },
        );
    }
}

/// Corners, both changes of the clocks, and some by chance.
fn instants() -> Vec<DateTime<Utc>> {
    let corners = [
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00Z",
        "2000-02-29T00:00:00Z",
        "2026-03-29T00:59:59.999999Z",
        "2026-03-29T01:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:00:00Z",
        "2026-12-31T23:59:59Z",
        "2038-01-19T03:14:08Z",
        "2100-02-28T23:59:59Z",
    ];
    let random = TestRandom::new(11);
    let by_chance = std::iter::repeat_with(move || {
        // From 2000 to 2040, to the microsecond.
        let micros = 946_684_800_000_000 + i64::try_from(random.next() % 1_262_304_000_000_000).unwrap_or_default();
        DateTime::from_timestamp_micros(micros).unwrap_or_default()
    });
    corners.iter().filter_map(|text| text.parse().ok()).chain(by_chance.take(INSTANTS)).collect()
}
