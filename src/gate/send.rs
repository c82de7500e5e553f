use bytes::Bytes;
use http::header::{CONTENT_TYPE, IF_MATCH, VIA};
use http::{Method, Response, StatusCode};

use super::answer::Body;
use super::answer::{Answered, own};
use super::chain::Gate;
use super::observation::Observation;
use super::relayed::Relayed;
use super::release::Released;
use super::safeguard::Cleared;
use crate::audit::{ClosedIntent, OpenIntent, Outcome};
use crate::event_loop::yield_now;
use crate::policy::Role;
use crate::refusal::{Answer, Reason, RefusedAfterSpend};
use crate::repeats::{KEPT_BODY, KeptAnswer};
use crate::telemetry::{Ended, Stage};
use crate::throttle::Slot;
use crate::upstream::headers::{self, Kept};
use crate::upstream::{Identity, InvalidRequestHead, Judged, MalformedResponse, RequestHead, SendError};

/// The last of the gates of deletions: sends what is released, at most once, and closes its intent.
pub struct Send;

/// A request whose outcome is on record. Only [`Send`] makes one, and what answers takes nothing
/// else.
pub struct Concluded {
    answer: Result<Response<Relayed<Judged, Slot>>, Answer>,
    _intent: ClosedIntent,
}

impl Gate<Released> for Send {
    type Out = Concluded;
    type Refusal = RefusedAfterSpend;

    /// Refuses nothing: what fails from here on has an outcome.
    async fn decide(&self, released: Released, seen: &mut Observation) -> Result<Concluded, RefusedAfterSpend> {
        // In a box: the gates before it would carry its room about.
        Ok(Box::pin(send(released, seen)).await)
    }
}

async fn send(released: Released, seen: &mut Observation) -> Concluded {
    let (cleared, intent, permit) = released.into_parts();
    let head = match deletion(&cleared, seen) {
        Ok(head) => head,
        Err(why) => return Box::pin(unsendable(intent, why.to_string(), seen)).await,
    };
    let sent =
        cleared.authorized().routed().request().head().upstream().send_once(head, kept_body(&cleared), &intent).await;
    // Whatever became of it, nothing of it leaves from here on.
    drop(permit);
    yield_now().await;
    seen.passed(Stage::Send);
    let (answer, outcome, ended, reason) = match sent {
        Ok(response) => {
            let status = response.status();
            seen.upstream_status = Some(status.as_u16());
            let outcome = if status.is_success() {
                Outcome::Deleted(status.as_u16())
            } else {
                Outcome::RefusedByUpstream(status.as_u16())
            };
            let slot = cleared.into_slot();
            let relayed = response.map(|body| Relayed::new(body.holding(slot), seen, Ended::Forwarded));
            (Ok(relayed), outcome, Ended::Forwarded, Reason::Ok)
        }
        Err(error) => {
            let (answer, outcome, reason) = match error {
                SendError::Unreachable(why) => {
                    seen.detail = Some(why);
                    (Answer::BAD_GATEWAY, Outcome::NotSent, Reason::UpstreamUnreachable)
                }
                SendError::ConnectTimeout(why) => {
                    seen.detail = Some(why);
                    (Answer::GATEWAY_TIMEOUT, Outcome::NotSent, Reason::UpstreamTimeout)
                }
                SendError::AnswerLost(status, malformed) => {
                    (Answer::OUTCOME_LOST, unknown(status, malformed, seen), Reason::OutcomeUnknown)
                }
                SendError::AnswerTimeout(status) => {
                    (Answer::OUTCOME_LATE, unknown(status, None, seen), Reason::OutcomeUnknown)
                }
            };
            (Err(answer), outcome, Ended::Failed, reason)
        }
    };
    seen.concluded(ended, reason);
    Concluded { answer, _intent: intent.close(outcome, reason.as_str()).await }
}

/// What is on record where no whole answer came: the status, too, where that much had come of it.
fn unknown(status: Option<StatusCode>, malformed: Option<MalformedResponse>, seen: &mut Observation) -> Outcome {
    seen.broke_off(status, malformed);
    status.map_or(Outcome::Unknown, |status| Outcome::UnknownAfter(status.as_u16()))
}

/// A part of the message cannot be written into one. Whatever was parsed or looked up has a form that can.
async fn unsendable(intent: OpenIntent, why: String, seen: &mut Observation) -> Concluded {
    seen.detail = Some(why);
    seen.concluded(Ended::Failed, Reason::OwnershipUnavailable);
    let intent = intent.close(Outcome::NotSent, seen.reason().as_str()).await;
    Concluded { answer: Err(Answer::BAD_GATEWAY), _intent: intent }
}

/// What goes upstream, rebuilt from what was parsed. Only end-to-end fields are the client's; and the query and the body
/// where the route keeps them.
fn deletion(cleared: &Cleared, seen: &Observation) -> Result<RequestHead, InvalidRequestHead> {
    let (authorized, routed) = (cleared.authorized(), cleared.authorized().routed());
    let received = routed.request().head();
    let path = routed.route().path(routed.segment());
    let query = received.query().filter(|_| routed.route().keep().query);
    let mut head = RequestHead::new(&Method::DELETE, &path, query)?;
    let kept = Kept { authorization: received.generation().authorization, body: !kept_body(cleared).is_empty() };
    headers::end_to_end(&mut head, received.headers(), kept);
    if let Some(tag) = authorized.permit().condition().tag() {
        head.field(&IF_MATCH, tag.value());
    }
    let client = received.client();
    let address = client.address().map(|_| client.as_str());
    headers::forwarded(&mut head, address, client.scheme(), received.host())?;
    head.field(&VIA, seen.via());
    let caller = routed.request().caller();
    let identity = Identity {
        account: &caller.owner.account,
        member: &caller.owner.member,
        role: caller.role.map(Role::as_str),
        api_key: &caller.api_key,
        creator: authorized
            .segment_info()
            .and_then(|segment_info| segment_info.creator().ok())
            .map(|creator| &**creator),
        request_id: seen.id(),
    };
    headers::identity(&mut head, &identity)?;
    Ok(head)
}

/// The body, where the route keeps it; else none.
fn kept_body(cleared: &Cleared) -> Bytes {
    let routed = cleared.authorized().routed();
    if routed.route().keep().body { routed.body().clone() } else { Bytes::new() }
}

impl Concluded {
    /// The answer, as far as it is kept for repeats.
    pub(super) fn kept(&self) -> KeptAnswer {
        match &self.answer {
            Ok(response) => KeptAnswer {
                status: response.status().as_u16(),
                content_type: response.headers().get(CONTENT_TYPE).cloned(),
                body: response.body().content().filter(|content| content.len() <= KEPT_BODY),
            },
            Err(answer) => KeptAnswer::own(answer.status, answer.body()),
        }
    }
}

impl Answered for Concluded {
    fn into_response(self) -> Response<Body> {
        self.answer.map_or_else(own, |response| response.map(Body::Relayed))
    }
}
