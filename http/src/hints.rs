//! When the far side says to come back.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http::header::{AGE, DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName};

/// A hint beyond this is taken for garbage: no API throttles for longer, and clocks are sometimes wrong by years.
const ABSURD: Duration = Duration::from_secs(24 * 3600);

/// How long to wait, as `Retry-After` says: seconds, or an HTTP date (RFC 9110, 10.2.3). `None` when it is garbage, negative or more than
/// a day; a date that has passed is zero.
pub fn parse_retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    match value.parse::<f64>() {
        Ok(seconds) => sane(Duration::try_from_secs_f64(seconds).ok()?),
        Err(_) => until(DateTime::parse_from_rfc2822(value).ok()?.to_utc(), now),
    }
}

/// How long to wait, as `x-ratelimit-reset` says. No standard holds for it, so each form in use is understood: `2026-03-09 03:28:00 +0000`,
/// RFC 3339, Unix seconds, Unix milliseconds, and seconds from now when the number is too small to be an instant of this century. `None`
/// when it is garbage, negative or more than a day; an instant that has passed is zero.
pub fn parse_rate_limit_reset(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    /// 2001-09-09 as Unix seconds.
    const INSTANT_FROM: f64 = 1e9;
    /// The year 5138 as Unix seconds, March 1973 as Unix milliseconds.
    const MILLIS_FROM: f64 = 1e11;

    let value = value.trim();
    if let Ok(number) = value.parse::<f64>() {
        return if number < INSTANT_FROM {
            sane(Duration::try_from_secs_f64(number).ok()?)
        } else {
            let seconds = if number < MILLIS_FROM { number } else { number / 1000.0 };
            let since_1970 = Duration::try_from_secs_f64(seconds).ok()?;
            let now = Duration::from_millis(u64::try_from(now.timestamp_millis()).ok()?);
            sane(since_1970.saturating_sub(now))
        };
    }
    let at = DateTime::parse_from_str(value, "%Y-%m-%d %H:%M:%S %z")
        .or_else(|_| DateTime::parse_from_rfc3339(value))
        .or_else(|_| DateTime::parse_from_rfc2822(value))
        .ok()?;
    until(at.to_utc(), now)
}

/// What the headers of a refusal say. `x-ratelimit-reset` counts only when the refusal was for too many requests: many APIs send it with
/// every answer, and an internal error does not last until a quota is renewed.
pub(crate) fn wait_hint(headers: &HeaderMap, rate_limited: bool, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let retry_after = text(RETRY_AFTER.as_str()).and_then(|value| parse_retry_after(value, now));
    let reset = || ["x-ratelimit-reset", "ratelimit-reset"].into_iter().filter_map(text).find_map(|value| parse_rate_limit_reset(value, now));
    retry_after.or_else(|| if rate_limited { reset() } else { None })
}

/// The earliest instant at which an answer can have been made, of what its headers and our clock say: so old its content may be.
///
/// `asked` is our clock when the request was sent, `came` when the answer was whole. A cache tells by `Age` how long it has held the answer,
/// and the far side's own clock is in `Date` (RFC 9111, 4.2.3 and 5.1). Our clock may be ahead of it, or be set while the answer is under
/// way, and an answer may take its time: the earliest of all counts. Headers that are garbage say nothing; an `Age` is a day at most.
pub fn as_of(headers: &HeaderMap, asked: DateTime<Utc>, came: DateTime<Utc>) -> DateTime<Utc> {
    const MOST: u32 = 24 * 3600;
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let seconds = text(AGE).split(',').next().unwrap_or_default().trim();
    let digits = !seconds.is_empty() && seconds.bytes().all(|b| b.is_ascii_digit());
    // Digits that make no number are too many.
    let age = if digits { seconds.parse().unwrap_or(MOST).min(MOST) } else { 0 };
    let by_our_clock = asked.min(came) - TimeDelta::seconds(age.into());
    let by_theirs = DateTime::parse_from_rfc2822(text(DATE)).map(|date| date.to_utc());
    by_theirs.map_or(by_our_clock, |date| date.min(by_our_clock))
}

fn until(at: DateTime<Utc>, now: DateTime<Utc>) -> Option<Duration> {
    sane(at.signed_duration_since(now).to_std().unwrap_or(Duration::ZERO))
}

