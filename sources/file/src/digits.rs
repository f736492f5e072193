//! Numbers where they stand among others: the bytes beside one are read with it, and left out, so that few steps depend on its length.

use pipeline_files::decimal::eight;

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
const ZEROS: u64 = u64::from_ne_bytes([b'0'; 8]);
const POINTS: u64 = u64::from_ne_bytes([b'.' ^ b'0'; 8]);

/// The last signs of eight, by how many they are.
const LAST: [u64; 9] = {
    let mut masks = [0; 9];
    let mut len = 1;
    while len <= 8 {
        masks[len] = !0 << (64 - 8 * len);
        len += 1;
    }
    masks
};

/// The last signs of a text of so many, at most eight of them, each as its distance from `0`; what stands before is 0.
#[inline(always)]
fn last(data: &[u8], end: usize, len: usize) -> Option<u64> {
    let signs = data.get(end.wrapping_sub(8)..)?.first_chunk::<8>()?;
    // A table takes fewer steps than shifts whose length is not known beforehand.
    Some((u64::from_le_bytes(*signs) ^ ZEROS) & LAST[len.min(8)])
}

/// A byte's high bit is set where one of the two has no digit; it may be set in the bytes behind one of those, too.
#[inline(always)]
fn no_digits(signs: u64) -> u64 {
    (signs.wrapping_add(u64::from_ne_bytes([0x7f - 9; 8])) | signs) & HIGH
}

/// A number as its digits, of which there are at most fifteen, and a power of ten. Both are floats, so that the quotient alone is rounded; it is left
/// open because it takes long, and many are worked out side by side.
#[derive(Clone, Copy, Default)]
pub(crate) struct Quotient {
    digits: u64,
    divisor: f64,
}

impl Quotient {
    #[inline(always)]
    pub(crate) fn value(self) -> f64 {
        // A whole number below 2^52 as a float. The processor's own step for it waits for the one before: half of the register stays.
        const WHOLE: f64 = (1_u64 << 52) as f64;
        (f64::from_bits(WHOLE.to_bits() | self.digits) - WHOLE) / self.divisor
    }
}

/// The number of `len` signs, which are not none, before `end`: digits with a point among the last eight signs and one to eight before it, or up to
/// eight digits; `-` may stand before. All others are `None`, numbers too, and so is one with less than eight bytes before its point.
#[inline(always)]
pub(crate) fn float(data: &[u8], end: usize, len: usize) -> Option<Quotient> {
    positive(data, end, len).or_else(|| negative(data, end, len))
}

#[inline(never)]
fn negative(data: &[u8], end: usize, len: usize) -> Option<Quotient> {
    let is_negative = len > 1 && data.get(end - len) == Some(&b'-');
    let found = is_negative.then(|| positive(data, end, len - 1)).flatten();
    found.map(|found| Quotient { divisor: -found.divisor, ..found })
}

#[inline(always)]
fn positive(data: &[u8], end: usize, len: usize) -> Option<Quotient> {
    const WORTH: [(u64, f64); 8] = [(1, 1e0), (10, 1e1), (100, 1e2), (1000, 1e3), (10_000, 1e4), (100_000, 1e5), (1_000_000, 1e6), (10_000_000, 1e7)];
    let signs = last(data, end, len)?;
    let beside = signs ^ POINTS;
    // The lowest of these bits is at the first point.
    let points = beside.wrapping_sub(ONES) & !beside & HIGH;
    if points == 0 {
        return (len <= 8 && no_digits(signs) == 0).then(|| Quotient { digits: eight(signs), divisor: 1.0 });
    }
    let behind = signs & !(points ^ (points - 1));
    let decimals = 7 - (points.trailing_zeros() / 8) as usize;
    let digits = len.wrapping_sub(decimals + 1);
    if digits.wrapping_sub(1) >= 8 {
        return None;
    }
    let whole = last(data, end.wrapping_sub(decimals + 1), digits)?;
    if no_digits(whole) | no_digits(behind) != 0 {
        return None;
    }
    let (worth, divisor) = WORTH[decimals & 7];
    Some(Quotient { digits: eight(whole) * worth + eight(behind), divisor })
}

/// The whole number of `len` signs, which are not none, before `end`: of up to sixteen digits. All others are `None`, numbers too.
#[inline(always)]
pub(crate) fn whole(data: &[u8], end: usize, len: usize) -> Option<i64> {
    let low = last(data, end, len)?;
    let high = match len {
        ..=8 => 0,
        9..=16 => last(data, end.wrapping_sub(8), len - 8)?,
        _ => return None,
    };
    (no_digits(low) | no_digits(high) == 0).then(|| (eight(high) * 100_000_000 + eight(low)).cast_signed())
}

/// A number at the front of some bytes, and how many signs it has: of at most sixteen digits, without decimals if it has more than fifteen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leading {
    pub(crate) digits: u64,
    pub(crate) decimals: usize,
    pub(crate) len: usize,
}

impl Leading {
    #[inline(always)]
    pub(crate) fn value(self) -> f64 {
        const WORTH: [f64; 9] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];
        // Both are floats, unless the number is whole: it is rounded once either way.
        self.digits.cast_signed() as f64 / WORTH[self.decimals.min(8)]
    }
}

