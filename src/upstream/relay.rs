//! The body of the upstream's answer, while it is relayed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::exchange::{self, Rest};
use super::traffic::Traffic;
use crate::event_loop::TIMER_GRACE;
use crate::http::h1::MalformedResponse;
use crate::http::timer::DeadlineTimer;

/// The body of the upstream's answer, as it arrives.
///
/// At its end the connection returns to the pool and the guard ([`Relay::holding`]) is dropped.
pub struct Relay<T: Traffic, G = ()> {
    /// What was received already: usually the whole body.
    first: Option<Bytes>,
    rest: Option<Box<Waiting<T>>>,
    guard: Option<G>,
}

/// How long a body may take.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// Between two parts of it.
    pub(super) pause: Duration,
    /// When all of it must have arrived.
    pub(super) until: Option<Instant>,
}

/// A body that has not ended yet.
struct Waiting<T: Traffic> {
    rest: Rest<T>,
    times: Times,
    /// When the next part must have arrived, and whether that is the last look after the timeout.
    due: Option<(Instant, bool)>,
    timer: DeadlineTimer,
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The connection broke, or the body is malformed.
    #[error("the upstream's answer broke off: {0}")]
    Broken(#[source] io::Error),
    /// The upstream paused for too long.
    #[error("the upstream paused within its answer for longer than response_timeout")]
    Paused,
    /// The answer as a whole took too long (`upstream.answer_timeout`).
    #[error("the upstream's answer took longer than answer_timeout")]
    Late,
}

impl RelayError {
    /// What is wrong with the answer, if it ended because of that.
    pub(super) fn malformed(&self) -> Option<MalformedResponse> {
        match self {
            Self::Broken(error) => exchange::malformed(error),
            Self::Paused | Self::Late => None,
        }
    }
}

impl<T: Traffic> Relay<T> {
    pub(super) fn new(mut rest: Rest<T>, times: Times) -> Result<Self, RelayError> {
        let first = rest.take().map_err(RelayError::Broken)?;
        let rest = if rest.is_over() {
            rest.end();
            None
        } else {
            Some(Box::new(Waiting { rest, times, due: None, timer: DeadlineTimer::default() }))
        };
        Ok(Self { first, rest, guard: None })
    }

    /// Waits until the whole body, or more than `most` bytes of it, have arrived.
    ///
    /// # Errors
    /// If the body ends early. Nothing of it was relayed then.
    pub(super) async fn held(mut self, most: usize) -> Result<Self, RelayError> {
        let mut came = BytesMut::from(self.first.take().unwrap_or_default());
        while came.len() <= most
            && let Some(content) = poll_fn(|cx| self.poll_rest(cx)).await?
        {
            came.extend_from_slice(&content);
        }
        self.first = Some(came.freeze()).filter(|first| !first.is_empty());
        Ok(self)
    }

    /// The same body; it drops `guard` when it ends.
    pub fn holding<G>(self, guard: G) -> Relay<T, G> {
        let guard = (!self.is_end_stream()).then_some(guard);
        Relay { first: self.first, rest: self.rest, guard }
    }
}

impl<T: Traffic, G> Relay<T, G> {
    /// Whether all of it has arrived.
    pub fn is_whole(&self) -> bool {
        self.rest.is_none()
    }

    /// The whole body, if all of it has arrived and nothing was relayed yet.
    pub fn content(&self) -> Option<Bytes> {
        self.is_whole().then(|| self.first.clone().unwrap_or_default())
    }

    /// Its length in bytes, if it is known.
    pub(super) fn length(&self) -> Option<u64> {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let left = self.rest.as_ref().map_or(Some(0), |waiting| waiting.rest.left());
        left.map(|left| first.saturating_add(left))
    }

    /// The next part that is still to arrive; `None` at the end.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, RelayError>> {
        let content = match &mut self.rest {
            Some(waiting) => ready!(waiting.poll(cx)),
            None => Ok(None),
        };
        self.settle(&content);
        Poll::Ready(content)
    }

    /// If `content` is the last part, drops the guard and gives the connection back.
    fn settle(&mut self, content: &Result<Option<Bytes>, RelayError>) {
        let goes_on = self.rest.as_ref().is_some_and(|waiting| !waiting.rest.is_over());
        if matches!(content, Ok(Some(_))) && goes_on {
            return;
        }
        self.guard = None;
        if let (Some(waiting), Ok(_)) = (self.rest.take(), content) {
            waiting.rest.end();
        }
    }
}

impl<T: Traffic> Waiting<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, RelayError>> {
        let Times { pause, until } = self.times;
        if let Poll::Ready(content) = self.rest.poll_content(cx) {
            self.due = None;
            let goes_on = matches!(content, Ok(Some(_))) && !self.rest.is_over();
            // A body that never pauses does not reach the timer below.
            if goes_on && until.is_some_and(|until| until <= Instant::now()) {
                return Poll::Ready(Err(RelayError::Late));
            }
            return Poll::Ready(content.map_err(RelayError::Broken));
        }
        let (due, is_last_look) = *self.due.get_or_insert_with(|| {
            let next = Instant::now() + pause;
            (until.map_or(next, |until| until.min(next)), false)
        });
        ready!(self.timer.poll(cx, due));
        if !is_last_look {
            let last = Instant::now() + TIMER_GRACE;
            self.due = Some((last, true));
            ready!(self.timer.poll(cx, last));
        }
        let is_over = until.is_some_and(|until| until <= Instant::now());
        Poll::Ready(Err(if is_over { RelayError::Late } else { RelayError::Paused }))
    }
}

impl<T: Traffic, G: Unpin> Body for Relay<T, G> {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let this = self.get_mut();
        let content = match this.first.take() {
            Some(first) => {
                let content = Ok(Some(first));
                this.settle(&content);
                content
            }
            None => ready!(this.poll_rest(cx)),
        };
        Poll::Ready(content.transpose().map(|content| content.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
