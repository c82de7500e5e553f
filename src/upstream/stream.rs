//! The stream of a connection to a server: TCP or a Unix socket, with or without TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::socket::Socket;

/// The bytes of a connection, whatever carries them. Only TLS, whose state is large, is boxed.
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// Whether there is nothing to read, not even the end of the stream.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Tls(stream) => {
                // On a ring, this is what brings in what has arrived.
                let _ = stream.get_ref().0.is_quiet();
                // Reads TLS messages such as session tickets, which are not part of an answer.
                let (mut piece, mut nobody) = ([0], Context::from_waker(Waker::noop()));
                let read = Pin::new(&mut **stream).poll_read(&mut nobody, &mut ReadBuf::new(&mut piece));
                read.is_pending() && stream.get_ref().0.is_quiet()
            }
        }
    }

    /// How many bytes the kernel has taken, if that is not known from writing alone.
    pub(super) fn taken(&self) -> Option<u64> {
        match self {
            Self::Plain(socket) => socket.taken(),
            Self::Tls(_) => None,
        }
    }

    /// Like flushing, for one who waits for an answer next: it need not be told that everything was taken until something
    /// arrives, or something is wrong.
    pub(super) fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_taken(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}

macro_rules! each {
    ($stream:expr, $inner:ident => $what:expr) => {
        match $stream.get_mut() {
            Stream::Plain($inner) => $what,
            Stream::Tls($inner) => $what,
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
            Self::Plain(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}
