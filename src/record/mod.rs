//! What a run asks of the network: kept, answered again, counted. Each is a [`Transport`](pipeline_contract::Transport) on another's place,
//! so that sources, whoever wrote them, know nothing of it.
//!
//! - [`Recorder`] keeps every exchange in a folder, in files that a person can read and edit, without secrets.
//! - [`Recording`] reads such a folder, and [`Recording::ports`] is a world that answers from it: no network, no budget, and a clock that
//!   stands at the instant of the recording and on which waits pass at once.
//! - [`Tally`] counts requests and credits.
//!
//! The folder: `index.jsonl`, whose first line says when and for what the run was made ([`Head`]) and each other line is one exchange; and a
//! file for each body. `docs/trial.md` describes it.

mod clock;
mod format;
mod recorder;
mod replayer;
mod secrets;
mod tally;
#[cfg(test)]
mod tests;

pub use clock::{ReplayClock, StandingClock};
pub use format::{Head, RecordError};
pub use recorder::Recorder;
pub use replayer::Recording;
pub use tally::{Asked, Tally};

pub(crate) use replayer::NoBudget;
pub(crate) use tally::host_of;
