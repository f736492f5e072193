//! What stands before every answer: who may ask by which name, how long an answer may take, and headers that browsers obey.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::problem::{Kept, Problem};

/// An answer must have begun by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nothing here takes a body: what comes with one is refused beyond this, in bytes.
const BODY: u64 = 16 << 10;

/// Who may ask.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Web pages of these origins may read the answers; `*` is all of them.
    pub origins: Vec<String>,
    /// Names of this server beside `localhost` and addresses.
    pub hosts: Vec<String>,
    /// It listens for this machine alone: a request that calls it by another name comes from a page that made a name of its own point here.
    pub local: bool,
}

impl Guard {
    /// A guard for what listens at this address.
    pub fn new(listens: SocketAddr, origins: Vec<String>, hosts: Vec<String>) -> Self {
        Self { origins, hosts, local: listens.ip().is_loopback() }
    }

    /// Puts itself before all routes.
    pub fn over(self, routes: Router) -> Router {
        routes.layer(from_fn_with_state(Arc::new(self), pass))
    }

    fn refuses(&self, request: &Request) -> Option<Problem> {
        if !self.local && self.hosts.is_empty() {
            return None;
        }
        let header = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?").to_owned());
        let named = header.into_iter().chain(request.uri().authority().map(ToString::to_string));
        let foreign = named.into_iter().find(|host| !self.knows(host))?;
        let detail = format!("this server is not known as {foreign:?}: ask it as localhost, or start it with --allow-host and that name");
        Some(Problem::new(StatusCode::FORBIDDEN, "foreign-host", "The Host of the request is not known", detail))
    }

    fn knows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.split(':').next().unwrap_or_default(),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(&name))
    }

    fn cross_origin(&self, asked: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        let all = self.origins.iter().any(|origin| origin == "*");
        if !all {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = asked else { return };
        let known = self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes());
        if all || known {
            let allowed = if all { HeaderValue::from_static("*") } else { origin.clone() };
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
    }
}

async fn pass(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let size = request.headers().get(header::CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
    let asks_first = request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if let Some(refused) = guard.refuses(&request) {
        refused.into_response()
    } else if size > BODY {
        let detail = format!("a body of {size} bytes came with the request; nothing here takes one");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The request has a body", detail).into_response()
    } else if asks_first && !guard.origins.is_empty() {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Accept"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        response
    } else {
        let late = || Problem::unavailable(format!("no answer within {} s", PATIENCE.as_secs())).into_response();
        tokio::time::timeout(PATIENCE, next.run(request)).await.unwrap_or_else(|_| late())
    };
    response = as_problem(response, &path).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    guard.cross_origin(origin.as_ref(), headers);
    response
}

/// Errors with their path; those too that are not ours, as of a path that is no text.
async fn as_problem(mut response: Response, path: &str) -> Response {
    if let Some(Kept(problem)) = response.extensions_mut().remove::<Kept>() {
        let mut told = problem.at(path);
        if let Some(allow) = response.headers().get(header::ALLOW) {
            told.headers_mut().insert(header::ALLOW, allow.clone());
        }
        return told;
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || !(kind.is_empty() || kind.starts_with("text/plain")) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), 4096).await.unwrap_or_default();
    let detail = String::from_utf8_lossy(&text).trim().to_owned();
    let problem = match status {
        StatusCode::BAD_REQUEST => Problem::parameter(detail),
        StatusCode::NOT_FOUND => Problem::no_route(path),
        other => Problem::new(other, "failed", other.canonical_reason().unwrap_or("The request failed"), detail),
    };
    problem.at(path)
}
