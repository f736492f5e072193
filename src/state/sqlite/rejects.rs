//! Which rejects are kept, and which of them were replayed.
//!
//! A row for each would lie at a random place of its table. So an epoch that brings many adds them as a *run*: their hashes in order, in blocks
//! that fill a page each, found by the first bits of their last hash. Runs of like size are merged, so that there are few. Those that come few at a time, and those that were replayed,
//! are rows of the table `reject`; a row overrules the runs.

#[cfg(test)]
mod tests;

use rusqlite::types::{FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{CachedStatement, OptionalExtension, Transaction, params};

use super::{EpochCommit, RejectHash, open};

/// Adds runs to a state of the first version; those that were replayed are found without going over all rows.
pub(super) const SCHEMA: &str = "
    CREATE TABLE reject_run(run INTEGER PRIMARY KEY, hashes INTEGER NOT NULL);
    CREATE TABLE reject_block(place INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
    CREATE INDEX reject_replayed ON reject(hash) WHERE replayed;
";

/// The first version that has runs.
const SINCE: i64 = 3;

/// So many are a run; fewer are rows.
const MANY: usize = 1000;

/// So many hashes fill a page of 4 KiB, with room for the few whose places are those of the last one.
const BLOCK: usize = 250;

/// So many blocks of each run are taken at once when runs are merged.
const TAKEN: i64 = 32;

/// A run of so many (64 MiB) is merged no more: what one epoch writes has an end.
const FULL: i64 = if cfg!(test) { 6 * MANY as i64 } else { 1 << 22 };

const HASH: usize = size_of::<RejectHash>();

/// The hashes of a block, in order, each as 16 bytes.
fn hashes_of(block: ValueRef<'_>) -> FromSqlResult<&[[u8; HASH]]> {
    let bytes = block.as_blob()?;
    match bytes.as_chunks() {
        (hashes, []) => Ok(hashes),
        (hashes, _) => Err(FromSqlError::InvalidBlobSize { expected_size: hashes.len() * HASH, blob_size: bytes.len() }),
    }
}

fn hashes_into(block: ValueRef<'_>, hashes: &mut Vec<RejectHash>) -> FromSqlResult<()> {
    hashes.extend(hashes_of(block)?.iter().map(|hash| RejectHash::from_be_bytes(*hash)));
    Ok(())
}

fn bytes_of(hashes: &[RejectHash]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(hashes.len() * HASH);
    hashes.iter().for_each(|hash| bytes.extend_from_slice(&hash.to_be_bytes()));
    bytes
}

/// Saves rejects that are kept from now on, and others that were replayed. One that is both was replayed.
pub(super) fn save(tx: &Transaction<'_>, kept: &[RejectHash], replayed: &[RejectHash]) -> rusqlite::Result<()> {
    let kept = sorted(kept.iter().copied());
    if kept.len() < MANY {
        save_rows(tx, &kept, false)?;
    } else {
        overrule_no_more(tx, &kept)?;
        add_run(tx, kept)?;
    }
    save_rows(tx, &sorted(replayed.iter().copied()), true)
}

/// Lets rejects go, but for those that came again in this epoch, which is saved already.
pub(super) fn forget(tx: &Transaction<'_>, forgotten: &[RejectHash], commit: &EpochCommit) -> rusqlite::Result<()> {
    if forgotten.is_empty() {
        return Ok(());
    }
    let forgotten = sorted(forgotten.iter().copied());
    let mut forget = tx.prepare_cached("DELETE FROM reject WHERE hash = ?1")?;
    forgotten.iter().try_for_each(|hash| forget.execute([hash.to_be_bytes()]).map(drop))?;
    runs(tx)?.iter().try_for_each(|run| forget_in(tx, run, &forgotten))?;
    let again = |hashes: &[RejectHash]| hashes.iter().copied().filter(|hash| forgotten.binary_search(hash).is_ok()).collect::<Vec<_>>();
    save(tx, &again(&commit.rejects), &again(&commit.replayed))
}

/// Puts rejects in place of all that are kept, each with whether it was replayed.
pub(super) fn replace(tx: &Transaction<'_>, rejects: &[(RejectHash, bool)]) -> rusqlite::Result<()> {
    tx.execute_batch("DELETE FROM reject; DELETE FROM reject_run; DELETE FROM reject_block;")?;
    let which = |wanted: bool| rejects.iter().filter(|(_, replayed)| *replayed == wanted).map(|(hash, _)| *hash).collect::<Vec<_>>();
    save(tx, &which(false), &which(true))
}

/// Hands over all that are kept, and those twice that were replayed.
pub(super) fn each(tx: &Transaction<'_>, each: &mut dyn FnMut(RejectHash)) -> rusqlite::Result<()> {
    let mut select = tx.prepare_cached("SELECT hash FROM reject")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        each(RejectHash::from_be_bytes(row.get(0)?));
    }
    if !runs(tx)?.is_empty() {
        let mut select = tx.prepare_cached("SELECT hashes FROM reject_block")?;
        let mut blocks = select.query([])?;
        while let Some(block) = blocks.next()? {
            hashes_of(block.get_ref(0)?)?.iter().for_each(|hash| each(RejectHash::from_be_bytes(*hash)));
        }
    }
    Ok(())
}

/// For each: `None` when it is not kept, else whether it was replayed.
pub(super) fn known(tx: &Transaction<'_>, hashes: &[RejectHash]) -> rusqlite::Result<Vec<Option<bool>>> {
    let mut known: Vec<Option<bool>> = vec![None; hashes.len()];
    if tx.prepare_cached("SELECT EXISTS(SELECT 1 FROM reject)")?.query_row([], |row| row.get(0))? {
        let mut select = tx.prepare_cached("SELECT replayed FROM reject WHERE hash = ?1")?;
        for (hash, known) in hashes.iter().zip(&mut known) {
            *known = select.query_row([hash.to_be_bytes()], |row| row.get(0)).optional()?;
        }
    }
    let mut wanted: Vec<(RejectHash, usize)> =
        hashes.iter().zip(&known).enumerate().filter(|(_, (_, known))| known.is_none()).map(|(place, (hash, _))| (*hash, place)).collect();
    wanted.sort_unstable();
    // Most are in the largest.
    for run in runs(tx)?.iter().rev() {
        if wanted.is_empty() {
            break;
        }
        let found = find_in(tx, run, &wanted)?;
        let mut is_found = found.iter();
        wanted.retain(|(_, place)| {
            let found = is_found.next().is_some_and(|found| *found);
            if let (true, Some(known)) = (found, known.get_mut(*place)) {
                *known = Some(false);
            }
            !found
        });
    }
    Ok(known)
}

fn sorted(hashes: impl Iterator<Item = RejectHash>) -> Vec<RejectHash> {
    let mut hashes: Vec<_> = hashes.collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// In the order of the table: neighbours are on one page.
fn save_rows(tx: &Transaction<'_>, hashes: &[RejectHash], replayed: bool) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT OR REPLACE INTO reject(hash, replayed) VALUES(?1, ?2)")?;
    hashes.iter().try_for_each(|hash| insert.execute(params![hash.to_be_bytes(), replayed]).map(drop))
}

/// Those of the hashes that were replayed are kept as if they had not been: they are about to be in a run. Few were replayed, as a rule, and
/// these are looked for among the many, from one to the next.
fn overrule_no_more(tx: &Transaction<'_>, hashes: &[RejectHash]) -> rusqlite::Result<()> {
    let mut next = tx.prepare_cached("SELECT hash FROM reject INDEXED BY reject_replayed WHERE replayed AND hash >= ?1 ORDER BY hash LIMIT 1")?;
    let mut remove = tx.prepare_cached("DELETE FROM reject WHERE hash = ?1")?;
    let mut rest = hashes;
    while let [hash, behind @ ..] = rest {
        let next = next.query_row([hash.to_be_bytes()], |row| row.get(0)).optional()?;
        match next.map(RejectHash::from_be_bytes) {
            None => break,
            Some(replayed) if replayed == *hash => {
                remove.execute([hash.to_be_bytes()])?;
                rest = behind;
            }
            Some(replayed) => rest = rest.get(rest.partition_point(|hash| *hash < replayed)..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// A run as it is listed.
struct Run {
    run: i64,
    hashes: i64,
}

/// Where a hash is in a table of blocks: by its run, then by its first 32 bits. A block is at the place of its last hash, for
/// SQLite then reads no page but that; hashes of one place are in one block.
fn place(run: i64, hash: RejectHash) -> i64 {
    (run << 32) | (hash >> 96) as i64
}

/// All runs, the smallest first.
fn runs(tx: &Transaction<'_>) -> rusqlite::Result<Vec<Run>> {
    if !open::is_since(tx, SINCE)? {
        return Ok(Vec::new());
    }
    let mut select = tx.prepare_cached("SELECT run, hashes FROM reject_run ORDER BY hashes, run")?;
    select.query_map([], |row| Ok(Run { run: row.get(0)?, hashes: row.get(1)? }))?.collect()
}

/// Adds a run, and merges into it those that are less than twice as large. What stays doubles at least from one to the next, so runs are few; and
/// a hash is written anew each time its run grows by half at least, so not often.
fn add_run(tx: &Transaction<'_>, hashes: Vec<RejectHash>) -> rusqlite::Result<()> {
    let mut size = i64::try_from(hashes.len()).unwrap_or(i64::MAX);
    let mut parts = vec![Part { run: None, head: 0, behind: hashes.into_iter() }];
    for run in runs(tx)?.iter().take_while(|run| run.hashes < FULL) {
        if run.hashes >= size.saturating_mul(2) {
            break;
        }
        size = size.saturating_add(run.hashes);
        parts.push(Part { run: Some(run.run), head: 0, behind: Vec::new().into_iter() });
    }
    let mut merged = Merged::new(tx)?;
    let mut going_on = Vec::with_capacity(parts.len());
    for mut part in parts {
        if part.next(tx)? {
            going_on.push(part);
        }
    }
    while let Some((place, part)) = going_on.iter_mut().enumerate().min_by_key(|(_, part)| part.head) {
        merged.push(part.head)?;
        if !part.next(tx)? {
            going_on.swap_remove(place);
        }
    }
    merged.end(tx)
}

/// What goes into a merged run: hashes in order.
struct Part {
    /// The run whose blocks are taken; `None` when there are no more.
    run: Option<i64>,
    head: RejectHash,
    behind: std::vec::IntoIter<RejectHash>,
}

impl Part {
    /// Goes on to the next hash, if there is one.
    fn next(&mut self, tx: &Transaction<'_>) -> rusqlite::Result<bool> {
        loop {
            match (self.behind.next(), self.run) {
                (Some(head), _) => {
                    self.head = head;
                    return Ok(true);
                }
                (None, None) => return Ok(false),
                (None, Some(run)) => self.take(tx, run)?,
            }
        }
    }

    /// Reads blocks and takes them away, so that their pages are there for what is written.
    fn take(&mut self, tx: &Transaction<'_>, run: i64) -> rusqlite::Result<()> {
        let (first, end) = (place(run, 0), place(run, RejectHash::MAX));
        let mut select = tx.prepare_cached("SELECT place, hashes FROM reject_block WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT ?3")?;
        let mut blocks = select.query([first, end, TAKEN])?;
        let (mut taken, mut last) = (Vec::new(), None);
        while let Some(block) = blocks.next()? {
            last = Some(block.get(0)?);
            hashes_into(block.get_ref(1)?, &mut taken)?;
        }
        self.behind = taken.into_iter();
        if let Some(last) = last {
            tx.prepare_cached("DELETE FROM reject_block WHERE place BETWEEN ?1 AND ?2")?.execute([first, last])?;
        } else {
            tx.prepare_cached("DELETE FROM reject_run WHERE run = ?1")?.execute([run])?;
            self.run = None;
        }
        Ok(())
    }
}

/// A run that is being written.
struct Merged<'a> {
    insert: CachedStatement<'a>,
    run: i64,
    hashes: i64,
    block: Vec<RejectHash>,
}

impl<'a> Merged<'a> {
    fn new(tx: &'a Transaction<'_>) -> rusqlite::Result<Self> {
        let run = tx.prepare_cached("SELECT coalesce(max(run), 0) + 1 FROM reject_run")?.query_row([], |row| row.get(0))?;
        let insert = tx.prepare_cached("INSERT INTO reject_block(place, hashes) VALUES(?1, ?2)")?;
        Ok(Self { insert, run, hashes: 0, block: Vec::with_capacity(BLOCK) })
    }

    fn push(&mut self, hash: RejectHash) -> rusqlite::Result<()> {
        match self.block.last() {
            Some(last) if *last == hash => return Ok(()),
            Some(last) if self.block.len() >= BLOCK && place(self.run, *last) < place(self.run, hash) => self.save_block()?,
            _ => {}
        }
        self.block.push(hash);
        self.hashes += 1;
        Ok(())
    }

    fn save_block(&mut self) -> rusqlite::Result<()> {
        if let Some(last) = self.block.last() {
            self.insert.execute(params![place(self.run, *last), bytes_of(&self.block)])?;
            self.block.clear();
        }
        Ok(())
    }

    fn end(mut self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        self.save_block()?;
        tx.prepare_cached("INSERT INTO reject_run(run, hashes) VALUES(?1, ?2)")?.execute([self.run, self.hashes])?;
        Ok(())
    }
}

/// The block in which a hash is if it is in the run, by the place of the hash and the last one of the run. (What was last in a block may be gone
/// since.)
const BLOCK_OF: &str = "SELECT place, hashes FROM reject_block WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT 1";

/// Which of the hashes, which are in order, are in a run.
fn find_in(tx: &Transaction<'_>, run: &Run, wanted: &[(RejectHash, usize)]) -> rusqlite::Result<Vec<bool>> {
    let mut find = tx.prepare_cached(BLOCK_OF)?;
    let mut found = Vec::with_capacity(wanted.len());
    while let Some((hash, _)) = wanted.get(found.len()) {
        let before = found.len();
        let looked_up = find.query_row([place(run.run, *hash), place(run.run, RejectHash::MAX)], |row| {
            let block = hashes_of(row.get_ref(1)?)?;
            let last = block.last().map(|last| RejectHash::from_be_bytes(*last));
            // One block answers for all up to its end.
            let answered = wanted.get(before..).unwrap_or_default().iter().take_while(|(hash, _)| Some(*hash) <= last);
            found.extend(answered.map(|(hash, _)| block.binary_search_by_key(hash, |held| RejectHash::from_be_bytes(*held)).is_ok()));
            Ok(())
        });
        looked_up.optional()?;
        if found.len() == before {
            found.push(false);
        }
    }
    Ok(found)
}

/// Takes hashes, which are in order, out of a run.
fn forget_in(tx: &Transaction<'_>, run: &Run, forgotten: &[RejectHash]) -> rusqlite::Result<()> {
    let mut find = tx.prepare_cached(BLOCK_OF)?;
    let mut change = tx.prepare_cached("UPDATE reject_block SET hashes = ?2 WHERE place = ?1")?;
    let mut remove = tx.prepare_cached("DELETE FROM reject_block WHERE place = ?1")?;
    let mut left = run.hashes;
    let mut rest = forgotten;
    while let Some(hash) = rest.first() {
        let mut hashes = Vec::new();
        let found = find.query_row([place(run.run, *hash), place(run.run, RejectHash::MAX)], |row| {
            hashes_into(row.get_ref(1)?, &mut hashes)?;
            row.get::<_, i64>(0)
        });
        let Some(block) = found.optional()? else { break };
        let end = hashes.last().map_or(0, |last| rest.partition_point(|hash| hash <= last)).max(1);
        let (gone, others) = rest.split_at(end);
        rest = others;
        let before = hashes.len();
        hashes.retain(|hash| gone.binary_search(hash).is_err());
        if hashes.is_empty() {
            remove.execute([block])?;
        } else if hashes.len() < before {
            change.execute(params![block, bytes_of(&hashes)])?;
        }
        left -= i64::try_from(before - hashes.len()).unwrap_or(left);
    }
    if left == 0 {
        tx.prepare_cached("DELETE FROM reject_run WHERE run = ?1")?.execute([run.run])?;
    } else if left < run.hashes {
        tx.prepare_cached("UPDATE reject_run SET hashes = ?2 WHERE run = ?1")?.execute([run.run, left])?;
    }
    Ok(())
}
