//! Instants as text and back.

use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{DateTime, NaiveTime, Utc};
use pipeline_contract::instant;

use crate::decimal::{self, plain};

const SECOND: i64 = 1_000_000;
/// The microseconds of a day.
pub const DAY: i64 = 86_400 * SECOND;

/// How timestamps are written.
#[derive(Clone, Debug, PartialEq)]
pub enum TimeFormat {
    /// `2026-05-19T15:00:00Z`
    Rfc3339,
    /// Seconds since 1970, with decimals where there are any.
    Unix,
    /// Milliseconds since 1970, likewise.
    UnixMs,
    /// Microseconds since 1970.
    UnixUs,
    /// A strftime format, in UTC unless it has an offset.
    Custom {
        /// Its parts.
        items: Vec<Item<'static>>,
        /// Instants that are whole multiples of this many microseconds are read back as they were; `None` when none are.
        unit: Option<i64>,
    },
}

impl TimeFormat {
    /// The format that a pipeline file names: `rfc3339`, `unix`, `unix_ms`, `unix_us`, or a strftime format.
    ///
    /// # Errors
    /// Why it is none, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "rfc3339" => Self::Rfc3339,
            "unix" => Self::Unix,
            "unix_ms" => Self::UnixMs,
            "unix_us" => Self::UnixUs,
            _ if text.contains('%') => {
                let items = time_items(text)?;
                let unit = [1, 1000, SECOND, 60 * SECOND, DAY].into_iter().find(|unit| keeps(&items, *unit));
                Self::Custom { items, unit }
            }
            _ => return Err(format!("{text:?} is not a format of timestamps")),
        })
    }

    /// The instants that are read back exactly: multiples of so many microseconds.
    pub fn unit(&self) -> Option<i64> {
        if let Self::Custom { unit, .. } = self { *unit } else { Some(1) }
    }

    /// Writes an instant. False when it lies outside what can be written.
    pub fn write(&self, micros: i64, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Rfc3339 => return rfc3339(micros, out),
            Self::Unix => written::<SECOND>(micros, out),
            Self::UnixMs => written::<1000>(micros, out),
            Self::UnixUs => written::<1>(micros, out),
            Self::Custom { items, .. } => match instant(micros) {
                Some(at) => out.extend_from_slice(at.format_with_items(items.iter()).to_string().as_bytes()),
                None => return false,
            },
        }
        true
    }

    /// Reads an instant.
    pub fn read(&self, text: &[u8]) -> Option<i64> {
        match self {
            Self::Rfc3339 => fast_rfc3339(text).or_else(|| {
                let text = std::str::from_utf8(text).ok()?;
                // RFC 3339 ends with the year 9999; beyond, years are written with a sign (ISO 8601, 4.1.2.4).
                let at = if text.starts_with(['+', '-']) { text.parse().ok() } else { DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()) };
                at.map(|at: DateTime<Utc>| at.timestamp_micros())
            }),
            Self::Unix => from_decimal(text, SECOND),
            Self::UnixMs => from_decimal(text, 1000),
            Self::UnixUs => from_decimal(text, 1),
            Self::Custom { items, .. } => read_custom(items, std::str::from_utf8(text).ok()?),
        }
    }
}

/// The items of a strftime format that can be written.
///
/// # Errors
/// Why it is none, in one line.
pub fn time_items(format: &str) -> Result<Vec<Item<'static>>, String> {
    let items = StrftimeItems::new(format).parse_to_owned().map_err(|_| format!("`{format}` is not a time format"))?;
    if items.iter().any(|item| matches!(item, Item::Numeric(..) | Item::Fixed(_))) {
        Ok(items)
    } else {
        Err(format!("`{format}` has no part of a time"))
    }
}

