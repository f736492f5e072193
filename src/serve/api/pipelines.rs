//! The pipelines, and one of them as a whole.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use pipeline_contract::ColumnType;
use serde_json::{Value, json};

use super::{Named, blocking};
use crate::serve::problem::Problem;
use crate::serve::{Broken, Fleet, Member};
use crate::watch::Report;

/// What `/health` says of it, with what it is for.
fn brief(fleet: &Fleet, member: &Member) -> Value {
    let live = member.live();
    let run = live.run.map(|(run_id, splits, done, rows)| json!({"run_id": run_id, "splits": splits, "splits_done": done, "rows": rows}));
    let mut object = json!(fleet.report(member));
    if let Some(object) = object.as_object_mut() {
        object.insert("description".to_owned(), json!(member.description));
        object.insert("file".to_owned(), json!(member.path.display().to_string()));
        object.insert("run".to_owned(), json!(run));
    }
    object
}

fn of_broken(broken: &Broken) -> Value {
    let mut object = json!(Report::down(&broken.name, &broken.fault));
    if let Some(object) = object.as_object_mut() {
        object.insert("description".to_owned(), Value::Null);
        object.insert("file".to_owned(), json!(broken.path.display().to_string()));
        object.insert("run".to_owned(), Value::Null);
    }
    object
}

pub(super) async fn list(State(fleet): State<Arc<Fleet>>) -> Result<Json<Value>, Problem> {
    blocking(move || {
        let members = fleet.members();
        let mut all: Vec<Value> = members.iter().map(|member| brief(&fleet, member)).chain(fleet.broken().iter().map(of_broken)).collect();
        all.sort_by_key(|one| one.get("pipeline").map(Value::to_string));
        Ok(Json(json!({"pipelines": all})))
    })
    .await
}

pub(super) async fn one(State(fleet): State<Arc<Fleet>>, Named(member): Named) -> Result<Json<Value>, Problem> {
    blocking(move || {
        let mut object = brief(&fleet, &member);
        let plan = &member.plan;
        let stored = plan.sinks.first().map(|sink| sink.plan.stored.as_slice()).unwrap_or_default();
        let columns = plan.schema.fields().iter().map(|field| {
            let ty = ColumnType::of(field.data_type()).map(ColumnType::name);
            json!({"name": field.name(), "type": ty, "nullable": field.is_nullable(), "stored": stored.contains(field.name())})
        });
        let columns: Vec<Value> = columns.collect();
        let sinks: Vec<Value> = plan.sinks.iter().map(|sink| json!({"id": sink.id, "type": sink.type_name, "targets": sink.plan.targets})).collect();
        let expected = &member.expected;
        if let Some(object) = object.as_object_mut() {
            let fault = member.live().fault;
            object.insert("fault".to_owned(), json!(fault));
            object.insert(
                "stages".to_owned(),
                json!({"trigger": plan.outline.trigger, "source": plan.outline.source, "transforms": plan.outline.transforms, "sinks": sinks}),
            );
            object.insert("columns".to_owned(), json!(columns));
            object.insert("keys".to_owned(), json!(plan.keys));
            object.insert("time_column".to_owned(), json!(plan.time_column()));
            object.insert(
                "expected".to_owned(),
                json!({
                    "time": expected.time, "series": expected.series, "step_seconds": expected.step.map(|step| step.as_secs_f64()),
                    "max_age_seconds": expected.max_age.map(|limit| limit.as_secs()),
                }),
            );
        }
        Ok(Json(object))
    })
    .await
}
