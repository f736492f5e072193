//! `[validate]`: which rows are good.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use pipeline_contract::{ColumnType, ConfigTable, PlanError, Spanned, parse_partial};
use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{Bound, Limit, Literal};

/// Where rejected rows go unless the file says otherwise.
const QUARANTINE: &str = "data/rejects/{name}.jsonl";

/// What to do about a row that breaks a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnReject {
    /// Keep it, with the reason, apart from the good rows.
    #[default]
    Quarantine,
    /// Count it and forget it.
    Drop,
    /// Fail its split.
    Fail,
}

/// `[validate.limits]`: how many rejected rows are too many.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Warn from here on.
    pub warn: Option<Spanned<Limit>>,
    /// Fail the run from here on.
    pub abort: Option<Spanned<Limit>>,
}

/// `[validate.columns.NAME]`: what a column may hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnRule {
    /// Null is refused.
    #[serde(default)]
    pub required: bool,
    /// The type that the column must have.
    #[serde(rename = "type")]
    pub column_type: Option<Spanned<ColumnType>>,
    /// The least value.
    pub min: Option<Spanned<Bound>>,
    /// The greatest value.
    pub max: Option<Spanned<Bound>>,
    /// Text must match this regular expression.
    pub regex: Option<Spanned<String>>,
    /// The only values.
    #[schemars(length(min = 1))]
    pub one_of: Option<Vec<Spanned<Literal>>>,
    /// The least number of characters.
    pub min_length: Option<Spanned<u64>>,
    /// The greatest number of characters.
    pub max_length: Option<Spanned<u64>>,
}

/// The rules that need no expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// Low is the least and high the greatest of open, high, low and close.
    PriceEnvelope,
    /// Open, high, low and close are above 0.
    PositivePrices,
    /// Volume is not below 0.
    NonNegativeVolume,
}

impl RuleKind {
    /// The name used in pipeline files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PriceEnvelope => "price_envelope",
            Self::PositivePrices => "positive_prices",
            Self::NonNegativeVolume => "non_negative_volume",
        }
    }
}

/// What a rule checks.
#[derive(Clone, Debug)]
pub enum RuleCheck {
    /// An expression that is true for good rows.
    Expr(Spanned<String>),
    /// A kind over price columns: open, high, low, close. Columns that the file does not name have the span of the kind.
    Prices {
        /// Which of the kinds over prices.
        kind: RuleKind,
        /// The column of opening prices.
        open: Spanned<String>,
        /// The column of highest prices.
        high: Spanned<String>,
        /// The column of lowest prices.
        low: Spanned<String>,
        /// The column of closing prices.
        close: Spanned<String>,
    },
    /// `non_negative_volume`, over this column.
    Volume(Spanned<String>),
}

/// One of `[[validate.rules]]`.
#[derive(Clone, Debug)]
pub struct RuleDef {
    /// Its name, which rejects carry: that of its kind unless it has one of its own. No two rules share one.
    pub name: Spanned<String>,
    /// What it checks.
    pub check: RuleCheck,
    /// What to say of a row that breaks it.
    pub message: Option<String>,
}

/// `[validate]`, checked as far as the file alone tells.
#[derive(Clone, Debug)]
pub struct ValidateDef {
    /// What to do about a row that breaks a rule.
    pub on_reject: OnReject,
    /// Where rejected rows are kept, with the pipeline's name filled in; its span is that of the table where the file names none.
    pub quarantine_path: Spanned<String>,
    /// How many rejected rows are too many.
    pub limits: Limits,
    /// Rules for single columns.
    pub columns: BTreeMap<Spanned<String>, ColumnRule>,
    /// Rules for whole rows, in the order of the file.
    pub rules: Vec<RuleDef>,
    /// Where the table stands.
    pub span: Range<usize>,
}

