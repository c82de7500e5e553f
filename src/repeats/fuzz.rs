//! Fuzz target for any bytes as the answer that another gateway stored.

use super::Shared;

const ID: &str = "00112233445566778899aabbccddeeff";

/// An accepted text belongs to the expected request, is written again as the same bytes, and none of its prefixes is
/// accepted.
///
/// # Panics
/// If not.
pub(crate) fn shared(bytes: &[u8]) {
    let Some((became, answer)) = Shared::read(bytes, ID) else { return };
    assert!((200..600).contains(&answer.status), "{answer:?}");
    assert_eq!(Shared::write(ID, became, &answer), bytes, "{answer:?}");
    assert_eq!(Shared::read(bytes, &ID[1..]), None, "another request");
    for end in 0..bytes.len() {
        assert_eq!(Shared::read(&bytes[..end], ID), None, "cut off at {end}");
    }
}
