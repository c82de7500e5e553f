//! The upstream's answer while it streams to the client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::observation::Observation;
use super::truncation::Truncation;
use crate::telemetry::Ended;
use crate::upstream::{Relay, RelayError, Traffic};

/// The upstream's answer while it streams to the client. If it breaks off, the log and the metrics say so, because
/// the request was already reported as answered.
pub struct Relayed<T: Traffic, G> {
    relay: Relay<T, G>,
    /// Boxed, and set only if more of the answer is to come.
    truncation: Option<Box<Truncation>>,
}

impl<T: Traffic, G> Relayed<T, G> {
    /// The answer to the observed request, which ended like this.
    pub(crate) fn new(relay: Relay<T, G>, seen: &Observation, ended: Ended) -> Self {
        let truncation = if relay.is_whole() { None } else { Some(Box::new(seen.truncation(ended))) };
        Self { relay, truncation }
    }

    /// The whole answer, if all of it has arrived.
    pub(super) fn content(&self) -> Option<Bytes> {
        self.relay.content()
    }
}

impl<T: Traffic, G: Unpin> http_body::Body for Relayed<T, G> {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let Self { relay, truncation } = self.get_mut();
        let polled = Pin::new(relay).poll_frame(cx);
        if let Poll::Ready(Some(Err(error))) = &polled
            && let Some(truncation) = truncation.take()
        {
            truncation.tell(error);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.relay.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.relay.size_hint()
    }
}
