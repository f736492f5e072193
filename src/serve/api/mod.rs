//! `/api/v1`: what is known and stored of each pipeline, read-only. `docs/api.md` shows each answer.

mod pipelines;
mod rejects;
mod rows;
mod runs;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::routing::get;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use super::{Fleet, Member};

/// The routes, as `docs/api.md` names them.
pub(super) fn routes() -> Router<Arc<Fleet>> {
    Router::new()
        .route("/pipelines", get(pipelines::list))
        .route("/pipelines/{name}", get(pipelines::one))
        .route("/pipelines/{name}/runs", get(runs::list))
        .route("/pipelines/{name}/runs/{run_id}", get(runs::one))
        .route("/pipelines/{name}/rejects", get(rejects::list))
        .route("/pipelines/{name}/gaps", get(rejects::gaps))
        .route("/pipelines/{name}/rows", get(rows::rows))
}

/// Does what reads disks where it holds up no run.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "failed", "The request failed", error.to_string())),
    }
}

/// The pipeline of the path.
pub(super) struct Named(pub(super) Arc<Member>);

impl FromRequestParts<Arc<Fleet>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, fleet: &Arc<Fleet>) -> Result<Self, Problem> {
        let Path(names) = Path::<std::collections::HashMap<String, String>>::from_request_parts(parts, fleet)
            .await
            .map_err(|refused| Problem::parameter(refused.body_text()))?;
        let name = names.get("name").map(String::as_str).unwrap_or_default();
        if let Some(member) = fleet.member(name) {
            return Ok(Self(member));
        }
        match fleet.broken().into_iter().find(|broken| broken.name == name) {
            Some(broken) => Err(Problem::new(
                axum::http::StatusCode::NOT_FOUND,
                "pipeline-down",
                "Nothing can be read of this pipeline",
                format!("{} has errors:\n{}", broken.path.display(), broken.fault),
            )),
            None => Err(Problem::no_pipeline(name)),
        }
    }
}

/// Parameters after the `?`, of which each must be known.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Fleet>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Fleet>) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(refused) => Err(Problem::parameter(refused.body_text())),
        }
    }
}

/// A limit that is asked for: not 0, and at most `most`.
pub(super) fn limit(asked: Option<usize>, usual: usize, most: usize) -> Result<usize, Problem> {
    match asked {
        None => Ok(usual),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::parameter(format!("limit={limit}: it may be from 1 to {most}"))),
    }
}