/// `[validate]` as it stands in the file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Validate")]
pub struct ValidateTable {
    /// What to do about a row that breaks a rule.
    #[serde(default)]
    on_reject: OnReject,
    /// The file for rejected rows; `{name}` is the pipeline's name. "data/rejects/{name}.jsonl" if not given.
    #[schemars(length(min = 1))]
    quarantine_path: Option<Spanned<String>>,
    /// How many rejected rows are too many.
    #[serde(default)]
    limits: Limits,
    /// Rules for single columns.
    #[serde(default)]
    columns: BTreeMap<Spanned<String>, ColumnRule>,
    /// Rules for whole rows.
    #[serde(default)]
    rules: Vec<Spanned<RuleTable>>,
}

/// One of `[[validate.rules]]`, as it stands in the file: an expression or a kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    /// What rejects call it. Needed beside `expr`; beside `kind`, that of the kind if not given.
    #[schemars(length(min = 1))]
    name: Option<Spanned<String>>,
    /// An SQL expression over the columns that is true for good rows.
    #[schemars(length(min = 1))]
    expr: Option<Spanned<String>>,
    /// A rule that is built in.
    kind: Option<Spanned<RuleKind>>,
    /// The column of opening prices, for kinds over prices. "open" if not given, and so for the others.
    open: Option<Spanned<String>>,
    /// The column of highest prices.
    high: Option<Spanned<String>>,
    /// The column of lowest prices.
    low: Option<Spanned<String>>,
    /// The column of closing prices.
    close: Option<Spanned<String>>,
    /// The column of volumes.
    volume: Option<Spanned<String>>,
    /// What to say of a row that breaks it.
    message: Option<String>,
}

impl ValidateDef {
    pub(super) fn parse(table: &ConfigTable<'_>, pipeline: &str) -> (Option<Self>, Vec<PlanError>) {
        let (read, mut faults) = parse_partial::<ValidateTable>("[validate]", table);
        let Some(read) = read else { return (None, faults) };
        let quarantine_path = quarantine_path(read.quarantine_path, pipeline, table.span(), &mut faults);
        check_limits(&read.limits, &mut faults);
        for rule in read.columns.values() {
            check_column(rule, &mut faults);
        }
        let rules = rules(read.rules, &mut faults);
        let def = Self { on_reject: read.on_reject, quarantine_path, limits: read.limits, columns: read.columns, rules, span: table.span() };
        (Some(def), faults)
    }
}

/// The rules that have no fault.
fn rules(read: Vec<Spanned<RuleTable>>, faults: &mut Vec<PlanError>) -> Vec<RuleDef> {
    let starts: Vec<_> = read.iter().map(|rule| rule.span().start).collect();
    let places: Vec<_> = faults.iter().filter_map(|fault| fault.span.as_ref()).map(|span| span.start).collect();
    let mut rules = Vec::new();
    for (n, rule) in read.into_iter().enumerate() {
        // What could not be typed is left out of the rule, so it may seem to lack something.
        let next = starts.get(n + 1).copied().unwrap_or(usize::MAX);
        let whole = !places.iter().any(|place| (starts[n]..next).contains(place));
        let mut own = Vec::new();
        rules.extend(check_rule(rule, &mut own));
        faults.extend(own.into_iter().filter(|fault| whole || fault.code != "E011"));
    }
    let mut names = BTreeSet::new();
    for rule in rules.iter().filter(|rule| !names.insert(rule.name.as_str())) {
        let fault = rule.name.error("E012", format!("two rules are called `{}`", *rule.name));
        faults.push(fault.help("give this one a `name` of its own"));
    }
    rules
}

fn quarantine_path(given: Option<Spanned<String>>, pipeline: &str, table: Range<usize>, faults: &mut Vec<PlanError>) -> Spanned<String> {
    let path = given.unwrap_or_else(|| Spanned::new(QUARANTINE.into(), table));
    let filled = path.replace("{name}", pipeline);
    if path.replace("{name}", "").contains(['{', '}']) {
        let fault = path.error("E012", "`quarantine_path`: `{name}`, the pipeline's name, is all that is filled in");
        faults.push(fault.help("rejects of all columns go into one file"));
    }
    Spanned::new(filled, path.span())
}

