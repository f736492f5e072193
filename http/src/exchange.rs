//! One request and its whole answer, within a time and a size.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pipeline_contract::{RunContext, StageError, TransportError, TransportFault};

use crate::classify::Response;
use crate::hints::as_of;

/// Why there is no whole answer.
pub(crate) enum Failed {
    /// The run was cancelled.
    Cancelled,
    /// The network failed.
    Fault(TransportError),
    /// The body is larger than allowed.
    TooLarge,
    /// The request could not be accounted for.
    Stage(StageError),
}

/// Sends `request` and reads its answer. `timeout` covers both, so that a body which stalls cannot hold a run up. `answered` hears of
/// status 200 as soon as it came: what follows may fail, but the far side has counted the request.
pub(crate) async fn exchange(
    run: &RunContext,
    request: http::Request<Bytes>,
    timeout: Duration,
    max_body: u64,
    answered: impl FnOnce() -> Result<(), StageError> + Send,
) -> Result<Response, Failed> {
    let asked = run.ports.clock.now();
    let whole = async {
        let (head, mut body) = run.ports.transport.send(request, timeout).await.map_err(Failed::Fault)?.into_parts();
        if head.status == http::StatusCode::OK {
            answered().map_err(Failed::Stage)?;
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.chunk().await.map_err(Failed::Fault)? {
            if (bytes.len() + chunk.len()) as u64 > max_body {
                return Err(Failed::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        let as_of = as_of(&head.headers, asked, run.ports.clock.now());
        Ok(Response { status: head.status, headers: head.headers, body: bytes.freeze(), as_of })
    };
    tokio::select! {
        biased;
        () = run.cancel.cancelled() => Err(Failed::Cancelled),
        answer = whole => answer,
        () = run.ports.clock.sleep(timeout) => {
            let message = format!("timed out after {}", seconds(timeout));
            Err(Failed::Fault(TransportError { fault: TransportFault::Timeout, message }))
        }
    }
}

/// A length of time as people read it: `10 s`, `1.5 s`, `250 ms`, `2 min`.
pub(crate) fn seconds(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..120_000 if millis % 1000 < 50 => format!("{} s", millis / 1000),
        1000..120_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} min", millis.div_ceil(60_000)),
    }
}

/// A number of bytes as people read it: `32 MiB`, `1000 bytes`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_as_people_read_them() {
        let times = [(0, "0 ms"), (999, "999 ms"), (1000, "1 s"), (1500, "1.5 s"), (119_000, "119 s"), (120_000, "2 min"), (3_600_001, "61 min")];
        for (millis, text) in times {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
        for (bytes, text) in [(10, "10 bytes"), (1024, "1 KiB"), (32 << 20, "32 MiB"), ((1 << 20) + 1, "1048577 bytes")] {
            assert_eq!(size(bytes), text);
        }
    }
}
