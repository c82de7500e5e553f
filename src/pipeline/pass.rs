//! The innermost service for messages that are not judged.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use tokio::time::{Instant, Sleep};
use tower::Service;

use crate::event_loop::TIMER_GRACE;
use crate::gate::{Answered, Body, Observation, Observed, Passing, Rejection, Relayed, broken, own};
use crate::http::fault::MessageFault;
use crate::http::timer::RENEWS_BODY_DEADLINE;
use crate::refusal::{Answer, Reason, Refused};
use crate::telemetry::Ended;
use crate::throttle::PassingSlot;
use crate::upstream::{Broken, InvalidRequestHead, Outgoing, RequestHead, SendError, Unjudged, headers};

/// The innermost service for messages that are not judged: forwards each once.
#[derive(Clone)]
pub(crate) struct Pass;

/// The end of a message that passed.
pub(crate) struct Passed(Result<Response<Relayed<Unjudged, PassingSlot>>, Answer>);

impl Answered for Passed {
    fn into_response(self) -> Box<Response<Body>> {
        Box::new(self.0.map_or_else(own, |response| response.map(Body::Passed)))
    }
}

impl<B> Service<Observed<Passing<B>>> for Pass
where
    B: http_body::Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
{
    type Response = Observed<Passed>;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Observed<Passed>, Rejection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Observed<Passing<B>>) -> Self::Future {
        Box::pin(async move {
            let Observed { mut observation, request } = request;
            let passed = pass(request, &mut observation).await;
            Ok(Observed { observation, request: passed })
        })
    }
}

async fn pass<B>(passing: Passing<B>, seen: &mut Observation) -> Passed
where
    B: http_body::Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
{
    let (head, slot, verdict) = passing.into_parts();
    let (head, body) = head.take_body();
    let (parts, worker_state) = head.into_parts();
    let fault = Arc::default();
    let body = Arriving {
        body,
        fault: Arc::clone(&fault),
        within: worker_state.generation.limits.body_timeout,
        late: None,
        came: 0,
    };
    let body = Outgoing::streamed(body, parts.headers.contains_key(CONTENT_LENGTH));
    let head = match said(&parts) {
        Ok(head) => head,
        Err(why) => {
            seen.detail = Some(why.to_string());
            // HTTP/2, by which the message came, allows targets that HTTP/1.1 cannot express.
            return Passed(Err(seen.refused(&Refused::from(MessageFault::Target))));
        }
    };
    Passed(match worker_state.passing().forward(head, body).await {
        Ok(answer) => {
            seen.upstream_status = Some(answer.status().as_u16());
            seen.concluded(Ended::Passed, verdict);
            Ok(answer.map(|relay| Relayed::new(relay.holding(slot), seen, Ended::Passed)))
        }
        Err(error) => {
            if let (SendError::AnswerLost(..) | SendError::AnswerTimeout(_), Some(refused)) = (&error, fault.get()) {
                // The client's message was incomplete, and the service saw it cut short.
                return Passed(Err(seen.refused(refused)));
            }
            let (answer, reason) = match error {
                SendError::Unreachable(why) => {
                    seen.detail = Some(why);
                    (Answer::NOT_REACHED, Reason::UpstreamUnreachable)
                }
                SendError::ConnectTimeout(why) => {
                    seen.detail = Some(why);
                    (Answer::NOT_REACHED_IN_TIME, Reason::UpstreamTimeout)
                }
                // Only deletions have a lease.
                SendError::Lapsed => (Answer::NOT_REACHED, Reason::InternalError),
                SendError::AnswerLost(status, malformed) => {
                    seen.broke_off(status, malformed);
                    (Answer::EFFECT_LOST, Reason::OutcomeUnknown)
                }
                SendError::AnswerTimeout(status) => {
                    seen.broke_off(status, None);
                    (Answer::EFFECT_LATE, Reason::OutcomeUnknown)
                }
            };
            seen.concluded(Ended::Failed, reason);
            Err(answer)
        }
    })
}

/// The head as it arrived, without the hop-by-hop fields and the fields that only Saltgate may set.
fn said(parts: &Parts) -> Result<RequestHead, InvalidRequestHead> {
    let Parts { method, uri, headers, .. } = parts;
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    let mut head = RequestHead::new(method, path, uri.query())?;
    headers::as_it_came(&mut head, headers);
    // An absolute target, and any HTTP/2 request, names its host in the target.
    if let (false, Some(authority)) = (headers.contains_key(HOST), uri.authority()) {
        head.host(authority.as_str())?;
    }
    Ok(head)
}

/// Forwards the body of a message that passes as it arrives, and notes what breaks it off. The body must keep
/// arriving, over either HTTP version: otherwise a client that sends a byte now and then could hold a connection to
/// the service for ever.
struct Arriving<B> {
    body: B,
    fault: Arc<OnceLock<Refused>>,
    within: Duration,
    /// The deadline, and whether this is the last check after it: see [`TIMER_GRACE`].
    late: Option<(Pin<Box<Sleep>>, bool)>,
    /// Bytes since the deadline was last moved.
    came: usize,
}

impl<B> http_body::Body for Arriving<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<Broken>> + Unpin,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(|frame| frame.data_ref());
            this.came += data.map_or(0, Bytes::len);
            if this.came >= RENEWS_BODY_DEADLINE {
                this.came = 0;
                this.late = None;
            }
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|error| {
                    let error = error.into();
                    let _ = this.fault.set(broken(&*error));
                    error
                })
            }));
        }
        let begin = || (Box::pin(tokio::time::sleep(this.within)), false);
        let (late, is_last_look) = this.late.get_or_insert_with(begin);
        ready!(late.as_mut().poll(cx));
        if !std::mem::replace(is_last_look, true) {
            late.as_mut().reset(Instant::now() + TIMER_GRACE);
            ready!(late.as_mut().poll(cx));
        }
        let _ = this.fault.set(Refused::BodyTooSlow);
        Poll::Ready(Some(Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
