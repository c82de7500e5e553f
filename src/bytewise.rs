//! Checks whether all bytes of a text are of a certain kind, many at a time.

/// Whether `fit` holds for every byte.
///
/// Sixteen or eight bytes are checked at once, by SIMD instructions, if `fit` consists of comparisons without a
/// branch. The last chunk overlaps the one before. So only texts of fewer than eight bytes are checked byte by byte.
#[inline(always)]
pub(crate) fn all(bytes: &[u8], fit: impl Fn(u8) -> bool) -> bool {
    // The compiler turns a loop of constant length without an early exit into one vector comparison.
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
    fn an_unfit_byte_is_found_at_every_position() {
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
