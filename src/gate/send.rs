use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, IF_MATCH};
use http::{Method, Request, Response};
use http_body_util::Full;

use super::respond::Answered;
use super::{Body, Cleared, Gate, Observation, Released};
use crate::audit::{ClosedIntent, OpenIntent, Outcome};
use crate::policy::Role;
use crate::refusal::{Answer, Reason, RefusedAfterSpend};
use crate::telemetry::{Ended, Stage};
use crate::upstream::{Identity, Relay, SendError, hygiene};

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
    let (mut cleared, intent, departure) = released.into_parts();
    let request = match deletion(&mut cleared, seen) {
        Ok(request) => request,
        Err(why) => return Box::pin(unsendable(intent, why, seen)).await,
    };
    let sent = cleared.upstream().send_once(request, &intent).await;
    // Whatever became of it, nothing of it leaves from here on.
    drop(departure);
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
fn deletion(cleared: &mut Cleared, seen: &Observation) -> Result<Request<Full<Bytes>>, String> {
    let path = cleared.route().path(cleared.segment());
    let uri = match cleared.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let body = cleared.body().clone();
    let host = cleared.host().cloned();
    // What the client sent goes first, what we say of the caller comes after: nothing that the
    // client names in `Connection` can take our fields away.
    let mut headers = cleared.take_headers();
    hygiene::end_to_end(&mut headers, cleared.generation().authorization);
    let learned = cleared.learned();
    if let Some(version) = learned.and_then(|learned| learned.version.as_ref()) {
        bind_to_version(&mut headers, version);
    }
    let client = cleared.client();
    let address = client.address().map(|_| client.as_str());
    hygiene::set_forwarded(&mut headers, address, client.scheme(), host.as_ref());
    let caller = cleared.caller();
    let identity = Identity {
        account: &caller.owner.account,
        member: &caller.owner.member,
        role: caller.role.map(Role::as_str),
        api_key: &caller.api_key,
        creator: learned.map(|learned| &*learned.owner.member),
        request_id: seen.id().to_str().unwrap_or_default(),
    };
    hygiene::set_identity(&mut headers, &identity).map_err(|error| error.to_string())?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::DELETE;
    *request.uri_mut() = uri.try_into().map_err(|_| "the path or query is no request target".to_owned())?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The deletion is only for the version that was judged. A client's own condition that names
/// other versions stays as it is: the service will refuse it, as its client asked.
fn bind_to_version(headers: &mut HeaderMap, judged: &HeaderValue) {
    let names_judged = |condition: &HeaderValue| {
        let tags = condition.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii).collect::<Vec<_>>();
        tags.iter().any(|tag| *tag == b"*" || *tag == judged.as_bytes())
    };
    let mut conditions = headers.get_all(IF_MATCH).iter().peekable();
    if conditions.peek().is_none() || conditions.any(names_judged) {
        headers.insert(IF_MATCH, judged.clone());
    }
}

impl Answered for Concluded {
    fn into_response(self) -> Response<Body> {
        self.answer.into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_bound_to_the_version_that_was_judged() {
        let judged = HeaderValue::from_static("\"v2\"");
        let rows = [
            ("no condition", None, "\"v2\""),
            ("any version", Some("*"), "\"v2\""),
            ("the judged one among others", Some("\"v1\", \"v2\""), "\"v2\""),
            ("another one", Some("\"v1\""), "\"v1\""),
        ];
        for (name, condition, sent) in rows {
            let mut headers = HeaderMap::new();
            if let Some(condition) = condition {
                headers.insert(IF_MATCH, HeaderValue::from_static(condition));
            }
            bind_to_version(&mut headers, &judged);
            assert_eq!(headers[IF_MATCH], sent, "{name}");
        }
    }
}
