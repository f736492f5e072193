//! The reference loop: `reference IN OUT REJECTS`, candles from CSV into CSV as `pipelines/clean-candles.toml` has them.
//!
//! Thread A reads a megabyte at a time, splits at commas, parses numbers and checks them; thread B drops keys that it has seen and writes lines as
//! they are. Quotes, types beyond these columns, reasons of rejects, a state, and what happens when it is killed are all left out: it is what the
//! work costs when nothing but the work is done.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{Read, Write};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

const BLOCK: usize = 1 << 20;
/// So many blocks wait between the threads at most.
const AHEAD: usize = 4;

/// Whole lines of the input, and what thread A knows of them.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    /// Lines that keep the rules: series, time and where they lie, with their line feed.
    rows: Vec<(u32, i64, Range<usize>)>,
    bad: Vec<Range<usize>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let [input, output, rejects] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "reference IN OUT REJECTS")?;
    let (filled, to_write) = sync_channel(AHEAD);
    let (emptied, to_fill) = channel();
    let input = File::open(input)?;
    let reader = thread::spawn(move || read(input, &filled, &to_fill));
    let (kept, rejected, duplicates) = write(File::create(output)?, File::create(rejects)?, &to_write, &emptied)?;
    reader.join().map_err(|_| "the reader fell over")??;
    println!("{{\"kept\":{kept},\"rejected\":{rejected},\"duplicates\":{duplicates}}}");
    Ok(())
}

/// Thread A.
fn read(mut input: File, filled: &SyncSender<Block>, to_fill: &Receiver<Block>) -> std::io::Result<()> {
    let mut ids: HashMap<Vec<u8>, u32, BuildHasherDefault<Mix>> = HashMap::default();
    let mut rest = Vec::new();
    let mut first = true;
    loop {
        let mut block = to_fill.try_recv().unwrap_or_default();
        block.rows.clear();
        block.bad.clear();
        block.bytes.resize(rest.len() + BLOCK, 0);
        block.bytes[..rest.len()].copy_from_slice(&rest);
        let mut filled_to = rest.len();
        let mut at_end = false;
        while filled_to < block.bytes.len() {
            match input.read(&mut block.bytes[filled_to..])? {
                0 => {
                    at_end = true;
                    break;
                }
                n => filled_to += n,
            }
        }
        block.bytes.truncate(filled_to);
        if at_end && block.bytes.last().is_some_and(|&last| last != b'\n') {
            block.bytes.push(b'\n');
        }
        let whole = block.bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        rest.clear();
        rest.extend_from_slice(&block.bytes[whole..]);
        block.bytes.truncate(whole);
        let mut at = 0;
        if std::mem::take(&mut first) {
            at = line_end(&block.bytes, 0);
        }
        while at < whole {
            at = row(&mut block, at, &mut ids);
        }
        if filled.send(block).is_err() || at_end {
            return Ok(()); // the other thread tells why it went
        }
    }
}

/// Behind the line feed that comes next.
fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| from + at + 1)
}

/// Parses and checks the line that begins at `start`; where the next one begins.
fn row(block: &mut Block, start: usize, ids: &mut HashMap<Vec<u8>, u32, BuildHasherDefault<Mix>>) -> usize {
    let bytes = block.bytes.as_slice();
    let mut at = start;
    while bytes[at] != b',' && bytes[at] != b'\n' {
        at += 1;
    }
    let coin = &bytes[start..at];
    let mut numbers = [f64::NAN; 5];
    let mut time = None;
    if !coin.is_empty() && bytes[at] == b',' {
        (time, at) = whole_number(bytes, at + 1);
        for number in &mut numbers {
            if bytes[at] != b',' {
                break;
            }
            (*number, at) = decimal(bytes, at + 1);
        }
    }
    let sound = bytes[at] == b'\n';
    let end = if sound { at + 1 } else { line_end(bytes, at) };
    let [open, high, low, close, volume] = numbers;
    // A NaN fails every comparison.
    let prices = low > 0.0 && high.is_finite() && low <= open && low <= close && open <= high && close <= high;
    match time {
        Some(time) if sound && prices && volume >= 0.0 && volume.is_finite() => {
            let series = match ids.get(coin) {
                Some(&series) => series,
                None => {
                    let series = ids.len() as u32;
                    ids.insert(coin.to_vec(), series);
                    series
                }
            };
            block.rows.push((series, time, start..end));
        }
        _ => block.bad.push(start..end),
    }
    end
}

