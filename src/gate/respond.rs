use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use serde_json::{json, to_writer};
use tower::{Layer, Service};

use super::rehearse::show;
use super::{Ending, Observed, Rejection};
use crate::refusal::{Answer, Linked};
use crate::upstream::{Relay, RelayError};

/// Refusal → answer, in one place: below it there are refusals, above it nothing fails.
#[derive(Clone, Copy)]
pub struct Respond;

/// See [`Respond`].
#[derive(Clone)]
pub struct Responding<S>(S);

impl<S> Layer<S> for Respond {
    type Service = Responding<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Responding(inner)
    }
}

/// What ended on one of the ways.
pub trait Answered: Send {
    /// The upstream's answer, or ours.
    fn into_response(self) -> Response<Body>;
}

impl Answered for Result<Response<Relay>, Answer> {
    fn into_response(self) -> Response<Body> {
        self.map_or_else(own, |response| response.map(Body::Relayed))
    }
}

impl Answered for Ending {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Deletion(concluded) => concluded.into_response(),
            Self::Rehearsal(foretold) => json(StatusCode::OK, foretold.into_body().to_string().into()),
        }
    }
}

impl<In, E, S> Service<Observed<In>> for Responding<S>
where
    E: Answered,
    S: Service<Observed<In>, Response = Observed<E>, Error = Rejection>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Observed<In>) -> Self::Future {
        Answering(self.0.call(request))
    }
}

/// What will be answered.
pub struct Answering<F>(F);

impl<E, F> Future for Answering<F>
where
    E: Answered,
    F: Future<Output = Result<Observed<E>, Rejection>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(Observed { request: ended, .. }) => ended.into_response(),
            Err(rejection) => own_with(rejection.answer, rejection.linked.as_deref()),
        }))
    }
}

/// An answer of our own (contract §6).
pub fn own(answer: Answer) -> Response<Body> {
    own_with(answer, None)
}

fn own_with(answer: Answer, linked: Option<&Linked>) -> Response<Body> {
    let body = match linked {
        None => plain(answer),
        Some(linked) => {
            let mut body = json!({ "errorCode": answer.code, "errorMessage": answer.message });
            show(linked, &mut body);
            body.to_string().into()
        }
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, body);
    let headers = response.headers_mut();
    if answer.status == 401 {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("HMAC-SHA256"));
    }
    if let Some(allowed) = answer.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    if let Some(seconds) = answer.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if answer.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What strangers get, written without a tree of values: nothing should be cheaper than to refuse them.
fn plain(answer: Answer) -> Bytes {
    let mut body = Vec::with_capacity(128);
    body.extend_from_slice(b"{\"errorCode\":");
    // A vector takes every text.
    let _ = to_writer(&mut body, answer.code);
    body.extend_from_slice(b",\"errorMessage\":");
    let _ = to_writer(&mut body, answer.message);
    body.push(b'}');
    body.into()
}

fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Own(Some(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The one type of body that leaves: ours, or the upstream's as it streams in.
pub enum Body {
    /// Ours.
    Own(Option<Bytes>),
    /// The upstream's.
    Relayed(Relay),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relayed(relay) => Pin::new(relay).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Relayed(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relayed(relay) => relay.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn the_401_is_the_apis_own() {
        let response = own(Answer::UNAUTHORIZED);
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "HMAC-SHA256");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, r#"{"errorCode":"Unauthorized","errorMessage":"권한이 없습니다."}"#);
    }
}
