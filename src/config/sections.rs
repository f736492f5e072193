//! A pipeline file, section by section.

use pipeline_contract::{ConfigTable, Expansions, PlanError, Spanned, parse_partial, slip, take_text, unknown_key};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::broken::{Broken, syntax_faults};
use super::env::Env;
use super::expand::expand;
use super::notify::NotifyDef;
use super::tables::{DedupeDef, LogConfig, RunConfig, TriggerPolicy};
use super::test::{self, TestDef, TestFile};
use super::{PipelineDef, StageDef};
use crate::diagnostic::{SourceFile, limit};
use crate::notify::Target;
use crate::stages::validate::ValidateConfig;

/// Every key that may stand at the top, in the order in which files have them.
pub(super) const KEYS: [&str; 12] =
    ["name", "description", "log", "notify", "run", "trigger", "source", "transforms", "validate", "dedupe", "sink", "test"];

const WHAT: &str = "the pipeline file";

/// What stands above all tables.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// What state, logs and `status` call it: small letters, digits, `-` and `_`.
    name: Spanned<String>,
    /// What it is for.
    description: Option<String>,
}

/// The definition in a pipeline file, and all its faults in the order of the file.
///
/// There is a definition also of a faulty file: so that plugins can look at their tables, and all faults come in one go. It may be run only
/// if none of them is an error.
pub fn parse<'a>(file: &'a SourceFile, env: &Env) -> (PipelineDef<'a>, Vec<PlanError>) {
    if let Some(fault) = too_deep(&file.text) {
        let mut nothing = Sections { root: DeTable::new(), expansions: Expansions::default(), faults: Vec::new() };
        let mut def = nothing.read();
        def.broken = Broken::new(&file.text, &[0]);
        return (def, vec![fault]);
    }
    let (mut def, broken, faults) = read(file, env, Sections::read);
    def.broken = broken;
    (def, faults)
}

/// The tests in a file of their own, and all its faults in the order of the file.
pub fn parse_tests(file: &SourceFile, env: &Env) -> (TestFile, Vec<PlanError>) {
    if let Some(fault) = too_deep(&file.text) {
        let nothing = TestFile { tests: Vec::new(), broken: Broken::new(&file.text, &[0]), expansions: Expansions::default() };
        return (nothing, vec![fault]);
    }
    let ((tests, expansions), broken, faults) = read(file, env, |sections| {
        let others: Vec<_> = sections.root.keys().filter(|key| key.get_ref() != "test").cloned().collect();
        for key in others {
            let fault = unknown_key("a file of tests", key.get_ref(), key.span(), &["test"]);
            sections.faults.push(if KEYS.contains(&key.get_ref().as_ref()) {
                fault.help("it stands in the pipeline file; here are `[[test]]` tables alone")
            } else {
                fault
            });
        }
        (sections.tests(), sections.expansions.clone())
    });
    (TestFile { tests, broken, expansions }, faults)
}

/// What `of` reads of a file, what of the file is no TOML, and all faults.
fn read<'a, T>(file: &'a SourceFile, env: &Env, of: impl FnOnce(&mut Sections<'a>) -> T) -> (T, Broken, Vec<PlanError>) {
    let (root, broken) = DeTable::parse_recoverable(&file.text);
    let mut root = root.into_inner();
    let mut faults = Vec::new();
    let expansions = expand(&file.text, &mut root, env, &mut faults);
    let mut sections = Sections { root, expansions, faults };
    let read = of(&mut sections);
    let mut faults = sections.faults;
    let places: Vec<usize> = broken.iter().filter_map(|error| error.span()).map(|span| span.start).collect();
    let parts = Broken::new(&file.text, &places);
    parts.hide(&mut faults);
    faults.extend(syntax_faults(&file.text, &broken));
    faults.sort_by_key(|fault| fault.span.as_ref().map(|span| span.start));
    limit(&mut faults);
    (read, parts, faults)
}

