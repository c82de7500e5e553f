//! The streams of a connection: raw, with bytes read ahead, and with or without TLS.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// An accepted connection.
pub(crate) enum Raw {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// A connection of which some bytes were read ahead. Reading returns those first.
pub(crate) struct Stream {
    raw: Raw,
    ahead: Vec<u8>,
    /// How many of those bytes were returned.
    taken: usize,
}

/// A connection on which HTTP begins. An enum and not a trait object, so that plain connections are not called through a
/// table.
pub(crate) enum Io {
    /// Without TLS.
    Plain(Stream),
    /// With TLS.
    Tls(Box<TlsStream<Stream>>),
}

/// How much of an answer the kernel buffers before it is sent, in bytes. The kernel reports room again once half of
/// that is sent. Without this limit it accepts megabytes, and reports no room until the client has read a third of
/// them: `write_timeout` would then treat a slow client as one that reads nothing.
const MAX_UNSENT: u32 = 256 << 10;

impl Raw {
    /// A TCP connection that was accepted, with the options that suit answers.
    pub(crate) fn accepted(stream: TcpStream) -> Self {
        // If the kernel refuses an option, the connection still works. Without the first one, a small answer could
        // wait for the acknowledgement of the one before.
        drop(stream.set_nodelay(true));
        drop(SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT));
        Self::Tcp(stream)
    }

    /// The other side's address; a Unix socket has none.
    pub(crate) fn peer(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(Some),
            Self::Unix(_) => Ok(None),
        }
    }
}

/// Does the same for every variant.
macro_rules! either {
    ($this:expr, $kind:ident { $($variant:ident),+ }, $stream:ident => $what:expr) => {
        match $this { $($kind::$variant($stream) => $what,)+ }
    };
}

impl Io {
    /// Closes the connection with a reset and without `close_notify`, so that the other side cannot take it for a regular end.
    /// A Unix socket is closed as usual, since it has no reset.
    pub(crate) fn reset(self) {
        let stream = match &self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        if let Raw::Tcp(stream) = &stream.raw {
            // If the kernel refuses this, the connection is still closed.
            drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        }
    }
}

impl AsyncRead for Raw {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), Raw { Tcp, Unix }, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), Raw { Tcp, Unix }, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), Raw { Tcp, Unix }, stream => Pin::new(stream).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, Raw { Tcp, Unix }, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), Raw { Tcp, Unix }, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), Raw { Tcp, Unix }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// How many bytes are read ahead at a time. Most heads fit, so that reading ahead costs no additional read.
const AHEAD: usize = 2048;

impl Stream {
    pub(super) fn new(raw: Raw) -> Self {
        Self { raw, ahead: Vec::new(), taken: 0 }
    }

    /// The bytes that were read ahead and not returned yet.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead[self.taken..]
    }

    /// Reads more bytes ahead. Returns how many, 0 at the end of the stream.
    pub(super) async fn look_further(&mut self) -> io::Result<usize> {
        self.ahead.reserve(AHEAD);
        self.raw.read_buf(&mut self.ahead).await
    }

    /// Skips bytes that were read ahead.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.ahead.len());
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.raw).poll_read(cx, buf);
        }
        if this.taken < this.ahead.len() {
            let part = &this.ahead[this.taken..];
            let part = &part[..part.len().min(buf.remaining())];
            buf.put_slice(part);
            this.taken += part.len();
            return Poll::Ready(Ok(()));
        }
        this.ahead = Vec::new();
        this.taken = 0;
        Pin::new(&mut this.raw).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.raw).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.raw).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.raw.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.raw).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.raw).poll_shutdown(cx)
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), Io { Plain, Tls }, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), Io { Plain, Tls }, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), Io { Plain, Tls }, stream => Pin::new(stream).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, Io { Plain, Tls }, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), Io { Plain, Tls }, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), Io { Plain, Tls }, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
