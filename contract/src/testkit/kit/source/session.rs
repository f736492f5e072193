//! One process that reads a source in one world.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::exec::{Drops, Exec, call};
use super::super::world::{Sent, Setting, World};
use super::super::{batch_fault, difference, ensure, reject_fault, rows_text};
use crate::arrow::array::{Array, TimestampMicrosecondArray};
use crate::{ColumnType, Position, Reject, Source, Split, StageError, Window, instant};

/// More are no end.
const MOST_READS: usize = 10_000;

/// What the engine makes of a value: JSON text, and back.
pub(super) fn stored<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> Result<T, String> {
    let text = serde_json::to_string(value).map_err(|error| format!("it cannot be stored as JSON: {error}"))?;
    let back: T = serde_json::from_str(&text).map_err(|error| format!("it cannot be read back from {text}: {error}"))?;
    if back == *value { Ok(back) } else { Err(format!("it comes back another as {text}")) }
}

/// One read, in words.
#[derive(Clone, Debug)]
pub(super) struct OneRead {
    pub(super) rows: Vec<String>,
    pub(super) times: Vec<Option<DateTime<Utc>>>,
    pub(super) rejects: Vec<Reject>,
    pub(super) position: Position,
    fault: Option<String>,
}

/// What one split brought.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) split: Split,
    pub(super) reads: Vec<OneRead>,
}

/// A split that brought nothing yet.
pub(super) fn part(split: &Split) -> Part {
    Part { split: split.clone(), reads: Vec::new() }
}

impl Part {
    pub(super) fn rows(&self) -> Vec<String> {
        self.reads.iter().flat_map(|read| read.rows.iter().cloned()).collect()
    }

    pub(super) fn rejects(&self) -> Vec<String> {
        self.reads.iter().flat_map(|read| &read.rejects).map(|reject| format!("{reject:?}")).collect()
    }

    /// What came after the first `reads`.
    pub(super) fn after(&self, reads: usize) -> Self {
        Self { split: self.split.clone(), reads: self.reads.iter().skip(reads).cloned().collect() }
    }

    pub(super) fn same(&self, expected: &Self) -> Result<(), String> {
        let at = |what: &str, how: String| format!("split {:?}{what}: {how}", self.split.id);
        difference(&self.rows(), &expected.rows()).map_or(Ok(()), |how| Err(at("", how)))?;
        difference(&self.rejects(), &expected.rejects()).map_or(Ok(()), |how| Err(at(", its rejects", how)))
    }

    /// Is it the beginning of what was expected?
    pub(super) fn begins(&self, expected: &Self) -> Result<(), String> {
        let (found, all) = (self.rows(), expected.rows());
        let beginning: Vec<_> = all.into_iter().take(found.len()).collect();
        difference(&found, &beginning).map_or(Ok(()), |how| Err(format!("split {:?}, before the error: {how}", self.split.id)))
    }
}

/// What a whole run brought.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) parts: Vec<Part>,
    pub(super) sent: Vec<Sent>,
}

impl Whole {
    pub(super) fn splits(&self) -> Vec<Split> {
        self.parts.iter().map(|part| part.split.clone()).collect()
    }

    pub(super) fn rows(&self) -> usize {
        self.parts.iter().flat_map(|part| &part.reads).map(|read| read.rows.len()).sum()
    }

    pub(super) fn all_rows(&self) -> Vec<String> {
        self.parts.iter().flat_map(Part::rows).collect()
    }

    pub(super) fn same(&self, expected: &Self) -> Result<(), String> {
        let (found, wanted) = (self.splits(), expected.splits());
        ensure(found == wanted, || format!("the splits are {found:?} instead of {wanted:?}"))?;
        self.parts.iter().zip(&expected.parts).try_for_each(|(part, expected)| part.same(expected))
    }

    pub(super) fn well_formed(&self) -> Result<(), String> {
        for part in &self.parts {
            for (n, read) in part.reads.iter().enumerate() {
                let at = |how: String| format!("split {:?}, read {}: {how}", part.split.id, n + 1);
                read.fault.clone().map_or(Ok(()), |fault| Err(at(fault)))?;
                stored(&read.position).map_err(|how| at(format!("its position: {how}")))?;
            }
        }
        Ok(())
    }

    pub(super) fn within(&self, window: &Window) -> Result<(), String> {
        let times = self.parts.iter().flat_map(|part| &part.reads).flat_map(|read| &read.times).flatten();
        match times.into_iter().find(|at| !window.contains(**at)) {
            Some(at) => Err(format!("a row of {at} came, which is not in it ({:?} to {:?})", window.from, window.to)),
            None => Ok(()),
        }
    }
}

