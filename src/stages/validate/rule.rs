//! Rules over whole rows.

use std::ops::Range;

use pipeline_contract::arrow::{Array, RecordBatch, Schema, SchemaRef};
use pipeline_contract::{ColumnType, PlanError, Spanned, StageError};
use pipeline_expr::Expr;

use super::Broken;
use super::config::{RuleConfig, RuleKind};
use super::prices::{Column, Prices, negative, show_negative};
use crate::stages::columns::find_typed;
use crate::stages::expression::{compile_condition, unfit};
use crate::stages::values::show;

/// One rule.
pub(super) struct Rule {
    name: String,
    message: Option<String>,
    test: Test,
}

enum Test {
    Holds { expr: Expr, text: String, span: Range<usize> },
    Envelope(Prices),
    Positive(Prices),
    NonNegative(Column),
}

/// A name that another rule has.
pub(super) fn twice(rule: &Spanned<RuleConfig>, name: &str) -> PlanError {
    let given = rule.name.as_ref().or(rule.expr.as_ref()).map(Spanned::span);
    let span = given.or_else(|| rule.kind.as_ref().map(Spanned::span)).unwrap_or_else(|| rule.span());
    let fault = PlanError::new("E042", format!("there are two rules {name:?}")).at(span);
    fault.help(if rule.name.is_some() { "give it another name" } else { "give it a `name`: rejects say which rule they broke" })
}

