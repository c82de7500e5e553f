//! The gateway as its callers and its upstream see it: real sockets, real servers.

mod architecture;
mod decisions;
mod faults;
mod harness;
mod operations;
mod programs;
