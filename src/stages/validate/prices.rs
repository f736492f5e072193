//! The rules on prices that are known by name.

use pipeline_contract::StageError;
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type};
use pipeline_contract::arrow::array::{Float64Array, Int64Array};
use pipeline_contract::arrow::{Array, RecordBatch};

use crate::stages::columns::column;
use crate::stages::values::show;

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

    /// Adds `open = 3`.
    fn show(&self, batch: &RecordBatch, row: usize, out: &mut String) -> Result<(), StageError> {
        out.push_str(&self.name);
        out.push_str(" = ");
        show(column(batch, self.place)?, row, out);
        Ok(())
    }
}

impl Prices {
    fn columns(&self) -> [&Column; 4] {
        [&self.open, &self.high, &self.low, &self.close]
    }

    fn of<'a>(&self, batch: &'a RecordBatch) -> Result<[Numbers<'a>; 4], StageError> {
        Ok([self.open.of(batch)?, self.high.of(batch)?, self.low.of(batch)?, self.close.of(batch)?])
    }

    /// The rows that break `low <= least(open, close) AND high >= greatest(open, close) AND low <= high`.
    pub(super) fn envelope(&self, batch: &RecordBatch) -> Result<Vec<usize>, StageError> {
        let prices = self.of(batch)?;
        if let [Some(open), Some(high), Some(low), Some(close)] = prices.each_ref().map(Numbers::plain) {
            // It implies low <= high.
            return Ok(candles([open, high, low, close], |[o, h, l, c]| !((l <= o) & (l <= c) & (h >= o) & (h >= c))));
        }
        Ok((0..batch.num_rows()).filter(|row| Part::broken(prices.each_ref().map(|numbers| numbers.at(*row))).is_some()).collect())
    }

    /// Adds which part of it a row breaks, with the columns in the order of the condition.
    pub(super) fn show_envelope(&self, batch: &RecordBatch, row: usize, out: &mut String) -> Result<(), StageError> {
        let [o, h, l, c] = self.columns().map(|column| &*column.name);
        let part = Part::broken(self.of(batch)?.map(|numbers| numbers.at(row)));
        let (condition, columns): (&[&str], &[&Column]) = match part {
            Some(Part::Low) => (&[l, " <= least(", o, ", ", c, ")"], &[&self.low, &self.open, &self.close]),
            Some(Part::High) => (&[h, " >= greatest(", o, ", ", c, ")"], &[&self.high, &self.open, &self.close]),
            Some(Part::Order) | None => (&[l, " <= ", h], &[&self.low, &self.high]),
        };
        condition.iter().for_each(|part| out.push_str(part));
        out.push_str(" does not hold: ");
        for (place, column) in columns.iter().enumerate() {
            out.push_str(if place == 0 { "" } else { ", " });
            column.show(batch, row, out)?;
        }
        Ok(())
    }

    /// The rows in which a price is not finite or not above 0.
    pub(super) fn positive(&self, batch: &RecordBatch) -> Result<Vec<usize>, StageError> {
        let prices = self.of(batch)?;
        if let [Some(open), Some(high), Some(low), Some(close)] = prices.each_ref().map(Numbers::plain) {
            return Ok(candles([open, high, low, close], |[o, h, l, c]| !(is_price(o) & is_price(h) & is_price(l) & is_price(c))));
        }
        let is_bad = |row: &usize| prices.iter().any(|numbers| numbers.at(*row).is_some_and(|x| !is_price(x)));
        Ok((0..batch.num_rows()).filter(is_bad).collect())
    }

    /// Adds which price of a row is not finite or not above 0.
    pub(super) fn show_positive(&self, batch: &RecordBatch, row: usize, out: &mut String) -> Result<(), StageError> {
        for column in self.columns() {
            if let Some(x) = column.of(batch)?.at(row).filter(|x| !is_price(*x)) {
                column.show(batch, row, out)?;
                out.push_str(if x.is_finite() { " is not above 0" } else { " is not a finite number" });
                break;
            }
        }
        Ok(())
    }
}

/// What a candle breaks first of its envelope.
enum Part {
    Low,
    High,
    Order,
}

impl Part {
    fn broken([open, high, low, close]: [Option<f64>; 4]) -> Option<Self> {
        if above(low, extreme(open, close, f64::min)) {
            Some(Self::Low)
        } else if above(extreme(open, close, f64::max), high) {
            Some(Self::High)
        } else {
            above(low, high).then_some(Self::Order)
        }
    }
}

fn is_price(x: f64) -> bool {
    (x > 0.0) & (x < f64::INFINITY)
}

/// The rows of which open, high, low and close are bad. No branch is taken for a good one: where many are bad it could not be foretold.
fn candles([open, high, low, close]: [&[f64]; 4], is_bad: impl Fn([f64; 4]) -> bool) -> Vec<usize> {
    const BITS: usize = u64::BITS as usize;
    let mut rows = Vec::new();
    let blocks = open.chunks(BITS).zip(high.chunks(BITS)).zip(low.chunks(BITS)).zip(close.chunks(BITS));
    for (block, (((open, high), low), close)) in blocks.enumerate() {
        let candles = open.iter().zip(high).zip(low).zip(close).enumerate();
        let mut bad = candles.fold(0_u64, |bad, (bit, (((o, h), l), c))| bad | u64::from(is_bad([*o, *h, *l, *c])) << bit);
        while bad != 0 {
            rows.push(block * BITS + bad.trailing_zeros() as usize);
            bad &= bad - 1;
        }
    }
    rows
}

/// The rows in which a volume is below 0.
pub(super) fn negative(volume: &Column, batch: &RecordBatch) -> Result<Vec<usize>, StageError> {
    let numbers = volume.of(batch)?;
    if numbers.plain().is_some_and(|values| values.iter().fold(true, |all, x| all & (*x >= 0.0))) {
        return Ok(Vec::new());
    }
    Ok((0..batch.num_rows()).filter(|row| numbers.at(*row).is_some_and(|x| x < 0.0 || x.is_nan())).collect())
}

/// Adds what is wrong with such a volume.
pub(super) fn show_negative(volume: &Column, batch: &RecordBatch, row: usize, out: &mut String) -> Result<(), StageError> {
    volume.show(batch, row, out)?;
    out.push_str(if volume.of(batch)?.at(row).is_some_and(f64::is_nan) { " is not a number" } else { " is below 0" });
    Ok(())
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
