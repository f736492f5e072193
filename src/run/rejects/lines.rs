//! Rejects as the lines that the quarantine keeps of them.

use std::sync::Arc;

use super::json;
use crate::state::RejectHash;

/// The longest line that is written and read back, in bytes.
pub(crate) const LONGEST_LINE: u64 = 64 << 20;

/// What a text is cut to where its line would be longer, in characters.
const CUT: usize = 1000;

/// Longer than most lines are: room that is not used costs nothing.
const LINE: usize = 480;

/// Lines of a quarantine file, one behind the other. Each is what the [`StoredReject`](crate::run::StoredReject) is written as, with its hash.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lines {
    bytes: Arc<Vec<u8>>,
    ends: Vec<usize>,
    hashes: Vec<RejectHash>,
}

impl Lines {
    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// About how many bytes of memory they take.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.hashes.len() * (size_of::<RejectHash>() + size_of::<usize>())
    }

    /// All of them.
    pub(crate) fn bytes(&self) -> &Arc<Vec<u8>> {
        &self.bytes
    }

    /// The hash of each.
    pub(crate) fn hashes(&self) -> &[RejectHash] {
        &self.hashes
    }

    /// The bytes of each, line break included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |end| self.bytes.get(std::mem::replace(&mut from, *end)..*end).unwrap_or_default())
    }
}

/// Writes the lines of one split.
pub(super) struct Writer<'a> {
    run: &'a str,
    split: &'a str,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    hashes: Vec<RejectHash>,
    stage: String,
    rule: String,
    /// What a reject is known by: `["split","stage","rule",` and the row behind it.
    identity: Vec<u8>,
    /// Where the row begins in it.
    row_from: usize,
    /// What stands between row and message, and ...
    before: Vec<u8>,
    /// ... behind the message.
    after: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Writes lines of rejects of a split; about so many.
    pub(super) fn new(run: &'a str, split: &'a str, rejects: usize) -> Self {
        let bytes = Vec::with_capacity(rejects.saturating_mul(LINE));
        let (ends, hashes) = (Vec::with_capacity(rejects), Vec::with_capacity(rejects));
        let (stage, rule) = (String::new(), String::new());
        let mut new = Self { run, split, bytes, ends, hashes, stage, rule, identity: Vec::new(), row_from: 0, before: Vec::new(), after: Vec::new() };
        new.surround("", "");
        new
    }

    /// Adds a line, of which `row` writes the row.
    pub(super) fn line(&mut self, stage: &str, rule: &str, message: &str, row: impl FnOnce(&mut Vec<u8>)) {
        if self.rule != rule || self.stage != stage {
            self.surround(stage, rule);
        }
        self.identity.truncate(self.row_from);
        row(&mut self.identity);
        let row_to = self.identity.len();
        self.identity.push(b']');
        let hash = xxhash_rust::xxh3::xxh3_128(&self.identity);
        let from = self.bytes.len();
        self.bytes.extend_from_slice(b"{\"row\":");
        self.bytes.extend_from_slice(self.identity.get(self.row_from..row_to).unwrap_or_default());
        self.bytes.extend_from_slice(&self.before);
        json::text(message, &mut self.bytes);
        self.bytes.extend_from_slice(&self.after);
        let length = self.bytes.len() - from;
        if length as u64 > LONGEST_LINE {
            self.bytes.truncate(from);
            return self.short_line(stage, rule, message, length, hash);
        }
        self.ends.push(self.bytes.len());
        self.hashes.push(hash);
    }

    /// Adds a line without its row, which would make the whole file unreadable. Rows that differ stay apart.
    fn short_line(&mut self, stage: &str, rule: &str, message: &str, length: usize, hash: RejectHash) {
        let cut = |text: &str| text.chars().take(CUT).collect::<String>();
        let row = format!("left out, as it makes a line of {length} bytes: {hash:032x}");
        let (run, split) = (cut(self.run), cut(self.split));
        let mut short = Writer::new(&run, &split, 1);
        short.line(&cut(stage), &cut(rule), &cut(message), |out| json::text(&row, out));
        self.bytes.extend_from_slice(&short.bytes);
        self.ends.push(self.bytes.len());
        self.hashes.append(&mut short.hashes);
    }

    /// Prepares what all lines of a stage and rule have.
    fn surround(&mut self, stage: &str, rule: &str) {
        stage.clone_into(&mut self.stage);
        rule.clone_into(&mut self.rule);
        self.identity.clear();
        self.identity.push(b'[');
        for part in [self.split, stage, rule] {
            json::text(part, &mut self.identity);
            self.identity.push(b',');
        }
        self.row_from = self.identity.len();
        self.before.clear();
        self.before.extend_from_slice(b",\"rule\":");
        json::text(rule, &mut self.before);
        self.before.extend_from_slice(b",\"message\":");
        self.after.clear();
        for (key, part) in [(&b",\"run\":"[..], self.run), (b",\"split\":", self.split), (b",\"stage\":", stage)] {
            self.after.extend_from_slice(key);
            json::text(part, &mut self.after);
        }
        self.after.extend_from_slice(b"}\n");
    }

    pub(super) fn finish(mut self) -> Lines {
        // They stay in memory until the epoch is committed.
        if self.bytes.capacity() / 8 * 7 > self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
        Lines { bytes: Arc::new(self.bytes), ends: self.ends, hashes: self.hashes }
    }
}
