//! A signature that a client claims.

use std::fmt;

/// A claimed signature: 32 bytes that mean nothing until [`SigningKey::verify`](super::SigningKey::verify) has
/// checked them.
///
/// There is no `PartialEq` and no access to the bytes from outside, so that only `verify` can compare it.
pub struct Signature([u8; 32]);

impl Signature {
    /// Parses 64 lower-case hexadecimal digits. Upper case is refused, so that a signature has only one spelling.
    pub fn parse(hex: &[u8]) -> Option<Self> {
        let hex: &[u8; 64] = hex.try_into().ok()?;
        // Without a branch or a table for each digit, so that it compiles to SIMD instructions.
        let values = hex.map(value);
        let all = values.iter().fold(0, |all, value| all | value);
        let (pairs, _) = values.as_chunks::<2>();
        (all != NO_DIGIT).then(|| Self(std::array::from_fn(|n| pairs[n][0] << 4 | pairs[n][1])))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal digits of a MAC.
pub(super) fn to_hex(bytes: &[u8; 32]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Has all bits set: OR-ing anything with it gives it again.
const NO_DIGIT: u8 = 0xff;

/// The value of a byte as a lower-case hexadecimal digit.
fn value(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => NO_DIGIT,
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_hex_is_accepted() {
        let good = "0123456789abcdef".repeat(4);
        let longer = format!("{good}0");
        let cases: [(&str, &str, bool); 8] = [
            ("64 digits", &good, true),
            ("63 digits", &good[1..], false),
            ("65 digits", &longer, false),
            ("empty", "", false),
            ("upper case", &good.to_uppercase(), false),
            ("one upper-case digit", &good.replacen('a', "A", 1), false),
            ("past f", &good.replacen('a', "g", 1), false),
            ("between 9 and a", &good.replacen('0', ":", 1), false),
        ];
        for (name, hex, good) in cases {
            assert_eq!(Signature::parse(hex.as_bytes()).is_some(), good, "{name}");
        }
    }

    #[test]
    fn hex_round_trips() {
        let bytes: [u8; 32] = std::array::from_fn(|i| (i * 37) as u8);
        assert_eq!(Signature::parse(to_hex(&bytes).as_bytes()).unwrap().bytes(), &bytes);
    }

    #[test]
    fn debug_shows_nothing() {
        let signature = Signature::parse("ab".repeat(32).as_bytes()).unwrap();
        assert_eq!(format!("{signature:?}"), "Signature(redacted)");
    }
}
