//! The streams of a connection: raw, with bytes read ahead, and with or without TLS.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::socket::Socket;

/// A connection of which some bytes were read ahead. Reading returns those first.
pub(crate) struct Stream {
    raw: Socket,
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

/// Sets the options that suit answers on a TCP socket. Connections that a listening one gets from then on inherit them.
pub(crate) fn suit_answers(socket: &impl AsFd) {
    let socket = SockRef::from(socket);
    // If the kernel refuses an option, connections still work. Without the first one, a small answer could wait for the
    // acknowledgement of the one before.
    drop(socket.set_tcp_nodelay(true));
    drop(socket.set_tcp_notsent_lowat(MAX_UNSENT));
}

/// Whether a TCP socket has these options. Asks for the one that nobody else sets: systemd can set the other (`NoDelay=`).
pub(crate) fn suits_answers(socket: &impl AsFd) -> bool {
    SockRef::from(socket).tcp_notsent_lowat().is_ok_and(|unsent| unsent == MAX_UNSENT)
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
    pub(crate) fn reset(mut self) {
        let stream = match &mut self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_mut().0,
        };
        stream.raw.reset_when_dropped();
    }
}

/// How many bytes are read ahead at a time. Most heads fit, so that reading ahead costs no additional read.
const AHEAD: usize = 2048;

impl Stream {
    pub(super) fn new(raw: Socket) -> Self {
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn accepted_connections_have_the_options_of_their_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        suit_answers(&listener);
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(accepted.nodelay().unwrap() && suits_answers(&accepted));
        assert!(!client.nodelay().unwrap() && !suits_answers(&client), "otherwise this tests nothing");
    }
}
