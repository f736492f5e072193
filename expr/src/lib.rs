//! SQL expressions over Arrow batches: parsed, type-checked against a schema, evaluated column by column.
//!
//! An [`Expr`] is what stands in `expr` of a rule, in `derive` and `filter`, and after `--where`. It is compiled once, against a schema
//! made of the five [`ColumnType`]s, and then evaluated on batch after batch:
//!
//! ```
//! use pipeline_contract::{ColumnType, schema};
//! use pipeline_expr::Expr;
//!
//! let columns = schema([("low", ColumnType::Float, false), ("open", ColumnType::Float, false)]);
//! let rule = Expr::compile_predicate("low <= opn AND low > 'x'", &columns);
//! let faults = rule.unwrap_err();
//! assert_eq!(faults[0].help.as_deref(), Some("did you mean `open`?"));
//! assert_eq!(faults[1].span, 21..24);
//! ```
//!
//! The language is on one page in `README.md`. The road of an expression: `parse` (text to `sqlparser`'s tree), `check` (to a typed
//! tree, all faults in one go), `eval` (loops over slices, one per operator and type).

mod check;
mod error;
mod eval;
mod functions;
mod node;
mod parse;
mod source;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::Schema;
use pipeline_contract::ColumnType;

pub use error::{EvalError, ExprError};
pub use parse::{MAX_NESTING, MAX_OPERATORS, MAX_TEXT};

use eval::Faults;
use node::{Node, Scalar};

/// A compiled expression: a value for each row of a batch. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Expr(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    text: String,
    root: Node,
    columns: Vec<String>,
}

impl Expr {
    /// Reads an expression and types it against the columns of `schema`.
    ///
    /// # Errors
    /// Every fault that can be told apart, in order of their place: unknown columns and functions, types that do not fit, casts of
    /// constants that fail. Text that does not parse gives one. The limits are [`MAX_TEXT`], [`MAX_NESTING`] and [`MAX_OPERATORS`].
    pub fn compile(text: &str, schema: &Schema) -> Result<Self, Vec<ExprError>> {
        let read = || {
            let (tree, source) = parse::parse(text)?;
            check::check(&tree, &source, schema)
        };
        let checked = on_roomy_stack(read).map_err(|why| vec![ExprError::new(why, 0..text.len())])??;
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), root: checked.node, columns: checked.columns })))
    }

    /// As [`Expr::compile`], for an expression that must be true or false: a rule, a filter.
    ///
    /// # Errors
    /// Those of [`Expr::compile`], and one when the result has another type.
    pub fn compile_predicate(text: &str, schema: &Schema) -> Result<Self, Vec<ExprError>> {
        let expr = Self::compile(text, schema)?;
        match expr.column_type() {
            ColumnType::Boolean => Ok(expr),
            other => {
                let start = text.len() - text.trim_start().len();
                let error = ExprError::new(format!("a condition must be boolean, this is {other}"), start..text.trim_end().len().max(start));
                Err(vec![error.help("compare it with something")])
            }
        }
    }

    /// The type of the result.
    pub fn column_type(&self) -> ColumnType {
        self.0.root.ty
    }

    /// Whether the result can be null in a batch that keeps the schema's promises about its columns.
    pub fn nullable(&self) -> bool {
        self.0.root.nullable
    }

    /// The columns it reads, each once, in order of appearance.
    pub fn columns(&self) -> &[String] {
        &self.0.columns
    }

    /// What a condition says of every row, when it says the same of each: `Some(None)` is null.
    pub fn constant(&self) -> Option<Option<bool>> {
        match self.0.root.as_literal()? {
            Scalar::Boolean(answer) => Some(Some(*answer)),
            Scalar::Null => Some(None),
            _ => None,
        }
    }

    /// The text it was compiled from.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The value for each row, as an array of [`Expr::column_type`].
    ///
    /// # Errors
    /// When `CAST` or `to_timestamp` meets a value it cannot turn: the first such row. When the batch lacks a column: no row.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvalError> {
        let mut faults = Faults::first();
        let array = self.run(batch, &mut faults)?;
        faults.into_vec().into_iter().next().map_or(Ok(array), Err)
    }

    /// As [`Expr::evaluate`], but a value that cannot be cast fails its own row alone: the row is null in the array, and the error is
    /// in the list. The list has at most one error a row and is in row order.
    ///
    /// # Errors
    /// Only when the batch does not fit the expression.
    pub fn evaluate_each(&self, batch: &RecordBatch) -> Result<(ArrayRef, Vec<EvalError>), EvalError> {
        let mut faults = Faults::all();
        let array = self.run(batch, &mut faults)?;
        let errors = faults.into_vec();
        if errors.is_empty() {
            return Ok((array, errors));
        }
        let failed: Vec<usize> = errors.iter().filter_map(|error| error.row).collect();
        Ok((eval::null_at(&array, &failed)?, errors))
    }

    /// For each row whether the condition holds; null where that is unknown.
    ///
    /// # Errors
    /// Those of [`Expr::evaluate`]; and when the expression is not boolean, for which see [`Expr::compile_predicate`].
    pub fn matches(&self, batch: &RecordBatch) -> Result<BooleanArray, EvalError> {
        as_boolean(&self.evaluate(batch)?)
    }

    /// As [`Expr::matches`], failing row by row as [`Expr::evaluate_each`] does.
    ///
    /// # Errors
    /// Only when the batch does not fit the expression, or the expression is not boolean.
    pub fn matches_each(&self, batch: &RecordBatch) -> Result<(BooleanArray, Vec<EvalError>), EvalError> {
        let (array, errors) = self.evaluate_each(batch)?;
        Ok((as_boolean(&array)?, errors))
    }

    fn run(&self, batch: &RecordBatch, faults: &mut Faults) -> Result<ArrayRef, EvalError> {
        let columns = self.0.columns.iter().map(|name| eval::column(batch, name)).collect::<Result<Vec<_>, _>>()?;
        eval::run(&self.0.root, columns, batch.num_rows(), faults)
    }
}

/// Runs it on a thread whose stack is large enough whatever the caller's is. That costs some ten microseconds, once a rule.
fn on_roomy_stack<T: Send>(go: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("expression".into()).stack_size(parse::STACK).spawn_scoped(scope, go);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err("a fault of the expression engine, please report it: the reader panicked".to_owned()),
            Err(error) => Err(format!("no thread to read the expression on: {error}")),
        }
    })
}

fn as_boolean(array: &ArrayRef) -> Result<BooleanArray, EvalError> {
    match array.as_any().downcast_ref::<BooleanArray>() {
        Some(array) => Ok(array.clone()),
        None => Err(EvalError::batch("the expression is not a condition")),
    }
}
