//! What goes upstream without being judged.

use http::header::VIA;

use super::chain::Gate;
use super::inspect::{Head, Received};
use super::observation::Observation;
use crate::refusal::{Reason, Refused};
use crate::throttle::{PassingSlot, PassingSlots};
use crate::upstream::headers;

/// Lets through what `[passthrough]` names, and nothing else.
pub(crate) struct PassNamed {
    slots: PassingSlots,
}

/// A message that goes upstream as it came, whoever sent it: one that `[passthrough]` names, or
/// any in observe mode. There is no way from here to the sender of deletions.
pub(crate) struct Passing<B> {
    head: Head<B>,
    slot: PassingSlot,
    /// Why a gate would have refused it; `Ok` if none would.
    verdict: Reason,
}

/// Whether [`PassNamed`] would let it through. Nothing is taken for it.
pub(crate) struct WouldPass;

impl<B: Send> Gate<Head<B>> for WouldPass {
    type Out = ();
    type Refusal = Refused;

    async fn decide(&self, head: Head<B>, _: &mut Observation) -> Result<(), Refused> {
        may_pass(&head)
    }
}

/// What `Connection` named is gone from it by now.
fn may_pass<B>(head: &Head<B>) -> Result<(), Refused> {
    if head.generation().passes(head.parts()) { Ok(()) } else { Err(Refused::MissingCredentials) }
}

impl PassNamed {
    /// At most as many at once as there are slots.
    pub(crate) fn new(slots: &PassingSlots) -> Self {
        Self { slots: slots.clone() }
    }
}

impl<B: Send> Gate<Head<B>> for PassNamed {
    type Out = Passing<B>;
    type Refusal = Refused;

    async fn decide(&self, mut head: Head<B>, seen: &mut Observation) -> Result<Passing<B>, Refused> {
        may_pass(&head)?;
        let slot = self.slots.take().ok_or(Refused::Overloaded)?;
        let from_trusted_proxy = head.client().came_by_trusted_proxy();
        headers::strip_claims(head.headers_mut(), from_trusted_proxy);
        head.headers_mut().append(VIA, seen.via().clone());
        Ok(Passing { head, slot, verdict: Reason::Ok })
    }
}

impl<B> Passing<B> {
    /// Exactly as it was received, whatever the verdict.
    pub(crate) fn shadowed(received: Received<B>, verdict: Reason, slot: PassingSlot) -> Self {
        Self { head: received.unjudged(), slot, verdict }
    }

    /// The message, its slot, and why a gate would have refused it.
    pub(crate) fn into_parts(self) -> (Head<B>, PassingSlot, Reason) {
        (self.head, self.slot, self.verdict)
    }
}
