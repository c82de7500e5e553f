//! Request ids.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::HeaderValue;

use crate::telemetry::PerThread;

/// Generates request ids: 32 hexadecimal digits, unique, and without a hint of how many requests there were.
pub struct RequestIds {
    /// The name of this gateway in `Via`, which no other gateway has.
    pub(super) via: HeaderValue,
    /// Has random keys, drawn at start.
    keyed: RandomState,
    /// A counter for each thread, each from another start.
    next: PerThread<AtomicU64>,
}

impl Default for RequestIds {
    fn default() -> Self {
        let keyed = RandomState::new();
        let via = HeaderValue::try_from(format!("1.1 saltgate-{:016x}", keyed.hash_one("via")));
        Self {
            // This cannot fail: hexadecimal digits are valid in a field value.
            via: via.unwrap_or(HeaderValue::from_static("1.1 saltgate")),
            keyed,
            next: PerThread::new(|place| AtomicU64::new((place as u64) << 56)),
        }
    }
}

impl RequestIds {
    pub(super) fn next(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let n = self.next.mine().fetch_add(1, Ordering::Relaxed);
        // No counter gets so far that one id's number equals the other half of another's.
        let [high, low] = [n, !n].map(|half| self.keyed.hash_one(half));
        let id = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(id) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        // With its reference count in one allocation: a copy of a slice gets a second one when it is cloned.
        let text = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
        // This cannot fail: hexadecimal digits are valid in a field value.
        text.unwrap_or(HeaderValue::from_static("unknown"))
    }
}
