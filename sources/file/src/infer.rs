//! A table `[source]` for a file, from what is at its begin.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use pipeline_contract::{Category, Disk, StageError};
use pipeline_files::time::TimeFormat;
use serde_json::Value;

use crate::cell;
use crate::config::{Compression, Dialect, Format};
use crate::csv::{Field, MOST, Scan, scan};
use crate::input::plain;
use crate::lines::{LONGEST, Lines};
use crate::reader::{first_record, skip_mark};
use crate::source::name;

/// Rows that are looked at.
const ROWS: usize = 10_000;

/// How times are often written, the narrower before the wider.
const TIMES: [&str; 6] = ["rfc3339", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d"];

/// What all values of a column so far can be read as.
struct Guess {
    /// Its name in the file, or the keys that lead to it.
    from: Vec<String>,
    values: usize,
    nulls: usize,
    boolean: bool,
    integer: bool,
    float: bool,
    times: Vec<(&'static str, TimeFormat)>,
    /// The smallest and the largest of the integers.
    range: (i64, i64),
}

impl Guess {
    fn new(from: Vec<String>) -> Self {
        let times = TIMES.iter().filter_map(|text| Some((*text, TimeFormat::parse(text).ok()?))).collect();
        Self { from, values: 0, nulls: 0, boolean: true, integer: true, float: true, times, range: (i64::MAX, i64::MIN) }
    }

    /// A value as text stands for it.
    fn text(&mut self, text: &[u8]) {
        self.values += 1;
        let text = cell::trimmed(text);
        // A number with zeros before it is the name of something.
        let is_name = text.len() > 1 && text[0] == b'0' && text.iter().all(u8::is_ascii_digit);
        self.boolean &= text.eq_ignore_ascii_case(b"true") || text.eq_ignore_ascii_case(b"false");
        match cell::integer(text).filter(|_| !is_name) {
            Some(value) => self.range = (self.range.0.min(value), self.range.1.max(value)),
            None => self.integer = false,
        }
        self.float &= !is_name && cell::float(text).is_some();
        self.times.retain(|(_, time)| time.read(text).is_some());
    }

    /// A value of JSON.
    fn json(&mut self, value: &Value) {
        match value {
            Value::Bool(_) => {
                self.values += 1;
                (self.integer, self.float) = (false, false);
                self.times.clear();
            }
            Value::Number(number) => {
                self.text(number.to_string().as_bytes());
                self.times.clear();
            }
            Value::String(text) => {
                self.text(text.as_bytes());
                (self.boolean, self.integer, self.float) = (false, false, false);
            }
            _ => self.nulls += 1,
        }
    }

    /// The unit in which integers are instants of our time, where the name says that they are.
    fn unit(&self) -> Option<&'static str> {
        let name = self.from.last()?.to_ascii_lowercase();
        let is_time =
            name.contains("time") || name.contains("date") || name.ends_with("_at") || name == "ts" || name == "at" || name.ends_with("_ts");
        // From 1990 to 2100.
        let units = [("unix", 1_i64), ("unix_ms", 1000), ("unix_us", 1_000_000)];
        let fits = |unit: i64| self.range.0 >= 631_152_000 * unit && self.range.1 < 4_102_444_800 * unit;
        units.into_iter().filter(|_| is_time).find(|(_, unit)| fits(*unit)).map(|(name, _)| name)
    }

    /// Its type, and the format of a timestamp that is no RFC 3339.
    fn ty(&self) -> (&'static str, Option<&'static str>) {
        if self.values == 0 {
            return ("text", None);
        }
        if self.boolean {
            return ("boolean", None);
        }
        if self.integer {
            return self.unit().map_or(("integer", None), |unit| ("timestamp", Some(unit)));
        }
        if self.float {
            return ("float", None);
        }
        match self.times.first() {
            Some((format, _)) => ("timestamp", Some(*format).filter(|format| *format != "rfc3339")),
            None => ("text", None),
        }
    }
}

/// A table `[source]` that reads the file, with its columns written down.
pub(crate) fn table(disk: &dyn Disk, path: &str) -> Result<String, StageError> {
    let shown = name(Path::new(path));
    let error = |what: &str| StageError::split(Category::Storage, format!("{shown}: {what}"));
    let io = |cause: std::io::Error| error(&format!("it cannot be read: {cause}"));
    let meta = disk.metadata(Path::new(path)).map_err(io)?.ok_or_else(|| error("there is no such file"))?;
    if meta.is_dir {
        return Err(error("it is a folder").help("name one of its files; a pattern can be written into the pipeline file afterwards"));
    }
    let file = disk.open(Path::new(path)).map_err(io)?;
    let mut lines = Lines::new(plain(file.take(meta.len), Compression::of(path)), 0, meta.len);
    skip_mark(&mut lines).map_err(io)?;
    let by_name = Format::of(path);
    let format = match by_name {
        Some((format, _)) => format,
        None => {
            while lines.data().iter().all(u8::is_ascii_whitespace) && !lines.is_whole() {
                lines.fill().map_err(io)?;
            }
            if lines.data().trim_ascii_start().starts_with(b"{") { Format::Jsonl } else { Format::Csv }
        }
    };
    let mut text = format!("[source]\ntype = \"file\"\npath = {}\n", quoted(path));
    if by_name.is_none() {
        text.push_str(if format == Format::Csv { "format = \"csv\"\n" } else { "format = \"jsonl\"\n" });
    }
    let guesses = match format {
        Format::Jsonl => objects(&mut lines).map_err(io)?,
        Format::Csv => {
            let (dialect, guesses) = records(&mut lines).map_err(io)?.ok_or_else(|| error("there is no line in it"))?;
            let tabs = by_name.is_some_and(|(_, tabs)| tabs);
            if dialect.delimiter != if tabs { b'\t' } else { b',' } {
                text.push_str(&format!("delimiter = {}\n", quoted(&char::from(dialect.delimiter).to_string())));
            }
            if !dialect.header {
                text.push_str("header = false\n");
            }
            guesses
        }
    };
    if guesses.is_empty() {
        return Err(error("no column is found in it").help("it must begin with a header, or with an object of columns"));
    }
    text.push_str("\n# What is read, as found in the first rows. With `required` a row without the value is rejected.\n[source.columns]\n");
    text.push_str(&columns(&guesses));
    Ok(text)
}

fn columns(guesses: &[Guess]) -> String {
    let mut text = String::new();
    // What tells rows apart: the first text and the first time, if they are always there.
    let first = |ty: &str| guesses.iter().position(|guess| guess.ty().0 == ty && guess.nulls == 0 && guess.values > 0);
    let keys = [first("text"), first("timestamp")];
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (at, guess) in guesses.iter().enumerate() {
        let whole = guess.from.join("_");
        let times = names.entry(whole.clone()).or_default();
        *times += 1;
        let name = if *times == 1 { whole } else { format!("{whole}_{times}") };
        let (ty, format) = guess.ty();
        let mut more = String::new();
        if let Some(format) = format {
            more.push_str(&format!(", format = {}", quoted(format)));
        }
        if guess.from != [name.as_str()] {
            more.push_str(&format!(", from = {}", quoted(&guess.from.join("."))));
        }
        if keys.contains(&Some(at)) {
            more.push_str(", required = true");
        }
        let bare = !name.is_empty() && name.bytes().all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, b'_' | b'-'));
        let key = if bare { name } else { quoted(&name) };
        text.push_str(&if more.is_empty() { format!("{key} = \"{ty}\"\n") } else { format!("{key} = {{ type = \"{ty}\"{more} }}\n") });
    }
    text
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The sign between the cells of the first line: that of which there are most outside of quotes.
fn delimiter(line: &[u8]) -> u8 {
    let count = |sign: u8| {
        let mut quoted = false;
        line.iter()
            .filter(|other| {
                quoted ^= **other == b'"';
                !quoted && **other == sign
            })
            .count()
    };
    [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|sign| count(*sign)).filter(|sign| count(*sign) > 0).unwrap_or(b',')
}

