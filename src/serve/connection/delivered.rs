//! An HTTP/2 request while it is answered, and its answer on the way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};

use crate::gate::Body;
use crate::http::h2::{H2Stream, Streams};
use crate::listen::Activity;

/// A request that is being answered on the connection with this activity. It is dropped once its whole answer is on
/// its way, or its client has left.
pub(super) struct Exchange {
    pub(super) stream: H2Stream,
    pub(super) activity: Arc<Activity>,
}

impl Exchange {
    /// Begins the exchange; `None` if the connection is being closed to make room for another one.
    pub(super) fn begin(activity: &Arc<Activity>, streams: &Streams) -> Option<Self> {
        activity.begin().then(|| Self { stream: streams.begin(), activity: activity.clone() })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.activity.end();
    }
}

/// The body of an answer. It notes whether the client or the service is being waited for.
pub(super) struct Delivered {
    /// `None` in an answer to HEAD.
    body: Option<Body>,
    exchange: Exchange,
}

pub(super) fn delivered(answer: Response<Body>, mut exchange: Exchange) -> Response<Delivered> {
    // hyper never polls an empty body.
    exchange.stream.whole = answer.body().is_end_stream();
    answer.map(|body| Delivered { body: Some(body), exchange })
}

/// An answer to HEAD: the answer to GET without its body, which hyper would send otherwise.
pub(super) fn headed(answer: Response<Body>, mut exchange: Exchange) -> Response<Delivered> {
    exchange.stream.whole = true;
    let (mut parts, body) = answer.into_parts();
    // An answer of the service already has its own length, or none.
    if let (Body::Own(_), Some(length)) = (&body, body.size_hint().exact()) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Delivered { body: None, exchange })
}

impl http_body::Body for Delivered {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { body: Some(body), exchange: Exchange { stream, .. } } = &mut *self else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        match &polled {
            Poll::Ready(frame) => {
                stream.whole = frame.is_none() || body.is_end_stream();
                stream.offers();
            }
            // h2 polls for more once the client has taken everything before.
            Poll::Pending => stream.awaits(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
