//! Logs when a store of spent salts becomes full, and when it has room again: one line each.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the store is full, as the log last said.
#[derive(Default)]
pub(super) struct Fullness(AtomicBool);

impl Fullness {
    /// Logs that the store is full, unless it was already.
    #[cold]
    pub(super) fn begins(&self, max: usize) {
        if !self.0.swap(true, Ordering::AcqRel) {
            tracing::error!(
                max_salts = max,
                "the replay memory is full: requests are refused (503) until some of its salts leave the window; \
                 max_salts in [replay.…] sets its size"
            );
        }
    }

    /// Logs that the store has room again, if it was full.
    pub(super) fn ends(&self, held: usize, max: usize) {
        if self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel) {
            tracing::warn!(held, max_salts = max, "the replay memory has room again");
        }
    }

    /// A text for operators, if the store is full.
    pub(super) fn describe(&self, max: usize) -> Option<String> {
        let full = self.0.load(Ordering::Relaxed);
        full.then(|| {
            format!("full: there is room for max_salts = {max}; requests are refused until some are forgotten")
        })
    }
}