fn records(lines: &mut Lines) -> std::io::Result<Option<(Dialect, Vec<Guess>)>> {
    while !lines.data().contains(&b'\n') && !lines.is_whole() && lines.data().len() <= LONGEST {
        lines.fill()?;
    }
    let line = lines.data().trim_ascii_start().split(|sign| *sign == b'\n').next().unwrap_or_default();
    let mut dialect = Dialect { delimiter: delimiter(line), header: true, quoted_newlines: true, null: vec![Vec::new()], comma: false, block: MOST };
    let Some(Ok(first)) = first_record(lines, &dialect)? else { return Ok(None) };
    // A cell that is a number or nothing is no name.
    dialect.header = first.iter().all(|cell| !cell::trimmed(cell).is_empty() && cell::float(cell::trimmed(cell)).is_none());
    let name =
        |(at, cell): (usize, &Vec<u8>)| if dialect.header { String::from_utf8_lossy(cell).trim().to_owned() } else { format!("column_{}", at + 1) };
    let mut guesses: Vec<Guess> = first.iter().enumerate().map(name).map(|name| Guess::new(vec![name])).collect();
    let mut see = |cells: &[Vec<u8>]| {
        if cells.len() == guesses.len() {
            for (guess, cell) in guesses.iter_mut().zip(cells) {
                if cell.is_empty() { guess.nulls += 1 } else { guess.text(cell) }
            }
        }
    };
    if !dialect.header {
        see(&first);
    }
    let mut fields: Vec<Field> = Vec::new();
    let mut rows = 0;
    while rows < ROWS {
        match scan(lines.data(), lines.is_whole(), &dialect, &mut fields) {
            Scan::Record { len, lines: ends } => {
                see(&fields.iter().map(|field| field.text(lines.data())).collect::<Vec<_>>());
                lines.take(len, ends);
                rows += 1;
            }
            Scan::Bad(_) => lines.skip_line()?,
            Scan::More if lines.is_whole() => break,
            Scan::More if lines.data().len() > LONGEST => lines.skip_line()?,
            Scan::More => lines.fill()?,
        }
    }
    Ok(Some((dialect, guesses)))
}

