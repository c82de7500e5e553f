//! Messages that go upstream without being judged.

use http::header::VIA;

use super::chain::Gate;
use super::inspect::{Head, Received};
use super::observation::Observation;
use crate::refusal::{Reason, Refused};
use crate::throttle::{PassingSlot, PassingSlots};
use crate::upstream::headers;

/// Lets through the messages that `[passthrough]` names, and no others.
pub(crate) struct PassNamed {
    slots: PassingSlots,
}

/// A message that goes upstream as it arrived: one that `[passthrough]` names, or any in observe mode. Nothing on
/// this path leads to the sender of deletions.
pub(crate) struct Passing<B> {
    head: Head<B>,
    slot: PassingSlot,
    /// Why a gate would have refused it; `Ok` if none would have.
    verdict: Reason,
}

/// Whether [`PassNamed`] would let a message through. It takes no slot for it.
pub(crate) struct WouldPass;

impl<B: Send> Gate<Head<B>> for WouldPass {
    type Out = ();
    type Refusal = Refused;
    const NAME: &'static str = "pass";

    async fn decide(&self, head: Head<B>, _: &mut Observation) -> Result<(), Refused> {
        may_pass(&head)
    }
}

/// The fields that `Connection` names have been removed before.
fn may_pass<B>(head: &Head<B>) -> Result<(), Refused> {
    if head.generation().passes(head.parts()) { Ok(()) } else { Err(Refused::MissingCredentials) }
}

impl PassNamed {
    /// At most as many messages pass at once as there are slots.
    pub(crate) fn new(slots: &PassingSlots) -> Self {
        Self { slots: slots.clone() }
    }
}

impl<B: Send> Gate<Head<B>> for PassNamed {
    type Out = Passing<B>;
    type Refusal = Refused;
    const NAME: &'static str = "pass";

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
    /// Forwards the message exactly as it was received, whatever the verdict.
    pub(crate) fn shadowed(received: Received<B>, verdict: Reason, slot: PassingSlot) -> Self {
        Self { head: received.unjudged(), slot, verdict }
    }

    /// The message, its slot, and why a gate would have refused it.
    pub(crate) fn into_parts(self) -> (Head<B>, PassingSlot, Reason) {
        (self.head, self.slot, self.verdict)
    }
}
