//! The ids of requests.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

use crate::telemetry::PerThread;

/// Where request ids come from: 32 hexadecimal digits, unlike any other's, telling nobody how
/// many requests there were.
pub struct RequestIds {
    /// What this gateway calls itself in `Via`, unlike any other.
    pub(super) via: HeaderValue,
    /// Keyed at random per process.
    keyed: RandomState,
    /// Each thread counts from a place of its own.
    next: PerThread<AtomicU64>,
}

impl Default for RequestIds {
    fn default() -> Self {
        let keyed = RandomState::new();
        let via = HeaderValue::try_from(format!("1.1 saltgate-{:016x}", keyed.hash_one("via")));
        Self {
            // Hexadecimal digits are of a field value.
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
        // No place counts so far that one's number is the other half of another's.
        let [high, low] = [n, !n].map(|half| self.keyed.hash_one(half));
        let id = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(id) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        // Hexadecimal digits are a header value.
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unknown"))
    }
}
