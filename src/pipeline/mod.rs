//! The plumbing between connections and gates, as layers and services of tower.
//!
//! The gates of [`crate::gate`] decide; what stands here observes, answers, and lets a request run to its end. The order
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

pub use commit::{Commit, poll_request};
pub use declared::Declared;
pub use dispatch::Dispatch;
pub use layer::{gates, to_the_end};
pub use observe::Observe;
pub use pass::{Pass, Passed};
pub use respond::Respond;
pub use shadow::Shadow;
pub use tasks::{Task, Tasks};
