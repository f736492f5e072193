//! Texts as they stand in cells, which are short.

/// Adds a text. Of eight to sixteen bytes, as names and codes have, it is copied without a call.
///
/// ```
/// let mut out = b"id=".to_vec();
/// pipeline_files::text::append(b"ethereum-2", &mut out);
/// assert_eq!(out, b"id=ethereum-2");
/// ```
#[inline]
pub fn append(text: &[u8], out: &mut Vec<u8>) {
    match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) if text.len() <= 16 => {
            let end = out.len() + text.len();
            out.extend_from_slice(first);
            // The two overlap.
            out.truncate(end - 8);
            out.extend_from_slice(last);
        }
        _ => out.extend_from_slice(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_any_length_are_added_whole() {
        let signs = "abcdefghijklmnopqrstuvwxyz".as_bytes();
        for len in 0..signs.len() {
            let mut out = b"-".to_vec();
            append(&signs[..len], &mut out);
            assert_eq!(out, [b"-", &signs[..len]].concat());
        }
    }
}
