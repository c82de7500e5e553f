use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many requests may be in flight.
pub struct Slots {
    all: InFlight,
    max: usize,
    max_per_key: usize,
}

/// A number of requests in flight: all of them, or one key's.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<AtomicUsize>);

/// One request in flight, given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _all: Taken,
    _key: Taken,
}

#[derive(Debug)]
struct Taken(InFlight);

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// Every slot is taken.
    All,
    /// The key has all that one key may have.
    Key,
}

impl Slots {
    /// So many in all, and of each key.
    pub fn new(max: usize, max_per_key: usize) -> Self {
        Self { all: InFlight::default(), max, max_per_key }
    }

    /// A slot for a request of the key that these are in flight of.
    ///
    /// # Errors
    /// If there is none; nobody waits for one.
    pub fn take(&self, of_key: &InFlight) -> Result<Slot, NoSlot> {
        let all = self.all.take(self.max).ok_or(NoSlot::All)?;
        let key = of_key.take(self.max_per_key).ok_or(NoSlot::Key)?;
        Ok(Slot { _all: all, _key: key })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.all.0.load(Ordering::Relaxed)
    }
}

impl InFlight {
    fn take(&self, max: usize) -> Option<Taken> {
        // Nothing is published by these counts, only bounded.
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
    fn one_key_takes_its_share_and_leaves_the_rest() {
        let slots = Slots::new(3, 2);
        let (one, other) = (InFlight::default(), InFlight::default());
        let held = [slots.take(&one).unwrap(), slots.take(&one).unwrap()];
        assert_eq!(slots.take(&one).unwrap_err(), NoSlot::Key);
        let third = slots.take(&other).unwrap();
        assert_eq!(slots.take(&other).unwrap_err(), NoSlot::All);
        drop(third);
        assert!(slots.take(&other).is_ok(), "what was refused took nothing");
        drop(held);
        assert_eq!(slots.taken(), 0);
        assert!(slots.take(&one).is_ok());
    }
}
