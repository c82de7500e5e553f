//! The spent salts of one process, in its memory and nowhere else: a restart forgets them.
//!
//! What it cannot know is what was spent before it began. [`WhenNew::Fence`] raises the floor to
//! the start plus the window's future, which covers an earlier life whose clock and window did not
//! reach further. [`WhenNew::Accept`] raises nothing.

use std::time::SystemTime;

use super::book::Book;
use super::{Claim, Floor, LookUp, Reservation, Room, SaltId, SpentSalts, Unavailable, WhenNew, Window};
use crate::clock::Clock;

/// How large a memory is, and how it begins.
#[derive(Clone, Copy, Debug)]
pub struct MemorySettings {
    /// How much room there is.
    pub room: Room,
    /// What its being empty means.
    pub when_new: WhenNew,
    /// The window at the start.
    pub window: Window,
}

/// See the module.
pub struct Memory {
    clock: Clock,
    book: Book,
    fence: Option<SystemTime>,
}

impl Memory {
    /// An empty memory.
    pub fn new(clock: Clock, settings: MemorySettings) -> Self {
        let fence = match settings.when_new {
            WhenNew::Fence => clock.now().checked_add(settings.window.future),
            WhenNew::Accept => None,
        };
        Self { book: Book::new(clock.clone(), settings.room, fence), clock, fence }
    }

    /// Bytes of heap that the salts take.
    pub fn heap_bytes(&self) -> usize {
        self.book.heap_bytes()
    }
}

impl SpentSalts for Memory {
    fn floor(&self) -> Floor {
        self.book.floor()
    }

    fn fenced_until(&self) -> Option<SystemTime> {
        self.fence.filter(|fence| self.clock.now() < *fence)
    }

    fn reserve(&self, api_key: &str) -> Result<Reservation, Unavailable> {
        self.book.reserve(api_key)
    }

    fn claim(&self, place: Reservation, salt: SaltId, date: SystemTime, window: Window) -> Claim<'_> {
        Claim::Now(self.book.spend(place, salt, date, window, |_, _| ()))
    }

    fn look_up(&self, salt: SaltId) -> LookUp<'_> {
        LookUp::Now(self.book.holds(salt))
    }

    fn forget(&self) {
        self.book.forget();
    }

    fn held(&self) -> usize {
        self.book.held()
    }

    fn capacity(&self) -> usize {
        self.book.capacity()
    }
}
