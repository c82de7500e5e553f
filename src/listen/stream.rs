use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// A connection as the kernel has it.
pub enum Raw {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// A connection of which some bytes have been read already: they come first.
pub struct Stream {
    raw: Raw,
    ahead: Vec<u8>,
    /// How many of those have been handed out.
    taken: usize,
}

/// A connection where HTTP begins. An enum: the plain connection, which is the busy one, is not
/// called through a table.
pub enum Io {
    /// What came is what was sent.
    Plain(Stream),
    /// TLS ends here.
    Tls(Box<TlsStream<Stream>>),
}

impl Raw {
    /// The other side's address; a Unix socket has none.
    pub fn peer(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(Some),
            Self::Unix(_) => Ok(None),
        }
    }
}

/// Does the same with either kind.
macro_rules! either {
    ($this:expr, $kind:ident { $($variant:ident),+ }, $stream:ident => $what:expr) => {
        match $this { $($kind::$variant($stream) => $what,)+ }
    };
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

/// What is read ahead at a time: most heads fit, so that a plain connection costs no read more
/// than without looking.
const AHEAD: usize = 2048;

impl Stream {
    pub(super) fn new(raw: Raw) -> Self {
        Self { raw, ahead: Vec::new(), taken: 0 }
    }

    /// What was read and not handed out.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead[self.taken..]
    }

    /// Reads some more; how many bytes, 0 at the end.
    pub(super) async fn look_further(&mut self) -> io::Result<usize> {
        self.ahead.reserve(AHEAD);
        self.raw.read_buf(&mut self.ahead).await
    }

    /// What was read first was for us.
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
