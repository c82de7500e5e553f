//! The body of a message whose body is not read.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

/// The body of a message that is judged without reading it: only what the head declares about it.
pub(crate) struct Declared(http_body::SizeHint);

impl Declared {
    /// Takes what the head declares about this body.
    pub(crate) fn of(body: &impl http_body::Body) -> Self {
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

    fn is_end_stream(&self) -> bool {
        self.0.exact() == Some(0)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0
    }
}