impl Rule {
    pub(super) fn plan(schema: &SchemaRef, rule: &Spanned<RuleConfig>) -> Result<Self, Vec<PlanError>> {
        let mut faults = Vec::new();
        if let Some(name) = rule.name.as_ref().filter(|name| name.trim().is_empty()) {
            faults.push(name.error("E044", "a rule needs a name").help("leave `name` out and it is made up"));
        }
        let test = match (&rule.expr, &rule.kind) {
            (Some(text), None) => {
                faults.extend(unused(rule, "a rule with `expr`", &[]));
                let text_in_one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
                compile_condition(text, schema).map(|expr| Test::Holds { expr, text: text_in_one_line, span: text.span() })
            }
            (None, Some(kind)) => planned_kind(schema, rule, kind, &mut faults),
            (Some(_), Some(kind)) => {
                let fault = kind.error("E044", "`expr` and `kind` exclude each other");
                Err(vec![fault.help("make it two rules")])
            }
            (None, None) => {
                let fault = rule.error("E044", "the rule says neither `expr` nor `kind`");
                Err(vec![fault.help("`expr = \"low <= high\"`, or `kind = \"price_envelope\"`, \"positive_prices\" or \"non_negative_volume\"")])
            }
        };
        match test {
            Ok(test) if faults.is_empty() => {
                let made_up = || match (&test, &rule.kind) {
                    (Test::Holds { text, .. }, _) => text.clone(),
                    (_, kind) => kind.as_ref().map(|kind| kind.name().to_owned()).unwrap_or_default(),
                };
                let name = rule.name.as_ref().map_or_else(made_up, |name| name.trim().to_owned());
                Ok(Self { name, message: rule.message.clone(), test })
            }
            Ok(_) => Err(faults),
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// W004 when it says the same of every row.
    pub(super) fn constant(&self) -> Option<PlanError> {
        let Test::Holds { expr, span, .. } = &self.test else { return None };
        let (what, so) = match expr.constant()? {
            Some(true) => ("true", "no row breaks it"),
            Some(false) => ("false", "every row breaks it"),
            None => ("unknown (null)", "no row breaks it"),
        };
        let fault = PlanError::warning("W004", format!("this rule is always {what}: {so}")).at(span.clone());
        Some(fault.help(if what.starts_with('u') { "to ask for null write IS NULL" } else { "name a column in it, or take the rule away" }))
    }

    pub(super) fn broken(&self, batch: &RecordBatch) -> Result<Vec<Broken>, StageError> {
        match &self.test {
            Test::Holds { expr, text, .. } => {
                let (holds, errors) = expr.matches_each(batch).map_err(|error| unfit(&error))?;
                let mut broken = Vec::new();
                // Unknown passes. A row with an error is null in `holds`.
                if holds.false_count() > 0 {
                    broken.extend((0..holds.len()).filter(|row| holds.is_valid(*row) && !holds.value(*row)).map(Broken::row));
                }
                let unanswered =
                    |error: pipeline_expr::EvalError| Some(Broken { row: error.row?, why: Some(format!("{text} has no answer: {}", error.message)) });
                broken.extend(errors.into_iter().filter_map(unanswered));
                Ok(broken)
            }
            Test::Envelope(prices) => Ok(Broken::rows(prices.envelope(batch)?)),
            Test::Positive(prices) => Ok(Broken::rows(prices.positive(batch)?)),
            Test::NonNegative(volume) => Ok(Broken::rows(negative(volume, batch)?)),
        }
    }

    /// Adds why, in words, with the values; words of the pipeline file come before ours.
    pub(super) fn message(&self, batch: &RecordBatch, broken: &Broken, out: &mut String) -> Result<(), StageError> {
        if let Some(message) = &self.message {
            out.push_str(message);
            out.push_str(": ");
        }
        match (&broken.why, &self.test) {
            (Some(why), _) => out.push_str(why),
            (None, Test::Holds { expr, text, .. }) => {
                let columns = expr.columns();
                let mut values = columns.iter().filter_map(|name| Some((name, batch.column_by_name(name)?))).peekable();
                // The values say enough beside the author's own words.
                if self.message.is_none() || values.peek().is_none() {
                    out.push_str(text);
                    out.push_str(" does not hold");
                    out.push_str(if values.peek().is_some() { ": " } else { "" });
                }
                for (place, (name, column)) in values.enumerate() {
                    out.push_str(if place == 0 { "" } else { ", " });
                    out.push_str(name);
                    out.push_str(" = ");
                    show(column, broken.row, out);
                }
            }
            (None, Test::Envelope(prices)) => prices.show_envelope(batch, broken.row, out)?,
            (None, Test::Positive(prices)) => prices.show_positive(batch, broken.row, out)?,
            (None, Test::NonNegative(volume)) => show_negative(volume, batch, broken.row, out)?,
        }
        Ok(())
    }
}

fn planned_kind(schema: &Schema, rule: &Spanned<RuleConfig>, kind: &Spanned<RuleKind>, faults: &mut Vec<PlanError>) -> Result<Test, Vec<PlanError>> {
    let name = kind.name();
    let prices: [(&str, &Option<Spanned<String>>); 4] = [("open", &rule.open), ("high", &rule.high), ("low", &rule.low), ("close", &rule.close)];
    let mut missing = Vec::new();
    let mut unnamed: Vec<(String, String)> = Vec::new();
    let mut find = |given: &Option<Spanned<String>>, defaults: &[&str]| match number_column(schema, kind, given, defaults) {
        Ok(column) => Some(column),
        Err(Lack::Fault(fault)) => {
            missing.push(fault);
            None
        }
        Err(Lack::Unnamed) => {
            let wanted = defaults.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
            unnamed.push((wanted, defaults.first().map(|key| format!("{key} = \"...\"")).unwrap_or_default()));
            None
        }
    };
    let test = match **kind {
        RuleKind::PriceEnvelope | RuleKind::PositivePrices => {
            faults.extend(unused(rule, &format!("the rule {name:?}"), &["open", "high", "low", "close"]));
            match prices.map(|(default, given)| find(given, &[default])) {
                [Some(open), Some(high), Some(low), Some(close)] => {
                    let prices = Prices { open, high, low, close };
                    Some(if **kind == RuleKind::PriceEnvelope { Test::Envelope(prices) } else { Test::Positive(prices) })
                }
                _ => None,
            }
        }
        RuleKind::NonNegativeVolume => {
            faults.extend(unused(rule, &format!("the rule {name:?}"), &["volume"]));
            find(&rule.volume, &["volume", "volume_24h"]).map(Test::NonNegative)
        }
    };
    // One fault, however many there are: it is about the kind.
    if let [first, rest @ ..] = unnamed.as_slice() {
        let keys = unnamed.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(", ");
        let names = unnamed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let (message, which) = match rest {
            [] => (format!("{:?} needs a column {}, and there is none", kind.name(), first.0), "which one it is"),
            _ => (format!("{:?} needs the columns {names}, and there are none", kind.name()), "which they are"),
        };
        missing.push(kind.error("E041", message).help(format!("say {which}: {keys}")));
    }
    test.ok_or(missing)
}

/// Why a kind has not got a column.
enum Lack {
    Fault(PlanError),
    /// None was named, and none has the name that the kind looks for.
    Unnamed,
}

/// The column that was named, or the first of those that the kind looks for itself.
fn number_column(schema: &Schema, kind: &Spanned<RuleKind>, given: &Option<Spanned<String>>, defaults: &[&str]) -> Result<Column, Lack> {
    let name = match given {
        Some(name) => name.clone(),
        None => match defaults.iter().find(|name| schema.index_of(name).is_ok()) {
            Some(name) => Spanned::new((*name).to_owned(), kind.span()),
            None => return Err(Lack::Unnamed),
        },
    };
    match find_typed(schema, &name).map_err(Lack::Fault)? {
        (place, ColumnType::Integer | ColumnType::Float) => Ok(Column { name: name.into_inner(), place }),
        (_, ty) => Err(Lack::Fault(name.error("E044", format!("{:?} compares numbers, and column `{}` is {ty}", kind.name(), &*name)))),
    }
}

/// Column names that the rule does not look at.
fn unused(rule: &RuleConfig, what: &str, used: &[&str]) -> Vec<PlanError> {
    let all = [("open", &rule.open), ("high", &rule.high), ("low", &rule.low), ("close", &rule.close), ("volume", &rule.volume)];
    let idle = all.into_iter().filter(|(key, _)| !used.contains(key));
    idle.filter_map(|(key, given)| given.as_ref().map(|given| given.error("E044", format!("{what} does not look at `{key}`")).help("leave it out")))
        .collect()
}
