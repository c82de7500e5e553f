//! Fuzz target for snapshots of keys.

use super::entries::{decode, encode};
use super::sealed_file::parse;
use crate::seal::{Kek, KeyRing};

/// Any bytes as a file: nobody else can make one that opens. Any bytes as the keys in it: what is read is written back as it
/// was, and no part of it is read as a whole.
pub(crate) fn fuzz(bytes: &[u8]) {
    let ring = KeyRing::new(vec![("fuzz".into(), Kek::of_file(&[7; 32]).expect("32 bytes"))]);
    assert!(parse(&ring, bytes).is_err(), "nobody knows the key");
    if let Some(entries) = decode(bytes) {
        assert_eq!(*encode(&entries, 0), bytes);
        let boundaries = |at: &usize| decode(&bytes[..*at]).is_some();
        assert_eq!((0..bytes.len()).filter(boundaries).count(), entries.len(), "each key ends where it ends");
    }
}
