//! The real network.

use std::collections::HashMap;
use std::error::Error;
use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipeline_contract::{Body, Transport, TransportError, TransportFault, async_trait, is_this_machine};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};

use crate::exchange::seconds;

/// How long a request may take to connect: an extension of the request, as [`Transport::send`] knows one time alone.
#[derive(Clone, Copy, Debug)]
pub struct ConnectTimeout(pub Duration);

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many redirects within one host are followed.
const REDIRECTS: usize = 5;

/// HTTP over the network, on `reqwest`: TLS 1.2 and 1.3 by rustls with ring and the system's certificates, gzip undone piece by piece, the
/// system's proxy settings. A redirect is followed to the same scheme, host and port only, as the key goes with it.
///
/// Requests to this machine go past any proxy: a key may be sent to it over plain `http://`, and a proxy is somewhere else.
///
/// It must be used within a tokio runtime that has I/O and time.
#[derive(Debug, Default)]
pub struct ReqwestTransport {
    /// One for each way to connect in use, which is mostly one.
    clients: Mutex<HashMap<Way, Client>>,
}

/// How to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Way {
    connect_timeout: Duration,
    to: To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum To {
    /// By the system's proxy, if there is one.
    Elsewhere,
    ThisMachine,
    /// Without certificates, which a system may not have.
    ThisMachinePlainly,
}

impl Way {
    fn of(request: &http::Request<Bytes>) -> Self {
        let connect_timeout = request.extensions().get::<ConnectTimeout>().map_or(DEFAULT_CONNECT_TIMEOUT, |connect| connect.0);
        let uri = request.uri();
        let to = match uri.scheme_str() {
            _ if !uri.host().is_some_and(is_this_machine) => To::Elsewhere,
            Some("http") => To::ThisMachinePlainly,
            _ => To::ThisMachine,
        };
        Self { connect_timeout, to }
    }
}

impl ReqwestTransport {
    /// A transport without connections.
    pub fn new() -> Self {
        Self::default()
    }

    fn client(&self, way: Way) -> Result<Client, TransportError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&way) {
            return Ok(client.clone());
        }
        // The one provider of this program. An error means that it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder().connect_timeout(way.connect_timeout).gzip(true).redirect(Policy::custom(follow)).referer(false);
        if way.to != To::Elsewhere {
            builder = builder.no_proxy();
        }
        if way.to == To::ThisMachinePlainly {
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| fault(error, way.connect_timeout))?;
        Ok(clients.entry(way).or_insert(client).clone())
    }
}

#[async_trait]
impl Transport for ReqwestTransport {
    async fn send(&self, request: http::Request<Bytes>, timeout: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        let way = Way::of(&request);
        let connect_timeout = way.connect_timeout;
        let client = self.client(way)?;
        let request = reqwest::Request::try_from(request).map_err(|error| fault(error, connect_timeout))?;
        let answer = tokio::time::timeout(timeout, client.execute(request)).await;
        let answer =
            answer.map_err(|_| TransportError { fault: TransportFault::Timeout, message: format!("timed out after {}", seconds(timeout)) })?;
        let mut answer = answer.map_err(|error| fault(error, connect_timeout))?;
        let mut response = http::Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = std::mem::take(answer.headers_mut());
        }
        let body: Box<dyn Body> = Box::new(ReqwestBody(answer));
        response.body(body).map_err(|error| TransportError { fault: TransportFault::Broken, message: error.to_string() })
    }
}

struct ReqwestBody(reqwest::Response);

#[async_trait]
impl Body for ReqwestBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.0.chunk().await.map_err(|error| fault(error, DEFAULT_CONNECT_TIMEOUT))
    }
}

/// A redirect that was not followed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{from} redirects to {to}, which is another host")]
    Elsewhere { from: String, to: String },
    #[error("{from} redirects for ever")]
    TooMany { from: String },
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let origin = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    let shown = |url: &Url| url.origin().ascii_serialization();
    let Some(from) = attempt.previous().first().cloned() else { return attempt.follow() };
    if origin(&from) != origin(attempt.url()) {
        let refused = Refused::Elsewhere { from: shown(&from), to: shown(attempt.url()) };
        attempt.error(refused)
    } else if attempt.previous().len() > REDIRECTS {
        attempt.error(Refused::TooMany { from: shown(&from) })
    } else {
        attempt.follow()
    }
}

/// What happened, in few words and without the URL: reqwest's own message has it, and says little else.
fn fault(error: reqwest::Error, connect_timeout: Duration) -> TransportError {
    let error = error.without_url();
    let chain = || std::iter::successors(Some(&error as &(dyn Error + 'static)), |error| inner(*error));
    let made = |fault, message: &str| TransportError { fault, message: message.to_owned() };

    if let Some(refused) = chain().find_map(|cause| cause.downcast_ref::<Refused>()) {
        return made(TransportFault::Request, &refused.to_string());
    }
    if let Some(tls) = chain().find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return made(TransportFault::Tls, &format!("no secure connection: {}", tls_fault(tls)));
    }
    if error.is_builder() || error.is_redirect() {
        return made(TransportFault::Request, &format!("the request cannot be sent: {}", innermost(&error)));
    }
    if error.is_connect() && error.is_timeout() {
        return made(TransportFault::Timeout, &format!("no connection within {}", seconds(connect_timeout)));
    }
    let unresolved = chain().any(|cause| cause.to_string().contains("dns error"));
    if unresolved {
        return made(TransportFault::Connect, &format!("the host's name could not be resolved: {}", innermost(&error)));
    }
    let kind = chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind).find(|kind| *kind != ErrorKind::Other);
    match kind {
        Some(ErrorKind::ConnectionRefused) => made(TransportFault::Connect, "connection refused"),
        Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe) => {
            made(TransportFault::Broken, "the connection was reset")
        }
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown) => {
            made(TransportFault::Connect, "the network or the host cannot be reached")
        }
        Some(ErrorKind::TimedOut) => made(TransportFault::Timeout, "the connection timed out"),
        _ if error.is_connect() => made(TransportFault::Connect, &format!("no connection: {}", innermost(&error))),
        _ if error.is_decode() => made(TransportFault::Broken, &format!("the body cannot be read: {}", innermost(&error))),
        _ => made(TransportFault::Broken, &format!("the connection broke: {}", innermost(&error))),
    }
}

/// What is wrong with a connection's security: in plain words first, then in those of who knows.
fn tls_fault(error: &rustls::Error) -> String {
    use rustls::CertificateError as Certificate;
    let said = match error {
        rustls::Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => "the server's certificate has expired",
        rustls::Error::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            "the server's certificate is not valid yet"
        }
        rustls::Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            "the server's certificate is for another host"
        }
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer) => "nobody whom this machine trusts has signed the server's certificate",
        rustls::Error::InvalidCertificate(_) => "the server's certificate is not sound",
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
            "the server does not speak TLS 1.2 or 1.3 as it is spoken today"
        }
        rustls::Error::General(cause) => return cause.clone(),
        _ => return error.to_string(),
    };
    format!("{said} ({error})")
}

/// The cause of an error. `io::Error` hides the error it wraps behind that error's own cause, so it is asked for first.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| inner(*error)).last().map(ToString::to_string).unwrap_or_default()
}
