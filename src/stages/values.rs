//! Cells in words, and words as cells.

use std::fmt::{Display, Write};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use pipeline_contract::arrow::Array;
use pipeline_contract::arrow::array::cast::AsArray;
use pipeline_contract::arrow::array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use pipeline_contract::{ColumnType, instant, rfc3339};

/// The most characters of a text that a message shows.
const SHOWN: usize = 40;

/// A cell as messages show it.
pub(crate) fn cell(column: &dyn Array, row: usize) -> String {
    let mut text = String::new();
    show(column, row, &mut text);
    text
}

/// Adds a cell as messages show it.
pub(crate) fn show(column: &dyn Array, row: usize, out: &mut String) {
    if column.is_null(row) {
        return out.push_str("null");
    }
    match ColumnType::of(column.data_type()) {
        Some(ColumnType::Boolean) => out.push_str(if column.as_boolean().value(row) { "true" } else { "false" }),
        Some(ColumnType::Integer) => add(out, column.as_primitive::<Int64Type>().value(row)),
        Some(ColumnType::Float) => show_float(column.as_primitive::<Float64Type>().value(row), out),
        Some(ColumnType::Text) => out.push_str(&quoted(column.as_string::<i32>().value(row))),
        Some(ColumnType::Timestamp) => out.push_str(&timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row))),
        None => out.push('?'),
    }
}

/// Adds what can be shown; a text takes everything.
pub(crate) fn add(out: &mut String, shown: impl Display) {
    let _ = write!(out, "{shown}");
}

/// A float as people write it: whole ones without a point, very large and very small ones with an exponent.
pub(crate) fn float(x: f64) -> String {
    let mut text = String::new();
    show_float(x, &mut text);
    text
}

fn show_float(x: f64, out: &mut String) {
    let size = x.abs();
    if (1e-5..1e15).contains(&size) {
        // As short as what the standard library writes, in a fraction of the time. (Where two such texts are equally near it may be the other one.)
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(x);
        out.push_str(text.strip_suffix(".0").unwrap_or(text));
    } else if size != 0.0 && size < 1e-6 || size >= 1e16 && x.is_finite() {
        add(out, format_args!("{x:e}"));
    } else {
        add(out, x);
    }
}

/// An instant; the bare number where it is beyond the years that can be written.
pub(crate) fn timestamp(micros: i64) -> String {
    instant(micros).map_or_else(|| format!("{micros}us"), rfc3339)
}

/// A text in quotes, cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// A text, cut where it is long.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The microseconds since 1970 of RFC 3339 text, or of a date: its first instant in UTC. Digits below a microsecond are dropped.
pub(crate) fn read_timestamp(text: &str) -> Option<i64> {
    if let [b'0'..=b'9', _, _, _, b'-', _, _, b'-', _, _] = text.as_bytes() {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        return Some(date.and_time(NaiveTime::MIN).and_utc().timestamp_micros());
    }
    Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
}

/// An instant as people write it into a pipeline file or a command: RFC 3339, or a date in UTC.
pub(crate) fn read_instant(text: &str) -> Option<DateTime<Utc>> {
    let at = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).ok();
    at.or_else(|| Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN).and_utc()))
}

/// A number in digits, point and exponent: no names such as `inf`, nothing too large for a float.
pub(crate) fn read_float(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    if plain { text.parse().ok().filter(|value: &f64| value.is_finite()) } else { None }
}

/// `true` or `false`, in any case.
pub(crate) fn read_boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floats_read_as_people_write_them() {
        for (x, text) in [
            (-1.0, "-1"),
            (0.0, "0"),
            (0.1, "0.1"),
            (1e300, "1e300"),
            (1.5e-9, "1.5e-9"),
            (1e-6, "0.000001"),
            (1e16, "1e16"),
            (2_000_381_261_633_614.3, "2000381261633614.3"),
            (-0.0, "-0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(x), text);
        }
    }

    proptest! {
        #[test]
        fn floats_are_as_short_as_those_of_the_standard_library(x in prop_oneof![any::<f64>(), 1e-7..1e17, (any::<i32>(), 0..9).prop_map(|(n, e)| f64::from(n) / 10_f64.powi(e))]) {
            let size = x.abs();
            let large = size != 0.0 && !(1e-6..1e16).contains(&size) && x.is_finite();
            let (text, std) = (float(x), if large { format!("{x:e}") } else { format!("{x}") });
            // Of two shortest texts that are equally near, each is right: 767581811981532.25 is .2 or .3.
            prop_assert!(text == std || (text.len() == std.len() && text.parse() == Ok(x)), "{} {}", text, std);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(quoted(&"ü".repeat(40)), format!("\"{}\"", "ü".repeat(40)));
        assert_eq!(quoted(&"ü".repeat(41)), format!("\"{}…\"", "ü".repeat(40)));
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
    }

    #[test]
    fn instants_are_rfc_3339_or_dates() {
        for (text, micros) in [
            ("1970-01-02", Some(86_400_000_000)),
            ("1970-01-01T00:00:00.000001Z", Some(1)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1970-01-01T00:00:00", None),
            ("1970-13-01", None),
            ("", None),
            ("+970-01-01", None),
        ] {
            assert_eq!(read_timestamp(text), micros, "{text}");
        }
    }

    #[test]
    fn only_digits_are_numbers() {
        for text in ["inf", "NaN", "1e999", "", " 1", "1_000", "0x1"] {
            assert_eq!(read_float(text), None, "{text}");
        }
        assert_eq!(read_float("-1.5e3"), Some(-1500.0));
    }
}
