//! The store in the memory of one process. A restart forgets it.
//!
//! It does not know which salts were spent before it started. [`WhenNew::Fence`] therefore raises the floor to the
//! start plus the window's future, which covers every earlier run whose clock and window reached no further.
//! [`WhenNew::Accept`] leaves the floor alone.

use std::time::SystemTime;

use super::salt_set::SaltSet;
use super::{Claim, Floor, LookUp, Mark, Reservation, Room, SpentSalts, StoreHealth, Unavailable, WhenNew, Window};
use crate::clock::Clock;
use crate::credential::SaltId;

/// The size of a memory store, and how it starts.
#[derive(Clone, Copy, Debug)]
pub struct MemorySettings {
    /// How many salts it may hold.
    pub room: Room,
    /// What to do at the start, when it is empty.
    pub when_new: WhenNew,
    /// The window in force at the start.
    pub window: Window,
}

/// See the module.
pub struct Memory {
    clock: Clock,
    salts: SaltSet,
    fence: Option<SystemTime>,
}

impl Memory {
    /// An empty memory.
    pub fn new(clock: Clock, settings: MemorySettings) -> Self {
        let fence = match settings.when_new {
            WhenNew::Fence => clock.now().checked_add(settings.window.future),
            WhenNew::Accept => None,
        };
        Self { salts: SaltSet::new(clock.clone(), settings.room, fence), clock, fence }
    }

    /// Heap bytes that the salts use.
    pub fn heap_bytes(&self) -> usize {
        self.salts.heap_bytes()
    }
}

impl SpentSalts for Memory {
    fn floor(&self) -> Floor {
        self.salts.floor()
    }

    fn fenced_until(&self) -> Option<SystemTime> {
        self.fence.filter(|fence| self.clock.now() < *fence)
    }

    fn reserve(&self, api_key: &str) -> Result<Reservation, Unavailable> {
        self.salts.reserve(api_key)
    }

    fn claim(&self, reservation: Reservation, salt: SaltId, date: SystemTime, window: Window, _: Mark) -> Claim<'_> {
        Claim::Now(self.salts.spend(reservation, salt, date, window, |_, _| ()))
    }

    fn look_up(&self, salt: SaltId) -> LookUp<'_> {
        LookUp::Now(self.salts.holds(salt))
    }

    fn forget(&self) {
        self.salts.forget();
    }

    fn held(&self) -> usize {
        self.salts.held()
    }

    fn capacity(&self) -> usize {
        self.salts.capacity()
    }

    fn health(&self) -> StoreHealth {
        self.salts.is_full().map_or(StoreHealth::Ok, StoreHealth::Degraded)
    }
}
