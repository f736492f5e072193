//! The one polite HTTP client of every source that speaks HTTP.
//!
//! A source embeds an [`HttpConfig`] (its `[source.http]` table), makes an [`HttpClient`] of it when it is built, and asks. The client
//! keeps to the request budget, times out, caps the body, retries what time heals, honours `Retry-After`, and turns every failure into
//! a `StageError` that says who must act. It reaches the world through the ports of a `RunContext` alone, so all of this is tested in
//! virtual time. [`ReqwestTransport`] is the real network behind those ports.

mod backoff;
mod classify;
mod client;
mod config;
mod exchange;
mod hints;
mod transport;

pub use classify::{Classifier, Response, excerpt};
pub use client::{ClientFault, HttpClient};
pub use config::{DEFAULT_USER_AGENT, HttpConfig};
pub use hints::{as_of, parse_rate_limit_reset, parse_retry_after};
pub use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
pub use transport::{ConnectTimeout, ReqwestTransport};
