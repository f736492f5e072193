//! Files that are not TOML all over: what to say of their syntax, and what not to say because of it.

use std::collections::BTreeSet;
use std::ops::Range;

use pipeline_contract::{Level, PlanError};

/// Where a file is not TOML. What the parser could not read is missing, and what it guessed may be wrong: neither is the user's fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Broken {
    /// Where the lines begin.
    starts: Vec<usize>,
    /// The lines that could not be read, from 0.
    lines: BTreeSet<usize>,
    /// The lines of headers below which such a line stands.
    headers: BTreeSet<usize>,
    /// From a header to the next, where such a line stands between them.
    regions: Vec<Range<usize>>,
}

impl Broken {
    /// `places` are the bytes at which the parser stumbled.
    pub(super) fn new(text: &str, places: &[usize]) -> Self {
        if places.is_empty() {
            return Self::default();
        }
        let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut broken = Self { starts, ..Self::default() };
        broken.lines = places.iter().map(|at| broken.line(*at)).collect();
        let headers: Vec<usize> = text.split('\n').enumerate().filter(|(_, line)| line.trim_start().starts_with('[')).map(|(n, _)| n).collect();
        for line in &broken.lines {
            let after = headers.partition_point(|header| header <= line);
            let Some(header) = after.checked_sub(1).and_then(|at| headers.get(at)) else { continue };
            let start = |line: usize| broken.starts.get(line).copied().unwrap_or(text.len());
            if broken.headers.insert(*header) {
                broken.regions.push(start(*header)..headers.get(after).map_or(text.len(), |next| start(*next)));
            }
        }
        broken
    }

    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Does a table, told by its header, lack what could not be read?
    pub(super) fn touches(&self, header: &Range<usize>) -> bool {
        self.regions.iter().any(|region| region.contains(&header.start))
    }

    /// Drops what may follow from the syntax.
    pub(super) fn hide(&self, faults: &mut Vec<PlanError>) {
        if self.is_empty() {
            return;
        }
        faults.retain(|fault| {
            let line = fault.span.as_ref().map(|span| self.line(span.start));
            // A value that the parser made up stands nowhere.
            let nowhere = fault.span.as_ref().is_some_and(|span| *span == (0..0));
            let follows = nowhere || line.is_some_and(|line| self.lines.contains(&line) || self.headers.contains(&line));
            fault.code != "E011" && fault.level == Level::Error && !follows
        });
    }
}

/// Nobody reads more faults of one file's syntax.
const TOLD: usize = 200;

/// E001, in words for people who did not write the parser, without those that follow from another.
pub(super) fn syntax_faults(text: &str, errors: &[toml::de::Error]) -> Vec<PlanError> {
    if let Some(open) = text.find(|sign: char| !sign.is_whitespace() && sign != '\u{feff}').filter(|at| text[*at..].starts_with('{')) {
        let fault = PlanError::new("E001", "this is JSON, or something like it: a pipeline file is TOML").at(open..open + 1);
        return vec![fault.help("`pipeline new pipeline` writes one to begin with")];
    }
    let mut errors: Vec<(Range<usize>, &str)> = errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    errors.sort_by_key(|(span, _)| span.start);
    let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let line = |at: usize| starts.partition_point(|start| *start <= at).saturating_sub(1);
    let is_header =
        |line: usize| starts.get(line).and_then(|start| text.get(*start..)).is_some_and(|rest| rest.trim_start_matches([' ', '\t']).starts_with('['));
    let mut faults: Vec<PlanError> = Vec::new();
    // A list that is not closed takes in what comes after it.
    if let Some((_, message)) = errors.last()
        && message.starts_with("unclosed array")
        && let Some(open) = unclosed(text, &errors)
    {
        errors.retain(|(span, _)| span.start < open.start);
        let fault = PlanError::new("E001", "this list is not closed").at(open.clone());
        let end = text[open.start..].find('\n').map_or(text.len(), |end| open.start + end);
        let fault = fault.help("write `]` where it ends");
        // Where its line looks whole the end is known.
        let rest = text[open.start..end].trim_end();
        faults.push(if rest.contains('#') || rest.ends_with(['[', ',']) {
            fault
        } else {
            fault.suggest(open.start + rest.len()..open.start + rest.len(), "]")
        });
    }
    let mut told: BTreeSet<usize> = faults.iter().filter_map(|fault| fault.span.as_ref()).map(|span| line(span.start)).collect();
    let mut table_twice = None;
    for (span, message) in errors {
        let this = line(span.start);
        let on_header = is_header(this);
        if on_header {
            table_twice = message.starts_with("duplicate key").then_some(this);
        } else if message.starts_with("duplicate key")
            && let Some(header) = table_twice
        {
            // The keys of a table that stands twice stand twice.
            if !(header + 1..=this).any(is_header) {
                continue;
            }
        }
        if !told.insert(this) {
            continue;
        }
        faults.push(syntax_fault(text, span, message));
        if faults.len() > TOLD {
            break;
        }
    }
    faults
}