/// How a reading ended.
pub(super) enum Ended<T> {
    /// All of it.
    Done(T),
    /// So far, and then the error.
    Failed(T, StageError),
}

impl<T> Ended<T> {
    pub(super) fn without_error(self) -> Result<T, String> {
        match self {
            Self::Done(all) => Ok(all),
            Self::Failed(_, error) => Err(format!("it failed: {error} ({:?})", error.act)),
        }
    }
}

pub(super) struct Session {
    pub(super) source: Box<dyn Source>,
    pub(super) world: World,
    pub(super) exec: Exec,
    varying: Vec<String>,
}

impl Session {
    pub(super) fn new(source: Box<dyn Source>, setting: &Setting, drops: Drops, varying: Vec<String>) -> Self {
        let world = World::new(setting);
        let mut exec = Exec::new(world.clock.clone());
        exec.drops = drops;
        Self { source, world, exec, varying }
    }

    pub(super) fn splits(&self) -> Result<Result<Vec<Split>, StageError>, String> {
        call!(self.exec, self.source.splits(&self.world.run)).map_err(|stuck| format!("splits: {stuck}"))
    }

    pub(super) fn probe(&self) -> Result<Result<(), StageError>, String> {
        call!(self.exec, self.source.probe(&self.world.run)).map_err(|stuck| format!("probe: {stuck}"))
    }

    /// Reads a split to its end.
    pub(super) fn read(&self, split: &Split, resume: Option<&Position>) -> Result<Ended<Part>, String> {
        self.read_some(split, resume, MOST_READS).map(|(ended, _)| ended)
    }

    /// One read of a split.
    pub(super) fn one(&self, split: &Split, resume: Option<&Position>) -> Result<Option<OneRead>, String> {
        let (ended, _) = self.read_some(split, resume, 1)?;
        Ok(ended.without_error()?.reads.pop())
    }

    fn read_some(&self, split: &Split, resume: Option<&Position>, most: usize) -> Result<(Ended<Part>, bool), String> {
        let split = stored(split)?;
        let resume = resume.map(stored).transpose()?;
        let stuck = |what: &str, how: String| format!("{what} of {:?}: {how}", split.id);
        let mut part = part(&split);
        let opened = call!(self.exec, self.source.open(&split, resume.clone(), &self.world.run)).map_err(|how| stuck("open", how))?;
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) => return Ok((Ended::Failed(part, error), false)),
        };
        while part.reads.len() < most {
            match call!(self.exec, reader.read()).map_err(|how| stuck("read", how))? {
                Ok(Some(read)) => part.reads.push(self.in_words(&read)),
                Err(error) => return Ok((Ended::Failed(part, error), false)),
                Ok(None) => {
                    let again = call!(self.exec, reader.read()).map_err(|how| stuck("read", how))?;
                    ensure(matches!(again, Ok(None)), || stuck("read", "the reader was done, and then it was not".to_owned()))?;
                    return Ok((Ended::Done(part), true));
                }
            }
        }
        ensure(most < MOST_READS, || stuck("read", format!("{MOST_READS} reads are not the end")))?;
        Ok((Ended::Done(part), false))
    }

    fn in_words(&self, read: &crate::Read) -> OneRead {
        let schema = self.source.schema();
        let time = schema.fields().iter().position(|field| ColumnType::of(field.data_type()) == Some(ColumnType::Timestamp));
        let times = time.and_then(|time| read.batch.columns().get(time)?.as_any().downcast_ref::<TimestampMicrosecondArray>().cloned());
        let times = times.map(|times| (0..times.len()).map(|row| (!times.is_null(row)).then(|| instant(times.value(row))).flatten()).collect());
        OneRead {
            rows: rows_text(&read.batch, &self.varying),
            times: times.unwrap_or_default(),
            rejects: read.rejects.clone(),
            position: read.position.clone(),
            fault: batch_fault(&read.batch, &schema).or_else(|| reject_fault(&read.rejects)),
        }
    }

    /// Reads everything, until the first error.
    pub(super) fn whole(&self) -> Result<Ended<Whole>, String> {
        let before = self.world.wire.sent().len();
        let mut parts = Vec::new();
        let all = |parts| Whole { parts, sent: self.world.wire.sent().split_off(before) };
        let splits = match self.splits()? {
            Ok(splits) => splits,
            Err(error) => return Ok(Ended::Failed(all(parts), error)),
        };
        for split in splits {
            match self.read(&split, None)? {
                Ended::Done(part) => parts.push(part),
                Ended::Failed(part, error) => {
                    parts.push(part);
                    return Ok(Ended::Failed(all(parts), error));
                }
            }
        }
        Ok(Ended::Done(all(parts)))
    }
}
