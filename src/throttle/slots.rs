//! Slots for requests in flight, in total and for each key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bucket::Bucket;

/// The slots for requests in flight. Clones share the count.
#[derive(Clone, Debug)]
pub struct Slots {
    all: InFlight,
    max: usize,
    max_per_key: usize,
}

/// A counter of requests in flight: of all, or of one key.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<AtomicUsize>);

/// What one key uses: its requests in flight, and its rate of spent salts.
#[derive(Clone, Debug, Default)]
pub struct KeyUse {
    in_flight: InFlight,
    spends: Arc<Bucket>,
}

impl KeyUse {
    /// The key's requests in flight.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// The bucket for its spent salts.
    pub fn spends(&self) -> &Bucket {
        &self.spends
    }
}

/// One request in flight. Dropping it frees the slot.
#[derive(Debug)]
pub struct Slot {
    all: Taken,
    _key: Taken,
}

impl Slot {
    /// Whether no other request is in flight.
    pub(crate) fn is_the_only_one(&self) -> bool {
        self.all.0.0.load(Ordering::Relaxed) == 1
    }
}

#[derive(Debug)]
struct Taken(InFlight);

/// How many requests may pass at once without being judged. They have slots of their own: however many
/// there are, what is judged has its own.
#[derive(Clone, Debug)]
pub struct PassingSlots {
    taken: InFlight,
    max: usize,
}

/// One passed-through request. Dropping it frees the slot.
#[derive(Debug)]
pub struct PassingSlot {
    _taken: Taken,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// Every slot is taken.
    All,
    /// The key has all that one key may have.
    Key,
}

impl Slots {
    /// At most `max` slots, and `max_per_key` for each key.
    pub fn new(max: usize, max_per_key: usize) -> Self {
        Self { all: InFlight::default(), max, max_per_key }
    }

    /// Takes a slot for a request of the key with this counter.
    ///
    /// # Errors
    /// If there is no free slot.
    pub fn take(&self, of_key: &InFlight) -> Result<Slot, NoSlot> {
        let all = self.all.take(self.max).ok_or(NoSlot::All)?;
        let key = of_key.take(self.max_per_key).ok_or(NoSlot::Key)?;
        Ok(Slot { all, _key: key })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.all.0.load(Ordering::Relaxed)
    }
}

impl PassingSlots {
    /// At most `max` slots.
    pub fn new(max: usize) -> Self {
        Self { taken: InFlight::default(), max }
    }

    /// Takes a slot, if one is free.
    pub fn take(&self) -> Option<PassingSlot> {
        self.taken.take(self.max).map(|taken| PassingSlot { _taken: taken })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.0.load(Ordering::Relaxed)
    }
}

impl InFlight {
    fn take(&self, max: usize) -> Option<Taken> {
        // `Relaxed` suffices: no other data depends on these counters.
        let room = |taken: usize| (taken < max).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok().map(|_| Taken(self.clone()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_gets_only_its_share_of_slots() {
        let slots = Slots::new(3, 2);
        let (one, other) = (InFlight::default(), InFlight::default());
        let held = [slots.take(&one).unwrap(), slots.take(&one).unwrap()];
        assert_eq!(slots.take(&one).unwrap_err(), NoSlot::Key);
        let third = slots.take(&other).unwrap();
        assert!(!third.is_the_only_one());
        assert_eq!(slots.take(&other).unwrap_err(), NoSlot::All);
        drop(third);
        assert!(slots.take(&other).is_ok(), "what was refused took nothing");
        drop(held);
        assert_eq!(slots.taken(), 0);
        assert!(slots.take(&other).unwrap().is_the_only_one());
        assert!(slots.take(&one).is_ok());
    }

    #[test]
    fn passing_requests_have_a_limited_number_of_slots() {
        let slots = PassingSlots::new(2);
        let held = [slots.take().unwrap(), slots.take().unwrap()];
        assert!(slots.take().is_none());
        drop(held);
        assert!(slots.take().is_some());
    }
}
