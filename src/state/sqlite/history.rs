//! Runs, their splits, and ticks.

use chrono::{DateTime, Utc};
use pipeline_contract::{Split, StageError};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::value::{from_signed, to_signed};
use super::{EpochCommit, Fault, Json, Name, RunRecord, TickRecord};
use crate::state::sqlite::value::Micros;
use crate::state::{RunStatus, SplitRecord, TickStatus};

fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn place_number(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

/// The counts and splits of an epoch.
pub(super) fn save_progress(tx: &Transaction<'_>, commit: &EpochCommit) -> Result<(), Fault> {
    let mut update = tx.prepare_cached("UPDATE run SET rows = ?2 WHERE run_id = ?1 RETURNING seq")?;
    let Some(seq) = update.query_row(params![commit.run_id, Json(&commit.rows)], |row| row.get::<_, i64>(0)).optional()? else {
        return Err(Fault::Ours(StageError::developer(format!(
            "epoch {} belongs to the run {}, which was not started",
            commit.epoch, commit.run_id
        ))));
    };
    let mut update = tx.prepare_cached(
        "UPDATE split SET id = ?3, data = ?4, status = ?5, rows = ?6, attempts = ?7, position = ?8, error = ?9 WHERE run = ?1 AND place = ?2",
    )?;
    for (place, split) in &commit.splits {
        if save_split(&mut update, seq, *place, split)? != 1 {
            let message = format!("epoch {} changes the split {place} of the run {}, which has none there", commit.epoch, commit.run_id);
            return Err(Fault::Ours(StageError::developer(message)));
        }
    }
    Ok(())
}

fn save_split(statement: &mut rusqlite::Statement<'_>, seq: i64, place: usize, split: &SplitRecord) -> rusqlite::Result<usize> {
    let SplitRecord { split: Split { id, data }, status, rows, attempts, position, error } = split;
    statement.execute(params![
        seq,
        place_number(place),
        id,
        Json(data),
        Name(status),
        Json(rows),
        attempts,
        position.as_ref().map(Json),
        error.as_ref().map(Json)
    ])
}

pub(super) fn start_run(tx: &Transaction<'_>, run: &RunRecord, scheduled: bool) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM split WHERE run IN (SELECT seq FROM run WHERE run_id = ?1)")?.execute([&run.run_id])?;
    tx.prepare_cached("DELETE FROM run WHERE run_id = ?1")?.execute([&run.run_id])?;
    save_run(tx, run)?;
    if scheduled {
        let tick =
            TickRecord { tick: run.tick, until: run.tick, count: 1, status: TickStatus::Running, reason: None, run_id: Some(run.run_id.clone()) };
        save_tick(tx, &tick)?;
    }
    Ok(())
}

pub(super) fn end_run(tx: &Transaction<'_>, run: &RunRecord) -> rusqlite::Result<()> {
    save_run(tx, run)?;
    tx.prepare_cached("UPDATE tick SET status = ?2 WHERE run_id = ?1")?.execute(params![run.run_id, Name(TickStatus::Ran)])?;
    Ok(())
}

fn save_run(tx: &Transaction<'_>, run: &RunRecord) -> rusqlite::Result<()> {
    let mut upsert = tx.prepare_cached(
        "INSERT INTO run(run_id, tick, cause, window, started_at, ended_at, status, rows, error) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT(run_id) DO UPDATE SET tick = excluded.tick, cause = excluded.cause, window = excluded.window,
             started_at = excluded.started_at, ended_at = excluded.ended_at, status = excluded.status, rows = excluded.rows,
             error = excluded.error
         RETURNING seq",
    )?;
    let RunRecord { run_id, tick, cause, window, started_at, ended_at, status, rows, error, splits } = run;
    let seq: i64 = upsert.query_row(
        params![
            run_id,
            Micros(*tick),
            cause,
            window.as_ref().map(Json),
            Micros(*started_at),
            ended_at.map(Micros),
            Name(status),
            Json(rows),
            error.as_ref().map(Json)
        ],
        |row| row.get(0),
    )?;
    tx.prepare_cached("DELETE FROM split WHERE run = ?1")?.execute([seq])?;
    let mut insert = tx.prepare_cached(
        "INSERT INTO split(run, place, id, data, status, rows, attempts, position, error) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for (place, split) in splits.iter().enumerate() {
        save_split(&mut insert, seq, place, split)?;
    }
    Ok(())
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    Ok(row.get::<_, Option<Json<T>>>(column)?.map(|Json(value)| value))
}

/// The runs that a query selects, with all columns of `run`.
fn select_runs(tx: &Transaction<'_>, sql: &str, parameters: impl rusqlite::Params) -> rusqlite::Result<Vec<RunRecord>> {
    let mut runs = tx.prepare_cached(sql)?;
    let mut splits = tx.prepare_cached("SELECT * FROM split WHERE run = ?1 ORDER BY place")?;
    let mut rows = runs.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get("seq")?;
        found.push(RunRecord {
            run_id: row.get("run_id")?,
            tick: row.get::<_, Micros>("tick")?.0,
            cause: row.get("cause")?,
            window: json(row, "window")?,
            started_at: row.get::<_, Micros>("started_at")?.0,
            ended_at: row.get::<_, Option<Micros>>("ended_at")?.map(|Micros(at)| at),
            status: row.get::<_, Name<RunStatus>>("status")?.0,
            rows: row.get::<_, Json<_>>("rows")?.0,
            error: json(row, "error")?,
            splits: splits.query_map([seq], split_of)?.collect::<rusqlite::Result<_>>()?,
        });
    }
    Ok(found)
}

