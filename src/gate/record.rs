//! The gate that writes the intent into the record, before anything irreversible.

use std::sync::Arc;

use super::chain::Gate;
use super::observation::Observation;
use super::safeguard::{Cleared, over_budget};
use crate::audit::{self, OpenIntent, RecordEntry};
use crate::clock::Clock;
use crate::policy::Role;
use crate::refusal::RefusedAfterSpend;
use crate::safeguard::{BudgetAnswer, BudgetCounts};
use crate::telemetry::Stage;

/// Records the intent and takes the deletion from the budget in the same step.
pub struct RecordIntent {
    record: audit::Record,
    budget_usage: Arc<BudgetCounts>,
    clock: Clock,
}

/// A recorded request: a verified signer, a spent salt, a permit, and an intent on disk.
pub struct Recorded {
    cleared: Cleared,
    intent: OpenIntent,
}

impl RecordIntent {
    /// Writes to this record, and takes from the budgets.
    pub fn new(record: &audit::Record, budget_usage: &Arc<BudgetCounts>, clock: &Clock) -> Self {
        Self { record: record.clone(), budget_usage: budget_usage.clone(), clock: clock.clone() }
    }
}

impl Gate<Cleared> for RecordIntent {
    type Out = Recorded;
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "record";

    async fn decide(&self, cleared: Cleared, seen: &mut Observation) -> Result<Recorded, RefusedAfterSpend> {
        let Self { record, budget_usage, clock } = self;
        let request = cleared.authorized().routed().request();
        let caller = request.caller();
        let (key, account) = (&*caller.api_key, &*caller.owner.account);
        let budgets = request.head().generation().budgets;
        let taken = match budget_usage.take(key, account, budgets, || clock.elapsed()) {
            BudgetAnswer::Now(taken) => taken,
            BudgetAnswer::Later(taken) => taken.await,
        };
        let taken = taken.map_err(|why| over_budget(why, seen))?;
        let written = match record.open_on_none() {
            Some(intent) => Ok(intent),
            None => {
                let entry = Box::new(entry(&cleared, seen));
                Box::pin(record.open(entry)).await
            }
        };
        let intent = match written {
            Ok(intent) => intent,
            Err(_) => {
                // Boxed to keep the future small.
                Box::pin(budget_usage.give_back(key, account, taken)).await;
                return Err(RefusedAfterSpend::RecordUnavailable);
            }
        };
        drop(taken);
        seen.on_record();
        seen.passed(Stage::Record);
        Ok(Recorded { cleared, intent })
    }
}

/// The entry of the intent. Who wants what comes from the proof; only the time of arrival and the request id come
/// from the observation.
fn entry(cleared: &Cleared, seen: &Observation) -> RecordEntry {
    let (routed, segment_info) = (cleared.authorized().routed(), cleared.authorized().segment_info());
    let (caller, client) = (routed.request().caller(), routed.request().head().client());
    let creator = segment_info.and_then(|segment_info| segment_info.creator().ok());
    RecordEntry {
        request_id: seen.id().to_str().unwrap_or_default().to_owned(),
        api_key: caller.api_key.to_string(),
        account: caller.owner.account.to_string(),
        member: caller.owner.member.to_string(),
        role: caller.role.map(Role::as_str),
        client: client.address().map(|_| client.as_str().to_owned()),
        route: Some(routed.route().pattern().to_owned()),
        segment: Some(routed.segment().as_str().to_owned()),
        creator: creator.map(|creator| creator.to_string()),
        name: segment_info.and_then(|segment_info| segment_info.name()).map(str::to_owned),
        print: seen.print(),
        key_set: Some(routed.request().head().generation().key_set),
        upstream_status: None,
        started: seen.started(),
    }
}

impl Recorded {
    /// The recorded request.
    pub fn cleared(&self) -> &Cleared {
        &self.cleared
    }

    pub(super) fn into_parts(self) -> (Cleared, OpenIntent) {
        (self.cleared, self.intent)
    }
}
