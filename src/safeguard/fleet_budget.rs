//! The budgets of a fleet: its deletions are counted in the store that all its gateways share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{BudgetExceeded, Budgets, NotCounted};
use crate::policy::Budget;
use crate::replay::{FleetCount, FleetDeletion, FleetStore, FleetTaken, FleetVerdict};

/// What one gateway knows of the budgets of its fleet.
pub struct FleetBudgets {
    store: Arc<dyn FleetStore>,
    /// The largest limit of any budget of a key since the start; 0 if there was none.
    widest_key: AtomicU32,
    /// The same for an account.
    widest_account: AtomicU32,
}

/// A deletion that the fleet has counted.
pub struct CountedByFleet {
    deletion: FleetDeletion,
    taken: FleetTaken,
}

impl FleetBudgets {
    /// Counts in this store.
    pub fn new(store: Arc<dyn FleetStore>) -> Self {
        Self { store, widest_key: AtomicU32::new(0), widest_account: AtomicU32::new(0) }
    }

    /// Whether another deletion would be allowed now.
    pub(super) async fn judge(&self, key: &str, account: &str, budgets: Budgets) -> Result<(), NotCounted> {
        match self.deletion(key, account, budgets) {
            Some(deletion) => self.count(deletion, false).await.map(drop),
            None => Ok(()),
        }
    }

    /// Counts one deletion for the key and for the account, or for neither. `None` if there was no budget since the start:
    /// then nothing is counted, and the store is not asked.
    pub(super) async fn take(
        &self,
        key: &str,
        account: &str,
        budgets: Budgets,
    ) -> Result<Option<Box<CountedByFleet>>, NotCounted> {
        match self.deletion(key, account, budgets) {
            Some(deletion) => self.count(deletion, true).await.map(Box::new).map(Some),
            None => Ok(None),
        }
    }

    /// Undoes [`FleetBudgets::take`].
    pub(super) async fn give_back(&self, CountedByFleet { deletion, taken }: CountedByFleet) {
        self.store.give_back(deletion, taken).await;
    }

    async fn count(&self, deletion: FleetDeletion, take: bool) -> Result<CountedByFleet, NotCounted> {
        match self.store.count(deletion.clone(), take).await {
            Ok(FleetVerdict::Allowed(taken)) => Ok(CountedByFleet { deletion, taken }),
            Ok(FleetVerdict::Exceeded(left)) => Err(NotCounted::Exceeded(BudgetExceeded(left))),
            Ok(FleetVerdict::Lost(left)) => Err(NotCounted::Lost(left)),
            Err(why) => Err(NotCounted::Unknown(why)),
        }
    }

    /// What is counted for a key and an account. As in one process, deletions are counted for the largest limit there has
    /// been, also while there is no budget.
    fn deletion(&self, key: &str, account: &str, budgets: Budgets) -> Option<FleetDeletion> {
        let count = |widest: &AtomicU32, budget: Option<Budget>, name: &str| {
            let limit = budget.map(|budget| (budget.limit.get(), budget.span));
            let now = limit.map_or(0, |(limit, _)| limit);
            let kept = widest.fetch_max(now, Ordering::Relaxed).max(now);
            (kept > 0).then(|| FleetCount { name: name.to_owned(), limit, kept })
        };
        let key = count(&self.widest_key, budgets.key, key);
        let account = count(&self.widest_account, budgets.account, account);
        (key.is_some() || account.is_some()).then_some(FleetDeletion {
            key,
            account,
            accepts_lost: budgets.accepts_lost_counts,
            kept_for: Budget::LONGEST_SPAN,
        })
    }
}
