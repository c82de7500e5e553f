//! The gateway as its callers and its upstream see it: real sockets, real servers.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod answers;
mod architecture;
mod attacks;
mod control;
mod decisions;
mod faults;
mod harness;
mod http2;
mod journal;
mod listeners;
mod operations;
mod passing;
mod programs;
mod record;
mod redis;
mod safeguards;
mod smuggling;
mod throttles;
mod tls;
mod upstreams;
mod wire;
