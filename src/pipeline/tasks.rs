//! Counts the requests that run to their end; a drain waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts the requests that run to their end even if their clients leave.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Count>);

#[derive(Default)]
struct Count {
    count: AtomicUsize,
    none_left: Notify,
}

/// One of these requests; dropped at its end.
pub struct Task(Arc<Count>);

impl Tasks {
    /// Counts one more.
    pub fn enter(&self) -> Task {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        Task(self.0.clone())
    }

    /// How many are running.
    pub fn running(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Waits until none is running.
    pub async fn ended(&self) {
        loop {
            let none_left = self.0.none_left.notified();
            if self.running() == 0 {
                return;
            }
            none_left.await;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}
