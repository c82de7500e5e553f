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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::replay::{FleetMember, FleetReading, FleetReport, StoreFuture};

    const MINUTE: Duration = Duration::from_secs(60);

    /// A store that cannot be reached.
    struct Away;

    fn away<T: Send + 'static>() -> StoreFuture<Result<T, String>> {
        Box::pin(async { Err("away".to_owned()) })
    }

    impl FleetStore for Away {
        fn read(&self, _: FleetReport) -> StoreFuture<Result<FleetReading, String>> {
            away()
        }

        fn replace(&self, _: u64, _: String) -> StoreFuture<Result<bool, String>> {
            away()
        }

        fn members(&self) -> StoreFuture<Result<(u64, Vec<FleetMember>), String>> {
            away()
        }

        fn straggling(&self) -> Duration {
            Duration::ZERO
        }

        fn count(&self, _: FleetDeletion, _: bool) -> StoreFuture<Result<FleetVerdict, String>> {
            away()
        }

        fn give_back(&self, _: FleetDeletion, _: FleetTaken) -> StoreFuture<()> {
            Box::pin(async {})
        }
    }

    fn per_minute(limit: u32) -> Option<Budget> {
        Some(Budget { limit: NonZeroU32::new(limit).unwrap(), span: MINUTE })
    }

    fn budgets(key: Option<Budget>, account: Option<Budget>) -> Budgets {
        Budgets { key, account, accepts_lost_counts: false }
    }

    #[test]
    fn a_deletion_counts_for_what_has_had_a_budget_since_the_start() {
        let fleet = FleetBudgets::new(Arc::new(Away));
        let counted = |key, account| {
            let deletion = fleet.deletion("K", "a", budgets(key, account))?;
            let told = |count: FleetCount| (count.name, count.limit, count.kept);
            Some((deletion.key.map(told), deletion.account.map(told)))
        };
        assert_eq!(counted(None, None), None);
        let account = |limit, kept| Some(("a".to_owned(), limit, kept));
        assert_eq!(counted(None, per_minute(3)), Some((None, account(Some((3, MINUTE)), 3))));
        assert_eq!(
            counted(None, per_minute(2)),
            Some((None, account(Some((2, MINUTE)), 3))),
            "a larger one may return"
        );
        assert_eq!(counted(None, None), Some((None, account(None, 3))));
        let key = Some(("K".to_owned(), Some((1, MINUTE)), 1));
        assert_eq!(counted(per_minute(1), None), Some((key, account(None, 3))));
    }

    #[tokio::test]
    async fn the_store_is_asked_only_if_there_has_been_a_budget() {
        let fleet = FleetBudgets::new(Arc::new(Away));
        let none = budgets(None, None);
        assert!(fleet.judge("K", "a", none).await.is_ok());
        assert!(matches!(fleet.take("K", "a", none).await, Ok(None)));
        let some = budgets(per_minute(1), None);
        assert!(matches!(fleet.judge("K", "a", some).await, Err(NotCounted::Unknown(why)) if why == "away"));
        assert!(matches!(fleet.take("K", "a", some).await, Err(NotCounted::Unknown(why)) if why == "away"));
        assert!(fleet.take("K", "a", none).await.is_err(), "it is counted from then on");
    }
}
