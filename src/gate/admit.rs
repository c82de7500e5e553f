use std::ops::Deref;
use std::sync::Arc;

use super::{Authenticated, Gate, Observation, Process};
use crate::refusal::Refused;
use crate::replay::{Reservation, Unavailable};
use crate::throttle::{NoSlot, Slot};

/// Is there a slot, and is every part in reach that will be needed? While nothing is spent.
pub struct Admit(Arc<Process>);

/// A request that has its slot, and its place in the replay memory.
pub struct Admitted<B> {
    authenticated: Authenticated<B>,
    slot: Slot,
    place: Reservation,
}

impl Admit {
    /// Admits to the process's slots, memory and record.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl<B: Send> Gate<Authenticated<B>> for Admit {
    type Out = Admitted<B>;
    type Refusal = Refused;

    async fn decide(&self, authenticated: Authenticated<B>, _: &mut Observation) -> Result<Admitted<B>, Refused> {
        let slot = self.0.slots.take(authenticated.caller().in_flight()).map_err(|no_slot| match no_slot {
            NoSlot::All => Refused::Overloaded,
            NoSlot::Key => Refused::KeyBusy,
        })?;
        if !self.0.record.is_ready() {
            return Err(Refused::RecordUnavailable);
        }
        let refused = |unavailable| match unavailable {
            Unavailable::Full => Refused::ReplayFull,
            Unavailable::KeyShare => Refused::KeyShareSpent,
            Unavailable::OutOfReach => Refused::ReplayUnavailable,
        };
        self.0.salts.reach(authenticated.salt()).known().await.map_err(refused)?;
        let place = self.0.salts.reserve(&authenticated.caller().api_key).map_err(refused)?;
        Ok(Admitted { authenticated, slot, place })
    }
}

impl<B> Admitted<B> {
    pub(super) fn into_parts(self) -> (Authenticated<()>, Slot, Reservation, B) {
        let (authenticated, body) = self.authenticated.take_body();
        (authenticated, self.slot, self.place, body)
    }
}

impl<B> Deref for Admitted<B> {
    type Target = Authenticated<B>;

    fn deref(&self) -> &Authenticated<B> {
        &self.authenticated
    }
}
