//! The tower layers and services between connections and gates.
//!
//! The gates of [`crate::gate`] decide; this room observes, answers, and lets a request run to its end. The order
//! is in [`crate::stack`].

mod commit;
mod declared;
mod dispatch;
mod layer;
mod observe;
mod pass;
mod respond;
mod shadow;
mod tasks;

pub(crate) use commit::{Commit, poll_request};
pub use dispatch::Dispatch;
pub use layer::gates;
pub(crate) use layer::to_the_end;
pub use observe::Observe;
pub(crate) use pass::Pass;
pub(crate) use respond::Respond;
pub(crate) use shadow::Shadow;
pub(crate) use tasks::Tasks;
