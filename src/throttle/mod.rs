//! Limits what one caller can take from all others (contract §6, 429 and 503).
//!
//! 1. A [`Slot`] is a request in flight. Their number is limited in total and for each key. Nobody waits for a slot:
//!    without a free one, the request is refused.
//! 2. Passed-through requests have slots of their own ([`PassingSlots`]).
//! 3. Each key has a [`bucket::Bucket`] that limits its rate of spent salts. Only a spent salt is charged, so a stranger who
//!    replays a header uses up nothing.
//! 4. Only a few requests with the same header may wait for their bodies ([`LateBodies`]).
//! 5. [`FailedSignatures`] are counted per client address, in a bounded number of buckets. They are checked only
//!    after a signature failed, so a valid request is never throttled because of its address.

mod bucket;
mod failures;
mod late;
mod slots;

pub(crate) use bucket::Rate;
pub(crate) use failures::FailedSignatures;
pub(crate) use late::{LateBodies, LateBody};
pub(crate) use slots::{KeyUse, NoSlot, PassingSlot, PassingSlots, Slot, Slots};
