use std::ops::Deref;

use http::HeaderValue;

use super::{Deletion, Gate, Observation, Purpose, Routed};
use crate::ownership::{Learned, NotLearned, Ownership, Pointers};
use crate::policy::{Permit, Reach, Refusal};
use crate::refusal::RefusedAfterSpend;
use crate::telemetry::Stage;
use crate::upstream::{Identity, RequestHead, Unsayable, hygiene};

/// May this role delete this segment (contract §5)? Whose it is, the service says.
pub struct Authorize;

/// A request that the decision table permits.
pub struct Authorized<P = Deletion> {
    routed: Routed<P>,
    /// In a box: where the service is not asked there is none, and its room would be carried about.
    learned: Option<Box<Learned>>,
    _permit: Permit,
}

impl<P: Purpose> Gate<Routed<P>> for Authorize {
    type Out = Authorized<P>;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, routed: Routed<P>, seen: &mut Observation) -> Result<Authorized<P>, RefusedAfterSpend> {
        let verdict = judge(&routed, seen).await;
        seen.passed(Stage::Authorize);
        let (permit, learned) = verdict?;
        Ok(Authorized { routed, learned, _permit: permit })
    }
}

async fn judge<P: Purpose>(
    routed: &Routed<P>,
    seen: &mut Observation,
) -> Result<(Permit, Option<Box<Learned>>), RefusedAfterSpend> {
    let caller = routed.caller();
    if routed.route().reach(caller.role) == Reach::Nothing {
        return Err(RefusedAfterSpend::RoleInsufficient);
    }
    let pointers = match &routed.generation().ownership {
        Ownership::Delegate => {
            let permit = routed.route().judge_role(caller.role).map_err(refusal)?;
            return Ok((permit, None));
        }
        Ownership::Upstream(pointers) => pointers,
    };
    let learned = Box::new(Box::pin(look_up(pointers, routed, seen)).await?);
    seen.creator = Some(learned.owner.member.clone());
    seen.name.clone_from(&learned.name);
    let permit = routed.route().judge(caller.role, &caller.owner, &learned.owner).map_err(refusal)?;
    Ok((permit, Some(learned)))
}

fn refusal(refusal: Refusal) -> RefusedAfterSpend {
    match refusal {
        Refusal::RoleInsufficient => RefusedAfterSpend::RoleInsufficient,
        Refusal::NotCreator => RefusedAfterSpend::NotCreator,
        Refusal::NotFound => RefusedAfterSpend::SegmentNotFound,
    }
}

async fn look_up<P: Purpose>(
    pointers: &Pointers,
    routed: &Routed<P>,
    seen: &mut Observation,
) -> Result<Learned, RefusedAfterSpend> {
    let path = routed.route().path(routed.segment());
    let question = question(routed, &path, seen.id()).map_err(|error| {
        seen.detail = Some(error.to_string());
        RefusedAfterSpend::Internal
    })?;
    pointers.look_up(routed.upstream(), question, routed.segment()).await.map_err(|not| match not {
        NotLearned::NoSuchSegment => RefusedAfterSpend::SegmentNotFound,
        NotLearned::Timeout => RefusedAfterSpend::OwnershipTimeout,
        NotLearned::Unclear(why) => {
            seen.detail = Some(why);
            RefusedAfterSpend::OwnershipUnavailable
        }
    })
}

/// A GET with our own headers and nothing of the client's.
pub(super) fn question<P>(routed: &Routed<P>, path: &str, id: &HeaderValue) -> Result<RequestHead, Unsayable> {
    let caller = routed.caller();
    let identity = Identity {
        account: &caller.owner.account,
        member: &caller.owner.member,
        role: caller.role.map(crate::policy::Role::as_str),
        api_key: &caller.api_key,
        creator: None,
        request_id: id,
    };
    hygiene::question(path, &identity)
}

impl<P> Authorized<P> {
    /// What the service said of the segment; `None` where that is left to the service.
    pub fn learned(&self) -> Option<&Learned> {
        self.learned.as_deref()
    }

    pub(super) fn into_routed(self) -> Routed<P> {
        self.routed
    }
}

impl<P> Deref for Authorized<P> {
    type Target = Routed<P>;

    fn deref(&self) -> &Routed<P> {
        &self.routed
    }
}
