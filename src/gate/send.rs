//! The last gate of deletions: sends the deletion and records its outcome.

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
use crate::policy::Role;
use crate::refusal::{Answer, Reason, RefusedAfterSpend};
use crate::repeats::{KEPT_BODY, KeptAnswer};
use crate::telemetry::{Ended, Stage};
use crate::upstream::headers::{self, Kept};
use crate::upstream::{Identity, InvalidRequestHead, Judged, MalformedResponse, Relay, RequestHead, SendError};

/// Why a deletion was not sent though it was released.
const LAPSED: &str = "what is frozen for the fleet was not read again in time (safeguard.lease); nothing was sent";

/// Sends a released deletion at most once, and closes its intent.
pub struct Send;

/// A request whose outcome is recorded. Only [`Send`] makes one, and responses to deletions are made from nothing
/// else.
pub struct Concluded {
    answer: Result<Box<Response<Body>>, Box<Answer>>,
    _intent: ClosedIntent,
}

impl Gate<Released> for Send {
    type Out = Concluded;
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "send";

    /// Refuses nothing: a failure from here on is an outcome.
    async fn decide(&self, released: Released, seen: &mut Observation) -> Result<Concluded, RefusedAfterSpend> {
        // Boxed to keep the future of the gates before it small, and in its place: `Box::pin` would copy it.
        let sending = Box::write(Box::new_uninit(), send(released, seen));
        Ok(Box::into_pin(sending).await)
    }
}

async fn send(released: Released, seen: &mut Observation) -> Concluded {
    let (cleared, intent, permit) = released.into_parts();
    let head = match deletion(&cleared, seen) {
        Ok(head) => head,
        Err(why) => return Box::pin(unsendable(intent, why.to_string(), seen)).await,
    };
    let sent = cleared
        .authorized()
        .routed()
        .request()
        .head()
        .upstream()
        .send_once(head, kept_body(&cleared), &intent, permit.lease())
        .await;
    // Whatever happened, nothing of this deletion leaves any more.
    drop(permit);
    cleared.authorized().routed().yields().await;
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
            let relayed = |body: Relay<Judged>| Relayed::new(body.holding(slot), seen, Ended::Forwarded);
            let response = Box::write(Box::new_uninit(), response.map(|body| Body::Relayed(relayed(body))));
            (Ok(response), outcome, Ended::Forwarded, Reason::Ok)
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
                SendError::Lapsed => {
                    seen.detail = Some(LAPSED.into());
                    (Answer::INTERNAL, Outcome::NotSent, Reason::ReplayUnavailable)
                }
                SendError::AnswerLost(status, malformed) => {
                    (Answer::OUTCOME_LOST, unknown(status, malformed, seen), Reason::OutcomeUnknown)
                }
                SendError::AnswerTimeout(status) => {
                    (Answer::OUTCOME_LATE, unknown(status, None, seen), Reason::OutcomeUnknown)
                }
            };
            (Err(Box::new(answer)), outcome, Ended::Failed, reason)
        }
    };
    seen.concluded(ended, reason);
    Concluded { answer, _intent: intent.close(outcome, reason.as_str()).await }
}

/// Records that no complete answer arrived, with the status if one did.
fn unknown(status: Option<StatusCode>, malformed: Option<MalformedResponse>, seen: &mut Observation) -> Outcome {
    seen.broke_off(status, malformed);
    status.map_or(Outcome::Unknown, |status| Outcome::UnknownAfter(status.as_u16()))
}

/// Records that the message could not be written. This should not happen: everything in it was parsed or looked up
/// in a form that can be written.
async fn unsendable(intent: OpenIntent, why: String, seen: &mut Observation) -> Concluded {
    seen.detail = Some(why);
    seen.concluded(Ended::Failed, Reason::OwnershipUnavailable);
    let intent = intent.close(Outcome::NotSent, seen.reason().as_str()).await;
    Concluded { answer: Err(Box::new(Answer::BAD_GATEWAY)), _intent: intent }
}

/// The message for the upstream, rebuilt from what was parsed. Only end-to-end fields come from the client, and the
/// query and the body if the route keeps them.
fn deletion(cleared: &Cleared, seen: &Observation) -> Result<RequestHead, InvalidRequestHead> {
    let (authorized, routed) = (cleared.authorized(), cleared.authorized().routed());
    let received = routed.request().head();
    let path = routed.route().path(routed.segment());
    let query = received.query().filter(|_| routed.route().keep().query);
    let mut head = RequestHead::of_parts(&Method::DELETE, &path, query)?;
    let kept = Kept {
        authorization: received.generation().authorization,
        body: !kept_body(cleared).is_empty(),
        trace: seen.passes_trace_on(),
    };
    headers::end_to_end(&mut head, received.headers(), kept);
    if let Some(tag) = authorized.permit().condition().tag() {
        head.field(&IF_MATCH, tag.value());
    }
    let client = received.client();
    let address = client.address().map(|_| client.as_str());
    headers::forwarded(&mut head, address, client.scheme(), received.host())?;
    head.field(&VIA, seen.via());
    seen.write_whole_trace(&mut head)?;
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

/// The body if the route keeps it, otherwise nothing.
fn kept_body(cleared: &Cleared) -> Bytes {
    let routed = cleared.authorized().routed();
    if routed.route().keep().body { routed.body().clone() } else { Bytes::new() }
}

impl Concluded {
    /// The part of the answer that is kept for repeats.
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
    fn into_response(self) -> Box<Response<Body>> {
        self.answer.unwrap_or_else(|answer| Box::new(own(*answer)))
    }
}
