//! A run as one JSON object: the same for `run --format json`, `status` and the API.

use pipeline_contract::rfc3339;
use serde_json::{Value, json};

use crate::run::status_name;
use crate::state::{Counts, ErrorRecord, RunRecord, SplitStatus};

fn counts(rows: &Counts) -> Value {
    json!({
        "read": rows.read, "written": rows.written, "duplicates": rows.duplicates, "conflicts": rows.conflicts,
        "rejected": rows.rejected, "filtered": rows.filtered,
    })
}

/// A run with its splits.
pub fn summary(pipeline: &str, run: &RunRecord) -> Value {
    let error = |error: &Option<ErrorRecord>| {
        error.as_ref().map_or(Value::Null, |e| json!({"category": e.category.name(), "message": e.message, "help": e.help}))
    };
    let splits: Vec<Value> = run
        .splits
        .iter()
        .map(|split| {
            json!({
                "split": split.split.id, "status": split_status(split.status), "rows": counts(&split.rows), "attempts": split.attempts,
                "error": error(&split.error),
            })
        })
        .collect();
    json!({
        "pipeline": pipeline, "run_id": run.run_id, "status": status_name(run.status), "tick": rfc3339(run.tick), "cause": run.cause,
        "started_at": rfc3339(run.started_at), "ended_at": run.ended_at.map(rfc3339),
        "duration_ms": run.ended_at.map(|end| (end - run.started_at).num_milliseconds()),
        "rows": counts(&run.rows), "splits": splits, "error": error(&run.error),
    })
}

/// The name of a split's status.
pub fn split_status(status: SplitStatus) -> &'static str {
    match status {
        SplitStatus::Pending => "pending",
        SplitStatus::Ok => "ok",
        SplitStatus::Failed => "failed",
    }
}
