//! The frames of HTTP/2, counted on the raw bytes before h2 reads them.
//!
//! Small frames (SETTINGS, PING, RST_STREAM, an empty DATA, a piece of a header block) cost their sender nothing,
//! but each is handled and some are answered, so they can form a flood. Each takes from a budget. The budget grows
//! with what a client needs such frames for: with each answered request, with the bytes of answers, and a little
//! with time. A client that overdraws it is disconnected.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frames::{DATA, Frames, HEAD, Seen};
use super::streams::Streams;
use crate::http::timer::RENEWS_BODY_DEADLINE;

/// The largest budget, and the one that a connection begins with.
const BUDGET: u64 = 1000;
/// What an answered request adds.
const PER_ANSWER: u64 = 16;
/// What a second adds.
const PER_SECOND: u64 = 20;
/// How many written bytes add one: clients report from time to time how many they have read.
const BYTES_WRITTEN: u64 = 1024;

/// How much is read at once if the reader has little room.
const PIECE: usize = 1 << 10;

/// How long a frame may take to end.
#[derive(Clone, Copy)]
pub(crate) struct FrameTimeouts {
    /// A frame of any kind, or a header block (`limits.header_timeout`).
    pub(crate) header: Duration,
    /// A DATA frame, where this is longer (`limits.body_timeout`).
    pub(crate) body: Duration,
}

/// A stream whose frames are counted as they are read.
///
/// h2 passes on a DATA frame only once all of it has arrived. So a frame that arrives slowly is given to h2 in
/// pieces, each as a DATA frame of its own. A body that keeps arriving is then recognised as such, as with
/// HTTP/1.1, whatever the size of its frames.
pub(crate) struct Counted<S, T> {
    stream: S,
    frames: Frames,
    /// Bytes that were read and wait for room in the reader's buffer.
    ahead: Vec<u8>,
    /// Whether the stream accepts nothing of what is written.
    blocked: bool,
    streams: Streams,
    budget: Budget,
    /// The timeouts in force now.
    timeouts: T,
}

impl<S, T: Fn() -> FrameTimeouts> Counted<S, T> {
    pub(crate) fn new(stream: S, streams: Streams, timeouts: T) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            ahead: Vec::new(),
            blocked: false,
            streams,
            budget: Budget { left: BUDGET, written: 0, answered: 0, last: Instant::now() },
            timeouts,
        }
    }

    /// Counts the bytes that were read, and returns how many of them to pass on.
    fn saw(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Seen { cost, hand_on } = self.frames.see(bytes);
        let mut state = self.streams.lock();
        if self.frames.ended || self.frames.came >= RENEWS_BODY_DEADLINE {
            self.frames.came = 0;
            state.due = None;
        }
        match self.frames.under_way() {
            None => state.due = None,
            Some(_) if state.due.is_some() => {}
            Some(kind) => {
                let FrameTimeouts { header, body } = (self.timeouts)();
                let within = if kind == DATA { header.max(body) } else { header };
                state.due = Some(Instant::now() + within);
            }
        }
        if self.budget.take(cost, state.answered, Instant::now) {
            return Ok(hand_on);
        }
        state.flooded = true;
        Err(io::Error::other("too many small frames"))
    }

    /// Notes whether the client reads what is written.
    fn wrote<W>(&mut self, wrote: Poll<W>) -> Poll<W> {
        if wrote.is_pending() != self.blocked {
            self.blocked = wrote.is_pending();
            self.streams.blocked(self.blocked);
        }
        wrote
    }
}

struct Budget {
    left: u64,
    written: u64,
    answered: u64,
    last: Instant,
}

impl Budget {
    /// Takes `cost` from the budget, if it has that much.
    fn take(&mut self, cost: u64, answered: u64, now: impl FnOnce() -> Instant) -> bool {
        if cost > self.left {
            // The clock is read only if the result depends on it.
            let elapsed = now().saturating_duration_since(self.last);
            let by_time = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(PER_SECOND) / 1000;
            let earned = (answered - self.answered) * PER_ANSWER + self.written / BYTES_WRITTEN + by_time;
            self.answered = answered;
            self.written %= BYTES_WRITTEN;
            self.last += elapsed;
            self.left = self.left.saturating_add(earned).min(BUDGET);
        }
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl<S: AsyncRead + Unpin, T: Fn() -> FrameTimeouts> Counted<S, T> {
    /// Reads into a buffer with room for a head, and leaves the bytes to pass on in it.
    fn poll_read_frames(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            buf.put_slice(self.frames.head());
            let held = buf.filled().len();
            let read = Pin::new(&mut self.stream).poll_read(cx, buf);
            if !matches!(read, Poll::Ready(Ok(()))) || buf.filled().len() == held {
                buf.set_filled(before);
                return read;
            }
            let hand_on = self.saw(&mut buf.filled_mut()[before..]);
            buf.set_filled(before + *hand_on.as_ref().unwrap_or(&0));
            // Nothing of a head is passed on before it is complete.
            match hand_on {
                Ok(0) => {}
                hand_on => return Poll::Ready(hand_on.map(drop)),
            }
        }
    }
}

impl<S: AsyncRead + Unpin, T: Fn() -> FrameTimeouts + Unpin> AsyncRead for Counted<S, T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.streams.are_deaf() {
            return Poll::Pending;
        }
        if this.ahead.is_empty() {
            if buf.remaining() > 2 * HEAD {
                return this.poll_read_frames(cx, buf);
            }
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(this.poll_read_frames(cx, &mut piece))?;
            this.ahead.extend_from_slice(piece.filled());
        }
        let handed = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..handed]);
        this.ahead.drain(..handed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, T: Fn() -> FrameTimeouts + Unpin> AsyncWrite for Counted<S, T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.budget.wrote(&wrote);
        this.wrote(wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.budget.wrote(&wrote);
        this.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Budget {
    fn wrote(&mut self, wrote: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = wrote {
            self.written += *bytes as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_budget_grows_with_answers_and_time() {
        let start = Instant::now();
        let mut budget = Budget { left: BUDGET, written: 0, answered: 0, last: start };
        let take = |budget: &mut Budget, cost, answered, seconds| {
            let now = || start + Duration::from_secs(seconds);
            budget.take(cost, answered, now) && !budget.take(1, answered, now)
        };
        assert!(take(&mut budget, BUDGET, 0, 0));
        assert!(take(&mut budget, PER_ANSWER, 1, 0), "an answer");
        budget.wrote(&Poll::Ready(Ok(usize::try_from(2 * BYTES_WRITTEN).unwrap())));
        assert!(take(&mut budget, 2, 1, 0), "bytes of answers");
        assert!(take(&mut budget, PER_SECOND, 1, 1), "time");
        assert!(take(&mut budget, BUDGET, 1, 100_000), "and never over the most there is");
    }
}
