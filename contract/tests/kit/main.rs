//! The test kit itself: an honest plugin of each kind breaks no promise, and for each promise there is a plugin that breaks it and is caught.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it stands")]

mod sink;
mod source;
mod transform;
mod trigger;

use pipeline_contract::testkit::{Promise, Report};
use pipeline_contract::{ConfigTable, PlanError, parse_config, parse_partial};
use serde::de::DeserializeOwned;

/// What the faulty plugins have in common: one breaks one promise, an honest one none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Breaks(Option<Promise>);

impl Breaks {
    fn it(self, promise: Promise) -> bool {
        self.0 == Some(promise)
    }

    fn name(self, honest: &'static str) -> &'static str {
        if self.it(Promise::Describe) { "Not A Name" } else { honest }
    }

    fn parse<T: DeserializeOwned + schemars::JsonSchema>(self, what: &str, table: &ConfigTable<'_>) -> Result<T, Vec<PlanError>> {
        match parse_partial::<T>(what, table) {
            (Some(config), _) if self.it(Promise::Faults) => Ok(config),
            _ => parse_config(what, table),
        }
    }
}

/// Runs the honest one, and one for each promise.
fn every_break_is_caught(promises: &[Promise], check: impl Fn(Breaks) -> Report) {
    let honest = check(Breaks(None));
    assert!(honest.broken.is_empty(), "{honest}");
    for promise in Promise::PLUGIN.iter().chain(promises) {
        assert!(honest.cases.get(promise).is_some_and(|cases| *cases > 0), "{promise:?} is not tried: {honest}");
        let report = check(Breaks(Some(*promise)));
        assert!(report.breaks(*promise), "a plugin that breaks {promise:?} is not caught: {report}");
    }
}

#[test]
fn a_source_that_breaks_a_promise_is_caught_and_an_honest_one_is_not() {
    every_break_is_caught(&Promise::SOURCE, source::check);
}

#[test]
fn a_sink_that_breaks_a_promise_is_caught_and_an_honest_one_is_not() {
    every_break_is_caught(&Promise::SINK, sink::check);
}

#[test]
fn a_trigger_that_breaks_a_promise_is_caught_and_an_honest_one_is_not() {
    every_break_is_caught(&Promise::TRIGGER, trigger::check);
}

#[test]
fn a_transform_that_breaks_a_promise_is_caught_and_an_honest_one_is_not() {
    every_break_is_caught(&Promise::TRANSFORM, transform::check);
}

#[test]
fn each_way_to_fail_in_the_dark_is_caught() {
    use source::Sin;
    for (sin, promise, words) in [
        (Sin::Panics, Promise::Errors, "panicked"),
        (Sin::TellsTheSecret, Promise::Errors, "tells the secret"),
        (Sin::ForgetsTheHint, Promise::Errors, "forgot it"),
        (Sin::BlamesTheOperator, Promise::Errors, "must act"),
        (Sin::TakesGarbageForNothing, Promise::Errors, "it succeeded with other rows"),
        (Sin::SpeaksInTwoLines, Promise::Errors, "not one line"),
        (Sin::WaitsForNothing, Promise::Stops, "s only"),
        (Sin::GoesOnWhenCancelled, Promise::Stops, "sent after it was cancelled"),
        (Sin::LosesTheRejects, Promise::Resume, "its rejects"),
        (Sin::BreaksHalves, Promise::Window, "halves are not the whole"),
        (Sin::NeverEnds, Promise::Reads, "does not end"),
    ] {
        let report = source::check_sin(sin);
        let told = report.broken.iter().any(|broken| broken.promise == promise && broken.what.contains(words));
        assert!(told, "{sin:?} is not caught as {promise:?} with {words:?}: {report}");
    }
}

#[test]
fn a_report_reads_well_and_panics_with_everything() {
    let report = trigger::check(Breaks(Some(Promise::Period)));
    let text = report.to_string();
    assert!(text.starts_with("toy_trigger: broken promises, in "), "{text}");
    assert!(text.contains("Period: 300 ticks from 1999-12-31 23:00:00 UTC on: "), "{text}");
    assert!(text.contains("are 3600s apart, less than the period of 7200s"), "{text}");
    let panic = std::panic::catch_unwind(|| report.assert()).unwrap_err();
    assert_eq!(*panic.downcast_ref::<String>().unwrap(), text);
    trigger::check(Breaks(None)).assert();
}
