//! Stored rows, streamed: as many as are asked for, in memory a batch of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::{StageError, cell_json, row_json};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{Asked, Named, limit};
use crate::serve::problem::Problem;
use crate::serve::{Fleet, Member};
use crate::workspace::{Refused, StoredRows, Wanted, csv_cell, instant};

/// A reader that takes nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a request waits for another reader to be done.
const TURN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Ndjson,
    Csv,
}

impl Format {
    /// The one that is asked for: by the parameter, else by the header.
    fn of(asked: Option<Self>, headers: &HeaderMap) -> Self {
        let accepts = |kind: &str| headers.get_all(header::ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|accept| accept.contains(kind)));
        asked.unwrap_or_else(|| match (accepts("text/csv"), accepts("application/x-ndjson")) {
            (true, _) => Self::Csv,
            (_, true) => Self::Ndjson,
            _ => Self::Json,
        })
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    // A `+` of an offset that was not escaped arrives as a space.
    let text = String::deserialize(from)?.trim().replace(' ', "+");
    instant(&text).map(Some).map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    #[serde(default, deserialize_with = "time")]
    from: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "time")]
    to: Option<DateTime<Utc>>,
    #[serde(rename = "where")]
    condition: Option<String>,
    limit: Option<usize>,
    format: Option<Format>,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused.config {
            true => Self::parameter(refused.to_string()),
            false => Self::from(StageError { help: refused.help, ..StageError::developer(refused.message) }),
        }
    }
}

pub(super) async fn rows(
    State(fleet): State<Arc<Fleet>>,
    Named(member): Named,
    Asked(part): Asked<Part>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let most = limit(part.limit, 1000, 100_000)?;
    let format = Format::of(part.format, &headers);
    let turn = tokio::time::timeout(TURN, Arc::clone(&fleet.readers).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(Problem::unavailable("too many others read rows just now: ask again")) };
    // One more than is asked for tells whether there are more.
    let wanted = Wanted { from: part.from, to: part.to, condition: part.condition, limit: Some(most + 1), dashes: "" };
    let (begun, begins) = oneshot::channel();
    let (pieces, body) = mpsc::channel(1);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        runtime.block_on(read(&fleet, &member, wanted, Writer { format, left: most, more: false, first: true }, begun, pieces));
        drop(turn);
    });
    match begins.await {
        Ok(Ok(())) => Ok(([(header::CONTENT_TYPE, format.content_type())], Body::new(Pieces(body))).into_response()),
        Ok(Err(refused)) => Err(refused.into()),
        Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "The request failed", "the rows could not be read")),
    }
}

type Piece = Result<Bytes, std::io::Error>;

/// Reads and sends. What goes wrong before the first rows is an answer; what goes wrong later breaks the answer off.
async fn read(
    fleet: &Fleet,
    member: &Member,
    wanted: Wanted,
    mut writer: Writer,
    begun: oneshot::Sender<Result<(), Refused>>,
    pieces: mpsc::Sender<Piece>,
) {
    let opened = StoredRows::open(&member.plan, &member.store, &fleet.ports, &member.state_dir, wanted).await;
    let first = match opened {
        Ok(mut rows) => rows.next().await.map(|batch| (rows, batch)),
        Err(refused) => Err(refused),
    };
    let (mut rows, mut batch) = match first {
        Ok(first) => first,
        Err(refused) => {
            // Nobody waits any more.
            let _ = begun.send(Err(refused));
            return;
        }
    };
    let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    if begun.send(Ok(())).is_err() {
        return;
    }
    let mut text = writer.begin(&member.name, &names);
    loop {
        match batch {
            Some(part) => text.extend(writer.rows(&part, &names)),
            None => {
                text.extend(writer.end());
                let _ = send(&pieces, Ok(text.into())).await;
                return;
            }
        }
        if !text.is_empty() && !send(&pieces, Ok(std::mem::take(&mut text).into())).await {
            return;
        }
        batch = match rows.next().await {
            Ok(next) => next,
            Err(refused) => {
                tracing::warn!(pipeline = %member.name, "rows could not be read to their end: {refused}");
                let _ = send(&pieces, Err(std::io::Error::other(refused.message))).await;
                return;
            }
        };
    }
}

/// Does the reader still take what is sent?
async fn send(pieces: &mpsc::Sender<Piece>, piece: Piece) -> bool {
    matches!(tokio::time::timeout(PATIENCE, pieces.send(piece)).await, Ok(Ok(())))
}

/// Rows as text.
struct Writer {
    format: Format,
    left: usize,
    more: bool,
    first: bool,
}

impl Writer {
    fn begin(&mut self, pipeline: &str, names: &[String]) -> Vec<u8> {
        match self.format {
            Format::Json => format!("{{\"pipeline\":{},\"columns\":{},\"rows\":[", json!(pipeline), json!(names)).into_bytes(),
            Format::Ndjson => Vec::new(),
            Format::Csv => record(names.iter().cloned()),
        }
    }

    fn rows(&mut self, batch: &RecordBatch, names: &[String]) -> Vec<u8> {
        let shown = batch.num_rows().min(self.left);
        self.more |= shown < batch.num_rows();
        self.left -= shown;
        let mut text = Vec::new();
        for row in 0..shown {
            match self.format {
                Format::Csv => {
                    let column = |name: &String| batch.column_by_name(name).map_or_else(String::new, |column| csv_cell(&cell_json(column, row)));
                    text.extend(record(names.iter().map(column)));
                }
                Format::Json | Format::Ndjson => {
                    let comma = if self.format == Format::Json && !std::mem::take(&mut self.first) { ",\n" } else { "" };
                    let end = if self.format == Format::Ndjson { "\n" } else { "" };
                    text.extend(format!("{comma}{}{end}", Value::Object(row_json(batch, row))).into_bytes());
                }
            }
        }
        text
    }

    fn end(&mut self) -> Vec<u8> {
        match self.format {
            Format::Json => format!("],\"truncated\":{}}}\n", self.more).into_bytes(),
            Format::Ndjson | Format::Csv => Vec::new(),
        }
    }
}

/// A line of CSV.
fn record(cells: impl Iterator<Item = String>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Into memory, and of as many cells as it has: neither can fail.
    let _ = writer.write_record(cells);
    writer.into_inner().unwrap_or_default()
}

/// A body that is made while it is sent.
struct Pieces(mpsc::Receiver<Piece>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(http_body::Frame::data)))
    }
}
