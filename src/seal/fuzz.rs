//! Fuzz target for sealed secrets.

use super::text::Sealed;
use super::{Kek, KeyRing, Place, SecretSlot};
use crate::credential::Secret;

/// Any text as a sealed secret: it has one spelling, and it opens only where it was sealed. Any bytes as a secret: what is
/// sealed opens as it was, and does not after a change.
pub(crate) fn fuzz(bytes: &[u8]) {
    let ring = KeyRing::new(vec![("fuzz".into(), Kek::of_file(&[7; 32]).expect("32 bytes"))]);
    let here = Place { api_key: "KEY", slot: SecretSlot::First };
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(sealed) = Sealed::parse(text) {
            assert_eq!(sealed.to_string(), text);
        }
        for slot in [SecretSlot::First, SecretSlot::Second] {
            assert!(ring.open(Place { slot, ..here }, text).is_err(), "nobody knows the key");
        }
    }
    let Some((at, content)) = bytes.split_first() else { return };
    let Ok(secret) = Secret::new(content) else { return };
    let sealed = ring.seal(here, &secret).expect("random bytes");
    assert_eq!(ring.open(here, &sealed).expect("it opens").expose(), content);
    assert!(ring.open(Place { slot: SecretSlot::Second, ..here }, &sealed).is_err());
    assert!(ring.open(Place { api_key: "KEZ", ..here }, &sealed).is_err());
    let mut changed = sealed.into_bytes();
    let at = usize::from(*at) % changed.len();
    changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
    assert!(ring.open(here, std::str::from_utf8(&changed).expect("ASCII")).is_err());
}
