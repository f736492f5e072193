//! How long candles are, and how far back each plan has them.

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use pipeline_contract::{Category, StageError, Window, rfc3339};
use schemars::JsonSchema;
use serde::Deserialize;

use super::candles::{DAY, HOUR, MINUTE};
use crate::api::Plan;

/// How long a candle is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Interval {
    /// 30 minutes, of the last 24 hours.
    #[serde(rename = "30m")]
    HalfHour,
    /// One hour, of the last 24 hours; made of two half hours. With a paid key back to 2018.
    #[default]
    #[serde(rename = "1h")]
    Hour,
    /// 4 hours, of the last 30 days.
    #[serde(rename = "4h")]
    FourHours,
    /// 4 days, of the last 365 days. With a paid key further.
    #[serde(rename = "4d")]
    FourDays,
}

impl Interval {
    /// Its name in pipeline files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HalfHour => "30m",
            Self::Hour => "1h",
            Self::FourHours => "4h",
            Self::FourDays => "4d",
        }
    }

    /// How long a candle of this source is, in milliseconds.
    pub(super) const fn size(self) -> i64 {
        match self {
            Self::HalfHour => 30 * MINUTE,
            Self::Hour => HOUR,
            Self::FourHours => 4 * HOUR,
            Self::FourDays => 4 * DAY,
        }
    }

    /// How long a candle of CoinGecko's answer is. Its length follows the number of days asked for: 1 -> 30 minutes, 30 -> 4 hours, more ->
    /// 4 days.
    pub(super) const fn size_sent(self) -> i64 {
        match self {
            Self::Hour => 30 * MINUTE,
            other => other.size(),
        }
    }

    /// Do its candles close at whole multiples of their length? Nothing is said of where 4-day candles begin.
    pub(super) const fn on_grid(self) -> bool {
        !matches!(self, Self::FourDays)
    }

    /// What to ask of `/ohlc` for all that every plan has, and how many days that is.
    pub(super) const fn days(self) -> (&'static str, i64) {
        match self {
            Self::HalfHour | Self::Hour => ("1", 1),
            Self::FourHours => ("30", 30),
            Self::FourDays => ("365", 365),
        }
    }
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// One answer with the last so many days.
    Days(&'static str),
    /// Hourly candles from this instant on, a month at a time.
    Range(DateTime<Utc>),
}

/// Where CoinGecko's hourly candles begin.
pub(super) fn beginning() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2018, 2, 9, 0, 0, 0).single().unwrap_or(DateTime::UNIX_EPOCH)
}

/// Whether a window can be had, and how.
pub(super) fn reach(interval: Interval, plan: Plan, window: Option<Window>, now: DateTime<Utc>) -> Result<Reach, StageError> {
    let (days, count) = interval.days();
    let Some(window) = window else { return Ok(Reach::Days(days)) };
    let earliest = now - TimeDelta::days(count);
    // What counts is the first candle in the window, not the moment at which it begins. Where no grid is known it opens within one length.
    let first = window.from.map(|from| {
        let past = from.timestamp_millis().rem_euclid(interval.size());
        let ahead = match (interval.on_grid(), past) {
            (true, 0) => 0,
            (true, past) => interval.size() - past,
            (false, _) => interval.size(),
        };
        from + TimeDelta::milliseconds(ahead)
    });
    let too_old = first.is_some_and(|first| first < earliest) || window.to.is_some_and(|to| to <= earliest);
    match (plan, interval) {
        (Plan::Pro, Interval::Hour) if too_old || window.from.is_none() => Ok(Reach::Range(window.from.unwrap_or(beginning()).max(beginning()))),
        (Plan::Pro, Interval::FourDays) if too_old || window.from.is_none() => Ok(Reach::Days("max")),
        _ if too_old => Err(out_of_reach(interval, plan, count, earliest)),
        _ => Ok(Reach::Days(days)),
    }
}

