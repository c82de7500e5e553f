//! The state of one connection on a ring: what arrived, what is to be sent, and which operations the kernel has.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

use super::bounds::{MAX_UNREAD, MAX_UNSENT};
use super::kernel::{Completion, End, Kernel, Operation, QueueFull};
use crate::socket::Delivery;

/// A connection on a ring.
pub(super) struct Connection {
    pub(super) socket: Arc<OwnedFd>,
    delivery: Delivery,
    receiving: Receiving,
    /// What arrived, and how much of it was read.
    unread: Vec<u8>,
    read: usize,
    /// How receiving ended for good: with the end of the stream, or with an error.
    end: Option<Result<(), i32>>,
    /// What is to be sent next.
    unsent: Vec<u8>,
    sending: Sending,
    /// How many bytes the kernel has taken.
    taken: u64,
    send_error: Option<i32>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Who waits to read what can only come after everything was sent, and so need not be told that it was sent.
    pub(super) asker: Option<Waker>,
    /// Whether it is on the list of those to be settled.
    pub(super) is_due: bool,
    stage: Stage,
}

enum Receiving {
    /// To be begun.
    Due,
    Going(Operation),
    /// Being cancelled.
    Stopping,
    /// Not until more was read.
    Held,
    Over,
}

enum Sending {
    Not,
    Going(Operation),
    /// Being cancelled.
    Stopping,
    /// The kernel took only a part, and these bytes are left.
    Rest(Vec<u8>, usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Dropped by its owner.
    Dropped,
    /// Its last bytes were handed to the kernel, which takes them at once or never.
    Leaving,
}

/// What settling a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nothing more is to be done.
    Yes,
    /// It must be settled again once the kernel has seen what was begun.
    Again,
    /// The kernel takes no more operations now.
    Full,
    /// It has ended, and the kernel has nothing of it.
    Ended,
}

/// Who is to be woken.
pub(super) type Wakers = Vec<Waker>;

impl Connection {
    pub(super) fn new(socket: Arc<OwnedFd>, delivery: Delivery) -> Self {
        Self {
            socket,
            delivery,
            receiving: Receiving::Due,
            unread: Vec::new(),
            read: 0,
            end: None,
            unsent: Vec::new(),
            sending: Sending::Not,
            taken: 0,
            send_error: None,
            reader: None,
            writer: None,
            asker: None,
            is_due: false,
            stage: Stage::Open,
        }
    }

    /// What arrived and was not read.
    pub(super) fn unread(&self) -> &[u8] {
        &self.unread[self.read..]
    }

    /// Notes that so many bytes were read. Returns whether the connection must be settled.
    pub(super) fn was_read(&mut self, bytes: usize) -> bool {
        self.read += bytes;
        if self.read < self.unread.len() {
            return false;
        }
        // An idle connection holds no buffer.
        (self.unread, self.read) = (Vec::new(), 0);
        let was_held = matches!(self.receiving, Receiving::Held);
        if was_held {
            self.receiving = Receiving::Due;
        }
        was_held
    }

    /// How receiving ended for good.
    pub(super) fn end(&self) -> Option<Result<(), i32>> {
        self.end
    }

    /// Whether the kernel will tell if anything arrives.
    pub(super) fn is_receiving(&self) -> bool {
        matches!(self.receiving, Receiving::Going(_))
    }

