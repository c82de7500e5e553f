//! What a ring shares with the kernel. The only file with unsafe code; everything that it offers is safe.
//!
//! The kernel reads and writes memory of this process after the call that asked for it has returned. So the argument is
//! about who owns each piece of memory meanwhile.
//!
//! 1. **What is sent** is a `Vec` that [`Kernel::send`] takes by value. It lies in `flights` until the completion of its
//!    operation was read, and nobody can reach it there. Only then is it returned. Moving a `Vec` does not move its
//!    bytes, so `flights` may grow.
//! 2. **What is received** goes into buffers that belong to [`Buffers`] as long as the ring exists. A buffer is the
//!    kernel's from when its number is published in the ring of buffers until a completion names that number. From then
//!    until it is published again the kernel does not touch it, and during that time alone [`Kernel::reap`] lends its
//!    bytes to a closure, which cannot keep them.
//! 3. **Cancelling** frees nothing. A cancelled operation has a completion of its own, like every other, and what it owns
//!    stays in `flights` until that was read. The kernel makes exactly one last completion for each operation (one without
//!    `IORING_CQE_F_MORE`), so a place in `flights` is used again only when the operation has ended.
//! 4. **Dropping a connection** only cancels its operations. An operation holds its socket open (`Arc<OwnedFd>`), so that
//!    the number of the descriptor cannot come to mean another connection before the kernel has seen the operation.
//! 5. **Dropping the ring** cancels all operations and waits for their completions. If some are still missing after
//!    [`PATIENCE`] rounds, their memory and the buffers are leaked: a leak is safe. The buffers are unregistered and the ring is closed
//!    before the buffers are freed.
//! 6. **One thread**: the pointer in [`Buffers`] makes a `Kernel` neither `Send` nor `Sync`, as `IORING_SETUP_SINGLE_ISSUER`
//!    requires.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::bounds::{BUFFER, BUFFERS, COMPLETIONS, SUBMISSIONS};

/// The number of the one group of buffers.
const GROUP: u16 = 0;
/// `IORING_ENTER_GETEVENTS`: also does the work that the kernel has deferred.
const GET_EVENTS: u32 = 1;
/// The operation that cancels all others, when the ring is dropped.
const CANCEL_ALL: u64 = u64::MAX;
/// How many times a ring that is dropped waits for completions, each time for at most [`ROUND`].
const PATIENCE: usize = 100;
const ROUND: Timespec = Timespec::new().nsec(10_000_000);

/// A ring, and the memory that it shares with the kernel.
pub(super) struct Kernel {
    uring: ManuallyDrop<IoUring>,
    buffers: ManuallyDrop<Buffers>,
    /// The operations that the kernel has, by the number that their completions carry.
    flights: ManuallyDrop<Slab<Flight>>,
}

/// The number of an operation that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation(usize);

/// An operation, and what it needs until it has ended.
struct Flight {
    /// Whose it is.
    owner: usize,
    kind: Kind,
    /// Keeps the descriptor open.
    _socket: Option<Arc<OwnedFd>>,
}

enum Kind {
    Receive,
    Send { bytes: Vec<u8>, from: usize },
    Cancel,
}

/// The queue of submissions is full, and the kernel takes none of them now.
#[derive(Debug)]
pub(super) struct QueueFull;

/// What the kernel says of an operation.
#[derive(Debug)]
pub(super) enum Completion<'b> {
    /// These bytes arrived.
    Received(&'b [u8]),
    /// Receiving has ended.
    ReceivingEnded(End),
    /// So many of the bytes from `from` on were taken, or none because of this error.
    Sent { bytes: Vec<u8>, from: usize, taken: Result<usize, i32> },
}

/// Why receiving has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The other side sends nothing more.
    OfStream,
    /// It was cancelled.
    Cancelled,
    /// The buffers had run out, or the kernel ended it for a reason of its own: it must be begun again.
    Interrupted,
    /// An error.
    Error(i32),
}

