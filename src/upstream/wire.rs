//! A connection to a server with its buffers for reading and writing.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// How many bytes are read at once if the length is unknown or small.
const PIECE: usize = 8 << 10;
/// How many bytes of a larger body are read at once.
const LARGE_PIECE: usize = 64 << 10;
/// The largest write buffer that a connection keeps, in bytes.
const KEPT: usize = 16 << 10;

/// The bytes of a connection to a server, in both directions.
pub(super) struct Wire {
    stream: Stream,
    /// What was read and not parsed yet.
    pub(super) unread: BytesMut,
    /// What is to be written, and how many bytes of it were.
    out: Vec<u8>,
    written: usize,
    /// Whether some of the request was handed to the kernel, or to TLS, as far as writing tells.
    is_touched: bool,
    /// Where only the kernel's word tells: how much it had taken when the request began.
    taken_before: Option<u64>,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, unread: BytesMut::new(), out: Vec::new(), written: 0, is_touched: false, taken_before: None }
    }

    /// The write buffer, for the beginning of a request.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        self.is_touched = false;
        self.taken_before = self.stream.taken();
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        self.more()
    }

    /// The write buffer, for more of it. Everything in it must have been written.
    pub(super) fn more(&mut self) -> &mut Vec<u8> {
        self.out.clear();
        self.written = 0;
        &mut self.out
    }

    /// Writes all that is to be written. If `is_last`, only the answer matters next: then this may stay pending until something of it
    /// arrives.
    pub(super) fn poll_written(&mut self, cx: &mut Context<'_>, is_last: bool) -> Poll<io::Result<()>> {
        // TLS may have sent a part even if it reports an error.
        self.is_touched |= matches!(self.stream, Stream::Tls(_));
        while let left @ [_, ..] = &self.out[self.written..] {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
            self.is_touched |= self.taken_before.is_none();
        }
        if is_last { self.stream.poll_taken(cx) } else { Pin::new(&mut self.stream).poll_flush(cx) }
    }

    /// Whether some of the request may have been sent. Nothing was if the kernel took nothing.
    pub(super) fn is_touched(&self) -> bool {
        self.is_touched || self.stream.taken().zip(self.taken_before).is_some_and(|(taken, before)| taken > before)
    }

    /// Reads what has arrived and returns the number of bytes. `left` is how many bytes of a body are left, if that is
    /// known.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, left: Option<u64>) -> Poll<io::Result<usize>> {
        if let Some(left) = left.filter(|left| *left > PIECE as u64) {
            self.unread.reserve(usize::try_from(left).map_or(LARGE_PIECE, |left| left.min(LARGE_PIECE)));
            return pin!(self.stream.read_buf(&mut self.unread)).poll(cx);
        }
        // Most answers are small: they get a buffer of exactly their size.
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

    /// Whether it can be used for a request: the server has neither closed it nor sent anything without a request.
    ///
    /// Bytes that a faulty server sends between this check and the request cannot be told from an answer, because HTTP/1.1
    /// matches answers to requests only by their order.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.unread.is_empty() && self.stream.is_quiet()
    }
}