    pub(super) fn send_error(&self) -> Option<i32> {
        self.send_error
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// How many more bytes may be written now.
    pub(super) fn room(&self) -> usize {
        MAX_UNSENT.saturating_sub(self.unsent.len())
    }

    /// The bytes to be sent next, for more of them.
    pub(super) fn unsent(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// Whether the kernel has taken everything that was written.
    pub(super) fn is_all_taken(&self) -> bool {
        self.unsent.is_empty() && matches!(self.sending, Sending::Not)
    }

    /// Whether nothing is known to be stuck: what was written leaves at the end of this turn.
    pub(super) fn is_flushed(&self) -> bool {
        match self.delivery {
            Delivery::Known => self.is_all_taken(),
            Delivery::Posted => matches!(self.sending, Sending::Not),
        }
    }

    /// Whether the kernel has bytes of it that it may still send.
    pub(super) fn is_sending(&self) -> bool {
        matches!(self.sending, Sending::Going(_) | Sending::Stopping)
    }

    /// Notes that its owner dropped it. What was not handed to the kernel leaves only if it was posted.
    pub(super) fn drop_it(&mut self) {
        self.stage = Stage::Dropped;
        (self.reader, self.writer, self.asker) = (None, None, None);
        if self.delivery == Delivery::Known {
            self.unsent = Vec::new();
            if let Sending::Rest(..) = self.sending {
                self.sending = Sending::Not;
            }
        }
    }

    /// From now on what was written is lost when the connection is dropped.
    pub(super) fn discard(&mut self) {
        self.delivery = Delivery::Known;
    }

    /// Begins and cancels what has become due.
    pub(super) fn settle(&mut self, owner: usize, kernel: &mut Kernel) -> Settled {
        match self.try_settle(owner, kernel) {
            Ok(settled) => settled,
            Err(QueueFull) => Settled::Full,
        }
    }

    fn try_settle(&mut self, owner: usize, kernel: &mut Kernel) -> Result<Settled, QueueFull> {
        match self.stage {
            Stage::Open => {
                self.send(owner, kernel)?;
                match self.receiving {
                    Receiving::Due => self.receiving = Receiving::Going(kernel.receive(&self.socket, owner)?),
                    Receiving::Going(operation) if self.unread().len() > MAX_UNREAD => {
                        kernel.cancel(operation)?;
                        self.receiving = Receiving::Stopping;
                    }
                    _ => {}
                }
                return Ok(Settled::Yes);
            }
            Stage::Dropped if self.is_sending() => {}
            Stage::Dropped => self.send(owner, kernel)?,
            Stage::Leaving => {}
        }
        if let Receiving::Going(operation) = self.receiving {
            kernel.cancel(operation)?;
            self.receiving = Receiving::Stopping;
        }
        if let Receiving::Due | Receiving::Held = self.receiving {
            self.receiving = Receiving::Over;
        }
        if self.stage == Stage::Dropped {
            self.stage = Stage::Leaving;
            if self.is_sending() {
                return Ok(Settled::Again);
            }
        }
        // Its client does not read: the kernel has no room for what it has to send.
        if let Sending::Going(operation) = self.sending {
            kernel.cancel(operation)?;
            self.sending = Sending::Stopping;
        }
        let has_ended = matches!(self.receiving, Receiving::Over) && !self.is_sending();
        Ok(if has_ended { Settled::Ended } else { Settled::Yes })
    }

    fn send(&mut self, owner: usize, kernel: &mut Kernel) -> Result<(), QueueFull> {
        if self.send_error.is_some() || self.is_sending() {
            return Ok(());
        }
        let (bytes, from) = match std::mem::replace(&mut self.sending, Sending::Not) {
            Sending::Rest(bytes, from) => (bytes, from),
            _ if self.unsent.is_empty() => return Ok(()),
            _ => (std::mem::take(&mut self.unsent), 0),
        };
        match kernel.send(&self.socket, owner, bytes, from) {
            Ok(operation) => {
                self.sending = Sending::Going(operation);
                Ok(())
            }
            Err(bytes) => {
                self.sending = Sending::Rest(bytes, from);
                Err(QueueFull)
            }
        }
    }

    /// Takes what the kernel says. Returns whether the connection must be settled, and a buffer that is no longer used.
    pub(super) fn complete(&mut self, completion: Completion<'_>, wakers: &mut Wakers) -> (bool, Option<Vec<u8>>) {
        match completion {
            Completion::Received(bytes) => {
                if self.stage != Stage::Open {
                    return (false, None);
                }
                self.unread.extend_from_slice(bytes);
                self.wake_reader(wakers);
                (self.is_receiving() && self.unread().len() > MAX_UNREAD, None)
            }
            Completion::ReceivingEnded(end) => (self.receiving_ended(end, wakers), None),
            Completion::Sent { bytes, from, taken } => self.sent(bytes, from, taken, wakers),
        }
    }

    fn receiving_ended(&mut self, end: End, wakers: &mut Wakers) -> bool {
        self.receiving = Receiving::Over;
        if self.stage != Stage::Open {
            return true;
        }
        match end {
            End::OfStream => self.end = Some(Ok(())),
            End::Error(error) => self.end = Some(Err(error)),
            End::Cancelled | End::Interrupted => {
                let is_full = self.unread().len() > MAX_UNREAD;
                self.receiving = if is_full { Receiving::Held } else { Receiving::Due };
                return !is_full;
            }
        }
        self.wake_reader(wakers);
        false
    }

    fn sent(
        &mut self,
        mut bytes: Vec<u8>,
        from: usize,
        taken: Result<usize, i32>,
        wakers: &mut Wakers,
    ) -> (bool, Option<Vec<u8>>) {
        let was_stopped = matches!(std::mem::replace(&mut self.sending, Sending::Not), Sending::Stopping);
        match taken {
            Ok(taken @ 1..) => {
                self.taken += taken as u64;
                let from = from + taken;
                if from < bytes.len() && !was_stopped && self.stage != Stage::Leaving {
                    self.sending = Sending::Rest(bytes, from);
                    return (true, None);
                }
            }
            // Nothing is sent only if nothing can be.
            Ok(_) => self.send_error = Some(rustix::io::Errno::PIPE.raw_os_error()),
            Err(error) => self.send_error = Some(error),
        }
        if self.send_error.is_some() {
            self.unsent = Vec::new();
            self.wake_reader(wakers);
        }
        wakers.extend(self.writer.take());
        if !self.unread().is_empty() || self.end.is_some() {
            wakers.extend(self.asker.take());
        }
        bytes.clear();
        (self.stage != Stage::Open || !self.unsent.is_empty(), Some(bytes))
    }

    fn wake_reader(&mut self, wakers: &mut Wakers) {
        wakers.extend(self.reader.take());
        wakers.extend(self.asker.take());
    }
}
