//! `/health` and `/ready`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pipeline_contract::rfc3339;
use serde::Deserialize;
use serde_json::json;

use super::problem::Problem;
use super::{Fleet, api};
use crate::watch::Health;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pipeline: Option<String>,
}

/// How every pipeline is, or one of them: 200 when none is unhealthy, else 503.
pub(super) async fn health(State(fleet): State<Arc<Fleet>>, Query(asked): Query<Asked>) -> Result<Response, Problem> {
    let now = fleet.ports.clock.now();
    let mut reports = api::blocking(move || Ok(fleet.reports())).await?;
    if let Some(name) = &asked.pipeline {
        reports.retain(|report| report.pipeline == *name);
        if reports.is_empty() {
            return Err(Problem::no_pipeline(name));
        }
    }
    let status = reports.iter().map(|report| report.status).max().unwrap_or_default();
    let code = if status == Health::Unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Ok((code, Json(json!({"status": status, "checked_at": rfc3339(now), "pipelines": reports}))).into_response())
}

/// 200 once every file was looked at.
pub(super) async fn ready(State(fleet): State<Arc<Fleet>>) -> Result<&'static str, Problem> {
    if fleet.is_ready() { Ok("ready\n") } else { Err(Problem::unavailable("the pipelines are being loaded")) }
}
