//! Safety catches for what cannot be undone (contract §1, step 6): what holds back the authorized.
//!
//! 1. [`freeze`]: nothing of a key, an account or anybody is sent, until somebody thaws it. What is
//!    frozen is on disk before the command that froze it answers.
//! 2. [`budget`]: so many deletions of a key and of an account in any span of time, and no more.
//!    Counted when the intent goes on record, and counted from the record after a restart.
//! 3. [`automations`]: what the service says is linked to a segment, and the digest by which a
//!    caller says that this, and nothing else, may stop.

pub mod automations;
pub mod budget;
pub mod freeze;

pub use automations::{Guard, Linked, NotLearned};
pub use budget::{Budgets, Recount, Spent, Taken, Takings};
pub use freeze::{Departure, Freeze, Note, Target};