fn objects(lines: &mut Lines) -> std::io::Result<Vec<Guess>> {
    let (mut guesses, mut rows): (Vec<Guess>, usize) = (Vec::new(), 0);
    while rows < ROWS {
        let Some(end) = memchr::memchr(b'\n', lines.data()).or_else(|| lines.is_whole().then_some(lines.data().len())) else {
            if lines.data().len() > LONGEST {
                lines.skip_line()?
            } else {
                lines.fill()?
            }
            continue;
        };
        if lines.data().is_empty() {
            break;
        }
        if let Ok(Value::Object(row)) = serde_json::from_slice(&lines.data()[..end]) {
            let before = rows;
            see(&row, &mut Vec::new(), &mut guesses, before);
            rows += 1;
            for guess in &mut guesses {
                // What is not there is null.
                guess.nulls = rows - guess.values;
            }
        }
        lines.take((end + 1).min(lines.data().len()), 1);
    }
    // What is an object now and then is no column besides those in it.
    let inner: Vec<Vec<String>> = guesses.iter().map(|guess| guess.from.clone()).collect();
    guesses.retain(|guess| !inner.iter().any(|from| from.len() > guess.from.len() && from.starts_with(&guess.from)));
    Ok(guesses)
}

/// Looks at the values of an object and of the objects in it. Lists have no column.
fn see(object: &serde_json::Map<String, Value>, path: &mut Vec<String>, guesses: &mut Vec<Guess>, rows: usize) {
    const DEEPEST: usize = 4;
    for (key, value) in object {
        path.push(key.clone());
        match value {
            Value::Object(inner) if path.len() < DEEPEST && !key.contains('.') => see(inner, path, guesses, rows),
            Value::Object(_) | Value::Array(_) => {}
            // `a.b` in `from` is the key `b` in `a`.
            _ if path.len() > 1 && path.iter().any(|key| key.contains('.')) => {}
            _ => {
                let place = guesses.iter().position(|guess| guess.from == *path).unwrap_or(guesses.len());
                if place == guesses.len() {
                    guesses.push(Guess { nulls: rows, ..Guess::new(path.clone()) });
                }
                if let Some(guess) = guesses.get_mut(place) {
                    guess.json(value);
                }
            }
        }
        path.pop();
    }
}
