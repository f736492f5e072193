//! The rules on prices that are known by name.

use pipeline_contract::StageError;
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type};
use pipeline_contract::arrow::array::{Float64Array, Int64Array};
use pipeline_contract::arrow::{Array, RecordBatch};

use super::Broken;
use crate::stages::columns::column;
use crate::stages::values::cell;

/// A column of numbers.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) place: usize,
}

/// The four prices of a candle.
pub(super) struct Prices {
    pub(super) open: Column,
    pub(super) high: Column,
    pub(super) low: Column,
    pub(super) close: Column,
}

enum Numbers<'a> {
    Long(&'a Int64Array),
    Float(&'a Float64Array),
}

impl Numbers<'_> {
    fn at(&self, row: usize) -> Option<f64> {
        match self {
            Self::Long(column) => column.is_valid(row).then(|| column.value(row) as f64),
            Self::Float(column) => column.is_valid(row).then(|| column.value(row)),
        }
    }

    /// The values, where none is null and none needs a conversion.
    fn plain(&self) -> Option<&[f64]> {
        match self {
            Self::Float(column) if column.null_count() == 0 => Some(column.values()),
            _ => None,
        }
    }
}

impl Column {
    fn of<'a>(&self, batch: &'a RecordBatch) -> Result<Numbers<'a>, StageError> {
        let column = column(batch, self.place)?;
        match (column.as_primitive_opt::<Float64Type>(), column.as_primitive_opt::<Int64Type>()) {
            (Some(floats), _) => Ok(Numbers::Float(floats)),
            (_, Some(longs)) => Ok(Numbers::Long(longs)),
            _ => Err(StageError::developer(format!("column `{}` is not a number, as it was when planned", self.name))),
        }
    }

    /// `open = 3`
    pub(super) fn shown(&self, batch: &RecordBatch, row: usize) -> Result<String, StageError> {
        Ok(format!("{} = {}", self.name, cell(column(batch, self.place)?, row)))
    }
}

impl Prices {
    pub(super) fn columns(&self) -> [&Column; 4] {
        [&self.open, &self.high, &self.low, &self.close]
    }

    /// The rows that break `low <= least(open, close) AND high >= greatest(open, close) AND low <= high`, and which part of it.
    pub(super) fn envelope(&self, batch: &RecordBatch) -> Result<Vec<Broken>, StageError> {
        let [open, high, low, close] = [self.open.of(batch)?, self.high.of(batch)?, self.low.of(batch)?, self.close.of(batch)?];
        let suspects: Vec<usize> = match (open.plain(), high.plain(), low.plain(), close.plain()) {
            (Some(open), Some(high), Some(low), Some(close)) => {
                let rows = open.iter().zip(high).zip(low).zip(close).enumerate();
                // It implies low <= high.
                rows.filter(|(_, (((o, h), l), c))| !((l <= o) & (l <= c) & (h >= o) & (h >= c))).map(|(row, _)| row).collect()
            }
            _ => (0..batch.num_rows()).collect(),
        };
        let mut broken = Vec::new();
        for row in suspects {
            let (open, high, low, close) = (open.at(row), high.at(row), low.at(row), close.at(row));
            let least = extreme(open, close, f64::min);
            let greatest = extreme(open, close, f64::max);
            let [o, h, l, c] = [&self.open.name, &self.high.name, &self.low.name, &self.close.name];
            // The columns are told in the order of the condition.
            let why = if above(low, least) {
                (format!("{l} <= least({o}, {c})"), vec![&self.low, &self.open, &self.close])
            } else if above(greatest, high) {
                (format!("{h} >= greatest({o}, {c})"), vec![&self.high, &self.open, &self.close])
            } else if above(low, high) {
                (format!("{l} <= {h}"), vec![&self.low, &self.high])
            } else {
                continue;
            };
            let shown = why.1.into_iter().map(|column| column.shown(batch, row)).collect::<Result<Vec<_>, _>>()?;
            broken.push(Broken { row, why: Some(format!("{} does not hold: {}", why.0, shown.join(", "))) });
        }
        Ok(broken)
    }

    /// The rows in which a price is not finite or not above 0, and which.
    pub(super) fn positive(&self, batch: &RecordBatch) -> Result<Vec<Broken>, StageError> {
        let mut numbers = Vec::with_capacity(4);
        for column in self.columns() {
            numbers.push((column, column.of(batch)?));
        }
        let good = |x: f64| x > 0.0 && x < f64::INFINITY;
        let plain: Option<Vec<&[f64]>> = numbers.iter().map(|(_, numbers)| numbers.plain()).collect();
        let suspects: Vec<usize> = match plain.as_deref() {
            Some([open, high, low, close]) => {
                let rows = open.iter().zip(*high).zip(*low).zip(*close).enumerate();
                rows.filter(|(_, (((o, h), l), c))| !(good(**o) & good(**h) & good(**l) & good(**c))).map(|(row, _)| row).collect()
            }
            _ => (0..batch.num_rows()).collect(),
        };
        let mut broken = Vec::new();
        for row in suspects {
            let bad = numbers.iter().find_map(|(column, numbers)| numbers.at(row).filter(|x| !good(*x)).map(|x| (column, x)));
            if let Some((column, x)) = bad {
                let why = if x.is_finite() { "is not above 0" } else { "is not a finite number" };
                broken.push(Broken { row, why: Some(format!("{} {why}", column.shown(batch, row)?)) });
            }
        }
        Ok(broken)
    }
}

/// The rows in which a volume is below 0.
pub(super) fn non_negative(volume: &Column, batch: &RecordBatch) -> Result<Vec<Broken>, StageError> {
    let numbers = volume.of(batch)?;
    if numbers.plain().is_some_and(|values| values.iter().fold(true, |all, x| all & (*x >= 0.0))) {
        return Ok(Vec::new());
    }
    let mut broken = Vec::new();
    for row in 0..batch.num_rows() {
        if let Some(x) = numbers.at(row)
            && (x < 0.0 || x.is_nan())
        {
            let why = if x.is_nan() { "is not a number" } else { "is below 0" };
            broken.push(Broken { row, why: Some(format!("{} {why}", volume.shown(batch, row)?)) });
        }
    }
    Ok(broken)
}

/// The one of two that is not null; as in expressions, a NaN does not vanish behind a good number.
fn extreme(a: Option<f64>, b: Option<f64>, pick: impl Fn(f64, f64) -> f64) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.is_nan() || b.is_nan() { f64::NAN } else { pick(a, b) }),
        (one, None) | (None, one) => one,
    }
}

/// Is `a <= b` known not to hold?
fn above(a: Option<f64>, b: Option<f64>) -> bool {
    a.zip(b).is_some_and(|(a, b)| a > b || a.is_nan() || b.is_nan())
}
