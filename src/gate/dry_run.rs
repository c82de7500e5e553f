//! A dry run: what a deletion would meet, told to whoever may know (`POST …/deletion-check`).
//!
//! It turns off the way of deletions where its route is known ([`Fork`]), and ends in
//! [`ReportDryRun`]. Nothing on its way has a record to write an intent to, and without an open
//! intent the upstream sends nothing: it can ask, and that is all it can. What is refused before
//! the safety catches is refused as the deletion would be, so a dry run tells nobody more.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{Answered, Body, json as json_answer, show};
use super::authorize::Authorized;
use super::chain::Gate;
use super::observation::Observation;
use super::route::{Directed, DryRun, Routed};
use super::safeguard::SafeguardChecks;
use super::send::Concluded;
use crate::clock::Clock;
use crate::plain;
use crate::refusal::{Reason, Refusal, RefusedAfterSpend, Remaining};
use crate::repeats::KeptAnswer;
use crate::safeguard::{BudgetUsage, Freeze};

/// The way of deletions, and that of dry runs beside it.
pub(crate) struct Fork<D, R> {
    deletions: D,
    dry_runs: R,
}

/// How a request ended that was let through.
pub(crate) enum Ending {
    /// It was sent, or failed to be.
    Deletion(Concluded),
    /// It was told what would happen.
    DryRun(DryRunReport),
}

/// What a deletion would meet. Only [`ReportDryRun`] makes one.
pub(crate) struct DryRunReport(Value);

/// The last of the gates of dry runs.
pub(crate) struct ReportDryRun(SafeguardChecks);

impl Ending {
    /// The answer, as far as it is kept for repeats.
    pub(crate) fn kept(&self) -> KeptAnswer {
        match self {
            Self::Deletion(concluded) => concluded.kept(),
            Self::DryRun(DryRunReport(told)) => KeptAnswer::own(200, told.to_string().into()),
        }
    }
}

impl<D, R> Fork<D, R> {
    /// Deletions end with `deletions`, dry_runs with `dry_runs`.
    pub(crate) fn new(deletions: D, dry_runs: R) -> Self {
        Self { deletions, dry_runs }
    }
}

impl<D, R> Gate<Directed> for Fork<D, R>
where
    D: Gate<Routed, Out = Concluded, Refusal = RefusedAfterSpend>,
    R: Gate<Routed<DryRun>, Out = DryRunReport, Refusal = RefusedAfterSpend>,
{
    type Out = Ending;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, directed: Directed, seen: &mut Observation) -> Result<Ending, RefusedAfterSpend> {
        match directed {
            Directed::Deletion(routed) => self.deletions.decide(routed, seen).await.map(Ending::Deletion),
            // In a box of its own: a deletion would have to carry its room about.
            Directed::DryRun(routed) => Box::pin(self.dry_runs.decide(routed, seen)).await.map(Ending::DryRun),
        }
    }
}

impl ReportDryRun {
    /// Tells by what is frozen, and by what was taken of the budgets.
    pub(crate) fn new(freeze: &Arc<Freeze>, budget_usage: &Arc<BudgetUsage>, clock: &Clock) -> Self {
        Self(SafeguardChecks::new(freeze, budget_usage, clock))
    }
}

impl Gate<Authorized<DryRun>> for ReportDryRun {
    type Out = DryRunReport;
    type Refusal = RefusedAfterSpend;

    async fn decide(
        &self,
        authorized: Authorized<DryRun>,
        seen: &mut Observation,
    ) -> Result<DryRunReport, RefusedAfterSpend> {
        report(&self.0, &authorized, seen).await
    }
}

async fn report(
    catches: &SafeguardChecks,
    authorized: &Authorized<DryRun>,
    seen: &mut Observation,
) -> Result<DryRunReport, RefusedAfterSpend> {
    let would = match catches.judge(authorized, seen).await {
        Ok(()) => None,
        Err(
            refused @ (RefusedAfterSpend::Frozen
            | RefusedAfterSpend::BudgetSpent(_)
            | RefusedAfterSpend::AutomationsLinked(_)),
        ) => Some(refused),
        Err(refused) => return Err(refused),
    };
    let reason = would.as_ref().map_or(Reason::Ok, Refusal::reason);
    let answer = would.as_ref().map(|refused| refused.answer(Remaining::Never));
    seen.rehearsed_on_record(reason);
    let mut told = json!({
        "wouldDelete": would.is_none(),
        "status": answer.map_or(200, |answer| answer.status),
        "reason": reason.as_str(),
        "segmentId": authorized.routed().segment().as_str(),
    });
    if let (Some(refused), Some(answer)) = (&would, answer) {
        told["errorCode"] = answer.code.into();
        told["errorMessage"] = answer.message().into();
        if let Some(seconds) = answer.wait_seconds() {
            told["retryAfter"] = seconds.into();
        }
        if let Some(linked) = refused.linked() {
            show(linked, &mut told);
        }
    } else if authorized.segment_info().is_none() {
        told["note"] = "account and creator are left to the service, which may still refuse".into();
    }
    Ok(DryRunReport(told))
}

impl DryRunReport {
    pub(super) fn into_body(self) -> Value {
        self.0
    }
}

impl Answered for Ending {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Deletion(concluded) => concluded.into_response(),
            Self::DryRun(foretold) => json_answer(StatusCode::OK, plain::json_line(&foretold.into_body()).into()),
        }
    }
}
