//! Listening: so many connections at most, and none that says nothing for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at one time; others wait to be accepted.
const CONNECTIONS: usize = 256;
/// A request's head must have come by then.
const HEAD: Duration = Duration::from_secs(10);
/// The largest head, in bytes.
const HEAD_BYTES: usize = 32 << 10;
/// A connection is not held longer than this, whatever it does.
const CONNECTION: Duration = Duration::from_secs(3600);
/// The wait after the system had no room for one more connection.
const PAUSE: Duration = Duration::from_millis(100);
/// What is being answered at the end has so long.
const FAREWELL: Duration = Duration::from_secs(3);

/// Answers until `cancel`; then what is being answered is answered still.
pub async fn serve(listener: TcpListener, routes: Router, cancel: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            accepted = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (listener.accept().await, place)
            } => accepted,
        };
        let (Ok((stream, _)), Ok(place)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
        let service = TowerToHyperService::new(routes.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // How it went is the client's business.
            let _ = tokio::time::timeout(CONNECTION, connection).await;
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(FAREWELL, graceful.shutdown()).await;
}
