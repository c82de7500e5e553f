//! Polls sockets with epoll: one thread, level-triggered.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// An epoll set, whose members are identified by numbers.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// If the kernel cannot create one.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(256) })
    }

    /// Adds a socket to read from; closing the socket removes it.
    ///
    /// # Errors
    /// If it cannot be polled.
    pub fn add(&self, socket: impl AsFd, number: usize) -> io::Result<()> {
        epoll::add(&self.epoll, socket, EventData::new_u64(number as u64), EventFlags::IN)?;
        Ok(())
    }

    /// Writes the numbers of readable sockets into `numbers`. Waits to the microsecond, or forever if `wait` is
    /// `None`.
    ///
    /// # Errors
    /// If waiting fails.
    pub fn ready(&mut self, wait: Option<Duration>, numbers: &mut Vec<usize>) -> io::Result<()> {
        let wait = wait.map(|wait| Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() });
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        numbers.clear();
        numbers.extend(self.events.iter().map(|event| event.data.u64() as usize));
        Ok(())
    }
}
