use std::sync::Arc;

use http::header::HeaderName;

use super::authorize::Authorized;
use super::authorize::question;
use super::chain::Gate;
use super::observation::Observation;
use super::route::Purpose;
use crate::clock::Clock;
use crate::refusal::{self, RefusedAfterSpend};
use crate::safeguard::{AutomationsError, BudgetExceeded, BudgetUsage, Freeze};
use crate::throttle::Slot;

/// The digest by which a caller confirms which automations may stop.
const X_SALTGATE_CONFIRM: HeaderName = HeaderName::from_static("x-saltgate-confirm");

/// The last look before the point of no return (contract §1, step 6): is it frozen, is there
/// something left of the budget, would automations stop?
///
/// Freeze and budget are judged again where it counts: the budget when it is taken
/// ([`super::RecordIntent`]), the freeze when the deletion is released ([`super::Release`]).
pub struct Safeguard(SafeguardChecks);

/// The same look where nothing is held back (`mode = "observe"`). What passes is counted apart: it
/// is not on record, and takes nothing of what is.
pub(crate) struct DryRunSafeguard(SafeguardChecks);

/// What holds back: the freeze, and what was taken of the budgets.
pub(super) struct SafeguardChecks {
    freeze: Arc<Freeze>,
    budget_usage: Arc<BudgetUsage>,
    clock: Clock,
}

/// A request that no safety catch holds back.
pub struct Cleared {
    authorized: Authorized,
}

impl Safeguard {
    /// Judges by what is frozen, and by what was taken of the budgets.
    pub fn new(freeze: &Arc<Freeze>, budget_usage: &Arc<BudgetUsage>, clock: &Clock) -> Self {
        Self(SafeguardChecks::new(freeze, budget_usage, clock))
    }
}

impl Gate<Authorized> for Safeguard {
    type Out = Cleared;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, authorized: Authorized, seen: &mut Observation) -> Result<Cleared, RefusedAfterSpend> {
        self.0.judge(&authorized, seen).await?;
        Ok(Cleared { authorized })
    }
}

impl DryRunSafeguard {
    /// Judges by what is frozen, and by what would have been taken of the budgets so far.
    pub(crate) fn new(freeze: &Arc<Freeze>, shadow_budget_usage: &Arc<BudgetUsage>, clock: &Clock) -> Self {
        Self(SafeguardChecks::new(freeze, shadow_budget_usage, clock))
    }
}

impl Gate<Authorized> for DryRunSafeguard {
    type Out = ();
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, authorized: Authorized, seen: &mut Observation) -> Result<(), RefusedAfterSpend> {
        self.0.judge(&authorized, seen).await?;
        let SafeguardChecks { budget_usage: shadow_budget_usage, clock, .. } = &self.0;
        let request = authorized.routed().request();
        let (caller, budgets) = (request.caller(), request.head().generation().budgets);
        let taken = shadow_budget_usage.take(&caller.api_key, &caller.owner.account, budgets, clock.elapsed());
        taken.map(drop).map_err(|BudgetExceeded(left)| RefusedAfterSpend::BudgetSpent(left))
    }
}

impl SafeguardChecks {
    pub(super) fn new(freeze: &Arc<Freeze>, budget_usage: &Arc<BudgetUsage>, clock: &Clock) -> Self {
        Self { freeze: freeze.clone(), budget_usage: budget_usage.clone(), clock: clock.clone() }
    }

    /// The verdict alone: nothing is taken, nothing is changed.
    pub(super) async fn judge<P: Purpose>(
        &self,
        authorized: &Authorized<P>,
        seen: &mut Observation,
    ) -> Result<(), RefusedAfterSpend> {
        let (routed, request) = (authorized.routed(), authorized.routed().request());
        let caller = request.caller();
        let (key, account) = (&*caller.api_key, &*caller.owner.account);
        if self.freeze.is_frozen(account, key) {
            return Err(RefusedAfterSpend::Frozen);
        }
        let budgets = request.head().generation().budgets;
        if budgets.is_any() {
            let left = self.budget_usage.judge(key, account, budgets, self.clock.elapsed());
            left.map_err(|BudgetExceeded(left)| RefusedAfterSpend::BudgetSpent(left))?;
        }
        match routed.route().automations_path(routed.segment()) {
            None => Ok(()),
            Some(path) => Box::pin(judge_automations(path, authorized, seen)).await,
        }
    }
}

async fn judge_automations<P: Purpose>(
    path: String,
    authorized: &Authorized<P>,
    seen: &mut Observation,
) -> Result<(), RefusedAfterSpend> {
    let (routed, request) = (authorized.routed(), authorized.routed().request());
    let question = question(routed, &path, seen.id()).map_err(|error| {
        seen.detail = Some(error.to_string());
        RefusedAfterSpend::Internal
    })?;
    let guard = &request.head().generation().guard;
    let asked = guard.ask(request.head().upstream(), question, routed.segment()).await;
    let linked = asked.map_err(|not| match not {
        AutomationsError::Timeout => RefusedAfterSpend::AutomationsTimeout,
        // Where the service judges account and creator itself, this is how it says no.
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
    // Of two confirmations nobody can tell which one was meant, so neither counts.
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
    /// The request, its route and its permit.
    pub fn authorized(&self) -> &Authorized {
        &self.authorized
    }

    /// The slot, for as long as the answer takes. The request is over.
    pub(super) fn into_slot(self) -> Slot {
        self.authorized.into_routed().into_fresh().into_slot()
    }
}