fn sane(wait: Duration) -> Option<Duration> {
    (wait <= ABSURD).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline_contract::testkit::{Draw, Fuzz};
    use proptest::prelude::*;

    fn now() -> DateTime<Utc> {
        "2026-03-09T03:27:00Z".parse().unwrap()
    }

    #[test]
    fn an_answer_is_as_old_as_the_most_careful_of_its_witnesses_says() {
        let at = |seconds: i64| DateTime::from_timestamp(1_779_000_000 + seconds, 0).unwrap();
        let date = |seconds: i64| at(seconds).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let of = |age: &str, date: &str, asked: i64, came: i64| {
            let mut headers = HeaderMap::new();
            headers.insert(AGE, age.parse().unwrap());
            headers.insert(DATE, date.parse().unwrap());
            (as_of(&headers, at(asked), at(came)) - at(0)).num_seconds()
        };
        for (age, date, asked, came, expected) in [
            ("", String::new(), 0, 25, 0),
            ("900", String::new(), 0, 25, -900),
            // Our clock is hours ahead, or was set forward or back while the answer came.
            ("", date(-7200), 0, 1, -7200),
            ("", date(1), 0, 7200, 0),
            ("", date(1), 0, -7200, -7200),
            // Their clock is ahead.
            ("60", date(300), 0, 1, -60),
            ("soon", "yesterday".to_owned(), 0, 1, 0),
            ("-5", date(0), 0, 1, 0),
            ("99999999999999999999", date(0), 0, 1, -86_400),
            ("30, 60", date(0), 0, 1, -30),
        ] {
            assert_eq!(of(age, &date, asked, came), expected, "Age: {age}, Date: {date}, asked {asked}, came {came}");
        }
    }

    #[test]
    fn retry_after() {
        let cases = [
            ("119", Some(119.0)),
            (" 0 ", Some(0.0)),
            ("1.5", Some(1.5)),
            ("Mon, 09 Mar 2026 03:28:00 GMT", Some(60.0)),
            ("Mon, 09 Mar 2026 03:26:00 GMT", Some(0.0)),
            ("86400", Some(86400.0)),
            ("86401", None),
            ("-1", None),
            ("1e300", None),
            ("inf", None),
            ("NaN", None),
            ("soon", None),
            ("", None),
            ("Mon, 09 Mar 2099 03:28:00 GMT", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_retry_after(value, now()), expected.map(Duration::from_secs_f64), "{value:?}");
        }
    }

    #[test]
    fn rate_limit_reset() {
        let cases = [
            ("2026-03-09 03:28:00 +0000", Some(60.0)),
            ("2026-03-09 04:28:00 +0100", Some(60.0)),
            ("2026-03-09T03:28:00Z", Some(60.0)),
            ("1773026880", Some(60.0)),
            ("1773026880000", Some(60.0)),
            ("30", Some(30.0)),
            ("1000", Some(1000.0)),
            ("1773020000", Some(0.0)),
            ("2026-03-09 03:20:00 +0000", Some(0.0)),
            ("2027-03-09 03:20:00 +0000", None),
            ("-30", None),
            ("9e30", None),
            ("tomorrow", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_rate_limit_reset(value, now()), expected.map(Duration::from_secs_f64), "{value:?}");
        }
    }

    #[test]
    fn a_reset_counts_only_for_a_limit_and_retry_after_goes_first() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-reset", "40".parse().unwrap());
        assert_eq!(wait_hint(&headers, true, now()), Some(Duration::from_secs(40)));
        assert_eq!(wait_hint(&headers, false, now()), None);
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(wait_hint(&headers, true, now()), Some(Duration::from_secs(7)));
        assert_eq!(wait_hint(&headers, false, now()), Some(Duration::from_secs(7)));
    }

    #[test]
    fn fuzzed_headers_are_a_wait_of_a_day_at_most_and_a_number_is_taken_as_it_is() {
        let samples = [
            "119",
            "1.5",
            "Mon, 09 Mar 2026 03:28:00 GMT",
            "2026-03-09 03:28:00 +0000",
            "2026-03-09T03:28:00Z",
            "1773026880",
            "1773026880000",
            "Monday, 09-Mar-26 03:28:00 GMT",
            "Mon Mar  9 03:28:00 2026",
        ];
        let words =
            ["-", "+", ".", "e", "e308", "inf", "NaN", ":", ",", " ", "GMT", "UTC", "Z", "+2400", "Feb", "Sun", "60", "99999", "é", "\0", "0x", "_"];
        let fuzz = Fuzz { name: "wait headers", samples: &samples, words: &words, cases: 3000, cost: 1 };
        let number = |draw: &mut Draw| match draw.below(4) {
            0 => draw.bits().to_string(),
            1 => f64::from_bits(draw.bits()).to_string(),
            2 => (1_773_026_000 + draw.below(200_000)).to_string(),
            _ => draw.below(100_000).to_string(),
        };
        fuzz.run_text(number, |text| {
            let waits = [parse_retry_after(text, now()), parse_rate_limit_reset(text, now())];
            if let Ok(seconds) = text.trim().parse::<u32>() {
                let plain = Some(Duration::from_secs(seconds.into())).filter(|wait| *wait <= ABSURD);
                assert_eq!(waits[0], plain);
                if seconds < 1_000_000_000 {
                    assert_eq!(waits[1], plain);
                } else {
                    assert_eq!(waits[1], Some(Duration::from_secs(u64::from(seconds).saturating_sub(1_773_026_820))).filter(|wait| *wait <= ABSURD));
                }
            }
            let mut headers = HeaderMap::new();
            for name in ["retry-after", "x-ratelimit-reset"] {
                if let Ok(value) = http::HeaderValue::from_bytes(text.as_bytes()) {
                    headers.insert(name, value);
                }
            }
            let hint = wait_hint(&headers, true, now());
            assert!(waits.iter().chain([&hint]).flatten().all(|wait| *wait <= ABSURD));
            waits.iter().any(Option::is_some)
        });
    }

    proptest! {
        #[test]
        fn nothing_panics(value in any::<String>(), number in any::<f64>(), seconds in any::<i64>()) {
            let now = DateTime::from_timestamp(seconds, 0).unwrap_or_else(now);
            for value in [value, number.to_string(), seconds.to_string()] {
                for wait in [parse_retry_after(&value, now), parse_rate_limit_reset(&value, now)].into_iter().flatten() {
                    prop_assert!(wait <= ABSURD);
                }
            }
        }
    }
}
