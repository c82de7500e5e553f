use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use super::{Authenticated, Gate, Observation, Process, Whole};
use crate::refusal::RefusedAfterSpend;
use crate::replay::{ClaimRefused, OutOfWindow};
use crate::telemetry::Stage;
use crate::throttle::Slot;

/// This salt, once (contract §3).
pub struct Spend(Arc<Process>);

/// A request whose salt nobody had spent before.
///
/// In a box: every gate from here on hands it to the next.
pub struct Fresh(Box<Unspent>);

struct Unspent {
    authenticated: Authenticated<()>,
    slot: Slot,
    body: Bytes,
}

impl Spend {
    /// Spends in the process's one memory.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl Gate<Whole> for Spend {
    type Out = Fresh;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, whole: Whole, seen: &mut Observation) -> Result<Fresh, RefusedAfterSpend> {
        let (authenticated, slot, place, body) = whole.into_parts();
        let window = authenticated.generation().window;
        let claim = self.0.salts.claim(place, authenticated.salt(), authenticated.date(), window);
        let answer = claim.answer().await;
        seen.passed(Stage::Spend);
        answer.map_err(|refused| match refused {
            ClaimRefused::Reused => RefusedAfterSpend::SaltReused,
            ClaimRefused::OutOfWindow(OutOfWindow::BelowFloor) => RefusedAfterSpend::BelowFloor,
            ClaimRefused::OutOfWindow(OutOfWindow::Past | OutOfWindow::Future) => RefusedAfterSpend::DateSkewed,
            ClaimRefused::Unknown => RefusedAfterSpend::ClaimUnknown,
        })?;
        seen.spent();
        Ok(Fresh(Box::new(Unspent { authenticated, slot, body })))
    }
}

impl Fresh {
    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    pub(super) fn into_slot(self) -> Slot {
        self.0.slot
    }
}

impl Deref for Fresh {
    type Target = Authenticated<()>;

    fn deref(&self) -> &Authenticated<()> {
        &self.0.authenticated
    }
}
