//! Is a pipeline well? What is known of it from its state, and the verdict on it: for `status`, `/health`, metrics, the API, the page and
//! notifications, which all say the same.
//!
//! Freshness is judged by the data that are stored, not by the process: a run that succeeds and brings nothing new makes nothing fresh.

mod report;
mod summary;

pub use report::{Data, Expected, Gaps, Health, LastRun, Reason, Report, Subject, report};
pub use summary::{split_status, summary};
