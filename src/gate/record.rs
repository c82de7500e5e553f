use std::ops::Deref;
use std::sync::Arc;

use super::{Cleared, Gate, Observation, Process};
use crate::audit::OpenIntent;
use crate::refusal::RefusedAfterSpend;
use crate::safeguard::Spent;
use crate::telemetry::Stage;

/// The intent, on record before anything irreversible; what it takes of the budget is taken with
/// it.
pub struct Record(Arc<Process>);

/// A request that is on record: a proven signer, a spent salt, a permit, and a line that says so.
pub struct Recorded {
    cleared: Cleared,
    intent: OpenIntent,
}

impl Record {
    /// Writes to the process's record.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl Gate<Cleared> for Record {
    type Out = Recorded;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, cleared: Cleared, seen: &mut Observation) -> Result<Recorded, RefusedAfterSpend> {
        let Process { takings, clock, record, .. } = &*self.0;
        let caller = cleared.caller();
        let (key, account) = (&*caller.api_key, &*caller.owner.account);
        let taken = takings
            .take(key, account, cleared.generation().budgets, clock.elapsed())
            .map_err(|Spent(left)| RefusedAfterSpend::BudgetSpent(left))?;
        let written = match record.open_on_none() {
            Some(intent) => Ok(intent),
            None => match seen.entry().map(Box::new) {
                Some(entry) => Box::pin(record.open(entry)).await.map_err(|_| RefusedAfterSpend::RecordUnavailable),
                None => Err(RefusedAfterSpend::Internal),
            },
        };
        let intent = written.inspect_err(|_| takings.give_back(key, account, &taken))?;
        drop(taken);
        seen.on_record();
        seen.passed(Stage::Record);
        Ok(Recorded { cleared, intent })
    }
}

impl Recorded {
    pub(super) fn into_parts(self) -> (Cleared, OpenIntent) {
        (self.cleared, self.intent)
    }
}

impl Deref for Recorded {
    type Target = Cleared;

    fn deref(&self) -> &Cleared {
        &self.cleared
    }
}
