//! `pipeline serve`: every pipeline of a folder in one process, and what people and programs see of them over HTTP.
//!
//! - [`Fleet`] holds the pipelines; what is shown of each is a [`Member`].
//! - `routes` puts the answers together; each is a module of its own.

mod fleet;
mod page;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

pub use fleet::{Fleet, Live, Member};

/// Everything that is answered over HTTP.
pub fn routes(fleet: Arc<Fleet>) -> Router {
    Router::new().route("/live", get(async || "alive\n")).fallback(page::nothing).with_state(Arc::clone(&fleet)).merge(page::router(fleet))
}
