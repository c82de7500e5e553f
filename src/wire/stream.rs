use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::deadline::{Awaited, Deadlines};
use super::{Fault, Keeper, Part, Reader, Sizes, Times};

/// What is read at once where it cannot be judged in the buffer of who reads.
const PIECE: usize = 4 << 10;
/// So many bytes of a body give what is left of it its time anew: what streams takes as long as it is
/// long, and what trickles does not. Whoever needs a whole body has a deadline of his own.
const WORTH_WAITING: usize = 1024;
/// A close with bytes unread makes the kernel send a reset, which can overtake the answer: so for
/// this long, and this many bytes, what still comes is read and thrown away.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// A stream on which nothing is read that was not judged.
///
/// What arrives is judged where it lies, in the buffer of who reads; what is not accepted yet is
/// taken back and held. A head that arrives in one piece is not copied, and an idle connection
/// holds no buffer.
pub struct Wire<S, K> {
    stream: S,
    keeper: K,
    reader: Reader,
    sizes: Sizes,
    times: Times,
    /// What was read and not handed on.
    held: Vec<u8>,
    /// So much of it was accepted, and waits for room.
    accepted: usize,
    /// More of it may be accepted: it was not looked at since the last message ended.
    unseen: bool,
    /// Bytes of the body since its time began anew.
    came: usize,
    deadlines: Deadlines,
    end: End,
    /// The peer has said its last.
    peer_ended: bool,
}

/// What comes once all that was accepted is handed on.
enum End {
    /// More.
    Not,
    /// Nothing.
    Silent,
    /// Nothing, and in the end this answer.
    Refused(Vec<u8>),
    /// An error in the body.
    Broken(Fault),
}

impl<S, K: Keeper> Wire<S, K> {
    /// Judges `stream` for `keeper`.
    pub fn new(stream: S, keeper: K) -> Self {
        let (sizes, times) = keeper.limits();
        Self {
            stream,
            keeper,
            reader: Reader::default(),
            sizes,
            times,
            held: Vec::new(),
            accepted: 0,
            unseen: false,
            came: 0,
            deadlines: Deadlines::default(),
            end: End::Not,
            peer_ended: false,
        }
    }

    /// How many of these bytes are accepted, up to the end of the message that they belong to.
    fn accept(&mut self, bytes: &[u8]) -> usize {
        let mut accepted = 0;
        self.unseen = false;
        if self.reader.is_between_messages() {
            (self.sizes, self.times) = self.keeper.limits();
        }
        loop {
            match self.reader.accept(&bytes[accepted..], &self.sizes) {
                Ok(None) => return accepted,
                Ok(Some(part)) => {
                    accepted += part.bytes;
                    self.came += part.bytes;
                    if part.ends || part.part == Part::Head || self.came >= WORTH_WAITING {
                        self.came = 0;
                        self.deadlines.read();
                    }
                    if part.ends {
                        self.unseen = accepted < bytes.len();
                        return accepted;
                    }
                }
                Err(fault) => {
                    self.stop(fault, &bytes[accepted..]);
                    return accepted;
                }
            }
        }
    }

    /// Nothing more is accepted; `bytes` are what was not.
    fn stop(&mut self, fault: Fault, bytes: &[u8]) {
        self.end = if self.reader.is_in_body() {
            End::Broken(fault)
        } else {
            End::Refused(self.keeper.refuse(fault, self.reader.request(bytes)))
        };
    }

    /// The same, where what was not accepted is held.
    fn stop_held(&mut self, fault: Fault) {
        let held = std::mem::take(&mut self.held);
        self.stop(fault, &held);
        self.held = held;
    }

    /// The peer has ended.
    fn ended(&mut self) {
        self.peer_ended = true;
        if self.reader.is_in_body() || self.reader.is_between_messages() {
            self.end = End::Silent;
        } else {
            self.stop_held(Fault::Truncated);
        }
    }

    /// What was awaited has not come in time.
    fn late(&mut self, awaited: Awaited) {
        match awaited {
            Awaited::Anything => self.end = End::Silent,
            Awaited::Head => self.stop_held(Fault::HeadTooSlow),
            Awaited::Body => self.stop(Fault::BodyTooSlow, &[]),
        }
    }

    /// What is awaited, and for how long.
    fn awaited(&self) -> (Awaited, Duration) {
        if self.reader.is_in_body() {
            (Awaited::Body, self.times.body)
        } else if self.reader.is_between_messages() {
            (Awaited::Anything, self.times.idle)
        } else {
            (Awaited::Head, self.times.head)
        }
    }

    /// Hands on what was accepted and waited for room.
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

impl<S: AsyncRead + Unpin, K: Keeper> Wire<S, K> {
    /// Reads straight into `buf`, and takes back what is not accepted yet.
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

    /// Reads more of what is held already.
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

impl<S: AsyncRead + Unpin, K: Keeper> AsyncRead for Wire<S, K> {
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
                // What is left was seen now, but for the next message.
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
                    ready!(this.deadlines.poll_read(cx, awaited, within));
                    this.late(awaited);
                }
            }
        }
    }
}

impl<S, K> Wire<S, K> {
    /// What became of writing: an error once the peer has taken nothing for too long.
    fn taken<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadlines.written();
            return written;
        }
        ready!(self.deadlines.poll_written(cx, self.times.write));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing of what is written")))
    }
}

impl<S: AsyncWrite + Unpin, K: Unpin> AsyncWrite for Wire<S, K> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.taken(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.taken(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.taken(cx, flushed)
    }

    /// Only flushes: an answer may have to come after the last of hyper's, see [`Wire::finish`].
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, K: Keeper> Wire<S, K> {
    /// Ends the connection once hyper has written its last: gives the answer to what was refused,
    /// and closes so that it can be read. Takes no longer than the peer's `write` time and two
    /// seconds.
    pub async fn finish(mut self) {
        let answer = match std::mem::replace(&mut self.end, End::Silent) {
            End::Refused(answer) => answer,
            End::Not | End::Silent | End::Broken(_) => Vec::new(),
        };
        let unread = !answer.is_empty() || self.reader.is_in_body() || !self.held.is_empty();
        let ended = async {
            self.write_all(&answer).await?;
            self.flush().await?;
            poll_fn(|cx| {
                let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
                self.taken(cx, shut)
            })
            .await
        };
        if ended.await.is_ok() && unread && !self.peer_ended {
            let _ = tokio::time::timeout(LINGER, discard(&mut self.stream)).await;
        }
    }
}

async fn discard(stream: &mut (impl AsyncRead + Unpin)) {
    // Not in the future itself: every connection would be so much larger.
    let mut piece = vec![0; PIECE];
    let mut left = LINGER_BYTES;
    while let Ok(read @ 1..) = stream.read(&mut piece).await
        && let Some(still) = left.checked_sub(read)
    {
        left = still;
    }
}
