//! A ring (io_uring) for each worker, driven from the worker's own event loop.
//!
//! 1. A worker calls [`begin`] inside its runtime, whose hook before and after it parks is [`turn`]. From then on [`adopt`] makes
//!    connections of this thread's ring.
//! 2. What is written is put together and submitted once in each turn of the event loop, with one system call for all
//!    connections. What arrives was received before anybody asks for it, and is only copied.
//! 3. While the worker sleeps, the kernel signals an eventfd that is registered with the runtime's epoll. It is never read:
//!    only its changes count. (The descriptor of the ring itself does not become readable before somebody enters the ring.)
//! 4. `bounds.rs` says how much is held; `kernel.rs` has all unsafe code and its argument; `connection.rs` is the state of
//!    one connection; `stream.rs` reads and writes it.
//! 5. A stream names its ring and its connection by numbers, so it may be dropped on any thread. It is used on its own.

mod bounds;
mod connection;
mod kernel;
mod stream;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use slab::Slab;
use tokio::io::unix::AsyncFd;

use bounds::{CONNECTIONS, MAX_DUE, SPARE, SPARES};
use connection::{Connection, Settled, Wakers};
use kernel::Kernel;
pub(crate) use stream::RingSocket;
pub(super) use stream::nothing_waits;

use super::Delivery;

/// How often a turn goes round for what the last round brought, before other tasks run.
const ROUNDS: usize = 8;

