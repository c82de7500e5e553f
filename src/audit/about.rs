//! What the metrics and the status page say about the record.

use std::sync::atomic::Ordering;

use super::{ChainHead, Record};

impl Record {
    /// Whether there is a record at all.
    pub(crate) fn is_kept(&self) -> bool {
        self.writer.is_some()
    }

    /// The free bytes on its file system, measured every five seconds; `None` without a record, or if they cannot be
    /// measured.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.writer.as_ref()?.state().free()
    }

    /// Intents on record without an outcome: those of requests under way, those whose outcome could not be written yet,
    /// and those that earlier processes left.
    pub(crate) fn open_outcomes(&self) -> Option<usize> {
        let state = self.writer.as_ref()?.state();
        Some(state.open.load(Ordering::Relaxed) + state.abandoned.load(Ordering::Relaxed))
    }

    /// The head of the chain, at most a second old.
    pub(crate) fn head(&self) -> Option<ChainHead> {
        self.writer.as_ref()?.state().head()
    }
}
