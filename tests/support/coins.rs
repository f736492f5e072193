//! What the look-alike knows of coins: every figure follows from the coin's name and the time alone.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::Dice;

pub const MINUTE: i64 = 60_000;
pub const HALF_HOUR: i64 = 30 * MINUTE;
pub const HOUR: i64 = 60 * MINUTE;
pub const FOUR_HOURS: i64 = 4 * HOUR;
pub const DAY: i64 = 24 * HOUR;

/// All coins of the look-alike, the biggest first.
pub const ALL: [&str; 12] = [
    "bitcoin",
    "ethereum",
    "tether",
    "binancecoin",
    "solana",
    "ripple",
    "usd-coin",
    "dogecoin",
    "shiba-inu",
    "0-5x-long-coin",
    "tron",
    "zombie-coin",
];

/// Beside them every coin is known whose name begins so: a test may name its coins after what happens to them.
pub fn is_known(coin: &str) -> bool {
    ALL.contains(&coin) || coin.starts_with("coin-")
}

/// What a coin costs about, and with how many decimals it is quoted.
fn quote(coin: &str) -> (f64, usize) {
    match coin {
        "bitcoin" => (77_139.0, 0),
        "ethereum" => (2_116.84, 2),
        "tether" => (0.999_66, 6),
        "shiba-inu" => (0.000_007_1, 12),
        "solana" => (84.345_678_901_234, 14),
        _ => (seed(coin) as f64 % 1e6 / 1e3 + 0.5, 3),
    }
}

fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn dice(coin: &str, what: &str, time: i64) -> Dice {
    let mut dice = Dice::new(seed(coin) ^ seed(what).rotate_left(17) ^ (time as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    dice.bits();
    dice
}

fn rounded(value: f64, decimals: usize) -> f64 {
    format!("{value:.decimals$}").parse().unwrap()
}

/// A number as CoinGecko sends it: whole ones sometimes without a point.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 && (value as i64) % 3 == 0 { json!(value as i64) } else { json!(value) }
}

/// One row of `/ohlc`: the stamp is the candle's close.
pub fn candle(coin: &str, step: i64, close: i64) -> Value {
    let (base, decimals) = quote(coin);
    let mut dice = dice(coin, if step == HALF_HOUR { "half hour" } else { "long" }, close);
    let mut price = || rounded(base * (0.99 + 0.02 * dice.unit()), decimals);
    let (open, end) = (price(), price());
    let high = rounded(open.max(end) * 1.002, decimals).max(open).max(end);
    let low = rounded(open.min(end) * 0.998, decimals).min(open).min(end);
    json!([close, number(open), number(high), number(low), number(end)])
}

/// One row of `/ohlc/range`: an hour, which says the same as its halves.
pub fn hourly(coin: &str, close: i64) -> Value {
    let (first, second) = (candle(coin, HALF_HOUR, close - HALF_HOUR), candle(coin, HALF_HOUR, close));
    let number = |row: &Value, place: usize| row[place].as_f64().unwrap();
    let high = number(&first, 2).max(number(&second, 2));
    let low = number(&first, 3).min(number(&second, 3));
    json!([close, first[1], high, low, second[4]])
}

/// The rows of `/ohlc` that have closed at `now`, as many as CoinGecko sends for these days; `None` where it would refuse them.
pub fn ohlc(coin: &str, days: &str, now: i64) -> Option<Vec<Value>> {
    let (step, count) = match days {
        "1" => (HALF_HOUR, 48),
        "7" => (FOUR_HOURS, 42),
        "14" => (FOUR_HOURS, 84),
        "30" => (FOUR_HOURS, 180),
        "90" => (4 * DAY, 23),
        "180" => (4 * DAY, 45),
        "365" => (4 * DAY, 92),
        _ => return None,
    };
    let last = now - now.rem_euclid(step);
    Some((0..count).map(|back| candle(coin, step, last - (count - 1 - back) * step)).collect())
}

/// The candle that is still open at `now`, stamped with its close in the future.
pub fn open_candle(coin: &str, now: i64) -> Value {
    candle(coin, HALF_HOUR, now - now.rem_euclid(HALF_HOUR) + HALF_HOUR)
}

/// Prices, market capitals and rolling volumes, every five minutes with jitter, and an irregular point of now at the end.
pub fn market_chart(coin: &str, days: &str, now: i64) -> Option<Value> {
    let (step, jitter) = match days.parse::<i64>().ok()? {
        1 => (5 * MINUTE, 40_000),
        2..=90 => (HOUR, 60_000),
        _ => (DAY, 1),
    };
    let from = now - days.parse::<i64>().ok()? * DAY;
    Some(chart(coin, from, now, step, jitter, true))
}

/// The same of a window: every five minutes of the last day, hourly up to 90 days, else daily. It ends with a point of now where it reaches so far.
pub fn market_chart_range(coin: &str, from: i64, to: i64, now: i64) -> Value {
    let (step, jitter) = match to - from {
        length if length <= DAY && to > now - DAY => (5 * MINUTE, 40_000),
        length if length <= 90 * DAY => (HOUR, 60_000),
        _ => (DAY, 1),
    };
    chart(coin, from, to.min(now), step, jitter, to >= now - HOUR)
}

fn chart(coin: &str, from: i64, to: i64, step: i64, jitter: i64, up_to_now: bool) -> Value {
    let (base, _) = quote(coin);
    let point = |what: &str, at: i64, size: f64| {
        let value = size * (0.95 + 0.1 * dice(coin, what, at).unit());
        json!([at, value])
    };
    let slots = from.div_euclid(step)..=to.div_euclid(step);
    let mut times: Vec<i64> =
        slots.map(|slot| slot * step + dice(coin, "jitter", slot).below(jitter as u64) as i64).filter(|at| (from..to).contains(at)).collect();
    times.extend(up_to_now.then_some(to));
    let series = |what: &str, size: f64| times.iter().map(|at| point(what, *at, size)).collect::<Vec<_>>();
    json!({"prices": series("price", base), "market_caps": series("cap", base * 1e7), "total_volumes": series("volume", base * 4e5 + 1e3)})
}

/// One element of `/coins/markets`.
pub fn market(coin: &str, rank: usize, now: i64) -> Value {
    let (base, decimals) = quote(coin);
    let at = now - now.rem_euclid(MINUTE);
    let mut dice = dice(coin, "market", at);
    let stamp = |ms: i64| DateTime::<Utc>::from_timestamp_millis(ms).unwrap().to_rfc3339_opts(SecondsFormat::Millis, true);
    let price = rounded(base * (0.99 + 0.02 * dice.unit()), decimals);
    let supply = rounded(1e7 * (1.0 + dice.unit()), 2);
    let mut element = json!({
        "id": coin, "symbol": &coin[..3], "name": format!("The \"{coin}\", a coin"), "image": format!("https://example.invalid/{coin}.png?1"),
        "current_price": number(price), "market_cap": (price * supply) as i64, "market_cap_rank": rank,
        "fully_diluted_valuation": number(rounded(price * supply * 1.01, 0)), "total_volume": (base * 4e5) as i64 + 1,
        "high_24h": price * 1.02, "low_24h": price * 0.98, "price_change_24h": -price * 0.01, "price_change_percentage_24h": -0.968_39,
        "market_cap_change_24h": -15_184_401_491.513_184, "market_cap_change_percentage_24h": -0.982_25, "circulating_supply": supply,
        "total_supply": supply, "max_supply": if rank.is_multiple_of(2) { Value::Null } else { json!(2.1e7) }, "ath": price * 3.0,
        "ath_change_percentage": -66.6, "ath_date": "2025-10-06T18:57:42.558Z", "atl": 7.1e-5, "atl_change_percentage": 8.7e36,
        "atl_date": "2013-07-06T00:00:00.000Z", "roi": if coin == "ethereum" { json!({"times": 30.1, "currency": "btc", "percentage": 3010.5}) } else { Value::Null },
        "last_updated": stamp(at),
    });
    if coin == "zombie-coin" {
        // A dead coin: nothing is known any more.
        for (key, value) in element.as_object_mut().unwrap() {
            if !["id", "symbol", "name", "image"].contains(&key.as_str()) {
                *value = Value::Null;
            }
        }
    }
    element
}
