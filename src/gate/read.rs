//! The gate that reads the body, before the salt is spent.

use std::error::Error;
use std::io;

use bytes::{Bytes, BytesMut};
use http::Version;
use http_body_util::BodyExt;

use super::admit::Admitted;
use super::authenticate::Authenticated;
use super::chain::Gate;
use super::observation::Observation;
use crate::clock::Clock;
use crate::event_loop::timeout;
use crate::refusal::Refused;
use crate::replay::Reservation;
use crate::telemetry::Stage;
use crate::throttle::Slot;

/// Reads the whole body, which must be small. If it does not arrive, the request is refused and its salt is not
/// spent. It also asks again whether the keys may be used: they may have become too old while the request waited
/// (contract §4). Between this and the claim of the salt nothing is awaited.
pub struct Read {
    clock: Clock,
}

/// A request that has arrived completely, under keys that could be used then: later gates need nothing more from the
/// client.
pub struct Whole {
    authenticated: Authenticated<()>,
    slot: Slot,
    place: Reservation,
    body: Bytes,
}

impl Read {
    /// Reads the age of the keys by this clock.
    pub fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone() }
    }
}

impl<B> Gate<Admitted<B>> for Read
where
    B: http_body::Body<Data = Bytes, Error: Error + 'static> + Send + Unpin,
{
    type Out = Whole;
    type Refusal = Refused;
    const NAME: &'static str = "read";

    async fn decide(&self, admitted: Admitted<B>, seen: &mut Observation) -> Result<Whole, Refused> {
        let (authenticated, slot, place, body, late) = admitted.into_parts();
        let limits = authenticated.head().generation().limits;
        let body = if body.is_end_stream() {
            Bytes::new()
        } else {
            let trailers =
                if authenticated.head().version() == Version::HTTP_2 { Trailers::Refused } else { Trailers::Removed };
            // Boxed to keep the future small: most deletions have no body.
            let whole = Box::pin(collect(body, limits.max_body_bytes, trailers));
            timeout(limits.body_timeout, whole).await.map_err(|_| Refused::BodyTooSlow)??
        };
        drop(late);
        if !authenticated.head().generation().keys.is_usable(|| self.clock.elapsed()) {
            return Err(Refused::KeysUnavailable);
        }
        seen.passed(Stage::Admit);
        Ok(Whole { authenticated, slot, place, body })
    }
}

/// What happens to trailers. They arrive after the head was judged, so they are never used and never forwarded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trailers {
    /// HTTP/1: the reader checked their form, and they are dropped.
    Removed,
    /// HTTP/2: the request is refused.
    Refused,
}

async fn collect<B>(mut body: B, limit: usize, trailers: Trailers) -> Result<Bytes, Refused>
where
    B: http_body::Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    // A body that declares too large a size is not read at all.
    if body.size_hint().lower() > limit as u64 {
        return Err(Refused::BodyTooLarge);
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = match frame.map_err(|error| broken(&error))?.into_data() {
            Ok(data) => data,
            Err(_) if trailers == Trailers::Removed => continue,
            Err(_) => return Err(Refused::MalformedRequest("There must be no trailers.")),
        };
        if whole.len() + data.len() > limit {
            return Err(Refused::BodyTooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// The refusal for a body that breaks off. If the reader refused it, the type of its error says so; otherwise the
/// client has left.
pub(crate) fn broken(error: &(dyn Error + 'static)) -> Refused {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    match causes.filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind).next() {
        Some(io::ErrorKind::InvalidData) => Refused::MalformedRequest("The framing of the body is in doubt."),
        Some(io::ErrorKind::TimedOut) => Refused::BodyTooSlow,
        _ => Refused::ClientGone,
    }
}

impl Whole {
    pub(super) fn into_parts(self) -> (Authenticated<()>, Slot, Reservation, Bytes) {
        (self.authenticated, self.slot, self.place, self.body)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::{Body, Frame};
    use http_body_util::Full;

    use super::*;

    /// A body of this many frames of one byte, which declares no size, like a chunked one.
    pub(in crate::gate) struct Chunked(pub(in crate::gate) usize);

    impl Body for Chunked {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or_default();
            Poll::Ready(left.map(|_| Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test]
    async fn a_body_is_accepted_up_to_the_limit_and_refused_beyond_it() {
        let body = |n: usize| Full::new(Bytes::from(vec![b'x'; n]));
        assert_eq!(collect(body(8), 8, Trailers::Refused).await.unwrap().len(), 8);
        assert_eq!(collect(body(9), 8, Trailers::Refused).await.unwrap_err(), Refused::BodyTooLarge);
        assert_eq!(collect(Chunked(8), 8, Trailers::Refused).await.unwrap().len(), 8);
        assert_eq!(
            collect(Chunked(9), 8, Trailers::Refused).await.unwrap_err(),
            Refused::BodyTooLarge,
            "a body that does not say its size"
        );
    }

    #[tokio::test]
    async fn trailers_are_dropped_or_refused() {
        let with_trailers = || {
            let trailers = async { Some(Ok(http::HeaderMap::new())) };
            Box::pin(Full::new(Bytes::from_static(b"x")).with_trailers(trailers))
        };
        assert_eq!(collect(with_trailers(), 8, Trailers::Removed).await.unwrap(), "x");
        let refused = collect(with_trailers(), 8, Trailers::Refused).await.unwrap_err();
        assert!(matches!(refused, Refused::MalformedRequest(_)));
    }
}
