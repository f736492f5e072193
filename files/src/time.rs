//! Instants as text and back.

use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{DateTime, NaiveTime, Utc};
use pipeline_contract::instant;

use crate::decimal::{self, ZEROS, plain};
use crate::room::{self, Room};

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
        if room::append(out, |room| self.put(micros, &mut Date::default(), room)) {
            return true;
        }
        let Some(at) = instant(micros) else { return false };
        match self {
            Self::Custom { items, .. } => out.extend_from_slice(at.format_with_items(items.iter()).to_string().as_bytes()),
            _ => out.extend_from_slice(pipeline_contract::rfc3339(at).as_bytes()),
        }
        true
    }

    /// As [`TimeFormat::write`], to the begin of a room: how many signs it has, at most 27. `None` where it has none that can be told so quickly.
    /// `date` is that of the instant before, which is often the same.
    #[inline(always)]
    pub fn put(&self, micros: i64, date: &mut Date, room: &mut Room) -> Option<usize> {
        match self {
            Self::Rfc3339 => rfc3339(micros, date, room),
            Self::Unix => Some(count::<{ SECOND.cast_unsigned() }>(micros, room)),
            Self::UnixMs => Some(count::<1000>(micros, room)),
            Self::UnixUs => Some(count::<1>(micros, room)),
            Self::Custom { .. } => None,
        }
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

/// A day and how it is written: `2026-05-19T`.
#[derive(Clone, Copy, Debug)]
pub struct Date {
    days: i64,
    text: [u8; 11],
}

impl Default for Date {
    /// The day of no instant.
    fn default() -> Self {
        Self { days: i64::MIN, text: [0; 11] }
    }
}

impl Date {
    /// The day that is so many days after the first of 1970, in one of the years 0 to 9999.
    fn of(days: i64) -> Option<Self> {
        let (year, month, day) = civil(days);
        let year = u32::try_from(year).ok().filter(|year| *year <= 9999)?;
        let digits = |number: u32| (decimal::four(number) | ZEROS as u32).to_le_bytes();
        let ([a, b, c, d], [.., e, f], [.., g, h]) = (digits(year), digits(month as u32), digits(day as u32));
        Some(Self { days, text: [a, b, c, d, b'-', e, f, b'-', g, h, b'T'] })
    }
}

/// `2026-05-19T15:00:00Z`, with 3 or 6 digits of a second only when there are any.
#[inline(always)]
fn rfc3339(micros: i64, date: &mut Date, room: &mut Room) -> Option<usize> {
    let (days, time) = (micros.div_euclid(DAY), micros.rem_euclid(DAY).cast_unsigned());
    if days != date.days {
        *date = Date::of(days)?;
    }
    room::place(date.text, 0, room);
    let (seconds, sub) = (time / 1_000_000, time % 1_000_000);
    room::place(clock(seconds).to_le_bytes(), 11, room);
    let (signs, len) = if sub == 0 {
        (u64::from(b'Z'), 1)
    } else {
        let digits = decimal::digits(sub as u32) | ZEROS;
        let point = u64::from(b'.');
        if sub % 1000 == 0 {
            (point | (digits >> 16 & 0xff_ffff) << 8 | u64::from(b'Z') << 32, 5)
        } else {
            (point | digits >> 16 << 8 | u64::from(b'Z') << 56, 8)
        }
    };
    room::place(signs.to_le_bytes(), 19, room);
    Some(19 + len)
}

/// `15:00:00`, the first sign in the lowest byte: hours, minutes and seconds are taken apart into digits at once.
#[inline(always)]
fn clock(seconds: u64) -> u64 {
    const LOW: u64 = 0x000f_0000_0f00_000f;
    let minutes = seconds / 60;
    let numbers = (minutes / 60) | (minutes % 60) << 24 | (seconds % 60) << 48;
    let tens = ((numbers * 103) >> 10) & LOW;
    let digits = tens | (numbers - tens * 10) << 8;
    digits | u64::from_le_bytes(*b"00:00:00")
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

/// How many units it is, with decimals only when there are any.
#[inline(always)]
fn count<const UNIT: u64>(micros: i64, room: &mut Room) -> usize {
    let size = micros.unsigned_abs();
    let part = size % UNIT;
    room::place([b'-'], 0, room);
    let at = decimal::whole(size / UNIT, usize::from(micros < 0), room);
    if part == 0 {
        return at;
    }
    let others = if UNIT == 1000 { 40 } else { 16 };
    let digits = decimal::digits(part as u32) >> others;
    room::place([b'.'], at, room);
    room::place((digits | ZEROS).to_le_bytes(), at + 1, room);
    at + 1 + decimal::behind(digits)
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
    fn a_date_is_that_of_each_instant() {
        let (mut date, mut room) = (Date::default(), [b'x'; room::WIDTH]);
        let day = 20_592 * DAY;
        for micros in [0, day, day + DAY - 1, day + DAY, day + 3_599_999_000, -1, -DAY, day] {
            let len = TimeFormat::Rfc3339.put(micros, &mut date, &mut room).unwrap();
            assert_eq!(std::str::from_utf8(&room[..len]).unwrap(), written("rfc3339", micros));
        }
        // Years that are written with a sign, and instants that no year has.
        for (micros, text) in [(-62_167_219_200_000_001, "-0001-12-31T23:59:59.999999Z"), (253_402_300_800_000_000, "+10000-01-01T00:00:00Z")] {
            assert_eq!((TimeFormat::Rfc3339.put(micros, &mut date, &mut room), written("rfc3339", micros).as_str()), (None, text));
        }
        let mut out = b"x".to_vec();
        assert!(!TimeFormat::Rfc3339.write(i64::MIN, &mut out) && !TimeFormat::parse("%Y").unwrap().write(i64::MAX, &mut out));
        assert_eq!(out, b"x");
        for (format, micros) in [("unix", i64::MIN), ("unix_ms", i64::MIN), ("unix_us", i64::MIN), ("unix_us", i64::MAX)] {
            assert_eq!(TimeFormat::parse(format).unwrap().read(written(format, micros).as_bytes()), Some(micros), "{format}");
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
