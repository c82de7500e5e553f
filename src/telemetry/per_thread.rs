use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// As many as there are places; a process with more threads has some of them share one.
const PLACES: usize = 16;

/// One of a thing for each thread, on cache lines of its own: what every request touches, no two
/// workers do. Who wants the whole looks at all of them.
#[derive(Debug, Default)]
pub struct PerThread<T>([Apart<T>; PLACES]);

/// Two lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// The place of the calling thread.
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    PLACE.with(|place| {
        if place.get() == usize::MAX {
            place.set(NEXT.fetch_add(1, Ordering::Relaxed) % PLACES);
        }
        place.get()
    })
}

impl<T> PerThread<T> {
    /// Each made by `make`, which is told its number.
    pub fn new(mut make: impl FnMut(usize) -> T) -> Self {
        Self(std::array::from_fn(|place| Apart(make(place))))
    }

    /// That of the calling thread. Others may have the same one.
    pub fn mine(&self) -> &T {
        &self.0[place()].0
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|apart| &apart.0)
    }
}
