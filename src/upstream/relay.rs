use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::exchange::Rest;
use crate::throttle::Slot;

/// The body of the upstream's answer, as it streams in.
///
/// Its connection goes back to the pool at its end; its slot is held until then.
pub struct Relay {
    /// What came with the head: most often all of it.
    first: Option<Bytes>,
    rest: Option<Box<Waiting>>,
    slot: Option<Slot>,
}

/// A body that has not come to its end.
struct Waiting {
    rest: Rest,
    /// How long the upstream may pause.
    pause: Duration,
    paused: Option<Pin<Box<Sleep>>>,
}

/// Why a body ends before its end.
#[derive(Debug)]
pub enum RelayError {
    /// The upstream broke off.
    Broken(io::Error),
    /// The upstream paused for too long.
    Paused,
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "the upstream broke off: {error}"),
            Self::Paused => f.write_str("the upstream paused for too long"),
        }
    }
}

impl std::error::Error for RelayError {}

impl Relay {
    pub(super) fn new(mut rest: Rest, pause: Duration) -> Result<Self, RelayError> {
        let first = rest.take().map_err(RelayError::Broken)?;
        let rest = if rest.is_over() {
            rest.end();
            None
        } else {
            Some(Box::new(Waiting { rest, pause, paused: None }))
        };
        Ok(Self { first, rest, slot: None })
    }

    /// Holds a slot until the body ends.
    pub fn holding(mut self, slot: Slot) -> Self {
        if !self.is_end_stream() {
            self.slot = Some(slot);
        }
        self
    }
}

impl Waiting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, RelayError>> {
        if let Poll::Ready(content) = self.rest.poll_content(cx) {
            if let Some(paused) = &mut self.paused {
                paused.as_mut().reset(Instant::now() + self.pause);
            }
            return Poll::Ready(content.map_err(RelayError::Broken));
        }
        let pause = self.pause;
        ready!(self.paused.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause))).as_mut().poll(cx));
        Poll::Ready(Err(RelayError::Paused))
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let this = self.get_mut();
        let content = match (this.first.take(), &mut this.rest) {
            (Some(first), _) => Ok(Some(first)),
            (None, Some(waiting)) => ready!(waiting.poll(cx)),
            (None, None) => Ok(None),
        };
        let goes_on =
            matches!(content, Ok(Some(_))) && this.rest.as_ref().is_some_and(|waiting| !waiting.rest.is_over());
        if !goes_on {
            this.slot = None;
            if let (Some(waiting), Ok(_)) = (this.rest.take(), &content) {
                waiting.rest.end();
            }
        }
        Poll::Ready(content.transpose().map(|content| content.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        match self.rest.as_ref().map_or(Some(0), |waiting| waiting.rest.left()) {
            Some(left) => SizeHint::with_exact(first + left),
            None => SizeHint::default(),
        }
    }
}
