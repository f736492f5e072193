//! `/metrics`: what is counted since the process began, and how every pipeline is right now, as Prometheus reads it.

mod counted;
mod gauges;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use pipeline_contract::{BudgetScope, Ports};
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{CounterVec, Encoder, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use super::problem::Problem;
use super::{Fleet, api};
use crate::run::{CreditStore, status_name};
use crate::state::RunRecord;

/// From a run of a few requests to one that fetches years.
const RUN_SECONDS: [f64; 12] = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];
const SPLIT_SECONDS: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// What is counted.
pub struct Metrics {
    registry: Registry,
    rows: IntCounterVec,
    runs: IntCounterVec,
    run_seconds: HistogramVec,
    split_seconds: HistogramVec,
    requests: IntCounterVec,
    retries: IntCounterVec,
    budget_wait: CounterVec,
    /// The month's limit of each host and key that a pipeline here asks, and where the credits are counted.
    quotas: RwLock<BTreeMap<BudgetScope, u64>>,
    credits: RwLock<Option<Arc<dyn CreditStore>>>,
}

/// A metric whose name and labels are constants of this file: it is made, or the program could not work at all.
fn made<T: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<T>) -> T {
    #[expect(clippy::expect_used, reason = "names and labels are constants, and a test makes them all")]
    let metric = metric.expect("a metric of this file is well formed");
    #[expect(clippy::expect_used, reason = "each is registered once")]
    registry.register(Box::new(metric.clone())).expect("no two metrics have one name");
    metric
}

impl Metrics {
    /// Nothing counted yet. `now` is when the process began.
    pub fn new(now: DateTime<Utc>) -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| made(&registry, IntCounterVec::new(Opts::new(name, help), labels));
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            made(&registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &["pipeline"]))
        };
        let rows = counter("pipeline_rows_total", "Rows by what became of them.", &["pipeline", "outcome"]);
        let runs = counter("pipeline_runs_total", "Runs that ended, by how they ended.", &["pipeline", "status"]);
        let run_seconds = histogram("pipeline_run_duration_seconds", "How long runs took.", &RUN_SECONDS);
        let split_seconds = histogram("pipeline_split_duration_seconds", "How long one split (one coin, say) was read.", &SPLIT_SECONDS);
        let requests = counter(
            "pipeline_http_requests_total",
            "Requests that were sent, by the status of the answer, or by what kept it from coming.",
            &["pipeline", "host", "status"],
        );
        let retries = counter("pipeline_http_retries_total", "Requests that were sent again in one run.", &["pipeline", "host"]);
        let wait = Opts::new(
            "pipeline_budget_wait_seconds_total",
            "How long requests waited for the request budget of a host, or for the end of a pause that it asked for.",
        );
        let budget_wait = made(&registry, CounterVec::new(wait, &["host"]));
        let info = Opts::new("pipeline_build_info", "The program that runs; always 1.");
        let info = made(&registry, IntGaugeVec::new(info, &["version", "os", "arch"]));
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH]).set(1);
        let began = made(&registry, Gauge::new("process_start_time_seconds", "When the process began, in seconds since 1970."));
        began.set(gauges::seconds(now));
        let (quotas, credits) = (RwLock::default(), RwLock::default());
        Self { registry, rows, runs, run_seconds, split_seconds, requests, retries, budget_wait, quotas, credits }
    }

    /// Where the month's requests are counted.
    pub fn count_credits(&self, credits: Arc<dyn CreditStore>) {
        *self.credits.write().unwrap_or_else(PoisonError::into_inner) = Some(credits);
    }

    /// A host and key have so many requests in a month.
    pub fn quota(&self, scope: &BudgetScope, per_month: u64) {
        let mut quotas = self.quotas.write().unwrap_or_else(PoisonError::into_inner);
        // As the budget does: of two limits for one key, the smaller holds.
        quotas.entry(scope.clone()).and_modify(|known| *known = per_month.min(*known)).or_insert(per_month);
    }

    /// Counts of a pipeline are there from its start on, so that the first event is a change that can be seen.
    pub fn begin(&self, pipeline: &str) {
        for outcome in OUTCOMES {
            self.rows.with_label_values(&[pipeline, outcome]);
        }
        for status in ["ok", "partial", "failed", "interrupted"] {
            self.runs.with_label_values(&[pipeline, status]);
        }
    }

    /// A run is over.
    pub fn ran(&self, pipeline: &str, run: &RunRecord) {
        let rows = [run.rows.written, run.rows.duplicates, run.rows.conflicts, run.rows.rejected, run.rows.filtered];
        for (outcome, rows) in OUTCOMES.into_iter().zip(rows) {
            self.rows.with_label_values(&[pipeline, outcome]).inc_by(rows);
        }
        self.runs.with_label_values(&[pipeline, status_name(run.status)]).inc();
        let took = run.ended_at.and_then(|end| (end - run.started_at).to_std().ok()).unwrap_or_default();
        self.run_seconds.with_label_values(&[pipeline]).observe(took.as_secs_f64());
    }

    /// A split was read.
    pub fn read(&self, pipeline: &str, took: Duration) {
        self.split_seconds.with_label_values(&[pipeline]).observe(took.as_secs_f64());
    }

    /// A pipeline is gone: so are its series.
    pub fn forget(&self, pipeline: &str) {
        forget(&self.rows, pipeline);
        forget(&self.runs, pipeline);
        forget(&self.run_seconds, pipeline);
        forget(&self.split_seconds, pipeline);
        forget(&self.requests, pipeline);
        forget(&self.retries, pipeline);
    }

    /// The same world, in which what a pipeline asks is counted.
    pub(super) fn ports(&self, pipeline: &Arc<str>, ports: &Ports) -> (Ports, AskedBefore) {
        counted::ports(self, pipeline, ports)
    }

    fn text(&self, fleet: &Fleet) -> Result<Vec<u8>, Problem> {
        let mut families = self.registry.gather();
        families.extend(gauges::gather(fleet).map_err(|error| failed(&error))?);
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text).map_err(|error| failed(&error))?;
        Ok(text)
    }
}

const OUTCOMES: [&str; 5] = ["written", "duplicate", "conflict", "rejected", "filtered"];

/// What a pipeline asked for in the run that goes on: what it asks again is a repetition. To be emptied when a run is over.
pub(super) type AskedBefore = Arc<Mutex<HashSet<u64>>>;

fn failed(error: &prometheus::Error) -> Problem {
    Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "failed", "The metrics could not be written", error.to_string())
}

fn forget<T: MetricVecBuilder>(series: &MetricVec<T>, pipeline: &str) {
    for family in series.collect() {
        for metric in family.get_metric() {
            let labels: std::collections::HashMap<&str, &str> = metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
            if labels.get("pipeline") == Some(&pipeline) {
                // It was there just now.
                let _ = series.remove(&labels);
            }
        }
    }
}

/// What Prometheus reads.
pub(super) async fn metrics(State(fleet): State<Arc<Fleet>>) -> Result<Response, Problem> {
    let text = api::blocking(move || fleet.metrics.text(&fleet)).await?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
