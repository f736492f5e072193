//! Runs of a pipeline, newest first.

use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, Named, blocking, limit};
use crate::serve::problem::Problem;
use crate::watch::summary;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    before: Option<String>,
}

pub(super) async fn list(Named(member): Named, Asked(page): Asked<Page>) -> Result<Json<Value>, Problem> {
    let most = limit(page.limit, 20, 1000)?;
    blocking(move || {
        let mut runs = match &page.before {
            None => member.store.runs(most + 1)?,
            Some(before) => member.store.runs_before(before, most + 1)?.ok_or_else(|| unknown(&member.name, before))?,
        };
        let more = runs.len() > most;
        runs.truncate(most);
        // The splits of one run may be hundreds: they are told of each run by itself.
        let shown = runs.iter().map(|run| {
            let mut run = summary(&member.name, run);
            if let Some(run) = run.as_object_mut() {
                run.remove("splits");
            }
            run
        });
        let shown: Vec<Value> = shown.collect();
        let next = runs.last().filter(|_| more).map(|run| run.run_id.clone());
        Ok(Json(json!({"pipeline": &*member.name, "runs": shown, "next_before": next})))
    })
    .await
}

pub(super) async fn one(Named(member): Named, Path((_, run_id)): Path<(String, String)>) -> Result<Json<Value>, Problem> {
    blocking(move || match member.store.run(&run_id)? {
        Some(run) => Ok(Json(summary(&member.name, &run))),
        None => Err(unknown(&member.name, &run_id)),
    })
    .await
}

fn unknown(pipeline: &str, run_id: &str) -> Problem {
    let detail = format!("pipeline \"{pipeline}\" remembers no run {run_id:?}: see its runs");
    Problem::new(StatusCode::NOT_FOUND, "unknown-run", "There is no such run", detail)
}
