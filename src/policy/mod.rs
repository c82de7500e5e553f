//! Who may delete what (contract §5). Pure: nothing here does I/O, waits or reads a clock.
//!
//! 1. There are three roles, in order; any other name is no role.
//! 2. A route names the least role for the caller's own segments, and the least role for segments that others
//!    created.
//! 3. A segment of another account does not exist for the caller.
//! 4. A deletion is conditional on the version that was checked, and on no condition of the client ([`Condition`]).
//! 5. Passed-through requests are listed in the configuration, and never reach a route ([`Passthrough`]).
//!
//! [`Route::judge_account`] and [`decision::InAccount::judge_creator`] are the whole decision; only they lead to a
//! [`Permit`].

mod budget;
mod condition;
mod decision;
mod identifier;
mod keep_alive;
mod limits;
mod mode;
mod passthrough;
mod resemblance;
mod role;
mod route;
mod routes;
mod segment_id;

pub(crate) use budget::Budget;
pub(crate) use condition::{ClientCondition, Condition, StrongTag};
pub use decision::Owner;
pub(crate) use decision::{Permit, PermitRefusal, RoleReach};
pub(crate) use identifier::Identifier;
pub(crate) use keep_alive::KeepAlive;
pub(crate) use limits::Limits;
pub(crate) use mode::Mode;
pub(crate) use passthrough::{Passthrough, PassthroughError};
pub(crate) use role::Role;
pub(crate) use route::{Keep, Route};
pub(crate) use routes::{RouteMatch, Routes};
pub use segment_id::SegmentId;
