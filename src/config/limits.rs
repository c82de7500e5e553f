//! Reads `[limits]` into two types: a reload changes [`Limits`], and only a restart changes [`Capacity`].

use std::num::NonZeroU32;
use std::time::Duration;

use super::numbers::MILLISECOND;
use super::section::Section;
use crate::policy::{Budget, Limits};

/// The part of `[limits]` that only a restart can change. Each setting is in [`NEEDS_RESTART`](super::NEEDS_RESTART).
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// The most client connections at a time.
    pub max_connections: usize,
    /// The most connections of one client at a time.
    pub max_connections_per_client: usize,
    /// The most requests that are judged or sent at a time.
    pub max_in_flight: usize,
    /// The same for one key.
    pub max_in_flight_per_key: usize,
    /// The most requests that pass without a gate at a time.
    pub max_passing: usize,
    /// How many wrong signatures one client may send before its requests are refused without verification.
    pub failed_signatures_per_client: Budget,
}

impl Capacity {
    /// Default of [`Capacity::max_connections`].
    pub const MAX_CONNECTIONS: usize = 10_000;
    /// Default of [`Capacity::max_in_flight`].
    pub const MAX_IN_FLIGHT: usize = 1_024;
    /// Default of [`Capacity::max_passing`]. At a tenth of a second each, this allows forty thousand requests a
    /// second: more than a gateway can pass, so the limit is reached only if the service does not keep up.
    pub const MAX_PASSING: usize = 4_096;
    /// Default of [`Capacity::failed_signatures_per_client`]: 1000 a minute, which is far more than a faulty client sends
    /// and far too few to guess a secret.
    pub const FAILED_SIGNATURES: Budget =
        Budget { limit: NonZeroU32::MIN.saturating_add(999), span: Duration::from_secs(60) };

    /// Default of [`Capacity::max_connections_per_client`]: three quarters. That is enough for a proxy that is not
    /// listed as trusted, and leaves some for other addresses.
    pub fn share_of_one_client(max_connections: usize) -> usize {
        (max_connections - max_connections / 4).max(1)
    }

    /// Default of [`Capacity::max_in_flight_per_key`]: a quarter, or all if a quarter would be too few to work
    /// with.
    pub fn share_of_one_key(max_in_flight: usize) -> usize {
        (max_in_flight / 4).max(64).min(max_in_flight)
    }
}

/// The settings that a reload changes, and those that only a restart changes.
pub(super) fn limits(root: &mut Section<'_>) -> (Limits, Capacity) {
    let mut section = root.section("limits");
    let max_connections = section.count("max_connections", Capacity::MAX_CONNECTIONS);
    let max_in_flight = section.count("max_in_flight", Capacity::MAX_IN_FLIGHT);
    let capacity = Capacity {
        max_connections,
        max_connections_per_client: section
            .count("max_connections_per_client", Capacity::share_of_one_client(max_connections)),
        max_in_flight,
        max_in_flight_per_key: section.count("max_in_flight_per_key", Capacity::share_of_one_key(max_in_flight)),
        max_passing: section.count("max_passing", Capacity::MAX_PASSING),
        failed_signatures_per_client: section.budget("failed_signatures_per_client", Capacity::FAILED_SIGNATURES),
    };
    let limits = Limits {
        max_header_bytes: section.size("max_header_bytes", Limits::MAX_HEADER_BYTES),
        max_target_bytes: section.size("max_target_bytes", Limits::MAX_TARGET_BYTES),
        max_body_bytes: section.size("max_body_bytes", Limits::MAX_BODY_BYTES),
        spent_per_key: section.budget("spent_per_key", Limits::SPENT_PER_KEY),
        header_timeout: section.duration("header_timeout", Limits::HEADER_TIMEOUT, MILLISECOND),
        body_timeout: section.duration("body_timeout", Limits::BODY_TIMEOUT, MILLISECOND),
        write_timeout: section.duration("write_timeout", Limits::WRITE_TIMEOUT, MILLISECOND),
        idle_timeout: section.duration("idle_timeout", Limits::IDLE_TIMEOUT, MILLISECOND),
        drain_delay: section.duration("drain_delay", Limits::DRAIN_DELAY, Duration::ZERO),
        drain_timeout: section.duration("drain_timeout", Limits::DRAIN_TIMEOUT, Duration::ZERO),
    };
    section.finish();
    (limits, capacity)
}
