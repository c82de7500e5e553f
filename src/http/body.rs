//! The body of a request, over HTTP/1 or HTTP/2.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::h1::Upload;

/// The body of a request that a client sends.
pub(crate) enum RequestBody {
    /// It arrived with the head, or there is none.
    Whole(Bytes),
    /// It arrives over HTTP/1.
    Upload(Upload),
    /// It arrives over HTTP/2.
    Stream(Incoming),
}

/// Why the body of a request ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// Over HTTP/1: the kind is `InvalidData` or `TimedOut` for what was refused, see [`MessageFault`](crate::http::fault::MessageFault).
    #[error("the body of a request broke off: {0}")]
    Http1(#[from] io::Error),
    /// Over HTTP/2.
    #[error("the body of a request broke off: {0}")]
    Http2(#[from] hyper::Error),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => None,
            Self::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Self::Upload(upload) => {
                ready!(upload.poll_next(cx)).map(|part| part.map(Frame::data).map_err(BodyError::from))
            }
            Self::Stream(stream) => ready!(Pin::new(stream).poll_frame(cx)).map(|frame| frame.map_err(BodyError::from)),
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Upload(upload) => upload.is_over(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Upload(upload) => upload.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}
