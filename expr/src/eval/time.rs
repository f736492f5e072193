//! The functions of timestamps, in UTC, on microseconds since 1970.
//!
//! The calendar is computed from the count of days, since that works for every microsecond an integer can hold and takes no branches;
//! the method is the one of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms". The tests compare it with chrono.

use arrow_buffer::{BooleanBuffer, NullBuffer};

use super::column_of;
use super::value::{Numbers, Value, map, nulls_of, zip};
use crate::error::EvalError;
use crate::functions::{Function, Unit};
use crate::node::Scalar;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The timestamps moved by months, then by microseconds; null where the result does not fit.
pub(super) fn shift(value: &Value, months: i64, micros: i64, len: usize) -> Result<Value, EvalError> {
    if value.is_null() {
        return Ok(Value::Constant(Scalar::Null));
    }
    let moved = |at: i64| if months == 0 { Some(at) } else { add_months(at, months) }.and_then(|at| at.checked_add(micros));
    Ok(numbers(value.longs()?, value.nulls().cloned(), len, moved))
}

/// A number from each, null where there is none.
fn numbers<T: Copy + Default>(values: Numbers<'_, T>, nulls: Option<NullBuffer>, len: usize, f: impl Fn(T) -> Option<i64>) -> Value {
    let mut failed = false;
    let results = map(len, values, |x| {
        let result = f(x);
        failed |= result.is_none();
        result.unwrap_or_default()
    });
    if !failed {
        return Value::Long(column_of(results, nulls));
    }
    let fine = NullBuffer::new(BooleanBuffer::collect_bool(len, |row| f(values.at(row)).is_some()));
    Value::Long(column_of(results, NullBuffer::union(nulls.as_ref(), Some(&fine))))
}

/// The functions of timestamps; no argument is the constant NULL.
pub(super) fn call(function: Function, values: &[Value], len: usize) -> Result<Value, EvalError> {
    use Function as F;
    let nulls = nulls_of(values);
    let [first, rest @ ..] = values else { return Err(EvalError::internal("a function without arguments")) };
    if let (F::SecondsBetween, [to]) = (function, rest) {
        let seconds = zip(len, first.longs()?, to.longs()?, |from, to| (i128::from(to) - i128::from(from)) as f64 / SECOND as f64);
        return Ok(Value::Float(column_of(seconds, nulls)));
    }
    let scale = match function {
        F::FromUnix => Some(SECOND),
        F::FromUnixMs => Some(1_000),
        _ => None,
    };
    if let Some(scale) = scale {
        return Ok(match first {
            Value::Float(_) | Value::Constant(Scalar::Float(_)) => numbers(first.floats()?, nulls, len, |x| scaled(x, scale)),
            _ => numbers(first.longs()?, nulls, len, |x| x.checked_mul(scale)),
        });
    }
    let at = first.longs()?;
    let results = match function {
        F::Year => map(len, at, |at| civil(at.div_euclid(DAY)).0),
        F::Month => map(len, at, |at| civil(at.div_euclid(DAY)).1),
        F::Day => map(len, at, |at| civil(at.div_euclid(DAY)).2),
        F::Hour => map(len, at, |at| at.rem_euclid(DAY) / HOUR),
        F::Minute => map(len, at, |at| at.rem_euclid(HOUR) / MINUTE),
        F::Second => map(len, at, |at| at.rem_euclid(MINUTE) / SECOND),
        F::DayOfWeek => map(len, at, |at| weekday(at.div_euclid(DAY))),
        F::Unix => map(len, at, |at| at.div_euclid(SECOND)),
        F::UnixMs => map(len, at, |at| at.div_euclid(1_000)),
        F::DateTrunc(unit) => map(len, at, |at| truncate(unit, at)),
        _ => return Err(EvalError::internal("not a function of timestamps")),
    };
    Ok(Value::Long(column_of(results, nulls)))
}

/// A float count of seconds or milliseconds, to the nearest microsecond.
fn scaled(x: f64, scale: i64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let micros = (x * scale as f64).round();
    (-LIMIT..LIMIT).contains(&micros).then_some(micros as i64)
}

/// The start of the unit that an instant lies in. What lies before the first microsecond there is, 292,000 years ago, is that one.
fn truncate(unit: Unit, at: i64) -> i64 {
    let start_of_day = |days: i64| days.saturating_mul(DAY);
    let floor = |length: i64| at.div_euclid(length).saturating_mul(length);
    let days = at.div_euclid(DAY);
    match unit {
        Unit::Second => floor(SECOND),
        Unit::Minute => floor(MINUTE),
        Unit::Hour => floor(HOUR),
        Unit::Day => start_of_day(days),
        Unit::Week => start_of_day(days - (weekday(days) - 1)),
        Unit::Month => {
            let (_, _, day) = civil(days);
            start_of_day(days - (day - 1))
        }
        Unit::Year => start_of_day(days_of(civil(days).0, 1, 1)),
    }
}

/// Monday is 1. Day 0, 1 January 1970, was a Thursday.
fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// The same day so many months later, or the last of that month; null where the result does not fit.
fn add_months(at: i64, months: i64) -> Option<i64> {
    let (year, month, day) = civil(at.div_euclid(DAY));
    let count = year.checked_mul(12)?.checked_add(month - 1)?.checked_add(months)?;
    let (year, month) = (count.div_euclid(12), count.rem_euclid(12) + 1);
    // Far beyond what microseconds can hold, and small enough for the arithmetic below.
    if year.abs() > 1_000_000 {
        return None;
    }
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let first = days_of(year, month, 1);
    let last = days_of(next_year, next_month, 1) - first;
    (first + day.min(last) - 1).checked_mul(DAY)?.checked_add(at.rem_euclid(DAY))
}

/// Year, month and day of a count of days since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // since 1 March of year 0
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100); // from 1 March
    let shifted = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The count of days since 1970 of a date.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Datelike, Months};

    #[test]
    fn the_calendar_is_chronos() {
        // A step that is prime to days, weeks and years.
        for at in (-6_000_000_000_000_000..12_000_000_000_000_000_i64).step_by(9_876_543_211_987) {
            let date = DateTime::from_timestamp_micros(at).expect("within chrono's range");
            let days = at.div_euclid(DAY);
            assert_eq!(civil(days), (i64::from(date.year()), i64::from(date.month()), i64::from(date.day())), "{date}");
            assert_eq!(days_of(i64::from(date.year()), i64::from(date.month()), i64::from(date.day())), days, "{date}");
            assert_eq!(weekday(days), i64::from(date.weekday().number_from_monday()), "{date}");
            for months in [1_u32, 11, 12, 25] {
                let later = date.checked_add_months(Months::new(months)).expect("within range");
                assert_eq!(add_months(at, i64::from(months)), Some(later.timestamp_micros()), "{date} + {months} months");
            }
        }
    }

    #[test]
    fn the_ends_of_time_overflow_nothing() {
        for at in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
            for unit in [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year] {
                assert!(truncate(unit, at) <= at);
            }
            for months in [i64::MIN, -1, 1, i64::MAX] {
                let _ = add_months(at, months);
            }
        }
        assert_eq!(add_months(i64::MAX, 1), None);
        assert_eq!(add_months(i64::MIN, -1), None);
    }
}