/// E001 for a dotted key that no pipeline file needs. `toml` allows 80 parts, in each of 80 tables that stand in one another: 6400 levels,
/// which overflow the stack when they are dropped.
fn too_deep(text: &str) -> Option<PlanError> {
    const MOST: usize = 8;
    let (mut dots, mut start) = (0, 0);
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot if dots + 1 == MOST => {
                let fault = PlanError::new("E001", format!("a key has more than {MOST} parts, the most that are read"));
                return Some(fault.at(start..token.span().end()));
            }
            TokenKind::Dot => dots += 1,
            TokenKind::Atom | TokenKind::BasicString | TokenKind::LiteralString | TokenKind::Whitespace => {}
            // In recovery the parser takes these for parts too.
            TokenKind::MlBasicString | TokenKind::MlLiteralString => {}
            _ => (dots, start) = (0, token.span().end()),
        }
    }
    None
}

struct Sections<'a> {
    root: DeTable<'a>,
    expansions: Expansions,
    faults: Vec<PlanError>,
}

impl<'a> Sections<'a> {
    fn read(&mut self) -> PipelineDef<'a> {
        self.unknown_keys();
        let (name, description) = self.head();
        let log = self.section("log", |table| parse_partial::<LogConfig>("[log]", table)).unwrap_or_default();
        let notify = self.notify();
        let run = self.section("run", RunConfig::parse).unwrap_or_default();
        let validate_span = self.root.get("validate").map_or(0..0, toml::Spanned::span);
        let mut is_validate_whole = true;
        let validate = self.section("validate", |table| {
            let (validate, faults) = validate(table, &name);
            is_validate_whole = faults.is_empty();
            (validate, faults)
        });
        let dedupe = self.section("dedupe", DedupeDef::parse);
        let (trigger, policy) = self.trigger();
        let source = self.one("source", "where rows come from");
        let transforms = self.many("transforms");
        let sinks = self.many("sink");
        let tests = self.tests();
        PipelineDef {
            name,
            description,
            log,
            notify,
            run,
            policy,
            trigger,
            source,
            transforms,
            validate,
            is_validate_whole,
            validate_span,
            dedupe,
            sinks,
            tests,
            broken: Broken::default(),
            expansions: self.expansions.clone(),
        }
    }

    fn unknown_keys(&mut self) {
        let mut unknown: Vec<_> = self.root.keys().filter(|key| !KEYS.contains(&key.get_ref().as_ref())).cloned().collect();
        unknown.sort_by_key(|key| key.span().start);
        for key in unknown {
            let free: Vec<&str> = KEYS.into_iter().filter(|name| !self.root.contains_key(*name)).collect();
            let meant = slip(key.get_ref(), free.iter().copied());
            self.faults.push(unknown_key(WHAT, key.get_ref(), key.span(), if meant.is_some() { &free } else { &KEYS }));
            // What stands there is looked at as that which was meant: it is not missing, and its faults come in the same go.
            if let (Some(meant), Some((key, value))) = (meant, self.root.remove_entry(key.get_ref().as_ref())) {
                self.root.insert(toml::Spanned::new(key.span(), meant.to_owned().into()), value);
            }
        }
    }

    /// What is read of a part; its faults go to the others.
    fn note<T>(&mut self, (read, mut faults): (T, Vec<PlanError>)) -> T {
        limit(&mut faults);
        self.expansions.hide(&mut faults);
        self.faults.append(&mut faults);
        read
    }

    fn table(&self, span: std::ops::Range<usize>, table: DeTable<'a>) -> ConfigTable<'a> {
        ConfigTable::new(toml::Spanned::new(span, table), self.expansions.clone())
    }

    fn head(&mut self) -> (Spanned<String>, Option<String>) {
        let mut head = DeTable::new();
        for key in ["name", "description"] {
            if let Some((key, value)) = self.root.remove_entry(key) {
                head.insert(key, value);
            }
        }
        let (head, mut faults) = parse_partial::<Head>(WHAT, &self.table(0..0, head));
        // A name that is missing is missing in the file as a whole.
        faults.iter_mut().filter(|fault| fault.code == "E011").for_each(|fault| fault.span = None);
        let Some(head) = self.note((head, faults)) else { return (Spanned::new(String::new(), 0..0), None) };
        let secret = self.expansions.at(&head.name.span()).is_some_and(|one| !one.hidden.is_empty());
        self.note(((), check_name(&head.name, secret).err().into_iter().collect()));
        (head.name, head.description)
    }

    /// The table at `key`, if it is there and is one.
    fn take(&mut self, key: &str) -> Option<ConfigTable<'a>> {
        let value = self.root.remove(key)?;
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(self.table(span, table)),
            DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()) && !items.is_empty() => {
                // The second header is the one too many.
                let span = items.get(1).map_or(span, toml::Spanned::span);
                let fault = PlanError::new("E012", format!("a pipeline has one `[{key}]`")).at(span);
                self.faults.push(fault.help(format!("write `[{key}]`, once")));
                let first = items.into_iter().next()?;
                let span = first.span();
                match first.into_inner() {
                    DeValue::Table(table) => Some(self.table(span, table)),
                    _ => None,
                }
            }
            other => {
                self.faults.push(not_a_table(key, &other).at(span));
                None
            }
        }
    }

    fn section<T>(&mut self, key: &str, read: impl FnOnce(&ConfigTable<'a>) -> (Option<T>, Vec<PlanError>)) -> Option<T> {
        let table = self.take(key)?;
        self.note(read(&table))
    }

    fn trigger(&mut self) -> (Option<StageDef<'a>>, TriggerPolicy) {
        let Some(mut trigger) = self.one("trigger", "when it runs") else { return (None, TriggerPolicy::default()) };
        let keys = trigger.table.split_off(&TriggerPolicy::KEYS);
        trigger.engine_keys = &TriggerPolicy::KEYS;
        let policy = self.note(parse_partial("[trigger]", &keys)).unwrap_or_default();
        (Some(trigger), policy)
    }

    /// The one stage at `key`, which every pipeline has.
    fn one(&mut self, key: &str, what: &str) -> Option<StageDef<'a>> {
        if !self.root.contains_key(key) {
            self.faults.push(PlanError::new("E011", format!("{WHAT} needs the table `[{key}]`")).help(format!("`[{key}]` says {what}")));
            return None;
        }
        let table = self.take(key)?;
        Some(self.stage(key, table))
    }

    /// The stages at `key`, in their order.
    fn many(&mut self, key: &str) -> Vec<StageDef<'a>> {
        let sink = key == "sink";
        let Some(value) = self.root.remove(key) else {
            if sink {
                self.faults.push(PlanError::new("E011", format!("{WHAT} needs the table `[sink]`")).help("`[sink]` says where rows go"));
            }
            return Vec::new();
        };
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) if sink => {
                let table = self.table(span, table);
                vec![self.stage(key, table)]
            }
            DeValue::Array(items) => {
                if items.is_empty() && sink {
                    self.faults.push(PlanError::new("E012", "a pipeline needs at least one sink").at(span));
                }
                let mut stages = Vec::new();
                for item in items {
                    let span = item.span();
                    match item.into_inner() {
                        DeValue::Table(table) => {
                            let table = self.table(span, table);
                            stages.push(self.stage(key, table));
                        }
                        other => self.faults.push(not_a_table(key, &other).at(span)),
                    }
                }
                stages
            }
            DeValue::Table(_) => {
                let fault = PlanError::new("E012", format!("`{key}` is a list: each has a header of its own")).at(span);
                self.faults.push(fault.help(format!("write `[[{key}]]`")));
                Vec::new()
            }
            other => {
                self.faults.push(not_a_table(key, &other).at(span));
                Vec::new()
            }
        }
    }

    /// Where news go: one table, or several.
    fn notify(&mut self) -> Vec<Target> {
        let Some(value) = self.root.remove("notify") else { return Vec::new() };
        let span = value.span();
        let items = match value.into_inner() {
            DeValue::Array(items) => items.into_iter().collect(),
            other => vec![toml::Spanned::new(span, other)],
        };
        let mut targets = Vec::new();
        for item in items {
            let span = item.span();
            match item.into_inner() {
                DeValue::Table(table) => {
                    let table = self.table(span, table);
                    targets.extend(self.note(NotifyDef::parse(&table)));
                }
                other => self.faults.push(not_a_table("notify", &other).at(span)),
            }
        }
        targets
    }

    /// The tests at `test` with which nothing is wrong.
    fn tests(&mut self) -> Vec<TestDef> {
        let Some(value) = self.root.remove("test") else { return Vec::new() };
        let span = value.span();
        let items = match value.into_inner() {
            DeValue::Array(items) => items,
            other => {
                let fault = PlanError::new("E012", "`test` is a list: each has a header of its own");
                let fault = if other.is_table() { fault } else { not_a_table("test", &other) };
                self.faults.push(fault.at(span).help("write `[[test]]`"));
                return Vec::new();
            }
        };
        let mut tests = Vec::new();
        for item in items {
            let span = item.span();
            match item.into_inner() {
                DeValue::Table(table) => {
                    let table = self.table(span, table);
                    tests.extend(self.note(test::parse(&table)));
                }
                other => self.faults.push(not_a_table("test", &other).at(span)),
            }
        }
        self.note(((), test::twice(&tests)));
        tests
    }

    fn stage(&mut self, key: &str, mut table: ConfigTable<'a>) -> StageDef<'a> {
        let span = table.span();
        let kind = key.trim_end_matches('s');
        let misspelt = |table: &ConfigTable<'_>| {
            let mut keys = table.keys().into_iter().filter(|name| slip(name, ["type"]).is_some());
            keys.next().filter(|_| !table.has("type"))
        };
        let type_name = match misspelt(&table) {
            Some(misspelt) => {
                self.faults.push(unknown_key(&format!("`{key}`"), &misspelt, misspelt.span(), &["type"]));
                take_text(&mut table, &misspelt)
            }
            None => take_text(&mut table, "type"),
        };
        let type_name = type_name.unwrap_or_else(|| {
            let fault = PlanError::new("E011", format!("`{key}` needs the key `type`")).at(span.clone());
            Err(fault.help(format!("`pipeline list {kind}` shows every type")))
        });
        // The stage has its place even so: what comes after it is not what came before.
        let type_name = match type_name {
            Ok(type_name) => type_name,
            Err(fault) => self.note((Spanned::new(String::new(), span.clone()), vec![fault])),
        };
        StageDef { type_name, table, span, engine_keys: &[] }
    }
}

