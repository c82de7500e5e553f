//! The frames of HTTP/2 as they stand on the wire, counted before the HTTP reader has them.
//!
//! A frame that asks for little and costs its sender nothing (SETTINGS, PING, RST_STREAM, an empty
//! DATA, a bit of a header block) is worth a flood: each is handled, some are answered. So each
//! takes from a budget that grows with what a client has a use for them: with requests that were
//! answered, with bytes of answers, and a little with time. Whoever overdraws it is cut off.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connection::Limits;
use super::streams::Streams;

/// The most there is to take from, and what there is at first.
const BUDGET: u64 = 1000;
/// What a request that was answered adds.
const PER_ANSWER: u64 = 16;
/// What a second adds.
const PER_SECOND: u64 = 20;
/// Bytes written that add one: a client tells now and then how many it has taken.
const BYTES_WRITTEN: u64 = 1024;

const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// A DATA frame that is not the last carries at least this, or is one of too many.
const WORTHWHILE: usize = 256;

/// A stream whose frames are counted as they are read.
pub(super) struct Counted<S> {
    stream: S,
    frames: Frames,
    streams: Streams,
    budget: Budget,
    header_timeout: Duration,
    body_timeout: Duration,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, streams: Streams, limits: &Limits) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            streams,
            budget: Budget { left: BUDGET, written: 0, answered: 0, last: Instant::now() },
            header_timeout: limits.header_timeout,
            body_timeout: limits.body_timeout,
        }
    }

    fn saw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let cost = self.frames.see(bytes);
        let mut state = self.streams.lock();
        if self.frames.ended {
            state.due = None;
        }
        match self.frames.under_way() {
            None => state.due = None,
            Some(_) if state.due.is_some() => {}
            Some(DATA) => state.due = Some(Instant::now() + self.body_timeout.max(self.header_timeout)),
            Some(_) => state.due = Some(Instant::now() + self.header_timeout),
        }
        if self.budget.take(cost, state.answered, Instant::now) {
            return Ok(());
        }
        state.flooded = true;
        Err(io::Error::other("too many small frames"))
    }
}

struct Budget {
    left: u64,
    written: u64,
    answered: u64,
    last: Instant,
}

impl Budget {
    /// Takes so much, if it is there.
    fn take(&mut self, cost: u64, answered: u64, now: impl FnOnce() -> Instant) -> bool {
        if cost > self.left {
            // The clock is read only where it matters.
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

/// Where in the frames of a connection the next byte belongs.
struct Frames {
    /// Bytes of the preface, or of a payload, that are left.
    skip: usize,
    head: [u8; 9],
    /// How much of the head of a frame is there.
    have: usize,
    /// Whether a header block has begun and not ended.
    block: bool,
    kind: u8,
    /// Whether, in what was seen last, a frame ended that no header block goes on behind.
    ended: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE, head: [0; 9], have: 0, block: false, kind: SETTINGS, ended: false }
    }
}

impl Frames {
    /// Looks at what was read, and says what it costs.
    fn see(&mut self, mut bytes: &[u8]) -> u64 {
        let mut cost = 0;
        self.ended = false;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
            } else {
                let part = bytes.len().min(self.head.len() - self.have);
                self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
                self.have += part;
                bytes = &bytes[part..];
                if self.have < self.head.len() {
                    continue;
                }
                self.have = 0;
                cost += self.frame();
            }
            self.ended |= self.skip == 0 && self.have == 0 && !self.block;
        }
        cost
    }

    /// A head of a frame is there.
    fn frame(&mut self) -> u64 {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        self.kind = kind;
        if [HEADERS, PUSH_PROMISE, CONTINUATION].contains(&kind) {
            self.block = flags & END_HEADERS == 0;
        }
        match kind {
            DATA if length >= WORTHWHILE || flags & END_STREAM != 0 => 0,
            CONTINUATION => 2,
            SETTINGS => 1 + length as u64 / 64,
            DATA | HEADERS => 1,
            _ => 1 + length as u64 / 1024,
        }
    }

    /// The kind of the frame that has begun and not ended, if there is one.
    fn under_way(&self) -> Option<u8> {
        if self.block || self.have > 0 {
            return Some(HEADERS);
        }
        (self.skip > 0).then_some(self.kind)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before => Poll::Ready(this.saw(&buf.filled()[before..])),
            read => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.budget.wrote(&wrote);
        wrote
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.budget.wrote(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
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

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., a, b, c] = u64::try_from(length).unwrap().to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        frame.resize(9 + length, 0);
        frame
    }

    #[test]
    fn frames_are_counted_however_they_come() {
        let wire = [
            vec![0; PREFACE],
            frame(SETTINGS, 0, 18),      // 1
            frame(HEADERS, 0, 40),       // 1
            frame(CONTINUATION, 0, 0),   // 2
            frame(CONTINUATION, 4, 300), // 2
            frame(DATA, 0, 4096),        // 0
            frame(DATA, 0, 0),           // 1
            frame(DATA, END_STREAM, 0),  // 0
            frame(6, 0, 8),              // 1
            frame(77, 0, 2048),          // 3
        ]
        .concat();
        let mut whole = Frames::default();
        assert_eq!(whole.see(&wire), 11);
        assert_eq!(whole.under_way(), None);
        for cut in 1..wire.len() {
            let mut frames = Frames::default();
            assert_eq!(wire.chunks(cut).map(|part| frames.see(part)).sum::<u64>(), 11, "{cut}");
            assert!(frames.ended && frames.under_way().is_none());
        }
        let mut open = Frames::default();
        open.see(&[0; PREFACE]);
        open.see(&frame(HEADERS, 0, 40));
        assert_eq!((open.under_way(), open.ended), (Some(HEADERS), false));
        open.see(&frame(CONTINUATION, 0, 9));
        assert_eq!((open.under_way(), open.ended), (Some(HEADERS), false), "a block that goes on has not ended");
        open.see(&frame(CONTINUATION, END_HEADERS, 0));
        assert_eq!((open.under_way(), open.ended), (None, true));
        open.see(&[0]);
        assert_eq!((open.under_way(), open.ended), (Some(HEADERS), false), "nor has a head of which a byte is there");
    }

    #[test]
    fn a_budget_grows_with_what_it_is_for() {
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
