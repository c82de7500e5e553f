use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use tokio::time::Sleep;
use tower::Service;

use super::read::broken;
use super::respond::Answered;
use super::{Body, Gate, Head, Observation, Observed, Rejection};
use crate::refusal::{Answer, Reason, Refusal, Refused};
use crate::telemetry::Ended;
pub use crate::upstream::Broken;
use crate::upstream::{Outgoing, Relay, RequestHead, SendError, Unsayable, hygiene};

/// The HTTP that a message came by has more ways to write a target than the one it goes by.
const UNSAYABLE: Refused =
    Refused::MalformedRequest("The request target has a byte or a form that no request target has.");

/// Lets through what `[passthrough]` names, and nothing else.
pub struct Letting;

/// A message that goes upstream as it came, whoever sent it: one that `[passthrough]` names, or
/// any in observe mode. There is no way from here to the sender of deletions.
pub struct Passing<B> {
    head: Head<B>,
    /// Why a gate would have refused it; `Ok` if none would.
    pub(super) verdict: Reason,
}

impl<B: Send> Gate<Head<B>> for Letting {
    type Out = Passing<B>;
    type Refusal = Refused;

    async fn decide(&self, mut head: Head<B>, _: &mut Observation) -> Result<Passing<B>, Refused> {
        if !head.generation().passes(head.method().as_str(), head.raw_path()) {
            return Err(Refused::MissingCredentials);
        }
        hygiene::strip_overrides(head.headers_mut());
        Ok(Passing { head, verdict: Reason::Ok })
    }
}

impl<B> Passing<B> {
    /// Exactly as it was received, whatever the verdict.
    pub(super) fn watched(head: Head<B>, verdict: Reason) -> Self {
        Self { head, verdict }
    }
}

/// The innermost service of what is not judged: passes it on, once.
#[derive(Clone)]
pub struct Pass;

/// What became of a message that passed.
pub struct Passed(Result<Response<Relay>, Answer>);

impl Answered for Passed {
    fn into_response(self) -> Response<Body> {
        self.0.into_response()
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
    let Passing { head, verdict } = passing;
    let (head, body) = head.take_body();
    let (parts, desk) = head.into_parts();
    let fault = Arc::default();
    let body =
        Arriving { body, fault: Arc::clone(&fault), within: desk.generation.limits.body_timeout, late: None, came: 0 };
    let body = Outgoing::streamed(body, parts.headers.contains_key(CONTENT_LENGTH));
    let head = match said(&parts) {
        Ok(head) => head,
        Err(why) => {
            seen.detail = Some(why.to_string());
            seen.refused(&UNSAYABLE);
            return Passed(Err(UNSAYABLE.answer()));
        }
    };
    Passed(match desk.upstream().forward(head, body).await {
        Ok(answer) => {
            seen.upstream_status = Some(answer.status().as_u16());
            seen.concluded(Ended::Passed, verdict);
            Ok(answer)
        }
        Err(error) => {
            if let (SendError::AnswerLost | SendError::AnswerTimeout, Some(refused)) = (&error, fault.get()) {
                // There was no whole message to answer; the service saw that it was cut short.
                seen.refused(refused);
                return Passed(Err(refused.answer()));
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
                SendError::AnswerLost => (Answer::EFFECT_LOST, Reason::OutcomeUnknown),
                SendError::AnswerTimeout => (Answer::EFFECT_LATE, Reason::OutcomeUnknown),
            };
            seen.concluded(Ended::Failed, reason);
            Err(answer)
        }
    })
}

/// The head as it came, less what belongs to the hop it came by and what only we may say.
fn said(parts: &Parts) -> Result<RequestHead, Unsayable> {
    let Parts { method, uri, headers, .. } = parts;
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    let mut head = RequestHead::new(method, path, uri.query())?;
    hygiene::as_it_came(&mut head, headers);
    // What came as an absolute target, or by HTTP/2, names its host there.
    if let (false, Some(authority)) = (headers.contains_key(HOST), uri.authority()) {
        head.host(authority.as_str())?;
    }
    Ok(head)
}

/// So many bytes give what is left of a body its time anew, as on the wire.
const WORTH_WAITING: usize = 1024;

/// The body of a message that passes, as it arrives. What breaks it off is noted; and it must keep
/// coming, by whichever HTTP it comes: who sends a bit now and then would else hold a connection to
/// the service for ever.
struct Arriving<B> {
    body: B,
    fault: Arc<OnceLock<Refused>>,
    within: Duration,
    late: Option<Pin<Box<Sleep>>>,
    /// Bytes since its time began anew.
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
            if this.came >= WORTH_WAITING {
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
        ready!(this.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.within))).as_mut().poll(cx));
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

/// The body of a message that is judged without being read: only what its head says of it.
pub struct Declared(http_body::SizeHint);

impl Declared {
    /// What the head says of this body.
    pub(super) fn of(body: &impl http_body::Body) -> Self {
        Self(body.size_hint())
    }
}

impl http_body::Body for Declared {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0
    }
}
