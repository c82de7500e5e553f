//! The order in which connections are evicted: the oldest first.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::activity::{Activity, Attempt, Full};

/// Connections that may be evicted, in the order in which they were accepted.
///
/// The oldest is evicted first, whether or not it sent anything: a new honest client has sent nothing either, and comes
/// last in this order.
#[derive(Default)]
pub(super) struct EvictionOrder(BTreeMap<u64, Arc<Activity>>);

impl EvictionOrder {
    pub(super) fn insert(&mut self, number: u64, activity: Arc<Activity>) {
        self.0.insert(number, activity);
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.0.remove(&number);
    }

    /// Evicts the oldest connection that may be evicted. Returns false if there is none.
    pub(super) fn evict_oldest(&mut self, full: Full) -> bool {
        let mut after = 0;
        while let Some((&number, activity)) = self.0.range(after..).next() {
            let attempt = activity.evict(full);
            if attempt != Attempt::Busy {
                // A proven connection is never evicted, so it is not tried again.
                self.0.remove(&number);
            }
            if attempt == Attempt::Evicted {
                return true;
            }
            after = number + 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_connection_that_is_neither_proven_nor_busy_is_evicted() {
        let all: Vec<Arc<Activity>> = (0..4).map(|_| Arc::default()).collect();
        all[0].prove();
        all[1].begin();
        let mut order = EvictionOrder::default();
        all.iter().zip(0..).for_each(|(activity, number)| order.insert(number, activity.clone()));
        assert!(order.evict_oldest(Full::Gateway));
        let evicted = |n: usize| all[n].evicted_for().is_some();
        assert_eq!([0, 1, 2, 3].map(evicted), [false, false, true, false]);
        all[1].end();
        assert!(order.evict_oldest(Full::Gateway));
        assert!(order.evict_oldest(Full::Gateway));
        assert_eq!([0, 1, 2, 3].map(evicted), [false, true, true, true]);
        assert!(!order.evict_oldest(Full::Gateway));
    }
}
