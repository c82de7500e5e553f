//! The part of `[limits]` that a reload can change. Every default is a constant next to its field.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Budget;

/// Sizes of messages and timeouts of connections (contract §9, `[limits]`), as far as a reload can change them.
///
/// HTTP/1, HTTP/2 and listeners always read them from the generation in force. A connection keeps no copy, because a
/// reload would not reach it. Limits that only a restart can change are another type (`config::Capacity`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest header section, in bytes.
    pub max_header_bytes: usize,
    /// The longest request target, in bytes.
    pub max_target_bytes: usize,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The timeout for the first byte of a connection, and for a complete head from its first byte.
    pub header_timeout: Duration,
    /// The timeout for the complete body.
    pub body_timeout: Duration,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// How long a connection without a request is kept.
    pub idle_timeout: Duration,
    /// The rate at which one key may spend salts.
    pub spent_per_key: Budget,
    /// How long a process keeps accepting connections after it was told to end.
    pub drain_delay: Duration,
    /// How long running requests have to finish after that.
    pub drain_timeout: Duration,
}

impl Limits {
    /// Default of [`Limits::max_header_bytes`]: 16 KiB.
    pub const MAX_HEADER_BYTES: usize = 16 << 10;
    /// Default of [`Limits::max_target_bytes`]: 4 KiB.
    pub const MAX_TARGET_BYTES: usize = 4 << 10;
    /// Default of [`Limits::max_body_bytes`]: 64 KiB.
    pub const MAX_BODY_BYTES: usize = 64 << 10;
    /// Default of [`Limits::header_timeout`].
    pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`Limits::body_timeout`].
    pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`Limits::write_timeout`].
    pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`Limits::idle_timeout`]. Longer than the 60 s of nginx, Varnish, Squid and load balancers, so that
    /// a proxy in front closes first.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
    /// Default of [`Limits::spent_per_key`]: 100 a second. At this rate a key fills 180 000 salts in a window of half
    /// an hour, which is less than its default share of 250 000.
    pub const SPENT_PER_KEY: Budget =
        Budget { limit: NonZeroU32::MIN.saturating_add(99), span: Duration::from_secs(1) };
    /// Default of [`Limits::drain_delay`].
    pub const DRAIN_DELAY: Duration = Duration::ZERO;
    /// Default of [`Limits::drain_timeout`].
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

    /// How long a new connection may wait with its first byte.
    pub fn first_byte_timeout(&self) -> Duration {
        self.header_timeout.min(self.idle_timeout)
    }
}