fn split_of(row: &Row<'_>) -> rusqlite::Result<SplitRecord> {
    Ok(SplitRecord {
        split: Split { id: row.get("id")?, data: row.get::<_, Json<_>>("data")?.0 },
        status: row.get::<_, Name<_>>("status")?.0,
        rows: row.get::<_, Json<_>>("rows")?.0,
        attempts: row.get("attempts")?,
        position: json(row, "position")?,
        error: json(row, "error")?,
    })
}

pub(super) fn open_run(tx: &Transaction<'_>) -> rusqlite::Result<Option<RunRecord>> {
    Ok(select_runs(tx, "SELECT * FROM run WHERE status = ?1 ORDER BY seq DESC LIMIT 1", [Name(RunStatus::Open)])?.pop())
}

pub(super) fn runs(tx: &Transaction<'_>, limit: usize) -> rusqlite::Result<Vec<RunRecord>> {
    select_runs(tx, "SELECT * FROM run ORDER BY seq DESC LIMIT ?1", [at_most(limit)])
}

pub(super) fn runs_before(tx: &Transaction<'_>, run_id: &str, limit: usize) -> rusqlite::Result<Option<Vec<RunRecord>>> {
    let known: Option<i64> = tx.prepare_cached("SELECT seq FROM run WHERE run_id = ?1")?.query_row([run_id], |row| row.get(0)).optional()?;
    let before = |seq| select_runs(tx, "SELECT * FROM run WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2", params![seq, at_most(limit)]);
    known.map(before).transpose()
}

pub(super) fn run(tx: &Transaction<'_>, run_id: &str) -> rusqlite::Result<Option<RunRecord>> {
    Ok(select_runs(tx, "SELECT * FROM run WHERE run_id = ?1", [run_id])?.pop())
}

pub(super) fn save_tick(tx: &Transaction<'_>, record: &TickRecord) -> rusqlite::Result<()> {
    let TickRecord { tick, until, count, status, reason, run_id } = record;
    tx.prepare_cached("INSERT OR REPLACE INTO tick(tick, until, count, status, reason, run_id) VALUES(?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        Micros(*tick),
        Micros(*until),
        to_signed(*count),
        Name(status),
        reason,
        run_id
    ])?;
    Ok(())
}

fn tick_of(row: &Row<'_>) -> rusqlite::Result<TickRecord> {
    Ok(TickRecord {
        tick: row.get::<_, Micros>("tick")?.0,
        until: row.get::<_, Micros>("until")?.0,
        count: from_signed(row.get("count")?),
        status: row.get::<_, Name<_>>("status")?.0,
        reason: row.get("reason")?,
        run_id: row.get("run_id")?,
    })
}

pub(super) fn tick(tx: &Transaction<'_>, tick: DateTime<Utc>) -> rusqlite::Result<Option<TickRecord>> {
    tx.prepare_cached("SELECT * FROM tick WHERE tick <= ?1 AND until >= ?1 ORDER BY tick DESC LIMIT 1")?.query_row([Micros(tick)], tick_of).optional()
}

pub(super) fn last_tick(tx: &Transaction<'_>, limit: Option<DateTime<Utc>>) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let limit = limit.map_or(i64::MAX, |limit| limit.timestamp_micros());
    let newest: Option<Micros> = tx.prepare_cached("SELECT max(min(until, ?1)) FROM tick WHERE tick <= ?1")?.query_row([limit], |row| row.get(0))?;
    Ok(newest.map(|Micros(at)| at))
}

pub(super) fn ticks(tx: &Transaction<'_>, limit: usize) -> rusqlite::Result<Vec<TickRecord>> {
    tx.prepare_cached("SELECT * FROM tick ORDER BY tick DESC LIMIT ?1")?.query_map([at_most(limit)], tick_of)?.collect()
}

pub(super) fn prune(tx: &Transaction<'_>, keep: usize, before: Option<DateTime<Utc>>) -> rusqlite::Result<()> {
    // The newest that goes. What it costs follows what goes, not what stays.
    let counted = |query: &str| tx.prepare_cached(query)?.query_row([at_most(keep)], |row| row.get::<_, i64>(0)).optional();
    let run = counted("SELECT seq FROM run ORDER BY seq DESC LIMIT 1 OFFSET ?1")?;
    if let Some(seq) = run.max(aged(tx, "SELECT seq, tick FROM run ORDER BY seq", before)?) {
        let open = Name(RunStatus::Open);
        tx.prepare_cached("DELETE FROM split WHERE run IN (SELECT seq FROM run WHERE seq <= ?1 AND status <> ?2)")?.execute(params![seq, open])?;
        tx.prepare_cached("DELETE FROM run WHERE seq <= ?1 AND status <> ?2")?.execute(params![seq, open])?;
    }
    let tick = counted("SELECT tick FROM tick ORDER BY tick DESC LIMIT 1 OFFSET ?1")?;
    if let Some(tick) = tick.max(aged(tx, "SELECT tick, until FROM tick ORDER BY tick", before)?) {
        let running = Name(TickStatus::Running);
        tx.prepare_cached("DELETE FROM tick WHERE tick <= ?1 AND status <> ?2")?.execute(params![tick, running])?;
    }
    Ok(())
}

/// Of a query of numbers and instants, the oldest first: the number before the first that is not too old. The last never goes.
fn aged(tx: &Transaction<'_>, query: &str, before: Option<DateTime<Utc>>) -> rusqlite::Result<Option<i64>> {
    let Some(before) = before else { return Ok(None) };
    let mut select = tx.prepare_cached(query)?;
    let mut rows = select.query([])?;
    let (mut gone, mut last) = (None, None);
    while let Some(row) = rows.next()? {
        gone = last;
        if row.get::<_, Micros>(1)?.0 >= before {
            break;
        }
        last = Some(row.get(0)?);
    }
    Ok(gone)
}
