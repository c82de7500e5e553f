//! A value for each thread, so that threads do not contend for one.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of values. If there are more threads, some share a value.
const SLOTS: usize = 16;

/// A value for each thread, each on its own cache lines, so that workers do not contend for data that every request updates.
/// A reader combines all of them.
#[derive(Debug, Default)]
pub(crate) struct PerThread<T>([Padded<T>; SLOTS]);

/// Aligned to two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// The index of the calling thread.
fn slot() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SLOT.with(|slot| {
        if slot.get() == usize::MAX {
            slot.set(NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS);
        }
        slot.get()
    })
}

impl<T> PerThread<T> {
    /// Makes each value with `make`, which gets its index.
    pub(crate) fn new(mut make: impl FnMut(usize) -> T) -> Self {
        Self(std::array::from_fn(|slot| Padded(make(slot))))
    }

    /// That of the calling thread. Others may have the same one.
    pub(crate) fn mine(&self) -> &T {
        &self.0[slot()].0
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|apart| &apart.0)
    }
}
