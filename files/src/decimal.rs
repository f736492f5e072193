//! Digits as they stand in files, eight at a time.

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
    if text.len() <= 8 { short(text) } else { long(text) }
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
plain!(long, up_to_16, u128, 16, |digits| eight(digits as u64) * 100_000_000 + eight((digits >> 64) as u64));

const ZEROS: u64 = u64::from_ne_bytes([b'0'; 8]);

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

/// Eight digits, the first in the lowest byte: neighbours are put together to numbers of two digits, then of four, then of eight.
#[inline]
fn eight(digits: u64) -> u64 {
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
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
}
