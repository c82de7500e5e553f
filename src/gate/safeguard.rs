//! The gate that applies the safeguards: freeze, budget and automation guard.

use std::sync::Arc;

use http::header::HeaderName;

use super::authorize::Authorized;
use super::authorize::question;
use super::chain::Gate;
use super::observation::Observation;
use super::route::Purpose;
use crate::clock::Clock;
use crate::refusal::{self, RefusedAfterSpend};
use crate::safeguard::{AutomationsError, BudgetAnswer, BudgetCounts, BudgetExceeded, Freeze, NotCounted};
use crate::throttle::Slot;
use crate::trace::ChildSpan;

/// The header in which a caller confirms, by digest, which automations may stop.
const X_SALTGATE_CONFIRM: HeaderName = HeaderName::from_static("x-saltgate-confirm");

/// Applies the safeguards before the point of no return (contract §1, step 6): refuses what is frozen, what exceeds
/// the budget, and what would stop automations.
///
/// Freeze and budget are checked again where it matters: the budget when the deletion is taken from it
/// ([`super::RecordIntent`]), the freeze when the deletion is released ([`super::Release`]).
pub struct Safeguard(SafeguardChecks);

/// Applies the same safeguards in observe mode. Deletions are counted in a budget usage of their own, because they
/// are not recorded and take nothing from the real one.
pub(crate) struct DryRunSafeguard(SafeguardChecks);

/// What the safeguards check: the freeze, and the usage of the budgets.
pub(super) struct SafeguardChecks {
    freeze: Arc<Freeze>,
    budget_usage: Arc<BudgetCounts>,
    clock: Clock,
}

/// A request that passed the safeguards.
pub struct Cleared {
    authorized: Authorized,
}

impl Safeguard {
    /// Checks this freeze and this usage of the budgets.
    pub fn new(freeze: &Arc<Freeze>, budget_usage: &Arc<BudgetCounts>, clock: &Clock) -> Self {
        Self(SafeguardChecks::new(freeze, budget_usage, clock))
    }
}

impl Gate<Authorized> for Safeguard {
    type Out = Cleared;
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "safeguard";

    async fn decide(&self, authorized: Authorized, seen: &mut Observation) -> Result<Cleared, RefusedAfterSpend> {
        self.0.judge(&authorized, seen, true).await?;
        Ok(Cleared { authorized })
    }
}

impl DryRunSafeguard {
    /// Checks this freeze and what would have been used of the budgets so far.
    pub(crate) fn new(freeze: &Arc<Freeze>, shadow_budget_usage: &Arc<BudgetCounts>, clock: &Clock) -> Self {
        Self(SafeguardChecks::new(freeze, shadow_budget_usage, clock))
    }
}

impl Gate<Authorized> for DryRunSafeguard {
    type Out = ();
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "safeguard";

    async fn decide(&self, authorized: Authorized, seen: &mut Observation) -> Result<(), RefusedAfterSpend> {
        self.0.judge(&authorized, seen, true).await?;
        let SafeguardChecks { budget_usage: shadow_budget_usage, clock, .. } = &self.0;
        let request = authorized.routed().request();
        let (caller, budgets) = (request.caller(), request.head().generation().budgets);
        let taken = shadow_budget_usage.take(&caller.api_key, &caller.owner.account, budgets, || clock.elapsed());
        let taken = match taken {
            BudgetAnswer::Now(taken) => taken,
            BudgetAnswer::Later(taken) => taken.await,
        };
        taken.map(drop).map_err(|why| over_budget(why, seen))
    }
}

impl SafeguardChecks {
    pub(super) fn new(freeze: &Arc<Freeze>, budget_usage: &Arc<BudgetCounts>, clock: &Clock) -> Self {
        Self { freeze: freeze.clone(), budget_usage: budget_usage.clone(), clock: clock.clone() }
    }

