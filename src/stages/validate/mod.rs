//! Validation: rows that keep every rule go on, each other one is rejected once, by the first rule it breaks.
//!
//! The order is fixed: the constraints on columns come first, by the order of the columns in the schema and within a column `required`,
//! `min`, `max`, `regex`, `one_of`, `min_length`, `max_length`; then the rules in the order of the file.

mod config;
mod constraint;
mod limits;
mod literal;
mod members;
mod prices;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use pipeline_contract::arrow::array::BooleanArray;
use pipeline_contract::arrow::{RecordBatch, SchemaRef};
use pipeline_contract::{Applied, PlanError, StageError, select_rows};

pub use config::{ColumnRule, Limits, OnReject, RuleConfig, RuleKind, ValidateConfig};
pub use limits::{Limit, LimitConfig};
pub use literal::Literal;

use crate::stages::columns::{find_typed, same_columns};
use crate::stages::rejected::RejectedRows;
use constraint::Constraint;
use rule::Rule;

/// The rules of a pipeline, ready for batches of one schema.
pub struct Validator {
    schema: SchemaRef,
    checks: Vec<Check>,
    /// The name of each.
    names: Arc<[String]>,
}

/// Which rows of a batch break a rule.
pub(crate) struct Parted {
    /// Those that keep every rule are marked, one mark a row.
    pub(crate) kept: BooleanArray,
    /// The others, as rows of the batch.
    pub(crate) rejected: RejectedRows,
}

/// One reason to reject a row.
enum Check {
    Column(Constraint),
    Row(Rule),
}

/// A row that breaks a rule, with what there is to say of it beyond its values.
struct Broken {
    row: usize,
    why: Option<String>,
}

impl Broken {
    fn row(row: usize) -> Self {
        Self { row, why: None }
    }

    fn rows(rows: Vec<usize>) -> Vec<Self> {
        rows.into_iter().map(Self::row).collect()
    }
}

impl Check {
    fn name(&self) -> &str {
        match self {
            Self::Column(constraint) => constraint.name(),
            Self::Row(rule) => rule.name(),
        }
    }

    fn broken(&self, batch: &RecordBatch) -> Result<Vec<Broken>, StageError> {
        match self {
            Self::Column(constraint) => constraint.broken(batch),
            Self::Row(rule) => rule.broken(batch),
        }
    }

    /// Adds why a row is rejected.
    fn message(&self, batch: &RecordBatch, broken: &Broken, out: &mut String) -> Result<(), StageError> {
        match self {
            Self::Column(constraint) => constraint.message(batch, broken.row, out),
            Self::Row(rule) => rule.message(batch, broken, out),
        }
    }
}

impl Validator {
    /// Checks the rules against the schema of the rows to come. `table` is where `[validate]` stands in the file.
    ///
    /// # Errors
    /// All faults: E040 an expression, E041 a column that is not there, E042 a name given twice, E044 a rule that makes no sense, E045 a
    /// limit out of range.
    pub fn new(schema: &SchemaRef, config: &ValidateConfig, table: Range<usize>) -> Result<Self, Vec<PlanError>> {
        let mut faults = limits::check(&config.limits);
        if let Some(path) = &config.quarantine_path
            && config.on_reject != OnReject::Quarantine
        {
            let fault = path.error("E044", "`quarantine_path` has no meaning here: `on_reject` keeps no rows");
            faults.push(fault.help("leave it out, or say `on_reject = \"quarantine\"`"));
        }
        let mut constrained = Vec::new();
        for (name, rule) in &config.columns {
            match find_typed(schema, name) {
                Ok((place, ty)) => match constraint::plan(name, place, ty, schema.field(place).is_nullable(), rule) {
                    Ok(constraints) => constrained.push((place, constraints)),
                    Err(more) => faults.extend(more),
                },
                Err(fault) => faults.push(fault),
            }
        }
        constrained.sort_by_key(|(place, _)| *place);
        let mut checks: Vec<Check> = constrained.into_iter().flat_map(|(_, constraints)| constraints).map(Check::Column).collect();
        let mut names: HashSet<String> = checks.iter().map(|check| check.name().to_owned()).collect();
        for rule in &config.rules {
            match Rule::plan(schema, rule) {
                Ok(planned) => {
                    if names.insert(planned.name().to_owned()) {
                        checks.push(Check::Row(planned));
                    } else {
                        faults.push(rule::twice(rule, planned.name()));
                    }
                }
                Err(more) => faults.extend(more),
            }
        }
        if faults.is_empty() {
            let names = checks.iter().map(|check| check.name().to_owned()).collect();
            return Ok(Self { schema: schema.clone(), checks, names });
        }
        for fault in &mut faults {
            fault.span.get_or_insert_with(|| table.clone());
        }
        faults.sort_by_key(|fault| fault.span.as_ref().map(|span| span.start));
        Err(faults)
    }

    /// The names of the rules, in the order in which they are checked.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().map(Check::name)
    }

    /// W004: rules that say the same of every row. A validator that was not planned has none.
    pub fn warnings(&self) -> Vec<PlanError> {
        let rules = self.checks.iter().filter_map(|check| if let Check::Row(rule) = check { rule.constant() } else { None });
        rules.collect()
    }

    /// Parts the rows that keep every rule from the others. Where all do, the batch is passed on as it is.
    ///
    /// # Errors
    /// When the batch does not have the planned schema.
    pub fn apply(&self, batch: &RecordBatch) -> Result<Applied, StageError> {
        Ok(match self.part(batch)? {
            Some(Parted { kept, rejected }) => Applied { batch: select_rows(batch, &kept)?, rejects: rejected.rejects().collect() },
            None => Applied { batch: batch.clone(), rejects: Vec::new() },
        })
    }

    /// The same, without copying rows: `None` where all keep every rule.
    pub(crate) fn part(&self, batch: &RecordBatch) -> Result<Option<Parted>, StageError> {
        if !same_columns(&self.schema, batch.schema_ref()) {
            let message = format!("a validation planned for {} was given {}", self.schema, batch.schema_ref());
            return Err(StageError::developer(message));
        }
        let mut broken: Vec<(usize, Broken)> = Vec::new();
        for (place, check) in self.checks.iter().enumerate() {
            broken.extend(check.broken(batch)?.into_iter().map(|broken| (place, broken)));
        }
        if broken.is_empty() {
            return Ok(None);
        }
        // Of the rules that a row breaks the first one stays the first.
        broken.sort_by_key(|(_, broken)| broken.row);
        broken.dedup_by_key(|(_, broken)| broken.row);
        let mut good = vec![true; batch.num_rows()];
        let mut rejected = RejectedRows::new(batch, &self.names);
        rejected.reserve(broken.len());
        for (place, broken) in &broken {
            if let (Some(good), Some(check)) = (good.get_mut(broken.row), self.checks.get(*place)) {
                *good = false;
                rejected.push(broken.row, *place, |out| check.message(batch, broken, out))?;
            }
        }
        Ok(Some(Parted { kept: BooleanArray::from(good), rejected }))
    }
}
