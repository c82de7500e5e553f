//! Judging bytes many at a time.

/// Whether each of these bytes is fit.
///
/// Sixteen or eight are told at once, by instructions that compare that many, where `fit` is made of
/// comparisons and has no branch; those at the end with some that were told before. So a text of any length
/// but the shortest is judged without a step for each byte.
#[inline(always)]
pub(crate) fn all(bytes: &[u8], fit: impl Fn(u8) -> bool) -> bool {
    // A loop of constant length, and without a way out of it, is one comparison.
    let each = |piece: &[u8]| piece.iter().fold(true, |all, &byte| all & fit(byte));
    if let Some(last) = bytes.last_chunk::<16>() {
        bytes.as_chunks::<16>().0.iter().all(|piece| each(piece)) && each(last)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        each(first) & each(last)
    } else {
        each(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_unfit_is_found_wherever_it_is() {
        for length in 0..70 {
            let mut bytes = vec![b'a'; length];
            assert!(all(&bytes, |byte| byte == b'a'), "{length}");
            for at in 0..length {
                bytes[at] = b'b';
                assert!(!all(&bytes, |byte| byte == b'a'), "{at} of {length}");
                bytes[at] = b'a';
            }
        }
    }
}
