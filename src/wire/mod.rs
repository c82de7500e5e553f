//! The strict reader under hyper: what hyper forgives is refused on the raw bytes (contract §7).
//!
//! 1. A proxy in front of us may have read the same bytes otherwise than hyper does. So every
//!    HTTP/1 head, and every line that frames a body, is judged before hyper has it, by a grammar
//!    that leaves no two readings. What is in doubt is refused; nothing is ever rewritten.
//! 2. [`Reader`] is that grammar, pure and incremental. [`Wire`] is a stream with a reader in it:
//!    what it hands to hyper was accepted, and of two messages never more than the first.
//! 3. Where a head is refused hyper sees the stream end there: it answers what came before. Then
//!    [`Wire::finish`] gives the one answer and closes, so that it can be read.
//! 4. Where a body is refused its request is with hyper already: who reads the body gets an error
//!    and answers.
//! 5. [`Wire`] owns the time of a connection: for a head from its first byte, for a body, between
//!    messages, and for the peer to take what is written.
//!
//! Stricter than a recipient must be, on purpose: a bare LF, chunk extensions, white space around
//! the values of framing fields, `CONNECT`, `user@` in a Host, bytes beyond ASCII in a target.

mod alarm;
mod bytes;
mod deadline;
mod fault;
mod head;
mod reader;
mod stream;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use alarm::Alarm;
pub use fault::{Fault, Kind};
pub use reader::{Accepted, Part, Reader};
pub use stream::Wire;

/// What a head may measure.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of the header section, from the first field to the last CRLF before the empty line.
    pub max_header_bytes: usize,
    /// Bytes of the request target.
    pub max_target_bytes: usize,
}

/// How long a connection waits.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For a whole head, from its first byte.
    pub head: Duration,
    /// For a whole body, and anew for each kibibyte of it that has come.
    pub body: Duration,
    /// For the peer to take something of what is written.
    pub write: Duration,
    /// For a message.
    pub idle: Duration,
}

/// What a [`Wire`] asks of whom it serves.
pub trait Keeper: Unpin {
    /// What the next message may measure, and how long is waited for it.
    fn limits(&self) -> (Sizes, Times);

    /// Counts and logs a refusal, and writes its answer, which says that the connection closes.
    /// `request` is method and target, where they are beyond doubt.
    fn refuse(&self, fault: Fault, request: Option<(&[u8], &[u8])>) -> Vec<u8>;
}
