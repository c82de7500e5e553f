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
use crate::throttle::{LateBodies, LateBody, NoSlot, Slot, Slots};

/// Is there a slot, and is every part in reach that will be needed? While nothing is spent.
pub struct Admit {
    slots: Slots,
    salts: Arc<dyn SpentSalts>,
    repeats: Repeats,
    record: audit::Record,
    late_bodies: LateBodies,
}

/// A request that has its slot, and its place in the replay memory.
pub struct Admitted<B> {
    authenticated: Authenticated<B>,
    slot: Slot,
    place: Reservation,
    late: Option<LateBody>,
}

impl Admit {
    /// Admits to these slots, while the salts and the record can take the request; of those whose bodies are to come,
    /// only so many.
    pub fn new(
        slots: &Slots,
        salts: &Arc<dyn SpentSalts>,
        repeats: &Repeats,
        record: &audit::Record,
        late_bodies: &LateBodies,
    ) -> Self {
        Self {
            slots: slots.clone(),
            salts: salts.clone(),
            repeats: repeats.clone(),
            record: record.clone(),
            late_bodies: late_bodies.clone(),
        }
    }

    /// A request whose body is to come could hold its slot for as long as that takes. So whether its salt is spent is
    /// asked first, and a spent header holds none, unless it may be a repeat that is answered; of all others only a few
    /// copies wait. The claim decides all the same.
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
                    again::tell(&first, authenticated, seen);
                    return Err(Refused::SaltReused);
                }
                // Another gateway's, perhaps; how long its body was is not known here.
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

    async fn decide(
        &self,
        mut authenticated: Authenticated<B>,
        seen: &mut Observation,
    ) -> Result<Admitted<B>, Refused> {
        let late = match authenticated.head().body().is_end_stream() {
            true => None,
            // In a box: most deletions have no body.
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
