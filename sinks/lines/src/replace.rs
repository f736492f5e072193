//! Rows that take the place of stored ones.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::sync::Arc;

use pipeline_contract::{Category, StageError};
use pipeline_files::{Edit, EditError, io_error};

use crate::format::{LONGEST, Record, Records, ScanError};
use crate::layout::{Layout, unreadable};

/// The rows of one file that are replaced in this epoch: key cells to new line.
pub(crate) type Lines = HashMap<Vec<u8>, Vec<u8>>;

/// Takes out of `keys` those whose row is in the content of a file.
pub(crate) fn locate(layout: &Layout, path: &str, content: impl Read + Send, keys: &mut HashSet<Vec<u8>>) -> Result<(), StageError> {
    let mut scanner = layout.format.records(&layout.columns, Box::new(content));
    let mut key = Vec::new();
    let mut header = !layout.header.is_empty();
    while !keys.is_empty() {
        let Some(record) = scanner.next().map_err(|error| fault(path, error))? else { break };
        if std::mem::take(&mut header) || layout.skips(&record) {
            continue;
        }
        layout.key_of_record(path, &record, &mut key)?;
        keys.remove(&key);
    }
    Ok(())
}

/// An edit that puts new lines in the places of old ones and keeps everything else to the byte.
pub(crate) fn edit(layout: Arc<Layout>, path: String, lines: Lines) -> Edit {
    Box::new(move |old: &mut (dyn Read + Send), new: &mut dyn Write| {
        let mut scanner = layout.format.records(&layout.columns, Box::new(old));
        let mut key = Vec::new();
        let mut header = !layout.header.is_empty();
        let mut replaced = 0;
        while let Some(record) = next(&mut *scanner, &path)? {
            let line = if std::mem::take(&mut header) || layout.skips(&record) || replaced == lines.len() {
                None
            } else {
                layout.key_of_record(&path, &record, &mut key)?;
                lines.get(&key)
            };
            replaced += usize::from(line.is_some());
            new.write_all(line.map_or(record.raw, Vec::as_slice))?;
        }
        if replaced == lines.len() { Ok(()) } else { Err(EditError::Stage(missing(&path, lines.len() - replaced))) }
    })
}

fn next<'a>(scanner: &'a mut dyn Records, path: &str) -> Result<Option<Record<'a>>, EditError> {
    scanner.next().map_err(|error| match error {
        ScanError::Io(error) => EditError::Io(error),
        other => EditError::Stage(fault(path, other)),
    })
}

pub(crate) fn fault(path: &str, error: ScanError) -> StageError {
    match error {
        ScanError::Io(error) => io_error("read", path, &error),
        ScanError::Unclosed { line } => unreadable(path, line, "a quote is opened and never closed"),
        ScanError::AfterQuote { line } => unreadable(path, line, "there is text after a closing quote"),
        ScanError::TooLong { line } => unreadable(path, line, &format!("the record is longer than {} MiB, the most that is read", LONGEST >> 20)),
    }
}

/// State knows rows that are not there.
pub(crate) fn missing(path: &str, rows: usize) -> StageError {
    let rows = if rows == 1 { "1 row that is to be replaced is".to_owned() } else { format!("{rows} rows that are to be replaced are") };
    StageError::split(Category::Storage, format!("{path}: {rows} not in the file, though state says so"))
        .help("somebody changed the file, or state is not its own: `pipeline state rebuild FILE`")
}
