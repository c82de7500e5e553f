//! What one caller may take from all the others (contract §6, 429 and 503).
//!
//! 1. A [`Slot`] is a request in flight: of so many in all, and so many of one key. Nobody waits
//!    for one: there is one, or there is none.
//! 2. [`FailedSignatures`] are counted per client address, in buckets of bounded number. They are
//!    asked only after a signature failed, so a valid one is never throttled by address, however
//!    many strangers share it.

mod failures;
mod slots;

pub use failures::FailedSignatures;
pub use slots::{InFlight, NoSlot, Slot, Slots};