/// The number at the front, as JSON has it without a sign and an exponent: up to eight decimals behind digits, of which the first of several is not
/// `0`. The number ends before a sign that is neither a digit nor, unless there are decimals, a point. All others are `None`, numbers too, and so is
/// one with less than 32 bytes from its begin on.
#[inline(always)]
pub(crate) fn leading(data: &[u8]) -> Option<Leading> {
    const TENS: [u64; 9] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
    // Of a length that is known, so that what is read of it need not be checked.
    let data = data.first_chunk::<32>()?;
    let (signs, mut len) = first(data, 0)?;
    if len == 0 || (len > 1 && signs & 0xff == 0) {
        return None;
    }
    let mut digits = eight(front(signs, len));
    if len == 8 {
        let (signs, more) = first(data, 8)?;
        if more > 0 {
            digits = digits * TENS[more] + eight(front(signs, more));
            len += more;
        }
    }
    let next = *data.get(len)?;
    if next != b'.' {
        return if next.is_ascii_digit() { None } else { Some(Leading { digits, decimals: 0, len }) };
    }
    let (signs, decimals) = first(data, len + 1)?;
    let all = len + 1 + decimals;
    if decimals == 0 || len + decimals > 15 || (decimals == 8 && data.get(all)?.is_ascii_digit()) {
        return None;
    }
    Some(Leading { digits: digits * TENS[decimals] + eight(front(signs, decimals)), decimals, len: all })
}

/// Eight signs from a place on, each as its distance from `0`, and how many digits they begin with.
#[inline(always)]
fn first(data: &[u8; 32], at: usize) -> Option<(u64, usize)> {
    let signs = u64::from_le_bytes(*data.get(at..)?.first_chunk::<8>()?) ^ ZEROS;
    Some((signs, no_digits(signs).trailing_zeros() as usize / 8))
}

/// So many of the first signs, and not none, behind zeros.
#[inline(always)]
fn front(signs: u64, len: usize) -> u64 {
    signs.wrapping_shl(64_u32.wrapping_sub(8 * len as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cell;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn numbers_among_others_are_read_as_by_themselves(
            before in prop_oneof!["[0-9.,]{8,20}", ".{0,12}"],
            text in prop_oneof!["-?[0-9]{0,18}", "-?[0-9]{1,9}[.][0-9]{0,9}", "[0-9.]{0,17}", "[-+/:0-9.eE ]{1,8}", ".{1,9}"].prop_filter("none", |text| !text.is_empty()),
            after in "[0-9.,]{0,9}",
        ) {
            let data = format!("{before},{text},{after}").into_bytes();
            let end = before.len() + 1 + text.len();
            if let Some(found) = float(&data, end, text.len()).map(Quotient::value) {
                prop_assert_eq!(Some(found.to_bits()), cell::float(text.as_bytes()).map(f64::to_bits), "{}", text);
            }
            if let Some(found) = whole(&data, end, text.len()) {
                prop_assert_eq!(Some(found), cell::integer(text.as_bytes()), "{}", text);
            }
        }

        #[test]
        fn plain_numbers_are_read(negative in any::<bool>(), whole_part in 0..100_000_000_u32, part in proptest::option::of("[0-9]{1,7}"), id in 0..10_000_000_000_000_000_u64) {
            let sign = if negative { "-" } else { "" };
            let text = part.map_or(format!("{sign}{whole_part}"), |part| format!("{sign}{whole_part}.{part}"));
            let data = format!("12345.6,{text},");
            prop_assert_eq!(float(data.as_bytes(), 8 + text.len(), text.len()).map(|found| found.value().to_bits()), text.parse().ok().map(f64::to_bits), "{}", text);
            let data = format!("12345.6,{id},");
            prop_assert_eq!(whole(data.as_bytes(), data.len() - 1, data.len() - 9), Some(id as i64));
        }

        #[test]
        fn numbers_at_the_front_are_read_as_by_themselves(
            text in prop_oneof!["[0-9]{1,18}", "[0-9]{1,10}[.][0-9]{0,10}", "[0-9]{6,9}[.][0-9]{6,10}", "[0-9.]{0,20}", ".{0,9}"],
            after in prop_oneof![Just(",".to_owned()), Just("}\n".to_owned()), "[-+eE .0-9]"],
            behind in "[ -~]{0,40}",
        ) {
            let data = format!("{text}{after}{behind}").into_bytes();
            let is_plain = text.bytes().all(|sign| sign.is_ascii_digit() || sign == b'.') && text.parse::<f64>().is_ok();
            match leading(&data) {
                Some(found) => {
                    let text = std::str::from_utf8(&data[..found.len]).unwrap();
                    prop_assert_eq!(Some(found.value().to_bits()), text.parse().ok().map(f64::to_bits), "{}", text);
                    prop_assert_eq!(serde_json::from_str::<f64>(text).ok().map(f64::to_bits), Some(found.value().to_bits()), "{}", text);
                    if found.decimals == 0 {
                        prop_assert_eq!(Some(found.digits), text.parse().ok());
                    }
                    let next = data[found.len];
                    prop_assert!(!next.is_ascii_digit() && (next != b'.' || found.decimals > 0));
                }
                None if is_plain && data.len() >= 32 && !after.bytes().all(|sign| sign == b'.' || sign.is_ascii_digit()) => {
                    let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
                    let fits = if text.contains('.') { part.len() <= 8 && whole.len() + part.len() <= 15 } else { whole.len() <= 16 };
                    prop_assert!(!fits || part.is_empty() || whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')), "{}", text);
                }
                None => {}
            }
        }
    }
}
