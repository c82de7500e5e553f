//! The stream of an HTTP/1 connection. It passes on only bytes that the strict reader has accepted.

mod answering;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use super::deadline::{Awaited, Deadlines};
use super::request_head::{AcceptedHead, FieldSpan};
use super::{ConnectionPolicy, MessagePart, RequestReader, Sizes, Times};
use crate::http::fault::MessageFault;
use crate::http::timer::RENEWS_BODY_DEADLINE;

/// How much is read at once when the bytes cannot be judged in the reader's own buffer.
const PIECE: usize = 4 << 10;

/// A stream that passes on only bytes that the strict reader has accepted.
///
/// Bytes are judged in the buffer that they are read into; those that are not accepted yet are taken back and held.
/// A head that arrives in one piece is not copied, and an idle connection holds no buffer.
pub(crate) struct StrictStream<S, K> {
    stream: S,
    policy: K,
    reader: RequestReader,
    sizes: Sizes,
    times: Times,
    /// Bytes that were read and not passed on.
    held: Vec<u8>,
    /// How many of those bytes were accepted but do not fit into the reader's buffer yet.
    accepted: usize,
    /// Whether more of them may be accepted, because they were not judged since the end of the last message.
    unseen: bool,
    /// Bytes of the body since its deadline was last renewed.
    came: usize,
    deadlines: Deadlines,
    end: End,
    /// No message has arrived yet.
    is_new: bool,
    /// The last message has arrived completely, and nothing of its answer was written yet.
    unanswered: bool,
    /// Something arrived that will not be read.
    unread: bool,
    /// The client has closed its side.
    peer_ended: bool,
}

/// What follows once all accepted bytes were passed on.
enum End {
    /// More.
    Not,
    /// Nothing.
    Silent,
    /// Nothing, and this answer at the end.
    Refused(Vec<u8>),
    /// An error in the body.
    Broken(MessageFault),
}

impl<S, K: ConnectionPolicy> StrictStream<S, K> {
    /// A stream over `stream` for the connection with this `policy`.
    pub(crate) fn new(stream: S, policy: K) -> Self {
        let (sizes, times) = policy.limits();
        Self {
            stream,
            policy,
            reader: RequestReader::default(),
            sizes,
            times,
            held: Vec::new(),
            accepted: 0,
            unseen: false,
            came: 0,
            deadlines: Deadlines::default(),
            end: End::Not,
            is_new: true,
            unanswered: false,
            unread: false,
            peer_ended: false,
        }
    }

    /// The stream below; bytes that were read and not passed on are lost.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// Takes the head that was accepted last. Its bytes are passed on next, or were already.
    pub(super) fn take_head(&mut self) -> Option<AcceptedHead> {
        self.reader.take_head()
    }

    /// See [`RequestReader::reuse`].
    pub(super) fn reuse(&mut self, spans: Vec<FieldSpan>) {
        self.reader.reuse(spans);
    }

    /// Called when the answer to the last message was sent. Nothing is unanswered then, even if the end of the
    /// message was read after its answer was written.
    pub(super) fn was_answered(&mut self) {
        self.unanswered = false;
    }

    /// How many of these bytes are accepted, up to the end of their message.
    fn accept(&mut self, bytes: &[u8]) -> usize {
        let mut accepted = 0;
        self.unseen = false;
        if self.reader.is_between_messages() {
            (self.sizes, self.times) = self.policy.limits();
        }
        loop {
            match self.reader.accept(&bytes[accepted..], &self.sizes) {
                Ok(None) => return accepted,
                Ok(Some(part)) => {
                    accepted += part.bytes;
                    self.came += part.bytes;
                    if part.ends || part.part == MessagePart::Head || self.came >= RENEWS_BODY_DEADLINE {
                        self.came = 0;
                        self.deadlines.read();
                    }
                    if part.ends {
                        self.unseen = accepted < bytes.len();
                        self.unanswered = true;
                        self.is_new = false;
                        self.policy.stands_alone(!self.unseen);
                        return accepted;
                    }
                    if part.part == MessagePart::Head {
                        self.policy.stands_alone(false);
                    }
                }
                Err(fault) => {
                    self.stop(fault, &bytes[accepted..]);
                    return accepted;
                }
            }
        }
    }

