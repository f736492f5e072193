//! Digits as they stand in files, eight at a time: read and written.

use crate::room::{self, Room};

/// The number that digits with at most one point among them make: its digits, and how many of them stand behind the point. `None` for all else:
/// no digit, a point at the begin or the end, a sign, more than sixteen signs.
///
/// ```
/// use pipeline_files::decimal::plain;
///
/// assert_eq!(plain(b"186.5506"), Some((1_865_506, 4)));
/// assert_eq!(plain(b"1633158000000"), Some((1_633_158_000_000, 0)));
/// assert_eq!(plain(b"-1"), None);
/// ```
#[inline]
pub fn plain(text: &[u8]) -> Option<(u64, usize)> {
    if text.len() <= 8 { short(text) } else { long(text).or_else(|| longest(text)) }
}

/// As [`plain`], for more than eight signs of which the first eight have the point, or none has.
#[inline]
fn long(text: &[u8]) -> Option<(u64, usize)> {
    const TENS: [u64; 9] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let first = u64::from_le_bytes(*text.first_chunk::<8>()?) ^ ZEROS;
    let last = u64::from_le_bytes(*text.last_chunk::<8>()?) ^ ZEROS;
    let beside = first ^ u64::from_ne_bytes([b'.' ^ b'0'; 8]);
    // The lowest of these bits is at the first point.
    let point = beside.wrapping_sub(ONES) & !beside & HIGH;
    let (before, behind, decimals) = if point == 0 {
        (first, text.len() - 8, 0)
    } else {
        let at = point.trailing_zeros() / 8;
        let decimals = text.len() - 1 - at as usize;
        (first.checked_shl(64 - 8 * at)?, decimals, decimals)
    };
    // As many of the last signs as are digits behind the first ones; the others become zeros.
    let others = 64 - 8 * u32::try_from(behind).ok()?.min(8);
    let last = last.checked_shr(others)? << others;
    let is_digits = |signs: u64| (((signs & !HIGH) + (HIGH - 10 * ONES)) | signs) & HIGH == 0;
    if !is_digits(before) || !is_digits(last) {
        return None;
    }
    Some((eight(before) * TENS.get(behind)? + eight(last), decimals))
}

macro_rules! plain {
    ($name:ident, $signs:ident, $word:ty, $bytes:literal, |$digits:ident| $value:expr) => {
        #[inline]
        fn $name(text: &[u8]) -> Option<(u64, usize)> {
            const NINES: $word = <$word>::from_ne_bytes([0x7f - 9; $bytes]);
            const LOW: $word = <$word>::from_ne_bytes([0x7f; $bytes]);
            const POINT: u8 = b'.' ^ b'0';
            let value = |$digits: $word| $value;
            // The last sign in the last byte, each as its distance from `0`; what stands before is 0.
            let signs: $word = $signs(text)?;
            let others = (((signs & LOW) + NINES) | signs) & !LOW;
            if others == 0 {
                return Some((value(signs), 0));
            }
            let at = others.trailing_zeros() / 8;
            let decimals = $bytes - 1 - at as usize;
            let is_point = others & (others - 1) == 0 && (signs >> (8 * at)) as u8 == POINT;
            if !is_point || decimals == 0 || decimals + 1 == text.len() {
                return None;
            }
            // The digits before the point move into its place.
            let before = signs & ((1 << (8 * at)) - 1);
            let behind = signs >> (8 * at + 8) << (8 * at + 8);
            Some((value(behind | before << 8), decimals))
        }
    };
}

plain!(short, up_to_8, u64, 8, |digits| eight(digits));
plain!(longest, up_to_16, u128, 16, |digits| eight(digits as u64) * 100_000_000 + eight((digits >> 64) as u64));

pub(crate) const ZEROS: u64 = u64::from_ne_bytes([b'0'; 8]);

