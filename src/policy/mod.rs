//! Who may do what (contract §5). Pure: nothing here asks, waits or reads a clock.
//!
//! 1. A role is one of three, in order; anything else is no role.
//! 2. A route names the role that suffices for what one created oneself, and the role that
//!    suffices for what somebody else created.
//! 3. Another account's segment does not exist, whoever asks.
//!
//! 4. What passes without a gate is named, and is never a route ([`Passthrough`]).
//!
//! [`Route::judge`] is the whole decision; a [`Permit`] comes from nowhere else.

mod budget;
mod network;
mod passthrough;
mod role;
mod route;

pub use budget::Budget;
pub use network::{Network, NetworkError};
pub use passthrough::{Passthrough, PassthroughError};
pub use role::Role;
pub use route::{Found, Owner, Permit, Reach, Refusal, Route, RouteError, Routes, SegmentId};