fn check_limits(limits: &Limits, faults: &mut Vec<PlanError>) {
    if let (Some(warn), Some(abort)) = (&limits.warn, &limits.abort) {
        let never = match (**warn, **abort) {
            (Limit::Rows(warn), Limit::Rows(abort)) => warn >= abort,
            (Limit::Share(warn), Limit::Share(abort)) => warn >= abort,
            _ => false,
        };
        if never {
            faults.push(warn.error("E012", "`limits.warn` is not below `limits.abort`: the run would fail without a warning"));
        }
    }
}

fn check_column(rule: &ColumnRule, faults: &mut Vec<PlanError>) {
    if let (Some(min), Some(max)) = (&rule.min, &rule.max) {
        match min.exceeds(**max) {
            Some(true) => faults.push(max.error("E012", "`max` is below `min`: no value would do")),
            Some(false) => {}
            None => faults.push(max.error("E012", "one of `min` and `max` is a number, the other an instant")),
        }
    }
    if let (Some(min), Some(max)) = (&rule.min_length, &rule.max_length)
        && **min > **max
    {
        faults.push(max.error("E012", "`max_length` is below `min_length`: no text would do"));
    }
}

fn check_rule(rule: Spanned<RuleTable>, faults: &mut Vec<PlanError>) -> Option<RuleDef> {
    let span = rule.span();
    let rule = rule.into_inner();
    let before = faults.len();
    let mut columns = [("open", rule.open), ("high", rule.high), ("low", rule.low), ("close", rule.close), ("volume", rule.volume)];
    let takes = |column: &str| match rule.kind.as_deref() {
        Some(RuleKind::PriceEnvelope | RuleKind::PositivePrices) => column != "volume",
        Some(RuleKind::NonNegativeVolume) => column == "volume",
        None => false,
    };
    for (name, column) in &columns {
        if let Some(column) = column.as_ref().filter(|_| !takes(name)) {
            let whom = rule.kind.as_deref().map_or("a rule with `expr`".to_owned(), |kind| format!("the kind `{}`", kind.name()));
            faults.push(column.error("E010", format!("{whom} has no key `{name}`")));
        }
    }
    let mut column = |wanted: &str, kind: &Spanned<RuleKind>| {
        let named = columns.iter_mut().find(|(name, _)| *name == wanted).and_then(|(_, column)| column.take());
        named.unwrap_or_else(|| Spanned::new(wanted.to_owned(), kind.span()))
    };
    let (name, check) = match (rule.expr, rule.kind) {
        (Some(expr), None) => {
            if rule.name.is_none() {
                faults.push(PlanError::new("E011", "a rule with `expr` needs the key `name`").at(span).help("`name`: what rejects call it"));
            }
            (rule.name, RuleCheck::Expr(expr))
        }
        (None, Some(kind)) => {
            let name = rule.name.unwrap_or_else(|| Spanned::new(kind.name().to_owned(), kind.span()));
            let check = match *kind {
                RuleKind::NonNegativeVolume => RuleCheck::Volume(column("volume", &kind)),
                prices => RuleCheck::Prices {
                    kind: prices,
                    open: column("open", &kind),
                    high: column("high", &kind),
                    low: column("low", &kind),
                    close: column("close", &kind),
                },
            };
            (Some(name), check)
        }
        (Some(_), Some(kind)) => {
            faults.push(kind.error("E012", "a rule has `expr` or `kind`, not both"));
            return None;
        }
        (None, None) => {
            faults.push(PlanError::new("E011", "a rule needs the key `expr` or the key `kind`").at(span));
            return None;
        }
    };
    if faults.len() > before { None } else { name.map(|name| RuleDef { name, check, message: rule.message }) }
}
