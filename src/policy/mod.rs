//! Who may delete what (contract §5). Pure: nothing here does I/O, waits or reads a clock.
//!
//! 1. There are three roles, in order; any other name is no role.
//! 2. A route names the least role for the caller's own segments, and the least role for segments that others
//!    created.
//! 3. A segment of another account does not exist for the caller.
//! 4. A deletion is conditional on the version that was checked, and on no condition of the client ([`Condition`]).
//! 5. Passed-through requests are listed in the configuration, and never reach a route ([`Passthrough`]).
//!
//! [`Route::judge_account`] and [`InAccount::judge_creator`] are the whole decision; only they lead to a [`Permit`].

mod budget;
mod condition;
mod identifier;
mod keep_alive;
mod limits;
mod mode;
mod passthrough;
mod resemblance;
mod role;
mod route;

pub use budget::Budget;
pub use condition::{ClientCondition, Condition, ConditionFailed, StrongTag};
pub use identifier::Identifier;
pub use keep_alive::KeepAlive;
pub use limits::Limits;
pub use mode::Mode;
pub use passthrough::{Passthrough, PassthroughError};
pub use role::Role;
pub use route::{
    InAccount, Keep, Owner, Permit, PermitRefusal, Permitted, RoleReach, Route, RouteError, RouteMatch, Routes,
    SegmentId,
};
