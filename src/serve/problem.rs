//! Errors as RFC 9457 problem details.

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use pipeline_contract::{Act, StageError};
use serde_json::json;

/// Where each type of problem is described.
const DESCRIBED: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/api.md");

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
}

/// The path of the request that a problem is of; put in by the guard.
#[derive(Clone, Debug)]
pub(crate) struct Kept(pub(crate) Problem);

impl Problem {
    /// Of a status, with the heading in `docs/api.md` that tells of it.
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, title, detail: detail.into() }
    }

    /// Nothing is at this path.
    pub fn no_route(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-path", "There is nothing at this path", format!("nothing is served at {path}: see docs/api.md"))
    }

    /// No pipeline has this name.
    pub fn no_pipeline(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown-pipeline", "There is no such pipeline", format!("no pipeline is named \"{name}\""))
    }

    /// A parameter cannot be used.
    pub fn parameter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-parameter", "A parameter cannot be used", detail)
    }

    /// It cannot be answered now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "It cannot be answered now", detail)
    }

    pub(crate) fn at(&self, instance: &str) -> Response {
        let Self { status, kind, title, detail } = self;
        let body = json!({
            "type": format!("{DESCRIBED}#{kind}"), "title": title, "status": status.as_u16(), "detail": detail, "instance": instance,
        });
        let mut response = (*status, body.to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

impl From<StageError> for Problem {
    fn from(error: StageError) -> Self {
        let detail = error.help.as_ref().map_or_else(|| error.message.clone(), |help| format!("{}; {help}", error.message));
        match error.act {
            Act::Time { .. } => Self::unavailable(detail),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "What is stored could not be read", detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // The guard knows the path and writes the body.
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Kept(self));
        response
    }
}

pub(super) async fn not_found(uri: Uri) -> Problem {
    Problem::no_route(uri.path())
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} cannot be asked with {method}: everything here is read with GET", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Everything here is read-only", detail)
}
