//! Connected sockets, however their bytes are carried: by the runtime, which waits with epoll, or on the ring of a worker.
//!
//! A [`Socket`] is made of a connection of the runtime. On a worker that has a ring it moves there; everywhere else it stays. TLS and
//! HTTP read and write it without knowing.

mod settings;
mod uring;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub(crate) use settings::{IoBackend, IoChoice};
use uring::RingSocket;
pub(crate) use uring::{begin as begin_ring, probe as probe_ring, turn as turn_ring};

/// A connected socket. An enum and not a trait object, so that no call goes through a table.
pub(crate) enum Socket {
    /// TCP, by the runtime.
    Tcp(TcpStream),
    /// A Unix socket, by the runtime.
    Unix(UnixStream),
    /// Either, on a ring.
    Ring(RingSocket),
}

/// What flushing means on a ring, where what is written leaves at the end of the event loop's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Flushed is what the kernel has taken. When the connection is dropped, nothing more leaves.
    Known,
    /// Flushed is what leaves at the end of this turn, even if the connection is dropped before. For answers, of which nobody waits to know
    /// whether they have left.
    Posted,
}

impl Socket {
    /// A TCP connection.
    ///
    /// # Errors
    /// If it cannot be taken from the runtime.
    pub(crate) fn tcp(stream: TcpStream, delivery: Delivery) -> io::Result<Self> {
        if uring::has_room() {
            return uring::adopt(stream.into_std()?.into(), delivery).map(Self::Ring);
        }
        Ok(Self::Tcp(stream))
    }

    /// A connection of a Unix socket.
    ///
    /// # Errors
    /// If it cannot be taken from the runtime.
    pub(crate) fn unix(stream: UnixStream, delivery: Delivery) -> io::Result<Self> {
        if uring::has_room() {
            return uring::adopt(OwnedFd::from(stream.into_std()?), delivery).map(Self::Ring);
        }
        Ok(Self::Unix(stream))
    }

    /// Closes it when it is dropped with a reset, so that the other side cannot take it for a regular end. A Unix socket is
    /// closed as usual, since it has no reset.
    pub(crate) fn reset_when_dropped(&mut self) {
        // If the kernel refuses this, the connection is still closed.
        match self {
            Self::Tcp(stream) => drop(SockRef::from(&*stream).set_linger(Some(Duration::ZERO))),
            Self::Unix(_) => {}
            Self::Ring(socket) => {
                socket.discard();
                drop(SockRef::from(&*socket).set_linger(Some(Duration::ZERO)));
            }
        }
    }

    /// Whether there is nothing to read, not even the end of the stream. As exact as the kernel, because the runtime's readiness is
    /// only as recent as its last poll.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Tcp(stream) => uring::nothing_waits(stream),
            Self::Unix(stream) => uring::nothing_waits(stream),
            Self::Ring(socket) => socket.is_quiet(),
        }
    }

    /// How many bytes the kernel has taken, if that is not known from writing alone.
    pub(crate) fn taken(&self) -> Option<u64> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Ring(socket) => Some(socket.taken()),
        }
    }

    /// Like flushing, for one who waits for an answer next: it need not be told that everything was taken until something arrives,
    /// or something is wrong.
    pub(crate) fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Pin::new(self).poll_flush(cx),
            Self::Ring(socket) => socket.poll_taken(cx),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Ring(socket) => socket.as_fd(),
        }
    }
}

/// Does the same for every variant.
macro_rules! each {
    ($this:expr, $stream:ident => $what:expr) => {
        match $this {
            Socket::Tcp($stream) => $what,
            Socket::Unix($stream) => $what,
            Socket::Ring($stream) => $what,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
