//! SIGINT and SIGTERM: the first finishes the epoch, the second ends at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The time in which a run must have ended after the first signal.
const PATIENCE: Duration = Duration::from_secs(9);
/// What shells report for a program ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled by the first signal.
pub(crate) fn shutdown() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        signal().await;
        tracing::info!("stopping: the open epoch is finished first; a second signal ends at once");
        cancelled.cancel();
        tokio::select! {
            () = signal() => tracing::warn!("ended at once; what was not committed is taken back at the next start"),
            () = tokio::time::sleep(PATIENCE) => tracing::warn!("the run did not stop in time and is ended; what was not committed is taken back at the next start"),
        }
        // Safe at any moment: that is what the order of a commit is for.
        std::process::exit(INTERRUPTED);
    });
    token
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
