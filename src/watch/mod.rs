//! Is a pipeline well? What is known of it from its state, and the verdict on it: for `status`, `/health`, metrics, the API, the page and
//! notifications, which all say the same.
//!
//! Freshness is judged by the data that are stored, not by the process: a run that succeeds and brings nothing new makes nothing fresh.

mod coverage;
mod missing;
mod report;
mod summary;

pub use coverage::{Accepted, Coverage, Found};
pub use missing::{HOW_TO_TELL, NOT_TOLD, find_missing};
pub use report::{Data, Expected, Gaps, Health, Held, LastRun, Reason, Report, Subject, age, report};
pub use summary::{refused_json, split_status, summary};
