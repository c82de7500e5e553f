use std::ops::Deref;

use super::{Authorized, Gate, Observation};
use crate::refusal::RefusedAfterSpend;
use crate::throttle::Slot;

/// The last look before the point of no return: freeze, budget, linked automations stand here
/// once they can be configured. Until then the configuration refuses them by name, and what is
/// authorized is clear.
pub struct Safeguard;

/// A request that no safety catch holds back.
pub struct Cleared {
    authorized: Authorized,
}

impl Gate<Authorized> for Safeguard {
    type Out = Cleared;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, authorized: Authorized, _: &mut Observation) -> Result<Cleared, RefusedAfterSpend> {
        Ok(Cleared { authorized })
    }
}

impl Cleared {
    /// The slot, for as long as the answer takes. The request is over.
    pub(super) fn into_slot(self) -> Slot {
        self.authorized.into_routed().into_fresh().into_slot()
    }
}

impl Deref for Cleared {
    type Target = Authorized;

    fn deref(&self) -> &Authorized {
        &self.authorized
    }
}
