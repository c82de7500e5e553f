//! The stream while a message is answered: it watches the client, writes the answers, and closes the connection.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{End, PIECE, StrictStream};
use crate::http::h1::ConnectionPolicy;

/// How much is read at once while a message is answered: enough to see that something arrived.
const GLANCE: usize = 64;
/// Closing with unread bytes makes the kernel send a reset, which can overtake the answer. So for this long, and
/// for this many bytes, arriving bytes are read and discarded.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

impl<S: AsyncRead + Unpin, K: ConnectionPolicy> StrictStream<S, K> {
    /// While the answer to a complete message is awaited: checks whether the peer has reset or closed the
    /// connection.
    ///
    /// # Errors
    /// If it was reset.
    pub(in crate::http::h1) fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.unanswered { self.look_behind(cx) } else { Ok(()) }
    }

    /// While a message is answered: checks whether the peer has reset or closed the connection, or sent more.
    ///
    /// Bytes that arrive before the first byte of the answer was sent are pipelined: the client cannot have seen
    /// the answer.
    fn look_behind(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !matches!(self.end, End::Not) {
            return Ok(());
        }
        if self.held.is_empty() {
            let mut glance = [0; GLANCE];
            let mut glance = ReadBuf::new(&mut glance);
            match Pin::new(&mut self.stream).poll_read(cx, &mut glance) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(())) if glance.filled().is_empty() => {
                    self.ended();
                    return Ok(());
                }
                Poll::Ready(Ok(())) => {
                    self.hold(glance.filled());
                    self.unseen = true;
                    self.policy.stands_alone(false);
                }
            }
        }
        if self.policy.must_stand_alone() {
            self.end = End::Silent;
            self.unread = true;
        }
        Ok(())
    }

    /// Called before each write of an answer.
    fn answers(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if std::mem::take(&mut self.unanswered) && self.policy.must_stand_alone() {
            self.look_behind(cx)?;
        }
        Ok(())
    }
}

impl<S, K> StrictStream<S, K> {
    /// The result of a write: an error once the client has read nothing for too long.
    fn taken<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadlines.written();
            return written;
        }
        ready!(self.deadlines.poll_written(cx, self.times.write));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing of what is written")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, K: ConnectionPolicy> AsyncWrite for StrictStream<S, K> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answers(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.taken(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answers(cx)?;
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

    /// Only flushes: the answer to a refused message may have to follow, see [`StrictStream::finish`].
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, K: ConnectionPolicy> StrictStream<S, K> {
    /// Ends the connection after the server has written its last answer: writes the answer to a refused message,
    /// and closes so that the client can read it. `early` says that the gateway announced the end, and the client
    /// may have sent more before it knew. Takes at most the `write` timeout and two seconds.
    pub(crate) async fn finish(mut self, early: bool) {
        let answer = match std::mem::replace(&mut self.end, End::Silent) {
            End::Refused(answer) => answer,
            End::Not | End::Silent | End::Broken(_) => Vec::new(),
        };
        let unread = early || self.unread || !answer.is_empty() || self.reader.is_in_body() || !self.held.is_empty();
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
    let mut left = LINGER_BYTES;
    poll_fn(|cx| {
        // Within the poll, because it would enlarge the future of every connection.
        let mut piece = [MaybeUninit::uninit(); PIECE];
        loop {
            let mut piece = ReadBuf::uninit(&mut piece);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut piece)) {
                Ok(()) if (1..=left).contains(&piece.filled().len()) => left -= piece.filled().len(),
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}