/// The bracket of the list that takes in the rest of the file.
fn unclosed(text: &str, errors: &[(Range<usize>, &str)]) -> Option<Range<usize>> {
    let header = |at: usize| text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    // The first place where a header or a key stands in a list: the list began before.
    let first = errors.iter().map(|(span, _)| span.start).find(|at| {
        let start = header(*at);
        let line = text[start..].lines().next().unwrap_or_default().trim_start();
        line.starts_with('[') || line.split_once('=').is_some_and(|(key, _)| !key.contains(['[', '"']) && *at < start + key.len() + 2)
    });
    let first = header(first.or_else(|| errors.last().map(|(span, _)| span.start))?);
    let open = text.get(..first)?.rfind("= [").map(|at| at + 2).or_else(|| text.get(..first)?.rfind('['))?;
    Some(open..open + 1)
}

/// Quotes that word processors and web pages make of straight ones.
const CURLY: [char; 8] = ['“', '”', '„', '‟', '‘', '’', '«', '»'];

fn at_word(text: &str, at: usize) -> bool {
    text.get(at..).and_then(|rest| rest.chars().next()).is_some_and(char::is_alphanumeric)
}

fn syntax_fault(text: &str, span: Range<usize>, message: &str) -> PlanError {
    let fault = |message: &str| PlanError::new("E001", message).at(span.clone());
    let covered = text.get(span.clone()).unwrap_or_default();
    let line_end = text.get(span.start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |end| span.start + end);
    let at_end = text.get(span.start..line_end).is_some_and(|rest| rest.trim().is_empty());
    let insert = |fault: PlanError, sign: &str, help: &str| {
        let fault = fault.help(help);
        if at_end { fault.suggest(span.start..span.start, sign) } else { fault }
    };
    let line_start = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let (before, after) = (text.get(line_start..span.start).unwrap_or_default(), text.get(span.end..line_end).unwrap_or_default());
    if (message.starts_with("key with no value") || message.starts_with("invalid unquoted key"))
        && !before.contains('=')
        && (before.trim_end().ends_with(':') || text.get(span.start..line_end).is_some_and(|rest| rest.trim_start().starts_with(':')))
    {
        return fault("between a key and its value stands `=`, not `:`")
            .help("TOML is written `key = value`; what has keys of its own is a table: `[key]`");
    }
    match message {
        _ if message.starts_with("string values must be quoted") && covered.is_empty() => fault("a value is missing"),
        _ if message.starts_with("string values must be quoted") && after.trim_start().starts_with('=') => {
            fault("two keys stand on one line").help("each has a line of its own")
        }
        _ if message.starts_with("string values must be quoted") && covered.trim().starts_with(CURLY) => {
            let bare = covered.trim().trim_matches(CURLY);
            fault("these quotes are no quotes of TOML").help("write straight ones").suggest(span.clone(), format!("\"{}\"", bare.escape_debug()))
        }
        _ if message.starts_with("string values must be quoted") => {
            let quoted = format!("\"{}\"", covered.trim().escape_debug());
            fault("text stands in quotes").help("put it in quotes").suggest(span.clone(), quoted)
        }
        _ if message.contains("max recursion depth") => fault("lists and tables nest deeper than 80 levels, the most that are read"),
        _ if message.starts_with("duplicate key") => fault(&format!("`{}` stands twice", covered.trim())).help("take one of them away"),
        _ if message.starts_with("invalid basic string, expected `\"`") => insert(fault("this text is not closed"), "\"", "write `\"` where it ends"),
        _ if message.starts_with("invalid literal string, expected `'`") => insert(fault("this text is not closed"), "'", "write `'` where it ends"),
        _ if message.starts_with("unclosed table") => insert(fault("this header is not closed"), "]", "write `]` at its end"),
        _ if message.starts_with("missing escaped value") => {
            let sign = text.get(span.start..).and_then(|rest| rest.chars().next()).unwrap_or_default();
            let fault = fault(&format!("`\\{}` means nothing in double quotes", sign.escape_debug()));
            let fault = fault.help("in single quotes a backslash is a backslash; in double ones it is written twice");
            // The whole text, where it is plain where it begins and ends.
            let open = before.find('"').filter(|_| before.matches('"').count() == 1).map(|at| line_start + at);
            let close = text.get(span.start..line_end).and_then(|rest| rest.find('"')).map(|at| span.start + at);
            match (open, close) {
                (Some(open), Some(close)) if !text[open..close].contains(['\'', '#']) && !text[open..close].contains("\\\\") => {
                    fault.suggest(open..close + 1, format!("'{}'", &text[open + 1..close]))
                }
                _ => fault,
            }
        }
        _ if message.starts_with("missing comma") && before.ends_with(['"', '\'']) && at_word(text, span.start) => {
            fault("a quote is missing before this, or there is one too many").help("each text of a list stands in quotes, and a comma between two")
        }
        _ if message.starts_with("missing comma") => {
            let after = text.get(..span.start).map_or(span.start, |before| before.trim_end().len());
            fault("a comma is missing between two entries of the list").help("write `,` between them").suggest(after..after, ",")
        }
        _ => fault(message),
    }
}
