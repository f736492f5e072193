//! Rejected rows, and what is missing.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use pipeline_contract::{Gap, StageError, rfc3339};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, Named, blocking, limit};
use crate::run::{QuarantineFile, StoredReject, reason};
use crate::serve::problem::Problem;
use crate::serve::{Fleet, Member};

/// So many rejects are looked up in the state at once: a run that goes on waits no longer than for these.
const AT_ONCE: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<usize>,
    #[serde(default)]
    all: bool,
}

/// The newest rejects, the newest first.
pub(super) async fn list(State(fleet): State<Arc<Fleet>>, Named(member): Named, Asked(wanted): Asked<Wanted>) -> Result<Json<Value>, Problem> {
    let most = limit(wanted.limit, 100, 10_000)?;
    blocking(move || {
        let mut kept = Newest { member: &member, all: wanted.all, most, total: 0, kept: VecDeque::new(), waiting: Vec::new() };
        if let Some(path) = &member.plan.quarantine {
            let file = QuarantineFile { path, disk: &*fleet.ports.disk };
            file.each(&mut |reject| kept.add(reject))?;
            kept.settle()?;
        }
        let rejects = kept.kept.iter().rev().map(|(reject, replayed)| {
            json!({
                "row": reject.row, "rule": reject.rule, "message": reject.message, "run_id": reject.run, "split": reject.split,
                "stage": reject.stage, "replayed": replayed,
            })
        });
        let rejects: Vec<Value> = rejects.collect();
        let file = member.plan.quarantine.as_ref().map(|path| path.display().to_string());
        Ok(Json(json!({"pipeline": &*member.name, "file": file, "total": kept.total, "rejects": rejects})))
    })
    .await
}

struct Newest<'a> {
    member: &'a Member,
    all: bool,
    most: usize,
    total: u64,
    kept: VecDeque<(StoredReject, bool)>,
    waiting: Vec<StoredReject>,
}

impl Newest<'_> {
    fn add(&mut self, reject: StoredReject) -> Result<(), StageError> {
        self.waiting.push(reject);
        if self.waiting.len() < AT_ONCE { Ok(()) } else { self.settle() }
    }

    fn settle(&mut self) -> Result<(), StageError> {
        let known = self.member.store.rejects(&self.waiting.iter().map(StoredReject::hash).collect::<Vec<_>>())?;
        for (reject, state) in self.waiting.drain(..).zip(known) {
            let replayed = state == Some(true);
            if !replayed || self.all {
                self.total += 1;
                self.kept.push_back((reject, replayed));
                if self.kept.len() > self.most {
                    self.kept.pop_front();
                }
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Stretches of time in which rows are missing.
pub(super) async fn gaps(Named(member): Named, Asked(Nothing {}): Asked<Nothing>) -> Json<Value> {
    let step = member.expected.step.map(|step| step.as_secs_f64());
    let live = member.live();
    let told = |gap: &Gap| {
        let (from, to, why) = (rfc3339(gap.from), rfc3339(gap.to), reason(&live.refused, gap));
        json!({"series": gap.series, "from": from, "to": to, "missing": gap.missing, "not_fillable": why})
    };
    let gaps = live.gaps.as_ref().map(|gaps| gaps.iter().map(told).collect::<Vec<_>>());
    Json(json!({"pipeline": &*member.name, "step_seconds": step, "gaps": gaps}))
}
