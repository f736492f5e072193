//! The page: what people see of the pipelines. Rendered here, so that it works without JavaScript; `live.js` brings what changed.
//!
//! - `overview` is `/`, `pipeline` is `/pipelines/{name}`, `run` is `/pipelines/{name}/runs/{run_id}`.
//! - `html` has what they share, `chart` draws, `rows` reads the newest stored rows, `assets` are style and script.
//!
//! Everything here only looks. Text from the far side is escaped by maud, wherever it stands.

mod assets;
mod chart;
mod html;
mod overview;
mod pipeline;
mod problems;
mod rejects;
mod rows;
mod run;
mod strip;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, Utc};
use maud::Markup;
use serde::Deserialize;

use super::Fleet;
use rows::Shelf;

/// Nothing but our own files, no inline style, no inline script, in nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// What the handlers share.
struct Page {
    fleet: Arc<Fleet>,
    /// The newest rows of each pipeline, as they were read last.
    shelf: Shelf,
}

impl Page {
    fn now(&self) -> DateTime<Utc> {
        self.fleet.ports.clock.now()
    }
}

/// The page's routes.
pub(super) fn router(fleet: Arc<Fleet>) -> Router {
    let page = Arc::new(Page { fleet, shelf: Shelf::default() });
    Router::new()
        .route("/", get(overview))
        .route("/pipelines/{name}", get(pipeline))
        .route("/pipelines/{name}/runs/{run_id}", get(run))
        .route("/static/{file}", get(async |Path(file): Path<String>| assets::answer(&file)))
        .layer(map_response(guarded))
        .with_state(page)
}

/// Headers of every answer.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

async fn overview(State(page): State<Arc<Page>>) -> Response {
    blocking(page.now(), move || Some(overview::render(&page.fleet, page.now()))).await
}

/// What a pipeline's page may be asked.
#[derive(Deserialize)]
struct Asked {
    /// Which series is drawn.
    series: Option<String>,
}

async fn pipeline(State(page): State<Arc<Page>>, Path(name): Path<String>, Query(asked): Query<Asked>) -> Response {
    blocking(page.now(), move || {
        let Some(member) = page.fleet.member(&name) else {
            let broken = page.fleet.broken().into_iter().find(|file| file.name == name)?;
            return Some(pipeline::broken(&broken, page.now()));
        };
        // Sinks read files in their own way, which may block: it is this thread that waits.
        let newest = tokio::runtime::Handle::current().block_on(page.shelf.newest(&member, &page.fleet.ports));
        Some(pipeline::render(&member, page.fleet.ports.disk.as_ref(), newest, asked.series.as_deref(), page.now()))
    })
    .await
}

async fn run(State(page): State<Arc<Page>>, Path((name, run_id)): Path<(String, String)>) -> Response {
    blocking(page.now(), move || {
        let member = page.fleet.member(&name)?;
        run::render(&member, &run_id, page.now())
    })
    .await
}

/// The answer to people who ask for what is not there.
pub(super) async fn nothing(fleet: &Fleet) -> Response {
    guarded(missing(fleet.ports.clock.now())).await
}

fn missing(now: DateTime<Utc>) -> Response {
    (StatusCode::NOT_FOUND, Html(html::missing(now).into_string())).into_response()
}

/// State and files are read where waiting disturbs nobody. `None` is a page that does not exist.
async fn blocking(now: DateTime<Utc>, render: impl FnOnce() -> Option<Markup> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(render).await {
        Ok(Some(markup)) => Html(markup.into_string()).into_response(),
        Ok(None) => missing(now),
        Err(error) => {
            tracing::error!("a page could not be made: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "this page could not be made: the log says why\n").into_response()
        }
    }
}