fn out_of_reach(interval: Interval, plan: Plan, days: i64, earliest: DateTime<Utc>) -> StageError {
    let back = if days == 1 { "24 hours".to_owned() } else { format!("{days} days") };
    let message = format!(
        "the window begins before {}: on this plan CoinGecko gives candles of \"{}\" for the last {back} only",
        rfc3339(chrono::SubsecRound::trunc_subsecs(earliest, 0)),
        interval.name()
    );
    let coarser = match interval {
        Interval::HalfHour | Interval::Hour => ", or choose interval = \"4h\" (30 days) or \"4d\" (365 days)",
        Interval::FourHours => ", or choose interval = \"4d\" (365 days)",
        Interval::FourDays => "",
    };
    let paid = match (plan, interval) {
        (Plan::Pro, _) | (_, Interval::HalfHour | Interval::FourHours) => "",
        (_, Interval::Hour) => "; with a paid key \"1h\" reaches back to 2018-02-09",
        (_, Interval::FourDays) => "; a paid key reaches further",
    };
    StageError::operator(Category::ClientError, message).help(format!("ask for a later --from{coarser}{paid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn asked(interval: Interval, plan: Plan, from: Option<&str>, to: Option<&str>) -> Result<Reach, StageError> {
        let window = Window { from: from.map(at), to: to.map(at) };
        reach(interval, plan, Some(window), at("2026-05-19T15:37:20Z"))
    }

    #[test]
    fn without_a_window_the_last_days() {
        for (interval, days) in [(Interval::HalfHour, "1"), (Interval::Hour, "1"), (Interval::FourHours, "30"), (Interval::FourDays, "365")] {
            assert_eq!(reach(interval, Plan::Demo, None, at("2026-05-19T15:37:20Z")), Ok(Reach::Days(days)));
            assert_eq!(asked(interval, Plan::Demo, None, None), Ok(Reach::Days(days)));
        }
    }

    #[test]
    fn the_first_candle_of_the_window_counts() {
        let ok = |interval, from| asked(interval, Plan::Demo, Some(from), None).is_ok();
        assert!(ok(Interval::Hour, "2026-05-18T16:00:00Z"));
        assert!(ok(Interval::Hour, "2026-05-18T15:00:01Z"), "the first whole hour in it begins at 16:00");
        assert!(!ok(Interval::Hour, "2026-05-18T15:00:00Z"));
        assert!(ok(Interval::HalfHour, "2026-05-18T15:30:01Z") && !ok(Interval::HalfHour, "2026-05-18T15:30:00Z"));
        assert!(ok(Interval::FourHours, "2026-04-19T16:00:00Z") && !ok(Interval::FourHours, "2026-04-19T12:00:00Z"));
        assert!(ok(Interval::FourDays, "2025-05-20T00:00:00Z") && !ok(Interval::FourDays, "2025-05-01T00:00:00Z"));
        assert!(asked(Interval::Hour, Plan::Demo, None, Some("2026-05-01T00:00:00Z")).is_err(), "a window that ends too early");
    }

    #[test]
    fn a_paid_key_reaches_further() {
        let range = |from| Ok(Reach::Range(at(from)));
        assert_eq!(asked(Interval::Hour, Plan::Pro, Some("2026-01-01T00:00:00Z"), None), range("2026-01-01T00:00:00Z"));
        assert_eq!(asked(Interval::Hour, Plan::Pro, Some("2010-01-01T00:00:00Z"), None), range("2018-02-09T00:00:00Z"));
        assert_eq!(asked(Interval::Hour, Plan::Pro, None, Some("2020-01-01T00:00:00Z")), range("2018-02-09T00:00:00Z"));
        assert_eq!(asked(Interval::Hour, Plan::Pro, Some("2026-05-19T10:00:00Z"), None), Ok(Reach::Days("1")));
        assert_eq!(asked(Interval::FourDays, Plan::Pro, Some("2020-01-01T00:00:00Z"), None), Ok(Reach::Days("max")));
        assert!(asked(Interval::FourHours, Plan::Pro, Some("2020-01-01T00:00:00Z"), None).is_err());
    }

    #[test]
    fn what_is_out_of_reach_says_how_far_it_goes_and_what_to_do() {
        let error = asked(Interval::Hour, Plan::Keyless, Some("2026-05-01T00:00:00Z"), None).unwrap_err();
        assert_eq!(error.act, pipeline_contract::Act::Operator);
        assert!(error.message.contains("\"1h\" for the last 24 hours") && error.message.contains("2026-05-18T15:37:20Z"), "{error}");
        let help = error.help.unwrap();
        assert!(help.contains("\"4h\" (30 days)") && help.contains("2018-02-09"), "{help}");
    }
}
