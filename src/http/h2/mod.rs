//! The limits of an HTTP/2 connection: a budget for its frames, and timeouts for its streams.

mod frame_budget;
mod frames;
mod streams;

pub(crate) use frame_budget::{Counted, FrameTimeouts};
pub(crate) use streams::{H2Stream, Streams, Verdict};