fn validate(table: &ConfigTable<'_>, pipeline: &str) -> (Option<ValidateConfig>, Vec<PlanError>) {
    let (mut validate, mut faults) = parse_partial::<ValidateConfig>("[validate]", table);
    if let Some(validate) = &mut validate {
        // A rule that lost an entry to a fault would seem to lack it: what follows from a fault is no fault.
        let places: Vec<_> = faults.iter().filter_map(|fault| fault.span.as_ref()).map(|span| span.start).collect();
        let starts: Vec<_> = validate.rules.iter().map(|rule| rule.span().start).collect();
        let end_of = |start: usize| starts.iter().copied().filter(|next| *next > start).min().unwrap_or(usize::MAX);
        validate.rules.retain(|rule| {
            let own = rule.span().start..end_of(rule.span().start);
            !places.iter().any(|place| own.contains(place))
        });
        if let Some(path) = &validate.quarantine_path {
            if path.replace("{name}", "").contains(['{', '}']) {
                let fault = path.error("E012", "`quarantine_path`: `{name}`, the pipeline's name, is all that is filled in");
                faults.push(fault.help("rejects of all columns go into one file"));
            }
            validate.quarantine_path = Some(Spanned::new(path.replace("{name}", pipeline), path.span()));
        }
    }
    (validate, faults)
}

fn check_name(name: &Spanned<String>, secret: bool) -> Result<(), PlanError> {
    const LONGEST: usize = 64;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().count() <= LONGEST && name.chars().all(good) {
        return Ok(());
    }
    let fault = name.error("E012", format!("`name`: expected 1 to {LONGEST} small letters, digits, `-` or `_`"));
    let mended: String = name.trim().to_lowercase().chars().map(|c| if good(c) { c } else { '-' }).take(LONGEST).collect();
    let mended = mended.trim_matches('-');
    Err(if !secret && mended.chars().any(|c| c.is_ascii_alphanumeric()) {
        fault.help(format!("write \"{mended}\"")).suggest(name.span(), format!("\"{mended}\""))
    } else {
        fault
    })
}

fn not_a_table(key: &str, found: &DeValue<'_>) -> PlanError {
    let what = match found {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let header = if ["transforms", "test"].contains(&key) { format!("[[{key}]]") } else { format!("[{key}]") };
    PlanError::new("E012", format!("`{key}`: expected a table, found {what}")).help(format!("write the header `{header}`, and its keys below"))
}
