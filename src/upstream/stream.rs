//! The stream of a connection to a server: TCP, TLS or a Unix socket.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// The bytes of a connection, whatever carries them. Only TLS, whose state is large, is boxed.
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Stream {
    /// Whether there is nothing to read, not even the end of the stream. Asks the kernel, because the runtime's readiness is
    /// only as recent as its last poll.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => nothing_waits(stream),
            Self::Unix(stream) => nothing_waits(stream),
            Self::Tls(stream) => {
                // Reads TLS messages such as session tickets, which are not part of an answer.
                let (mut piece, mut nobody) = ([0], Context::from_waker(Waker::noop()));
                let read = Pin::new(&mut **stream).poll_read(&mut nobody, &mut ReadBuf::new(&mut piece));
                read.is_pending() && nothing_waits(stream.get_ref().0)
            }
        }
    }
}

fn nothing_waits(socket: impl AsFd) -> bool {
    let first = recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    first.is_err_and(|error| error == Errno::AGAIN)
}

macro_rules! each {
    ($stream:expr, $inner:ident => $what:expr) => {
        match $stream.get_mut() {
            Stream::Tcp($inner) => $what,
            Stream::Tls($inner) => $what,
            Stream::Unix($inner) => $what,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(cx, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
            Self::Unix(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}
