//! A connection on a ring, as a stream.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Connection, Wakers};
use super::{Shared, wake, with_ring};
use crate::socket::Delivery;

/// A connection on the ring of the thread that made it. Elsewhere it can only be dropped.
pub(crate) struct RingSocket {
    ring: Arc<Shared>,
    number: usize,
    socket: Arc<OwnedFd>,
    delivery: Delivery,
}

impl AsFd for RingSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What using a connection came to.
enum Next {
    /// Nothing is to be submitted.
    Idle,
    /// The connection must be settled.
    Due,
}

impl RingSocket {
    pub(super) fn new(ring: Arc<Shared>, number: usize, socket: Arc<OwnedFd>, delivery: Delivery) -> Self {
        Self { ring, number, socket, delivery }
    }

    /// Does something with this connection, for which a spare buffer can be taken.
    fn with<T>(&self, act: impl FnOnce(&mut Connection, &mut Vec<Vec<u8>>) -> (T, Next)) -> io::Result<T> {
        let mut wakers = Wakers::new();
        let done = with_ring(|ring| {
            if ring.shared.number != self.ring.number {
                return None;
            }
            let (done, next) = act(ring.connections.get_mut(self.number)?, &mut ring.spares);
            if let Next::Due = next {
                ring.is_due(self.number);
                if ring.is_pressed() {
                    ring.turn(&mut wakers);
                }
            }
            Some(done)
        });
        wake(wakers);
        done.flatten().ok_or_else(|| io::Error::other("a connection is used outside of the worker that made it"))
    }

    /// How many bytes the kernel has taken. It may have taken more only while [`Self::poll_taken`] is pending.
    pub(crate) fn taken(&self) -> u64 {
        self.with(|connection, _| (connection.taken(), Next::Idle)).unwrap_or(u64::MAX)
    }

    /// Like flushing, for one who waits for an answer next: it is not told that everything was taken until something arrives,
    /// or something is wrong.
    pub(crate) fn poll_taken(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_when(cx, Connection::is_all_taken, |connection| &mut connection.asker)
    }

    /// Whether nothing has arrived, not even the end of the stream.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut wakers = Wakers::new();
        let quiet = with_ring(|ring| {
            if ring.shared.number != self.ring.number {
                return None;
            }
            // What has arrived is here after this, because the kernel says at once when it has work.
            if ring.kernel.has_work() {
                ring.turn(&mut wakers);
            }
            let connection = ring.connections.get_mut(self.number)?;
            let quiet =
                connection.unread().is_empty() && connection.end().is_none() && connection.send_error().is_none();
            Some((quiet, connection.is_receiving()))
        });
        wake(wakers);
        match quiet.flatten() {
            Some((true, true)) => true,
            Some((true, false)) => nothing_waits(self),
            Some((false, _)) | None => false,
        }
    }

    /// From now on what was written is lost when the connection is dropped.
    pub(crate) fn discard(&mut self) {
        self.delivery = Delivery::Known;
        // On another thread it is dropped in any case.
        let _ = self.with(|connection, _| (connection.discard(), Next::Idle));
    }

    /// Nothing more is sent or received from here on.
    fn shut(&self) {
        // If the other side was faster, that is so already.
        let _ = shutdown(&*self.socket, Shutdown::Both);
    }

    fn poll_when(
        &self,
        cx: &mut Context<'_>,
        is_done: impl Fn(&Connection) -> bool,
        place: impl Fn(&mut Connection) -> &mut Option<Waker>,
    ) -> Poll<io::Result<()>> {
        let mut replaced = None;
        let polled = self.with(|connection, _| {
            let polled = match connection.send_error() {
                Some(error) => Poll::Ready(Err(io::Error::from_raw_os_error(error))),
                None if is_done(connection) => Poll::Ready(Ok(())),
                None => {
                    replaced = wait(place(connection), cx);
                    Poll::Pending
                }
            };
            (polled, Next::Idle)
        });
        match polled {
            Ok(polled) => polled,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Takes as much of these parts as there is room for.
    fn poll_put(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut replaced = None;
        let polled = self.with(|connection, spares| {
            if let Some(error) = connection.send_error() {
                return (Poll::Ready(Err(io::Error::from_raw_os_error(error))), Next::Idle);
            }
            let mut room = connection.room();
            if room == 0 {
                replaced = wait(&mut connection.writer, cx);
                return (Poll::Pending, Next::Idle);
            }
            let unsent = connection.unsent();
            if unsent.capacity() == 0 {
                *unsent = spares.pop().unwrap_or_default();
            }
            let before = unsent.len();
            for part in parts {
                let part = &part[..part.len().min(room)];
                unsent.extend_from_slice(part);
                room -= part.len();
            }
            (Poll::Ready(Ok(unsent.len() - before)), Next::Due)
        });
        match polled {
            Ok(polled) => polled,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// Leaves a waker. Returns the one that was there, to be dropped when nothing is borrowed.
fn wait(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        place => place.replace(cx.waker().clone()),
    }
}

/// Whether the kernel has nothing to read, not even the end of the stream.
pub(crate) fn nothing_waits(socket: impl AsFd) -> bool {
    let first = recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    first.is_err_and(|error| error == rustix::io::Errno::AGAIN)
}

impl AsyncRead for RingSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut replaced = None;
        let polled = self.with(|connection, _| {
            let unread = connection.unread();
            if !unread.is_empty() {
                let part = &unread[..unread.len().min(buf.remaining())];
                buf.put_slice(part);
                let read = part.len();
                let next = if connection.was_read(read) { Next::Due } else { Next::Idle };
                return (Poll::Ready(Ok(())), next);
            }
            let polled = match connection.end() {
                Some(end) => Poll::Ready(end.map_err(io::Error::from_raw_os_error)),
                None => {
                    replaced = wait(&mut connection.reader, cx);
                    Poll::Pending
                }
            };
            (polled, Next::Idle)
        });
        match polled {
            Ok(polled) => polled,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for RingSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_put(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_put(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_when(cx, Connection::is_flushed, |connection| &mut connection.writer)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_when(cx, Connection::is_all_taken, |connection| &mut connection.writer))?;
        Poll::Ready(match shutdown(&*self.socket, Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}

impl Drop for RingSocket {
    fn drop(&mut self) {
        let is_known = self.delivery == Delivery::Known;
        let dropped = with_ring(|ring| {
            if ring.shared.number != self.ring.number {
                return None;
            }
            let is_sending = ring.connections.get(self.number)?.is_sending();
            ring.drop_connection(self.number);
            Some(is_sending)
        });
        match dropped.flatten() {
            Some(false) => {}
            // The kernel could still send what it has until it has seen the cancellation.
            Some(true) if is_known => self.shut(),
            Some(true) => {}
            None => {
                if is_known {
                    self.shut();
                }
                self.ring.orphaned(self.number);
            }
        }
    }
}