#[inline]
fn up_to_16(text: &[u8]) -> Option<u128> {
    let (first, last) = (text.first_chunk::<8>()?, text.last_chunk::<8>()?);
    let twice = 16_usize.checked_sub(text.len())?;
    let first = u64::from_le_bytes(*first) ^ ZEROS;
    // The two overlap; of eight signs nothing is left of the first.
    let first = first.checked_shl(8 * twice as u32).unwrap_or_default();
    Some(u128::from(first) | u128::from(u64::from_le_bytes(*last) ^ ZEROS) << 64)
}

#[inline]
fn up_to_8(text: &[u8]) -> Option<u64> {
    match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            let (first, last) = (u32::from_le_bytes(*first) ^ ZEROS as u32, u32::from_le_bytes(*last) ^ ZEROS as u32);
            let first = first.checked_shl(8 * 8_usize.checked_sub(text.len())? as u32).unwrap_or_default();
            Some(u64::from(first) | u64::from(last) << 32)
        }
        _ if text.is_empty() => None,
        _ => Some(text.iter().fold(0, |signs, sign| signs >> 8 | u64::from(sign ^ b'0') << 56)),
    }
}

/// The number of eight digits, the first in the lowest byte: neighbours are put together to numbers of two digits; of those, every second one at a
/// time is multiplied with what it is worth, so that all that counts comes together in the upper half.
///
/// ```
/// assert_eq!(pipeline_files::decimal::eight(u64::from_le_bytes([0, 0, 1, 8, 6, 5, 5, 0])), 186_550);
/// ```
#[inline]
pub fn eight(digits: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let (first, second) = (pairs & PAIRS, (pairs >> 16) & PAIRS);
    first.wrapping_mul(1_000_000 << 32 | 100).wrapping_add(second.wrapping_mul(10_000 << 32 | 1)) >> 32
}

/// Writes a number as the shortest text that is read back as it, as `zmij` has it.
///
/// ```
/// let mut out = Vec::new();
/// pipeline_files::decimal::write(-186.5506, &mut out);
/// assert_eq!(out, b"-186.5506");
/// ```
#[inline]
pub fn write(value: f64, out: &mut Vec<u8>) {
    if !few_decimals(value, out) {
        out.extend_from_slice(zmij::Buffer::new().format(value).as_bytes());
    }
}

/// As [`write`], to the begin of a room. How many signs it has, at most 24.
///
/// ```
/// let mut room = [0; pipeline_files::room::WIDTH];
/// let len = pipeline_files::decimal::put(-186.5506, &mut room);
/// assert_eq!(&room[..len], b"-186.5506");
/// ```
#[inline(always)]
pub fn put(value: f64, room: &mut Room) -> usize {
    few(value, room).unwrap_or_else(|| many(value, room))
}

#[inline(never)]
fn many(value: f64, room: &mut Room) -> usize {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value).as_bytes();
    room.iter_mut().zip(text).for_each(|(place, sign)| *place = *sign);
    text.len()
}

/// Writes a whole number to the begin of a room. How many signs it has, at most 20.
#[inline]
pub fn put_whole(number: i64, room: &mut Room) -> usize {
    room::place([b'-'], 0, room);
    whole(number.unsigned_abs(), usize::from(number < 0), room)
}

#[inline]
fn few_decimals(value: f64, out: &mut Vec<u8>) -> bool {
    room::append(out, |room| few(value, room))
}

/// Writes a number with few decimals, as prices have; `None` when it has more. Of at most 15 digits no two decimals are one float, so the only one
/// of them that is read back as `value` is the shortest.
#[inline(always)]
fn few(value: f64, room: &mut Room) -> Option<usize> {
    const LEAST: u64 = 1e-5_f64.to_bits();
    const MOST: u64 = 1e11_f64.to_bits();
    let size = value.abs();
    // Too small or too large to be written without an exponent, or no number. Bits of floats are in the order of the floats.
    if size.to_bits().wrapping_sub(LEAST) >= MOST - LEAST && size != 0.0 {
        return None;
    }
    room::place([b'-'], 0, room);
    let at = (value.to_bits() >> 63) as usize;
    let Some(scaled) = scaled(size, 1e4) else { return more(size, at, room) };
    let (whole, part) = (scaled / 10_000, (scaled % 10_000) as u32);
    let at = if whole < GROUP { first(whole as u32, at, room) } else { large(whole, at, room) };
    let part = u64::from(four(part));
    room::place((u64::from(b'.') | (part | ZEROS >> 32) << 8).to_le_bytes(), at, room);
    Some(at + 1 + behind(part))
}