/// Are multiples of `unit` read back? Tried on instants that differ in every part, a leap day and an old one among them.
fn keeps(items: &[Item<'static>], unit: i64) -> bool {
    [1_779_202_062_123_456, 946_684_799_999_999, 951_782_400_000_001, -631_055_339_000_001, 0_i64].into_iter().all(|micros| {
        let micros = micros - micros.rem_euclid(unit);
        instant(micros).is_some_and(|at| read_custom(items, &at.format_with_items(items.iter()).to_string()) == Some(micros))
    })
}

fn read_custom(items: &[Item<'static>], text: &str) -> Option<i64> {
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, text, items.iter()).ok()?;
    let at: DateTime<Utc> = if let Ok(at) = parsed.to_datetime() {
        at.to_utc()
    } else if let Ok(at) = parsed.to_naive_datetime_with_offset(0) {
        at.and_utc()
    } else {
        parsed.to_naive_date().ok()?.and_time(NaiveTime::MIN).and_utc()
    };
    Some(at.timestamp_micros())
}

/// `2026-05-19T15:00:00Z`, with 3 or 6 digits of a second only when there are any.
fn rfc3339(micros: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil(micros.div_euclid(DAY));
    let (Ok(year), time) = (u16::try_from(year), micros.rem_euclid(DAY)) else { return slow_rfc3339(micros, out) };
    if year > 9999 {
        return slow_rfc3339(micros, out);
    }
    let (seconds, sub) = (time / SECOND, time % SECOND);
    let mut text = *b"0000-00-00T00:00:00";
    let mut put = |at: usize, len: usize, mut n: i64| {
        for place in text[at..at + len].iter_mut().rev() {
            *place = digit(n % 10);
            n /= 10;
        }
    };
    put(0, 4, year.into());
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, seconds / 3600);
    put(14, 2, seconds / 60 % 60);
    put(17, 2, seconds % 60);
    out.extend_from_slice(&text);
    if sub != 0 {
        let (digits, sub) = if sub % 1000 == 0 { (3, sub / 1000) } else { (6, sub) };
        out.push(b'.');
        push_digits(sub, digits, out);
    }
    out.push(b'Z');
    true
}

fn digit(n: i64) -> u8 {
    b'0' + u8::try_from(n).unwrap_or_default()
}

fn push_digits(mut n: i64, digits: usize, out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + digits, b'0');
    for place in out[from..].iter_mut().rev() {
        *place = digit(n % 10);
        n /= 10;
    }
}

fn slow_rfc3339(micros: i64, out: &mut Vec<u8>) -> bool {
    instant(micros).map(|at| out.extend_from_slice(pipeline_contract::rfc3339(at).as_bytes())).is_some()
}

/// Year, month and day from days since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// Days since 1970, the opposite of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, yoe) = (year.div_euclid(400), year.rem_euclid(400));
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// The form that we write, without sub-seconds.
fn fast_rfc3339(text: &[u8]) -> Option<i64> {
    let text: &[u8; 20] = text.try_into().ok()?;
    if text[4] != b'-' || text[7] != b'-' || text[10] != b'T' || text[13] != b':' || text[16] != b':' || text[19] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0_i64, |n, sign| if sign.is_ascii_digit() { Some(n * 10 + i64::from(sign - b'0')) } else { None })
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let date = days(year, month, day);
    if hour > 23 || minute > 59 || second > 59 || civil(date) != (year, month, day) {
        return None;
    }
    Some(date * DAY + (hour * 3600 + minute * 60 + second) * SECOND)
}

