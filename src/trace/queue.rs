//! The traces that wait to be exported.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::finished::FinishedTrace;
use crate::telemetry::Metrics;

/// The most traces that wait; about 4 MiB.
const ROOM: usize = 4096;
/// The most traces that are exported at once.
const BATCH: usize = 512;
/// How long traces may wait while more end.
const LINGER: Duration = Duration::from_secs(1);

/// A bounded queue. Requests push without waiting, and one exporter takes.
pub(super) struct SpanQueue {
    waiting: Mutex<Vec<FinishedTrace>>,
    /// How many wait, so that a full queue costs no lock.
    length: AtomicUsize,
    /// Wakes the exporter for the first trace, for a whole batch, and for the end.
    wake: Notify,
    closed: watch::Sender<bool>,
    metrics: Arc<Metrics>,
}

impl SpanQueue {
    /// Counts in `metrics` what does not fit.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            waiting: Mutex::default(),
            length: AtomicUsize::new(0),
            wake: Notify::new(),
            closed: watch::Sender::new(false),
            metrics,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<FinishedTrace>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a trace, or drops it if there is no room.
    pub(super) fn push(&self, finished: FinishedTrace) {
        if self.length.load(Ordering::Relaxed) >= ROOM {
            return self.metrics.deliveries().spans_dropped(finished.trace.spans());
        }
        let length = {
            let mut waiting = self.waiting();
            waiting.push(finished);
            self.length.store(waiting.len(), Ordering::Relaxed);
            waiting.len()
        };
        // In between the exporter lingers, and waking it would only cost a system call.
        if length == 1 || length == BATCH {
            self.wake.notify_one();
        }
    }

    /// Waits for traces, and takes at most a batch of them. `None` once the queue is closed and empty.
    pub(super) async fn take(&self) -> Option<Vec<FinishedTrace>> {
        while self.length.load(Ordering::Relaxed) == 0 {
            if self.is_closed() {
                return None;
            }
            self.wake.notified().await;
        }
        if self.length.load(Ordering::Relaxed) < BATCH && !self.is_closed() {
            // A timeout is the usual case.
            drop(tokio::time::timeout(LINGER, self.wake.notified()).await);
        }
        let mut waiting = self.waiting();
        let batch = waiting.len().min(BATCH);
        let batch = waiting.drain(..batch).collect();
        self.length.store(waiting.len(), Ordering::Relaxed);
        Some(batch)
    }

    /// Ends the waiting of the exporter. What is pushed from now on may be lost.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
        self.wake.notify_one();
    }

    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until the queue is closed.
    pub(super) async fn closed(&self) {
        // An error would mean that the sender is gone, and `self` has it.
        drop(self.closed.subscribe().wait_for(|closed| *closed).await);
    }

    /// Drops everything, and counts it.
    pub(super) fn give_up(&self) {
        let spans = self.waiting().drain(..).map(|finished| finished.trace.spans()).sum();
        self.metrics.deliveries().spans_dropped(spans);
    }
}
