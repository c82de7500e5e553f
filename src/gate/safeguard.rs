use std::ops::Deref;
use std::sync::Arc;

use http::header::HeaderName;

use super::authorize::question;
use super::{Authorized, Gate, Observation, Process, Purpose};
use crate::refusal::{self, RefusedAfterSpend};
use crate::safeguard::{NotLearned, Spent, Takings};
use crate::throttle::Slot;

/// The digest by which a caller confirms which automations may stop.
const X_SALTGATE_CONFIRM: HeaderName = HeaderName::from_static("x-saltgate-confirm");

/// The last look before the point of no return (contract §1, step 6): is it frozen, is there
/// something left of the budget, would automations stop?
///
/// Freeze and budget are judged again where it counts: the budget when it is taken
/// ([`super::Record`]), the freeze when the deletion is released ([`super::Release`]).
pub struct Safeguard(Arc<Process>);

/// The same look where nothing is held back (`mode = "observe"`). What passes is counted apart: it
/// is not on record, and takes nothing of what is.
pub struct Foresee(Arc<Process>);

/// A request that no safety catch holds back.
pub struct Cleared {
    authorized: Authorized,
}

impl Safeguard {
    /// Judges by what the process has frozen and counted.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl Gate<Authorized> for Safeguard {
    type Out = Cleared;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, authorized: Authorized, seen: &mut Observation) -> Result<Cleared, RefusedAfterSpend> {
        judge(&self.0, &self.0.takings, &authorized, seen).await?;
        Ok(Cleared { authorized })
    }
}

impl Foresee {
    /// Judges by what the process has frozen, and by what it let pass without holding back.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl Gate<Authorized> for Foresee {
    type Out = ();
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, authorized: Authorized, seen: &mut Observation) -> Result<(), RefusedAfterSpend> {
        let Process { watched, clock, .. } = &*self.0;
        judge(&self.0, watched, &authorized, seen).await?;
        let caller = authorized.caller();
        let budgets = authorized.generation().budgets;
        let taken = watched.take(&caller.api_key, &caller.owner.account, budgets, clock.elapsed());
        taken.map(drop).map_err(|Spent(left)| RefusedAfterSpend::BudgetSpent(left))
    }
}

/// The verdict alone: nothing is taken, nothing is changed.
pub(super) async fn judge<P: Purpose>(
    process: &Process,
    takings: &Takings,
    authorized: &Authorized<P>,
    seen: &mut Observation,
) -> Result<(), RefusedAfterSpend> {
    let caller = authorized.caller();
    let (key, account) = (&*caller.api_key, &*caller.owner.account);
    if process.freeze.holds_back(account, key) {
        return Err(RefusedAfterSpend::Frozen);
    }
    let budgets = authorized.generation().budgets;
    if budgets.is_any() {
        let left = takings.judge(key, account, budgets, process.clock.elapsed());
        left.map_err(|Spent(left)| RefusedAfterSpend::BudgetSpent(left))?;
    }
    match authorized.route().automations_path(authorized.segment()) {
        None => Ok(()),
        Some(path) => Box::pin(judge_automations(path, authorized, seen)).await,
    }
}

async fn judge_automations<P: Purpose>(
    path: String,
    authorized: &Authorized<P>,
    seen: &mut Observation,
) -> Result<(), RefusedAfterSpend> {
    let question = question(authorized, &path, seen.id()).map_err(|error| {
        seen.detail = Some(error.to_string());
        RefusedAfterSpend::Internal
    })?;
    let guard = &authorized.generation().guard;
    let asked = guard.ask(authorized.upstream(), question, authorized.segment()).await;
    let linked = asked.map_err(|not| match not {
        NotLearned::Timeout => RefusedAfterSpend::AutomationsTimeout,
        // Where the service judges account and creator itself, this is how it says no.
        NotLearned::NotFound if authorized.learned().is_none() => RefusedAfterSpend::SegmentNotFound,
        NotLearned::NotFound => {
            seen.detail = Some("the upstream answered 404 when asked for linked automations".into());
            RefusedAfterSpend::AutomationsUnavailable
        }
        NotLearned::Unclear(why) => {
            seen.detail = Some(why);
            RefusedAfterSpend::AutomationsUnavailable
        }
    })?;
    if linked.is_empty() {
        return Ok(());
    }
    let digest = linked.digest(&authorized.caller().owner.account, authorized.segment());
    // Said twice is not said: the one that was meant cannot be told.
    let mut confirmed = authorized.headers().get_all(X_SALTGATE_CONFIRM).iter();
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
    /// The slot, for as long as the answer takes. The request is over.
    pub(super) fn into_slot(self) -> Slot {
        self.authorized.into_routed().into_fresh().into_slot()
    }
}

impl Deref for Cleared {
    type Target = Authorized;

    fn deref(&self) -> &Authorized {
        &self.authorized
    }
}
