//! A rehearsal: what a deletion would meet, told to whoever may know (`POST …/deletion-check`).
//!
//! It turns off the way of deletions where its route is known ([`Fork`]), and ends in
//! [`Foretell`]. Nothing on its way has a record to write an intent to, and without an open
//! intent the upstream sends nothing: it can ask, and that is all it can. What is refused before
//! the safety catches is refused as the deletion would be, so a rehearsal tells nobody more.

use std::sync::Arc;

use serde_json::{Value, json};

use super::safeguard::judge;
use super::{Authorized, Concluded, Directed, Gate, Observation, Process, Rehearsal, Routed};
use crate::refusal::{Linked, Reason, Refusal, RefusedAfterSpend};

/// The way of deletions, and that of rehearsals beside it.
pub struct Fork<D, R> {
    deletions: D,
    rehearsals: R,
}

/// How a request ended that was let through.
pub enum Ending {
    /// It was sent, or failed to be.
    Deletion(Concluded),
    /// It was told what would happen.
    Rehearsal(Foretold),
}

/// What a deletion would meet. Only [`Foretell`] makes one.
pub struct Foretold(Value);

/// The last of the gates of rehearsals.
pub struct Foretell(Arc<Process>);

impl<D, R> Fork<D, R> {
    /// Deletions end with `deletions`, rehearsals with `rehearsals`.
    pub fn new(deletions: D, rehearsals: R) -> Self {
        Self { deletions, rehearsals }
    }
}

impl<D, R> Gate<Directed> for Fork<D, R>
where
    D: Gate<Routed, Out = Concluded, Refusal = RefusedAfterSpend>,
    R: Gate<Routed<Rehearsal>, Out = Foretold, Refusal = RefusedAfterSpend>,
{
    type Out = Ending;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, directed: Directed, seen: &mut Observation) -> Result<Ending, RefusedAfterSpend> {
        match directed {
            Directed::Deletion(routed) => self.deletions.decide(routed, seen).await.map(Ending::Deletion),
            // In a box of its own: a deletion would have to carry its room about.
            Directed::Rehearsal(routed) => Box::pin(self.rehearsals.decide(routed, seen)).await.map(Ending::Rehearsal),
        }
    }
}

impl Foretell {
    /// Tells by what the process has frozen and counted.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl Gate<Authorized<Rehearsal>> for Foretell {
    type Out = Foretold;
    type Refusal = RefusedAfterSpend;

    async fn decide(
        &self,
        authorized: Authorized<Rehearsal>,
        seen: &mut Observation,
    ) -> Result<Foretold, RefusedAfterSpend> {
        foretell(&self.0, &authorized, seen).await
    }
}

async fn foretell(
    process: &Process,
    authorized: &Authorized<Rehearsal>,
    seen: &mut Observation,
) -> Result<Foretold, RefusedAfterSpend> {
    let would = match judge(process, &process.takings, authorized, seen).await {
        Ok(()) => None,
        Err(
            refused @ (RefusedAfterSpend::Frozen
            | RefusedAfterSpend::BudgetSpent(_)
            | RefusedAfterSpend::AutomationsLinked(_)),
        ) => Some(refused),
        Err(refused) => return Err(refused),
    };
    let reason = would.as_ref().map_or(Reason::Ok, Refusal::reason);
    seen.rehearsed_on_record(reason);
    let mut told = json!({
        "wouldDelete": would.is_none(),
        "status": would.as_ref().map_or(200, |refused| refused.answer().status),
        "reason": reason.as_str(),
        "segmentId": authorized.segment().as_str(),
    });
    if let Some(refused) = &would {
        let answer = refused.answer();
        told["errorCode"] = answer.code.into();
        told["errorMessage"] = answer.message.into();
        if let Some(seconds) = answer.retry_after {
            told["retryAfter"] = seconds.into();
        }
        if let Some(linked) = refused.linked() {
            show(linked, &mut told);
        }
    } else if authorized.learned().is_none() {
        told["note"] = "account and creator are left to the service, which may still refuse".into();
    }
    Ok(Foretold(told))
}

/// The automations and their digest, as an answer shows them.
pub(super) fn show(linked: &Linked, answer: &mut Value) {
    let automations = linked.automations.iter().map(|(id, name)| json!({ "id": id, "name": name }));
    answer["automations"] = automations.collect();
    answer["confirm"] = linked.confirm.as_str().into();
}

impl Foretold {
    pub(super) fn into_body(self) -> Value {
        self.0
    }
}
