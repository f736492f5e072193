//! One cell of text as a value.

/// As `true`, `FALSE`, `1`, `0`.
pub(crate) fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"true" | b"1" => Some(true),
        b"false" | b"0" => Some(false),
        _ if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// A whole number.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    lexical_core::parse(text).ok()
}

/// A number, `NaN` and infinities (`inf`, `-Infinity`) included. One that is too large for a float is none: it would become infinite.
#[inline]
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    plain(text).or_else(|| any_float(text))
}

/// As [`float`], for digits with at most one point among them, as nearly all numbers are: digits that fit a float's 53 bits, divided by a power
/// of ten that is a float itself, are rounded once, and so are right. All others are `None`.
#[inline]
fn plain(text: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (value, decimals) = pipeline_files::decimal::plain(digits)?;
    if value > 1 << f64::MANTISSA_DIGITS {
        return None;
    }
    // Signed: the processor converts these in one step.
    let value = value.cast_signed() as f64 / POWERS.get(decimals)?;
    Some(if negative { -value } else { value })
}

#[cold]
fn any_float(text: &[u8]) -> Option<f64> {
    let value: f64 = lexical_core::parse(text).ok()?;
    (!value.is_infinite() || !text.iter().any(u8::is_ascii_digit)).then_some(value)
}

/// A number whose decimals stand behind a comma.
pub(crate) fn float_with_comma(text: &[u8]) -> Option<f64> {
    // Longer texts are no numbers that anybody writes.
    let mut copy = [0; 64];
    let copy = copy.get_mut(..text.len())?;
    for (to, from) in copy.iter_mut().zip(text) {
        *to = match from {
            b',' => b'.',
            b'.' => return None,
            other => *other,
        };
    }
    float(copy)
}

/// Without spaces and tabs around it.
pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    let is_blank = |sign: &u8| matches!(sign, b' ' | b'\t');
    let start = text.iter().position(|sign| !is_blank(sign)).unwrap_or(text.len());
    let end = text.iter().rposition(|sign| !is_blank(sign)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// As much of some bytes as a message or a reject has room for, as text.
pub(crate) fn shown(bytes: &[u8], most: usize) -> String {
    match bytes.get(..most) {
        Some(begin) if bytes.len() > most => format!("{}... ({} bytes)", String::from_utf8_lossy(begin), bytes.len()),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values() {
        assert_eq!(
            [&b"true"[..], b"True", b"1", b"0", b"FALSE", b"yes", b""].map(boolean),
            [Some(true), Some(true), Some(true), Some(false), Some(false), None, None]
        );
        assert_eq!(
            [&b"12"[..], b"-9223372036854775808", b"+5", b"9223372036854775808", b"1.0", b""].map(integer),
            [Some(12), Some(i64::MIN), Some(5), None, None, None]
        );
        assert_eq!(
            [&b"1.5"[..], b"-inf", b"1e308", b"1e309", b"1e", b"0x1", b"1_0"].map(float),
            [Some(1.5), Some(f64::NEG_INFINITY), Some(1e308), None, None, None, None]
        );
        assert!(float(b"NaN").is_some_and(f64::is_nan));
        assert_eq!([&b"1,5"[..], b"1.5", b"1.000,5", b"1"].map(float_with_comma), [Some(1.5), None, None, Some(1.0)]);
        assert_eq!(trimmed(b" \tx y "), b"x y");
        assert_eq!(trimmed(b"  "), b"");
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_the_standard_library_reads_them(text in prop_oneof!["[-+]?[0-9]{0,20}([.][0-9]{0,25})?([eE][-+]?[0-9]{0,3})?", any::<f64>().prop_map(|f| f.to_string())]) {
            let std = text.parse::<f64>().ok().filter(|f| f.is_finite() || !text.contains(|c: char| c.is_ascii_digit()));
            prop_assert_eq!(float(text.as_bytes()).map(f64::to_bits), std.map(f64::to_bits), "{}", text);
            prop_assert_eq!(integer(text.as_bytes()), text.parse().ok(), "{}", text);
        }
    }
}
