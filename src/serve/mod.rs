//! `pipeline serve`: every pipeline of a folder in one process, and what people and programs see of them over HTTP.
//!
//! - [`Fleet`] holds the pipelines; what is shown of each is a [`Member`].
//! - [`Supervisor`] runs them: it watches the files, starts, changes and ends pipelines, and none of them stops another.
//! - `routes` puts the answers together; each is a module of its own. [`Guard`] stands before all of them, [`serve`] before the network.

mod api;
mod fleet;
mod folder;
mod guard;
mod health;
mod metrics;
mod page;
mod problem;
mod server;
mod supervisor;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

pub use fleet::{Broken, Fleet, Live, Member};
pub use guard::Guard;
pub use metrics::Metrics;
pub use problem::Problem;
pub use server::serve;
pub use supervisor::Supervisor;

/// Everything that is answered over HTTP.
pub fn routes(fleet: Arc<Fleet>) -> Router {
    Router::new()
        .route("/live", get(async || "alive\n"))
        .route("/ready", get(health::ready))
        .route("/health", get(health::health))
        .route("/metrics", get(metrics::metrics))
        .nest("/api/v1", api::routes())
        .fallback(nowhere)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(Arc::clone(&fleet))
        .merge(page::router(fleet))
}

/// Nothing is at this path: said as a page to whoever reads pages, but for the paths of programs.
async fn nowhere(State(fleet): State<Arc<Fleet>>, headers: HeaderMap, uri: Uri) -> Response {
    let reads = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains("text/html"));
    let reads = reads && !uri.path().starts_with("/api/");
    if reads { page::nothing(&fleet).await } else { problem::not_found(uri).await.into_response() }
}
