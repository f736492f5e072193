//! The network of a program that has none.

use std::time::Duration;

use pipeline_contract::{Body, Transport, TransportError, TransportFault, async_trait};

/// A transport for programs whose sources do not speak HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTransport;

#[async_trait]
impl Transport for NoTransport {
    async fn send(&self, request: http::Request<bytes::Bytes>, _: Duration) -> Result<http::Response<Box<dyn Body>>, TransportError> {
        let host = request.uri().host().unwrap_or("the host").to_owned();
        Err(TransportError { fault: TransportFault::Request, message: format!("{host} cannot be asked: this program was built without HTTP") })
    }
}