/// A whole number, and where the first byte lies that is none of it.
fn whole_number(bytes: &[u8], from: usize) -> (Option<i64>, usize) {
    let (mut value, mut at) = (0_i64, from);
    while bytes[at].is_ascii_digit() {
        value = value.wrapping_mul(10).wrapping_add(i64::from(bytes[at] - b'0'));
        at += 1;
    }
    let ends = matches!(bytes[at], b',' | b'\n') && (1..=18).contains(&(at - from));
    (ends.then_some(value), at)
}

/// A decimal number, NaN where there is none, and where its cell ends.
fn decimal(bytes: &[u8], from: usize) -> (f64, usize) {
    let (mut digits, mut at) = (0_u64, from);
    while bytes[at].is_ascii_digit() {
        digits = digits.wrapping_mul(10).wrapping_add(u64::from(bytes[at] - b'0'));
        at += 1;
    }
    let mut behind = 0;
    if bytes[at] == b'.' {
        at += 1;
        let point = at;
        while bytes[at].is_ascii_digit() {
            digits = digits.wrapping_mul(10).wrapping_add(u64::from(bytes[at] - b'0'));
            at += 1;
        }
        behind = at - point;
    }
    if matches!(bytes[at], b',' | b'\n') && at > from && at - from <= 16 && digits < 1 << 53 {
        return (digits as f64 / POWERS[behind], at); // both are exact, so the quotient is the nearest float
    }
    while !matches!(bytes[at], b',' | b'\n') {
        at += 1;
    }
    let text = std::str::from_utf8(&bytes[from..at]).unwrap_or_default();
    (text.parse().unwrap_or(f64::NAN), at)
}

const POWERS: [f64; 17] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16];

/// Thread B: how many rows were kept, rejected, and known already.
fn write(mut out: File, mut rejects: File, to_write: &Receiver<Block>, emptied: &Sender<Block>) -> std::io::Result<(usize, usize, usize)> {
    let mut seen: HashSet<(u32, i64), BuildHasherDefault<Mix>> = HashSet::default();
    let mut counts = (0, 0, 0);
    let mut text = b"coin_id,timestamp,open,high,low,close,volume\n".to_vec();
    rejects.write_all(&text)?;
    for mut block in to_write {
        let before = block.rows.len();
        block.rows.retain(|(series, time, _)| seen.insert((*series, *time)));
        counts.0 += block.rows.len();
        counts.1 += block.bad.len();
        counts.2 += before - block.rows.len();
        for (_, _, line) in &block.rows {
            text.extend_from_slice(&block.bytes[line.clone()]);
        }
        out.write_all(&text)?;
        text.clear();
        for line in &block.bad {
            text.extend_from_slice(&block.bytes[line.clone()]);
        }
        rejects.write_all(&text)?;
        text.clear();
        let _ = emptied.send(block); // the reader may have gone: it had all
    }
    out.write_all(&text)?; // of a file without rows
    Ok(counts)
}

/// Multiplies and folds: quick, and good enough for keys that nobody chose to harm us.
#[derive(Default)]
struct Mix(u64);

impl Mix {
    fn add(&mut self, value: u64) {
        let wide = u128::from(self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.0 = (wide as u64) ^ ((wide >> 64) as u64);
    }
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value) + 1);
    }

    fn write_i64(&mut self, value: i64) {
        self.add(value as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }
}