    /// Returns the verdict alone: takes nothing and changes nothing. If the deletion is taken from the budget next, the
    /// fleet is not asked twice, unless the service is asked in between.
    pub(super) async fn judge<P: Purpose>(
        &self,
        authorized: &Authorized<P>,
        seen: &mut Observation,
        taken_next: bool,
    ) -> Result<(), RefusedAfterSpend> {
        let (routed, request) = (authorized.routed(), authorized.routed().request());
        let caller = request.caller();
        let (key, account) = (&*caller.api_key, &*caller.owner.account);
        if self.freeze.is_frozen(account, key) {
            return Err(RefusedAfterSpend::Frozen);
        }
        let budgets = request.head().generation().budgets;
        let is_judged_next = taken_next && self.budget_usage.is_shared() && !routed.route().is_guarded();
        if budgets.is_any() && !is_judged_next {
            let judged = match self.budget_usage.judge(key, account, budgets, self.clock.elapsed()) {
                BudgetAnswer::Now(judged) => judged,
                BudgetAnswer::Later(judged) => judged.await,
            };
            judged.map_err(|why| over_budget(why, seen))?;
        }
        match routed.route().automations_path(routed.segment()) {
            None => Ok(()),
            Some(path) => Box::pin(judge_automations(path, authorized, seen)).await,
        }
    }
}

/// The refusal of a deletion that no budget allows. Only the log says that counts were lost.
pub(super) fn over_budget(why: NotCounted, seen: &mut Observation) -> RefusedAfterSpend {
    match why {
        NotCounted::Exceeded(BudgetExceeded(left)) => RefusedAfterSpend::BudgetSpent(left),
        NotCounted::Lost(left) => {
            seen.detail =
                Some("Redis lost data, and with them which deletions were made (budget.on_lost_counts)".into());
            RefusedAfterSpend::BudgetSpent(left)
        }
        NotCounted::Unknown(why) => {
            seen.detail = Some(format!("the budget of the fleet is not known: {why}"));
            RefusedAfterSpend::BudgetUnknown
        }
    }
}

async fn judge_automations<P: Purpose>(
    path: String,
    authorized: &Authorized<P>,
    seen: &mut Observation,
) -> Result<(), RefusedAfterSpend> {
    let (routed, request) = (authorized.routed(), authorized.routed().request());
    let question = question(routed, &path, seen, ChildSpan::Automations).map_err(|error| {
        seen.detail = Some(error.to_string());
        RefusedAfterSpend::Internal
    })?;
    let guard = &request.head().generation().guard;
    let asked = seen.trace_time();
    let answer = guard.ask(request.head().upstream(), question, routed.segment()).await;
    seen.child_ended(ChildSpan::Automations, asked);
    let linked = answer.map_err(|not| match not {
        AutomationsError::Timeout => RefusedAfterSpend::AutomationsTimeout,
        // If the service checks account and creator itself, it refuses by a 404 here.
        AutomationsError::NotFound if authorized.segment_info().is_none() => RefusedAfterSpend::SegmentNotFound,
        AutomationsError::NotFound => {
            seen.detail = Some("the upstream answered 404 when asked for linked automations".into());
            RefusedAfterSpend::AutomationsUnavailable
        }
        AutomationsError::Unclear(why) => {
            seen.detail = Some(why.to_string());
            RefusedAfterSpend::AutomationsUnavailable
        }
    })?;
    if linked.is_empty() {
        return Ok(());
    }
    let digest = linked.digest(&request.caller().owner.account, routed.segment());
    // Two confirmations do not count: it is unclear which one was meant.
    let mut confirmed = request.head().headers().get_all(X_SALTGATE_CONFIRM).iter();
    if let (Some(confirmed), None) = (confirmed.next(), confirmed.next()) {
        if confirmed.as_bytes() == digest.as_bytes() {
            seen.detail = Some(format!("confirmed: linked automations {digest}"));
            return Ok(());
        }
    }
    let automations = linked.iter().map(|(id, name)| (id.to_owned(), name.map(str::to_owned))).collect();
    Err(RefusedAfterSpend::AutomationsLinked(Box::new(refusal::Linked { automations, confirm: digest })))
}

impl Cleared {
    /// The request with its route and permit.
    pub fn authorized(&self) -> &Authorized {
        &self.authorized
    }

    /// Ends the request and keeps its slot, which the answer still needs.
    pub(super) fn into_slot(self) -> Slot {
        self.authorized.into_routed().into_fresh().into_slot()
    }
}
