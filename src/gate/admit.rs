//! The gate that reserves what a request needs before its salt is spent: a slot and room in the store of salts.

use std::sync::Arc;

use bytes::Bytes;

use super::again;
use super::authenticate::Authenticated;
use super::chain::Gate;
use super::observation::Observation;
use crate::audit;
use crate::refusal::Refused;
use crate::repeats::{First, Repeats};
use crate::replay::{Reservation, SpentSalts, Unavailable};
use crate::safeguard::Freeze;
use crate::throttle::{LateBodies, LateBody, NoSlot, Slot, Slots};

/// Refuses a request while nothing is spent yet, if there is no slot for it or a part that it needs is unavailable.
pub struct Admit {
    slots: Slots,
    salts: Arc<dyn SpentSalts>,
    repeats: Repeats,
    record: audit::Record,
    late_bodies: LateBodies,
    freeze: Arc<Freeze>,
}

/// A request that holds a slot and reserved room in the store of salts.
pub struct Admitted<B> {
    authenticated: Authenticated<B>,
    slot: Slot,
    place: Reservation,
    late: Option<LateBody>,
}

impl Admit {
    /// Gives out these slots while the store of salts and the record can take a request, and it is known what is
    /// frozen. Of the requests whose bodies have yet to arrive, `late_bodies` limits the copies of one header.
    pub fn new(
        slots: &Slots,
        salts: &Arc<dyn SpentSalts>,
        repeats: &Repeats,
        record: &audit::Record,
        late_bodies: &LateBodies,
        freeze: &Arc<Freeze>,
    ) -> Self {
        Self {
            slots: slots.clone(),
            salts: salts.clone(),
            repeats: repeats.clone(),
            record: record.clone(),
            late_bodies: late_bodies.clone(),
            freeze: freeze.clone(),
        }
    }

    /// Checks first whether the salt is spent, because a request whose body has yet to arrive could hold its slot
    /// for as long as that takes. A request with a spent header gets no slot, unless it may be a repeat that is
    /// answered. Of every other header, only a few copies may wait. Only the later claim is binding.
    async fn may_wait<B>(
        &self,
        authenticated: &mut Authenticated<B>,
        seen: &mut Observation,
    ) -> Result<LateBody, Refused>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin,
    {
        let salt = authenticated.salt();
        if self.salts.look_up(salt).known().await == Some(true) {
            let length = authenticated.head().body().size_hint();
            let fits =
                |first: &First| (length.lower()..=length.upper().unwrap_or(u64::MAX)).contains(&first.body_length);
            match self.repeats.known(salt).filter(|first| fits(first)) {
                Some(_) if self.repeats.answers() => {}
                Some(first) => {
                    again::tell(&first, authenticated, seen).await;
                    return Err(Refused::SaltReused);
                }
                // Another gateway may have had the first request; the length of its body is not known here.
                None if self.repeats.answers() && self.salts.is_shared() => {}
                None => return Err(Refused::SaltReused),
            }
        }
        self.late_bodies.wait(salt).ok_or(Refused::HeaderBusy)
    }
}

impl<B: http_body::Body<Data = Bytes> + Send + Unpin> Gate<Authenticated<B>> for Admit {
    type Out = Admitted<B>;
    type Refusal = Refused;
    const NAME: &'static str = "admit";

    async fn decide(
        &self,
        mut authenticated: Authenticated<B>,
        seen: &mut Observation,
    ) -> Result<Admitted<B>, Refused> {
        let late = match authenticated.head().body().is_end_stream() {
            true => None,
            // Boxed to keep the future small: most deletions have no body.
            false => Some(Box::pin(self.may_wait(&mut authenticated, seen)).await?),
        };
        let key = authenticated.caller().usage();
        let spends = key.spends().has_one(authenticated.head().generation().spending, seen.started());
        spends.map_err(Refused::KeySpendsTooFast)?;
        let slot = self.slots.take(key.in_flight()).map_err(|no_slot| match no_slot {
            NoSlot::All => Refused::Overloaded,
            NoSlot::Key => Refused::KeyBusy,
        })?;
        if !self.record.is_ready() {
            return Err(Refused::RecordUnavailable);
        }
        if !self.freeze.is_known() {
            seen.detail = Some("what is frozen for the fleet is not known".into());
            return Err(Refused::ReplayUnavailable);
        }
        let refused = |unavailable| match unavailable {
            Unavailable::Full => Refused::ReplayFull,
            Unavailable::KeyShare => Refused::KeyShareSpent,
            Unavailable::OutOfReach => Refused::ReplayUnavailable,
        };
        self.salts.reach(authenticated.salt()).known().await.map_err(refused)?;
        let place = self.salts.reserve(&authenticated.caller().api_key).map_err(refused)?;
        Ok(Admitted { authenticated, slot, place, late })
    }
}

impl<B> Admitted<B> {
    pub(super) fn into_parts(self) -> (Authenticated<()>, Slot, Reservation, B, Option<LateBody>) {
        let (authenticated, body) = self.authenticated.take_body();
        (authenticated, self.slot, self.place, body, self.late)
    }
}
