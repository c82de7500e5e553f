//! Responses to callers: Saltgate's own, or the upstream's.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, Response, StatusCode};
use http_body::{Frame, SizeHint};
use serde_json::{Value, json};

use super::relayed::Relayed;
use crate::plain;
use crate::refusal::{Answer, Linked, Repeated};
use crate::throttle::{PassingSlot, Slot};
use crate::upstream::{Judged, RelayError, Unjudged};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The header with the id of the request that was answered first.
const REPEAT_OF: HeaderName = HeaderName::from_static("x-saltgate-repeat-of");
const SCHEME: HeaderValue = HeaderValue::from_static("HMAC-SHA256");

/// The end of a request on one of the three paths (gated, passthrough, observe).
pub(crate) trait Answered: Send {
    /// The response: the upstream's, or Saltgate's own. Boxed because every layer above passes it on.
    fn into_response(self) -> Box<Response<Body>>;
}

/// A response of Saltgate's own (contract §6).
pub(crate) fn own(answer: Answer) -> Response<Body> {
    own_with(answer, None)
}

/// The body of a response of Saltgate's own.
pub(crate) fn own_body(answer: Answer, linked: Option<&Linked>) -> Bytes {
    let Some(linked) = linked else { return answer.body() };
    let mut body = json!({ "errorCode": answer.code, "errorMessage": answer.message() });
    show(linked, &mut body);
    plain::json_line(&body).into()
}

/// Like [`own`], and lists the automations that would stop.
pub(crate) fn own_with(answer: Answer, linked: Option<&Linked>) -> Response<Body> {
    let body = own_body(answer, linked);
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, body);
    let headers = response.headers_mut();
    if answer.status == 401 {
        headers.insert(WWW_AUTHENTICATE, SCHEME);
    }
    if let Some(allowed) = answer.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    if let Some(seconds) = answer.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if answer.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The response of the first request, sent to a repeat of it.
pub(crate) fn again(Repeated { of, kept }: Repeated) -> Response<Body> {
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // If the body was not kept, an empty JSON object stands for it.
    let (content_type, body) = match kept.body {
        Some(body) => (kept.content_type, body),
        None => (Some(JSON), Bytes::from_static(b"{}")),
    };
    let has_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut response = Response::new(Body::Own(Some(body).filter(|_| has_body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(content_type) = content_type.filter(|_| has_body) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, SCHEME);
    }
    // This cannot fail: a request id consists of hexadecimal digits.
    if let Ok(of) = HeaderValue::from_str(&of) {
        headers.insert(REPEAT_OF, of);
    }
    response
}

pub(super) fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Own(Some(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The body of every response: Saltgate's own, or the upstream's as it streams in.
pub enum Body {
    /// Saltgate's own.
    Own(Option<Bytes>),
    /// The upstream's response to a deletion.
    Relayed(Relayed<Judged, Slot>),
    /// The upstream's response to a request that passed without being judged.
    Passed(Relayed<Unjudged, PassingSlot>),
}

impl Body {
    /// All of the upstream's response to a deletion, if all of it has arrived.
    pub(super) fn content(&self) -> Option<Bytes> {
        match self {
            Self::Relayed(relayed) => relayed.content(),
            Self::Own(_) | Self::Passed(_) => None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relayed(relayed) => Pin::new(relayed).poll_frame(cx),
            Self::Passed(relayed) => Pin::new(relayed).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Relayed(relayed) => relayed.is_end_stream(),
            Self::Passed(relayed) => relayed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relayed(relayed) => relayed.size_hint(),
            Self::Passed(relayed) => relayed.size_hint(),
        }
    }
}

/// Adds the automations and their digest to an answer.
pub(super) fn show(linked: &Linked, answer: &mut Value) {
    let automations = linked.automations.iter().map(|(id, name)| json!({ "id": id, "name": name }));
    answer["automations"] = automations.collect();
    answer["confirm"] = linked.confirm.as_str().into();
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn the_401_equals_that_of_the_api() {
        let response = own(Answer::UNAUTHORIZED);
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "HMAC-SHA256");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, r#"{"errorCode":"Unauthorized","errorMessage":"권한이 없습니다."}"#);
    }
}
