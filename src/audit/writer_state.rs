//! What other threads may read of the writer, whatever it is doing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::counted::Counted;
use super::files::Segment;
use super::{ChainHead, FileName};

/// The free space before it was measured.
const UNMEASURED: u64 = u64::MAX;

/// The state of the writer that other threads may read. None of it waits for the disk.
pub(super) struct WriterState {
    pub(super) healthy: AtomicBool,
    pub(super) low: AtomicBool,
    pub(super) begun_anew: AtomicBool,
    pub(super) counted: Counted,
    free: AtomicU64,
    /// Intents of this process whose outcome is not written yet.
    pub(super) open: AtomicUsize,
    /// Intents of earlier processes that have no outcome.
    pub(super) abandoned: AtomicUsize,
    head: Mutex<Option<ChainHead>>,
    /// The files that were copied elsewhere, up to which length; `None`: whole.
    shipped: Mutex<HashMap<FileName, Option<u64>>>,
}

impl WriterState {
    pub(super) fn new() -> Self {
        Self {
            healthy: AtomicBool::new(true),
            low: AtomicBool::new(false),
            begun_anew: AtomicBool::new(false),
            counted: Counted::default(),
            free: AtomicU64::new(UNMEASURED),
            open: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            head: Mutex::default(),
            shipped: Mutex::default(),
        }
    }

    pub(super) fn set_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::Relaxed);
    }

    /// The free bytes when last measured; `None` if they cannot be measured.
    pub(super) fn free(&self) -> Option<u64> {
        Some(self.free.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNMEASURED)
    }

    #[cfg(feature = "postgres")]
    pub(super) fn shipped(&self, file: FileName, length: Option<u64>) {
        self.shipped.lock().unwrap_or_else(PoisonError::into_inner).insert(file, length);
    }

    /// Whether all of a file, as it is now, was copied elsewhere.
    pub(super) fn is_shipped(&self, instance: &str, segment: &Segment) -> bool {
        let file = FileName { instance: instance.to_owned(), number: segment.number };
        match self.shipped.lock().unwrap_or_else(PoisonError::into_inner).get(&file) {
            Some(Some(length)) => segment.path.metadata().is_ok_and(|about| about.len() == *length),
            Some(None) => true,
            None => false,
        }
    }

    pub(super) fn set_head(&self, head: ChainHead) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
    }

    pub(super) fn head(&self) -> Option<ChainHead> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
