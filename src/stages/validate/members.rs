//! The values that `one_of` allows.

use std::collections::HashSet;

use pipeline_contract::arrow::ArrayRef;
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use pipeline_contract::{ColumnType, PlanError, Spanned};

use super::literal::Literal;

pub(super) enum Members {
    Integers(HashSet<i64>),
    Floats(Vec<f64>),
    Texts(HashSet<String>),
    Booleans(Vec<bool>),
    Timestamps(HashSet<i64>),
}

impl Members {
    /// The values as the column's type; every one that does not fit is told.
    pub(super) fn plan(column: &str, ty: ColumnType, list: &Spanned<Vec<Spanned<Literal>>>) -> Result<Self, Vec<PlanError>> {
        if list.is_empty() {
            return Err(vec![list.error("E044", format!("no value is allowed for `{column}`")).help("`one_of` lists those that are")]);
        }
        match ty {
            ColumnType::Integer => each(column, ty, list, integer).map(Self::Integers),
            ColumnType::Float => each(column, ty, list, number).map(Self::Floats),
            ColumnType::Text => each(column, ty, list, text).map(Self::Texts),
            ColumnType::Boolean => each(column, ty, list, boolean).map(Self::Booleans),
            ColumnType::Timestamp => each(column, ty, list, Literal::timestamp).map(Self::Timestamps),
        }
    }

    /// Is the cell, which is not null, one of them?
    pub(super) fn have(&self, column: &ArrayRef, row: usize) -> bool {
        match self {
            Self::Integers(all) => all.contains(&column.as_primitive::<Int64Type>().value(row)),
            Self::Floats(all) => all.contains(&column.as_primitive::<Float64Type>().value(row)),
            Self::Texts(all) => all.contains(column.as_string::<i32>().value(row)),
            Self::Booleans(all) => all.contains(&column.as_boolean().value(row)),
            Self::Timestamps(all) => all.contains(&column.as_primitive::<TimestampMicrosecondType>().value(row)),
        }
    }
}

fn each<T, C: FromIterator<T>>(
    column: &str,
    ty: ColumnType,
    list: &[Spanned<Literal>],
    read: impl Fn(&Literal) -> Option<T>,
) -> Result<C, Vec<PlanError>> {
    let fault = |literal: &Spanned<Literal>| {
        let fault = literal.error("E044", format!("{} is not a value of `{column}`, which is {ty}", **literal));
        if ty == ColumnType::Timestamp { fault.help("write an instant as \"2026-05-19T15:00:00Z\"") } else { fault }
    };
    let faults: Vec<_> = list.iter().filter(|literal| read(literal).is_none()).map(fault).collect();
    if faults.is_empty() { Ok(list.iter().filter_map(|literal| read(literal)).collect()) } else { Err(faults) }
}

fn integer(literal: &Literal) -> Option<i64> {
    if let Literal::Integer(n) = literal { Some(*n) } else { None }
}

fn number(literal: &Literal) -> Option<f64> {
    match literal {
        Literal::Integer(n) => Some(*n as f64),
        Literal::Float(x) if !x.is_nan() => Some(*x),
        _ => None,
    }
}

fn text(literal: &Literal) -> Option<String> {
    if let Literal::Text(text) = literal { Some(text.clone()) } else { None }
}

fn boolean(literal: &Literal) -> Option<bool> {
    if let Literal::Boolean(b) = literal { Some(*b) } else { None }
}
