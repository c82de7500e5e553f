//! The gates. Each is one async verdict and nothing else.
//!
//! A request becomes more proven on the way in, and the compiler knows how proven it is: each gate takes what the gate
//! before it made, and makes the next proof. The fields of a proof are private to its gate, so nothing else can make it.
//! Leaving a gate out or swapping two does not compile. The order is in [`crate::stack`].
//!
//! ```text
//! Arrival ─Observe→ Received ─Inspect→ Head ─Authenticate→ Authenticated ─Admit→ Admitted ─Read→ Whole
//!   ─Spend→ Fresh ─Route→ Directed ─Fork→ Routed ─Authorize→ Authorized ─Safeguard→ Cleared ─Record→ Recorded
//!   ─Release→ Released ─Send→ Concluded
//!                             └→ Routed<DryRun> ─Authorize→ Authorized<DryRun> ─ReportDryRun→ DryRunReport
//! ```
//!
//! The whole chain, in order, compiles:
//!
//! ```
//! use saltgate::parts::{Authorize, Concluded, Gate, RecordIntent, Release, Routed, Safeguard, Send};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: RecordIntent, release: Release) {
//!     leads::<Routed, _, Concluded>(|| Authorize.then(safeguard).then(record).then(release).then(Send));
//! }
//! ```
//!
//! Leaving a gate out does not:
//!
//! ```compile_fail,E0277
//! use saltgate::parts::{Authorize, Gate, RecordIntent, Released, Release, Routed, Safeguard};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: RecordIntent, release: Release) {
//!     leads::<Routed, _, Released>(|| Authorize.then(safeguard).then(release));
//! }
//! ```
//!
//! Nor does swapping two:
//!
//! ```compile_fail,E0277
//! use saltgate::parts::{Authorize, Gate, RecordIntent, Released, Release, Routed, Safeguard};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: RecordIntent, release: Release) {
//!     leads::<Routed, _, Released>(|| Authorize.then(record).then(safeguard).then(release));
//! }
//! ```
//!
//! Nor does recording, and so sending, a dry run:
//!
//! ```compile_fail,E0277
//! use saltgate::parts::{Authorize, Gate, RecordIntent, Recorded, DryRun, Routed, Safeguard};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: RecordIntent) {
//!     leads::<Routed<DryRun>, _, Recorded>(|| Authorize.then(safeguard).then(record));
//! }
//! ```
//!
//! Nor does sending what is recorded but not released (the release checks the freeze):
//!
//! ```compile_fail,E0277
//! use saltgate::parts::{Concluded, Gate, RecordIntent, Routed, Authorize, Safeguard, Send};
//! fn leads<In, G: Gate<In, Out = Out>, Out>(_: impl FnOnce() -> G) {}
//! fn chain(safeguard: Safeguard, record: RecordIntent) {
//!     leads::<Routed, _, Concluded>(|| Authorize.then(safeguard).then(record).then(Send));
//! }
//! ```
//!
//! Nor does making a proof by hand:
//!
//! ```compile_fail,E0451
//! use saltgate::parts::{Cleared, Recorded};
//! fn forge(cleared: Cleared, intent: saltgate::parts::OpenIntent) -> Recorded {
//!     Recorded { cleared, intent }
//! }
//! ```
//!
//! Nor does refusing with 503 after the salt was spent:
//!
//! ```compile_fail,E0599
//! let refused = saltgate::parts::RefusedAfterSpend::Overloaded;
//! ```

mod admit;
mod again;
mod answer;
mod arrival;
mod authenticate;
mod authorize;
mod chain;
mod disguise;
mod dry_run;
mod either;
mod inspect;
mod observation;
mod overrides;
mod passthrough;
mod read;
mod record;
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

pub use admit::Admit;
pub use answer::Body;
pub(crate) use answer::{Answered, own};
pub(crate) use answer::{again, own_body, own_with};
pub use arrival::Arrival;
pub use authenticate::Authenticate;
pub use authorize::Authorize;
pub use chain::{Gate, Rejection};
pub(crate) use dry_run::{Ending, Fork, ReportDryRun};
pub(crate) use either::Either;
pub use inspect::{Inspect, Received};
pub use observation::{Observation, Observed};
pub(crate) use passthrough::{PassNamed, Passing, WouldPass};
pub use read::Read;
pub(crate) use read::Whole;
pub(crate) use read::broken;
pub use record::{RecordIntent, Recorded};
pub(crate) use relayed::Relayed;
pub use release::{Release, Released};
pub(crate) use reporting::Reporting;
pub(crate) use request_ids::RequestIds;
pub use route::{Directed, DryRun, RouteGate, Routed};
pub(crate) use safeguard::DryRunSafeguard;
pub use safeguard::{Cleared, Safeguard};
pub use send::{Concluded, Send};
pub use spend::Spend;
pub(crate) use state::{Current, Generation, WorkerState};
