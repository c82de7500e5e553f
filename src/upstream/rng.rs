//! Random numbers for the choice of a server. Not for secrets.

use std::sync::atomic::{AtomicU64, Ordering};

/// The random numbers of one worker: SplitMix64, seeded by the operating system.
pub(super) struct Rng(AtomicU64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Rng {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(getrandom::u64().unwrap_or(STEP)))
    }

    pub(super) fn next(&self) -> u64 {
        mixed(self.0.fetch_add(STEP, Ordering::Relaxed))
    }
}

/// SplitMix64's finalizer: similar seeds give unrelated numbers.
pub(super) fn mixed(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}