impl Kernel {
    /// Makes a ring for this thread. Each time that the kernel has something to tell, it signals `event`.
    ///
    /// # Errors
    /// If the kernel does not know rings, knows too little of them, or does not permit them.
    pub(super) fn new(event: impl AsFd) -> io::Result<Self> {
        let uring: IoUring = IoUring::builder()
            .setup_single_issuer()
            // The kernel's part of an operation runs when the ring is entered, and not whenever it likes.
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        if !(uring.params().is_feature_ext_arg() && uring.params().is_feature_nodrop()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let buffers = Buffers::new();
        // SAFETY: the memory has room for this many entries, begins at a page, and lives until the group was
        // unregistered or is leaked (5).
        unsafe {
            uring.submitter().register_buf_ring_with_flags(buffers.memory.as_ptr() as u64, BUFFERS, GROUP, 0)?;
        }
        let mut kernel = Self {
            uring: ManuallyDrop::new(uring),
            buffers: ManuallyDrop::new(buffers),
            flights: ManuallyDrop::default(),
        };
        kernel.buffers.publish_all();
        kernel.uring.submitter().register_eventfd(event.as_fd().as_raw_fd())?;
        Ok(kernel)
    }

    /// Receives again and again, until that ends.
    pub(super) fn receive(&mut self, socket: &Arc<OwnedFd>, owner: usize) -> Result<Operation, QueueFull> {
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), GROUP).build();
        let flight = Flight { owner, kind: Kind::Receive, _socket: Some(socket.clone()) };
        self.start(entry, flight).map_err(|_| QueueFull)
    }

    /// Sends the bytes from `from` on. Returns them if that cannot be begun now.
    pub(super) fn send(
        &mut self,
        socket: &Arc<OwnedFd>,
        owner: usize,
        bytes: Vec<u8>,
        from: usize,
    ) -> Result<Operation, Vec<u8>> {
        let left = bytes.get(from..).unwrap_or_default();
        let length = u32::try_from(left.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(socket.as_raw_fd()), left.as_ptr(), length).flags(NO_SIGNAL).build();
        let flight = Flight { owner, kind: Kind::Send { bytes, from }, _socket: Some(socket.clone()) };
        self.start(entry, flight).map_err(|flight| match flight.kind {
            Kind::Send { bytes, .. } => bytes,
            Kind::Receive | Kind::Cancel => Vec::new(),
        })
    }

    /// Has the kernel end an operation early. It still has a completion.
    pub(super) fn cancel(&mut self, operation: Operation) -> Result<(), QueueFull> {
        let entry = opcode::AsyncCancel::new(operation.0 as u64).build();
        let flight = Flight { owner: usize::MAX, kind: Kind::Cancel, _socket: None };
        self.start(entry, flight).map(drop).map_err(|_| QueueFull)
    }

    fn start(&mut self, entry: squeue::Entry, flight: Flight) -> Result<Operation, Flight> {
        if self.uring.submission().is_full() && (self.enter().is_err() || self.uring.submission().is_full()) {
            return Err(flight);
        }
        let number = self.flights.insert(flight);
        let entry = entry.user_data(number as u64);
        // SAFETY: what the entry points to is owned by the flight, which stays until the operation has ended (1); a
        // receive points to nothing, and a cancellation neither.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        // There is room, as was just seen.
        if pushed.is_err() { Err(self.flights.remove(number)) } else { Ok(Operation(number)) }
    }

    /// Whether entering the ring would do something.
    pub(super) fn has_work(&mut self) -> bool {
        let submissions = self.uring.submission();
        !submissions.is_empty() || submissions.taskrun() || submissions.cq_overflow()
    }

    /// Submits all that was begun, and lets the kernel do its part of what has become possible.
    ///
    /// # Errors
    /// If the kernel cannot do that now. Nothing is lost: the next time does it.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let waiting = u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX);
        loop {
            // SAFETY: there is no argument. What the submitted entries point to was shown when they were pushed.
            let entered = unsafe { self.uring.submitter().enter::<()>(waiting, 0, GET_EVENTS, None) };
            match entered {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Completions wait for room in their queue: they must be read first.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(()),
                entered => return entered.map(drop),
            }
        }
    }

    /// Reads all completions, and passes each on with its owner.
    pub(super) fn reap(&mut self, mut each: impl FnMut(usize, Completion<'_>)) {
        while let Some(completed) = { self.uring.completion().next() } {
            self.take(&completed, &mut each);
        }
        self.buffers.publish();
    }

    fn take(&mut self, completed: &cqueue::Entry, each: &mut impl FnMut(usize, Completion<'_>)) {
        let (result, flags) = (completed.result(), completed.flags());
        let Some(number) = usize::try_from(completed.user_data()).ok().filter(|number| self.flights.contains(*number))
        else {
            return;
        };
        let owner = self.flights[number].owner;
        if let Some(buffer) = cqueue::buffer_select(flags) {
            if let Ok(length @ 1..) = usize::try_from(result) {
                // SAFETY: the completion names the buffer, so it is ours until `give` (2).
                each(owner, Completion::Received(unsafe { self.buffers.filled(buffer, length) }));
            }
            self.buffers.give(buffer);
        }
        if cqueue::more(flags) {
            return;
        }
        match self.flights.remove(number).kind {
            Kind::Receive => each(owner, Completion::ReceivingEnded(end(result))),
            Kind::Send { bytes, from } => {
                let taken = usize::try_from(result).map_err(|_| -result);
                each(owner, Completion::Sent { bytes, from, taken });
            }
            Kind::Cancel => {}
        }
    }

    /// While signals are off, `event` is not signalled: what entering the ring itself completes is read right afterwards,
    /// and would otherwise wake the event loop once more for nothing.
    ///
    /// After signals are switched on again, [`Self::has_work`] must be asked, because what became possible meanwhile has not
    /// signalled. Only where an atomic change of one word is a barrier for all others is it certain that one of the
    /// two sees it: elsewhere signals stay on.
    pub(super) fn signals(&mut self, on: bool) {
        if cfg!(target_arch = "x86_64") {
            let completions = self.uring.completion();
            if on {
                completions.enable_eventfd()
            } else {
                completions.disable_eventfd()
            }
            drop(completions);
            fence(Ordering::SeqCst);
        }
    }
}

/// Has the runtime of this thread watch an eventfd.
pub(super) fn watch(event: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the descriptor stays open and the same as long as the `AsyncFd` has a part in its ownership.
    let watched = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// `MSG_NOSIGNAL`: a peer that is gone is an error, and not a signal. The same on every architecture of Linux.
const NO_SIGNAL: i32 = 0x4000;

fn end(result: i32) -> End {
    use rustix::io::Errno;
    match result {
        0 => End::OfStream,
        1.. => End::Interrupted,
        error => match Errno::from_raw_os_error(-error) {
            Errno::NOBUFS | Errno::INTR | Errno::AGAIN => End::Interrupted,
            Errno::CANCELED => End::Cancelled,
            _ => End::Error(-error),
        },
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for _ in 0..PATIENCE {
            if self.flights.is_empty() {
                break;
            }
            let all = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(CANCEL_ALL);
            // SAFETY: a cancellation points to nothing.
            let pushed = unsafe { self.uring.submission().push(&all) };
            let wait = SubmitArgs::new().timespec(&ROUND);
            // A full queue is submitted, and the next round pushes again. If the time is up, so does the next round.
            drop((pushed, self.uring.submitter().submit_with_args(1, &wait)));
            self.reap(|_, _| {});
        }
        let all_ended = self.flights.is_empty();
        let unregistered = self.uring.submitter().unregister_buf_ring(GROUP).is_ok();
        // SAFETY: each is dropped at most once, and not used afterwards. Without operations, the kernel has no
        // pointers into `flights`; without its group, none to the buffers. Otherwise they are leaked (5).
        unsafe {
            ManuallyDrop::drop(&mut self.uring);
            if all_ended {
                ManuallyDrop::drop(&mut self.flights);
                if unregistered {
                    ManuallyDrop::drop(&mut self.buffers);
                }
            }
        }
    }
}

/// The buffers that the kernel receives into: a page with the ring of those that are free, then the buffers.
struct Buffers {
    memory: NonNull<u8>,
    /// How many were ever published, modulo 2^16.
    tail: u16,
}

const ENTRIES: usize = BUFFERS as usize * size_of::<BufRingEntry>();
const _: () = assert!(BUFFERS.is_power_of_two() && ENTRIES <= PAGE && align_of::<BufRingEntry>() <= PAGE);
const PAGE: usize = 4096;

impl Buffers {
    fn layout() -> Layout {
        const SIZE: usize = PAGE + BUFFERS as usize * BUFFER;
        const {
            match Layout::from_size_align(SIZE, PAGE) {
                Ok(layout) => layout,
                Err(_) => panic!("the size of the buffers is a constant that fits"),
            }
        }
    }

    fn new() -> Self {
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc_zeroed(Self::layout()) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(Self::layout()) };
        Self { memory, tail: 0 }
    }

    fn buffer(&self, number: u16) -> NonNull<u8> {
        let number = usize::from(number % BUFFERS);
        // SAFETY: the layout has room for all buffers behind the page.
        unsafe { self.memory.add(PAGE + number * BUFFER) }
    }

    /// What the kernel wrote into a buffer.
    ///
    /// # Safety
    /// A completion has named this buffer, and it was not given back since.
    unsafe fn filled(&self, number: u16, length: usize) -> &[u8] {
        // SAFETY: the memory is initialized since the allocation, a buffer has this length at least, and the kernel does not
        // write to it, as the caller says.
        unsafe { std::slice::from_raw_parts(self.buffer(number).as_ptr(), length.min(BUFFER)) }
    }

    /// Puts a buffer into the ring of those that are free. The kernel sees that when it is published.
    fn give(&mut self, number: u16) {
        let mut entry = self.memory.cast::<BufRingEntry>();
        // SAFETY: the ring has `BUFFERS` entries, and as many buffers exist, so the kernel has taken what this entry was.
        // It reads an entry only after it was published. The tail is in a part of the first one that is not written here.
        let entry = unsafe {
            entry = entry.add(usize::from(self.tail % BUFFERS));
            entry.as_mut()
        };
        entry.set_addr(self.buffer(number).as_ptr() as u64);
        entry.set_len(BUFFER as u32);
        entry.set_bid(number % BUFFERS);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish_all(&mut self) {
        (0..BUFFERS).for_each(|number| self.give(number));
        self.publish();
    }

    fn publish(&mut self) {
        // SAFETY: the pointer is that of the first entry, as `tail` requires, and what it returns is aligned for two
        // bytes and shared with the kernel only, which reads it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.memory.cast().as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.memory.as_ptr(), Self::layout()) };
    }
}
