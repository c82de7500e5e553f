//! Safeguards against deletions that are authorized and still unwanted (contract §1, step 6).
//!
//! 1. [`freeze`]: an operator stops the deletions of a key, an account or everybody until they are unfrozen. The
//!    state is on disk before the command that froze it answers.
//! 2. [`budget`]: limits the deletions of a key and of an account in any span of time. A deletion counts from the
//!    moment its intent is recorded; after a restart the record is counted. The budgets of a fleet are counted in the
//!    store that its gateways share ([`fleet_budget`]).
//! 3. [`automations`]: refuses to delete a segment with linked automations, unless the caller confirms exactly
//!    those automations by their digest.

#[cfg(test)]
mod adversary;
pub(crate) mod automations;
pub(crate) mod budget;
mod budget_counts;
mod fleet_budget;
#[cfg(test)]
mod fleet_model;
pub(crate) mod freeze;
mod freeze_error;
mod freeze_state;
mod from_record;
mod frozen_file;
mod settings;
mod whole;

pub(crate) use automations::{AutomationsError, Guard, LinkedAutomations, LinksUnclear};
pub(crate) use budget::{BudgetExceeded, BudgetReservation, BudgetUsage, Budgets, NotCounted, Recount};
pub(crate) use budget_counts::{BudgetAnswer, BudgetCounts};
pub(crate) use fleet_budget::FleetBudgets;
#[cfg(any(test, fuzzing))]
pub(crate) use freeze::fuzz::fuzz;
pub(crate) use freeze::{Freeze, NoPermit, SendPermit, Unheard};
pub(crate) use freeze_error::FreezeError;
pub use freeze_state::{Note, Target};
pub(crate) use from_record::CountError;
pub(crate) use settings::SafeguardSettings;
