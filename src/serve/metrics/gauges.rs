//! How every pipeline is at this moment: made anew for each answer.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use chrono::{DateTime, Utc};
use pipeline_contract::BudgetScope;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};

use super::super::Fleet;
use crate::watch::Health;

/// Seconds since 1970.
pub(super) fn seconds(at: DateTime<Utc>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of any year of ours fit 53 bits")]
    let millis = at.timestamp_millis() as f64;
    millis / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn float(n: u64) -> f64 {
    n as f64
}

struct Gauges(Registry);

impl Gauges {
    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }
}

pub(super) fn gather(fleet: &Fleet) -> prometheus::Result<Vec<MetricFamily>> {
    let all = Gauges(Registry::new());
    let each = |name: &str, help: &str| all.gauge(name, help, &["pipeline"]);
    let age = each("pipeline_data_age_seconds", "The age of the newest stored row.")?;
    let max_age = each("pipeline_data_max_age_seconds", "The age at which the newest stored row is stale.")?;
    let gaps = each("pipeline_gaps", "Stretches of time in which stored rows are missing.")?;
    let gap_rows = each("pipeline_gap_rows", "Rows that are missing in the gaps.")?;
    let bytes = each("pipeline_state_bytes", "The size of the state.")?;
    let failures = each("pipeline_consecutive_failures", "Runs that failed since the last one that stored anything it should.")?;
    let success = each("pipeline_last_success_timestamp_seconds", "When the last run ended that was good as a whole, in seconds since 1970.")?;
    let tick = each("pipeline_next_tick_timestamp_seconds", "When it runs next, in seconds since 1970.")?;
    let health = all.gauge("pipeline_health", "1 for the status that the pipeline has, 0 for the others.", &["pipeline", "status"])?;
    for report in fleet.reports() {
        let name = [report.pipeline.as_str()];
        for status in [Health::Healthy, Health::Degraded, Health::Unhealthy] {
            health.with_label_values(&[name[0], status.name()]).set(if status == report.status { 1.0 } else { 0.0 });
        }
        failures.with_label_values(&name).set(f64::from(report.consecutive_failures));
        if let Some(data) = &report.data {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            age.with_label_values(&name).set(data.age_seconds as f64);
        }
        let set = |gauge: &GaugeVec, value: Option<f64>| value.into_iter().for_each(|value| gauge.with_label_values(&name).set(value));
        set(&gaps, report.gaps.as_ref().map(|gaps| float(gaps.count)));
        set(&gap_rows, report.gaps.as_ref().map(|gaps| float(gaps.missing)));
        set(&success, report.last_success.map(seconds));
        set(&tick, report.next_tick.map(seconds));
    }
    for member in fleet.members() {
        let name = [&*member.name];
        // A state that cannot be read is told by the health.
        if let Ok(size) = member.store.size() {
            bytes.with_label_values(&name).set(float(size));
        }
        if let Some(limit) = member.expected.max_age {
            max_age.with_label_values(&name).set(limit.as_secs_f64());
        }
    }
    let remaining = all.gauge("pipeline_quota_remaining", "Requests that are left in this month (UTC) of the quota of a host.", &["host"])?;
    let limit =
        all.gauge("pipeline_quota_limit", "Requests that a host allows in a month. Of several keys, the one with the least left.", &["host"])?;
    for (host, (left, most)) in quotas(fleet) {
        remaining.with_label_values(&[&host]).set(float(left));
        limit.with_label_values(&[&host]).set(float(most));
    }
    Ok(all.0.gather())
}

/// What is left of each host's quota, and the quota: of the key with the least left.
fn quotas(fleet: &Fleet) -> BTreeMap<String, (u64, u64)> {
    let month = fleet.ports.clock.now().format("%Y-%m").to_string();
    let credits = fleet.metrics.credits.read().unwrap_or_else(PoisonError::into_inner).clone();
    let quotas: Vec<(BudgetScope, u64)> =
        fleet.metrics.quotas.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(scope, most)| (scope.clone(), *most)).collect();
    let mut hosts = BTreeMap::new();
    for (scope, most) in quotas {
        let Some(spent) = credits.as_ref().and_then(|credits| credits.spent(&scope, &month).ok()) else { continue };
        let left = most.saturating_sub(spent);
        let least = hosts.entry(scope.host).or_insert((left, most));
        if left < least.0 {
            *least = (left, most);
        }
    }
    hosts
}