/// As [`few`], for five to eight decimals.
#[inline]
fn more(size: f64, at: usize, room: &mut Room) -> Option<usize> {
    let scaled = scaled(size, 1e8).filter(|_| size < 1e7)?;
    let at = first((scaled / GROUP) as u32, at, room);
    let part = digits((scaled % GROUP) as u32);
    room::place([b'.'], at, room);
    room::place((part | ZEROS).to_le_bytes(), at + 1, room);
    Some(at + 1 + behind(part))
}

/// The whole number that is `size`, so many times as large, if it is one.
#[inline(always)]
fn scaled(size: f64, scale: f64) -> Option<u64> {
    // Floats of this size are whole numbers, one after another.
    const WHOLE: f64 = (1_u64 << 52) as f64;
    let sum = size * scale + WHOLE;
    ((sum - WHOLE) / scale == size).then_some(sum.to_bits() & ((1 << 52) - 1))
}

/// How many of the digits behind a point are written: zeros at the end are left out but for the first.
#[inline(always)]
pub(crate) fn behind(digits: u64) -> usize {
    8 - (digits | 1).leading_zeros() as usize / 8
}

/// More are written group by group.
const GROUP: u64 = 100_000_000;

/// Writes a whole number to a place of a room that has twenty bytes more, and says where it ends.
#[inline(always)]
pub(crate) fn whole(number: u64, at: usize, room: &mut Room) -> usize {
    if number < GROUP {
        return first(number as u32, at, room);
    }
    let (upper, lower) = (number / GROUP, (number % GROUP) as u32);
    let at = if upper < GROUP {
        first(upper as u32, at, room)
    } else {
        let at = first((upper / GROUP) as u32, at, room);
        group((upper % GROUP) as u32, at, room)
    };
    group(lower, at, room)
}

/// Prices are seldom as large.
#[cold]
#[inline(never)]
fn large(number: u64, at: usize, room: &mut Room) -> usize {
    whole(number, at, room)
}

/// Writes a number of at most eight digits without the zeros before it.
#[inline(always)]
fn first(number: u32, at: usize, room: &mut Room) -> usize {
    let digits = digits(number);
    // The last digit is written in any case.
    let skipped = (digits | 1 << 56).trailing_zeros();
    room::place(((digits | ZEROS) >> (skipped & !7)).to_le_bytes(), at, room);
    at + 8 - skipped as usize / 8
}

/// Writes a number of at most eight digits with the zeros before it.
#[inline(always)]
fn group(number: u32, at: usize, room: &mut Room) -> usize {
    room::place((digits(number) | ZEROS).to_le_bytes(), at, room);
    at + 8
}

/// The four digits of a number that has no more, the first in the lowest byte.
#[inline(always)]
pub(crate) fn four(number: u32) -> u32 {
    let hundreds = (number * 5243) >> 19;
    let pairs = (number << 16) - hundreds * ((100 << 16) - 1);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f;
    (pairs << 8) - tens * ((10 << 8) - 1)
}

