use http::{Method, Response};

use super::respond::Answered;
use super::{Body, Cleared, Gate, Observation, Released};
use crate::audit::{ClosedIntent, OpenIntent, Outcome};
use crate::policy::Role;
use crate::refusal::{Answer, Reason, RefusedAfterSpend};
use crate::telemetry::{Ended, Stage};
use crate::turn::others_first;
use crate::upstream::{Identity, Relay, RequestHead, SendError, Unsayable, hygiene};

/// The last of the gates of deletions: sends what is released, at most once, and closes its intent.
pub struct Send;

/// A request whose outcome is on record. Only [`Send`] makes one, and what answers takes nothing
/// else.
pub struct Concluded {
    answer: Result<Response<Relay>, Answer>,
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
    let (cleared, intent, departure) = released.into_parts();
    let head = match deletion(&cleared, seen) {
        Ok(head) => head,
        Err(why) => return Box::pin(unsendable(intent, why.to_string(), seen)).await,
    };
    let sent = cleared.upstream().send_once(head, cleared.body().clone(), &intent).await;
    // Whatever became of it, nothing of it leaves from here on.
    drop(departure);
    others_first().await;
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
            (Ok(response.map(|body| body.holding(slot))), outcome, Ended::Forwarded, Reason::Ok)
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
                SendError::AnswerLost => (Answer::OUTCOME_LOST, Outcome::Unknown, Reason::OutcomeUnknown),
                SendError::AnswerTimeout => (Answer::OUTCOME_LATE, Outcome::Unknown, Reason::OutcomeUnknown),
            };
            (Err(answer), outcome, Ended::Failed, reason)
        }
    };
    seen.concluded(ended, reason);
    Concluded { answer, _intent: intent.close(outcome, reason.as_str()).await }
}

/// What the service said of the segment cannot be said to it.
async fn unsendable(intent: OpenIntent, why: String, seen: &mut Observation) -> Concluded {
    seen.detail = Some(why);
    seen.concluded(Ended::Failed, Reason::OwnershipUnavailable);
    let intent = intent.close(Outcome::NotSent, seen.reason().as_str()).await;
    Concluded { answer: Err(Answer::BAD_GATEWAY), _intent: intent }
}

/// What goes upstream, rebuilt from what was parsed; only end-to-end fields, the query and the
/// body are the client's.
fn deletion(cleared: &Cleared, seen: &Observation) -> Result<RequestHead, Unsayable> {
    let path = cleared.route().path(cleared.segment());
    let mut head = RequestHead::new(&Method::DELETE, &path, cleared.query())?;
    let learned = cleared.learned();
    let version = learned.and_then(|learned| learned.version.as_ref());
    hygiene::end_to_end(&mut head, cleared.headers(), cleared.generation().authorization, version);
    let client = cleared.client();
    let address = client.address().map(|_| client.as_str());
    hygiene::forwarded(&mut head, address, client.scheme(), cleared.host())?;
    let caller = cleared.caller();
    let identity = Identity {
        account: &caller.owner.account,
        member: &caller.owner.member,
        role: caller.role.map(Role::as_str),
        api_key: &caller.api_key,
        creator: learned.map(|learned| &*learned.owner.member),
        request_id: seen.id(),
    };
    hygiene::identity(&mut head, &identity)?;
    Ok(head)
}

impl Answered for Concluded {
    fn into_response(self) -> Response<Body> {
        self.answer.into_response()
    }
}
