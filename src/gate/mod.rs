//! The gates: each an async verdict and nothing else.
//!
//! A request becomes more proven on the way in, and the compiler knows how proven it is: each
//! gate takes what the gate above made and makes the next. The fields of what a gate makes are
//! private to it, so nothing but the gate can make it. Leaving a gate out, or swapping two, does
//! not compile; the order is in [`crate::stack`].
//!
//! ```text
//! Arrival ─Observe→ Received ─Inspect→ Head ─Authenticate→ Authenticated ─Admit→ Admitted ─Read→ Whole
//!   ─Spend→ Fresh ─Route→ Directed ─Fork→ Routed ─Authorize→ Authorized ─Safeguard→ Cleared ─Record→ Recorded
//!   ─Release→ Released ─Send→ Concluded
//!                             └→ Routed<Rehearsal> ─Authorize→ Authorized<Rehearsal> ─Foretell→ Foretold
//! ```
//!
//! The whole chain, in order, compiles:
//!
//! ```
//! use saltgate::gate::{Authorize, Concluded, Gate, RecordIntent, Release, Routed, Safeguard, Send};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: RecordIntent, release: Release) {
//!     leads::<Routed, _, Concluded>(|| Authorize.then(safeguard).then(record).then(release).then(Send));
//! }
//! ```
//!
//! Leaving a gate out does not:
//!
//! ```compile_fail,E0277
//! use saltgate::gate::{Authorize, Gate, RecordIntent, Released, Release, Routed, Safeguard};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: RecordIntent, release: Release) {
//!     leads::<Routed, _, Released>(|| Authorize.then(safeguard).then(release));
//! }
//! ```
//!
//! Nor does swapping two:
//!
//! ```compile_fail,E0277
//! use saltgate::gate::{Authorize, Gate, RecordIntent, Released, Release, Routed, Safeguard};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: RecordIntent, release: Release) {
//!     leads::<Routed, _, Released>(|| Authorize.then(record).then(safeguard).then(release));
//! }
//! ```
//!
//! Nor recording, and so sending, what was only to be rehearsed:
//!
//! ```compile_fail,E0277
//! use saltgate::gate::{Authorize, Gate, RecordIntent, Recorded, Rehearsal, Routed, Safeguard};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: RecordIntent) {
//!     leads::<Routed<Rehearsal>, _, Recorded>(|| Authorize.then(safeguard).then(record));
//! }
//! ```
//!
//! Nor sending what is recorded and not released, which is where the freeze is judged:
//!
//! ```compile_fail,E0277
//! use saltgate::gate::{Concluded, Gate, RecordIntent, Routed, Authorize, Safeguard, Send};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: RecordIntent) {
//!     leads::<Routed, _, Concluded>(|| Authorize.then(safeguard).then(record).then(Send));
//! }
//! ```
//!
//! Nor making a proof by hand:
//!
//! ```compile_fail,E0451
//! use saltgate::gate::{Cleared, Recorded};
//! fn forge(cleared: Cleared, intent: saltgate::audit::OpenIntent) -> Recorded {
//!     Recorded { cleared, intent }
//! }
//! ```
//!
//! Nor refusing with 503 after the salt was spent:
//!
//! ```compile_fail,E0599
//! let refused = saltgate::refusal::RefusedAfterSpend::Overloaded;
//! ```

mod admit;
mod again;
mod answer;
mod arrival;
mod authenticate;
mod authorize;
mod chain;
mod disguise;
mod either;
mod inspect;
mod observation;
mod overrides;
mod passthrough;
mod read;
mod record;
mod rehearse;
mod relayed;
mod release;
mod reporting;
mod request_ids;
mod route;
mod safeguard;
mod send;
mod spend;
mod state;
mod truncation;

pub use admit::{Admit, Admitted};
pub use answer::{Answered, Body, own};
pub(crate) use answer::{again, own_body, own_with};
pub use arrival::Arrival;
pub use authenticate::{Authenticate, Authenticated};
pub use authorize::{Authorize, Authorized};
pub use chain::{Gate, Rejection, Then};
pub use either::Either;
pub use inspect::{Head, Inspect, Received};
pub use observation::{Observation, Observed};
pub use passthrough::{Letting, Passing, WouldLet};
pub(crate) use read::broken;
pub use read::{Read, Whole};
pub use record::{RecordIntent, Recorded};
pub use rehearse::{Ending, Foretell, Foretold, Fork};
pub use relayed::Relayed;
pub use release::{Release, Released};
pub use reporting::Reporting;
pub use request_ids::RequestIds;
pub use route::{Deletion, Directed, Purpose, Rehearsal, RouteGate, Routed};
pub use safeguard::{Cleared, Foresee, Safeguard};
pub use send::{Concluded, Send};
pub use spend::{Fresh, Spend};
pub use state::{Current, Desk, Generation};