    /// Accepts nothing more; `bytes` are those that were not accepted.
    fn stop(&mut self, fault: MessageFault, bytes: &[u8]) {
        self.end = if self.reader.is_in_body() {
            End::Broken(fault)
        } else {
            End::Refused(self.policy.refuse(fault, self.reader.request(bytes)))
        };
    }

    /// Like `stop`, for bytes that are held.
    fn stop_held(&mut self, fault: MessageFault) {
        let held = std::mem::take(&mut self.held);
        self.stop(fault, &held);
        self.held = held;
    }

    /// Called when the client has closed its side.
    fn ended(&mut self) {
        self.peer_ended = true;
        if self.reader.is_in_body() || self.reader.is_between_messages() {
            self.end = End::Silent;
        } else {
            self.stop_held(MessageFault::Truncated);
        }
    }

    /// Called when the expected data did not arrive in time.
    fn late(&mut self, awaited: Awaited) {
        match awaited {
            Awaited::Anything => self.end = End::Silent,
            Awaited::Head => self.stop_held(MessageFault::HeadTooSlow),
            Awaited::Body => self.stop(MessageFault::BodyTooSlow, &[]),
        }
    }

    /// What is expected, and for how long.
    fn awaited(&self) -> (Awaited, Duration) {
        if self.reader.is_in_body() {
            (Awaited::Body, self.times.body)
        } else if self.reader.is_between_messages() {
            (Awaited::Anything, if self.is_new { self.times.first } else { self.times.idle })
        } else {
            (Awaited::Head, self.times.head)
        }
    }

    /// Passes on accepted bytes that did not fit before.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let handed = self.accepted.min(buf.remaining());
        buf.put_slice(&self.held[..handed]);
        self.held.drain(..handed);
        self.accepted -= handed;
        if self.held.is_empty() {
            // An idle connection holds no buffer.
            self.held = Vec::new();
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }
}

impl<S: AsyncRead + Unpin, K: ConnectionPolicy> StrictStream<S, K> {
    /// Reads directly into `buf`, and takes back the bytes that are not accepted yet.
    fn poll_read_there(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if read.is_empty() {
            self.ended();
            return Poll::Ready(Ok(()));
        }
        let accepted = self.accept(read);
        self.hold(&read[accepted..]);
        buf.set_filled(before + accepted);
        Poll::Ready(Ok(()))
    }

    /// Passes on more of the bytes that are held.
    fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        if piece.filled().is_empty() {
            self.ended();
            return Poll::Ready(Ok(()));
        }
        self.hold(piece.filled());
        self.unseen = true;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin, K: ConnectionPolicy> AsyncRead for StrictStream<S, K> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        loop {
            if this.accepted > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            match this.end {
                End::Not => {}
                End::Silent | End::Refused(_) => return Poll::Ready(Ok(())),
                End::Broken(fault) => return Poll::Ready(Err(fault.into())),
            }
            if this.unseen {
                let held = std::mem::take(&mut this.held);
                this.accepted = this.accept(&held);
                // The rest was judged now, except for the next message.
                this.held = held;
                continue;
            }
            let read = if this.held.is_empty() { this.poll_read_there(cx, buf) } else { this.poll_read_more(cx) };
            match read {
                Poll::Ready(Ok(())) if buf.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let (awaited, within) = this.awaited();
                    if awaited != Awaited::Body && !this.unanswered {
                        this.policy.idles();
                    }
                    ready!(this.deadlines.poll_read(cx, awaited, within));
                    this.late(awaited);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
