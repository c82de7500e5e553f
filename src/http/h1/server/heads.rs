//! Where the heads of requests are kept.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// The size of a block that heads are copied to. A slow request keeps a whole one.
const BLOCK: usize = 8 << 10;
/// The largest head that is copied there.
const SMALL: usize = 1 << 10;

thread_local! {
    /// What is left of a block for the next heads: most requests need no allocation for theirs.
    static FREE: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(BLOCK));
}

/// Copies a head.
pub(super) fn copied(head: &[u8]) -> Bytes {
    if head.len() > SMALL {
        return Bytes::copy_from_slice(head);
    }
    FREE.with_borrow_mut(|free| {
        // If nothing is left, this takes the block from its beginning again or, if a head in it is still in use, another one.
        free.extend_from_slice(head);
        free.split().freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_keep_their_bytes_whatever_follows_them() {
        let head = |n: usize| format!("{n:04}").repeat(n % 300 + 1).into_bytes();
        // Some are dropped while later ones come.
        let mut kept: Vec<(usize, Bytes)> = Vec::new();
        for n in 0..1000 {
            kept.push((n, copied(&head(n))));
            kept.retain(|(other, _)| *other == n || other % 7 == 0 || n - other < 20);
            assert!(kept.iter().all(|(n, bytes)| *bytes == head(*n)));
        }
    }
}
