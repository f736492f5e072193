//! Values of JSON in the forms that most have, at the front of some bytes, each with its length.
//!
//! One is read here only where it is beyond doubt what serde_json makes of it; of all others, right or wrong, nothing is said.

use super::{instant, whole_instant};
use crate::{cell, digits};
use pipeline_files::time::TimeFormat;

/// The length of a value of which nothing is wanted.
pub(super) fn scalar(data: &[u8]) -> Option<usize> {
    match data.first()? {
        b'"' => text(data).map(|text| text.len() + 2),
        b't' | b'f' => boolean(data).map(|(_, len)| len),
        b'n' => data.starts_with(b"null").then_some(4),
        _ => {
            let (negative, rest) = signed(data);
            digits::leading(rest).map(|found| found.len + usize::from(negative)).or_else(|| number(data))
        }
    }
}

pub(super) fn boolean(data: &[u8]) -> Option<(bool, usize)> {
    if data.starts_with(b"true") { Some((true, 4)) } else { data.starts_with(b"false").then_some((false, 5)) }
}

/// The text in quotes at the front, without escapes. It is UTF-8.
#[inline(always)]
pub(super) fn text(data: &[u8]) -> Option<&[u8]> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let (b'"', text) = data.split_first()? else { return None };
    let mut rest = text;
    let mut others = 0;
    loop {
        let (bytes, behind) = rest.split_first_chunk::<8>()?;
        let bytes = u64::from_le_bytes(*bytes);
        let below = |bytes: u64, bound: u64| bytes.wrapping_sub(ONES * bound) & !bytes;
        // Of each of the three the lowest bit is at the first such byte; the higher ones may be wrong.
        let marks = (below(bytes ^ (ONES * u64::from(b'"')), 1) | below(bytes ^ (ONES * u64::from(b'\\')), 1) | below(bytes, 0x20)) & HIGH;
        others |= bytes;
        if marks != 0 {
            let at = text.len() - rest.len() + marks.trailing_zeros() as usize / 8;
            let (text, end) = text.split_at_checked(at)?;
            // What stands behind the text may have been among the others.
            let is_utf8 = others & HIGH == 0 || std::str::from_utf8(text).is_ok();
            return (end.first() == Some(&b'"') && is_utf8).then_some(text);
        }
        rest = behind;
    }
}

/// Whether a `-` stands at the front, and what stands behind it.
#[inline(always)]
fn signed(data: &[u8]) -> (bool, &[u8]) {
    match data {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, data),
    }
}

#[inline(always)]
pub(super) fn float(data: &[u8]) -> Option<(f64, usize)> {
    let (negative, rest) = signed(data);
    match digits::leading(rest) {
        Some(found) if negative => Some((-found.value(), found.len + 1)),
        Some(found) => Some((found.value(), found.len)),
        None => long_float(data),
    }
}

#[inline(never)]
fn long_float(data: &[u8]) -> Option<(f64, usize)> {
    let len = number(data)?;
    Some((cell::float(data.get(..len)?)?, len))
}

#[inline]
pub(super) fn integer(data: &[u8]) -> Option<(i64, usize)> {
    let (negative, rest) = signed(data);
    match digits::leading(rest) {
        Some(found) => whole(negative, found),
        None => long_integer(data),
    }
}

#[inline(never)]
fn long_integer(data: &[u8]) -> Option<(i64, usize)> {
    let len = number(data)?;
    Some((cell::integer(data.get(..len)?)?, len)).filter(|(value, _)| *value != 0)
}

#[inline(always)]
fn whole(negative: bool, found: digits::Leading) -> Option<(i64, usize)> {
    let value = found.digits.cast_signed();
    // serde_json takes `-0` for a float.
    if found.decimals > 0 || (negative && value == 0) {
        return None;
    }
    Some(if negative { (-value, found.len + 1) } else { (value, found.len) })
}

/// An instant, of a number or a text.
#[inline]
pub(super) fn timestamp(data: &[u8], time: &TimeFormat) -> Option<(i64, usize)> {
    if data.first() == Some(&b'"') {
        let text = text(data)?;
        return Some((time.read(text)?, text.len() + 2));
    }
    let (negative, rest) = signed(data);
    let found = digits::leading(rest)?;
    if let Some((number, len)) = whole(negative, found) {
        return Some((whole_instant(time, number)?, len));
    }
    let value = if negative { -found.value() } else { found.value() };
    Some((instant(time, value)?, found.len + usize::from(negative)))
}

/// The length of the number at the front, in a form that JSON has, too, without an exponent. Longer ones than anybody writes are left out.
fn number(data: &[u8]) -> Option<usize> {
    let digits = |data: &[u8]| data.iter().take_while(|sign| sign.is_ascii_digit()).count();
    let data = data.get(..data.len().min(40))?;
    let (negative, rest) = signed(data);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest.first() == Some(&b'0')) {
        return None;
    }
    let len = usize::from(negative) + whole;
    if data.get(len) != Some(&b'.') {
        return (len < data.len()).then_some(len);
    }
    let decimals = digits(data.get(len + 1..)?);
    let len = len + 1 + decimals;
    (decimals > 0 && len < data.len()).then_some(len)
}
