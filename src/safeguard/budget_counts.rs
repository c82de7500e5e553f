//! Where deletions are counted for the budgets: in this process, or for the whole fleet.

use std::pin::Pin;
use std::time::Duration;

use super::fleet_budget::{CountedByFleet, FleetBudgets};
use super::{BudgetReservation, BudgetUsage, Budgets, NotCounted};

/// See the module.
pub enum BudgetCounts {
    /// Each process for itself (`safeguard.scope = "process"`).
    Process(BudgetUsage),
    /// All gateways of the fleet together (`safeguard.scope = "fleet"`).
    Fleet(FleetBudgets),
}

/// One deletion that was counted.
pub enum BudgetTaken {
    /// By this process.
    Process(BudgetReservation),
    /// By the fleet; `None` if it has no budget. Boxed, because every deletion keeps room for it.
    Fleet(Option<Box<CountedByFleet>>),
}

/// What this process says at once, and the fleet after a round trip.
pub enum BudgetAnswer<'b, T> {
    /// The answer.
    Now(Result<T, NotCounted>),
    /// The answer when this future completes.
    Later(Pin<Box<dyn Future<Output = Result<T, NotCounted>> + Send + 'b>>),
}

impl Default for BudgetCounts {
    fn default() -> Self {
        Self::Process(BudgetUsage::default())
    }
}

impl BudgetCounts {
    /// Whether all gateways count together, which takes a round trip.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Fleet(_))
    }

    /// Whether another deletion would be allowed now. Only [`BudgetCounts::take`] decides.
    pub fn judge<'b>(
        &'b self,
        key: &'b str,
        account: &'b str,
        budgets: Budgets,
        now: Duration,
    ) -> BudgetAnswer<'b, ()> {
        match self {
            Self::Process(usage) => {
                BudgetAnswer::Now(usage.judge(key, account, budgets, now).map_err(NotCounted::Exceeded))
            }
            Self::Fleet(fleet) => BudgetAnswer::Later(Box::pin(fleet.judge(key, account, budgets))),
        }
    }

    /// Counts one deletion for the key and for the account, or for neither. Reads the time only if it is needed.
    pub fn take<'b>(
        &'b self,
        key: &'b str,
        account: &'b str,
        budgets: Budgets,
        now: impl FnOnce() -> Duration,
    ) -> BudgetAnswer<'b, BudgetTaken> {
        match self {
            Self::Process(usage) => {
                let taken = usage.take(key, account, budgets, now);
                BudgetAnswer::Now(taken.map(BudgetTaken::Process).map_err(NotCounted::Exceeded))
            }
            Self::Fleet(fleet) => {
                BudgetAnswer::Later(Box::pin(
                    async move { fleet.take(key, account, budgets).await.map(BudgetTaken::Fleet) },
                ))
            }
        }
    }

    /// Undoes [`BudgetCounts::take`] when the intent could not be written: the deletion is not on record and was not sent.
    pub async fn give_back(&self, key: &str, account: &str, taken: BudgetTaken) {
        match (self, taken) {
            (Self::Process(usage), BudgetTaken::Process(taken)) => usage.give_back(key, account, &taken),
            (Self::Fleet(fleet), BudgetTaken::Fleet(Some(taken))) => fleet.give_back(*taken).await,
            _ => {}
        }
    }

    /// Forgets, in memory, what no budget can ask for any more.
    pub fn forget(&self, now: Duration) {
        if let Self::Process(usage) = self {
            usage.forget(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Budget;

    #[tokio::test]
    async fn a_process_gives_back_what_was_not_sent() {
        let (counts, once) = (BudgetCounts::default(), Budgets { key: Budget::parse("1/hour"), ..Budgets::default() });
        let take = || match counts.take("K", "a", once, || Duration::ZERO) {
            BudgetAnswer::Now(taken) => taken.ok(),
            BudgetAnswer::Later(_) => panic!("it does not ask the fleet"),
        };
        let taken = take().unwrap();
        assert!(take().is_none() && !counts.is_shared());
        counts.give_back("K", "a", taken).await;
        assert!(take().is_some());
    }
}
