use std::sync::Arc;

use super::{Cleared, Gate, Observation, Process, Recorded};
use crate::audit::{OpenIntent, Outcome};
use crate::refusal::{Reason, RefusedAfterSpend};
use crate::safeguard::Departure;
use crate::turn::others_first;

/// Is it frozen by now? Judged last of all: nothing is waited for between this and sending, so
/// whoever freezes knows what can still leave.
pub struct Release(Arc<Process>);

/// A recorded deletion that may leave now. The sender takes nothing else.
pub struct Released {
    recorded: Recorded,
    departure: Departure,
}

impl Release {
    /// Judges by what the process has frozen.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl Gate<Recorded> for Release {
    type Out = Released;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, recorded: Recorded, _: &mut Observation) -> Result<Released, RefusedAfterSpend> {
        others_first().await;
        let caller = recorded.caller();
        match self.0.freeze.depart(&caller.owner.account, &caller.api_key) {
            Some(departure) => Ok(Released { recorded, departure }),
            None => {
                let (_, intent) = recorded.into_parts();
                intent.close(Outcome::NotSent, Reason::Frozen.as_str()).await;
                Err(RefusedAfterSpend::Frozen)
            }
        }
    }
}

impl Released {
    pub(super) fn into_parts(self) -> (Cleared, OpenIntent, Departure) {
        let (cleared, intent) = self.recorded.into_parts();
        (cleared, intent, self.departure)
    }
}
