use std::sync::Arc;

use super::chain::Gate;
use super::observation::Observation;
use super::record::Recorded;
use super::safeguard::Cleared;
use crate::audit::{OpenIntent, Outcome};
use crate::event_loop::yield_now;
use crate::refusal::{Reason, RefusedAfterSpend};
use crate::safeguard::{Freeze, SendPermit};

/// Is it frozen by now? Judged last of all: nothing is waited for between this and sending, so
/// whoever freezes knows what can still leave.
pub struct Release(Arc<Freeze>);

/// A recorded deletion that may leave now. The sender takes nothing else.
pub struct Released {
    recorded: Recorded,
    permit: SendPermit,
}

impl Release {
    /// Judges by what is frozen.
    pub fn new(freeze: &Arc<Freeze>) -> Self {
        Self(freeze.clone())
    }
}

impl Gate<Recorded> for Release {
    type Out = Released;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, recorded: Recorded, _: &mut Observation) -> Result<Released, RefusedAfterSpend> {
        yield_now().await;
        let caller = recorded.cleared().authorized().routed().request().caller();
        match self.0.permit(&caller.owner.account, &caller.api_key) {
            Some(permit) => Ok(Released { recorded, permit }),
            None => {
                let (_, intent) = recorded.into_parts();
                intent.close(Outcome::NotSent, Reason::Frozen.as_str()).await;
                Err(RefusedAfterSpend::Frozen)
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
