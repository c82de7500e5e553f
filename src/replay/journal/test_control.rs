//! How a test acts on a journal from outside.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::shared::{Call, Shared};

/// How a test acts on a journal from outside.
pub(in crate::replay) struct TestControl(pub(super) Arc<Shared>);

impl TestControl {
    /// Ends the journal as a kill would: nothing is closed, and the files stay as they are.
    pub(in crate::replay) fn kill(&self) {
        self.0.killed.store(true, Ordering::Release);
    }

    /// Waits until the background thread has seen the time that is set now and has done all that is due.
    pub(in crate::replay) fn finish_work(&self) {
        // The round that ends first may have begun before.
        for _ in 0..2 {
            let before = self.0.rounds.load(Ordering::Acquire);
            self.0.call(Call::Wake);
            while self.0.rounds.load(Ordering::Acquire) == before {
                std::thread::yield_now();
            }
        }
    }

    /// Waits until the witness knows the end of the log.
    pub(in crate::replay) fn settle(&self) {
        while *self.0.shown.lock().unwrap_or_else(PoisonError::into_inner) != Some(self.0.log.end()) {
            self.0.call(Call::Wake);
            std::thread::yield_now();
        }
    }
}
