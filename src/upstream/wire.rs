use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// Read at once, where nothing tells how much there is.
const PIECE: usize = 8 << 10;
/// And at most, of a body that is larger.
const LARGE_PIECE: usize = 64 << 10;
/// Room for what is written that a connection keeps.
const KEPT: usize = 16 << 10;

/// The bytes of a connection to a server, in both directions.
pub(super) struct Wire {
    stream: Stream,
    /// What was read, and belongs to nothing yet.
    pub(super) unread: BytesMut,
    /// What is to be written, and how much of it was.
    out: Vec<u8>,
    written: usize,
    /// Whether something of the message was handed to the kernel, or to TLS.
    is_touched: bool,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, unread: BytesMut::new(), out: Vec::new(), written: 0, is_touched: false }
    }

    /// Where to put the beginning of a message.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        self.is_touched = false;
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        self.more()
    }

    /// Where to put more of it: what was to be written before has been.
    pub(super) fn more(&mut self) -> &mut Vec<u8> {
        self.out.clear();
        self.written = 0;
        &mut self.out
    }

    /// Writes all that is to be written.
    pub(super) fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What TLS was given may have left in part, whatever it says.
        self.is_touched |= matches!(self.stream, Stream::Tls(_));
        while let left @ [_, ..] = &self.out[self.written..] {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
            self.is_touched = true;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Whether something of the message may have left. Nothing did where the kernel took nothing.
    pub(super) fn is_touched(&self) -> bool {
        self.is_touched
    }

    /// Reads what has come, and says how much that is. `left` is how much is left of a body, where
    /// that is known.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, left: Option<u64>) -> Poll<io::Result<usize>> {
        if let Some(left) = left.filter(|left| *left > PIECE as u64) {
            self.unread.reserve(usize::try_from(left).map_or(LARGE_PIECE, |left| left.min(LARGE_PIECE)));
            return pin!(self.stream.read_buf(&mut self.unread)).poll(cx);
        }
        // What is small gets as much room as it needs: most answers are.
        let mut piece = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        let read = piece.filled();
        if self.unread.is_empty() {
            self.unread = BytesMut::from(read);
        } else {
            self.unread.extend_from_slice(read);
        }
        Poll::Ready(Ok(read.len()))
    }

    /// Whether it can have a message, as far as can be told: the server has not closed it, and said
    /// nothing that nobody asked for. The kernel is asked only where something has come.
    ///
    /// What a server that breaks the rules says from here on, before it has read the message, nobody can
    /// tell from an answer to it: HTTP/1.1 has no other tie between the two than their order.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        self.unread.is_empty() && self.poll_read(&mut nobody, None).is_pending()
    }
}
