//! Dry runs (`POST …/deletion-check`): tell an authorized caller what the deletion would get.
//!
//! A dry run leaves the path of deletions after its route is known ([`Fork`]) and ends in [`ReportDryRun`]. No gate
//! on its path can write an intent, and without an open intent the upstream sends no deletion: a dry run can only
//! look things up. Until the safeguards it is refused exactly as the deletion would be, so it tells nobody more.

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
use crate::safeguard::{BudgetCounts, Freeze};

/// The gates of deletions, and next to them those of dry runs.
pub(crate) struct Fork<D, R> {
    deletions: D,
    dry_runs: R,
}

/// The end of a request that passed all gates.
pub(crate) enum Ending {
    /// The deletion was sent, or could not be.
    Deletion(Concluded),
    /// The dry run was answered.
    DryRun(DryRunReport),
}

/// What a deletion would get. Only [`ReportDryRun`] makes one.
pub(crate) struct DryRunReport(Value);

/// The last gate of dry runs.
pub(crate) struct ReportDryRun(SafeguardChecks);

impl Ending {
    /// The part of the answer that is kept for repeats.
    pub(crate) fn kept(&self) -> KeptAnswer {
        match self {
            Self::Deletion(concluded) => concluded.kept(),
            Self::DryRun(DryRunReport(told)) => KeptAnswer::own(200, told.to_string().into()),
        }
    }
}

impl<D, R> Fork<D, R> {
    /// Sends deletions through `deletions` and dry runs through `dry_runs`.
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
    const NAME: &'static str = "";

    async fn decide(&self, directed: Directed, seen: &mut Observation) -> Result<Ending, RefusedAfterSpend> {
        match directed {
            Directed::Deletion(routed) => {
                let concluded = self.deletions.decide(routed, seen).await?;
                seen.gate_passed(D::NAME);
                Ok(Ending::Deletion(concluded))
            }
            // Boxed on its own, so that the future of a deletion does not grow by it.
            Directed::DryRun(routed) => {
                let report = Box::pin(self.dry_runs.decide(routed, seen)).await?;
                seen.gate_passed(R::NAME);
                Ok(Ending::DryRun(report))
            }
        }
    }
}

impl ReportDryRun {
    /// Reports based on this freeze and on this usage of the budgets.
    pub(crate) fn new(freeze: &Arc<Freeze>, budget_usage: &Arc<BudgetCounts>, clock: &Clock) -> Self {
        Self(SafeguardChecks::new(freeze, budget_usage, clock))
    }
}

impl Gate<Authorized<DryRun>> for ReportDryRun {
    type Out = DryRunReport;
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "report";

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
    let would = match catches.judge(authorized, seen, false).await {
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
    fn into_response(self) -> Box<Response<Body>> {
        match self {
            Self::Deletion(concluded) => concluded.into_response(),
            Self::DryRun(foretold) => {
                Box::new(json_answer(StatusCode::OK, plain::json_line(&foretold.into_body()).into()))
            }
        }
    }
}
