//! Values as JSON.

/// A float, as the shortest text that is read as the same float. What JSON has no number for is a text that says what it is: null would be a loss.
pub(crate) fn float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        pipeline_files::decimal::write(value, out);
    } else {
        out.extend_from_slice(if value.is_nan() {
            b"\"NaN\""
        } else if value > 0.0 {
            b"\"inf\""
        } else {
            b"\"-inf\""
        });
    }
}

/// Must it be escaped in a text?
pub(crate) fn escapes(sign: u8) -> bool {
    sign < 0x20 || matches!(sign, b'"' | b'\\')
}

/// A text in quotes, escaped as `serde_json` does.
pub(crate) fn text(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|sign| escapes(*sign)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            sign @ (b'"' | b'\\') => out.extend([b'\\', sign]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            sign => out.extend([b'\\', b'u', b'0', b'0', HEX[usize::from(sign >> 4)], HEX[usize::from(sign & 15)]]),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_and_floats_are_those_of_serde_json(any in any::<String>(), signs in "[\\x00-\\x30\"\\\\é]{0,8}", number in any::<f64>()) {
            for one in [any, signs] {
                let mut out = Vec::new();
                text(&one, &mut out);
                prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&one).unwrap());
            }
            let mut out = Vec::new();
            float(number, &mut out);
            if number.is_finite() {
                prop_assert_eq!(serde_json::from_slice::<f64>(&out).unwrap().to_bits(), number.to_bits());
            }
        }
    }
}