thread_local! {
    static RING: RefCell<Option<Ring>> = const { RefCell::new(None) };
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The ring of a thread.
struct Ring {
    kernel: Kernel,
    connections: Slab<Connection>,
    /// The connections to be settled, and the same list while it is worked through.
    due: Vec<usize>,
    settling: Vec<usize>,
    /// Empty buffers for sending.
    spares: Vec<Vec<u8>>,
    shared: Arc<Shared>,
}

/// What other threads reach of a ring.
struct Shared {
    number: u64,
    event: Arc<OwnedFd>,
    /// Connections that were dropped on other threads.
    orphans: Mutex<Vec<usize>>,
    has_orphans: AtomicBool,
}

/// Ends the ring of its thread when it is dropped.
pub(crate) struct RingGuard {
    _event: AsyncFd<Arc<OwnedFd>>,
}

impl Drop for RingGuard {
    fn drop(&mut self) {
        // What was written last still leaves.
        turn();
        // Taken out first, so that what its end drops finds no ring.
        let ring = RING.try_with(|ring| ring.try_borrow_mut().ok().and_then(|mut ring| ring.take()));
        drop(ring);
    }
}

/// Makes the ring of this thread. To be called inside the runtime whose hooks are [`turn`].
///
/// # Errors
/// If the kernel does not know rings, knows too little of them, or does not permit them.
pub(crate) fn begin() -> io::Result<RingGuard> {
    let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let kernel = Kernel::new(&event)?;
    let watched = kernel::watch(event.clone())?;
    let shared = Arc::new(Shared {
        number: NEXT.fetch_add(1, Ordering::Relaxed),
        event,
        orphans: Mutex::default(),
        has_orphans: AtomicBool::new(false),
    });
    let ring =
        Ring { kernel, connections: Slab::new(), due: Vec::new(), settling: Vec::new(), spares: Vec::new(), shared };
    RING.set(Some(ring));
    Ok(RingGuard { _event: watched })
}

/// Tries whether the kernel lets this process have a ring.
///
/// # Errors
/// If it does not.
pub(crate) fn probe() -> io::Result<()> {
    // On a thread of its own: when a ring ends, the kernel interrupts the thread that made it, some time later, and what that
    // thread then waits for may fail with EINTR.
    let tried = std::thread::Builder::new().name("ring-probe".into()).spawn(|| {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Kernel::new(&event).map(drop)
    })?;
    tried.join().unwrap_or_else(|_| Err(io::Error::other("the attempt to make a ring has panicked")))
}

/// Whether this thread has a ring, and the ring has room for another connection.
pub(super) fn has_room() -> bool {
    with_ring(|ring| ring.connections.len() < CONNECTIONS).unwrap_or(false)
}

/// Makes a connection of this thread's ring.
///
/// # Errors
/// If the thread has none.
pub(super) fn adopt(socket: OwnedFd, delivery: Delivery) -> io::Result<RingSocket> {
    let adopted = with_ring(|ring| {
        let socket = Arc::new(socket);
        let number = ring.connections.insert(Connection::new(socket.clone(), delivery));
        ring.is_due(number);
        RingSocket::new(ring.shared.clone(), number, socket, delivery)
    });
    adopted.ok_or_else(|| io::Error::other("this thread has no ring"))
}

/// Submits what is due and takes what has completed. The hook of a runtime before it parks and after.
pub(crate) fn turn() {
    let mut wakers = Wakers::new();
    with_ring(|ring| ring.turn(&mut wakers));
    wake(wakers);
}

/// Wakes tasks. The ring must not be borrowed: whatever a waker does, it may come back here.
fn wake(wakers: Wakers) {
    wakers.into_iter().for_each(std::task::Waker::wake);
}

/// Does something with the ring of this thread. `None` if there is none, or it is in use.
fn with_ring<T>(act: impl FnOnce(&mut Ring) -> T) -> Option<T> {
    // Without the thread's memory, the thread is ending.
    RING.try_with(|ring| Some(act(ring.try_borrow_mut().ok()?.as_mut()?))).ok().flatten()
}

impl Shared {
    /// Has the worker's event loop turn once more.
    fn signal(&self) {
        // This fails only if the counter is full, which is a signal, too.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// A connection was dropped on another thread.
    fn orphaned(&self, connection: usize) {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        self.has_orphans.store(true, Ordering::Release);
        self.signal();
    }
}

impl Ring {
    fn is_due(&mut self, connection: usize) {
        if let Some(found) = self.connections.get_mut(connection)
            && !std::mem::replace(&mut found.is_due, true)
        {
            self.due.push(connection);
        }
    }

    /// Whether so much is due that it is not left to the end of the turn.
    fn is_pressed(&self) -> bool {
        self.due.len() >= MAX_DUE
    }

    fn drop_connection(&mut self, connection: usize) {
        if let Some(found) = self.connections.get_mut(connection) {
            found.drop_it();
            self.is_due(connection);
        }
    }

    fn turn(&mut self, wakers: &mut Wakers) {
        if self.shared.has_orphans.swap(false, Ordering::Acquire) {
            let orphans = std::mem::take(&mut *self.shared.orphans.lock().unwrap_or_else(PoisonError::into_inner));
            orphans.into_iter().for_each(|orphan| self.drop_connection(orphan));
        }
        if self.due.is_empty() && !self.kernel.has_work() {
            return;
        }
        self.kernel.signals(false);
        for _ in 0..ROUNDS {
            self.settle();
            let entered = self.kernel.enter();
            self.reap(wakers);
            if entered.is_err() || (self.due.is_empty() && !self.kernel.has_work()) {
                break;
            }
        }
        self.kernel.signals(true);
        // The event loop must not sleep on what is left.
        if !self.due.is_empty() || self.kernel.has_work() {
            self.shared.signal();
        }
    }

    fn settle(&mut self) {
        let mut settling = std::mem::replace(&mut self.due, std::mem::take(&mut self.settling));
        for number in settling.drain(..) {
            let Some(connection) = self.connections.get_mut(number) else { continue };
            connection.is_due = false;
            match connection.settle(number, &mut self.kernel) {
                Settled::Yes => {}
                Settled::Again | Settled::Full => self.is_due(number),
                Settled::Ended => drop(self.connections.remove(number)),
            }
        }
        self.settling = settling;
    }

    fn reap(&mut self, wakers: &mut Wakers) {
        let Self { kernel, connections, due, spares, .. } = self;
        kernel.reap(|owner, completion| {
            let Some(connection) = connections.get_mut(owner) else { return };
            let (is_due, spare) = connection.complete(completion, wakers);
            if is_due && !std::mem::replace(&mut connection.is_due, true) {
                due.push(owner);
            }
            if let Some(spare) = spare.filter(|spare| spare.capacity() <= SPARE && spares.len() < SPARES) {
                spares.push(spare);
            }
        });
    }
}
