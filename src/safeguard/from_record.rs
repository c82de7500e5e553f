//! Counts the budget usage from the record: at a start, and when a reload brings a larger budget.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use super::{BudgetUsage, Budgets, Recount};
use crate::audit::{self, Audit, ReadError};
use crate::clock::Clock;

impl BudgetUsage {
    /// The usage of these budgets, counted from the record of earlier processes.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub(crate) fn from_record(budgets: Budgets, audit: &Audit, clock: &Clock) -> Result<Self, CountError> {
        let usage = Self::default();
        usage.widen_from_record(budgets, audit, clock, Duration::ZERO)?;
        Ok(usage)
    }

    /// Counts the record again if these budgets are larger than any before. Waits for intents that are being written,
    /// for `within` at most; this blocks.
    ///
    /// # Errors
    /// If the record cannot be read, or pending intents are not written in time.
    pub(crate) fn widen_from_record(
        &self,
        budgets: Budgets,
        audit: &Audit,
        clock: &Clock,
        within: Duration,
    ) -> Result<(), CountError> {
        let Some(recount) = self.widen(budgets, clock.elapsed()) else { return Ok(()) };
        if !recount.all_written(within) {
            return Err(CountError::NotWritten);
        }
        count(recount, audit, clock).map_err(CountError::Unread)
    }
}

fn count(mut recount: Recount<'_>, audit: &Audit, clock: &Clock) -> Result<(), ReadError> {
    let now = clock.now();
    let since = now.checked_sub(recount.span()).unwrap_or(UNIX_EPOCH);
    if let Some(path) = audit.path() {
        let unreadable = audit::intents_since(path, since, |key, account, at| {
            // A line dated in the future was written with another clock, and counts as of now.
            recount.found(key, account, now.duration_since(at).unwrap_or_default());
        })?;
        if unreadable > 0 {
            tracing::warn!(unreadable, "budget: some lines of the record cannot be read and are not counted");
        }
    }
    recount.finish();
    Ok(())
}

/// Why the budget usage cannot be counted.
#[derive(Debug)]
pub enum CountError {
    /// The record cannot be read.
    Unread(ReadError),
    /// Pending intents were not written in time.
    NotWritten,
}

impl fmt::Display for CountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread(error) => error.fmt(f),
            Self::NotWritten => f.write_str("pending intents were not written to the record in time"),
        }
    }
}

impl std::error::Error for CountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unread(error) => Some(error),
            Self::NotWritten => None,
        }
    }
}
