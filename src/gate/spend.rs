//! The gate that spends the salt.

use std::sync::Arc;

use bytes::Bytes;

use super::again;
use super::again::Again;
use super::authenticate::Authenticated;
use super::chain::Gate;
use super::observation::Observation;
use super::read::Whole;
use super::state::Current;
use crate::clock::Clock;
use crate::refusal::{RefusedAfterSpend, Revoked};
use crate::repeats::Repeats;
use crate::replay::{ClaimRefused, Mark, OutOfWindow, SpentSalts};
use crate::telemetry::Stage;
use crate::throttle::Slot;

/// Spends the salt once (contract §3), under the keys in force now (contract §4): the body may have arrived late
/// and the key been revoked meanwhile. From here on, a request is judged by the generation that was in force when
/// its salt was spent.
pub struct Spend {
    clock: Clock,
    again: Again,
    current: Arc<Current>,
}

/// A request that was the first to spend its salt.
///
/// Boxed because every later gate passes it on.
pub struct Fresh(Box<Unspent>);

struct Unspent {
    authenticated: Authenticated<()>,
    slot: Slot,
    body: Bytes,
}

impl Spend {
    /// Spends in this store, under the keys in force; `repeats` knows earlier requests.
    pub fn new(clock: &Clock, salts: &Arc<dyn SpentSalts>, repeats: &Repeats, current: &Arc<Current>) -> Self {
        let again = Again { salts: salts.clone(), repeats: repeats.clone() };
        Self { clock: clock.clone(), again, current: current.clone() }
    }

    /// Checks that the header is still valid, as [`super::Authenticate`] found it on arrival.
    fn judge_again(
        &self,
        authenticated: Authenticated<()>,
        seen: &mut Observation,
    ) -> Result<Authenticated<()>, Revoked> {
        let clock = &self.clock;
        if authenticated.head().worker_state().is_retired() {
            let worker_state = self.current.worker_state(authenticated.head().worker_state().worker);
            return authenticated.again(worker_state, seen, clock.now());
        }
        if authenticated.caller().has_ended(authenticated.secret(), || clock.now()) {
            return Err(Revoked::InactiveKey);
        }
        Ok(authenticated)
    }
}

impl Gate<Whole> for Spend {
    type Out = Fresh;
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "spend";

    async fn decide(&self, whole: Whole, seen: &mut Observation) -> Result<Fresh, RefusedAfterSpend> {
        let (authenticated, slot, place, body) = whole.into_parts();
        let authenticated = self.judge_again(authenticated, seen).map_err(RefusedAfterSpend::Revoked)?;
        let (window, salt) = (authenticated.head().generation().window, authenticated.salt());
        let asked = again::asked(&authenticated, &body);
        let Again { salts, repeats } = &self.again;
        let claimant = repeats.claims(salt);
        let mark = if salts.is_shared() { seen.mark(asked.print(&salt)) } else { Mark::default() };
        let answer = salts.claim(place, salt, authenticated.date(), window, mark).answer().await;
        seen.passed(Stage::Spend);
        if let Err(refused) = answer {
            drop((claimant, slot));
            let mark = if let ClaimRefused::ReusedBy(mark) = refused { Some(mark) } else { None };
            return Err(match refused {
                // Boxed to keep the future small: most requests are no repeats.
                ClaimRefused::Reused | ClaimRefused::ReusedBy(_) => {
                    Box::pin(self.again.met(&authenticated, asked, mark, seen)).await
                }
                ClaimRefused::OutOfWindow(OutOfWindow::BelowFloor) => RefusedAfterSpend::BelowFloor,
                ClaimRefused::OutOfWindow(OutOfWindow::Past | OutOfWindow::Future) => RefusedAfterSpend::DateSkewed,
                ClaimRefused::KeyShare => RefusedAfterSpend::KeyShareSpent,
                ClaimRefused::Unknown => RefusedAfterSpend::ClaimUnknown,
            });
        }
        seen.spent(claimant.begins(seen.as_first(asked, body.len() as u64)));
        authenticated.caller().usage().spends().owe(authenticated.head().generation().spending, seen.marked());
        Ok(Fresh(Box::new(Unspent { authenticated, slot, body })))
    }
}

impl Fresh {
    /// The authenticated request.
    pub fn request(&self) -> &Authenticated<()> {
        &self.0.authenticated
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.0.slot
    }

    pub(super) fn into_slot(self) -> Slot {
        self.0.slot
    }
}
