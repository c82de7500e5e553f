//! The gate that checks the freeze one last time, directly before the deletion is sent.

use std::sync::Arc;

use super::chain::Gate;
use super::observation::Observation;
use super::record::Recorded;
use super::safeguard::Cleared;
use crate::audit::{OpenIntent, Outcome};
use crate::refusal::{Reason, RefusedAfterSpend};
use crate::safeguard::{Freeze, NoPermit, SendPermit};

/// Refuses the deletion if the key, the account or everything is frozen. This is the last check: nothing is awaited
/// between it and sending, so that whoever freezes knows what can still leave.
pub struct Release(Arc<Freeze>);

/// A recorded deletion that may be sent. The sender accepts nothing else.
pub struct Released {
    recorded: Recorded,
    permit: SendPermit,
}

impl Release {
    /// Checks this freeze.
    pub fn new(freeze: &Arc<Freeze>) -> Self {
        Self(freeze.clone())
    }
}

impl Gate<Recorded> for Release {
    type Out = Released;
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "release";

    async fn decide(&self, recorded: Recorded, _: &mut Observation) -> Result<Released, RefusedAfterSpend> {
        let routed = recorded.cleared().authorized().routed();
        routed.yields().await;
        let caller = routed.request().caller();
        match self.0.permit(&caller.owner.account, &caller.api_key) {
            Ok(permit) => Ok(Released { recorded, permit }),
            Err(why) => {
                let (reason, refused) = match why {
                    NoPermit::Frozen => (Reason::Frozen, RefusedAfterSpend::Frozen),
                    NoPermit::Unknown => (Reason::ReplayUnavailable, RefusedAfterSpend::FreezeUnknown),
                };
                let (_, intent) = recorded.into_parts();
                intent.close(Outcome::NotSent, reason.as_str()).await;
                Err(refused)
            }
        }
    }
}

impl Released {
    pub(super) fn into_parts(self) -> (Cleared, OpenIntent, SendPermit) {
        let (cleared, intent) = self.recorded.into_parts();
        (cleared, intent, self.permit)
    }
}