/// A whole number of units, with decimals only when there are any.
#[inline]
fn written<const UNIT: i64>(micros: i64, out: &mut Vec<u8>) {
    let (whole, part) = (micros / UNIT, micros % UNIT);
    if part == 0 && whole >= 0 && decimal::whole(whole.cast_unsigned(), out) {
        return;
    }
    if whole == 0 && part < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    if part != 0 {
        out.push(b'.');
        push_digits(part.abs(), if UNIT == SECOND { 6 } else { 3 }, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

#[inline]
fn from_decimal(text: &[u8], unit: i64) -> Option<i64> {
    if let Some((whole, 0)) = plain(text) {
        return whole.cast_signed().checked_mul(unit);
    }
    let point = text.iter().position(|sign| *sign == b'.');
    let (whole, part) = point.map_or((text, &[][..]), |at| (&text[..at], &text[at + 1..]));
    let mut micros = lexical_core::parse::<i64>(whole).ok()?.checked_mul(unit)?;
    let negative = whole.starts_with(b"-");
    let mut worth = unit;
    if point.is_some() && part.is_empty() {
        return None;
    }
    for sign in part {
        worth /= 10;
        let n = i64::from(sign.is_ascii_digit().then_some(sign - b'0')?) * worth;
        if worth == 0 && *sign != b'0' {
            return None;
        }
        micros = micros.checked_add(if negative { -n } else { n })?;
    }
    Some(micros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(format: &str, micros: i64) -> String {
        let mut out = Vec::new();
        assert!(TimeFormat::parse(format).unwrap().write(micros, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn forms() {
        let at = 1_779_202_800_000_000;
        for (format, micros, text) in [
            ("rfc3339", at, "2026-05-19T15:00:00Z"),
            ("rfc3339", at + 250_000, "2026-05-19T15:00:00.250Z"),
            ("rfc3339", at + 1, "2026-05-19T15:00:00.000001Z"),
            ("rfc3339", -1, "1969-12-31T23:59:59.999999Z"),
            ("unix", at, "1779202800"),
            ("unix", at + 500_000, "1779202800.5"),
            ("unix", -500_000, "-0.5"),
            ("unix_ms", at, "1779202800000"),
            ("unix_ms", at + 1, "1779202800000.001"),
            ("unix_us", at + 1, "1779202800000001"),
            ("%Y-%m-%d %H:%M:%S", at, "2026-05-19 15:00:00"),
            ("%d.%m.%Y", at, "19.05.2026"),
        ] {
            assert_eq!(written(format, micros), text);
        }
    }

    #[test]
    fn units() {
        for (format, unit) in [
            ("%Y-%m-%d %H:%M:%S", Some(SECOND)),
            ("%Y-%m-%dT%H:%M:%S%.6f", Some(1)),
            ("%+", Some(1)),
            // Not before 1970.
            ("%s", None),
            ("%Y-%m-%d %H:%M:%S%.3f", Some(1000)),
            ("%Y-%m-%d %H:%M", Some(60 * SECOND)),
            ("%d/%m/%Y", Some(DAY)),
            ("%d/%m/%y", None),
            ("%H:%M", None),
            ("%Y-%m", None),
        ] {
            assert_eq!(TimeFormat::parse(format).unwrap().unit(), unit, "{format}");
        }
        for format in ["iso", "%Q", ""] {
            assert!(TimeFormat::parse(format).is_err(), "{format}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in ["", "2026-02-30T00:00:00Z", "2026-05-19T24:00:00Z", "2026-05-19", "x026-05-19T15:00:00Z", "2026-05-19T15:00:00"] {
            assert_eq!(TimeFormat::Rfc3339.read(text.as_bytes()), None, "{text}");
        }
        for text in ["", "1.", "1.0000001", "1e3", "-", "1.x"] {
            assert_eq!(TimeFormat::Unix.read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(TimeFormat::Rfc3339.read(b"2026-05-19T17:00:00.5+02:00"), Some(1_779_202_800_500_000));
        assert_eq!(TimeFormat::Unix.read(b"1.50"), Some(1_500_000));
        assert_eq!((TimeFormat::UnixUs.read(b"15.0"), TimeFormat::UnixUs.read(b"15.1")), (Some(15), None));
    }

    proptest! {
        #[test]
        fn every_instant_comes_back(micros in prop_oneof![-62_135_596_800_000_000_i64..253_402_300_800_000_000, -5_000_000_i64..5_000_000], step in prop_oneof![Just(1), Just(1000), Just(SECOND), Just(DAY)]) {
            let micros = micros - micros.rem_euclid(step);
            for format in [TimeFormat::Rfc3339, TimeFormat::Unix, TimeFormat::UnixMs, TimeFormat::UnixUs, TimeFormat::parse("%Y-%m-%d %H:%M:%S%.6f").unwrap()] {
                let mut out = Vec::new();
                prop_assert!(format.write(micros, &mut out));
                prop_assert_eq!(format.read(&out), Some(micros));
            }
            prop_assert_eq!(written("rfc3339", micros), pipeline_contract::rfc3339(instant(micros).unwrap()));
        }
    }
}