/// The eight digits of a number that has no more, the first in the lowest byte: it is cut into numbers of four digits, then of two, then of one.
/// A part goes up, and what it was worth is taken away from the rest of it, in one subtraction.
#[inline(always)]
pub(crate) fn digits(number: u32) -> u64 {
    let fours = (u64::from(number) << 32) - u64::from(number / 10_000) * ((10_000 << 32) - 1);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = (fours << 16) - hundreds * ((100 << 16) - 1);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    (pairs << 8) - tens * ((10 << 8) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slowly(text: &[u8]) -> Option<(u64, usize)> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= 16)?;
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|sign| sign.is_ascii_digit());
        let whole_text = !whole.is_empty() && digits(whole) && digits(part) && (!part.is_empty() || !text.contains('.'));
        whole_text.then(|| (format!("{whole}{part}").parse().unwrap(), part.len()))
    }

    proptest! {
        #[test]
        fn digits_are_read_as_one_by_one(
            text in prop_oneof!["[0-9]{0,18}", "[0-9]{0,10}[.][0-9]{0,10}", "[0-9.]{0,17}", "[-+/:0-9.eE ]{1,8}"],
            place in any::<prop::sample::Index>(),
            byte in prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)],
        ) {
            let mut text = text.into_bytes();
            if let (Some(byte), false) = (byte, text.is_empty()) {
                let place = place.index(text.len());
                text[place] = byte;
            }
            prop_assert_eq!(plain(&text), slowly(&text), "{:?}", String::from_utf8_lossy(&text));
        }
    }

    fn written(value: f64) -> String {
        let mut out = Vec::new();
        write(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_at_the_edges_are_written_as_the_shortest_text() {
        for value in [
            0.0,
            -0.0,
            1.0,
            -1.5,
            0.001,
            0.000_999_99,
            1e-5,
            0.000_012_34,
            0.000_009_99,
            0.000_01 + 1e-13,
            99_999_999.0,
            100_000_000.25,
            9_999_999.999_999_99,
            99_999_999_999.999_9,
            1e7,
            1e7 + 0.0001,
            1e11,
            1e16,
            1e-7,
            0.1 + 0.2,
            f64::NAN,
            -f64::INFINITY,
        ] {
            let mut buffer = zmij::Buffer::new();
            assert_eq!(written(value), buffer.format(value));
            assert_eq!(written(-value), buffer.format(-value));
        }
        let mut out = Vec::new();
        assert!(few_decimals(54_253.737_4, &mut out) && few_decimals(14_463_682.34, &mut out) && few_decimals(-0.025, &mut out));
        assert_eq!(out, b"54253.737414463682.34-0.025");
        assert!(!few_decimals(0.1 + 0.2, &mut out) && !few_decimals(-0.1 - 0.2, &mut out));
        assert_eq!(out, b"54253.737414463682.34-0.025");
    }

    #[test]
    fn whole_numbers_are_written_with_all_their_digits() {
        let edges = [0, 9, 10, 99_999_999, 100_000_000, 1_633_158_000_000, 9_999_999_999_999_999, 10_000_000_000_000_000, i64::MAX, i64::MIN];
        for number in edges.into_iter().flat_map(|number| [number, number.wrapping_neg()]) {
            assert_eq!(put_whole_text(number), number.to_string());
        }
    }

    fn put_whole_text(number: i64) -> String {
        let mut room = [b'x'; room::WIDTH];
        let len = put_whole(number, &mut room);
        String::from_utf8(room[..len].to_vec()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn numbers_are_written_as_the_shortest_text(
            value in prop_oneof![any::<f64>(), 1e-4..1e12, (-1_000_000_000_000_000_i64..1_000_000_000_000_000, 0..16).prop_map(|(n, e)| n as f64 / 10_f64.powi(e))],
        ) {
            let (text, mut buffer) = (written(value), zmij::Buffer::new());
            prop_assert_eq!(text.as_str(), buffer.format(value));
            let mut room = [b'x'; room::WIDTH];
            let len = put(value, &mut room);
            prop_assert_eq!(&room[..len], text.as_bytes());
        }

        #[test]
        fn eight_digits_are_those_of_the_number(number in 0..GROUP) {
            let signs = format!("{number:08}").into_bytes().into_iter().rev().fold(0, |signs, sign| signs << 8 | u64::from(sign - b'0'));
            prop_assert_eq!(eight(signs), number);
        }

        #[test]
        fn digits_are_those_of_the_number(number in any::<i64>(), shift in 0..64_u32) {
            let number = number >> shift;
            prop_assert_eq!(put_whole_text(number), number.to_string());
            let few = number.rem_euclid(10_000);
            let four = (four(few as u32) | ZEROS as u32).to_le_bytes();
            prop_assert_eq!(four.to_vec(), format!("{few:04}").into_bytes());
        }
    }
}
