//! The gate that decides whether the caller may delete the segment.

use super::chain::Gate;
use super::observation::Observation;
use super::route::{Deletion, Purpose, Routed};
use crate::ownership::{self, Ownership, OwnershipError, Pointers, SegmentInfo};
use crate::policy::{ClientCondition, Condition, Permit, PermitRefusal, RoleReach};
use crate::refusal::RefusedAfterSpend;
use crate::telemetry::Stage;
use crate::trace::ChildSpan;
use crate::upstream::{Identity, InvalidRequestHead, RequestHead, headers};

/// Checks that the caller's role may delete this segment, and that the segment is the version that the client means
/// (contract §5). The service, or the database that it uses, says whose segment it is.
pub struct Authorize;

/// A request that the decision table permits.
pub struct Authorized<P = Deletion> {
    routed: Routed<P>,
    /// Boxed to keep the value small that later gates pass on; `None` if nobody is asked.
    segment_info: Option<Box<SegmentInfo>>,
    permit: Permit,
}

impl<P: Purpose> Gate<Routed<P>> for Authorize {
    type Out = Authorized<P>;
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "authorize";

    async fn decide(&self, routed: Routed<P>, seen: &mut Observation) -> Result<Authorized<P>, RefusedAfterSpend> {
        let verdict = judge(&routed, seen).await;
        seen.passed(Stage::Authorize);
        let (permit, segment_info) = verdict?;
        Ok(Authorized { routed, segment_info, permit })
    }
}

async fn judge<P: Purpose>(
    routed: &Routed<P>,
    seen: &mut Observation,
) -> Result<(Permit, Option<Box<SegmentInfo>>), RefusedAfterSpend> {
    let caller = routed.request().caller();
    if routed.route().reach(caller.role) == RoleReach::Nothing {
        return Err(RefusedAfterSpend::RoleInsufficient);
    }
    let head = routed.request().head();
    let found = match &head.generation().ownership {
        Ownership::Delegate => {
            let permitted = routed.route().judge_role(caller.role).map_err(refusal)?;
            return Ok((permitted.on(condition(routed, None)?), None));
        }
        Ownership::Upstream(pointers) => Box::pin(look_up(pointers, routed, seen)).await?,
        Ownership::Postgres(table) => {
            let asked = seen.trace_time();
            let found = Box::pin(ownership::look_up(table, head.worker(), routed.segment())).await;
            seen.child_ended(ChildSpan::LookUp, asked);
            found
        }
    };
    let segment_info = Box::new(found.map_err(|not| unknown(not, seen))?);
    // The account is checked first: a caller who cannot see a segment must not learn anything about it, not even
    // that its creator is unknown.
    let in_account =
        routed.route().judge_account(caller.role, &caller.owner, segment_info.account()).map_err(refusal)?;
    seen.name = segment_info.name().map(str::to_owned);
    let creator = segment_info.creator().map_err(|why| {
        seen.detail = Some(why.to_string());
        RefusedAfterSpend::OwnershipUnavailable
    })?;
    seen.creator = Some((**creator).into());
    let permitted = in_account.judge_creator(creator).map_err(refusal)?;
    let permit = permitted.on(condition(routed, Some(&segment_info))?);
    Ok((permit, Some(segment_info)))
}

/// Evaluates the client's own conditions against the version that the permission was based on.
fn condition<P>(routed: &Routed<P>, segment_info: Option<&SegmentInfo>) -> Result<Condition, RefusedAfterSpend> {
    let own = headers::conditions(routed.request().head().headers()).map(|condition| match condition {
        headers::ConditionHeader::IfMatch(value) => ClientCondition::IfMatch(value.as_bytes()),
        headers::ConditionHeader::Other => ClientCondition::Other,
    });
    let version = segment_info.and_then(|segment_info| segment_info.version().cloned());
    Condition::judge(version, own).map_err(|_| RefusedAfterSpend::PreconditionFailed)
}

fn refusal(refusal: PermitRefusal) -> RefusedAfterSpend {
    match refusal {
        PermitRefusal::RoleInsufficient => RefusedAfterSpend::RoleInsufficient,
        PermitRefusal::NotCreator => RefusedAfterSpend::NotCreator,
        PermitRefusal::NotFound => RefusedAfterSpend::SegmentNotFound,
    }
}

async fn look_up<P: Purpose>(
    pointers: &Pointers,
    routed: &Routed<P>,
    seen: &mut Observation,
) -> Result<Result<SegmentInfo, OwnershipError>, RefusedAfterSpend> {
    let path = routed.route().path(routed.segment()).concat();
    let question = question(routed, &path, seen, ChildSpan::LookUp).map_err(|error| {
        seen.detail = Some(error.to_string());
        RefusedAfterSpend::Internal
    })?;
    let asked = seen.trace_time();
    let answer = pointers.look_up(routed.request().head().upstream(), question, routed.segment()).await;
    seen.child_ended(ChildSpan::LookUp, asked);
    Ok(answer)
}

fn unknown(not: OwnershipError, seen: &mut Observation) -> RefusedAfterSpend {
    match not {
        OwnershipError::NoSuchSegment => RefusedAfterSpend::SegmentNotFound,
        OwnershipError::Timeout => RefusedAfterSpend::OwnershipTimeout,
        OwnershipError::Unclear(why) => {
            seen.detail = Some(why.to_string());
            RefusedAfterSpend::OwnershipUnavailable
        }
    }
}

/// A GET with Saltgate's own headers and none of the client's. In traces it is this part of its request.
pub(super) fn question<P>(
    routed: &Routed<P>,
    path: &str,
    seen: &Observation,
    part: ChildSpan,
) -> Result<RequestHead, InvalidRequestHead> {
    let caller = routed.request().caller();
    let identity = Identity {
        account: &caller.owner.account,
        member: &caller.owner.member,
        role: caller.role.map(crate::policy::Role::as_str),
        api_key: &caller.api_key,
        creator: None,
        request_id: seen.id(),
    };
    let mut head = headers::question(path, &identity)?;
    seen.write_trace(&mut head, part)?;
    Ok(head)
}

impl<P> Authorized<P> {
    /// The request with its route and segment.
    pub fn routed(&self) -> &Routed<P> {
        &self.routed
    }

    /// What is known of the segment; `None` if the service itself checks the permission.
    pub fn segment_info(&self) -> Option<&SegmentInfo> {
        self.segment_info.as_deref()
    }

    /// The permit, with the condition under which it holds.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    pub(super) fn into_routed(self) -> Routed<P> {
        self.routed
    }
}
