use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::Connection;
use crate::throttle::Slot;

/// The body of the upstream's answer, as it streams in.
///
/// Its connection goes back to the pool at its end; its slot is held until then.
pub struct Relay {
    body: Incoming,
    /// How long the upstream may pause.
    pause: Duration,
    paused: Option<Pin<Box<Sleep>>>,
    connection: Option<Connection>,
    slot: Option<Slot>,
}

/// Why a body ends before its end.
#[derive(Debug)]
pub enum RelayError {
    /// The upstream broke off.
    Broken(hyper::Error),
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
    pub(super) fn new(body: Incoming, pause: Duration, connection: Connection) -> Self {
        let mut relay = Self { body, pause, paused: None, connection: Some(connection), slot: None };
        if relay.body.is_end_stream() {
            relay.end();
        }
        relay
    }

    /// Holds a slot until the body ends.
    pub fn holding(mut self, slot: Slot) -> Self {
        if !self.body.is_end_stream() {
            self.slot = Some(slot);
        }
        self
    }

    fn end(&mut self) {
        self.slot = None;
        if let Some(connection) = self.connection.take() {
            connection.put();
        }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pause = self.pause;
        let paused = self.paused.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        paused.as_mut().poll(cx)
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let this = self.get_mut();
        loop {
            let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
                ready!(this.poll_pause(cx));
                this.connection = None;
                return Poll::Ready(Some(Err(RelayError::Paused)));
            };
            if let Some(paused) = &mut this.paused {
                paused.as_mut().reset(Instant::now() + this.pause);
            }
            match frame {
                Some(Ok(frame)) if frame.is_data() => {
                    if this.body.is_end_stream() {
                        this.end();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                // Trailers go no further.
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    this.connection = None;
                    return Poll::Ready(Some(Err(RelayError::Broken(error))));
                }
                None => {
                    this.end();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
