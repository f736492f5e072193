//! The time of the newest stored row.

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::TimestampMicrosecondType;
use pipeline_contract::{Filter, Ports, StageError};

use super::Member;
use crate::run::sink_context;

/// Reads what the first sink holds and keeps the newest. To be replaced by what dedupe knows.
pub(super) async fn newest(member: &Member, ports: &Ports) -> Result<Option<DateTime<Utc>>, StageError> {
    let (Some(column), Some(part)) = (&member.expected.time, member.plan.parts.sinks.first()) else { return Ok(None) };
    let context = sink_context(&member.name, &part.id, ports, &member.store, &member.state_dir);
    let mut rows = part.sink.read_back(&context, &Filter::default()).await?;
    let mut newest = None;
    while let Some(batch) = rows.next().await? {
        let times = batch.column_by_name(column).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        newest = newest.max(times.and_then(|times| times.iter().flatten().max()));
    }
    Ok(newest.and_then(DateTime::from_timestamp_micros))
}
